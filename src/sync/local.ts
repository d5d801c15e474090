/**
 * The tree in the pod: the calls that Node does not offer (exact times, renames that replace nothing or exchange, leases, holes),
 * and the moves that never lose what the application has just written. Paths are bytes. 64-bit Linux.
 */
import { type BigIntStats, lstatSync } from 'node:fs';
import { koffi, program, SystemError } from '../fuse/libc.ts';
import { seenLocally, type Seen } from './print.ts';

const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;
const UTIME_OMIT = (1n << 30n) - 2n;
const NS = 1_000_000_000n;

const utimensatCall = program.func('int utimensat(int folder, const uint8_t *path, const uint8_t *times, int flags)');
const futimensCall = program.func('int futimens(int fd, const uint8_t *times)');
const fallocateCall = program.func('int fallocate(int fd, int mode, long offset, long length)');
const renameCall = program.func(
  'int renameat2(int from_folder, const uint8_t *from, int to_folder, const uint8_t *to, unsigned int flags)',
);
const seekCall = program.func('long lseek(int fd, long offset, int whence)');
const fcntlCall = program.func('int fcntl(int fd, int command, ...)');

const cString = (path: Buffer): Buffer => Buffer.concat([path, Buffer.of(0)]);

/** Looks at a name without following a symbolic link; undefined where nothing is there. */
export function look(path: Buffer): Seen | undefined {
  let stat: BigIntStats | undefined;
  try {
    stat = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  } catch (error) {
    // A directory above it is a file by now.
    if ((error as NodeJS.ErrnoException).code !== 'ENOTDIR') throw error;
  }
  return stat && seenLocally(stat);
}

const times = Buffer.alloc(32);

function timesOf(mtimeNs: bigint): Buffer {
  const nsec = ((mtimeNs % NS) + NS) % NS;
  times.writeBigInt64LE(0n, 0);
  times.writeBigInt64LE(UTIME_OMIT, 8);
  times.writeBigInt64LE((mtimeNs - nsec) / NS, 16);
  times.writeBigInt64LE(nsec, 24);
  return times;
}

/** Sets the modification time of an open file with all its digits. */
export function setMtimeOf(fd: number, mtimeNs: bigint): void {
  if ((futimensCall(fd, timesOf(mtimeNs)) as number) < 0) throw new SystemError('futimens', koffi.errno());
}

/** The same of a name, also of a symbolic link. */
export function setMtime(path: Buffer, mtimeNs: bigint): void {
  if ((utimensatCall(AT_FDCWD, cString(path), timesOf(mtimeNs), AT_SYMLINK_NOFOLLOW) as number) < 0)
    throw new SystemError('utimensat', koffi.errno());
}

export const RenameKind = { NoReplace: 1, Exchange: 2 } as const;

/** renameat2(2): either nothing may be at `to`, or both change places. Throws SystemError (EEXIST, ENOENT, …). */
export function renameWith(from: Buffer, to: Buffer, kind: (typeof RenameKind)[keyof typeof RenameKind]): void {
  if ((renameCall(AT_FDCWD, cString(from), AT_FDCWD, cString(to), kind) as number) < 0)
    throw new SystemError('renameat2', koffi.errno());
}

const F_SETLEASE = 1024;
const F_WRLCK = 1;
const F_UNLCK = 2;

/**
 * Whether any process but the caller has the file open, as a write lease tells it (fcntl(2): granted only where nobody else has it
 * open). Undefined where leases cannot be had (another user's file, a file system without them).
 */
export function inUse(fd: number): boolean | undefined {
  if ((fcntlCall(fd, F_SETLEASE, 'int', F_WRLCK) as number) === 0) {
    fcntlCall(fd, F_SETLEASE, 'int', F_UNLCK);
    return false;
  }
  return new SystemError('fcntl', koffi.errno()).code === 'EAGAIN' ? true : undefined;
}

const KEEP_SIZE = 1;

/**
 * Sets room of the disk aside for a part of a file, in another thread. Writes into it are faster (measured on ext4: by a half), and the file lies in
 * one piece. Only a help: where it cannot be, the writes will tell.
 */
export function allocate(fd: number, from: number, length: number): Promise<void> {
  return new Promise((resolve) => {
    (fallocateCall as unknown as { async(...args: unknown[]): void }).async(fd, KEEP_SIZE, from, length, () => resolve());
  });
}

const SEEK_DATA = 3;
const SEEK_HOLE = 4;

/** The parts of a file that hold data, in order; the rest is holes. */
export function* dataRanges(fd: number, size: number): Generator<{ readonly from: number; readonly to: number }> {
  for (let at = 0; at < size;) {
    const from = seekCall(fd, at, SEEK_DATA) as number;
    if (from < 0) {
      // ENXIO: a hole up to the end. Anything else: the file system does not tell holes.
      if (new SystemError('lseek', koffi.errno()).code !== 'ENXIO') yield { from: at, to: size };
      return;
    }
    if (from >= size) return;
    const hole = seekCall(fd, from, SEEK_HOLE) as number;
    const to = hole < 0 ? size : Math.min(hole, size);
    yield { from, to };
    at = to;
  }
}
