/**
 * Access control lists as pure functions over rules: how they are stored, how the kernel spells them, and what they mean for a mode.
 *
 * Stored (the JuiceFS format, ACL rules; pkg/acl/acl.go), big-endian: owner, group, mask, other u16 (0xFFFF: not set), then the number of
 * named users u32 and 6 bytes for each (id u32, permissions u16), then the same for groups. In extended attributes (Linux,
 * include/uapi/linux/posix_acl_xattr.h), little-endian: version 2 u32, then 8 bytes for each entry (tag u16, permissions u16, id u32).
 */
import { FsError } from '../lib/errors.ts';

/** Stands for "not set" in owner, group, mask and other. */
export const UNSET = 0xffff;

export interface NamedEntry {
  readonly id: number;
  /** rwx, as in a mode. */
  readonly permissions: number;
}

export interface AclRule {
  readonly owner: number;
  readonly group: number;
  readonly mask: number;
  readonly other: number;
  readonly users: readonly NamedEntry[];
  readonly groups: readonly NamedEntry[];
}

const FIXED = 8;
const COUNT = 4;
const ENTRY = 6;

/** A rule as it is stored. */
export function encodeRule(rule: AclRule): Buffer {
  const { owner, group, mask, other, users, groups } = rule;
  const bytes = Buffer.alloc(FIXED + 2 * COUNT + ENTRY * (users.length + groups.length));
  let at = 0;
  for (const value of [owner, group, mask, other]) at = bytes.writeUInt16BE(value, at);
  for (const list of [users, groups]) {
    at = bytes.writeUInt32BE(list.length, at);
    for (const { id, permissions } of list) at = bytes.writeUInt16BE(permissions, bytes.writeUInt32BE(id, at));
  }
  return bytes;
}

/** Reads a stored rule. Throws RangeError where it is cut short. */
export function decodeRule(bytes: Buffer): AclRule {
  let at = FIXED;
  const list = (): readonly NamedEntry[] => {
    const count = bytes.readUInt32BE(at);
    at += COUNT;
    return Array.from({ length: count }, () => {
      const entry = { id: bytes.readUInt32BE(at), permissions: bytes.readUInt16BE(at + 4) };
      at += ENTRY;
      return entry;
    });
  };
  const [owner, group, mask, other] = [0, 2, 4, 6].map((offset) => bytes.readUInt16BE(offset)) as [
    number,
    number,
    number,
    number,
  ];
  return { owner, group, mask, other, users: list(), groups: list() };
}

const Tag = { Owner: 0x01, User: 0x02, Group: 0x04, NamedGroup: 0x08, Mask: 0x10, Other: 0x20 } as const;
const VERSION = 2;
const HEADER = 4;
const XATTR_ENTRY = 8;
const NOBODY = 0xffff_ffff;

/** A rule as the value of an extended attribute. */
export function ruleToXattr({ owner, group, mask, other, users, groups }: AclRule): Buffer {
  const entries = [
    [Tag.Owner, owner, NOBODY],
    ...users.map(({ id, permissions }) => [Tag.User, permissions, id] as const),
    [Tag.Group, group, NOBODY],
    ...groups.map(({ id, permissions }) => [Tag.NamedGroup, permissions, id] as const),
    ...(mask === UNSET ? [] : [[Tag.Mask, mask, NOBODY] as const]),
    [Tag.Other, other, NOBODY],
  ] as const;
  const bytes = Buffer.alloc(HEADER + XATTR_ENTRY * entries.length);
  let at = bytes.writeUInt32LE(VERSION, 0);
  for (const [tag, permissions, id] of entries)
    at = bytes.writeUInt32LE(id, bytes.writeUInt16LE(permissions, bytes.writeUInt16LE(tag, at)));
  return bytes;
}

