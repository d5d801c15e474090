/**
 * A file system as the FUSE layer calls it, and the transport that carries the calls. Inode based, one method per kernel
 * request. A handler answers through its `Reply`, at once (then no promise and no turn of the event loop is spent) or
 * later; it may instead throw or return a promise that rejects, which answers the error's errno. Each reply is answered
 * exactly once; a second answer is a defect and is dropped with a log line.
 */
import type { Ino } from '../lib/int64.ts';

/** Attributes as the kernel wants them. Times in seconds and nanoseconds. */
export interface FuseAttr {
  readonly ino: Ino;
  readonly size: number;
  readonly blocks: number;
  readonly atime: number;
  readonly mtime: number;
  readonly ctime: number;
  readonly atimensec: number;
  readonly mtimensec: number;
  readonly ctimensec: number;
  /** Type and permission bits (S_IFMT | 07777). */
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  readonly blksize: number;
}

export interface FuseEntry {
  readonly attr: FuseAttr;
  readonly generation: number;
  /** How long the kernel may trust the name, and the attributes; seconds. */
  readonly entryTimeout: number;
  readonly attrTimeout: number;
}

/** Answer to OPEN, CREATE and OPENDIR. */
export interface FuseOpened {
  readonly handle: number;
  /** The page cache of an earlier open still holds. @default false */
  readonly keepCache?: boolean;
  /** What the kernel knows of the file's attributes is not what this open found: it is to ask again (OPEN). @default false */
  readonly forgetAttributes?: boolean;
  readonly directIo?: boolean;
  readonly nonSeekable?: boolean;
  /** The kernel may cache the listing (OPENDIR). */
  readonly cacheDir?: boolean;
  /** The kernel need not send FLUSH. */
  readonly noFlush?: boolean;
  /** Writes with direct I/O on one inode may come at the same time. */
  readonly parallelDirectWrites?: boolean;
  /**
   * Reads and mappings go to the file of the local disk that was registered under this number (`Backing`), past this process; with
   * `directIo` mappings alone do. All opens of an inode that are not closed must say the same; not together with `keepCache`.
   */
  readonly backing?: number;
}

export interface FuseStatFs {
  readonly blocks: number;
  readonly bavail: number;
  readonly bfree: number;
  readonly files: number;
  readonly ffree: number;
  readonly bsize: number;
  readonly namelen: number;
}

/** What the kernel said of the caller. `pid` is 0 where it did not (RELEASE). */
export interface FuseRequest {
  /** The kernel has not checked what the caller may do. @default false */
  readonly checkPermission?: boolean;
  readonly unique: bigint | number;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  /** The kernel delivered this request to a dead process before; a write may have been done already. */
  readonly resent: boolean;
  /** Aborted when the kernel interrupts the request. Made on first use. */
  readonly signal: AbortSignal;
  /**
   * Says that this request waits for other programs, for as long as it takes: it holds up nobody who wants to end, but is left
   * unanswered, and the kernel delivers it to the process that takes the session over.
   */
  park(): void;
}

/** Collects directory entries until the kernel's buffer is full. */
export interface DirSink {
  /** False where the entry did not fit: it was not taken, answer now. `offset` is where the next READDIR goes on after this entry. */
  add(name: Buffer, ino: Ino, type: number, offset: number): boolean;
  /**
   * The same with attributes (READDIRPLUS); the kernel then holds a lookup reference on the node, except for `.` and `..`.
   * In a plain READDIR it does what `add` does; `add` in a READDIRPLUS gives the name alone, without a reference.
   */
  addPlus(name: Buffer, entry: FuseEntry, offset: number): boolean;
}

/** A POSIX or BSD lock; `end` is inclusive, 2^63-1 is the end of the file. */
export interface FuseLock {
  /** F_RDLCK 0, F_WRLCK 1, F_UNLCK 2. */
  readonly type: number;
  readonly start: bigint;
  readonly end: bigint;
  readonly pid: number;
}

export interface Reply {
  /** True once an answer was given. */
  readonly answered: boolean;
  /** Of the answer: its errno (0 for success; ENOENT also where it was `negative`), and the bytes of data read or written. */
  readonly code: number;
  readonly bytes: number;
  /** Negative answer: a positive errno number. */
  error(errno: number): void;
  /** Success without data. `forgetAttributes`: as in FuseOpened, of the request's node. @default false */
  ok(forgetAttributes?: boolean): void;
  entry(entry: FuseEntry): void;
  /** LOOKUP found nothing and the kernel may remember that for so many seconds. */
  negative(entryTimeout: number): void;
  attr(attr: FuseAttr, attrTimeout: number): void;
  opened(opened: FuseOpened): void;
  created(entry: FuseEntry, opened: FuseOpened): void;
  /** READ, READLINK, GETXATTR with data. The buffer may be reused as soon as this returns. */
  data(data: Buffer): void;
  /** The same from several buffers, without joining them (at most 1 000). */
  dataParts(parts: readonly Buffer[]): void;
  written(bytes: number): void;
  statfs(value: FuseStatFs): void;
  /** Size asked by GETXATTR/LISTXATTR with size 0. */
  xattrSize(bytes: number): void;
  lseek(offset: number): void;
  /** READDIR and READDIRPLUS: fill, then `directory()` once. */
  readonly sink: DirSink;
  directory(): void;
  /** GETLK: the lock in the way, or type F_UNLCK. */
  lock(lock: FuseLock): void;
  /** IOCTL that succeeded, with what it gives back (at most as much as was asked for). */
  ioctl(data: Buffer): void;
}

