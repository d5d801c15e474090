/**
 * Who else has a local file open, or mapped: a mapping keeps the open file that it was made of. The kernel tells by whether it grants a lease
 * (fcntl(2), F_SETLEASE), which is given back at once: one for writing where nobody else has the file open, one for reading where nobody has
 * it open for writing. Linux, file systems of this machine. Source: check_conflicting_open of the kernel's fs/locks.c.
 */
import { libc } from '../lib/libc.ts';

const F_SETSIG = 10;
const F_SETLEASE = 1024;
const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;
const EAGAIN = 11;
/** Sent where somebody opens the file while we have the lease; ignored unless asked for, as SIGIO would not be. */
const SIGURG = 23;

type Fcntl = (fd: number, command: number, type: 'int', value: number) => number;
let fcntl: Fcntl | undefined;

function lease(fd: number, kind: number): boolean {
  const library = libc();
  if (!library) throw new Error('leases cannot be had here: wanted Linux, and the binding of the package koffi');
  fcntl ??= library.program.func('int fcntl(int fd, int command, ...)') as Fcntl;
  fcntl(fd, F_SETSIG, 'int', SIGURG);
  if (fcntl(fd, F_SETLEASE, 'int', kind) === 0) {
    fcntl(fd, F_SETLEASE, 'int', F_UNLCK);
    return true;
  }
  const errno = library.koffi.errno();
  if (errno !== EAGAIN) throw new Error(`the file system grants no leases (errno ${errno})`);
  return false;
}

/** Whether anybody has the file open beside this descriptor, which must be open for reading alone. Throws where that cannot be told. */
export const isUsed = (fd: number): boolean => !lease(fd, F_WRLCK);

/** Whether anybody, this process included, has the file open for writing. Throws where that cannot be told. */
export const isOpenForWriting = (fd: number): boolean => !lease(fd, F_RDLCK);
