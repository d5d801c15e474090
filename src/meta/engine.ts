/**
 * The engine seam. An engine stores; it knows nothing of permissions, trash or POSIX. It can
 * (1) read a batch of values in one round trip, (2) commit a transaction, that is a list of checks (what the decision
 * rested on) and a list of writes, all or nothing, and (3) scan.
 *
 * A transaction whose check fails changes nothing and answers the current values of what was checked, so that the next
 * try needs no further read. Writes that commute (counters, a directory's times and link count, usage of a directory)
 * are expressed as changes, not as values, and need no check, so many clients can work in one directory at once.
 *
 * Counter names are JuiceFS's own in CamelCase (`nextInode`, `usedSpace`, `lastCleanupFiles`, …); an engine maps them to
 * its keys. Redis: one generic script compares and applies. SQL: one transaction.
 * Errors: FsError (ENOSPC where the database is full, EIO where it does not answer in time); UserError while opening.
 */
import type { Ino } from '../lib/int64.ts';
import type { Bulk } from './bulk.ts';
import type { QuotaKey, QuotaLimits, QuotaRecord, QuotaUsage } from './quota.ts';
import type { Attr, LockedFile, LockKind, NodeType } from './types.ts';

/** The value of a directory entry. */
export interface EntryValue {
  readonly type: NodeType;
  readonly ino: Ino;
}

export interface NamedEntry extends EntryValue {
  readonly name: Buffer;
}

/**
 * How much of a node a decision rests on: everything; what tells who may do what (everything but times, link count,
 * length and rdev); or only that there is one.
 */
export type NodeScope = 'all' | 'access' | 'exists';

/** What one owner of one session has locked in a file. */
export interface LockRecord {
  readonly sid: number;
  /** 64 bits; unique in its session. */
  readonly owner: bigint;
  /** flock: the letter `R` or `W`. posix: one or more range records (lock-ranges.ts). */
  readonly value: Buffer;
}

export type Read =
  | { readonly kind: 'node'; readonly ino: Ino }
  | { readonly kind: 'entry'; readonly parent: Ino; readonly name: Buffer }
  | { readonly kind: 'symlink'; readonly ino: Ino }
  | { readonly kind: 'xattr'; readonly ino: Ino; readonly name: string }
  | { readonly kind: 'xattrNames'; readonly ino: Ino }
  /** Concatenated 24-byte slice records, oldest first; empty where there is no list. */
  | { readonly kind: 'chunk'; readonly ino: Ino; readonly index: number }
  /** Parents of a file with several names: inode → number of names there (only positive counts). */
  | { readonly kind: 'parents'; readonly ino: Ino }
  | { readonly kind: 'entryCount'; readonly ino: Ino }
  | { readonly kind: 'counter'; readonly name: string }
  | { readonly kind: 'dirStat'; readonly ino: Ino }
  | { readonly kind: 'quota'; readonly quota: QuotaKey }
  /** All locks of a kind in a file, in no order. */
  | { readonly kind: 'locks'; readonly of: LockKind; readonly ino: Ino }
  /** A stored access control list (acl-rule.ts). */
  | { readonly kind: 'acl'; readonly id: number };

export interface DirStat {
  readonly length: number;
  readonly space: number;
  readonly inodes: number;
}

/** What a read yields; undefined where there is nothing. */
export interface ValueOf {
  readonly node: Attr | undefined;
  readonly entry: EntryValue | undefined;
  readonly symlink: Buffer | undefined;
  readonly xattr: Buffer | undefined;
  readonly xattrNames: readonly string[];
  readonly chunk: Buffer;
  readonly parents: ReadonlyMap<Ino, number>;
  readonly entryCount: number;
  readonly counter: number;
  readonly dirStat: DirStat | undefined;
  readonly quota: QuotaRecord | undefined;
  readonly locks: readonly LockRecord[];
  readonly acl: Buffer | undefined;
}
export type Values<R extends readonly Read[]> = { readonly [I in keyof R]: ValueOf[R[I]['kind']] };

