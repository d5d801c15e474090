/**
 * Names, attributes and slices as a JSON dump spells them, byte for byte as `juicefs dump` does.
 *
 * Names, link targets and values of extended attributes may be any bytes. Bytes up to the space, `%`, `"`, `\` and whatever is not UTF-8 are
 * `%XX`, in capitals; the rest stands for itself. (The official client loses a genuine U+FFFD; here it stands for itself, too.)
 *
 * Source: the JuiceFS format, JSON dump (`escape`, `unescape`, `writeJSON` in pkg/meta/dump.go).
 */
import { UserError } from '../../lib/errors.ts';
import { formatIno, type Ino, parseIno } from '../../lib/int64.ts';
import type { AclRule, NamedEntry } from '../acl-rule.ts';
import { decodeSlices, type SliceRecord } from '../records.ts';
import { type Attr, NodeType } from '../types.ts';

const HEX = '0123456789ABCDEF';
const escaped = (byte: number): string => `%${HEX.charAt(byte >> 4)}${HEX.charAt(byte & 15)}`;
const isPlain = (byte: number): boolean => byte > 32 && byte !== 37 && byte !== 34 && byte !== 92;

/** How many bytes the UTF-8 character at `at` has; 0 where there is none. */
function characterLength(bytes: Buffer, at: number): number {
  const first = bytes[at] ?? 0;
  if (first < 0x80) return 1;
  const length = first >= 0xc2 && first < 0xe0 ? 2 : first >= 0xe0 && first < 0xf0 ? 3 : first >= 0xf0 && first < 0xf5 ? 4 : 0;
  if (length === 0 || at + length > bytes.length) return 0;
  const second = bytes[at + 1] ?? 0;
  // Overlong forms, surrogates, and what lies behind the last character.
  const low = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80;
  const high = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf;
  if (second < low || second > high) return 0;
  for (let next = at + 2; next < at + length; next++) if (((bytes[next] ?? 0) & 0xc0) !== 0x80) return 0;
  return length;
}

/** Bytes as text that stands in a JSON string as it is. */
export function escapeBytes(bytes: Buffer): string {
  if (bytes.every((byte) => byte < 0x80 && isPlain(byte))) return bytes.toString('latin1');
  let text = '';
  for (let at = 0; at < bytes.length;) {
    const byte = bytes[at] ?? 0;
    const length = characterLength(bytes, at);
    text += length === 0 || !isPlain(byte) ? escaped(byte) : bytes.toString('utf8', at, at + length);
    at += Math.max(length, 1);
  }
  return text;
}

const hexOf = (byte: number | undefined): number => {
  if (byte === undefined) return -1;
  if (byte >= 48 && byte <= 57) return byte - 48;
  return byte >= 65 && byte <= 70 ? byte - 55 : -1;
};

/** The bytes of an escaped text. A `%` that two capital hexadecimal digits do not follow stands for itself. */
export function unescapeBytes(text: string): Buffer {
  const bytes = Buffer.from(text);
  if (!bytes.includes(37)) return bytes;
  let end = 0;
  for (let at = 0; at < bytes.length; at++) {
    const [high, low] = bytes[at] === 37 ? [hexOf(bytes[at + 1]), hexOf(bytes[at + 2])] : [-1, -1];
    if (high >= 0 && low >= 0) at += 2;
    bytes[end++] = high >= 0 && low >= 0 ? high * 16 + low : (bytes[at] ?? 0);
  }
  return bytes.subarray(0, end);
}

