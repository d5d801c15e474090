/**
 * Taking names away: unlink, rmdir, and the target that a rename replaces. A node whose last name goes is moved to the
 * trash, deleted, or kept while this session has it open (sustained). Source: the JuiceFS format, unlink, rmdir, deletion of
 * a sustained inode.
 */
import { FsError } from '../lib/errors.ts';
import { type Ino, isTrash, TRASH_INO } from '../lib/int64.ts';
import type { EntryValue, Write } from './engine.ts';
import { isTrashName } from './names.ts';
import { requireMovable, requireRemove, requireSticky } from './permissions.ts';
import { trashName } from './records.ts';
import { minus, statOf } from './stats.ts';
import type { View } from './transact.ts';
import { NO_TRASH } from './trash.ts';
import { type Attr, type Context, NodeFlag, NodeType, type Moment } from './types.ts';
import type { Volume } from './volume.ts';

/** What becomes of a node when one of its names goes. */
export interface Removal {
  readonly writes: readonly Write[];
  readonly ino: Ino;
  /** Before and after; `after` is undefined where the node is deleted. */
  readonly before: Attr;
  readonly after: Attr | undefined;
  /** The directory that has it now, or NO_TRASH. */
  readonly trash: Ino;
  /** Kept without a name, because it is open here. */
  readonly sustained: boolean;
}

interface Name {
  readonly parent: Ino;
  readonly name: Buffer;
  readonly entry: EntryValue;
}

/** The name in the trash is taken where another name of the same file went there in this hour under the same name. */
function usableTrash(view: View, { parent, name, entry }: Name, attr: Attr, trash: Ino): Ino {
  if (trash === NO_TRASH || attr.flags & NodeFlag.SkipTrash) return NO_TRASH;
  const taken =
    attr.type !== NodeType.Directory && attr.nlink > 1 && view.entry(trash, trashName(parent, entry.ino, name), 'absent');
  return taken ? NO_TRASH : trash;
}

function removeFile(volume: Volume, view: View, where: Name, attr: Attr, wanted: Ino, now: Moment): Removal {
  const { parent, name, entry } = where;
  const { ino } = entry;
  const trash = usableTrash(view, where, attr, wanted);
  const changed = { ...attr, ctime: now.sec, ctimensec: now.nsec };
  const linked = attr.parent === 0;
  const writes: Write[] = [];
  if (trash !== NO_TRASH) {
    const after = linked ? changed : { ...changed, parent: trash };
    writes.push(
      { kind: 'putNode', ino, attr: after },
      { kind: 'putEntry', parent: trash, name: trashName(parent, ino, name), value: entry },
    );
    if (linked) writes.push({ kind: 'addParent', ino, parent: trash, delta: 1 }, { kind: 'addParent', ino, parent, delta: -1 });
    return { writes, ino, before: attr, after, trash, sustained: false };
  }
  const after = { ...changed, nlink: Math.max(0, attr.nlink - 1) };
  if (after.nlink > 0) {
    writes.push({ kind: 'putNode', ino, attr: after });
    if (linked) writes.push({ kind: 'addParent', ino, parent, delta: -1 });
    return { writes, ino, before: attr, after, trash, sustained: false };
  }
  const sustained = attr.type === NodeType.File && volume.sid > 0 && volume.files.isOpen(ino);
  if (sustained) writes.push({ kind: 'putNode', ino, attr: after }, { kind: 'addSustained', sid: volume.sid, ino });
  else {
    if (attr.type === NodeType.Symlink) writes.push({ kind: 'removeSymlink', ino });
    writes.push({ kind: 'removeNode', ino }, ...volume.stats.writes(-statOf(attr).space, -1));
    if (attr.type === NodeType.File) writes.push({ kind: 'addDelfile', ino, length: attr.length, time: now.sec });
  }
  writes.push({ kind: 'removeXattrs', ino });
  if (linked) writes.push({ kind: 'removeParents', ino });
  return { writes, ino, before: attr, after: sustained ? after : undefined, trash, sustained };
}

function removeDirectory(volume: Volume, view: View, where: Name, attr: Attr, wanted: Ino, now: Moment): Removal {
  const { parent, name, entry } = where;
  const { ino } = entry;
  view.requireEmpty(ino);
  const trash = usableTrash(view, where, attr, wanted);
  const writes: Write[] = [];
  let after: Attr | undefined;
  if (trash === NO_TRASH)
    writes.push({ kind: 'removeNode', ino }, { kind: 'removeXattrs', ino }, ...volume.stats.writes(-statOf(attr).space, -1));
  else {
    after = { ...attr, ctime: now.sec, ctimensec: now.nsec, parent: trash };
    writes.push(
      { kind: 'putNode', ino, attr: after },
      { kind: 'putEntry', parent: trash, name: trashName(parent, ino, name), value: entry },
    );
  }
  writes.push({ kind: 'removeDirStat', ino }, { kind: 'removeQuota', quota: { kind: 'directory', id: ino } });
  return { writes, ino, before: attr, after, trash, sustained: false };
}

