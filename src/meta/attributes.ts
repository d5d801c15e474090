/** Attributes and extended attributes. Source: the JuiceFS format, setattr and others. */
import { FsError } from '../lib/errors.ts';
import type { Ino } from '../lib/int64.ts';
import { modeOfRule, ruleWithMode } from './acl-rule.ts';
import { aclNames, getAcl, isAclName, setAcl } from './acl-xattrs.ts';
import type { Write } from './engine.ts';
import type { Owner } from './limits.ts';
import { grants, inGroup, inTrash, MAY_READ, MAY_WRITE, requireAccess, requireMovable } from './permissions.ts';
import { statOf } from './stats.ts';
import type { Plan } from './transact.ts';
import { type Attr, type Context, NodeFlag, NodeType, type SetAttr, type XattrMode, type Moment } from './types.ts';
import type { Volume } from './volume.ts';

const SETUID = 0o4000;
const SETGID = 0o2000;
const GROUP_EXECUTE = 0o010;
const MAX_XATTR_NAME = 255;
const MAX_XATTR_VALUE = 65_536;

type Mutable = { -readonly [K in keyof Attr]: Attr[K] };

/** A change of owner takes the special bits from everything but directories; root keeps SGID where it means locking. */
function clearSpecialBits(ctx: Context, attr: Mutable): void {
  if (attr.type === NodeType.Directory) return;
  if (ctx.uid !== 0 || attr.mode & GROUP_EXECUTE) attr.mode &= 0o1777;
  else attr.mode &= 0o3777;
}

/** Throws where the caller may not set a time: EACCES for "now", EPERM for a root's file otherwise. */
function requireTimes(ctx: Context, attr: Attr, explicit: boolean): void {
  if (ctx.uid === 0) return;
  if (explicit && attr.uid === 0) throw new FsError('EPERM');
  if (ctx.uid !== attr.uid && ctx.checkPermission && !grants(ctx, attr, MAY_WRITE)) throw new FsError('EACCES');
}

function setTime(
  ctx: Context,
  attr: Attr,
  changed: Mutable,
  which: 'atime' | 'mtime',
  wanted: NonNullable<SetAttr['atime']>,
  now: Moment,
): void {
  // JuiceFS stores no time before 1970 and takes the present instead.
  const value = wanted === 'now' || wanted.sec < 0 ? now : wanted;
  const nsec = `${which}nsec` as const;
  const explicit = value !== now;
  if (explicit && attr[which] === value.sec && attr[nsec] === value.nsec) return;
  requireTimes(ctx, attr, explicit);
  changed[which] = value.sec;
  changed[nsec] = value.nsec;
}

function requireOwner(ctx: Context, attr: Attr): void {
  if (ctx.uid !== 0 && ctx.uid !== attr.uid) throw new FsError('EPERM');
}

function setOwner(ctx: Context, attr: Attr, changed: Mutable, set: SetAttr): void {
  if (set.uid === undefined && set.gid === undefined) return;
  if (attr.mode & (SETUID | SETGID)) clearSpecialBits(ctx, changed);
  if (set.gid !== undefined) {
    requireOwner(ctx, attr);
    if (set.gid !== attr.gid && ctx.checkPermission && ctx.uid !== 0 && !inGroup(ctx, set.gid)) throw new FsError('EPERM');
    changed.gid = set.gid;
  }
  if (set.uid !== undefined && set.uid !== attr.uid) {
    if (ctx.checkPermission && ctx.uid !== 0) throw new FsError('EPERM');
    changed.uid = set.uid;
  }
}

