/**
 * Written data that outlives the client process.
 *
 * A WRITE is acknowledged before its bytes are in the object store. Should the process die then, the application would
 * have been told of bytes that nobody has: its fsync, sent again to the next client, would succeed over a hole. So each
 * write is first put into a segment file (page cache: it survives SIGKILL, not the machine), and a client that takes the
 * session over writes again what was not committed. Repeating a committed write is harmless, because everything that
 * is not a write (truncate, rename of times, another client's turn) is preceded by a flush, which leaves a `clean` mark.
 *
 * Segment file: records `u32 length of data | u32 magic | u64 inode | u64 offset | i64 time in ns`, little-endian, then the
 * data; `length` 0xffffffff is the clean mark of an inode. A torn record at the end (death within the write) was
 * never acknowledged and is left out. A segment whose writes are all committed is cut down to its clean marks, which
 * still speak of older segments, and removed when there are none; so the folder holds the segments that dirty bytes lie in,
 * one more, and some marks.
 *
 * A disk that is full (or gone) fails no write: `write` throws JournalFull and has then changed nothing, and the caller stores
 * the bytes before it answers. A clean mark for which there is no room is made by overwriting instead: the records of the
 * inode get the inode 0, which nobody has.
 */
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
  writevSync,
} from 'node:fs';
import { join } from 'node:path';
import { type Clock, systemClock } from '../lib/clock.ts';
import { messageOf } from '../lib/errors.ts';
import { type Ino, readInoLE, readU64LE, writeInoLE, writeU64LE } from '../lib/int64.ts';
import { type Logger, nullLogger } from '../lib/log.ts';

const HEADER = 32;
const MAGIC = 0x4a504a31;
const CLEAN = 0xffffffff;
/** Largest data of one record: the kernel's largest write. */
const MAX_DATA = 1024 * 1024;

/** Time between two warnings of a disk that is full, milliseconds. */
const WARNING_MS = 60_000;

/** The journal could not take a write, for want of space as a rule; it is as it was before. */
export class JournalFull extends Error {
  override readonly name = 'JournalFull';
}

export interface JournalOptions {
  /** A segment is closed when it has reached this many bytes. @default 32 MiB */
  readonly segmentBytes?: number;
  readonly logger?: Logger;
  readonly clock?: Clock;
}

/** Where a write was put; `release` it once the bytes are committed. */
export interface Segment {
  readonly index: number;
  readonly path: string;
  /** Slices whose bytes lie here and are not committed. */
  users: number;
  /** Inodes that it has a clean mark of. */
  readonly clean: Set<Ino>;
  /** Holds nothing but marks any more. */
  cut: boolean;
}

export interface JournaledWrite {
  readonly ino: Ino;
  readonly offset: number;
  readonly timeNs: bigint;
  readonly data: Buffer;
}

export class Journal {
  readonly #folder: string;
  readonly #header = Buffer.alloc(HEADER);
  #file: number | undefined;
  /** Oldest first; the last is the one being written. */
  readonly #segments: Segment[] = [];
  readonly #segmentBytes: number;
  #bytes = 0;
  #next: number;
  readonly #logger: Logger;
  readonly #clock: Clock;
  #quietUntil = -Infinity;

  /** Opens the folder, which is made where it is missing. New segments follow those that are there. */
  constructor(
    folder: string,
    { logger = nullLogger, clock = systemClock, segmentBytes = 32 * 1024 * 1024 }: JournalOptions = {},
  ) {
    this.#folder = folder;
    this.#logger = logger;
    this.#clock = clock;
    this.#segmentBytes = segmentBytes;
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    this.#next = segments(folder).reduce((most, { index }) => Math.max(most, index + 1), 0);
  }

  /** Puts one write down. Throws JournalFull. */
  write(ino: Ino, offset: number, timeNs: bigint, data: Buffer): Segment {
    try {
      const segment = this.#segment();
      this.#append(data.length, ino, offset, timeNs, data);
      return segment;
    } catch (error) {
      this.#warn(error);
      throw new JournalFull(`the journal in ${this.#folder} could not take a write`, { cause: error });
    }
  }