export type Check =
  | { readonly kind: 'node'; readonly ino: Ino; readonly expect: Attr | undefined; readonly scope: NodeScope }
  | { readonly kind: 'entry'; readonly parent: Ino; readonly name: Buffer; readonly expect: EntryValue | undefined }
  | { readonly kind: 'emptyDirectory'; readonly ino: Ino }
  | { readonly kind: 'xattr'; readonly ino: Ino; readonly name: string; readonly expect: 'present' | 'absent' }
  /** The chunk's list begins with these records; with `whole` it holds nothing else. */
  | { readonly kind: 'chunkPrefix'; readonly ino: Ino; readonly index: number; readonly records: Buffer; readonly whole: boolean }
  /** The delayed slices of this id and time are still there. */
  | { readonly kind: 'delayed'; readonly id: number; readonly time: number }
  /** The limits of a quota are these; undefined: there is no record of it. */
  | { readonly kind: 'quotaLimits'; readonly quota: QuotaKey; readonly expect: QuotaLimits | undefined }
  /** These, in any order, are all the locks of a kind in a file. */
  | { readonly kind: 'locks'; readonly of: LockKind; readonly ino: Ino; readonly expect: readonly LockRecord[] }
  /** The text of `setting`. */
  | { readonly kind: 'setting'; readonly expect: string }
  /** The counter (0 where there is none) is at most this (a job guard: "not done since"). */
  | { readonly kind: 'counterAtMost'; readonly name: string; readonly value: number };

