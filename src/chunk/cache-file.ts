/**
 * One block in the disk cache, open for reading. The file holds the plain block, then (unless checksums are off) the
 * CRC-32C of each 32 KiB as u32 big-endian, then perhaps a footer of JuiceFS's staging, which is ignored. Whether there are checksums
 * follows from the size: what comes after the data is a multiple of four and long enough. Source: the JuiceFS format,
 * "Local cache directory".
 *
 * A piece that was verified is not verified again while the file is open: it lies in the page cache, and the checksum
 * guards against what disks and crashes do, not against memory.
 */
import { crc32c } from '../lib/crc32c.ts';
import { CHECKSUM_PIECE } from '../object/store.ts';
import { blockFiles, type BlockFiles } from './disk-files.ts';

/** Bytes under one checksum; the same as what stores sum up by. */
export const PIECE = CHECKSUM_PIECE;

/** What is verified: nothing; whole blocks only; the pieces that lie wholly within a read; every piece a read touches. */
export const checksumLevels = ['none', 'full', 'shrink', 'extend'] as const;
export type ChecksumLevel = (typeof checksumLevels)[number];

/** The file's bytes are not what was written: drop it. */
export class CorruptCacheFile extends Error {
  override readonly name = 'CorruptCacheFile';
}

/** Scratch for reads on the main thread that are wider than what was asked for; grows to the longest such read. */
let scratch = Buffer.alloc(0);
function scratchOf(length: number): Buffer {
  if (scratch.length < length) scratch = Buffer.allocUnsafeSlow(length);
  return scratch.subarray(0, length);
}

/** Bytes of checksums behind a block. */
export function trailerLength(length: number): number {
  return Math.ceil(length / PIECE) * 4;
}

export class CacheFile {
  readonly length: number;
  readonly #files: BlockFiles;
  readonly #fd: number;
  readonly #sums: Uint32Array | undefined;
  readonly #level: ChecksumLevel;
  readonly #verified: Uint8Array;
  #users = 0;
  #closing = false;

  private constructor(files: BlockFiles, fd: number, length: number, trailer: Buffer | undefined, level: ChecksumLevel) {
    this.#files = files;
    this.#fd = fd;
    this.length = length;
    this.#level = trailer ? level : 'none';
    const pieces = Math.ceil(length / PIECE);
    this.#verified = new Uint8Array(pieces);
    if (trailer) {
      this.#sums = new Uint32Array(pieces);
      for (let i = 0; i < pieces; i++) this.#sums[i] = trailer.readUInt32BE(i * 4);
    }
  }

  /** Opens on the main thread; undefined where that would wait, or there is no such file. */
  static openSync(path: string, length: number, level: ChecksumLevel, files: BlockFiles = blockFiles): CacheFile | undefined {
    const fd = files.openNow(path);
    if (fd === undefined) return undefined;
    try {
      const bytes = trailerBytes(path, files.sizeNow(fd), length);
      const trailer = Buffer.allocUnsafe(bytes);
      if (bytes > 0 && !files.readNow(fd, trailer, length, true)) {
        void files.close(fd);
        return undefined;
      }
      return new CacheFile(files, fd, length, bytes > 0 ? trailer : undefined, level);
    } catch (error) {
      void files.close(fd);
      throw error;
    }
  }

  /** Fails with the system's error, or CorruptCacheFile where the size cannot be that of this block. */
  static async open(path: string, length: number, level: ChecksumLevel, files: BlockFiles = blockFiles): Promise<CacheFile> {
    const fd = await files.open(path);
    try {
      const bytes = trailerBytes(path, await files.size(fd), length);
      const trailer = Buffer.allocUnsafe(bytes);
      if (bytes > 0) await readFully(files, fd, trailer, length, path);
      return new CacheFile(files, fd, length, bytes > 0 ? trailer : undefined, level);
    } catch (error) {
      void files.close(fd);
      throw error;
    }
  }

