/**
 * Reads a file only where the page cache already has the bytes: preadv2(2) with RWF_NOWAIT. Such a read takes a
 * microsecond and may be made on the main thread; one that would wait for a disk goes to the thread pool instead (some
 * 40 µs more, but nobody else waits). Where the call cannot be had (another libc, an old kernel, a file system without
 * it), the answer is "not now" except for bytes that were read before (`likely`), which are read with a plain pread.
 */
import { readSync } from 'node:fs';
import { createRequire } from 'node:module';
import type koffiTypes from 'koffi';

const RWF_NOWAIT = 8;
const EOPNOTSUPP = 95;
const ENOSYS = 38;

type Preadv2 = (fd: number, iov: { base: Buffer; len: number }, count: number, offset: number, flags: number) => number;

let preadv2: Preadv2 | undefined;
let lastErrno: () => number = () => 0;
let loaded = false;

function load(): void {
  loaded = true;
  if (process.platform !== 'linux') return;
  try {
    const koffi = createRequire(import.meta.url)('koffi') as typeof koffiTypes;
    const libc = koffi.load(null);
    const iovec = koffi.struct({ base: 'void *', len: 'size_t' });
    preadv2 = libc.func('preadv2', 'int64_t', ['int', koffi.pointer(iovec), 'int', 'int64_t', 'int']) as unknown as Preadv2;
    lastErrno = () => koffi.errno();
  } catch {
    preadv2 = undefined;
  }
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
