/**
 * The engine seam of dump and load: all records of a volume as they are, read in bounded batches and written in bulk. What they mean is
 * not known here; transactions and checks are engine.ts's.
 *
 * Values are the same in every engine: counters of ids hold the next free one, references to a slice are the true count, and so on.
 *
 * A load begins with an empty database and a mark (`LOAD_MARK`), and ends with the setting, written as the mark goes. So nobody mounts
 * what is only half there, and the next load knows what it finds.
 */
import type { Ino } from '../lib/int64.ts';
import type { QuotaRecord } from './quota.ts';
import type { Attr, NodeType } from './types.ts';

/** The counter that says that a load is under way, since when (Unix seconds). */
export const LOAD_MARK = 'juicepodLoad';

/** The counters that a dump keeps. */
export const DUMPED_COUNTERS = ['usedSpace', 'totalInodes', 'nextInode', 'nextChunk', 'nextSession', 'nextTrash'] as const;

export interface XattrRecord {
  readonly ino: Ino;
  readonly name: string;
  readonly value: Buffer;
}

export interface RecordOf {
  readonly counter: { readonly name: string; readonly value: number };
  readonly node: { readonly ino: Ino; readonly attr: Attr };
  readonly entry: { readonly parent: Ino; readonly name: Buffer; readonly type: NodeType; readonly ino: Ino };
  /** So many names of a file with several names are in this directory (engines that derive that from entries ignore it). */
  readonly parent: { readonly ino: Ino; readonly parent: Ino; readonly count: number };
  /** 24-byte slice records, the whole list. */
  readonly chunk: { readonly ino: Ino; readonly index: number; readonly records: Buffer };
  /** Only read where it is not 1. Written, in an engine that keeps the count of every slice, also where it is. */
  readonly sliceRef: { readonly id: number; readonly size: number; readonly refs: number };
  readonly symlink: { readonly ino: Ino; readonly target: Buffer };
  readonly xattr: XattrRecord;
  readonly sustained: { readonly sid: number; readonly inos: readonly Ino[] };
  /** `time`: when it was removed, Unix seconds. */
  readonly delfile: { readonly ino: Ino; readonly length: number; readonly time: number };
  readonly acl: { readonly id: number; readonly rule: Buffer };
  readonly dirStat: {
    readonly ino: Ino;
    readonly value: { readonly length: number; readonly space: number; readonly inodes: number };
  };
  readonly quota: QuotaRecord;
}

export type RecordKind = keyof RecordOf;
export type Batch = { readonly [K in RecordKind]: { readonly kind: K; readonly rows: readonly RecordOf[K][] } }[RecordKind];

/** In the order in which they are best loaded. */
export const RECORD_KINDS: readonly RecordKind[] = [
  'counter',
  'node',
  'entry',
  'parent',
  'chunk',
  'sliceRef',
  'symlink',
  'xattr',
  'sustained',
  'delfile',
  'acl',
  'dirStat',
  'quota',
];

/**
 * What a database holds: nothing; a volume; what a load left that was not finished (since when, Unix seconds); something else, which is
 * not a volume.
 */
export type Contents =
  | { readonly kind: 'empty' }
  | { readonly kind: 'volume' }
  | { readonly kind: 'loading'; readonly since: number }
  | { readonly kind: 'other'; readonly what: string };

export interface Bulk {
  /** Records of these kinds, batch by batch in no order (counters first); not a snapshot unless the engine was opened as one. */
  records(kinds: readonly RecordKind[]): AsyncIterable<Batch>;
  /** The extended attributes of each node, by name. */
  xattrs(inos: readonly Ino[]): Promise<readonly (readonly XattrRecord[])[]>;
  /** The number of the newest entry of the change log, 0 where there is none. */
  lastChange(): Promise<number>;

  contents(): Promise<Contents>;
  /** Makes what records are put into (tables). May be called again. */
  prepare(): Promise<void>;
  /** Writes records. Those that are there already with the same key stay as they are, or become these: give each once. */
  put(batch: Batch): Promise<void>;
  /** The volume is there from now on: writes its setting and takes the mark away. */
  finish(setting: string): Promise<void>;
}
