/** Mappings of files (mmap(2), shared), for tests: what a program stores there is seen by whoever reads the file, and the other way round. */
import { createRequire } from 'node:module';
import type koffiTypes from 'koffi';

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const MS_SYNC = 4;

const koffi = createRequire(import.meta.url)('koffi') as typeof koffiTypes;
const library = koffi.load(null);
const mmap = library.func('void *mmap(void *address, size_t length, int protection, int flags, int fd, int64_t offset)');
const munmap = library.func('int munmap(void *address, size_t length)');
const msync = library.func('int msync(void *address, size_t length, int flags)');

export interface Mapping {
  /** The bytes themselves: beyond the end of the file a touch ends the program. */
  readonly bytes: Buffer;
  sync(): void;
  /** `bytes` must not be touched afterwards. */
  unmap(): void;
}

/** Maps the first `length` bytes of an open file, which may be closed then. */
export function map(fd: number, length: number, writable: boolean): Mapping {
  const address = mmap(null, length, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, fd, 0);
  const number = koffi.address(address);
  if (number === 0xffff_ffff_ffff_ffffn) throw new Error(`mmap failed, errno ${koffi.errno()}`);
  return {
    bytes: Buffer.from(koffi.view(address, length)),
    sync() {
      if (msync(address, length, MS_SYNC) !== 0) throw new Error(`msync failed, errno ${koffi.errno()}`);
    },
    unmap() {
      if (munmap(address, length) !== 0) throw new Error(`munmap failed, errno ${koffi.errno()}`);
    },
  };
}
