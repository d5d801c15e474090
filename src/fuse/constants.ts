/** Numbers of the FUSE protocol. Source: the kernel's include/uapi/linux/fuse.h, protocol 7.45. */

export const KERNEL_MAJOR = 7;
export const KERNEL_MINOR = 45;
/** The oldest minor version served: the one whose INIT reply has 64 bytes (Linux 3.15). */
export const OLDEST_MINOR = 23;

export const Opcode = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  SETXATTR: 21,
  GETXATTR: 22,
  LISTXATTR: 23,
  REMOVEXATTR: 24,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  GETLK: 31,
  SETLK: 32,
  SETLKW: 33,
  ACCESS: 34,
  CREATE: 35,
  INTERRUPT: 36,
  DESTROY: 38,
  IOCTL: 39,
  NOTIFY_REPLY: 41,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  LSEEK: 46,
  COPY_FILE_RANGE: 47,
  TMPFILE: 51,
} as const;

/** INIT flags by bit number; bits 32 and up travel in `flags2`. */
export const InitBit = {
  ASYNC_READ: 0,
  POSIX_LOCKS: 1,
  ATOMIC_O_TRUNC: 3,
  EXPORT_SUPPORT: 4,
  BIG_WRITES: 5,
  DONT_MASK: 6,
  FLOCK_LOCKS: 10,
  AUTO_INVAL_DATA: 12,
  DO_READDIRPLUS: 13,
  READDIRPLUS_AUTO: 14,
  ASYNC_DIO: 15,
  WRITEBACK_CACHE: 16,
  PARALLEL_DIROPS: 18,
  POSIX_ACL: 20,
  MAX_PAGES: 22,
  CACHE_SYMLINKS: 23,
  HANDLE_KILLPRIV_V2: 28,
  INIT_EXT: 30,
  DIRECT_IO_ALLOW_MMAP: 36,
  PASSTHROUGH: 37,
  HAS_RESEND: 39,
} as const;

export const SetattrValid = {
  MODE: 1 << 0,
  UID: 1 << 1,
  GID: 1 << 2,
  SIZE: 1 << 3,
  ATIME: 1 << 4,
  MTIME: 1 << 5,
  FH: 1 << 6,
  ATIME_NOW: 1 << 7,
  MTIME_NOW: 1 << 8,
  KILL_SUIDGID: 1 << 11,
} as const;

export const OpenOut = {
  DIRECT_IO: 1 << 0,
  KEEP_CACHE: 1 << 1,
  NONSEEKABLE: 1 << 2,
  CACHE_DIR: 1 << 3,
  NOFLUSH: 1 << 5,
  PARALLEL_DIRECT_WRITES: 1 << 6,
  PASSTHROUGH: 1 << 7,
} as const;

export const GETATTR_FH = 1;
export const WRITE_KILL_SUIDGID = 1 << 2;
export const FSYNC_FDATASYNC = 1;
export const RELEASE_FLOCK_UNLOCK = 1 << 1;
export const LK_FLOCK = 1;
/** Bytes of struct fuse_ioctl_out. */
export const IOCTL_OUT = 16;

export const Notify = { INVAL_INODE: 2, INVAL_ENTRY: 3, RESEND: 7 } as const;

/** Bytes of the header of a request and of a reply. */
export const IN_HEADER = 40;
export const OUT_HEADER = 16;
/** What a request buffer must hold beside the payload of a WRITE. */
export const REQUEST_OVERHEAD = 4096;
