/**
 * Metadata as its users see it: the operations of a JuiceFS volume. Semantics live in this folder once, over small
 * engines (engine.ts); callers never see an engine. Every operation fails with FsError.
 */
import type { Ino } from '../lib/int64.ts';
import type { AclRule } from './acl-rule.ts';
import type { Format } from './format.ts';

/** Node types as JuiceFS stores them. */
export const NodeType = { File: 1, Directory: 2, Symlink: 3, Fifo: 4, BlockDevice: 5, CharDevice: 6, Socket: 7 } as const;
export type NodeType = (typeof NodeType)[keyof typeof NodeType];

/** Node flags (bit mask). */
export const NodeFlag = { Immutable: 1, Append: 2, SkipTrash: 32 } as const;

export const CHUNK_SIZE = 64 * 1024 * 1024;

export interface Attr {
  readonly flags: number;
  readonly type: NodeType;
  /** Permission bits, 07777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Seconds since the epoch, and the nanoseconds to add. */
  readonly atime: number;
  readonly atimensec: number;
  readonly mtime: number;
  readonly mtimensec: number;
  readonly ctime: number;
  readonly ctimensec: number;
  readonly nlink: number;
  /** Bytes; 4096 for directories, the target's length for symlinks. */
  readonly length: number;
  readonly rdev: number;
  /** The parent directory; 0 where the file has several names. */
  readonly parent: Ino;
  readonly accessAcl: number;
  readonly defaultAcl: number;
  readonly tier: number;
}

/** Who asks. */
export interface Context {
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups, where they are known. @default [gid] */
  readonly gids?: readonly number[];
  readonly pid: number;
  /** False where the kernel has checked permissions already (default_permissions). @default false */
  readonly checkPermission?: boolean;
  /** Access control lists by number, for those whose permissions are checked here. The metadata itself fills this in. */
  readonly ruleOf?: (id: number) => AclRule;
  readonly signal?: AbortSignal;
}

/** The client itself. */
export const SYSTEM: Context = { uid: 0, gid: 0, pid: 0 };

export interface Entry {
  readonly ino: Ino;
  readonly attr: Attr;
}

export interface DirEntry {
  readonly name: Buffer;
  readonly ino: Ino;
  readonly type: NodeType;
  /** Only from `readdir` with attributes; undefined also where the node is missing (a corrupt entry). */
  readonly attr?: Attr | undefined;
}

export interface SetAttr {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  /** `'now'` is the client's clock. */
  readonly atime?: { readonly sec: number; readonly nsec: number } | 'now';
  readonly mtime?: { readonly sec: number; readonly nsec: number } | 'now';
  readonly flags?: number;
}

/** One piece of a chunk, in order; `id` 0 is a hole. `off`/`len` are the window of the slice seen at `pos`. */
export interface Piece {
  readonly pos: number;
  readonly id: number;
  readonly size: number;
  readonly off: number;
  readonly len: number;
}

export interface StatFs {
  readonly totalBytes: number;
  readonly availableBytes: number;
  readonly usedInodes: number;
  readonly availableInodes: number;
}

export interface XattrMode {
  readonly create?: boolean;
  readonly replace?: boolean;
}

/** Types of lock, numbered as fcntl(2) does. */
export const LockType = { Read: 0, Write: 1, None: 2 } as const;
export type LockType = (typeof LockType)[keyof typeof LockType];

/** Two kinds of lock that know nothing of each other: of whole files (flock(2)), and of ranges of bytes (fcntl(2)). */
export type LockKind = 'flock' | 'posix';

/** A file, and which of its locks. */
export interface LockedFile {
  readonly of: LockKind;
  readonly ino: Ino;
}

/** A lock on bytes of a file, or (type None) that they are to be unlocked. */
export interface RangeLock {
  readonly type: LockType;
  /** First and last byte; 2^63-1 is the end of any file. */
  readonly start: bigint;
  readonly end: bigint;
  /** The process that took it; 0 where it is of another client. */
  readonly pid: number;
}