/** A string as Go's encoding/json writes it. */
export function goString(text: string): string {
  return JSON.stringify(text.toWellFormed()).replace(
    /[<>&\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

const typeNames = ['', 'regular', 'directory', 'symlink', 'fifo', 'blockdev', 'chardev', 'socket'];

/** What is written of a node that an entry names and that is not there. */
export function missingAttr(type: NodeType): Attr {
  const never = { atime: 0, atimensec: 0, mtime: 0, mtimensec: 0, ctime: 0, ctimensec: 0 };
  const none = { flags: 0, mode: 0, uid: 0, gid: 0, length: 0, rdev: 0, accessAcl: 0, defaultAcl: 0, tier: 0 };
  return { ...none, ...never, type, nlink: type === NodeType.Directory ? 2 : 1, parent: 0 as Ino };
}

/** The `attr` of an entry. */
export function attrText(ino: Ino, attr: Attr): string {
  const some = (name: string, value: number): string => (value === 0 ? '' : `,"${name}":${value}`);
  return [
    `{"inode":${formatIno(ino)}`,
    some('flags', attr.flags),
    `,"type":"${typeNames[attr.type] ?? ''}","mode":${attr.mode},"uid":${attr.uid},"gid":${attr.gid}`,
    `,"atime":${attr.atime},"mtime":${attr.mtime},"ctime":${attr.ctime}`,
    some('atimensec', attr.atimensec),
    some('mtimensec', attr.mtimensec),
    some('ctimensec', attr.ctimensec),
    `,"nlink":${attr.nlink},"length":${attr.type === NodeType.File ? attr.length : 0}`,
    some('rdev', attr.rdev),
    some('tier', attr.tier),
    '}',
  ].join('');
}

const wrong = (what: string): UserError =>
  new UserError('DumpDamaged', `The dump cannot be loaded: ${what}`, { hint: 'Nothing was loaded. Take another dump.' });

/** Reads the `attr` of an entry. Parent and link count are not what counts: they follow from the tree. Throws UserError. */
export function parseAttr(text: string): { readonly ino: Ino; readonly attr: Attr } {
  let found: Readonly<Record<string, unknown>>;
  // Inodes of the trash are more than a number holds.
  let inode = '';
  try {
    found = JSON.parse(
      text.replace(/("inode"\s*:\s*)(\d+)/, (_all, name: string, digits: string) => `${name}"${(inode = digits)}"`),
    );
  } catch {
    throw wrong(`these attributes are no JSON: ${text.slice(0, 200)}`);
  }
  const number = (name: string): number => {
    const value = found[name] ?? 0;
    if (!Number.isSafeInteger(value)) throw wrong(`${name} of inode ${inode} should be a whole number below 2^53`);
    return value as number;
  };
  const type = typeNames.indexOf((found['type'] ?? '') as string);
  if (inode === '' || type < 1) throw wrong(`these attributes have no inode, or no type that is known: ${text.slice(0, 200)}`);
  return {
    ino: parseIno(inode),
    attr: {
      flags: number('flags'),
      type: type as NodeType,
      mode: number('mode') & 0o7777,
      uid: number('uid'),
      gid: number('gid'),
      atime: number('atime'),
      atimensec: number('atimensec'),
      mtime: number('mtime'),
      mtimensec: number('mtimensec'),
      ctime: number('ctime'),
      ctimensec: number('ctimensec'),
      nlink: number('nlink'),
      length: number('length'),
      rdev: number('rdev'),
      parent: 0 as Ino,
      accessAcl: 0,
      defaultAcl: 0,
      tier: number('tier'),
    },
  };
}

/** An access control list of an entry. */
export function aclText({ owner, group, other, mask, users, groups }: AclRule): string {
  const list = (all: readonly NamedEntry[]): string =>
    all.length === 0 ? 'null' : `[${all.map(({ id, permissions }) => `{"id":${id},"perm":${permissions}}`).join(',')}]`;
  return `{"owner":${owner},"group":${group},"other":${other},"mask":${mask},"users":${list(users)},"groups":${list(groups)}}`;
}

interface DumpedAcl {
  readonly owner: number;
  readonly group: number;
  readonly other: number;
  readonly mask: number;
  readonly users: readonly { readonly id: number; readonly perm: number }[] | null;
  readonly groups: readonly { readonly id: number; readonly perm: number }[] | null;
}

/** Reads an access control list; undefined for `null`. */
export function parseAcl(text: string): AclRule | undefined {
  const found = JSON.parse(text) as DumpedAcl | null;
  if (!found) return undefined;
  const list = (all: DumpedAcl['users']): readonly NamedEntry[] => (all ?? []).map(({ id, perm }) => ({ id, permissions: perm }));
  const { owner, group, other, mask, users, groups } = found;
  return { owner, group, other, mask, users: list(users), groups: list(groups) };
}

/** One chunk: its number and its slices, oldest first. */
export function chunkText(index: number, records: Buffer): string {
  const slices = decodeSlices(records).map(({ pos, id, size, off, len }) => {
    const some = (name: string, value: number): string => (value === 0 ? '' : `,"${name}":${value}`);
    return `{"id":${id}${some('pos', pos)},"size":${size}${some('off', off)},"len":${len}}`;
  });
  return `{"index":${index},"slices":[${slices.join(',')}]}`;
}

interface DumpedSlice {
  readonly chunkid?: number;
  readonly id?: number;
  readonly pos?: number;
  readonly size?: number;
  readonly off?: number;
  readonly len?: number;
}

/** Reads one chunk; the first versions called a slice's id `chunkid`. Throws UserError. */
export function parseChunk(text: string): { readonly index: number; readonly slices: readonly SliceRecord[] } {
  const { index, slices } = JSON.parse(text) as { readonly index?: number; readonly slices?: readonly DumpedSlice[] | null };
  const numbers = (slices ?? []).map(({ chunkid = 0, id = 0, pos = 0, size = 0, off = 0, len = 0 }) => ({
    pos,
    id: id || chunkid,
    size,
    off,
    len,
  }));
  const all = [index, ...numbers.flatMap((slice) => Object.values(slice))];
  if (!all.every((value) => Number.isSafeInteger(value) && (value as number) >= 0))
    throw wrong(`this chunk holds what is no whole number: ${text.slice(0, 200)}`);
  return { index: index ?? 0, slices: numbers };
}