/** What happens to the node when this name goes, without the entry itself and without its directory. */
export function planRemoval(volume: Volume, view: View, where: Name, attr: Attr, trash: Ino, now: Moment): Removal {
  const remove = attr.type === NodeType.Directory ? removeDirectory : removeFile;
  return remove(volume, view, where, attr, trash, now);
}

/** What follows a committed removal: usage, and the data. */
export async function afterRemoval(volume: Volume, parent: Ino, removal: Removal): Promise<void> {
  const { ino, before, after, trash, sustained } = removal;
  const stat = statOf(before);
  volume.stats.add(parent, minus(stat));
  if (trash !== NO_TRASH) volume.stats.add(trash, stat);
  if (before.type === NodeType.Directory) {
    volume.stats.forget(ino);
    volume.limits.accounts.forget(ino);
  }
  volume.limits.charge({ space: -stat.space, inodes: -1, places: await volume.limits.above(parent) });
  if (sustained) {
    // The last close may have come while the transaction was under way.
    if (!volume.files.removed(ino)) await deleteSustained(volume, volume.sid, ino);
    return;
  }
  if (after) return;
  volume.stats.charge(-stat.space, -1);
  // The directories of the trash's hours are nobody's.
  if (parent !== TRASH_INO) volume.limits.charge({ space: -stat.space, inodes: -1, owner: before });
  if (before.type === NodeType.File) volume.deletions.enqueue(ino, before.length);
}

/** Removes a name. `kind` is what it must name. */
async function remove(
  volume: Volume,
  ctx: Context,
  parent: Ino,
  name: Buffer,
  kind: 'directory' | 'other',
  toTrash: boolean,
): Promise<void> {
  if (isTrashName(parent, name) || (isTrash(parent) && ctx.uid !== 0)) throw new FsError('EPERM');
  const { value } = await volume.change(async (view) => {
    const above = view.node(parent, 'access');
    requireRemove(ctx, above);
    const entry = view.entry(parent, name);
    if (!entry) throw new FsError('ENOENT');
    const directory = entry.type === NodeType.Directory;
    if (directory !== (kind === 'directory')) throw new FsError(directory ? 'EPERM' : 'ENOTDIR');
    const attr = view.node(entry.ino, 'all');
    const now = volume.now();
    const writes: Write[] = [{ kind: 'removeEntry', parent, name }];
    let removal: Removal | undefined;
    if (attr) {
      requireSticky(ctx, above, attr);
      requireMovable(attr);
      const trash = toTrash ? await volume.trash.for(view, parent) : NO_TRASH;
      removal = planRemoval(volume, view, { parent, name, entry }, attr, trash, now);
      writes.push(...removal.writes);
    } else if (directory) view.requireEmpty(entry.ino);
    const touched = isTrash(parent) ? [] : volume.touch(parent, above, now, directory ? -1 : 0);
    writes.push(...touched);
    const [trash, sustained] = [removal?.trash ?? NO_TRASH, removal?.sustained ?? false];
    if (directory) writes.push(...volume.log.rmdir({ parent, name }, trash, entry.ino, now));
    else writes.push(...volume.log.unlink({ parent, name }, trash, sustained, touched.length > 0, entry.ino, now));
    return { writes, value: removal };
  }, ctx.signal);
  if (value) await afterRemoval(volume, parent, value);
}

export function unlink(volume: Volume, ctx: Context, parent: Ino, name: Buffer, toTrash = true): Promise<void> {
  return remove(volume, ctx, parent, name, 'other', toTrash);
}

export function rmdir(volume: Volume, ctx: Context, parent: Ino, name: Buffer, toTrash = true): Promise<void> {
  return remove(volume, ctx, parent, name, 'directory', toTrash);
}

/** Deletes a node without a name that a session kept because it was open there. */
export async function deleteSustained(volume: Volume, sid: number, ino: Ino): Promise<void> {
  const { value } = await volume.change<Attr | undefined>((view) => {
    const attr = view.node(ino, 'all');
    const forget: Write = { kind: 'removeSustained', sid, ino };
    if (!attr || attr.nlink > 0) return { writes: [forget], value: undefined };
    return {
      writes: [
        { kind: 'removeNode', ino },
        // Whoever has it open may have set some after its name was gone.
        { kind: 'removeXattrs', ino },
        { kind: 'addDelfile', ino, length: attr.length, time: volume.seconds() },
        ...volume.stats.writes(-statOf(attr).space, -1),
        forget,
        ...volume.log.deleteSustained(sid, ino),
      ],
      value: attr,
    };
  });
  if (!value) return;
  const { space } = statOf(value);
  volume.stats.charge(-space, -1);
  volume.limits.charge({ space: -space, inodes: -1, owner: value });
  volume.deletions.enqueue(ino, value.length);
}
