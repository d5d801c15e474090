/** Making nodes and names: mknod, mkdir, symlink, link; files without a name (O_TMPFILE), and naming them. Source: the JuiceFS format, effects of each operation. */
import { FsError } from '../lib/errors.ts';
import { type Ino, isTrash } from '../lib/int64.ts';
import { inheritedRule, isMinimalRule, modeOfRule } from './acl-rule.ts';
import type { Write } from './engine.ts';
import { isTrashName, requireNewName } from './names.ts';
import { inGroup, requireAdd, requireMovable } from './permissions.ts';
import { charged, statOf } from './stats.ts';
import type { Plan } from './transact.ts';
import { type Attr, type Context, type Entry, NodeFlag, NodeType, type Moment } from './types.ts';
import type { Volume } from './volume.ts';

const SETGID = 0o2000;
const GROUP_EXECUTE = 0o010;

export interface NewNode {
  readonly type: NodeType;
  /** Permission bits as asked for; `umask` is taken away. */
  readonly mode: number;
  readonly umask: number;
  readonly rdev: number;
  /** Of a symlink. */
  readonly target?: Buffer;
}

/** What the default access control list of the directory above (which is not 0) makes of a new node's mode; no umask is looked at. */
async function inherit(volume: Volume, attr: Attr, defaultAcl: number, wanted: number): Promise<Attr> {
  const rule = await volume.acls.rule(defaultAcl);
  const special = attr.mode & 0o7000;
  if (isMinimalRule(rule)) return { ...attr, mode: special | (wanted & modeOfRule(rule)) };
  const child = inheritedRule(rule, wanted);
  return { ...attr, accessAcl: await volume.acls.idOf(child), mode: special | modeOfRule(child) };
}

/** The attributes of a new node in the directory `above`. */
export function newAttr(ctx: Context, parent: Ino, above: Attr, node: NewNode, { sec, nsec }: Moment): Attr {
  const directory = node.type === NodeType.Directory;
  let mode = node.type === NodeType.Symlink ? 0o777 : node.mode & 0o7777 & ~node.umask;
  let { gid } = ctx;
  if (above.mode & SETGID) {
    gid = above.gid;
    if (directory) mode |= SETGID;
    else if ((mode & (SETGID | GROUP_EXECUTE)) === (SETGID | GROUP_EXECUTE) && ctx.uid !== 0 && !inGroup(ctx, gid))
      mode &= ~SETGID;
  }
  return {
    flags: above.flags & NodeFlag.SkipTrash,
    type: node.type,
    mode,
    uid: ctx.uid,
    gid,
    atime: sec,
    atimensec: nsec,
    mtime: sec,
    mtimensec: nsec,
    ctime: sec,
    ctimensec: nsec,
    nlink: directory ? 2 : 1,
    length: directory ? 4096 : (node.target?.length ?? 0),
    rdev: node.rdev,
    parent,
    accessAcl: 0,
    // A directory hands its default ACL on.
    defaultAcl: directory ? above.defaultAcl : 0,
    tier: above.tier,
  };
}

/** Makes a node under a new name. EEXIST where the name is taken. */
export async function makeNode(volume: Volume, ctx: Context, parent: Ino, name: Buffer, node: NewNode): Promise<Entry> {
  if (isTrash(parent) || isTrashName(parent, name)) throw new FsError('EPERM');
  requireNewName(name);
  if (node.type < NodeType.File || node.type > NodeType.Socket) throw new FsError('EINVAL');
  const { limits } = volume;
  const space = charged(0);
  const above = limits.above(parent);
  const places = above instanceof Promise ? await above : above;
  const ino = await volume.newInode();
  const { value } = await volume.change<Entry>((view) => {
    const above = view.node(parent, 'access');
    requireAdd(ctx, above);
    if (view.entry(parent, name, 'absent')) throw new FsError('EEXIST');
    const now = volume.now();
    const plain = newAttr(ctx, parent, above, node, now);
    const planOf = (attr: Attr): Plan<Entry> => {
      const directory = node.type === NodeType.Directory;
      const touched = volume.touch(parent, above, now, directory ? 1 : 0);
      const writes: Write[] = [
        { kind: 'putNode', ino, attr },
        { kind: 'putEntry', parent, name, value: { type: node.type, ino } },
        ...touched,
        ...volume.stats.writes(space, 1),
      ];
      if (node.target) writes.push({ kind: 'putSymlink', ino, target: node.target });
      if (directory) writes.push({ kind: 'putDirStat', ino, value: { length: 0, space: 0, inodes: 0 } });
      writes.push(...volume.log.create({ parent, name }, ctx, node, touched.length > 0, ino, now));
      return { writes, value: { ino, attr } };
    };
    const room = limits.require({ space, inodes: 1, owner: plain, places });
    if (above.defaultAcl === 0 || node.type === NodeType.Symlink) return room?.then(() => planOf(plain)) ?? planOf(plain);
    return Promise.all([inherit(volume, plain, above.defaultAcl, node.mode), room]).then(([attr]) => planOf(attr));
  }, ctx.signal);
  volume.stats.charge(space, 1);
  limits.charge({ space, inodes: 1, owner: value.attr, places });
  volume.stats.add(parent, { length: 0, space, inodes: 1 });
  return value;
}

