/**
 * Opens and reads a file only where the kernel has what it takes in memory: openat2(2) with RESOLVE_CACHED, preadv2(2) with RWF_NOWAIT. Such a
 * call takes a microsecond and may be made on the main thread; one that would wait for a disk goes to the thread pool instead (some
 * 40 µs more, but nobody else waits). Where preadv2 cannot be had (an old kernel, a file system without it), the answer is "not now" except
 * for bytes that were read before (`likely`), which are read with a plain pread.
 *
 * Only for file systems of this machine (`answersFromMemory`): one that asks somebody else (FUSE, a network) asks on each open.
 */
import { readSync } from 'node:fs';
import { libc } from '../lib/libc.ts';

const RWF_NOWAIT = 8;
const EOPNOTSUPP = 95;
const ENOSYS = 38;
const O_CLOEXEC = 0o2000000;
const RESOLVE_CACHED = 0x20n;
/** The same number on all architectures, as of all calls since 2019. */
const SYS_OPENAT2 = 437;
const AT_FDCWD = -100;

/** statfs(2), f_type: ext2 to 4, XFS, Btrfs, F2FS, tmpfs, ramfs, overlay. Source: linux/magic.h. */
const OWN = new Set([0xef53, 0x58465342, 0x9123683e, 0xf2f52010, 0x01021994, 0x858458f6, 0x794c7630]);

/** Whether a file system of this kind opens and reads what is in memory without asking anybody. */
export const answersFromMemory = (kind: number): boolean => OWN.has(kind >>> 0);

type Preadv2 = (fd: number, iov: { base: Buffer; len: number }, count: number, offset: number, flags: number) => number;
type Openat2 = (number: number, directory: number, path: string, how: Buffer, size: number) => number;

let preadv2: Preadv2 | undefined;
let openat2: Openat2 | undefined;
let lastErrno: () => number = () => 0;
let loaded = false;

/** `struct open_how`: flags, mode, resolve. */
const how = Buffer.alloc(24);
how.writeBigUInt64LE(BigInt(O_CLOEXEC), 0);
how.writeBigUInt64LE(RESOLVE_CACHED, 16);

function load(): void {
  loaded = true;
  const library = libc();
  if (!library) return;
  const { koffi, program } = library;
  try {
    lastErrno = () => koffi.errno();
    openat2 = program.func(
      'long syscall(long number, int directory, const char *path, const void *how, unsigned long size)',
    ) as Openat2;
    const iovec = koffi.struct({ base: 'void *', len: 'size_t' });
    preadv2 = program.func('preadv2', 'int64_t', ['int', koffi.pointer(iovec), 'int', 'int64_t', 'int']) as unknown as Preadv2;
  } catch {
    preadv2 = undefined;
  }
}

/** Opens for reading if that needs no waiting; undefined where it would, or there is no such file. */
export function openIfCached(path: string): number | undefined {
  if (!loaded) load();
  if (!openat2) return undefined;
  const fd = openat2(SYS_OPENAT2, AT_FDCWD, path, how, how.length);
  return fd >= 0 ? fd : undefined;
}

/**
 * Fills `target` from `offset` of the file if that needs no waiting. False where it would wait, or the file is shorter.
 * `likely` says that these bytes were read a short while ago.
 */
export function readIfCached(fd: number, target: Buffer, offset: number, likely: boolean): boolean {
  if (!loaded) load();
  if (preadv2) {
    const read = preadv2(fd, { base: target, len: target.length }, 1, offset, RWF_NOWAIT);
    if (read >= 0) return read === target.length;
    const errno = lastErrno();
    if (errno !== EOPNOTSUPP && errno !== ENOSYS) return false;
    preadv2 = undefined;
  }
  return likely && readSync(fd, target, 0, target.length, offset) === target.length;
}
