/**
 * The structs of the FUSE protocol: encoders for what the kernel is answered, decoders for what it asks.
 *
 * Replies are built as 32-bit words, which is how the structs are laid out (every field is 4- or 8-aligned) and the fastest
 * way to fill them; so the host must be little-endian, as x86-64 and arm64 are. A number up to 2^53, negative ones
 * included, becomes two words by truncation. Sizes and offsets are those of the kernel's include/uapi/linux/fuse.h.
 */
import { endianness } from 'node:os';
import { FsError } from '../lib/errors.ts';
import { type Ino, readU64LE } from '../lib/int64.ts';
import { OpenOut, SetattrValid } from './constants.ts';
import type { FuseAttr, FuseEntry, FuseLock, FuseOpened, FuseSetAttr, FuseStatFs } from './types.ts';

if (endianness() !== 'LE') throw new Error('the FUSE layer needs a little-endian machine');

/** Sizes in words (4 bytes). */
export const Words = { attr: 22, entry: 32, attrOut: 26, open: 4, statfs: 20, dirent: 6, lock: 6 } as const;

const TWO_32 = 0x1_0000_0000;
const NS = 1e9;

/** Writes a 64-bit number, |value| < 2^53. */
export function putNumber(words: Uint32Array, at: number, value: number): void {
  words[at] = value;
  words[at + 1] = Math.floor(value / TWO_32);
}

/** Writes an inode number; the window below 2^63 is held as negative numbers (src/lib/int64.ts). */
export function putIno(words: Uint32Array, at: number, value: Ino): void {
  words[at] = value;
  words[at + 1] = value < 0 ? 0x7fffffff : value / TWO_32;
}

/** Writes struct fuse_attr (88 bytes). */
function putAttr(words: Uint32Array, at: number, attr: FuseAttr): void {
  putIno(words, at, attr.ino);
  putNumber(words, at + 2, attr.size);
  putNumber(words, at + 4, attr.blocks);
  putNumber(words, at + 6, attr.atime);
  putNumber(words, at + 8, attr.mtime);
  putNumber(words, at + 10, attr.ctime);
  words[at + 12] = attr.atimensec;
  words[at + 13] = attr.mtimensec;
  words[at + 14] = attr.ctimensec;
  words[at + 15] = attr.mode;
  words[at + 16] = attr.nlink;
  words[at + 17] = attr.uid;
  words[at + 18] = attr.gid;
  words[at + 19] = attr.rdev;
  words[at + 20] = attr.blksize;
  words[at + 21] = 0;
}

/** Writes a lifetime in seconds as whole seconds at `at` and nanoseconds at `nsecAt`. */
function putTimeout(words: Uint32Array, at: number, nsecAt: number, seconds: number): void {
  const whole = Math.floor(seconds);
  putNumber(words, at, whole);
  words[nsecAt] = seconds === whole ? 0 : Math.min(NS - 1, Math.round((seconds - whole) * NS));
}

/** Writes struct fuse_entry_out (128 bytes). */
export function putEntry(words: Uint32Array, at: number, entry: FuseEntry): void {
  putIno(words, at, entry.attr.ino);
  putNumber(words, at + 2, entry.generation);
  putTimeout(words, at + 4, at + 8, entry.entryTimeout);
  putTimeout(words, at + 6, at + 9, entry.attrTimeout);
  putAttr(words, at + 10, entry.attr);
}

/** Writes the struct fuse_entry_out (128 bytes) that says "no such name" for a while. */
export function putNegativeEntry(words: Uint32Array, at: number, entryTimeout: number): void {
  words.fill(0, at, at + Words.entry);
  putTimeout(words, at + 4, at + 8, entryTimeout);
}

/** Writes struct fuse_attr_out (104 bytes). */
export function putAttrOut(words: Uint32Array, at: number, attr: FuseAttr, attrTimeout: number): void {
  putTimeout(words, at, at + 2, attrTimeout);
  words[at + 3] = 0;
  putAttr(words, at + 4, attr);
}