function setMode(ctx: Context, attr: Attr, changed: Mutable, set: SetAttr): void {
  if (set.mode === undefined) return;
  let mode = set.mode & 0o7777;
  // Set together with an owner, the special bits that are there stay.
  if (set.uid !== undefined || set.gid !== undefined) mode |= attr.mode & (SETUID | SETGID);
  if (ctx.checkPermission && ctx.uid !== 0 && mode & SETGID && !inGroup(ctx, attr.gid)) mode &= ~SETGID;
  if (mode === attr.mode) return;
  const adds = mode & ~attr.mode & (SETUID | SETGID);
  if ((mode & 0o1777) !== (attr.mode & 0o1777) || adds) requireOwner(ctx, attr);
  changed.mode = mode;
}

/** As on Linux: an immutable node keeps its attributes, one that is appended to only takes the present for its times. */
function requireChangeable(attr: Attr, { mode, uid, gid, atime, mtime }: SetAttr): void {
  const explicit = (time: SetAttr['atime']): boolean => time !== undefined && time !== 'now';
  if (mode !== undefined || uid !== undefined || gid !== undefined || explicit(atime) || explicit(mtime)) requireMovable(attr);
  if ((atime !== undefined || mtime !== undefined) && attr.flags & NodeFlag.Immutable) throw new FsError('EPERM');
}

/** The attributes after a change, the same object where there is none. */
export function changedAttr(ctx: Context, attr: Attr, set: SetAttr, now: Moment): Attr {
  const changed: Mutable = { ...attr };
  setOwner(ctx, attr, changed, set);
  setMode(ctx, attr, changed, set);
  if (set.atime !== undefined) setTime(ctx, attr, changed, 'atime', set.atime, now);
  if (set.mtime !== undefined) setTime(ctx, attr, changed, 'mtime', set.mtime, now);
  if (set.flags !== undefined) changed.flags = set.flags;
  // JuiceFS takes these for a change even where they leave everything as it is.
  const special = (attr.mode & (SETUID | SETGID)) !== 0 && (set.uid !== undefined || set.gid !== undefined);
  const names = Object.keys(changed) as (keyof Attr)[];
  if (!special && set.flags === undefined && names.every((name) => changed[name] === attr[name])) return attr;
  changed.ctime = now.sec;
  changed.ctimensec = now.nsec;
  return changed;
}

interface Changed {
  readonly attr: Attr;
  readonly changed: Attr;
}

/** Whose usage grows by a change of owner. */
function newOwner(attr: Attr, changed: Attr): Owner {
  return {
    ...(changed.uid === attr.uid ? {} : { uid: changed.uid }),
    ...(changed.gid === attr.gid ? {} : { gid: changed.gid }),
  };
}

/** A node that is given away must fit the quota of who gets it. */
function requireOwnersRoom(volume: Volume, attr: Attr, changed: Attr): Promise<void> | undefined {
  if (attr.uid === changed.uid && attr.gid === changed.gid) return undefined;
  return volume.limits.require({ space: statOf(attr).space, inodes: 1, volume: false, owner: newOwner(attr, changed) });
}

function chargeOwners(volume: Volume, { attr, changed }: Changed): void {
  if (attr.uid === changed.uid && attr.gid === changed.gid) return;
  const { space } = statOf(attr);
  volume.limits.charge({ space, inodes: 1, owner: newOwner(attr, changed) });
  volume.limits.charge({ space: -space, inodes: -1, owner: newOwner(changed, attr) });
}

/** A mode that is set on a node with an access control list changes the list, above all its mask. */
async function withMode(volume: Volume, attr: Attr): Promise<Attr> {
  const rule = ruleWithMode(await volume.acls.rule(attr.accessAcl), attr.mode);
  return { ...attr, accessAcl: await volume.acls.idOf(rule), mode: (attr.mode & 0o7000) | modeOfRule(rule) };
}