export const RenameFlag = { NoReplace: 1, Exchange: 2, Whiteout: 4 } as const;

export interface SessionInfo {
  readonly sid: number;
  /** Unix seconds. */
  readonly expire: number;
  readonly version: string;
  readonly hostName: string;
  readonly mountPoint: string;
  readonly mountTime: string;
  readonly processId: number;
  /** Which credentials the client uses, where the operator numbers them; else empty. Ours alone: others do not say. */
  readonly generation: string;
}

/** Does something on behalf of a caller whose permissions are looked at, as many times as it takes to know them. */
export type As = <T>(operation: (ctx: Context) => Promise<T>) => Promise<T>;

/** What lies in a tree, its top included. */
export interface TreeUsage {
  /** Bytes of files. */
  readonly length: number;
  /** Bytes as charged: a multiple of 4096 for each node. */
  readonly size: number;
  readonly files: number;
  readonly dirs: number;
}

export interface TreeSummary extends TreeUsage {
  /** 0 of what stands for several (`...`). */
  readonly ino: Ino;
  /** From the top of the tree on, which is the empty path; names that are not UTF-8 are shown as well as can be. */
  readonly path: string;
  readonly type: NodeType;
  /** The largest parts first. */
  readonly children?: readonly TreeSummary[];
}

export interface RemoveTreeOptions {
  /** What is removed does not go to the trash. @default false */
  readonly skipTrash?: boolean;
  /** Removals at once. @default 50 */
  readonly threads?: number;
  /** Called for each name that was removed. */
  readonly onRemoved?: () => void;
  readonly signal?: AbortSignal;
}

export interface SummaryOptions {
  /** Counts nodes, not what is recorded of directories. @default false */
  readonly strict?: boolean;
  /** Told what was counted since it was last called. */
  readonly onCounted?: (files: number, bytes: number) => void;
  readonly signal?: AbortSignal;
}

export interface CloneOptions {
  /** Keeps owner, mode and times, as far as the caller may. */
  readonly preserve: boolean;
  /** Of the caller; taken from modes that are not preserved. */
  readonly umask: number;
  /** Directories or groups of files at once. @default 4 */
  readonly threads?: number;
  /** How many nodes there are likely to be; told once. */
  readonly onTotal?: (inodes: number) => void;
  /** So many more were made. */
  readonly onCloned?: (inodes: number) => void;
  readonly signal?: AbortSignal;
}

/** Who has locked a file. */
export interface NodeLocks {
  /** `type` is `R` or `W`. */
  readonly whole: readonly { readonly sid: number; readonly owner: bigint; readonly type: string }[];
  readonly ranges: readonly { readonly sid: number; readonly owner: bigint; readonly lock: RangeLock }[];
}

/** What the owner of a Meta does on its behalf; given at construction. */
export interface MetaCallbacks {
  /** The blocks of this slice are no longer referred to: delete them. A failure is retried by a later job. */
  deleteSlice?(id: number, size: number): Promise<void>;
  /** This chunk has many slices: compact it when there is time, if that is worth it. Resolves when that is over, however it ended. */
  compactChunk?(ino: Ino, index: number): Promise<void>;
  /** The volume's format changed (seen at a heartbeat). */
  formatChanged?(): void;
  /** The volume is gone or was formatted anew under us; the mount must end (exit code 11). */
  lost?(reason: string): void;
}

export interface Meta {
  /** The volume's format as last seen (a heartbeat reloads it); secrets as they are stored. */
  readonly format: Format;

