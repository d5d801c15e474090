/**
 * Access control lists as extended attributes, `system.posix_acl_access` and `system.posix_acl_default`: getting, setting, removing. A
 * list that says no more than a mode becomes the mode. Source: the JuiceFS format, ACLs (`doSetFacl` in pkg/meta).
 */
import { FsError } from '../lib/errors.ts';
import type { Ino } from '../lib/int64.ts';
import {
  type AclRule,
  completedRule,
  encodeRule,
  isEmptyRule,
  isMinimalRule,
  modeOfRule,
  ruleFromXattr,
  ruleToXattr,
  UNSET,
} from './acl-rule.ts';
import { inGroup } from './permissions.ts';
import { type Attr, type Context, NodeFlag, NodeType } from './types.ts';
import type { Volume } from './volume.ts';

export const ACL_ACCESS = 'system.posix_acl_access';
export const ACL_DEFAULT = 'system.posix_acl_default';

const NO_RULE: AclRule = { owner: UNSET, group: UNSET, mask: UNSET, other: UNSET, users: [], groups: [] };

type Member = 'accessAcl' | 'defaultAcl';
const members: Readonly<Record<string, Member>> = { [ACL_ACCESS]: 'accessAcl', [ACL_DEFAULT]: 'defaultAcl' };

/** True for the two names that stand for access control lists. */
export const isAclName = (name: string): boolean => name in members;

function memberOf(volume: Volume, name: string, code: 'ENODATA' | 'ENOTSUP'): Member {
  const member = members[name];
  if (!member || !volume.format.enableAcl) throw new FsError(code, 'the volume was made without access control lists');
  return member;
}

/** The names of the lists that a node has. */
export function aclNames(attr: Attr): readonly string[] {
  return [...(attr.accessAcl === 0 ? [] : [ACL_ACCESS]), ...(attr.defaultAcl === 0 ? [] : [ACL_DEFAULT])];
}

/** A list as the value of an extended attribute; ENODATA where the node has none. */
export async function getAcl(volume: Volume, ctx: Context, ino: Ino, name: string): Promise<Buffer> {
  const member = memberOf(volume, name, 'ENODATA');
  const [attr] = await volume.engine.read([{ kind: 'node', ino }], ctx.signal);
  if (!attr) throw new FsError('ENOENT');
  volume.seen(ino, attr);
  if (attr[member] === 0) throw new FsError('ENODATA');
  return ruleToXattr(await volume.acls.rule(attr[member]));
}

/** Sets a list, or (without a value) removes it. */
export async function setAcl(volume: Volume, ctx: Context, ino: Ino, name: string, value?: Buffer): Promise<void> {
  const member = memberOf(volume, name, 'ENOTSUP');
  const rule = value ? ruleFromXattr(value) : NO_RULE;
  const { value: done } = await volume.change(async (view) => {
    const attr = view.node(ino, 'all');
    if (!attr) throw new FsError('ENOENT');
    if (ctx.uid !== 0 && ctx.uid !== attr.uid) throw new FsError('EPERM');
    if (attr.flags & (NodeFlag.Immutable | NodeFlag.Append)) throw new FsError('EPERM');
    if (attr.type === NodeType.Symlink) throw new FsError('ENOTSUP');
    if (member === 'defaultAcl' && attr.type !== NodeType.Directory && !isEmptyRule(rule)) throw new FsError('EACCES');
    const complete = isEmptyRule(rule) ? rule : completedRule(rule, attr.mode);
    const changed = await withAcl(volume, ctx, attr, member, complete);
    if (changed[member] === attr[member] && changed.mode === attr.mode) return { writes: [], value: { attr, changed: attr } };
    const now = { sec: changed.ctime, nsec: changed.ctimensec };
    const log = volume.log.setAcl(ino, member === 'accessAcl' ? 1 : 2, encodeRule(complete), now);
    return { writes: [{ kind: 'putNode', ino, attr: changed }, ...log], value: { attr, changed } };
  }, ctx.signal);
  volume.files.changed(ino, done.attr, done.changed);
}

/** The attributes with a list, which says all that it leaves to the mode; or with none. */
async function withAcl(volume: Volume, ctx: Context, attr: Attr, member: Member, rule: AclRule): Promise<Attr> {
  const { sec, nsec } = volume.now();
  const access = member === 'accessAcl';
  // As chmod: who is not of the file's group does not keep the bit that gives it to others.
  const kept = ctx.uid !== 0 && !inGroup(ctx, attr.gid) ? attr.mode & ~0o2000 : attr.mode;
  const after = (id: number, mode: number): Attr => ({ ...attr, [member]: id, mode, ctime: sec, ctimensec: nsec });
  if (isEmptyRule(rule)) return after(0, kept);
  const mode = access ? (kept & 0o7000) | modeOfRule(rule) : kept;
  if (access && isMinimalRule(rule)) return after(0, mode);
  return after(await volume.acls.idOf(rule), mode);
}
