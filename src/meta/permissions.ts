/**
 * Who may do what: the rules that come before any change. Mode bits are looked at only where the kernel has not done it
 * (`checkPermission`), and with them a node's access control list; flags and the sticky bit always count, as in JuiceFS.
 *
 * Source: the JuiceFS format, permission and flag rules common to all operations.
 */
import { FsError } from '../lib/errors.ts';
import { ruleGrants } from './acl-rule.ts';
import { isTrash, TRASH_INO } from '../lib/int64.ts';
import { type Attr, type Context, NodeFlag, NodeType } from './types.ts';

export const MAY_EXECUTE = 1;
export const MAY_WRITE = 2;
export const MAY_READ = 4;

const STICKY = 0o1000;

export function inGroup(ctx: Context, gid: number): boolean {
  return ctx.gid === gid || (ctx.gids?.includes(gid) ?? false);
}

/** Whether mode or access control list grant all of `mask` to the caller; root may do everything. */
export function grants(ctx: Context, attr: Attr, mask: number): boolean {
  if (ctx.uid === 0) return true;
  // As in the kernel: where the mask grants nothing, the list has nothing to say beyond the mode.
  if (attr.accessAcl !== 0 && ctx.ruleOf && attr.mode & 0o070)
    return ruleGrants(ctx.ruleOf(attr.accessAcl), { uid: ctx.uid, gids: [ctx.gid, ...(ctx.gids ?? [])] }, attr, mask);
  const shift = ctx.uid === attr.uid ? 6 : inGroup(ctx, attr.gid) ? 3 : 0;
  return ((attr.mode >> shift) & mask) === mask;
}

/** Throws EACCES where they do not grant `mask`; nothing where the kernel has checked. */
export function requireAccess(ctx: Context, attr: Attr, mask: number): void {
  if (ctx.checkPermission && !grants(ctx, attr, mask)) throw new FsError('EACCES');
}

/** A directory that sits in the trash takes no new names. */
export function inTrash(attr: Attr): boolean {
  return isTrash(attr.parent) && attr.parent !== TRASH_INO;
}

function requireDirectory(attr: Attr | undefined): asserts attr is Attr {
  if (!attr) throw new FsError('ENOENT');
  if (attr.type !== NodeType.Directory) throw new FsError('ENOTDIR');
}

/** The directory may get a name; one that sits in the trash only to be restored (`restore`). */
export function requireAdd(ctx: Context, parent: Attr | undefined, restore = false): asserts parent is Attr {
  requireDirectory(parent);
  if (inTrash(parent) && !restore) throw new FsError('ENOENT');
  requireAccess(ctx, parent, MAY_WRITE | MAY_EXECUTE);
  if (parent.flags & NodeFlag.Immutable) throw new FsError('EPERM');
}

/** The directory may lose a name. */
export function requireRemove(ctx: Context, parent: Attr | undefined): asserts parent is Attr {
  requireDirectory(parent);
  requireAccess(ctx, parent, MAY_WRITE | MAY_EXECUTE);
  if (parent.flags & (NodeFlag.Immutable | NodeFlag.Append)) throw new FsError('EPERM');
}

/** The node may lose, change or get a name, and its attributes may be set. */
export function requireMovable(attr: Attr): void {
  if (attr.flags & (NodeFlag.Immutable | NodeFlag.Append)) throw new FsError('EPERM');
}

/** In a sticky directory only root, its owner and the owner of the node may take a name away. */
export function requireSticky(ctx: Context, parent: Attr, attr: Attr): void {
  if (ctx.uid !== 0 && parent.mode & STICKY && ctx.uid !== parent.uid && ctx.uid !== attr.uid) throw new FsError('EACCES');
}

/** Out of a sticky directory into another one, a directory only moves for its owner. */
export function requireStickyMove(ctx: Context, from: Attr, attr: Attr): void {
  if (ctx.uid === 0 || !(from.mode & STICKY) || ctx.uid === attr.uid) return;
  if (ctx.uid !== from.uid || attr.type === NodeType.Directory) throw new FsError('EACCES');
}