/**
 * Makes a file without a name, which this session keeps while it is open (as one whose last name went), and counts it as open. `link`
 * may give it a name. The official client has no such files; to it this is a file that somebody removed and has open still.
 */
export async function makeUnnamed(volume: Volume, ctx: Context, parent: Ino, mode: number, umask: number): Promise<Entry> {
  if (isTrash(parent)) throw new FsError('EPERM');
  const { limits, sid } = volume;
  if (sid === 0 && !volume.readOnly) throw new FsError('ENOTSUP', 'a file without a name needs a session that keeps it');
  const space = charged(0);
  const ino = await volume.newInode();
  const { value } = await volume.change<Entry>((view) => {
    const above = view.node(parent, 'access');
    requireAdd(ctx, above);
    const node: NewNode = { type: NodeType.File, mode, umask, rdev: 0 };
    const now = volume.now();
    const plain = { ...newAttr(ctx, parent, above, node, now), nlink: 0 };
    const planOf = (attr: Attr): Plan<Entry> => ({
      writes: [
        { kind: 'putNode', ino, attr },
        { kind: 'addSustained', sid, ino },
        ...volume.stats.writes(space, 1),
        ...volume.log.unnamed(parent, ctx, node, ino, now),
      ],
      value: { ino, attr },
    });
    const room = limits.require({ space, inodes: 1, owner: plain });
    if (above.defaultAcl === 0) return room?.then(() => planOf(plain)) ?? planOf(plain);
    return Promise.all([inherit(volume, plain, above.defaultAcl, mode), room]).then(([attr]) => planOf(attr));
  }, ctx.signal);
  volume.stats.charge(space, 1);
  limits.charge({ space, inodes: 1, owner: value.attr });
  volume.files.open(ino);
  volume.files.removed(ino);
  volume.files.note(ino, value.attr);
  return value;
}

/** Gives a node that is not a directory another name, or one that is only open here its first; answers its attributes. */
export async function link(volume: Volume, ctx: Context, ino: Ino, parent: Ino, name: Buffer): Promise<Attr> {
  if (isTrash(parent) || isTrashName(parent, name)) throw new FsError('EPERM');
  requireNewName(name);
  const { limits } = volume;
  const places = await limits.above(parent);
  const { value } = await volume.change<Attr>((view) => {
    const above = view.node(parent, 'access');
    requireAdd(ctx, above);
    const attr = view.node(ino, 'all');
    const unnamed = attr?.nlink === 0;
    if (!attr || (unnamed && !volume.files.isOpen(ino))) throw new FsError('ENOENT');
    if (attr.type === NodeType.Directory) throw new FsError('EPERM');
    requireMovable(attr);
    if (view.entry(parent, name, 'absent')) throw new FsError('EEXIST');
    const now = volume.now();
    const linked: Attr = {
      ...attr,
      nlink: attr.nlink + 1,
      ctime: now.sec,
      ctimensec: now.nsec,
      parent: unnamed ? parent : (0 as Ino),
    };
    const touched = volume.touch(parent, above, now);
    const writes: Write[] = [
      { kind: 'putNode', ino, attr: linked },
      { kind: 'putEntry', parent, name, value: { type: attr.type, ino } },
      ...touched,
    ];
    if (unnamed) writes.push({ kind: 'removeSustained', sid: volume.sid, ino });
    else {
      if (attr.parent !== 0) writes.push({ kind: 'addParent', ino, parent: attr.parent, delta: 1 });
      writes.push({ kind: 'addParent', ino, parent, delta: 1 });
    }
    writes.push(...volume.log.link(ino, { parent, name }, touched.length > 0, linked.nlink, now));
    const plan = { writes, value: linked };
    // As JuiceFS: the owner must have room for a file more, though it counts only once for him.
    const owned = limits.require({ space: 0, inodes: 1, volume: false, owner: attr });
    const placed = limits.require({ space: statOf(attr).space, inodes: 1, volume: false, places });
    return owned || placed ? Promise.all([owned, placed]).then(() => plan) : plan;
  }, ctx.signal);
  volume.files.named(ino);
  const stat = statOf(value);
  volume.stats.add(parent, stat);
  limits.charge({ space: stat.space, inodes: 1, places });
  return value;
}
