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
 * never acknowledged and is left out. A segment is removed when all its writes are committed, so the folder holds at
 * most the client's dirty bytes and one segment more.
 */
import { closeSync, mkdirSync, openSync, readdirSync, readSync, rmSync, truncateSync, unlinkSync, writevSync } from 'node:fs';
import { join } from 'node:path';
import { type Ino, readInoLE, readU64LE, writeInoLE, writeU64LE } from '../lib/int64.ts';

const HEADER = 32;
const MAGIC = 0x4a504a31;
const CLEAN = 0xffffffff;
/** A segment is closed when it has reached this many bytes. */
const SEGMENT_BYTES = 32 * 1024 * 1024;
/** Largest data of one record: the kernel's largest write. */
const MAX_DATA = 1024 * 1024;

/** Where a write was put; `release` it once the bytes are committed. */
export interface Segment {
  readonly index: number;
  readonly path: string;
  /** Slices whose bytes lie here and are not committed. */
  users: number;
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
  #current: Segment | undefined;
  #bytes = 0;
  #next: number;

  /** Opens the folder, which is made where it is missing. New segments follow those that are there. */
  constructor(folder: string) {
    this.#folder = folder;
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    this.#next = segments(folder).reduce((most, { index }) => Math.max(most, index + 1), 0);
  }

  /** Puts one write down. Throws where the disk is full: the write must then fail. */
  write(ino: Ino, offset: number, timeNs: bigint, data: Buffer): Segment {
    const segment = this.#segment();
    this.#append(data.length, ino, offset, timeNs, data);
    return segment;
  }

  /** Notes that everything written to this inode so far is committed. */
  clean(ino: Ino): void {
    if (this.#file !== undefined) this.#append(CLEAN, ino, 0, 0n, undefined);
  }

  hold(segment: Segment): void {
    segment.users++;
  }

  /** The bytes of one holder are committed (or given up); the last holder removes the segment. */
  release(segment: Segment): void {
    segment.users--;
    if (segment.users > 0) return;
    if (segment !== this.#current) unlinkSync(segment.path);
    else if (this.#bytes > SEGMENT_BYTES / 8 && this.#file !== undefined) {
      // Nothing in it is needed any more: start it over instead of letting it grow.
      truncateSync(segment.path, 0);
      this.#bytes = 0;
    }
  }

  /** Ends cleanly: all data is committed, nothing is kept. */
  close(): void {
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
    this.#current = undefined;
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #segment(): Segment {
    if (this.#current && this.#bytes < SEGMENT_BYTES) return this.#current;
    const previous = this.#current;
    if (this.#file !== undefined) closeSync(this.#file);
    const index = this.#next++;
    const path = join(this.#folder, `${index}.segment`);
    this.#file = openSync(path, 'a', 0o600);
    this.#current = { index, path, users: 0 };
    this.#bytes = 0;
    if (previous?.users === 0) unlinkSync(previous.path);
    return this.#current;
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
        if (!record.clean && at > (cleanAt.get(record.ino) ?? 0)) yield record;
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
): Generator<JournaledWrite & { readonly clean: boolean }> {
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
        yield { ino: readInoLE(header, 8), offset: readU64LE(header, 16), timeNs: header.readBigInt64LE(24), data, clean };
        position += HEADER + size;
      }
    } finally {
      closeSync(file);
    }
  }
}