  /**
   * Registers this client (unless read-only) and starts heartbeat and background jobs. `resume` is the session of an earlier
   * client of the same mount, whose open files and locks this one goes on with. `generation` names the credentials in use.
   */
  newSession(mountPoint: string, resume?: number, generation?: string): Promise<number>;
  /** Tells others in the session which credentials are in use from now on. */
  describeSession(generation: string | undefined): Promise<void>;
  /**
   * After a take-over, when every file that is still open has been opened again: the files without a name that the earlier client
   * kept are deleted with their last close, or now where nobody has them open.
   */
  resumed(): Promise<void>;
  /** Flushes statistics, releases what this session holds, ends background work, closes the engine. With `keepSession` its session lives on for the next client. */
  close(options?: { readonly keepSession?: boolean }): Promise<void>;

  lookup(ctx: Context, parent: Ino, name: Buffer): Promise<Entry>;
  getattr(ctx: Context, ino: Ino): Promise<Attr>;
  /** EACCES where the mode does not grant the caller `mask` (4 read, 2 write, 1 execute). */
  access(ctx: Context, ino: Ino, mask: number): Promise<void>;
  setattr(ctx: Context, ino: Ino, set: SetAttr): Promise<Attr>;
  /** `opened`: by somebody who has the file open, which the change log says. @default false */
  truncate(ctx: Context, ino: Ino, length: number, opened?: boolean): Promise<Attr>;
  fallocate(ctx: Context, ino: Ino, mode: number, offset: number, length: number): Promise<Attr>;
  /**
   * Shows a range of a file at an offset of another one, or of the same one where the ranges do not overlap (EINVAL). Answers how many
   * bytes were copied, perhaps fewer than asked for, 0 at the source's end; and the target's attributes. Of both files nothing may
   * wait to be committed.
   */
  copyFileRange(
    ctx: Context,
    from: Ino,
    offset: number,
    to: Ino,
    toOffset: number,
    length: number,
  ): Promise<{ readonly copied: number; readonly attr: Attr }>;
  /** Where data, or a hole, begins at or behind `offset`, bytes; the end of the file is a hole. ENXIO where there is none. */
  seek(ctx: Context, ino: Ino, offset: number, want: 'data' | 'hole'): Promise<number>;
  mknod(ctx: Context, parent: Ino, name: Buffer, type: NodeType, mode: number, umask: number, rdev: number): Promise<Entry>;
  mkdir(ctx: Context, parent: Ino, name: Buffer, mode: number, umask: number): Promise<Entry>;
  /** Creates and opens. With `exclusive` an existing name is EEXIST, else an existing file is opened. */
  create(ctx: Context, parent: Ino, name: Buffer, mode: number, umask: number, exclusive: boolean): Promise<Entry>;
  /** Creates and opens a file that has no name and goes with its last close, unless `link` gives it one (O_TMPFILE). */
  tmpfile(ctx: Context, parent: Ino, mode: number, umask: number): Promise<Entry>;
  symlink(ctx: Context, parent: Ino, name: Buffer, target: Buffer): Promise<Entry>;
  readlink(ctx: Context, ino: Ino): Promise<Buffer>;
  /** Also of a file without a name that is open here; the kernel allows that for those of `tmpfile` alone. */
  link(ctx: Context, ino: Ino, parent: Ino, name: Buffer): Promise<Attr>;
  unlink(ctx: Context, parent: Ino, name: Buffer): Promise<void>;
  rmdir(ctx: Context, parent: Ino, name: Buffer): Promise<void>;
  /** Answers the moved entry, and the replaced or exchanged one where there was one. */
  rename(
    ctx: Context,
    parent: Ino,
    name: Buffer,
    newParent: Ino,
    newName: Buffer,
    flags: number,
  ): Promise<{ moved: Entry; replaced?: Entry }>;
  /**
   * Lists a directory without `.` and `..`, in batches, each name once; memory grows by a few bytes a name at most. A
   * name that is there from beginning to end is listed; one that comes or goes meanwhile may be or not. Ending the
   * iteration early is how it is closed.
   */
  readdir(ctx: Context, ino: Ino, withAttr: boolean): AsyncIterable<readonly DirEntry[]>;