  /** Fills `target` from `offset` if it needs no waiting. Throws CorruptCacheFile. */
  readSync(offset: number, target: Buffer): boolean {
    const [from, to] = this.#window(offset, target.length);
    const known = this.#level === 'none' || this.#isVerified(from, to);
    const start = known ? offset : from * PIECE;
    const end = known ? offset + target.length : Math.min(to * PIECE, this.length);
    if (from >= to || (start >= offset && end <= offset + target.length)) {
      if (!this.#files.readNow(this.#fd, target, offset, known)) return false;
      if (!known) this.#verify(target, offset, from, to);
      return true;
    }
    const wide = scratchOf(end - start);
    if (!this.#files.readNow(this.#fd, wide, start, known)) return false;
    this.#verify(wide, start, from, to);
    wide.copy(target, 0, offset - start, offset - start + target.length);
    return true;
  }

  /** Fills `target` from `offset`, in the thread pool; `own` as in BlockFiles.read. Throws CorruptCacheFile. */
  async read(offset: number, target: Buffer, own = false): Promise<void> {
    this.#users++;
    try {
      const [from, to] = this.#window(offset, target.length);
      const start = from < to ? Math.min(offset, from * PIECE) : offset;
      const end = from < to ? Math.max(offset + target.length, Math.min(to * PIECE, this.length)) : offset + target.length;
      if (this.#isVerified(from, to) || (start === offset && end === offset + target.length)) {
        await readFully(this.#files, this.#fd, target, offset, 'cached block', own);
        if (!this.#isVerified(from, to)) this.#verify(target, offset, from, to);
        return;
      }
      const wide = Buffer.allocUnsafe(end - start);
      await readFully(this.#files, this.#fd, wide, start, 'cached block');
      this.#verify(wide, start, from, to);
      wide.copy(target, 0, offset - start, offset - start + target.length);
    } finally {
      this.#users--;
      if (this.#closing && this.#users === 0) void this.#files.close(this.#fd);
    }
  }

  /** Closes when the last read that is under way has ended. */
  close(): void {
    if (this.#closing) return;
    this.#closing = true;
    if (this.#users === 0) void this.#files.close(this.#fd);
  }

  /** The pieces [from, to) that this read has to verify, before what is known already. */
  #window(offset: number, length: number): readonly [number, number] {
    const end = offset + length;
    if (this.#level === 'extend') return [Math.floor(offset / PIECE), Math.ceil(end / PIECE)];
    if (this.#level === 'none') return [0, 0];
    if (this.#level === 'full') return offset === 0 && length === this.length ? [0, this.#verified.length] : [0, 0];
    const from = Math.ceil(offset / PIECE);
    return [from, Math.max(from, end === this.length ? this.#verified.length : Math.floor(end / PIECE))];
  }

  #isVerified(from: number, to: number): boolean {
    for (let piece = from; piece < to; piece++) if (this.#verified[piece] === 0) return false;
    return true;
  }

  #verify(data: Buffer, start: number, from: number, to: number): void {
    for (let piece = from; piece < to; piece++) {
      if (this.#verified[piece] === 1) continue;
      const at = piece * PIECE - start;
      const sum = crc32c(data.subarray(at, Math.min(at + PIECE, this.length - start)));
      if (sum !== this.#sums?.[piece])
        throw new CorruptCacheFile(`a cached block is damaged: piece ${piece} has another checksum`);
      this.#verified[piece] = 1;
    }
  }
}

/** How many bytes of checksums the file has. Throws CorruptCacheFile. */
function trailerBytes(path: string, size: number, length: number): number {
  const extra = size - length;
  const wanted = trailerLength(length);
  if (extra === 0 || (extra > 0 && extra % 4 !== 0)) return 0;
  if (extra < wanted)
    throw new CorruptCacheFile(`${path} is ${length + extra} bytes long, which no cached block of ${length} bytes is`);
  return wanted;
}

/** One read of a disk is bound by its latency: long ones are made as several at once. */
const SPLIT = 256 * 1024;

async function readFully(
  files: BlockFiles,
  fd: number,
  target: Buffer,
  offset: number,
  what: string,
  own = false,
): Promise<void> {
  if (target.length <= SPLIT) return readPart(files, fd, target, offset, what, own);
  const parts: Promise<void>[] = [];
  for (let at = 0; at < target.length; at += SPLIT)
    parts.push(readPart(files, fd, target.subarray(at, at + SPLIT), offset + at, what, own));
  // All must have ended before the buffer is somebody else's.
  for (const result of await Promise.allSettled(parts)) if (result.status === 'rejected') throw result.reason;
}

async function readPart(
  files: BlockFiles,
  fd: number,
  target: Buffer,
  offset: number,
  what: string,
  own: boolean,
): Promise<void> {
  let done = 0;
  while (done < target.length) {
    const bytesRead = await files.read(fd, target, done, target.length - done, offset + done, own);
    if (bytesRead === 0) throw new CorruptCacheFile(`${what} ends at ${offset + done}`);
    done += bytesRead;
  }
}
