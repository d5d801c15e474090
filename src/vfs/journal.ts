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
 * The layout of a segment file is in journal-file.ts, how a client of another version is told apart in journal-version.ts. A mark says that the inode's records before byte `time` of segment number
 * `offset` are over.
 *
 * Bytes that were written into a piece of memory which outlives this process (pieces.ts) are not put down again: a record names them. What it names may
 * have been written over since, by a later write to the same place of the same slice, which has a record of its own behind: repeated in order they
 * give the same. A piece may be another block's when no record that names it is ever repeated: all those of its file up to the last one that names it are over,
 * and a mark that says so is put down (an earlier one of them repeated without it would bring back what it wrote over).
 *
 * Bounded: a segment is removed when its writes are committed and those of the same files in older segments as well. So the
 * folder holds the segments with dirty bytes, and those of the same files that were begun since. Besides, removed ones are
 * kept as *spares* to be written over, as long as all files together stay below `keepBytes`, and until none was wanted for some seconds.
 *
 * A disk that is full (or gone) fails no write: `write` throws JournalFull and has then changed nothing, and the caller stores
 * the bytes before it answers. A mark for which there is no room is made by overwriting instead: the records that are over get
 * the inode 0, which nobody has.
 */
import { closeSync, mkdirSync, openSync, readdirSync, renameSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { type Clock, systemClock } from '../lib/clock.ts';
import { messageOf, UserError } from '../lib/errors.ts';
import type { Ino } from '../lib/int64.ts';
import { type Logger, nullLogger } from '../lib/log.ts';
import { type Random, systemRandom } from '../lib/random.ts';
import { INODE_AT, records, SegmentFile } from './journal-file.ts';
import { namesIn, noteForm } from './journal-version.ts';
import { isBefore, type Pieces, type Place } from './pieces.ts';

/** A full disk is told of once in this time, milliseconds. */
const WARNING_MS = 60_000;
const SEGMENT_BYTES = 32 * 1024 * 1024;
const KEEP_BYTES = 192 * 1024 * 1024;
/** The part of those bytes at which writers commit sooner. */
const PRESSED = 0.5;
/** Spares are removed when none was wanted for so long, milliseconds. */
const SPARE_MS = 5000;

/** Where a write was put; `release` it once the bytes are committed. */
export interface Segment {
  readonly index: number;
  readonly path: string;
  /** How long the file is: longer than what is written where it was used before. */
  extent: number;
  /** Slices whose bytes lie here and are not committed. */
  users: number;
  /** Where the last record of each inode begins. */
  readonly last: Map<Ino, number>;
  /** Inodes of which a mark stands here. */
  readonly marks: Set<Ino>;
}

function isIn(segments: readonly Segment[], ino: Ino): boolean {
  return segments.some(({ last }) => last.has(ino));
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
  /** Bytes that spares may bring the folder to. @default 192 MiB */
  readonly keepBytes?: number | undefined;
  /** Where written bytes lie that need no copy. @default none */
  readonly pieces?: Pieces | undefined;
  readonly random?: Random;
  readonly logger?: Logger;
  readonly clock?: Clock;
}

export class Journal {
  readonly #folder: string;
  readonly #segmentBytes: number;
  readonly #keepBytes: number;
  /** Memory for blocks to be written to this journal. */
  readonly pieces: Pieces | undefined;
  readonly #random: Random;
  /** Those that are there, oldest first; the last one may be open. */
  #segments: Segment[] = [];
  #file: SegmentFile | undefined;
  #current: Segment | undefined;
  /** Files that are to be written over, the one used last at the end; their records are nobody's. */
  readonly #spares: { readonly path: string; readonly extent: number }[] = [];
  #cancelTimer: (() => void) | undefined;
  #position = 0;
  #next: number;
  /** Up to where the writes of an inode are over, for inodes that the segments hold. */
  readonly #over = new Map<Ino, Place>();

  readonly #logger: Logger;
  readonly #clock: Clock;
  #quietUntil = -Infinity;

  /** Opens the folder, which is made where it is missing. New segments follow those that are there. */
  constructor(folder: string, options: JournalOptions = {}) {
    this.#folder = folder;
    this.#segmentBytes = options.segmentBytes ?? SEGMENT_BYTES;
    this.#keepBytes = options.keepBytes ?? KEEP_BYTES;
    this.pieces = options.pieces;
    this.#logger = options.logger ?? nullLogger;
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? systemRandom;
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    noteForm(folder);
    for (const name of readdirSync(folder)) if (name.endsWith('.spare')) rmSync(join(folder, name), { force: true });
    this.#next = segments(folder).reduce((most, { index }) => Math.max(most, index + 1), 0);
  }

  /**
   * Puts one write down, whose bytes are in `buffer` at `within` already, if that is given. Throws JournalFull, and has then changed
   * nothing.
   */
  write(ino: Ino, offset: number, timeNs: bigint, data: Buffer, buffer?: Buffer, within = 0): Segment {
    try {
      return this.#write(ino, offset, timeNs, data, buffer, within);
    } catch (first) {
      let error = first;
      if (this.#dropSpares())
        try {
          return this.#write(ino, offset, timeNs, data, buffer, within);
        } catch (second) {
          error = second;
        }
      this.#warn(error);
      throw new JournalFull(`the journal in ${this.#folder} could not take a write`, { cause: error });
    }
  }

  #write(ino: Ino, offset: number, timeNs: bigint, data: Buffer, buffer: Buffer | undefined, within: number): Segment {
    const [segment, file] = this.#open();
    const position = file.bytes;
    const address = buffer && this.pieces?.addressOf(buffer, within);
    if (buffer && address !== undefined) {
      file.refer(ino, offset, timeNs, address, data.length);
      this.pieces?.hold(buffer, ino, { index: segment.index, position });
    } else file.append(ino, offset, timeNs, data);
    segment.last.set(ino, position);
    this.#position = position;
    return segment;
  }

  /**
   * True where what is held comes near to what is kept to be written over: then it pays to commit sooner, for pages that the kernel has
   * already are written several times faster than new ones.
   */
  get pressed(): boolean {
    return this.#segments.length * this.#segmentBytes + (this.pieces?.heldBytes ?? 0) > this.#keepBytes * PRESSED;
  }

  /** Where the last record begins in its segment. */
  get position(): number {
    return this.#position;
  }

  /** Notes that everything written to this inode so far is committed, or given up. Never fails. */
  clean(ino: Ino): void {
    if (!isIn(this.#segments, ino)) return this.pieces?.release(ino);
    this.#over.set(ino, { index: this.#next - 1, position: this.#file?.bytes ?? Number.MAX_SAFE_INTEGER });
    this.#mark(ino);
    this.pieces?.release(ino);
    this.#sweep();
  }

  /** Notes that the writes of this inode are over up to a place: the first record of its oldest slice that is not committed. */
  over(ino: Ino, index: number, position: number): void {
    const before = { index, position };
    this.#over.set(ino, before);
    if (this.pieces?.isDue(ino, before)) {
      this.#mark(ino);
      this.pieces.release(ino, before);
    }
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
    this.#cancelTimer?.();
    this.#closeCurrent();
    this.#segments = [];
    this.#spares.length = 0;
    rmSync(this.#folder, { recursive: true, force: true });
    // Only now: no record names anything in them.
    this.pieces?.close();
  }

  /** Removes the segments that nobody needs. */
  #sweep(): void {
    for (const segment of this.#segments.slice()) {
      if (segment.users > 0) continue;
      // The open one is filled further, but not for ever: it would grow with everything that was committed.
      if (segment === this.#current && (this.#file?.bytes ?? 0) <= this.#segmentBytes / 8) continue;
      const older = this.#segments.slice(0, this.#segments.indexOf(segment));
      if (!older.every((each) => this.#isOver(each, segment))) continue;
      const marks = [...new Set([...segment.last.keys(), ...segment.marks])].filter((ino) => isIn(older, ino));
      // Marks alone would only be put down again.
      if (segment.last.size === 0 && marks.length > 0) continue;
      if (segment === this.#current) this.#closeCurrent();
      for (const ino of marks) this.#mark(ino);
      this.#segments.splice(this.#segments.indexOf(segment), 1);
      this.#retire(segment);
      for (const ino of segment.last.keys()) if (!isIn(this.#segments, ino)) this.#over.delete(ino);
    }
  }

  /** Takes the file of a segment that nobody needs: as a spare, or away. */
  #retire({ index, path, extent }: Segment): void {
    let bytes = extent + (this.#file?.bytes ?? 0);
    for (const each of [...this.#segments, ...this.#spares]) bytes += each.extent;
    if (bytes <= this.#keepBytes) {
      const spare = join(this.#folder, `${index}.spare`);
      try {
        renameSync(path, spare);
        this.#spares.push({ path: spare, extent });
        this.#watchSpares();
        return;
      } catch {
        // The folder is gone, or cannot be changed: then away with it, if that goes.
      }
    }
    rmSync(path, { force: true });
  }

  /** Sees to it that spares which are not used any more do not stay. */
  #watchSpares(): void {
    const last = this.#next;
    this.#cancelTimer ??= this.#clock.timer(SPARE_MS, () => {
      this.#cancelTimer = undefined;
      if (last === this.#next) this.#dropSpares();
      else if (this.#spares.length > 0) this.#watchSpares();
    });
  }

  /** False where there are none. */
  #dropSpares(): boolean {
    const spares = this.#spares.splice(0);
    for (const { path } of spares) rmSync(path, { force: true });
    return spares.length > 0;
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
      const [segment, file] = this.#open();
      file.append(ino, over.index, BigInt(over.position), undefined);
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
            if (record.ino === ino && isBefore(record, before))
              writeSync(file, nobody, 0, nobody.length, record.position + INODE_AT);
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

  /** The segment that takes the next record, and its file. */
  #open(): readonly [Segment, SegmentFile] {
    if (this.#current && this.#file && this.#file.bytes < this.#segmentBytes) return [this.#current, this.#file];
    const index = this.#next;
    const path = join(this.#folder, `${index}.segment`);
    const { file, extent } = this.#make(path);
    this.#next++;
    this.#closeCurrent();
    this.#file = file;
    this.#current = { index, path, extent, users: 0, last: new Map(), marks: new Set() };
    this.#segments.push(this.#current);
    return [this.#current, file];
  }

  /** A file for a segment: a spare, if there is a good one. */
  #make(path: string): { readonly file: SegmentFile; readonly extent: number } {
    for (let spare = this.#spares.pop(); spare; spare = this.#spares.pop())
      try {
        return { file: new SegmentFile(path, this.#random.bytes(8), spare.path), extent: spare.extent };
      } catch {
        rmSync(spare.path, { force: true });
      }
    return { file: new SegmentFile(path, this.#random.bytes(8)), extent: 0 };
  }

  #closeCurrent(): void {
    if (this.#current && this.#file) this.#current.extent = Math.max(this.#current.extent, this.#file.bytes);
    this.#file?.close();
    this.#file = undefined;
    this.#current = undefined;
  }
}

function segments(folder: string): { readonly index: number; readonly path: string }[] {
  return namesIn(folder)
    .filter((name) => /^\d+\.segment$/.test(name))
    .map((name) => ({ index: Number.parseInt(name, 10), path: join(folder, name) }))
    .toSorted((a, b) => a.index - b.index);
}

/**
 * Reads what a dead client left in the folder: its uncommitted writes, oldest first. Each is handed out before the next is
 * read, so memory stays at one record per call. `forget` removes the segments once the writes are safe elsewhere. `pieces` is what
 * the holder has kept of it.
 */
export function readJournal(folder: string, pieces?: Pieces): { writes(): Generator<JournaledWrite>; forget(): void } {
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
        if (record.mark || record.ino === 0 || (mark && isBefore(record, mark))) continue;
        if (record.held && !pieces) throw withoutHolder(folder);
        yield record.held && pieces ? { ...record, data: pieces.read(record.held.address, record.held.length) } : record;
      }
    },
    forget() {
      for (const { path } of files) rmSync(path, { force: true });
      pieces?.forget();
    },
  };
}

function withoutHolder(folder: string): UserError {
  return new UserError(
    'JournalWithoutBytes',
    `the client before this one left writes that are not stored yet, in memory that its holder keeps, and this one has no such holder: ${folder}`,
    { hint: 'If the holder is gone, so are these writes: move the folder away to go on without them.' },
  );
}
