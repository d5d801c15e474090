/**
 * The INIT handshake: what the kernel offers against what is wanted, a pure function. The reply that was sent is kept as
 * bytes, since a process that takes a session over gets no INIT of its own (`readInit`).
 * Source: struct fuse_init_in and fuse_init_out of include/uapi/linux/fuse.h; the choice of flags: the JuiceFS client's,
 * plus larger requests and what a hand-over needs.
 */
import { InitBit, KERNEL_MAJOR, KERNEL_MINOR, OLDEST_MINOR } from './constants.ts';

const PAGE = 4096;

export interface InitOptions {
  /** Largest WRITE and READ, bytes; whole pages, 4 KiB to 1 MiB. @default 1048576 */
  readonly maxWrite?: number;
  /** How far the kernel may read ahead, bytes (see also `readAheadKiB` of the mount). @default 1048576 */
  readonly maxReadahead?: number;
  /** Background requests (read-ahead, asynchronous I/O) that the kernel sends at once. @default 200 */
  readonly maxBackground?: number;
  /** Cached pages of a file are dropped when its size or mtime is seen to have changed. @default true */
  readonly autoInvalidateData?: boolean;
  /** The file system truncates in OPEN; else the kernel sends a SETATTR first. @default false */
  readonly atomicTruncate?: boolean;
  /** The file system clears setuid and setgid when asked along with a write or truncation. @default true */
  readonly handleKillPriv?: boolean;
  /** Targets of symbolic links are cached. @default true */
  readonly cacheSymlinks?: boolean;
  /** When listings carry attributes: where it seems to pay, always, or never. @default 'auto' */
  readonly readdirPlus?: 'auto' | 'always' | 'never';
  /** The kernel collects small writes. Breaks close-to-open between clients. @default false */
  readonly writebackCache?: boolean;
  /** Direct I/O larger than `maxWrite` goes out in parallel. @default false */
  readonly asyncDirectIo?: boolean;
  /** POSIX access control lists are kept by the file system, which also applies the umask. @default false */
  readonly posixAcl?: boolean;
  /** Modes of new nodes come as the program gave them; the file system takes the umask away. As with `posixAcl`. @default false */
  readonly keepMode?: boolean;
  /** LOOKUP understands `.` and `..`, as NFS export needs. @default false */
  readonly exportSupport?: boolean;
  /** Opened files may be bound to files of the local disk (Linux 6.9 with CONFIG_FUSE_PASSTHROUGH). Not with `writebackCache`. @default false */
  readonly passthrough?: boolean;
}

/** What depends on the file system: the methods it has. */
export interface InitFeatures {
  readonly posixLocks: boolean;
  readonly bsdLocks: boolean;
}

export interface Negotiated {
  readonly minor: number;
  readonly maxWrite: number;
  readonly maxReadahead: number;
  readonly maxBackground: number;
  /** Low and high 32 flags. */
  readonly flags: number;
  readonly flags2: number;
}

const bit = (flags: number, flags2: number, number: number): boolean =>
  ((number < 32 ? flags >>> number : flags2 >>> (number - 32)) & 1) === 1;

/** True where the flag of that bit number was agreed on. */
export function hasFlag(negotiated: Negotiated, number: number): boolean {
  return bit(negotiated.flags, negotiated.flags2, number);
}

/** The flags wanted, by bit number. */
function wantedFlags(options: InitOptions, features: InitFeatures): readonly number[] {
  const { readdirPlus = 'auto' } = options;
  const when = (wanted: boolean, ...bits: number[]): number[] => (wanted ? bits : []);
  return [
    InitBit.ASYNC_READ,
    InitBit.BIG_WRITES,
    InitBit.PARALLEL_DIROPS,
    InitBit.MAX_PAGES,
    InitBit.INIT_EXT,
    InitBit.HAS_RESEND,
    ...when(features.posixLocks, InitBit.POSIX_LOCKS),
    ...when(features.bsdLocks, InitBit.FLOCK_LOCKS),
    ...when(readdirPlus !== 'never', InitBit.DO_READDIRPLUS),
    ...when(readdirPlus === 'auto', InitBit.READDIRPLUS_AUTO),
    ...when(options.autoInvalidateData ?? true, InitBit.AUTO_INVAL_DATA),
    ...when(options.atomicTruncate ?? false, InitBit.ATOMIC_O_TRUNC),
    ...when(options.handleKillPriv ?? true, InitBit.HANDLE_KILLPRIV_V2),
    ...when(options.cacheSymlinks ?? true, InitBit.CACHE_SYMLINKS),
    ...when(options.writebackCache ?? false, InitBit.WRITEBACK_CACHE),
    ...when(options.asyncDirectIo ?? false, InitBit.ASYNC_DIO),
    ...when(options.posixAcl ?? false, InitBit.POSIX_ACL),
    ...when((options.posixAcl ?? false) || (options.keepMode ?? false), InitBit.DONT_MASK),
    ...when(options.exportSupport ?? false, InitBit.EXPORT_SUPPORT),
    ...when((options.passthrough ?? false) && !(options.writebackCache ?? false), InitBit.PASSTHROUGH),
  ];
}