export async function setattr(volume: Volume, ctx: Context, ino: Ino, set: SetAttr): Promise<Attr> {
  const { value } = await volume.change<Changed>((view) => {
    const attr = view.node(ino, 'all');
    if (!attr) throw new FsError('ENOENT');
    if (inTrash(attr)) throw new FsError('EPERM');
    requireChangeable(attr, set);
    const changed = changedAttr(ctx, attr, set, volume.now());
    const plan = (after: Attr): Plan<Changed> => ({
      writes: after === attr ? [] : [{ kind: 'putNode', ino, attr: after }, ...volume.log.setattr(ino, set, attr, after)],
      value: { attr, changed: after },
    });
    const room = requireOwnersRoom(volume, attr, changed);
    if (changed.mode !== attr.mode && attr.accessAcl !== 0)
      return Promise.all([withMode(volume, changed), room]).then(([after]) => plan(after));
    return room?.then(() => plan(changed)) ?? plan(changed);
  }, ctx.signal);
  chargeOwners(volume, value);
  volume.files.changed(ino, value.attr, value.changed);
  return value.changed;
}

async function requireNode(volume: Volume, ctx: Context, ino: Ino, mask: number): Promise<void> {
  if (!ctx.checkPermission) return;
  const [attr] = await volume.engine.read([{ kind: 'node', ino }]);
  if (!attr) throw new FsError('ENOENT');
  requireAccess(ctx, attr, mask);
}

export async function getxattr(volume: Volume, ctx: Context, ino: Ino, name: string): Promise<Buffer> {
  if (isAclName(name)) return getAcl(volume, ctx, ino, name);
  await requireNode(volume, ctx, ino, MAY_READ);
  const [value] = await volume.engine.read([{ kind: 'xattr', ino, name }], ctx.signal);
  if (!value) throw new FsError('ENODATA');
  return value;
}

export async function listxattr(volume: Volume, ctx: Context, ino: Ino): Promise<readonly string[]> {
  await requireNode(volume, ctx, ino, MAY_READ);
  if (!volume.format.enableAcl) return (await volume.engine.read([{ kind: 'xattrNames', ino }], ctx.signal))[0];
  const reads = [
    { kind: 'xattrNames', ino },
    { kind: 'node', ino },
  ] as const;
  const [names, attr] = await volume.engine.read(reads, ctx.signal);
  return attr ? [...names, ...aclNames(attr)] : names;
}

export async function setxattr(
  volume: Volume,
  ctx: Context,
  ino: Ino,
  name: string,
  value: Buffer,
  mode: XattrMode,
): Promise<void> {
  const length = Buffer.byteLength(name);
  if (length === 0 || (mode.create && mode.replace)) throw new FsError('EINVAL');
  if (length > MAX_XATTR_NAME) throw new FsError('ERANGE');
  if (value.length > MAX_XATTR_VALUE) throw new FsError('E2BIG');
  if (isAclName(name)) return setAcl(volume, ctx, ino, name, value);
  await volume.change((view) => {
    const attr = view.node(ino, 'access');
    if (!attr) throw new FsError('ENOENT');
    requireMovable(attr);
    requireAccess(ctx, attr, MAY_WRITE);
    if (mode.create) view.require({ kind: 'xattr', ino, name, expect: 'absent' }, () => new FsError('EEXIST'));
    if (mode.replace) view.require({ kind: 'xattr', ino, name, expect: 'present' }, () => new FsError('ENODATA'));
    const writes: Write[] = [{ kind: 'putXattr', ino, name, value }, ...volume.log.setxattr(ino, name, value, mode)];
    return { writes, value: undefined };
  }, ctx.signal);
}

export async function removexattr(volume: Volume, ctx: Context, ino: Ino, name: string): Promise<void> {
  if (isAclName(name)) return setAcl(volume, ctx, ino, name);
  await volume.change((view) => {
    const attr = view.node(ino, 'access');
    if (!attr) throw new FsError('ENOENT');
    requireMovable(attr);
    requireAccess(ctx, attr, MAY_WRITE);
    view.require({ kind: 'xattr', ino, name, expect: 'present' }, () => new FsError('ENODATA'));
    return { writes: [{ kind: 'removeXattr', ino, name }, ...volume.log.removexattr(ino, name)], value: undefined };
  }, ctx.signal);
}
