/**
 * The operations of `Meta`: each is carried out in the file of its concept, over the volume, and what its caller may do is checked on the way.
 * Holds no state of its own.
 */
import { FsError } from '../lib/errors.ts';
import { type Ino, ROOT_INO } from '../lib/int64.ts';
import { UnknownRule } from './acls.ts';
import { getxattr, listxattr, removexattr, setattr, setxattr } from './attributes.ts';
import { clone } from './clone.ts';
import { copyFileRange } from './copy.ts';
import { link, makeNode, makeUnnamed } from './create.ts';
import { commitCompaction, fallocate, planCompaction, readChunk, readChunks, truncate, writeParts } from './data.ts';
import { liesBelow, locksOf, pathsOf } from './inspect.ts';
import { MAX_SYMLINK } from './names.ts';
import { attributes, entriesAhead, getattr, lookup, open, readdir, readlink, release } from './namespace.ts';
import { MAY_READ, requireAccess } from './permissions.ts';
import type { QuotaRecord } from './quota.ts';
import { rmdir, unlink } from './remove.ts';
import { removeTree } from './remove-tree.ts';
import { rename } from './rename.ts';
import { seek } from './seek.ts';
import { allSlices, fullness, statfs } from './summary.ts';
import { summarize, summarizeTree } from './tree-summary.ts';
import {
  type Attr,
  type CloneOptions,
  type CompactionPlan,
  type Context,
  type DirEntry,
  type Entry,
  type LockedFile,
  type LockType,
  type Meta,
  type NodeLocks,
  NodeType,
  type Piece,
  type RangeLock,
  type RemoveTreeOptions,
  type Room,
  type SetAttr,
  type SlicePart,
  type StatFs,
  type TreeSummary,
  type TreeUsage,
  type XattrMode,
} from './types.ts';
import type { Volume } from './volume.ts';

/** All of `Meta` but what begins and ends with a session. */
type OfVolume = Omit<Meta, 'format' | 'newSession' | 'describeSession' | 'resumed' | 'close' | 'sessions'>;

export abstract class Operations implements OfVolume {
  protected readonly volume: Volume;

  constructor(volume: Volume) {
    this.volume = volume;
  }

