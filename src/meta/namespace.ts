/** Finding, listing and opening nodes: lookup, getattr, readdir, open, release. */
import { FsError } from '../lib/errors.ts';
import { type Ino, isTrash, ROOT_INO, TRASH_INO } from '../lib/int64.ts';
import type { NamedEntry } from './engine.ts';
import { isDots, isTrashName, MAX_NAME } from './names.ts';
import { inTrash, MAY_EXECUTE, MAY_READ, MAY_WRITE, requireAccess } from './permissions.ts';
import { deleteSustained } from './remove.ts';
import { type Attr, type Context, type DirEntry, type Entry, NodeFlag, NodeType } from './types.ts';
import type { Volume } from './volume.ts';

const O_ACCMODE = 3;
const O_RDONLY = 0;
const O_RDWR = 2;
const O_TRUNC = 0o1000;
const O_APPEND = 0o2000;

/** Names asked for at once. */
const LIST_BATCH = 4096;
/** Names remembered while a directory is listed, so that none comes twice. */
const LIST_MEMORY = 100_000;
/** Names of a listing that are remembered to guess with: there is no room for more. */
const LIST_GUESSES = 4096;
/** A first batch of so many names in order is one of an engine that lists in order, and no accident. */
const SURELY_ORDERED = 64;

/** What can be said of a node that is missing though an entry names it: only its type. */
function damagedAttr(type: NodeType, parent: Ino): Attr {
  const never = { atime: 0, atimensec: 0, mtime: 0, mtimensec: 0, ctime: 0, ctimensec: 0 };
  const none = { flags: 0, mode: 0, uid: 0, gid: 0, length: 0, rdev: 0, accessAcl: 0, defaultAcl: 0, tier: 0 };
  return { ...none, ...never, type, nlink: 1, parent };
}

/** The attributes, as known (`known` of the engine) or, where they must be fresh, as they are. */
export async function getattr(volume: Volume, ctx: Context, ino: Ino, fresh = false): Promise<Attr> {
  const known = fresh ? undefined : volume.engine.known?.node(ino);
  if (known) return known;
  const [attr] = await volume.engine.read([{ kind: 'node', ino }], ctx.signal);
  if (!attr) {
    volume.guesses.setNode(ino, undefined);
    throw new FsError('ENOENT');
  }
  volume.seen(ino, attr);
  return attr;
}

export async function lookup(volume: Volume, ctx: Context, parent: Ino, name: Buffer): Promise<Entry> {
  if (name.length > MAX_NAME) throw new FsError('ENAMETOOLONG');
  if (ctx.checkPermission) {
    const above = await getattr(volume, ctx, parent);
    if (above.type !== NodeType.Directory) throw new FsError('ENOTDIR');
    requireAccess(ctx, above, MAY_EXECUTE);
  }
  if (isDots(name)) {
    const above = await getattr(volume, ctx, parent);
    if (name.length === 1 || parent === ROOT_INO) return { ino: parent, attr: above };
    return { ino: above.parent, attr: await getattr(volume, ctx, above.parent) };
  }
  if (isTrashName(parent, name)) return { ino: TRASH_INO, attr: await getattr(volume, ctx, TRASH_INO) };
  const known = volume.engine.known?.lookup(parent, name);
  if (known === null) throw new FsError('ENOENT');
  if (known) return { ino: known.value.ino, attr: known.attr };
  const found = await volume.engine.lookup(parent, name);
  volume.guesses.setEntry(parent, name, found?.value);
  if (!found) throw new FsError('ENOENT');
  const { value, attr } = found;
  if (!attr) {
    volume.logger.warn('an entry names a node that does not exist', { parent, ino: value.ino });
    return { ino: value.ino, attr: damagedAttr(value.type, parent) };
  }
  volume.seen(value.ino, attr);
  return { ino: value.ino, attr };
}

