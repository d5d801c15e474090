/**
 * From the bytes of a request to the call of the file system. Every read of the request is inside its bounds (the kernel
 * fixes the size of each struct; a shorter request is answered EINVAL), and what the handler throws becomes an errno.
 */
import { errno as errnos } from '../lib/errors.ts';
import { readInoLE, readU64LE } from '../lib/int64.ts';
import {
  FSYNC_FDATASYNC,
  GETATTR_FH,
  IN_HEADER,
  IOCTL_OUT,
  LK_FLOCK,
  Opcode,
  RELEASE_FLOCK_UNLOCK,
  WRITE_KILL_SUIDGID,
} from './constants.ts';
import type { Request } from './request.ts';
import type { FileSystem } from './types.ts';
import { readLock, readName, readOffset, readSetAttr } from './wire.ts';

const BODY = IN_HEADER;
const NO_OWNER = 0n;

/** Bytes of the fixed part of each request's body; opcodes that are not here have none. */
const fixedSize = new Uint8Array(64);
for (const [opcode, size] of [
  [Opcode.GETATTR, 16],
  [Opcode.SETATTR, 88],
  [Opcode.MKNOD, 16],
  [Opcode.MKDIR, 8],
  [Opcode.RENAME, 8],
  [Opcode.LINK, 8],
  [Opcode.OPEN, 8],
  [Opcode.READ, 40],
  [Opcode.WRITE, 40],
  [Opcode.RELEASE, 24],
  [Opcode.FSYNC, 16],
  [Opcode.SETXATTR, 8],
  [Opcode.GETXATTR, 8],
  [Opcode.LISTXATTR, 8],
  [Opcode.FLUSH, 24],
  [Opcode.OPENDIR, 8],
  [Opcode.READDIR, 40],
  [Opcode.RELEASEDIR, 24],
  [Opcode.FSYNCDIR, 16],
  [Opcode.GETLK, 48],
  [Opcode.SETLK, 48],
  [Opcode.SETLKW, 48],
  [Opcode.ACCESS, 8],
  [Opcode.CREATE, 16],
  [Opcode.IOCTL, 32],
  [Opcode.FALLOCATE, 32],
  [Opcode.READDIRPLUS, 40],
  [Opcode.RENAME2, 16],
  [Opcode.LSEEK, 24],
  [Opcode.COPY_FILE_RANGE, 56],
  [Opcode.TMPFILE, 16],
] as const)
  fixedSize[opcode] = size;

/** Requests whose payload the handler may use until it answers, in place. */
export const keepsBuffer = (opcode: number): boolean => opcode === Opcode.WRITE || opcode === Opcode.SETXATTR;

/**
 * Calls the file system for one request; INIT, FORGET, INTERRUPT and DESTROY are not for here. Returns the handler's
 * promise, if it gave one. Throws what the handler or a malformed request throws.
 */
