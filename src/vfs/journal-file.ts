/**
 * The files of the journal (journal.ts): what a segment looks like, and how it is written and read.
 *
 * A segment begins with `u32 magic | u32 0 | u64 stamp`; then come records: `u32 length of data | u32 magic | u64 inode | u64 offset |
 * i64 time in ns | u64 stamp`, the data, and the stamp once more; all little-endian. `length` 0xffffffff is a mark, which has
 * neither data nor a second stamp. With 0xfffffffe the data is `u64 address | u32 length | u32 0`, where the bytes lie in the file that the holder
 * keeps (pieces.ts): they were there before the record. The first 16 bytes tell the form (journal-version.ts); in form 1, which is still read, there is no head and
 * there are no stamps: records begin at byte 0, and the last one is whole if all its data is there.
 *
 * A file is used again when its writes are committed: pages that the kernel has already are written several times faster than
 * new ones. So behind the last record there may be older ones, or data of a file that looks like one. What is valid is told
 * by the stamp, a number drawn at random for each use: nobody who wrote data before knows it. Bytes of one write appear in order, so
 * a record whose second stamp is there is whole; one without (death within the write) was never acknowledged.
 */
import { closeSync, fstatSync, openSync, readSync, renameSync, writeSync, writevSync } from 'node:fs';
import { dirname } from 'node:path';
import { type Ino, readInoLE, readU64LE, writeInoLE, writeU64LE } from '../lib/int64.ts';
import { FORM_BYTES, formOf, MAGIC_1, MAGIC_2, MAGIC_3 as MAGIC, otherForm } from './journal-version.ts';

const HEAD = FORM_BYTES;
const HEADER = 40;
const STAMP = 8;
/** In place of a length. */
const MARK = 0xffffffff;
const REFERENCE = 0xfffffffe;
const REFERENCE_BYTES = 16;
/** Largest data of one record: the kernel's largest write. */
const MAX_DATA = 1024 * 1024;
/** Where the inode stands in a record. */
export const INODE_AT = 8;

/** A segment that is open for writing, one record after the other. */
export class SegmentFile {
  readonly #file: number;
  readonly #header = Buffer.alloc(HEADER);
  readonly #stamp: Buffer;
  readonly #reference = Buffer.alloc(HEADER + REFERENCE_BYTES + STAMP);
  /** Where the next record begins. */
  bytes = HEAD;