export async function readlink(volume: Volume, ctx: Context, ino: Ino): Promise<Buffer> {
  const [target] = await volume.engine.read([{ kind: 'symlink', ino }], ctx.signal);
  if (target) return target;
  await getattr(volume, ctx, ino);
  throw new FsError('EINVAL', 'not a symbolic link');
}

/**
 * Names not seen before in this listing; beyond LIST_MEMORY names a second coming goes through. Within one batch no name comes
 * twice, so the first batch (often the only one) is looked through when a second one comes. Names that come in order (SQL) cannot
 * come twice, and are not remembered.
 */
export class Listed {
  #first: readonly Named[] | undefined;
  /** The last name, as long as they come in order. */
  #last: Buffer | undefined;
  #names: Set<string> | undefined;

  fresh<T extends Named>(batch: readonly T[]): readonly T[] {
    if (!this.#first) {
      this.#first = batch;
      return batch;
    }
    if (!this.#names && (this.#last ?? lastInOrder(this.#first, SURELY_ORDERED))) {
      const last = lastInOrder(batch, 0, this.#last ?? this.#first.at(-1)?.name);
      if (last) {
        this.#last = last;
        this.#first = [];
        return batch;
      }
    }
    this.#names ??= new Set(this.#first.map(({ name }) => name.toString('latin1')));
    return batch.filter(({ name }) => this.#isNew(name.toString('latin1')));
  }

  #isNew(name: string): boolean {
    const names = this.#names!;
    if (names.has(name)) return false;
    if (names.size < LIST_MEMORY) names.add(name);
    return true;
  }
}

interface Named {
  readonly name: Buffer;
}

/** The last name of a batch of at least so many, all behind `after` and each behind the one before; else undefined. */
function lastInOrder(batch: readonly Named[], least: number, after?: Buffer): Buffer | undefined {
  if (batch.length < least) return undefined;
  let last = after;
  for (const { name } of batch) {
    if (last && last.compare(name) >= 0) return undefined;
    last = name;
  }
  return last;
}

/** Attributes of several nodes in one round trip; undefined for those that are not there. */
export async function attributes(volume: Volume, inos: readonly Ino[]): Promise<readonly (Attr | undefined)[]> {
  const attrs = await volume.engine.nodes(inos);
  for (let at = 0; at < attrs.length; at++) {
    const attr = attrs[at];
    if (attr) volume.seen(inos[at] as Ino, attr);
  }
  return attrs;
}

/** `guess`: what is found is remembered to guess with. */
async function withAttrs(volume: Volume, parent: Ino, batch: readonly NamedEntry[], guess: boolean): Promise<DirEntry[]> {
  const attrs = await volume.engine.nodes(batch.map((entry) => entry.ino));
  return batch.map(({ name, ino, type }, index) => {
    const attr = attrs[index];
    if (attr && guess) {
      volume.seen(ino, attr);
      volume.guesses.setEntry(parent, name, { ino, type });
    } else if (attr) volume.files.note(ino, attr);
    return { name, ino, type, attr };
  });
}

/** See Meta. */
export async function entriesAhead(volume: Volume, ino: Ino, most: number): Promise<readonly DirEntry[] | undefined> {
  const names: NamedEntry[] = [];
  const listed = new Listed();
  for await (const batch of volume.engine.scanEntries(ino, Math.min(LIST_BATCH, most + 1))) {
    names.push(...listed.fresh(batch));
    if (names.length > most) return undefined;
  }
  // What anybody here learns of a node meanwhile is newer.
  const before = names.map((entry) => volume.guesses.node(entry.ino));
  const attrs = await volume.engine.nodes(names.map((entry) => entry.ino));
  return names.map((entry, index) => {
    const attr = volume.guesses.node(entry.ino) === before[index] ? attrs[index] : undefined;
    if (attr) volume.seen(entry.ino, attr);
    return { ...entry, attr };
  });
}

export async function* readdir(volume: Volume, ctx: Context, ino: Ino, withAttr: boolean): AsyncIterable<readonly DirEntry[]> {
  const batches = volume.engine.scanEntries(ino, LIST_BATCH)[Symbol.asyncIterator]();
  try {
    // Both in one round trip.
    const [directory, first] = await Promise.allSettled([getattr(volume, ctx, ino), batches.next()]);
    if (directory.status === 'rejected') throw directory.reason;
    if (directory.value.type !== NodeType.Directory) throw new FsError('ENOTDIR');
    requireAccess(ctx, directory.value, MAY_READ | (withAttr ? MAY_EXECUTE : 0));
    if (first.status === 'rejected') throw first.reason;
    volume.atimes.touch(ino);
    const listed = new Listed();
    if (volume.options.sortDir) {
      yield* sorted(volume, ino, withAttr, first.value, batches, listed);
      return;
    }
    let count = 0;
    for (let next = first.value; !next.done; next = await batches.next()) {
      ctx.signal?.throwIfAborted();
      const fresh = listed.fresh(next.value);
      if (fresh.length === 0) continue;
      yield withAttr ? await withAttrs(volume, ino, fresh, count < LIST_GUESSES) : fresh;
      count += fresh.length;
    }
  } finally {
    await batches.return?.();
  }
}

/** The rest of a listing in the order of names, of a directory of up to LIST_MEMORY names; what comes after is as it comes. */
async function* sorted(
  volume: Volume,
  ino: Ino,
  withAttr: boolean,
  first: IteratorResult<readonly NamedEntry[]>,
  batches: AsyncIterator<readonly NamedEntry[]>,
  listed: Listed,
): AsyncIterable<readonly DirEntry[]> {
  const names: NamedEntry[] = [];
  let next = first;
  for (; !next.done && names.length < LIST_MEMORY; next = await batches.next()) names.push(...listed.fresh(next.value));
  names.sort((a, b) => a.name.compare(b.name));
  let count = 0;
  const told = async (batch: readonly NamedEntry[]): Promise<readonly DirEntry[]> => {
    count += batch.length;
    return withAttr ? await withAttrs(volume, ino, batch, count <= LIST_GUESSES) : batch;
  };
  for (let at = 0; at < names.length; at += LIST_BATCH) yield await told(names.slice(at, at + LIST_BATCH));
  for (; !next.done; next = await batches.next()) {
    const fresh = listed.fresh(next.value);
    if (fresh.length > 0) yield await told(fresh);
  }
}

function requireOpen(volume: Volume, ctx: Context, attr: Attr, flags: number): void {
  const access = flags & O_ACCMODE;
  const writes = access !== O_RDONLY || (flags & O_TRUNC) !== 0;
  if (writes && volume.readOnly) throw new FsError('EROFS');
  if (writes && attr.type === NodeType.Directory) throw new FsError('EISDIR');
  const reads = access === O_RDONLY || access === O_RDWR;
  requireAccess(ctx, attr, (reads ? MAY_READ : 0) | (writes ? MAY_WRITE : 0));
  if (writes && (attr.flags & NodeFlag.Immutable || inTrash(attr) || isTrash(attr.parent))) throw new FsError('EPERM');
  if (writes && attr.flags & NodeFlag.Append && (!(flags & O_APPEND) || flags & O_TRUNC)) throw new FsError('EPERM');
}

export async function open(volume: Volume, ctx: Context, ino: Ino, flags: number): Promise<Attr> {
  const recent = volume.files.isRecent(ino) ? volume.guesses.node(ino) : undefined;
  volume.files.open(ino);
  try {
    // Close-to-open: whoever opens sees what others have closed.
    const attr = recent ?? (await getattr(volume, ctx, ino, true));
    requireOpen(volume, ctx, attr, flags);
    volume.atimes.touch(ino);
    return attr;
  } catch (error) {
    await release(volume, ino);
    throw error;
  }
}

export async function release(volume: Volume, ino: Ino): Promise<void> {
  if (volume.files.close(ino)) await deleteSustained(volume, volume.sid, ino);
}