  /** Notes that everything written to this inode so far is committed. Never fails. */
  clean(ino: Ino): void {
    if (this.#file === undefined) return;
    try {
      this.#append(CLEAN, ino, 0, 0n, undefined);
      this.#segments.at(-1)?.clean.add(ino);
    } catch (error) {
      this.#warn(error);
      this.#overwrite(ino);
    }
  }

  hold(segment: Segment): void {
    segment.users++;
  }

  /** The bytes of one holder are committed (or given up); what nobody needs any more is removed. */
  release(segment: Segment): void {
    segment.users--;
    if (segment.users === 0) this.#tidy(segment);
  }

  /** Ends cleanly: all data is committed, nothing is kept. */
  close(): void {
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
    this.#segments.length = 0;
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #segment(): Segment {
    const last = this.#segments.at(-1);
    if (last && this.#bytes < this.#segmentBytes) return last;
    const path = join(this.#folder, `${this.#next}.segment`);
    const file = openSync(path, 'a', 0o600);
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = file;
    const segment = { index: this.#next++, path, users: 0, clean: new Set<Ino>(), cut: false };
    this.#segments.push(segment);
    this.#bytes = 0;
    if (last?.users === 0) this.#tidy(last);
    return segment;
  }

  /** Removes what is not needed now that nobody holds this segment. */
  #tidy(segment: Segment): void {
    for (let oldest = this.#segments[0]; oldest?.users === 0 && this.#segments.length > 1; oldest = this.#segments[0]) {
      remove(oldest.path);
      this.#segments.shift();
    }
    if (this.#segments.length > 1) {
      if (segment !== this.#segments.at(-1) && this.#segments.includes(segment)) this.#cut(segment);
      return;
    }
    const [only] = this.#segments;
    if (only?.users !== 0 || this.#bytes <= this.#segmentBytes / 8 || this.#file === undefined) return;
    // Nothing in it is needed any more: start it over instead of letting it grow.
    ftruncateSync(this.#file, 0);
    only.clean.clear();
    this.#bytes = 0;
  }

  /** Leaves a segment only its marks. Where that cannot be done it stays as it is, which is right, too. */
  #cut(segment: Segment): void {
    if (segment.cut) return;
    const marks = Buffer.alloc(segment.clean.size * HEADER);
    let at = 0;
    for (const ino of segment.clean) at += writeHeader(marks, at, CLEAN, ino, 0, 0n);
    const temporary = `${segment.path}.tmp`;
    try {
      writeFileSync(temporary, marks, { mode: 0o600 });
      renameSync(temporary, segment.path);
      segment.cut = true;
    } catch (error) {
      remove(temporary);
      this.#warn(error);
    }
  }

  #append(length: number, ino: Ino, offset: number, timeNs: bigint, data: Buffer | undefined): void {
    const header = this.#header;
    writeHeader(header, 0, length, ino, offset, timeNs);
    const file = this.#file;
    if (file === undefined) throw new Error('the journal has no open segment');
    const before = this.#bytes;
    const wanted = HEADER + (data?.length ?? 0);
    const written = data ? writevSync(file, [header, data]) : writevSync(file, [header]);
    if (written !== wanted) {
      ftruncateSync(file, before);
      throw new Error(`only ${written} of ${wanted} bytes could be written`);
    }
    this.#bytes += wanted;
  }

  /** Makes the records of an inode nobody's. Where even that fails the journal is given up as it is: it would be wrong. */
  #overwrite(ino: Ino): void {
    const files = segments(this.#folder);
    try {
      const nobody = Buffer.alloc(8);
      for (const { path } of files) {
        const file = openSync(path, 'r+');
        try {
          for (const record of records([{ path }], false)) if (record.ino === ino) writeSync(file, nobody, 0, 8, record.at + 8);
        } finally {
          closeSync(file);
        }
      }
    } catch (error) {
      this.#logger.error('the journal of written data was given up', { folder: this.#folder, error: messageOf(error) });
      for (const { path } of files) {
        try {
          truncateSync(path, 0);
        } catch {
          // Unreachable for us is unreachable for the next client.
        }
      }
      this.#bytes = 0;
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
}

/** Answers its length. */
function writeHeader(target: Buffer, at: number, length: number, ino: Ino, offset: number, timeNs: bigint): number {
  target.writeUInt32LE(length, at);
  target.writeUInt32LE(MAGIC, at + 4);
  writeInoLE(target, ino, at + 8);
  writeU64LE(target, offset, at + 16);
  target.writeBigInt64LE(timeNs, at + 24);
  return HEADER;
}

/** A file that somebody else took away is as good as removed. */
function remove(path: string): void {
  rmSync(path, { force: true });
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
  const cleanAt = new Map<Ino, number>();
  let sequence = 0;
  for (const record of records(files, false)) {
    sequence++;
    if (record.clean) cleanAt.set(record.ino, sequence);
  }
  return {
    *writes() {
      let at = 0;
      for (const record of records(files, true)) {
        at++;
        if (!record.clean && record.ino !== 0 && at > (cleanAt.get(record.ino) ?? 0)) yield record;
      }
    },
    forget() {
      for (const { path } of files) rmSync(path, { force: true });
    },
  };
}

function* records(
  files: readonly { readonly path: string }[],
  withData: boolean,
): Generator<JournaledWrite & { readonly clean: boolean; /** Position in its file. */ readonly at: number }> {
  const header = Buffer.alloc(HEADER);
  const none = Buffer.alloc(0);
  for (const { path } of files) {
    const file = openSync(path, 'r');
    try {
      let position = 0;
      while (readSync(file, header, 0, HEADER, position) === HEADER && header.readUInt32LE(4) === MAGIC) {
        const length = header.readUInt32LE(0);
        const clean = length === CLEAN;
        if (!clean && length > MAX_DATA) break;
        const size = clean ? 0 : length;
        const data = withData && size > 0 ? Buffer.allocUnsafe(size) : none;
        const probe = Buffer.alloc(1);
        const whole =
          size === 0 ||
          (withData
            ? readSync(file, data, 0, size, position + HEADER) === size
            : readSync(file, probe, 0, 1, position + HEADER + size - 1) === 1);
        if (!whole) break;
        yield {
          ino: readInoLE(header, 8),
          offset: readU64LE(header, 16),
          timeNs: header.readBigInt64LE(24),
          data,
          clean,
          at: position,
        };
        position += HEADER + size;
      }
    } finally {
      closeSync(file);
    }
  }
}
