/**
 * Writes the tree of a dump into an empty database, entry by entry as it is read: what follows from the tree is made anew (parents and
 * link counts, references to slices, statistics of directories, usage), for a dump may be of a directory only, or a little inconsistent.
 *
 * Memory: FILES entries that wait, one bit for each slice, the access control lists that differ, and usage by owner where that is kept.
 * Whether a file was met before is asked of the database, a batch at a time; so files with several names take no memory.
 */
import { type Ino, isTrash, ROOT_INO, TRASH_INO } from '../../lib/int64.ts';
import { type AclRule, encodeRule } from '../acl-rule.ts';
import type { Batch, Bulk, RecordKind, RecordOf } from '../bulk.ts';
import type { DirStat, EntryValue, MetaEngine, Write } from '../engine.ts';
import type { QuotaUsage } from '../quota.ts';
import { encodeSlices, type SliceRecord } from '../records.ts';
import { charged, statOf } from '../stats.ts';
import { type Attr, NodeType } from '../types.ts';
import { SeenIds } from './seen.ts';

/** Files that wait to be written, and slices of them. */
const FILES = 500;
const SLICES = 20_000;
const ROWS = 1000;
const WRITES = 200;

export interface FileEntry {
  readonly ino: Ino;
  /** Parent and links are set here. */
  readonly attr: Attr;
  readonly parent: Ino;
  readonly target: Buffer | undefined;
  readonly xattrs: readonly { readonly name: string; readonly value: Buffer }[];
  readonly chunks: readonly { readonly index: number; readonly slices: readonly SliceRecord[] }[];
}

export interface TreeTotals {
  readonly usedSpace: number;
  readonly totalInodes: number;
  /** The next free ones. */
  readonly nextInode: number;
  readonly nextChunk: number;
  /** The last hour of the trash. */
  readonly nextTrash: number;
  readonly users: ReadonlyMap<number, QuotaUsage>;
  readonly groups: ReadonlyMap<number, QuotaUsage>;
}

export class TreeWriter {
  readonly #engine: MetaEngine;
  readonly #bulk: Bulk;
  readonly #owners: boolean;
  readonly #slicesSeen = new SeenIds();
  readonly #acls = new Map<string, number>();
  readonly #users = new Map<number, QuotaUsage>();
  readonly #groups = new Map<number, QuotaUsage>();
  readonly #rows: { readonly [K in RecordKind]?: RecordOf[K][] } = { node: [], entry: [], dirStat: [], quota: [] };
  #writes: Write[] = [];
  #files: FileEntry[] = [];
  #slices = 0;
  #usedSpace = 0;
  #totalInodes = 0;
  #nextInode = 2;
  #nextChunk = 1;
  #nextTrash = 0;

  /** `owners`: usage of users and groups is counted. */
  constructor(engine: MetaEngine, bulk: Bulk, owners: boolean) {
    this.#engine = engine;
    this.#bulk = bulk;
    this.#owners = owners;
  }

  async row<K extends 'node' | 'entry' | 'dirStat' | 'quota'>(kind: K, row: RecordOf[K]): Promise<void> {
    const rows = this.#rows[kind] as RecordOf[K][];
    if (rows.push(row) < ROWS) return;
    await this.#bulk.put({ kind, rows: rows.splice(0) } as Batch);
  }

  /** The number of an access control list; the same for equal ones. */
  async acl(rule: AclRule | undefined): Promise<number> {
    if (!rule) return 0;
    const bytes = encodeRule(rule);
    const key = bytes.toString('latin1');
    let id = this.#acls.get(key);
    if (id === undefined) {
      this.#acls.set(key, (id = this.#acls.size + 1));
      await this.#bulk.put({ kind: 'acl', rows: [{ id, rule: bytes }] });
    }
    return id;
  }

  /** A name in a directory. */
  entry(parent: Ino, name: Buffer, value: EntryValue): Promise<void> {
    return this.row('entry', { parent, name, ...value });
  }

  /** A directory, after everything in it. `stat`: what lies directly in it; undefined where that is not kept. */
  async directory(
    ino: Ino,
    attr: Attr,
    stat: DirStat | undefined,
    xattrs: readonly { readonly name: string; readonly value: Buffer }[],
  ): Promise<void> {
    this.#count(ino, attr);
    await this.row('node', { ino, attr });
    if (stat && ino !== TRASH_INO) await this.row('dirStat', { ino, value: stat });
    if (xattrs.length > 0) await this.#bulk.put({ kind: 'xattr', rows: xattrs.map((xattr) => ({ ino, ...xattr })) });
  }

  /** Whatever is no directory, under one of its names. */
  async file(file: FileEntry): Promise<void> {
    this.#files.push(file);
    for (const { slices } of file.chunks) this.#slices += slices.length;
    if (this.#files.length >= FILES || this.#slices >= SLICES) await this.#flushFiles();
  }

  /**
   * For a file with very many slices: whether its chunks are to be written now, by `chunks`, for they are not yet in the database. The file
   * itself follows, without them.
   */
  async isNew(ino: Ino): Promise<boolean> {
    await this.#flushFiles();
    const [attr] = await this.#engine.nodes([ino]);
    return attr === undefined;
  }

  chunks(ino: Ino, chunks: FileEntry['chunks']): Promise<void> {
    return this.#putChunks([{ ino, chunks }]);
  }

  async #write(write: Write): Promise<void> {
    if (this.#writes.push(write) >= WRITES) await this.#commit();
  }

  async #commit(): Promise<void> {
    const writes = this.#writes;
    this.#writes = [];
    if (writes.length > 0) await this.#engine.commit({ checks: [], writes });
  }