export type Write =
  | { readonly kind: 'putNode'; readonly ino: Ino; readonly attr: Attr }
  /** Sets mtime and ctime and adds to nlink, whatever else the node holds by now; nothing where the node is gone. */
  | { readonly kind: 'touchNode'; readonly ino: Ino; readonly sec: number; readonly nsec: number; readonly nlink: number }
  | { readonly kind: 'removeNode'; readonly ino: Ino }
  | { readonly kind: 'putEntry'; readonly parent: Ino; readonly name: Buffer; readonly value: EntryValue }
  | { readonly kind: 'removeEntry'; readonly parent: Ino; readonly name: Buffer }
  /** One name more or less of a file with several names (engines that derive parents from entries ignore it). */
  | { readonly kind: 'addParent'; readonly ino: Ino; readonly parent: Ino; readonly delta: number }
  | { readonly kind: 'removeParents'; readonly ino: Ino }
  | { readonly kind: 'putSymlink'; readonly ino: Ino; readonly target: Buffer }
  | { readonly kind: 'removeSymlink'; readonly ino: Ino }
  | { readonly kind: 'putXattr'; readonly ino: Ino; readonly name: string; readonly value: Buffer }
  | { readonly kind: 'removeXattr'; readonly ino: Ino; readonly name: string }
  | { readonly kind: 'removeXattrs'; readonly ino: Ino }
  /**
   * Adds records at the end; with `onlyExisting` nothing where there is no list. `newSlice`: a slice that nothing referred
   * to before (SQL gives it its row with one reference; Redis needs none).
   */
  | {
      readonly kind: 'appendSlices';
      readonly ino: Ino;
      readonly index: number;
      readonly records: Buffer;
      readonly onlyExisting: boolean;
      readonly newSlice?: { readonly id: number; readonly size: number };
    }
  /** Replaces the first `count` records by these (compaction); `newSlice` as above. */
  | {
      readonly kind: 'replaceSlices';
      readonly ino: Ino;
      readonly index: number;
      readonly count: number;
      readonly records: Buffer;
      readonly newSlice?: { readonly id: number; readonly size: number };
    }
  | { readonly kind: 'removeChunk'; readonly ino: Ino; readonly index: number }
  /** References more or less. At 0 or below the slice's blocks may be deleted, and `forgetSlice` drops the record after that. */
  | { readonly kind: 'addSliceRef'; readonly id: number; readonly size: number; readonly delta: number }
  | { readonly kind: 'forgetSlice'; readonly id: number; readonly size: number }
  | { readonly kind: 'delaySlices'; readonly id: number; readonly time: number; readonly slices: Buffer }
  | { readonly kind: 'removeDelayed'; readonly id: number; readonly time: number }
  | { readonly kind: 'addCounter'; readonly name: string; readonly delta: number }
  | { readonly kind: 'setCounter'; readonly name: string; readonly value: number }
  /** Changes a directory's usage where one is recorded; else nothing (the caller computes it anew). */
  | { readonly kind: 'addDirStat'; readonly ino: Ino; readonly delta: DirStat }
  | { readonly kind: 'putDirStat'; readonly ino: Ino; readonly value: DirStat }
  | { readonly kind: 'removeDirStat'; readonly ino: Ino }
  /** All directories are to be counted anew. */
  | { readonly kind: 'removeDirStats' }
  /** Makes or changes a quota. Without `usage` that stays as it is, nothing where the quota is new. */
  | { readonly kind: 'putQuota'; readonly quota: QuotaKey; readonly limits: QuotaLimits; readonly usage?: QuotaUsage }
  /** Adds to the usage: of a directory where it has a quota, of a user or group always (a new record has no limits). */
  | { readonly kind: 'addQuotaUsage'; readonly quota: QuotaKey; readonly delta: QuotaUsage }
  | { readonly kind: 'removeQuota'; readonly quota: QuotaKey }
  /** The quotas of all users, or of all groups. */
  | { readonly kind: 'removeQuotas'; readonly of: 'user' | 'group' }
  /** Changes the text of `setting`; the volume is there. */
  | { readonly kind: 'putSetting'; readonly text: string }
  /** The file's data is to be deleted; `time` is now, Unix seconds. */
  | { readonly kind: 'addDelfile'; readonly ino: Ino; readonly length: number; readonly time: number }
  | { readonly kind: 'removeDelfile'; readonly ino: Ino; readonly length: number }
  /** Notes the top of a tree that is being made and has no name yet; `time` (Unix seconds) is changed where it is noted. */
  | { readonly kind: 'addDetached'; readonly ino: Ino; readonly time: number }
  | { readonly kind: 'removeDetached'; readonly ino: Ino }
  | { readonly kind: 'addSustained'; readonly sid: number; readonly ino: Ino }
  | { readonly kind: 'removeSustained'; readonly sid: number; readonly ino: Ino }
  /** Makes or changes what one owner has locked. */
  | ({ readonly kind: 'putLock'; readonly of: LockKind; readonly ino: Ino } & LockRecord)
  /** `last`: the session holds no other lock of this kind in the file. */
  | {
      readonly kind: 'removeLock';
      readonly of: LockKind;
      readonly ino: Ino;
      readonly sid: number;
      readonly owner: bigint;
      readonly last: boolean;
    }
  /** Wakes who waits for locks in this file (`watchLocks`); nothing where the engine cannot. Never fails. */
  | { readonly kind: 'announceLocks'; readonly of: LockKind; readonly ino: Ino }
  | LogWrite;

/**
 * An entry at the end of the change log (changelog.ts): `head` and `tail`, ASCII. With `records` what stands between them is how many
 * records that list holds after the writes before, as far as the official client would say: on Redis 0, on MySQL 0 of one.
 */
export interface LogWrite {
  readonly kind: 'appendLog';
  readonly head: string;
  readonly tail: string;
  readonly records?: { readonly ino: Ino; readonly index: number };
}

/** A piece of the change log. */
export interface LogPart {
  /** The number of the oldest entry that is kept; `newest + 1` where none is. */
  readonly oldest: number;
  /** The highest number that was given; 0 where none was. */
  readonly newest: number;
  readonly entries: readonly { readonly number: number; readonly text: string }[];
}

export interface Transaction {
  readonly checks: readonly Check[];
  readonly writes: readonly Write[];
}