/** The result of a handshake: agreed, to be tried again by the kernel with our major version, or refused. */
export type InitAnswer =
  | { readonly kind: 'agreed'; readonly negotiated: Negotiated; readonly reply: Buffer }
  | { readonly kind: 'again'; readonly reply: Buffer }
  | { readonly kind: 'refused'; readonly reason: string };

/** Answers INIT. `body` is what follows the request's header. */
export function negotiate(body: Buffer, options: InitOptions, features: InitFeatures): InitAnswer {
  if (body.length < 16) return { kind: 'refused', reason: `INIT of ${body.length} bytes, at least 16 expected` };
  const major = body.readUInt32LE(0);
  const offeredMinor = body.readUInt32LE(4);
  if (major > KERNEL_MAJOR) {
    const reply = Buffer.alloc(64);
    reply.writeUInt32LE(KERNEL_MAJOR, 0);
    reply.writeUInt32LE(KERNEL_MINOR, 4);
    return { kind: 'again', reply };
  }
  if (major < KERNEL_MAJOR || offeredMinor < OLDEST_MINOR)
    return {
      kind: 'refused',
      reason: `the kernel speaks FUSE ${major}.${offeredMinor}, at least ${KERNEL_MAJOR}.${OLDEST_MINOR} is needed`,
    };
  const offered = body.readUInt32LE(12);
  const extended = bit(offered, 0, InitBit.INIT_EXT) && body.length >= 20;
  const offered2 = extended ? body.readUInt32LE(16) : 0;
  let flags = 0;
  let flags2 = 0;
  for (const number of wantedFlags(options, features)) {
    if (number < 32) flags |= 1 << number;
    else flags2 |= 1 << (number - 32);
  }
  flags = (flags & offered) >>> 0;
  flags2 = (flags2 & offered2) >>> 0;
  const largest = bit(flags, 0, InitBit.MAX_PAGES) ? 256 * PAGE : 32 * PAGE;
  const wanted = Math.floor((options.maxWrite ?? 256 * PAGE) / PAGE) * PAGE;
  const maxWrite = Math.max(PAGE, Math.min(wanted, largest));
  const negotiated: Negotiated = {
    minor: Math.min(offeredMinor, KERNEL_MINOR),
    maxWrite,
    maxReadahead: options.maxReadahead ?? 1 << 20,
    maxBackground: Math.max(1, Math.min(options.maxBackground ?? 200, 0xffff)),
    flags,
    flags2,
  };
  return { kind: 'agreed', negotiated, reply: writeInit(negotiated) };
}

/** struct fuse_init_out, 64 bytes. Times have nanoseconds; requests have no deadline in the kernel. */
function writeInit(negotiated: Negotiated): Buffer {
  const reply = Buffer.alloc(64);
  reply.writeUInt32LE(KERNEL_MAJOR, 0);
  reply.writeUInt32LE(negotiated.minor, 4);
  reply.writeUInt32LE(negotiated.maxReadahead, 8);
  reply.writeUInt32LE(negotiated.flags, 12);
  reply.writeUInt16LE(negotiated.maxBackground, 16);
  reply.writeUInt16LE(Math.ceil((negotiated.maxBackground * 3) / 4), 18);
  reply.writeUInt32LE(negotiated.maxWrite, 20);
  reply.writeUInt32LE(1, 24);
  reply.writeUInt16LE(negotiated.maxWrite / PAGE, 28);
  reply.writeUInt32LE(negotiated.flags2, 32);
  // How deep file systems may be stacked on one another, of those that opened files are bound to: 1 is "on none".
  if (hasFlag(negotiated, InitBit.PASSTHROUGH)) reply.writeUInt32LE(1, 36);
  return reply;
}

/** Reads back a reply that `negotiate` made, in the process that takes the session over. */
export function readInit(reply: Buffer): Negotiated {
  if (reply.length !== 64 || reply.readUInt32LE(0) !== KERNEL_MAJOR)
    throw new RangeError(`not the INIT reply of a FUSE ${KERNEL_MAJOR} session: ${reply.length} bytes`);
  return {
    minor: reply.readUInt32LE(4),
    maxReadahead: reply.readUInt32LE(8),
    flags: reply.readUInt32LE(12),
    maxBackground: reply.readUInt16LE(16),
    maxWrite: reply.readUInt32LE(20),
    flags2: reply.readUInt32LE(32),
  };
}