/** Writes struct fuse_open_out (16 bytes). */
export function putOpened(words: Uint32Array, at: number, opened: FuseOpened): void {
  putNumber(words, at, opened.handle);
  words[at + 2] =
    (opened.directIo ? OpenOut.DIRECT_IO : 0) |
    (opened.keepCache ? OpenOut.KEEP_CACHE : 0) |
    (opened.nonSeekable ? OpenOut.NONSEEKABLE : 0) |
    (opened.cacheDir ? OpenOut.CACHE_DIR : 0) |
    (opened.noFlush ? OpenOut.NOFLUSH : 0) |
    (opened.parallelDirectWrites ? OpenOut.PARALLEL_DIRECT_WRITES : 0) |
    (opened.backing === undefined ? 0 : OpenOut.PASSTHROUGH);
  words[at + 3] = opened.backing ?? 0;
}

/** Writes struct fuse_statfs_out (80 bytes). */
export function putStatFs(words: Uint32Array, at: number, value: FuseStatFs): void {
  words.fill(0, at, at + Words.statfs);
  putNumber(words, at, value.blocks);
  putNumber(words, at + 2, value.bfree);
  putNumber(words, at + 4, value.bavail);
  putNumber(words, at + 6, value.files);
  putNumber(words, at + 8, value.ffree);
  words[at + 10] = value.bsize;
  words[at + 11] = value.namelen;
  words[at + 12] = value.bsize;
}

/** Writes struct fuse_lk_out (24 bytes). */
export function putLock(words: Uint32Array, at: number, lock: FuseLock): void {
  words[at] = Number(lock.start & 0xffffffffn);
  words[at + 1] = Number(lock.start >> 32n);
  words[at + 2] = Number(lock.end & 0xffffffffn);
  words[at + 3] = Number(lock.end >> 32n);
  words[at + 4] = lock.type;
  words[at + 5] = lock.pid;
}

/** Reads a struct fuse_file_lock. */
export function readLock(buffer: Buffer, at: number): FuseLock {
  return {
    start: buffer.readBigUInt64LE(at),
    end: buffer.readBigUInt64LE(at + 8),
    type: buffer.readUInt32LE(at + 16),
    pid: buffer.readUInt32LE(at + 20),
  };
}

/** Reads a signed 64-bit number within ±2^53 (times). */
function readSigned(buffer: Buffer, at: number): number {
  return buffer.readInt32LE(at + 4) * TWO_32 + buffer.readUInt32LE(at);
}

/** Reads a file offset or length; EFBIG from 2^53 on, which no volume reaches. */
export function readOffset(buffer: Buffer, at: number): number {
  if (buffer.readUInt32LE(at + 4) >= 0x20_0000) throw new FsError('EFBIG', 'an offset of 2^53 or more');
  return readU64LE(buffer, at);
}

/**
 * Reads the name that starts at `at`, up to its zero byte, as a copy. EINVAL where no zero byte ends it inside the request.
 * The next name, if any, starts at `at + name.length + 1`.
 */
export function readName(buffer: Buffer, at: number, length: number): Buffer {
  const end = buffer.indexOf(0, at);
  if (end < 0 || end >= length) throw new FsError('EINVAL', 'a name that does not end');
  const name = Buffer.allocUnsafe(end - at);
  buffer.copy(name, 0, at, end);
  return name;
}

/** Reads struct fuse_setattr_in (88 bytes). */
export function readSetAttr(buffer: Buffer, at: number): FuseSetAttr {
  const valid = buffer.readUInt32LE(at);
  const has = (bit: number): boolean => (valid & bit) !== 0;
  const time = (now: boolean, sec: number, nsec: number): 'now' | { sec: number; nsec: number } =>
    now ? 'now' : { sec: readSigned(buffer, at + sec), nsec: buffer.readUInt32LE(at + nsec) };
  return {
    ...(has(SetattrValid.MODE) && { mode: buffer.readUInt32LE(at + 68) }),
    ...(has(SetattrValid.UID) && { uid: buffer.readUInt32LE(at + 76) }),
    ...(has(SetattrValid.GID) && { gid: buffer.readUInt32LE(at + 80) }),
    ...(has(SetattrValid.SIZE) && { size: readOffset(buffer, at + 16) }),
    ...(has(SetattrValid.ATIME) && { atime: time(has(SetattrValid.ATIME_NOW), 32, 56) }),
    ...(has(SetattrValid.MTIME) && { mtime: time(has(SetattrValid.MTIME_NOW), 40, 60) }),
    ...(has(SetattrValid.FH) && { handle: readU64LE(buffer, at + 8) }),
    ...(has(SetattrValid.KILL_SUIDGID) && { killSuidGid: true }),
  };
}