  /**
   * Makes the file at `path`, of the one at `from` where that is given. `stamp` are eight random bytes. Throws the system's error; the
   * file at `from` is of no use then.
   */
  constructor(path: string, stamp: Buffer, from?: string) {
    const head = Buffer.alloc(HEAD);
    head.writeUInt32LE(MAGIC, 0);
    stamp.copy(head, HEAD - STAMP);
    this.#stamp = stamp;
    this.#header.writeUInt32LE(MAGIC, 4);
    stamp.copy(this.#header, HEADER - STAMP);
    this.#header.copy(this.#reference);
    this.#reference.writeUInt32LE(REFERENCE, 0);
    stamp.copy(this.#reference, HEADER + REFERENCE_BYTES);
    this.#file = openSync(from ?? path, from === undefined ? 'w' : 'r+', 0o600);
    try {
      if (writeSync(this.#file, head, 0, HEAD, 0) !== HEAD) throw noRoom(path);
      // Only now: under its new name the records of before would be repeated.
      if (from !== undefined) renameSync(from, path);
    } catch (error) {
      closeSync(this.#file);
      throw error;
    }
  }

  /** Puts down a record; without data it is a mark. Throws the system's error, and has then changed nothing. */
  append(ino: Ino, offset: number, timeNs: bigint, data: Buffer | undefined): void {
    const header = this.#header;
    header.writeUInt32LE(data ? data.length : MARK, 0);
    writeInoLE(header, ino, INODE_AT);
    writeU64LE(header, offset, 16);
    header.writeBigInt64LE(timeNs, 24);
    const wanted = data ? HEADER + data.length + STAMP : HEADER;
    const written = data
      ? writevSync(this.#file, [header, data, this.#stamp], this.bytes)
      : writeSync(this.#file, header, 0, HEADER, this.bytes);
    // What there is of it has no second stamp, and is written over by the next one.
    if (written !== wanted) throw noRoom(`${written} of ${wanted} bytes`);
    this.bytes += wanted;
  }

  /** Puts down that `length` bytes were written that lie at `address`. Throws as `append` does. */
  refer(ino: Ino, offset: number, timeNs: bigint, address: number, length: number): void {
    const record = this.#reference;
    writeInoLE(record, ino, INODE_AT);
    writeU64LE(record, offset, 16);
    record.writeBigInt64LE(timeNs, 24);
    writeU64LE(record, address, HEADER);
    record.writeUInt32LE(length, HEADER + 8);
    const written = writeSync(this.#file, record, 0, record.length, this.bytes);
    if (written !== record.length) throw noRoom(`${written} of ${record.length} bytes`);
    this.bytes += written;
  }

  close(): void {
    closeSync(this.#file);
  }
}

function noRoom(what: string): Error {
  return Object.assign(new Error(`the journal took only a part: ${what}`), { code: 'ENOSPC' });
}

/** One record. `data` is empty where it was not asked for. */
export interface JournalRecord {
  readonly index: number;
  /** Where it begins in its segment. */
  readonly position: number;
  readonly mark: boolean;
  readonly ino: Ino;
  readonly offset: number;
  readonly timeNs: bigint;
  readonly data: Buffer;
  /** Where its bytes lie in the file that the holder keeps, if they do not follow the record. */
  readonly held: { readonly address: number; readonly length: number } | undefined;
}

/** The whole records of these segments, in order; one is in memory at a time. Throws UserError at a segment of a form that is not known. */
export function* records(
  files: readonly { readonly index: number; readonly path: string }[],
  withData: boolean,
): Generator<JournalRecord> {
  const head = Buffer.alloc(HEAD);
  const header = Buffer.alloc(HEADER);
  const end = Buffer.alloc(STAMP);
  const none = Buffer.alloc(0);
  for (const { index, path } of files) {
    const file = openSync(path, 'r');
    try {
      const form = formOf(head, readSync(file, head, 0, HEAD, 0));
      if (form === undefined) throw otherForm(dirname(path), 'another form', undefined);
      if (form === 'empty') continue;
      const stamped = form > 1;
      const headerBytes = stamped ? HEADER : HEADER - STAMP;
      const magic = form === 1 ? MAGIC_1 : form === 2 ? MAGIC_2 : MAGIC;
      const stamp = head.subarray(HEAD - STAMP);
      for (let position = stamped ? HEAD : 0; ;) {
        if (readSync(file, header, 0, headerBytes, position) !== headerBytes || header.readUInt32LE(4) !== magic) break;
        if (stamped && !header.subarray(HEADER - STAMP).equals(stamp)) break;
        const length = header.readUInt32LE(0);
        const mark = length === MARK;
        const refers = form === 3 && length === REFERENCE;
        if (!mark && !refers && length > MAX_DATA) break;
        const size = mark ? 0 : refers ? REFERENCE_BYTES : length;
        const next = position + headerBytes + size + (stamped && !mark ? STAMP : 0);
        if (stamped && !mark && (readSync(file, end, 0, STAMP, next - STAMP) !== STAMP || !end.equals(stamp))) break;
        if (!stamped && next > fstatSync(file).size) break;
        const data = (withData || refers) && size > 0 ? Buffer.allocUnsafe(size) : none;
        if (readSync(file, data, 0, data.length, position + headerBytes) !== data.length) break;
        yield {
          index,
          position,
          mark,
          ino: readInoLE(header, INODE_AT),
          offset: readU64LE(header, 16),
          timeNs: header.readBigInt64LE(24),
          data: refers ? none : data,
          held: refers ? { address: readU64LE(data, 0), length: data.readUInt32LE(8) } : undefined,
        };
        position = next;
      }
    } finally {
      closeSync(file);
    }
  }
}
