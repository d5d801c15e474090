/**
 * Backing files of a FUSE session: files of the local disk that the kernel reads in place of ours (passthrough). A registration belongs to
 * the session, not to this process: who takes the session over ends it, too.
 * Source: FUSE_DEV_IOC_BACKING_OPEN and _CLOSE, struct fuse_backing_map of include/uapi/linux/fuse.h.
 */
import { readFileSync, statfsSync } from 'node:fs';
import { release } from 'node:os';
import { isErrno, koffi, program, SystemError } from './libc.ts';
import type { Backing } from './types.ts';

const BACKING_OPEN = 0x4010_e501;
const BACKING_CLOSE = 0x4004_e502;

const CAP_SYS_ADMIN = 21n;

/** f_type of a file system that lies over another one. Source: include/uapi/linux/magic.h. */
const OVERLAYFS = 0x794c_7630;

/**
 * Whether this process may register files of a folder: Linux 6.9 or later, CAP_SYS_ADMIN in the first user namespace, and no overlay. What
 * the kernel was built with, INIT tells.
 */
export function mayPassThrough(folder: string): boolean {
  const [major = 0, minor = 0] = release().split('.').map(Number);
  if (process.platform !== 'linux' || major < 6 || (major === 6 && minor < 9)) return false;
  try {
    const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1] ?? '0';
    const everybody = /^\s*0\s+0\s+4294967295\s*$/.test(readFileSync('/proc/self/uid_map', 'latin1'));
    return ((BigInt(`0x${effective}`) >> CAP_SYS_ADMIN) & 1n) === 1n && everybody && statfsSync(folder).type !== OVERLAYFS;
  } catch {
    return false;
  }
}

const ioctl = program.func('int ioctl(int fd, unsigned long request, void *argument)') as (
  fd: number,
  request: number,
  argument: Buffer,
) => number;

function call(fd: number, request: number, argument: Buffer, what: string): number {
  const result = ioctl(fd, request, argument);
  if (result < 0) throw new SystemError(what, koffi.errno());
  return result;
}

/** Registers with the session of an open /dev/fuse. */
export function createBacking(session: number): Backing {
  const argument = Buffer.alloc(16);
  return {
    open(fd) {
      argument.fill(0);
      argument.writeInt32LE(fd, 0);
      return call(session, BACKING_OPEN, argument, 'FUSE_DEV_IOC_BACKING_OPEN');
    },
    close(id) {
      argument.fill(0);
      argument.writeUInt32LE(id, 0);
      try {
        call(session, BACKING_CLOSE, argument, 'FUSE_DEV_IOC_BACKING_CLOSE');
      } catch (error) {
        // EPERM: the right to it was taken from us, and with the session it ends.
        if (!isErrno(error, 'ENOENT', 'ENOTCONN', 'EPERM')) throw error;
      }
    },
  };
}