  #count(ino: Ino, attr: Attr): void {
    if (isTrash(ino)) this.#nextTrash = Math.max(this.#nextTrash, ino - TRASH_INO);
    else this.#nextInode = Math.max(this.#nextInode, ino + 1);
    if (ino === ROOT_INO || ino === TRASH_INO) return;
    const { space } = attr.type === NodeType.Directory ? { space: charged(0) } : statOf(attr);
    this.#usedSpace += space;
    this.#totalInodes++;
    if (!this.#owners || isTrash(ino)) return;
    for (const [owners, id] of [
      [this.#users, attr.uid],
      [this.#groups, attr.gid],
    ] as const) {
      const before = owners.get(id) ?? { space: 0, inodes: 0 };
      owners.set(id, { space: before.space + space, inodes: before.inodes + 1 });
    }
  }

  /** Writes the files that wait: new ones at once, further names of those that are there as changes of these. */
  async #flushFiles(): Promise<void> {
    const files = Map.groupBy(this.#files, ({ ino }) => ino);
    this.#files = [];
    this.#slices = 0;
    if (files.size === 0) return;
    const present = await this.#engine.nodes([...files.keys()]);
    const nodes: RecordOf['node'][] = [];
    const parents: RecordOf['parent'][] = [];
    const symlinks: RecordOf['symlink'][] = [];
    const xattrs: RecordOf['xattr'][] = [];
    const chunks: { readonly ino: Ino; readonly chunks: FileEntry['chunks'] }[] = [];
    for (const [at, [ino, names]] of [...files].entries()) {
      const [file] = names as [FileEntry];
      const before = present[at];
      if (before) {
        await this.#write({ kind: 'putNode', ino, attr: { ...before, nlink: before.nlink + names.length, parent: 0 as Ino } });
        for (const parent of [...(before.parent === 0 ? [] : [before.parent]), ...names.map((name) => name.parent)])
          await this.#write({ kind: 'addParent', ino, parent, delta: 1 });
        continue;
      }
      const several = names.length > 1;
      const attr = { ...file.attr, nlink: names.length, parent: several ? (0 as Ino) : file.parent };
      this.#count(ino, attr);
      nodes.push({ ino, attr });
      if (several)
        for (const [parent, all] of Map.groupBy(names, (name) => name.parent)) parents.push({ ino, parent, count: all.length });
      if (file.target) symlinks.push({ ino, target: file.target });
      for (const xattr of file.xattrs) xattrs.push({ ino, ...xattr });
      if (file.chunks.length > 0) chunks.push({ ino, chunks: file.chunks });
    }
    await this.#bulk.put({ kind: 'node', rows: nodes });
    await this.#bulk.put({ kind: 'parent', rows: parents });
    await this.#bulk.put({ kind: 'symlink', rows: symlinks });
    await this.#bulk.put({ kind: 'xattr', rows: xattrs });
    await this.#putChunks(chunks);
    await this.#commit();
  }

  /** Chunks of several files together. */
  async #putChunks(files: readonly { readonly ino: Ino; readonly chunks: FileEntry['chunks'] }[]): Promise<void> {
    const rows = files.flatMap(({ ino, chunks }) =>
      chunks
        .filter(({ slices }) => slices.length > 0)
        .map(({ index, slices }) => ({ ino, index, records: encodeSlices(slices) })),
    );
    if (rows.length > 0) await this.#bulk.put({ kind: 'chunk', rows });
    for (const { chunks } of files) await this.#refer(chunks);
  }

  async #refer(chunks: FileEntry['chunks']): Promise<void> {
    for (const { slices } of chunks)
      for (const { id, size } of slices) {
        if (id === 0) continue;
        this.#nextChunk = Math.max(this.#nextChunk, id + 1);
        if (!this.#slicesSeen.add(id)) await this.#write({ kind: 'addSliceRef', id, size, delta: 1 });
      }
  }

  /** Writes all that waits, and answers what the tree adds up to. */
  async finish(): Promise<TreeTotals> {
    await this.#flushFiles();
    for (const kind of Object.keys(this.#rows) as ('node' | 'entry' | 'dirStat' | 'quota')[]) {
      const rows = this.#rows[kind] as readonly RecordOf[typeof kind][];
      if (rows.length > 0) await this.#bulk.put({ kind, rows } as Batch);
      this.#rows[kind]?.splice(0);
    }
    await this.#commit();
    return {
      usedSpace: this.#usedSpace,
      totalInodes: this.#totalInodes,
      nextInode: this.#nextInode,
      nextChunk: this.#nextChunk,
      nextTrash: this.#nextTrash,
      users: this.#users,
      groups: this.#groups,
    };
  }
}