export function call(fs: FileSystem, request: Request, buffer: Buffer, length: number, largest: number): void | Promise<void> {
  const { opcode, nodeid } = request;
  if (length < BODY + (fixedSize[opcode] ?? 0)) return request.error(errnos.EINVAL);
  const u32 = (at: number): number => buffer.readUInt32LE(BODY + at);
  const handle = (at = 0): number => readU64LE(buffer, BODY + at);
  const offset = (at: number): number => readOffset(buffer, BODY + at);
  const name = (at: number): Buffer => readName(buffer, BODY + at, length);
  const missing = (): void => request.error(errnos.ENOSYS);
  switch (opcode) {
    case Opcode.LOOKUP:
      return fs.lookup(request, request, nodeid, name(0));
    case Opcode.GETATTR:
      return fs.getattr(request, request, nodeid, u32(0) & GETATTR_FH ? handle(8) : undefined);
    case Opcode.SETATTR:
      return fs.setattr(request, request, nodeid, readSetAttr(buffer, BODY));
    case Opcode.READLINK:
      request.limit = 4095;
      return fs.readlink(request, request, nodeid);
    case Opcode.SYMLINK: {
      const link = name(0);
      return fs.symlink(request, request, nodeid, link, name(link.length + 1));
    }
    case Opcode.MKNOD:
      return fs.mknod(request, request, nodeid, name(16), u32(0), u32(4), u32(8));
    case Opcode.MKDIR:
      return fs.mkdir(request, request, nodeid, name(8), u32(0), u32(4));
    case Opcode.UNLINK:
      return fs.unlink(request, request, nodeid, name(0));
    case Opcode.RMDIR:
      return fs.rmdir(request, request, nodeid, name(0));
    case Opcode.RENAME:
    case Opcode.RENAME2: {
      const names = opcode === Opcode.RENAME ? 8 : 16;
      const flags = opcode === Opcode.RENAME ? 0 : u32(8);
      const from = name(names);
      const to = name(names + from.length + 1);
      return fs.rename(request, request, nodeid, from, readInoLE(buffer, BODY), to, flags);
    }
    case Opcode.LINK:
      return fs.link(request, request, readInoLE(buffer, BODY), nodeid, name(8));
    case Opcode.OPEN:
      return fs.open(request, request, nodeid, u32(0));
    case Opcode.CREATE:
      return fs.create(request, request, nodeid, name(16), u32(0), u32(4), u32(8));
    case Opcode.TMPFILE:
      return fs.tmpfile ? fs.tmpfile(request, request, nodeid, u32(0), u32(4), u32(8)) : missing();
    case Opcode.READ:
      request.limit = Math.min(u32(16), largest);
      return fs.read(request, request, nodeid, handle(), offset(8), request.limit);
    case Opcode.WRITE: {
      const size = u32(16);
      const start = BODY + 40;
      if (start + size > length) return request.error(errnos.EINVAL);
      const kill = (u32(20) & WRITE_KILL_SUIDGID) !== 0;
      return fs.write(request, request, nodeid, handle(), offset(8), buffer.subarray(start, start + size), kill);
    }
    case Opcode.FLUSH:
      return fs.flush(request, request, nodeid, handle(), fs.setlk ? buffer.readBigUInt64LE(BODY + 16) : NO_OWNER);
    case Opcode.FSYNC:
      return fs.fsync(request, request, nodeid, handle(), (u32(8) & FSYNC_FDATASYNC) !== 0);
    case Opcode.RELEASE: {
      const owner = fs.setlk || fs.flock ? buffer.readBigUInt64LE(BODY + 16) : NO_OWNER;
      return fs.release(request, request, nodeid, handle(), u32(8), owner, (u32(12) & RELEASE_FLOCK_UNLOCK) !== 0);
    }
    case Opcode.OPENDIR:
      return fs.opendir(request, request, nodeid, u32(0));
    case Opcode.READDIR:
    case Opcode.READDIRPLUS:
      request.limit = Math.min(u32(16), largest);
      return fs.readdir(request, request, nodeid, handle(), offset(8), request.limit, opcode === Opcode.READDIRPLUS);
    case Opcode.RELEASEDIR:
      return fs.releasedir(request, request, nodeid, handle());
    case Opcode.FSYNCDIR:
      return fs.fsyncdir ? fs.fsyncdir(request, request, nodeid, handle()) : missing();
    case Opcode.STATFS:
      return fs.statfs(request, request, nodeid);
    case Opcode.ACCESS:
      return fs.access ? fs.access(request, request, nodeid, u32(0)) : missing();
    case Opcode.GETXATTR:
      request.limit = u32(0);
      return fs.getxattr ? fs.getxattr(request, request, nodeid, name(8).toString(), u32(0)) : missing();
    case Opcode.LISTXATTR:
      request.limit = u32(0);
      return fs.listxattr ? fs.listxattr(request, request, nodeid, u32(0)) : missing();
    case Opcode.SETXATTR: {
      if (!fs.setxattr) return missing();
      const attribute = name(8);
      const start = BODY + 8 + attribute.length + 1;
      const size = u32(0);
      if (start + size > length) return request.error(errnos.EINVAL);
      return fs.setxattr(request, request, nodeid, attribute.toString(), buffer.subarray(start, start + size), u32(4));
    }
    case Opcode.REMOVEXATTR:
      return fs.removexattr ? fs.removexattr(request, request, nodeid, name(0).toString()) : missing();
    case Opcode.FALLOCATE:
      return fs.fallocate ? fs.fallocate(request, request, nodeid, handle(), offset(8), offset(16), u32(24)) : missing();
    case Opcode.LSEEK:
      return fs.lseek ? fs.lseek(request, request, nodeid, handle(), offset(8), u32(16)) : missing();
    case Opcode.COPY_FILE_RANGE: {
      if (!fs.copyFileRange) return missing();
      const target = readInoLE(buffer, BODY + 16);
      return fs.copyFileRange(request, request, nodeid, handle(), offset(8), target, handle(24), offset(32), offset(40));
    }
    case Opcode.IOCTL: {
      if (!fs.ioctl) return missing();
      const [size, wanted] = [u32(24), u32(28)];
      if (BODY + 32 + size > length) return request.error(errnos.EINVAL);
      // A copy: it is small.
      const input = Buffer.from(buffer.subarray(BODY + 32, BODY + 32 + size));
      request.limit = IOCTL_OUT + wanted;
      return fs.ioctl(request, request, nodeid, handle(), u32(12), input, wanted);
    }
    case Opcode.GETLK:
    case Opcode.SETLK:
    case Opcode.SETLKW: {
      const owner = buffer.readBigUInt64LE(BODY + 8);
      const lock = readLock(buffer, BODY + 16);
      if (opcode === Opcode.GETLK) return fs.getlk ? fs.getlk(request, request, nodeid, handle(), owner, lock) : missing();
      const wait = opcode === Opcode.SETLKW;
      if (u32(40) & LK_FLOCK) return fs.flock ? fs.flock(request, request, nodeid, handle(), owner, lock.type, wait) : missing();
      return fs.setlk ? fs.setlk(request, request, nodeid, handle(), owner, lock, wait) : missing();
    }
    default:
      return missing();
  }
}
