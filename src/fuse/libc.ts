/**
 * The calls into libc and libuv that Node does not offer, through koffi. Nothing here has state but errno, which is only
 * valid until the next call. 64-bit Linux.
 */
import { errno as errnos, type ErrnoName, errnoName } from '../lib/errors.ts';
import { libc } from '../lib/libc.ts';

const library = libc();
if (!library) throw new Error('the C library cannot be called here: wanted Linux, and the binding of the package koffi');
const { koffi, program } = library;

/** A system call failed: `code` as Node names it. */
export class SystemError extends Error {
  override readonly name = 'SystemError';
  readonly code: string;
  readonly errno: number;

  constructor(call: string, errno: number) {
    super(`${call} failed: ${errnoName(errno)}`);
    this.code = errnoName(errno);
    this.errno = errno;
  }
}

/** errno of the last call. */
export const lastErrno = (): number => koffi.errno();

/** True where an error, ours or Node's, has this code. */
export function isErrno(error: unknown, ...codes: readonly ErrnoName[]): boolean {
  return codes.includes((error as { code?: ErrnoName }).code ?? ('' as ErrnoName));
}

/** read(2). Bytes read, or -1 and `lastErrno()`: an empty queue must not cost an exception. */
export const read = program.func('long read(int fd, void *buffer, unsigned long length)') as (
  fd: number,
  buffer: Buffer,
  length: number,
) => number;

const pollCall = program.func('int poll(void *fds, unsigned long count, int timeout)');
const pollOne = Buffer.alloc(8);

/** True where the descriptor has something to read (or an error) right now. */
export function readable(fd: number): boolean {
  pollOne.writeInt32LE(fd, 0);
  pollOne.writeInt32LE(1, 4);
  return (pollCall(pollOne, 1, 0) as number) > 0;
}

/** True where a FUSE session is over (or the other side of a socket gone): poll reports an error. */
export function failed(fd: number): boolean {
  return readable(fd) && (pollOne.readInt16LE(6) & 0x18) !== 0;
}

/** Waits up to `ms` in another thread until the descriptor has something to read or an error. */
export function whenReadable(fd: number, ms: number): Promise<boolean> {
  const entry = Buffer.alloc(8);
  entry.writeInt32LE(fd, 0);
  entry.writeInt32LE(1, 4);
  return new Promise((resolve, reject) => {
    (pollCall as unknown as { async(...args: unknown[]): void }).async(entry, 1, ms, (error: Error | null, ready: number) =>
      error ? reject(error) : resolve(ready > 0 && entry.length > 0),
    );
  });
}

const mountCall = program.func(
  'int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)',
);
const umountCall = program.func('int umount2(const char *target, int flags)');

/** Runs a call in another thread: a path may lead through a mount that this very thread serves. */
function away(name: string, call: unknown, ...args: readonly unknown[]): Promise<void> {
  return new Promise((resolve, reject) => {
    // errno belongs to the other thread; koffi carries it over to the callback.
    (call as { async(...args: unknown[]): void }).async(...args, (error: Error | null, result: number) => {
      if (error) reject(error);
      else if (result < 0) reject(new SystemError(name, koffi.errno()));
      else resolve();
    });
  });
}

export const MountFlag = { RDONLY: 1, NOSUID: 2, NODEV: 4, NOEXEC: 8 } as const;

/** mount(2). */
export function mountAt(source: string, target: string, type: string, flags: number, data: string): Promise<void> {
  return away(`mount of ${type} at ${target}`, mountCall, source, target, type, flags, data);
}

export interface UnmountFlags {
  /** The mount leaves the tree at once and ends with its last user (MNT_DETACH). */
  readonly lazy: boolean;
  /** Requests that wait are given up (MNT_FORCE). @default false */
  readonly force?: boolean;
}

/** umount2(2) without following a symbolic link. */
export function unmountAt(target: string, flags: UnmountFlags = { lazy: true }): Promise<void> {
  return away(`unmount of ${target}`, umountCall, target, 8 | (flags.lazy ? 2 : 0) | (flags.force ? 1 : 0));
}

const fcntlCall = program.func('int fcntl(int fd, int command, ...)');
const F_GETFL = 3;
const F_SETFL = 4;
const O_NONBLOCK = 0o4000;

/** Makes reads on the open file answer EAGAIN instead of waiting. */
export function setNonBlocking(fd: number): void {
  const flags = fcntlCall(fd, F_GETFL) as number;
  if (flags < 0 || (fcntlCall(fd, F_SETFL, 'int', flags | O_NONBLOCK) as number) < 0)
    throw new SystemError('fcntl(O_NONBLOCK)', koffi.errno());
}

const memfdCall = program.func('int memfd_create(const char *name, unsigned int flags)');

/** A file without a name, in memory, closed on exec. */
export function memoryFile(name: string): number {
  const fd = memfdCall(name, 1) as number;
  if (fd < 0) throw new SystemError('memfd_create', koffi.errno());
  return fd;
}

/** The address of a buffer's bytes; the caller keeps the buffer alive. */
export const addressOf = (buffer: Buffer): bigint => koffi.address(buffer);

export { errnos, koffi, program };
