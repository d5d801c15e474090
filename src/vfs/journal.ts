/**
 * Written data that outlives the client process.
 *
 * A WRITE is acknowledged before its bytes are in the object store. Should the process die then, the application would
 * have been told of bytes that nobody has: its fsync, sent again to the next client, would succeed over a hole. So each
 * write is first put into a segment file (page cache: it survives SIGKILL, not the machine), and a client that takes the
 * session over writes again what was not committed. Repeating all writes of a file from some point on is harmless; repeating
 * an older one without a newer one over it is not, nor is repeating one after something that is not a write (truncate, another
 * client's turn; each is preceded by a flush). Hence *marks*, which say up to where a file's writes are over: one is put down
 * whenever a file has nothing more to commit; and one for each file that an older segment still holds, when a newer segment
 * is removed.
 *
 * Segment file: records `u32 length of data | u32 magic | u64 inode | u64 offset | i64 time in ns`, little-endian, then the
 * data. `length` 0xffffffff is a mark: the inode's records before byte `time` of segment number `offset` are over. A torn
 * record at the end (death within the write) was never acknowledged and is left out.
 *
 * Bounded: a segment is removed when its writes are committed and those of the same files in older segments as well. So the
 * folder holds the segments with dirty bytes, and those of the same files that were begun since.
 *
 * A disk that is full (or gone) fails no write: `write` throws JournalFull and has then changed nothing, and the caller stores
 * the bytes before it answers. A mark for which there is no room is made by overwriting instead: the records that are over get
 * the inode 0, which nobody has.
 */
import { closeSync, mkdirSync, openSync, readSync, readdirSync, rmSync, truncateSync, writeSync, writevSync } from 'node:fs';
import { join } from 'node:path';
import { type Clock, systemClock } from '../lib/clock.ts';
import { messageOf } from '../lib/errors.ts';
import { type Ino, readInoLE, readU64LE, writeInoLE, writeU64LE } from '../lib/int64.ts';
import { type Logger, nullLogger } from '../lib/log.ts';

const HEADER = 32;
const MAGIC = 0x4a504a31;
/** A full disk is told of once in this time, milliseconds. */
const WARNING_MS = 60_000;
/** In place of a length. */
const MARK = 0xffffffff;
const SEGMENT_BYTES = 32 * 1024 * 1024;
/** Largest data of one record: the kernel's largest write. */
const MAX_DATA = 1024 * 1024;

/** Where a write was put; `release` it once the bytes are committed. */
export interface Segment {
  readonly index: number;
  readonly path: string;
  /** Slices whose bytes lie here and are not committed. */
  users: number;
  /** Where the last record of each inode begins. */
  readonly last: Map<Ino, number>;
  /** Inodes of which a mark stands here. */
  readonly marks: Set<Ino>;
}

/** A place in the journal: bytes from the start of a segment. */
interface Place {
  readonly index: number;
  readonly position: number;
}

function isIn(segments: readonly Segment[], ino: Ino): boolean {
  return segments.some(({ last }) => last.has(ino));
}

function isBefore(a: Place, b: Place): boolean {
  return a.index < b.index || (a.index === b.index && a.position < b.position);
}

export interface JournaledWrite {
  readonly ino: Ino;
  readonly offset: number;
  readonly timeNs: bigint;
  readonly data: Buffer;
}

/** The journal has no room for a write, which it has not taken. */
export class JournalFull extends Error {
  override readonly name = 'JournalFull';
}

export interface JournalOptions {
  /** A segment is closed when it has reached this many bytes. @default 32 MiB */
  readonly segmentBytes?: number | undefined;
  readonly logger?: Logger;
  readonly clock?: Clock;
}

export class Journal {
  readonly #folder: string;
  readonly #segmentBytes: number;
  readonly #header = Buffer.alloc(HEADER);
  /** Those that are there, oldest first; the last one may be open. */
  #segments: Segment[] = [];
  #file: number | undefined;
  #current: Segment | undefined;
  #bytes = 0;
  #position = 0;
  #next: number;
  /** Up to where the writes of an inode are over, for inodes that the segments hold. */
  readonly #over = new Map<Ino, Place>();

  readonly #logger: Logger;
  readonly #clock: Clock;
  #quietUntil = -Infinity;