/** SETATTR: only what is to change. */
export interface FuseSetAttr {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly size?: number;
  readonly atime?: { readonly sec: number; readonly nsec: number } | 'now';
  readonly mtime?: { readonly sec: number; readonly nsec: number } | 'now';
  readonly handle?: number;
  /** FUSE_HANDLE_KILLPRIV_V2: the kernel asks to drop suid/sgid along. */
  readonly killSuidGid?: boolean;
}

type Answer = void | Promise<void>;

/**
 * An absent method answers ENOSYS (which the kernel remembers; for locks the kernel then keeps them by itself). Names and
 * link targets are copies and may be kept; `data` of WRITE and `value` of SETXATTR are views of the request, valid until the
 * handler answers. Where the kernel does not want the answer to OPEN, CREATE, OPENDIR or LOOKUP any more (the caller was
 * interrupted), `release`, `releasedir` or `forget` is called for it, so that nothing leaks.
 */
export interface FileSystem {
  lookup(request: FuseRequest, reply: Reply, parent: Ino, name: Buffer): Answer;
  /** References dropped by FORGET and BATCH_FORGET; no answer. */
  forget?(ino: Ino, count: number): void;
  getattr(request: FuseRequest, reply: Reply, ino: Ino, handle: number | undefined): Answer;
  setattr(request: FuseRequest, reply: Reply, ino: Ino, set: FuseSetAttr): Answer;
  readlink(request: FuseRequest, reply: Reply, ino: Ino): Answer;
  symlink(request: FuseRequest, reply: Reply, parent: Ino, name: Buffer, target: Buffer): Answer;
  /** `mode` includes the type bits. */
  mknod(request: FuseRequest, reply: Reply, parent: Ino, name: Buffer, mode: number, rdev: number, umask: number): Answer;
  mkdir(request: FuseRequest, reply: Reply, parent: Ino, name: Buffer, mode: number, umask: number): Answer;
  unlink(request: FuseRequest, reply: Reply, parent: Ino, name: Buffer): Answer;
  rmdir(request: FuseRequest, reply: Reply, parent: Ino, name: Buffer): Answer;
  rename(request: FuseRequest, reply: Reply, parent: Ino, name: Buffer, newParent: Ino, newName: Buffer, flags: number): Answer;
  link(request: FuseRequest, reply: Reply, ino: Ino, newParent: Ino, newName: Buffer): Answer;
  open(request: FuseRequest, reply: Reply, ino: Ino, flags: number): Answer;
  create(request: FuseRequest, reply: Reply, parent: Ino, name: Buffer, flags: number, mode: number, umask: number): Answer;
  read(request: FuseRequest, reply: Reply, ino: Ino, handle: number, offset: number, size: number): Answer;
  /** O_TMPFILE: answered like CREATE. */
  tmpfile?(request: FuseRequest, reply: Reply, parent: Ino, flags: number, mode: number, umask: number): Answer;
  /** `data` is a view of the request buffer: it is valid until the handler answers. */
  write(request: FuseRequest, reply: Reply, ino: Ino, handle: number, offset: number, data: Buffer, killSuidGid: boolean): Answer;
  flush(request: FuseRequest, reply: Reply, ino: Ino, handle: number, lockOwner: bigint): Answer;
  fsync(request: FuseRequest, reply: Reply, ino: Ino, handle: number, dataOnly: boolean): Answer;
  /** `lockOwner` is 0n unless the file system has locks; `flockUnlock`: its BSD lock is to be dropped. */
  release(
    request: FuseRequest,
    reply: Reply,
    ino: Ino,
    handle: number,
    flags: number,
    lockOwner: bigint,
    flockUnlock: boolean,
  ): Answer;
  opendir(request: FuseRequest, reply: Reply, ino: Ino, flags: number): Answer;
  readdir(request: FuseRequest, reply: Reply, ino: Ino, handle: number, offset: number, size: number, plus: boolean): Answer;
  releasedir(request: FuseRequest, reply: Reply, ino: Ino, handle: number): Answer;
  fsyncdir?(request: FuseRequest, reply: Reply, ino: Ino, handle: number): Answer;
  statfs(request: FuseRequest, reply: Reply, ino: Ino): Answer;
  access?(request: FuseRequest, reply: Reply, ino: Ino, mask: number): Answer;
  getxattr?(request: FuseRequest, reply: Reply, ino: Ino, name: string, size: number): Answer;
  setxattr?(request: FuseRequest, reply: Reply, ino: Ino, name: string, value: Buffer, flags: number): Answer;
  listxattr?(request: FuseRequest, reply: Reply, ino: Ino, size: number): Answer;
  removexattr?(request: FuseRequest, reply: Reply, ino: Ino, name: string): Answer;
  fallocate?(request: FuseRequest, reply: Reply, ino: Ino, handle: number, offset: number, length: number, mode: number): Answer;
  /** `command` as ioctl(2) has it, `input` what is given along; `size`: bytes that may be given back. */
  ioctl?(request: FuseRequest, reply: Reply, ino: Ino, handle: number, command: number, input: Buffer, size: number): Answer;
  lseek?(request: FuseRequest, reply: Reply, ino: Ino, handle: number, offset: number, whence: number): Answer;
  copyFileRange?(
    request: FuseRequest,
    reply: Reply,
    inoIn: Ino,
    handleIn: number,
    offsetIn: number,
    inoOut: Ino,
    handleOut: number,
    offsetOut: number,
    length: number,
  ): Answer;
  /** The lock that would be in the way of this one (fcntl F_GETLK). */
  getlk?(request: FuseRequest, reply: Reply, ino: Ino, handle: number, owner: bigint, lock: FuseLock): Answer;
  /** fcntl locks. `wait`: F_SETLKW, ended early by `request.signal`. Present: the kernel asks for every POSIX lock. */
  setlk?(request: FuseRequest, reply: Reply, ino: Ino, handle: number, owner: bigint, lock: FuseLock, wait: boolean): Answer;
  /** BSD locks (`type` as in FuseLock). Present: the kernel asks for every flock(2). */
  flock?(request: FuseRequest, reply: Reply, ino: Ino, handle: number, owner: bigint, type: number, wait: boolean): Answer;
  /** The session ended (unmounted or aborted). */
  destroy?(): void;
}