/** Reads the value of an extended attribute; EINVAL where it is no list. Without entries it is an empty rule. */
export function ruleFromXattr(value: Buffer): AclRule {
  const wrong = (what: string): FsError => new FsError('EINVAL', `not an access control list: ${what}`);
  if (value.length < HEADER || value.length % XATTR_ENTRY !== HEADER) throw wrong(`${value.length} bytes`);
  if (value.readUInt32LE(0) !== VERSION) throw wrong(`version ${value.readUInt32LE(0)}`);
  const single = new Map<number, number>();
  const users: NamedEntry[] = [];
  const groups: NamedEntry[] = [];
  for (let at = HEADER; at < value.length; at += XATTR_ENTRY) {
    const tag = value.readUInt16LE(at);
    const permissions = value.readUInt16LE(at + 2);
    const id = value.readUInt32LE(at + 4);
    if (permissions > 7) throw wrong(`permissions ${permissions.toString(8)}`);
    if (tag === Tag.User) users.push({ id, permissions });
    else if (tag === Tag.NamedGroup) groups.push({ id, permissions });
    else if (single.has(tag) || ![Tag.Owner, Tag.Group, Tag.Mask, Tag.Other].includes(tag as 1)) throw wrong(`entry ${tag}`);
    else single.set(tag, permissions);
  }
  const of = (tag: number): number => single.get(tag) ?? UNSET;
  if (of(Tag.Mask) === UNSET && users.length + groups.length > 0) throw wrong('names without a mask');
  return { owner: of(Tag.Owner), group: of(Tag.Group), mask: of(Tag.Mask), other: of(Tag.Other), users, groups };
}

/** Says nothing at all. */
export function isEmptyRule({ owner, group, mask, other, users, groups }: AclRule): boolean {
  return users.length + groups.length === 0 && [owner, group, mask, other].every((value) => value === UNSET);
}

/** Says no more than a mode could. */
export function isMinimalRule({ mask, users, groups }: AclRule): boolean {
  return users.length + groups.length === 0 && mask === UNSET;
}

/** The rule with what it leaves open taken from a mode. */
export function completedRule(rule: AclRule, mode: number): AclRule {
  const or = (value: number, shift: number): number => (value === UNSET ? (mode >> shift) & 7 : value);
  return { ...rule, owner: or(rule.owner, 6), group: or(rule.group, 3), other: or(rule.other, 0) };
}

/** The nine bits of mode that go with the rule: the group's are those of the mask, where there is one. */
export function modeOfRule(rule: AclRule): number {
  const group = isMinimalRule(rule) ? rule.group : rule.mask;
  return ((rule.owner & 7) << 6) | ((group & 7) << 3) | (rule.other & 7);
}

/** The rule after chmod. */
export function ruleWithMode(rule: AclRule, mode: number): AclRule {
  const group = (mode >> 3) & 7;
  return {
    ...rule,
    owner: (mode >> 6) & 7,
    other: mode & 7,
    ...(isMinimalRule(rule) ? { group } : { mask: group }),
  };
}

/** What a node made with this mode gets in a directory whose default rule this is (not a minimal one). */
export function inheritedRule(rule: AclRule, mode: number): AclRule {
  return { ...rule, owner: rule.owner & (mode >> 6) & 7, mask: rule.mask & (mode >> 3) & 7, other: rule.other & mode & 7 };
}

/** Whether a rule grants all of `wanted` to somebody who is not root; `gids` are all groups. */
export function ruleGrants(
  rule: AclRule,
  who: { readonly uid: number; readonly gids: readonly number[] },
  node: { readonly uid: number; readonly gid: number },
  wanted: number,
): boolean {
  const has = (permissions: number): boolean => (permissions & wanted) === wanted;
  if (who.uid === node.uid) return has(rule.owner);
  const mask = rule.mask === UNSET ? 7 : rule.mask;
  const user = rule.users.find(({ id }) => id === who.uid);
  if (user) return has(user.permissions & mask);
  const groups = rule.groups.filter(({ id }) => who.gids.includes(id)).map(({ permissions }) => permissions);
  if (who.gids.includes(node.gid)) groups.push(rule.group);
  // Of several groups each counts by itself; who is in one is not one of the others.
  return groups.length > 0 ? groups.some((permissions) => has(permissions & mask)) : has(rule.other);
}