  /** Opens the folder, which is made where it is missing. New segments follow those that are there. */
  constructor(folder: string, { segmentBytes = SEGMENT_BYTES, logger = nullLogger, clock = systemClock }: JournalOptions = {}) {
    this.#folder = folder;
    this.#segmentBytes = segmentBytes;
    this.#logger = logger;
    this.#clock = clock;
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    this.#next = segments(folder).reduce((most, { index }) => Math.max(most, index + 1), 0);
  }

  /** Puts one write down. Throws JournalFull, and has then changed nothing. */
  write(ino: Ino, offset: number, timeNs: bigint, data: Buffer): Segment {
    try {
      const segment = this.#segment();
      const position = this.#bytes;
      this.#append(data.length, ino, offset, timeNs, data);
      segment.last.set(ino, position);
      this.#position = position;
      return segment;
    } catch (error) {
      this.#warn(error);
      throw new JournalFull(`the journal in ${this.#folder} could not take a write`, { cause: error });
    }
  }

  /** Where the last record begins in its segment. */
  get position(): number {
    return this.#position;
  }

  /** Notes that everything written to this inode so far is committed, or given up. Never fails. */
  clean(ino: Ino): void {
    if (!isIn(this.#segments, ino)) return;
    this.#over.set(ino, { index: this.#next - 1, position: this.#current ? this.#bytes : Number.MAX_SAFE_INTEGER });
    this.#mark(ino);
    this.#sweep();
  }

  /** Notes that the writes of this inode are over up to a place: the first record of its oldest slice that is not committed. */
  over(ino: Ino, index: number, position: number): void {
    this.#over.set(ino, { index, position });
    this.#sweep();
  }

  hold(segment: Segment): void {
    segment.users++;
  }

  /** The bytes of one holder are committed (or given up). */
  release(segment: Segment): void {
    segment.users--;
    if (segment.users === 0) this.#sweep();
  }

  /** Ends cleanly: all data is committed, nothing is kept. */
  close(): void {
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
    this.#current = undefined;
    this.#segments = [];
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Removes the segments that nobody needs. */
  #sweep(): void {
    for (const segment of this.#segments.slice()) {
      if (segment.users > 0) continue;
      // The open one is filled further, but not for ever: it would grow with everything that was committed.
      if (segment === this.#current && this.#bytes <= this.#segmentBytes / 8) continue;
      const older = this.#segments.slice(0, this.#segments.indexOf(segment));
      if (!older.every((each) => this.#isOver(each, segment))) continue;
      const marks = [...new Set([...segment.last.keys(), ...segment.marks])].filter((ino) => isIn(older, ino));
      // Marks alone would only be put down again.
      if (segment.last.size === 0 && marks.length > 0) continue;
      if (segment === this.#current) this.#closeCurrent();
      for (const ino of marks) this.#mark(ino);
      rmSync(segment.path, { force: true });
      this.#segments.splice(this.#segments.indexOf(segment), 1);
      for (const ino of segment.last.keys()) if (!isIn(this.#segments, ino)) this.#over.delete(ino);
    }
  }

  /** True where the older segment has nothing that must be repeated of an inode whose newer writes are in `segment`. */
  #isOver(older: Segment, segment: Segment): boolean {
    for (const ino of segment.last.keys()) {
      const position = older.last.get(ino);
      if (position === undefined) continue;
      const over = this.#over.get(ino);
      if (!over || !isBefore({ index: older.index, position }, over)) return false;
    }
    return true;
  }

  #mark(ino: Ino): void {
    const over = this.#over.get(ino);
    if (!over) return;
    try {
      const segment = this.#segment();
      this.#append(MARK, ino, over.index, BigInt(over.position), undefined);
      segment.marks.add(ino);
    } catch (error) {
      this.#warn(error);
      this.#overwrite(ino, over);
    }
  }

  /** Makes the records of an inode before a place nobody's. Where even that fails the journal is given up: it would be wrong. */
  #overwrite(ino: Ino, before: Place): void {
    const nobody = Buffer.alloc(8);
    try {
      for (const { index, path } of this.#segments) {
        const file = openSync(path, 'r+');
        try {
          for (const record of records([{ index, path }], false))
            if (record.ino === ino && isBefore(record, before)) writeSync(file, nobody, 0, nobody.length, record.position + 8);
        } finally {
          closeSync(file);
        }
      }
    } catch (error) {
      this.#logger.error('the journal of written data was given up', { folder: this.#folder, error: messageOf(error) });
      for (const { path } of this.#segments) rmSync(path, { force: true });
    }
  }

  #warn(error: unknown): void {
    const now = this.#clock.monotonic();
    if (now < this.#quietUntil) return;
    this.#quietUntil = now + WARNING_MS;
    this.#logger.warn('the journal of written data has no room: writes are slower, for they wait until they are stored', {
      folder: this.#folder,
      error: messageOf(error),
    });
  }

  #segment(): Segment {
    if (this.#current && this.#bytes < this.#segmentBytes) return this.#current;
    const index = this.#next;
    const path = join(this.#folder, `${index}.segment`);
    const file = openSync(path, 'a', 0o600);
    this.#next++;
    this.#closeCurrent();
    this.#file = file;
    this.#current = { index, path, users: 0, last: new Map(), marks: new Set() };
    this.#segments.push(this.#current);
    this.#bytes = 0;
    return this.#current;
  }

  #closeCurrent(): void {
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
    this.#current = undefined;
  }

  #append(length: number, ino: Ino, offset: number, timeNs: bigint, data: Buffer | undefined): void {
    const header = this.#header;
    header.writeUInt32LE(length, 0);
    header.writeUInt32LE(MAGIC, 4);
    writeInoLE(header, ino, 8);
    writeU64LE(header, offset, 16);
    header.writeBigInt64LE(timeNs, 24);
    const file = this.#file;
    if (file === undefined) throw new Error('the journal has no open segment');
    const before = this.#bytes;
    const wanted = HEADER + (data?.length ?? 0);
    const written = data ? writevSync(file, [header, data]) : writevSync(file, [header]);
    if (written !== wanted) {
      const path = this.#current?.path;
      if (path) truncateSync(path, before);
      throw Object.assign(new Error(`the journal in ${this.#folder} took ${written} of ${wanted} bytes`), { code: 'ENOSPC' });
    }
    this.#bytes += wanted;
  }
}

function segments(folder: string): { readonly index: number; readonly path: string }[] {
  return readdirSync(folder)
    .filter((name) => /^\d+\.segment$/.test(name))
    .map((name) => ({ index: Number.parseInt(name, 10), path: join(folder, name) }))
    .toSorted((a, b) => a.index - b.index);
}

/**
 * Reads what a dead client left in the folder: its uncommitted writes, oldest first. Each is handed out before the next is
 * read, so memory stays at one record per call. `forget` removes the segments once the writes are safe elsewhere.
 */
export function readJournal(folder: string): { writes(): Generator<JournaledWrite>; forget(): void } {
  const files = segments(folder);
  const over = new Map<Ino, Place>();
  for (const record of records(files, false)) {
    if (!record.mark) continue;
    const place = { index: record.offset, position: Number(record.timeNs) };
    const known = over.get(record.ino);
    if (!known || isBefore(known, place)) over.set(record.ino, place);
  }
  return {
    *writes() {
      for (const record of records(files, true)) {
        const mark = over.get(record.ino);
        if (!record.mark && record.ino !== 0 && !(mark && isBefore(record, mark))) yield record;
      }
    },
    forget() {
      for (const { path } of files) rmSync(path, { force: true });
    },
  };
}

function* records(
  files: readonly { readonly index: number; readonly path: string }[],
  withData: boolean,
): Generator<JournaledWrite & Place & { readonly mark: boolean }> {
  const header = Buffer.alloc(HEADER);
  const none = Buffer.alloc(0);
  for (const { index, path } of files) {
    const file = openSync(path, 'r');
    try {
      let position = 0;
      while (readSync(file, header, 0, HEADER, position) === HEADER && header.readUInt32LE(4) === MAGIC) {
        const length = header.readUInt32LE(0);
        const mark = length === MARK;
        if (!mark && length > MAX_DATA) break;
        const size = mark ? 0 : length;
        const data = withData && size > 0 ? Buffer.allocUnsafe(size) : none;
        const probe = Buffer.alloc(1);
        const whole =
          size === 0 ||
          (withData
            ? readSync(file, data, 0, size, position + HEADER) === size
            : readSync(file, probe, 0, 1, position + HEADER + size - 1) === 1);
        if (!whole) break;
        const offset = readU64LE(header, 16);
        yield { ino: readInoLE(header, 8), offset, timeNs: header.readBigInt64LE(24), data, mark, index, position };
        position += HEADER + size;
      }
    } finally {
      closeSync(file);
    }
  }
}