  getxattr(ctx: Context, ino: Ino, name: string): Promise<Buffer>;
  setxattr(ctx: Context, ino: Ino, name: string, value: Buffer, mode: XattrMode): Promise<void>;
  listxattr(ctx: Context, ino: Ino): Promise<readonly string[]>;
  removexattr(ctx: Context, ino: Ino, name: string): Promise<void>;

  /**
   * All names of a directory with their attributes, for who expects to be asked for them; undefined where there are more than `most`.
   * Those of nodes of which something else was seen meanwhile are left out. Nobody's rights are asked for, and no time of access is noted.
   */
  entriesAhead(ino: Ino, most: number): Promise<readonly DirEntry[] | undefined>;

  /** Fresh attributes of several nodes in one round trip; undefined for those that are not there. */
  attributes(inos: readonly Ino[]): Promise<readonly (Attr | undefined)[]>;
  /**
   * What this client last saw of a node, its own changes included: no older than the last answer about it. Undefined where it
   * saw nothing. Others may have changed it since: only for who may be as late as the kernel's cache.
   */
  lastSeen(ino: Ino): Attr | undefined;

  /**
   * Locks a whole file (flock(2)), or unlocks it. Fails with EAGAIN where others hold it, or waits for them (`wait`) until
   * `ctx.signal` aborts (EINTR). `owner` is 64 bits, of an open file description. As on Linux, what the owner holds is given up
   * before another type is taken.
   */
  flock(ctx: Context, ino: Ino, owner: bigint, type: LockType, wait: boolean): Promise<void>;
  /** Locks or unlocks bytes of a file (fcntl(2)) for an owner, likewise. */
  setlk(ctx: Context, ino: Ino, owner: bigint, lock: RangeLock, wait: boolean): Promise<void>;
  /** What would be in the way of such a lock. */
  getlk(ctx: Context, ino: Ino, owner: bigint, lock: RangeLock): Promise<RangeLock | undefined>;
  /** True where somebody of this session holds locks on bytes of the file. */
  holdsLocks(ino: Ino): boolean;
  /**
   * Releases what an owner that has closed the file, or (undefined) everybody of this session, holds in it. Undefined where that
   * is nothing. Never rejects: where the database does not answer, it goes on in the background.
   */
  dropLocks(file: LockedFile, owner?: bigint): Promise<void> | undefined;

  /** Counts an open of this session; attributes are fresh from the engine (close-to-open). */
  open(ctx: Context, ino: Ino, flags: number): Promise<Attr>;
  /** Ends an open; the last one of an unlinked file deletes it. */
  release(ino: Ino): Promise<void>;

  /** The view of one chunk, pieces in order from 0; from the cache of open files where times and length still stand. */
  readChunk(ino: Ino, index: number): Promise<readonly Piece[]>;
  /**
   * The same of many chunks in one round trip, as the engine has them now, and nothing is kept of them. Undefined where a chunk has no
   * list: a hole, or no file (readChunk tells which).
   */
  readChunks(
    chunks: readonly { readonly ino: Ino; readonly index: number }[],
  ): Promise<readonly (readonly Piece[] | undefined)[]>;
  /** Drops what is cached of a file's slices (a block was missing: the list was old). */
  invalidateChunk(ino: Ino, index: number): void;
  newSliceId(): Promise<number>;
  /** Room for what will be written into a file before it is committed; see `Room`. */
  room(ino: Ino): Room;
  /**
   * Commits one uploaded slice at `pos` of a chunk; answers the new attributes. mtime is when the data was written. Fails with
   * EDQUOT or ENOSPC where there is no room; with `room` it was asked for before, and the commit is not refused.
   */
  writeSlice(
    ctx: Context,
    ino: Ino,
    index: number,
    pos: number,
    slice: { readonly id: number; readonly size: number },
    mtimeNs: bigint,
    room?: Room,
  ): Promise<Attr>;
  /**
   * The same of a slice that holds several parts of the file, which may lie in different chunks and must not overlap; all are
   * seen at once.
   */
  writeParts(
    ctx: Context,
    ino: Ino,
    slice: { readonly id: number; readonly size: number },
    parts: readonly SlicePart[],
    mtimeNs: bigint,
    room?: Room,
  ): Promise<Attr>;
  /** What a compaction of the chunk would do, or undefined where nothing is to be gained; with `worth`, or too little for its cost. */
  planCompaction(ino: Ino, index: number, worth?: boolean): Promise<CompactionPlan | undefined>;
  /** Swaps the compacted records for one slice. False where the list had changed meanwhile (delete the new blocks). */
  commitCompaction(plan: CompactionPlan, slice: { readonly id: number; readonly size: number }): Promise<boolean>;