export type CommitResult =
  /**
   * `results` holds, per write: addCounter, the new value; addSliceRef, the references left (true count, in every engine);
   * appendSlices, the list's records afterwards (0: not known, or no list); addDirStat and touchNode, 1 where there was
   * one, else 0; otherwise 0.
   */
  | { readonly ok: true; readonly results: readonly number[] }
  /**
   * Nothing was written. `failed` are the indexes of checks that did not hold. `current` holds, for *every* check of kind
   * node and entry, what is there now (undefined where nothing, and for other kinds).
   */
  | { readonly ok: false; readonly failed: readonly number[]; readonly current: readonly (Attr | EntryValue | undefined)[] };

export interface MetaEngine {
  /** For people: `redis://host/1`. Never a secret. */
  readonly description: string;
  /** Redis keeps the last used id in `nextInode` and `nextChunk`, SQL the next free one. */
  readonly idCountersHold: 'last' | 'next';
  /**
   * Whether usage counters (`usedSpace`, `totalInodes`) go into each transaction, as JuiceFS does on Redis, or are summed up
   * and written once a second, as on SQL, where one hot row would stop parallel writers.
   */
  readonly usageCounters: 'inline' | 'deferred';
  read<const R extends readonly Read[]>(reads: R, signal?: AbortSignal): Promise<Values<R>>;
  /** Entry and node in one round trip, the commonest read of all. The attr is undefined where the node is missing. */
  lookup(parent: Ino, name: Buffer): Promise<{ readonly value: EntryValue; readonly attr: Attr | undefined } | undefined>;
  /**
   * What is known to be so without asking, where the engine hears of changes. As old as news takes to come, and never a ground
   * for a change, nor for what an open file is like: those read. Absent: nothing is kept.
   */
  readonly known?: {
    node(ino: Ino): Attr | undefined;
    /** `null`: there is no such entry. */
    lookup(parent: Ino, name: Buffer): { readonly value: EntryValue; readonly attr: Attr } | null | undefined;
  };
  /**
   * All or nothing, and exactly once: where the connection is lost on the way, the engine finds out whether it was
   * applied. Writes are applied in order. An abort ends only the wait before it is sent.
   */
  commit(transaction: Transaction, signal?: AbortSignal): Promise<CommitResult>;

  /**
   * Names of a directory in batches of about `batch`; a name may come twice (Redis HSCAN; the caller sorts that out), none
   * is left out that is there from beginning to end. Memory does not grow with the directory.
   */
  scanEntries(ino: Ino, batch: number): AsyncIterable<readonly NamedEntry[]>;
  nodes(inos: readonly Ino[]): Promise<readonly (Attr | undefined)[]>;
  /** Chunk indexes of a file that have a list (only asked for where there are very many). */
  scanChunks(ino: Ino): AsyncIterable<number>;
  /** All chunk lists of the volume. */
  scanAllChunks(): AsyncIterable<{ readonly ino: Ino; readonly index: number; readonly records: Buffer }>;
  /** Deleted files whose data is still there, marked before `before` (Unix seconds). */
  scanDelfiles(before: number, limit: number): Promise<readonly { readonly ino: Ino; readonly length: number }[]>;
  /** Tops of trees that have no name yet, noted before `before` (Unix seconds). */
  scanDetached(before: number, limit: number): Promise<readonly Ino[]>;
  /** Slices replaced by compaction (12-byte records) before `before`, kept until now for the trash. */
  scanDelayed(
    before: number,
    limit: number,
  ): Promise<readonly { readonly id: number; readonly time: number; readonly slices: Buffer }[]>;
  /** Everything that `delfiles` holds, in batches; `time` is when it was marked, Unix seconds. */
  allDelfiles(): AsyncIterable<readonly { readonly ino: Ino; readonly length: number; readonly time: number }[]>;
  /** All slices that compaction replaced and that are kept, in batches. */
  allDelayed(): AsyncIterable<readonly { readonly id: number; readonly time: number; readonly slices: Buffer }[]>;
  /** All slices without a reference left, in batches. */
  allUnreferenced(): AsyncIterable<readonly { readonly id: number; readonly size: number }[]>;
  /** All quotas of a kind, in batches. */
  scanQuotas(of: QuotaKey['kind']): AsyncIterable<readonly QuotaRecord[]>;
  /** The files without a name that any session keeps. */
  scanSustained(): AsyncIterable<readonly Ino[]>;
  /** Slices without a reference left, whose blocks still wait to be deleted. */
  scanUnreferenced(limit: number): Promise<readonly { readonly id: number; readonly size: number }[]>;