/**
 * Tells the kernel what it should forget. All are no-ops where the kernel knows nothing of the node. They take effect a
 * little later, in order, and may have to wait for requests that are in hand: an answer must not wait for `done`, which is
 * called when the kernel has taken (or refused) the notification.
 */
export interface Notifier {
  /** Data from `offset`, `length` 0 for all to the end; attributes alone with a negative offset. */
  invalidateInode(ino: Ino, offset: number, length: number, done?: () => void): void;
  invalidateEntry(parent: Ino, name: Buffer, done?: () => void): void;
}

/** An open handle as it is remembered for the next process: the kernel goes on using `handle` after a restart. */
export interface OpenHandle {
  /** Above 0, below 2^53. */
  readonly handle: number;
  readonly ino: Ino;
  /** Flags of open(2), or whatever else the file system wants to know again; 32 bits. */
  readonly flags: number;
  /** What the kernel reads in its place, as in `FuseOpened`. */
  readonly backing?: number;
}

/** Files of the local disk that the kernel reads in place of a handle's file. */
export interface Backing {
  /** Registers an open file, which may be closed then; answers its number. Throws SystemError: EPERM without CAP_SYS_ADMIN, ELOOP on a stacked file system. */
  open(fd: number): number;
  /** Ends a registration, also of an earlier process; handles that were opened with it keep the file. Unknown numbers are ignored. */
  close(id: number): void;
}

/** What a file system notes so that its open handles outlive the process, SIGKILL included. Calls cost about a microsecond. */
export interface HandleJournal {
  /** Call before the answer to OPEN, CREATE or OPENDIR. False where the journal is full: the handle then dies with the process. */
  add(open: OpenHandle): boolean;
  /** Call in RELEASE and RELEASEDIR; unknown handles are ignored. */
  remove(handle: number): void;
  /** What an earlier process left open and the kernel still uses. */
  entries(): OpenHandle[];
  /** The file that it is kept in, where others may keep something behind it. Absent: it is in none. */
  readonly file?: HeldFile;
}

/** A file that lives as long as the session, whoever serves it; what lies before `from` is somebody else's. */
export interface HeldFile {
  readonly fd: number;
  /** Bytes. */
  readonly from: number;
}

/** How `serve` ended: the session is over, or the signal asked to stop and the session lives on in whoever holds the descriptor. */
export type ServeEnd = 'unmounted' | 'stopped';

/** How requests arrive: raw /dev/fuse, or fuse-native. */
export interface FuseTransport {
  readonly name: string;
  readonly notifier: Notifier;
  /** Serves until the session ends or the signal aborts; requests in hand are answered before it resolves. */
  serve(fileSystem: FileSystem, signal?: AbortSignal): Promise<ServeEnd>;
}
