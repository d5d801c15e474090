/**
 * Rows of an SQL database as values, and values as what is bound. Rows come as arrays (no object is made per row).
 *
 * A time is microseconds since the epoch, rounded towards the past, and 0 … 999 nanoseconds; JuiceFS writes a negative
 * remainder for times before 1970, which is understood as well.
 */
import { type Ino, ino, inoToBigInt } from '../../lib/int64.ts';
import type { EntryValue, LockRecord, NamedEntry } from '../engine.ts';
import type { QuotaKey, QuotaRecord } from '../quota.ts';
import type { Attr, NodeType } from '../types.ts';

export type SqlValue = null | number | bigint | string | Uint8Array;
export type Row = readonly SqlValue[];

/** What is bound for an inode. */
export function bindIno(value: Ino): number | bigint {
  return value < 0 ? inoToBigInt(value) : value;
}

/** A whole number of a row. Throws RangeError where the column holds something else (a damaged database). */
export function numberAt(row: Row, index: number): number {
  const value = row[index];
  if (typeof value !== 'number')
    throw new RangeError(`column ${index} should be a number, it is ${value === null ? 'null' : typeof value}`);
  return value;
}

/** An access control list: four numbers of two bytes, then two lists with a count and six bytes for each entry. */
const ACL_FIXED = 8;
const ACL_ENTRY = 6;

export const inoAt = (row: Row, index: number): Ino => ino(numberAt(row, index));

/** Bytes of a row, without a copy. */
export function bytesAt(row: Row, index: number): Buffer {
  const value = row[index];
  if (!(value instanceof Uint8Array))
    throw new RangeError(`column ${index} should be bytes, it is ${value === null ? 'null' : typeof value}`);
  return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
}

export const entryAt = (row: Row, index: number): EntryValue => ({
  type: numberAt(row, index) as NodeType,
  ino: inoAt(row, index + 1),
});

/** Rows of name, type and inode; names as bytes, or all as hexadecimal digits. They share one buffer then. */
export function entriesAt(rows: readonly Row[]): readonly NamedEntry[] {
  const digits = rows.map(([name]) => name);
  if (!digits.every((name) => typeof name === 'string'))
    return rows.map((row) => ({ name: bytesAt(row, 0), ...entryAt(row, 1) }));
  const bytes = Buffer.from(digits.join(''), 'hex');
  let end = 0;
  return rows.map((row, index) => {
    const start = end;
    end += (digits[index]?.length ?? 0) / 2;
    return { name: bytes.subarray(start, end), type: numberAt(row, 1) as NodeType, ino: inoAt(row, 2) };
  });
}

/** A quota in a row whose columns from `start` on are limits and usage. */
export const quotaAt = (row: Row, start: number, quota: QuotaKey): QuotaRecord => ({
  quota,
  limits: { space: numberAt(row, start), inodes: numberAt(row, start + 1) },
  used: { space: numberAt(row, start + 2), inodes: numberAt(row, start + 3) },
});

/** What is bound for a lock's owner, 64 bits without a sign that SQL stores with one. */
export const bindOwner = (owner: bigint): bigint => BigInt.asIntN(64, owner);

/** A lock in a row of session, owner as text, and its type (a letter's code) or records. */
export function lockAt(row: Row): LockRecord {
  const value = row[2];
  return {
    sid: numberAt(row, 0),
    owner: BigInt.asUintN(64, BigInt(String(row[1]))),
    value: typeof value === 'number' ? Buffer.of(value) : bytesAt(row, 2),
  };
}

/** The stored form of an access control list (acl-rule.ts), from the columns behind its number. */
export function aclAt(row: Row): Buffer {
  const lists = [5, 6].map((index) => (row[index] === null ? Buffer.alloc(0) : bytesAt(row, index)));
  const fixed = Buffer.alloc(ACL_FIXED);
  for (let index = 0; index < 4; index++) fixed.writeUInt16BE(numberAt(row, index + 1), index * 2);
  const counted = lists.map((list) => {
    const count = Buffer.alloc(4);
    count.writeUInt32BE(list.length / ACL_ENTRY);
    return Buffer.concat([count, list]);
  });
  return Buffer.concat([fixed, ...counted]);
}

/** What is bound for a new access control list: owner, group, mask, other, named users, named groups. */
export function bindAcl(rule: Buffer): (number | Buffer)[] {
  const users = rule.readUInt32BE(ACL_FIXED) * ACL_ENTRY;
  const from = ACL_FIXED + 4;
  return [...[0, 2, 4, 6].map((at) => rule.readUInt16BE(at)), rule.subarray(from, from + users), rule.subarray(from + users + 4)];
}

const MICROSECONDS = 1_000_000;

const microseconds = (sec: number, nsec: number): number => sec * MICROSECONDS + Math.floor(nsec / 1000);

function timeOf(micro: number, remainder: number): readonly [sec: number, nsec: number] {
  const whole = remainder < 0 ? micro - 1 : micro;
  const sec = Math.floor(whole / MICROSECONDS);
  return [sec, (whole - sec * MICROSECONDS) * 1000 + (remainder < 0 ? remainder + 1000 : remainder)];
}

/** The node in a row whose columns from `start` on are those of `getNode`. */
export function attrAt(row: Row, start: number): Attr {
  const at = (offset: number): number => numberAt(row, start + offset);
  const [atime, atimensec] = timeOf(at(5), at(6));
  const [mtime, mtimensec] = timeOf(at(7), at(8));
  const [ctime, ctimensec] = timeOf(at(9), at(10));
  return {
    flags: at(0),
    type: at(1) as NodeType,
    mode: at(2),
    uid: at(3),
    gid: at(4),
    atime,
    atimensec,
    mtime,
    mtimensec,
    ctime,
    ctimensec,
    nlink: at(11),
    length: at(12),
    rdev: at(13),
    parent: ino(at(14)),
    accessAcl: at(15),
    defaultAcl: at(16),
    tier: at(17),
  };
}

/** What `putNode` binds. */
export function bindNode(inode: Ino, attr: Attr): (number | bigint)[] {
  return [
    bindIno(inode),
    attr.flags,
    attr.type,
    attr.mode,
    attr.uid,
    attr.gid,
    microseconds(attr.atime, attr.atimensec),
    attr.atimensec % 1000,
    microseconds(attr.mtime, attr.mtimensec),
    attr.mtimensec % 1000,
    microseconds(attr.ctime, attr.ctimensec),
    attr.ctimensec % 1000,
    attr.nlink,
    attr.length,
    attr.rdev,
    bindIno(attr.parent),
    attr.accessAcl,
    attr.defaultAcl,
    attr.tier,
  ];
}

/** What `touchNode` binds for a time: microseconds, remainder. */
export function bindTime(sec: number, nsec: number): readonly [number, number] {
  return [microseconds(sec, nsec), nsec % 1000];
}