  /** The text of `setting`, or undefined where the database holds no volume. */
  readSetting(): Promise<string | undefined>;
  /** Writes `setting`. With `create`, makes root (and trash root) and initial counters, and fails (false) where one exists. */
  writeSetting(text: string, create?: { readonly trash: boolean; readonly nowNs: bigint }): Promise<boolean>;

  /** The change log from the number `from` on, at most `limit` entries. */
  readLog(from: number, limit: number): Promise<LogPart>;
  /**
   * Removes from the change log, some ten thousand entries at a time, those before number `before` (exclusive), and all but the last
   * `lines`; answers how many went.
   */
  trimLog(keep: { readonly before?: number; readonly lines?: number }): Promise<number>;
  /**
   * The longest entry of the change log that fits, and the longest list of a chunk, bytes. Numbers of entries may have gaps, and may come to be seen out of their order,
   * where `logGaps` is so.
   */
  readonly longestEntry: number;
  readonly logGaps: boolean;

  /** Access control lists of the volume, at most so many. */
  acls(limit: number): Promise<readonly { readonly id: number; readonly rule: Buffer }[]>;
  /** Stores an access control list (acl-rule.ts) under a new number; with an entry of the change log for a counter that gives it. */
  addAcl(rule: Buffer, log?: LogWrite): Promise<number>;

  /** A new session id (the counter only). */
  newSessionId(log?: LogWrite): Promise<number>;
  /** Writes or renews the session; `info` is the JSON, written only where there is none, or with `replace`. */
  putSession(sid: number, expire: number, info: string, replace?: boolean, log?: LogWrite): Promise<void>;
  sessions(): Promise<readonly { readonly sid: number; readonly expire: number; readonly info: string | undefined }[]>;
  sustained(sid: number): Promise<readonly Ino[]>;
  /** Where the session holds locks; files may be among them where it holds none any more. */
  lockedFiles(sid: number): Promise<readonly LockedFile[]>;
  /**
   * Calls `woken` after every `announceLocks` of this file, by any client, from when the promise resolves until the function
   * that it answers is called. It may be called without a reason, and an announcement may be lost with a connection: who waits
   * looks from time to time, too. Never rejects. Absent: the engine cannot.
   */
  watchLocks?(file: LockedFile, woken: () => void): Promise<() => void>;
  /** Releases (and announces) the locks of a session and removes its record (its sustained inodes must be gone). */
  removeSession(sid: number, log?: LogWrite): Promise<void>;
  /**
   * Proves the credentials of a metadata URL (and of `environment`) for the same database, beside the connection in use; the
   * answer makes the engine go on with them. Throws UserError. Absent where there are none.
   */
  renew?(
    url: string,
    options: { readonly writing: boolean; readonly environment: Readonly<Record<string, string | undefined>> },
  ): Promise<() => Promise<void>>;
  /** All records at once, for dump and load. */
  readonly bulk?: Bulk;
  /** Deletes everything of the volume, `setting` last where it takes several steps. Only `destroy`, an interrupted load, and tests. */
  reset(): Promise<void>;
  close(): Promise<void>;
}

/** What an engine lists and looks through, in bounded batches. */
export type EngineScans = Pick<
  MetaEngine,
  | 'scanEntries'
  | 'scanChunks'
  | 'scanAllChunks'
  | 'scanDelfiles'
  | 'scanDelayed'
  | 'scanDetached'
  | 'allDelfiles'
  | 'allDelayed'
  | 'allUnreferenced'
  | 'scanQuotas'
  | 'scanSustained'
  | 'scanUnreferenced'
  | 'acls'
  | 'sessions'
  | 'sustained'
  | 'lockedFiles'
  | 'readLog'
>;