  /** Copies a file or a tree that shares the data, see clone.ts. */
  clone(ctx: Context, source: Ino, parent: Ino, name: Buffer, options: CloneOptions): Promise<Entry>;
  /** Removes a name and all below it, see remove-tree.ts. */
  removeTree(ctx: Context, parent: Ino, name: Buffer, options?: RemoveTreeOptions): Promise<void>;
  /** What a node takes with what is in it, directly or at any depth. */
  usageBelow(ino: Ino, options: SummaryOptions & { readonly recursive: boolean }): Promise<TreeUsage>;
  /** The same of a tree with its largest parts. */
  summarizeTree(ino: Ino, options: SummaryOptions & { readonly depth: number; readonly entries: number }): Promise<TreeSummary>;
  /** Every path of a node from the directory `root` on; those that lie elsewhere are left out. */
  paths(ino: Ino, root: Ino): Promise<readonly Buffer[]>;
  /** True where a name of the node lies at or below the directory `top`. */
  liesBelow(ino: Ino, top: Ino): Promise<boolean>;
  /** The locks of all sessions in a file. */
  locks(ino: Ino): Promise<NodeLocks>;

  /** Of the volume; where the node lies in a directory with a quota, of that directory. */
  statfs(ctx: Context, ino: Ino): Promise<StatFs>;
  /** Live sessions, for `status`. */
  sessions(): Promise<readonly SessionInfo[]>;
  usage(): Promise<{ readonly bytes: number; readonly inodes: number }>;
  /** Every slice id that files refer to, streamed (for destroy, gc and tests). */
  slices(): AsyncIterable<{ readonly ino: Ino; readonly id: number; readonly size: number }>;
}

/**
 * What is set aside, in the limits of the volume and in quotas, for data of one file that was accepted and is not committed
 * yet. So a write is refused when it is made, not lost afterwards.
 */
export interface Room {
  /**
   * Sets aside what the file needs to become `length` bytes long, beyond the `committed` bytes it has. Undefined where that is
   * done at once; the promise rejects with ENOSPC or EDQUOT, and then nothing is set aside.
   */
  extend(length: number, committed: number): Promise<void> | undefined;
  /** So many bytes of it (as charged) are committed. `writeSlice` does this itself. */
  settle(space: number): void;
  /** Nothing waits to be committed any more: gives back what is left. */
  end(): void;
}

/** A part of a slice, `len` bytes from `off` on, seen at `pos` of a chunk. */
export interface SlicePart {
  readonly index: number;
  readonly pos: number;
  readonly off: number;
  readonly len: number;
}

export interface CompactionPlan {
  readonly ino: Ino;
  readonly index: number;
  /** Records left as they are at the front. */
  readonly skipped: number;
  /** Raw records, 24 bytes each, that the commit must still find at the front of the list. */
  readonly snapshot: Buffer;
  /** Where the merged slice begins in the chunk, its bytes, and what to copy (holes are zeros). */
  readonly pos: number;
  readonly size: number;
  readonly pieces: readonly Piece[];
}

/** A moment, as nodes store it. */
export interface Moment {
  readonly sec: number;
  readonly nsec: number;
}