  /**
   * Carries out an operation for somebody whose permissions are checked here: those may rest on access control lists, which are
   * read when they are asked for.
   */
  #as<T>(ctx: Context, operation: (as: Context) => Promise<T>): Promise<T> {
    return ctx.checkPermission ? this.#checked(ctx, operation) : operation(ctx);
  }

  async #checked<T>(ctx: Context, operation: (as: Context) => Promise<T>): Promise<T> {
    const { acls } = this.volume;
    const as = { ...ctx, ruleOf: acls.known };
    for (;;) {
      try {
        return await operation(as);
      } catch (error) {
        if (!(error instanceof UnknownRule)) throw error;
        await acls.rule(error.id);
      }
    }
  }

  lookup(ctx: Context, parent: Ino, name: Buffer): Promise<Entry> {
    return this.#as(ctx, (as) => lookup(this.volume, as, parent, name));
  }

  getattr(ctx: Context, ino: Ino): Promise<Attr> {
    return getattr(this.volume, ctx, ino);
  }

  attributes(inos: readonly Ino[]): Promise<readonly (Attr | undefined)[]> {
    return attributes(this.volume, inos);
  }

  entriesAhead(ino: Ino, most: number): Promise<readonly DirEntry[] | undefined> {
    return entriesAhead(this.volume, ino, most);
  }

  lastSeen(ino: Ino): Attr | undefined {
    return this.volume.guesses.node(ino);
  }

  async access(ctx: Context, ino: Ino, mask: number): Promise<void> {
    await this.#as({ ...ctx, checkPermission: true }, async (as) => requireAccess(as, await this.getattr(as, ino), mask));
  }

  setattr(ctx: Context, ino: Ino, set: SetAttr): Promise<Attr> {
    return this.#as(ctx, (as) => setattr(this.volume, as, ino, set));
  }

  truncate(ctx: Context, ino: Ino, length: number, opened?: boolean): Promise<Attr> {
    return this.#as(ctx, (as) => truncate(this.volume, as, ino, length, opened));
  }

  fallocate(ctx: Context, ino: Ino, mode: number, offset: number, length: number): Promise<Attr> {
    return this.#as(ctx, (as) => fallocate(this.volume, as, ino, mode, offset, length));
  }

  copyFileRange(
    ctx: Context,
    from: Ino,
    offset: number,
    to: Ino,
    toOffset: number,
    length: number,
  ): ReturnType<Meta['copyFileRange']> {
    return this.#as(ctx, (as) => copyFileRange(this.volume, as, from, offset, to, toOffset, length));
  }

  seek(ctx: Context, ino: Ino, offset: number, want: 'data' | 'hole'): Promise<number> {
    return seek(this.volume, ctx, ino, offset, want);
  }

  mknod(ctx: Context, parent: Ino, name: Buffer, type: NodeType, mode: number, umask: number, rdev: number): Promise<Entry> {
    if (type === NodeType.Directory || type === NodeType.Symlink) throw new FsError('EINVAL');
    return this.#as(ctx, (as) => makeNode(this.volume, as, parent, name, { type, mode, umask, rdev }));
  }

  mkdir(ctx: Context, parent: Ino, name: Buffer, mode: number, umask: number): Promise<Entry> {
    return this.#as(ctx, (as) => makeNode(this.volume, as, parent, name, { type: NodeType.Directory, mode, umask, rdev: 0 }));
  }

  create(ctx: Context, parent: Ino, name: Buffer, mode: number, umask: number, exclusive: boolean): Promise<Entry> {
    return this.#as(ctx, (as) => this.#create(as, parent, name, mode, umask, exclusive));
  }

  async #create(ctx: Context, parent: Ino, name: Buffer, mode: number, umask: number, exclusive: boolean): Promise<Entry> {
    const volume = this.volume;
    for (;;) {
      try {
        const node = { type: NodeType.File, mode, umask, rdev: 0 };
        const entry = await makeNode(volume, ctx, parent, name, node);
        volume.files.open(entry.ino);
        volume.files.note(entry.ino, entry.attr);
        return entry;
      } catch (error) {
        if (exclusive || !(error instanceof FsError && error.code === 'EEXIST')) throw error;
      }
      try {
        const { ino, attr } = await lookup(volume, ctx, parent, name);
        if (attr.type === NodeType.Directory) throw new FsError('EISDIR');
        if (attr.type !== NodeType.File) throw new FsError('EEXIST');
        return { ino, attr: await open(volume, ctx, ino, 0) };
      } catch (error) {
        // Removed since: then it is ours to make.
        if (!(error instanceof FsError && error.code === 'ENOENT')) throw error;
        ctx.signal?.throwIfAborted();
      }
    }
  }

  tmpfile(ctx: Context, parent: Ino, mode: number, umask: number): Promise<Entry> {
    return this.#as(ctx, (as) => makeUnnamed(this.volume, as, parent, mode, umask));
  }

  async symlink(ctx: Context, parent: Ino, name: Buffer, target: Buffer): Promise<Entry> {
    if (target.length === 0) throw new FsError('ENOENT');
    if (target.length > MAX_SYMLINK) throw new FsError('ENAMETOOLONG');
    if (target.includes(0)) throw new FsError('EINVAL');
    return this.#as(ctx, (as) =>
      makeNode(this.volume, as, parent, name, { type: NodeType.Symlink, mode: 0o777, umask: 0, rdev: 0, target }),
    );
  }

  readlink(ctx: Context, ino: Ino): Promise<Buffer> {
    this.volume.atimes.touch(ino);
    return readlink(this.volume, ctx, ino);
  }

  link(ctx: Context, ino: Ino, parent: Ino, name: Buffer): Promise<Attr> {
    return this.#as(ctx, (as) => link(this.volume, as, ino, parent, name));
  }

  unlink(ctx: Context, parent: Ino, name: Buffer): Promise<void> {
    return this.#as(ctx, (as) => unlink(this.volume, as, parent, name));
  }

  rmdir(ctx: Context, parent: Ino, name: Buffer): Promise<void> {
    return this.#as(ctx, (as) => rmdir(this.volume, as, parent, name));
  }

  rename(
    ctx: Context,
    parent: Ino,
    name: Buffer,
    newParent: Ino,
    newName: Buffer,
    flags: number,
  ): Promise<{ moved: Entry; replaced?: Entry }> {
    return this.#as(ctx, (as) => rename(this.volume, as, { parent, name }, { parent: newParent, name: newName }, flags));
  }

  readdir(ctx: Context, ino: Ino, withAttr: boolean): AsyncIterable<readonly DirEntry[]> {
    return ctx.checkPermission ? this.#readdir(ctx, ino, withAttr) : readdir(this.volume, ctx, ino, withAttr);
  }

  async *#readdir(ctx: Context, ino: Ino, withAttr: boolean): AsyncIterable<readonly DirEntry[]> {
    // Reads the access control list that the listing asks for.
    await this.#as(ctx, async (as) => requireAccess(as, await this.getattr(as, ino), MAY_READ));
    yield* readdir(this.volume, { ...ctx, ruleOf: this.volume.acls.known }, ino, withAttr);
  }

  getxattr(ctx: Context, ino: Ino, name: string): Promise<Buffer> {
    return this.#as(ctx, (as) => getxattr(this.volume, as, ino, name));
  }

  setxattr(ctx: Context, ino: Ino, name: string, value: Buffer, mode: XattrMode): Promise<void> {
    return this.#as(ctx, (as) => setxattr(this.volume, as, ino, name, value, mode));
  }

  listxattr(ctx: Context, ino: Ino): Promise<readonly string[]> {
    return this.#as(ctx, (as) => listxattr(this.volume, as, ino));
  }

  removexattr(ctx: Context, ino: Ino, name: string): Promise<void> {
    return this.#as(ctx, (as) => removexattr(this.volume, as, ino, name));
  }

  open(ctx: Context, ino: Ino, flags: number): Promise<Attr> {
    return this.#as(ctx, (as) => open(this.volume, as, ino, flags));
  }

  release(ino: Ino): Promise<void> {
    return release(this.volume, ino);
  }

  flock(ctx: Context, ino: Ino, owner: bigint, type: LockType, wait: boolean): Promise<void> {
    return this.volume.locks.flock(ctx, ino, owner, type, wait);
  }

  setlk(ctx: Context, ino: Ino, owner: bigint, lock: RangeLock, wait: boolean): Promise<void> {
    return this.volume.locks.setlk(ctx, ino, owner, lock, wait);
  }

  getlk(ctx: Context, ino: Ino, owner: bigint, lock: RangeLock): Promise<RangeLock | undefined> {
    return this.volume.locks.getlk(ctx, ino, owner, lock);
  }

  holdsLocks(ino: Ino): boolean {
    return this.volume.locks.holds(ino);
  }

  dropLocks(file: LockedFile, owner?: bigint): Promise<void> | undefined {
    return this.volume.locks.drop(file, owner);
  }

  readChunk(ino: Ino, index: number): Promise<readonly Piece[]> {
    this.volume.atimes.touch(ino);
    return readChunk(this.volume, ino, index);
  }

  readChunks(chunks: Parameters<Meta['readChunks']>[0]): ReturnType<Meta['readChunks']> {
    return readChunks(this.volume, chunks);
  }

  invalidateChunk(ino: Ino, index: number): void {
    this.volume.files.invalidate(ino, index);
  }

  async newSliceId(): Promise<number> {
    return this.volume.newSlice();
  }

  writeSlice(
    ctx: Context,
    ino: Ino,
    index: number,
    pos: number,
    slice: { readonly id: number; readonly size: number },
    mtimeNs: bigint,
    room?: Room,
  ): Promise<Attr> {
    const part = { index, pos, off: 0, len: slice.size };
    return writeParts(this.volume, ctx, ino, slice, [part], mtimeNs, room);
  }

  writeParts(
    ctx: Context,
    ino: Ino,
    slice: { readonly id: number; readonly size: number },
    parts: readonly SlicePart[],
    mtimeNs: bigint,
    room?: Room,
  ): Promise<Attr> {
    return writeParts(this.volume, ctx, ino, slice, parts, mtimeNs, room);
  }

  room(ino: Ino): Room {
    return this.volume.limits.room(ino);
  }

  planCompaction(ino: Ino, index: number, worth?: boolean): Promise<CompactionPlan | undefined> {
    return planCompaction(this.volume, ino, index, worth);
  }

  commitCompaction(plan: CompactionPlan, slice: { readonly id: number; readonly size: number }): Promise<boolean> {
    return commitCompaction(this.volume, plan, slice);
  }

  clone(ctx: Context, source: Ino, parent: Ino, name: Buffer, options: CloneOptions): Promise<Entry> {
    return clone(this.volume, ctx, (operation) => this.#as(ctx, operation), source, parent, name, options);
  }

  removeTree(ctx: Context, parent: Ino, name: Buffer, options?: RemoveTreeOptions): Promise<void> {
    return removeTree(this.volume, (operation) => this.#as(ctx, operation), parent, name, options);
  }

  usageBelow(ino: Ino, options: Parameters<Meta['usageBelow']>[1]): Promise<TreeUsage> {
    return summarize(this.volume, ino, options);
  }

  summarizeTree(ino: Ino, options: Parameters<Meta['summarizeTree']>[1]): Promise<TreeSummary> {
    return summarizeTree(this.volume, ino, options);
  }

  paths(ino: Ino, root: Ino): Promise<readonly Buffer[]> {
    return pathsOf(this.volume, ino, root);
  }

  liesBelow(ino: Ino, top: Ino): Promise<boolean> {
    return liesBelow(this.volume, ino, top);
  }

  locks(ino: Ino): Promise<NodeLocks> {
    return locksOf(this.volume, ino);
  }

  statfs(_ctx: Context, ino: Ino = ROOT_INO): Promise<StatFs> {
    return statfs(this.volume, ino);
  }

  /** How full volume and quotas are, as this client knows it without asking: a heartbeat old at most. */
  known(): { readonly volume: StatFs & { readonly usedBytes: number }; readonly quotas: readonly QuotaRecord[] } {
    const { format, stats, limits } = this.volume;
    const used = stats.known;
    return {
      volume: { ...fullness(used, format.capacity, format.inodes), usedBytes: used.space },
      quotas: limits.accounts.records(),
    };
  }

  async usage(): Promise<{ readonly bytes: number; readonly inodes: number }> {
    const { space, inodes } = await this.volume.stats.used();
    return { bytes: space, inodes };
  }

  slices(): AsyncIterable<{ readonly ino: Ino; readonly id: number; readonly size: number }> {
    return allSlices(this.volume);
  }
}
