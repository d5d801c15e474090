/** What the engine reads, as Redis commands, and the values that their replies stand for. */
import { FsError } from '../../lib/errors.ts';
import { formatIno, type Ino, parseIno } from '../../lib/int64.ts';
import type { LockRecord, Read, ValueOf } from '../engine.ts';
import { NO_LIMITS, type QuotaKey, type QuotaRecord } from '../quota.ts';
import { decodeAttr, decodeEntry, decodeQuotaLimits, SLICE_RECORD } from '../records.ts';
import type { Argument } from './connection.ts';
import { type Keys, parseLockField, quotaField } from './keys.ts';

export type Command = readonly [string, ...Argument[]];

/** The commands of one read, to be sent in one go. */
export function commandsOf(read: Read, keys: Keys): readonly Command[] {
  switch (read.kind) {
    case 'node':
      return [['GET', keys.node(read.ino)]];
    case 'entry':
      return [['HGET', keys.directory(read.parent), read.name]];
    case 'symlink':
      return [['GET', keys.symlink(read.ino)]];
    case 'xattr':
      return [['HGET', keys.xattr(read.ino), read.name]];
    case 'xattrNames':
      return [['HKEYS', keys.xattr(read.ino)]];
    case 'chunk':
      return [['LRANGE', keys.chunk(read.ino, read.index), 0, -1]];
    case 'parents':
      return [['HGETALL', keys.parents(read.ino)]];
    case 'entryCount':
      return [['HLEN', keys.directory(read.ino)]];
    case 'counter':
      return [['GET', keys.counter(read.name)]];
    case 'locks':
      return [['HGETALL', keys.locks(read)]];
    case 'acl':
      return [['HGET', keys.acls, read.id]];
    case 'quota': {
      const { limits, space, inodes } = keys.quotas[read.quota.kind];
      return [limits, space, inodes].map((key) => ['HGET', key, quotaField(read.quota)]);
    }
    default: {
      const field = formatIno(read.ino);
      return [keys.dirLength, keys.dirSpace, keys.dirInodes].map((key) => ['HGET', key, field]);
    }
  }
}

/** A flat reply of fields and values as pairs. */
export function pairs(list: readonly Buffer[]): (readonly [Buffer, Buffer])[] {
  const result: (readonly [Buffer, Buffer])[] = [];
  for (let at = 0; at + 1 < list.length; at += 2) result.push([list[at] as Buffer, list[at + 1] as Buffer]);
  return result;
}

function numberOf(value: unknown): number {
  return value === null ? 0 : Number((value as Buffer).toString());
}

function chunkOf(list: readonly Buffer[]): Buffer {
  const bad = list.find((record) => record.length !== SLICE_RECORD);
  if (bad) throw new FsError('EIO', `a slice record has ${SLICE_RECORD} bytes, one of this chunk has ${bad.length}`);
  return Buffer.concat(list);
}

function parentsOf(list: readonly Buffer[]): ReadonlyMap<Ino, number> {
  const counted = pairs(list).map(([parent, count]) => [parseIno(parent.toString()), Number(count.toString())] as const);
  // Counts of 0 and below are leftovers.
  return new Map(counted.filter(([, count]) => count > 0));
}

function locksOf(list: readonly Buffer[]): readonly LockRecord[] {
  return pairs(list).flatMap(([field, value]) => {
    const holder = parseLockField(field.toString('latin1'));
    return holder ? [{ ...holder, value }] : [];
  });
}

/** A quota from limits, used space and used inodes as Redis has them; what is missing is no limit, or 0. */
export function quotaOf(quota: QuotaKey, [limits, space, inodes]: readonly unknown[]): QuotaRecord {
  return {
    quota,
    limits: limits ? decodeQuotaLimits(limits as Buffer) : NO_LIMITS,
    used: { space: numberOf(space ?? null), inodes: numberOf(inodes ?? null) },
  };
}

/** The value that the replies to `commandsOf` stand for. */
export function valueOf(read: Read, replies: readonly unknown[]): ValueOf[keyof ValueOf] {
  const [reply] = replies;
  switch (read.kind) {
    case 'node':
      return reply ? decodeAttr(reply as Buffer) : undefined;
    case 'entry':
      return reply ? decodeEntry(reply as Buffer) : undefined;
    case 'symlink':
    case 'xattr':
    case 'acl':
      return (reply as Buffer | null) ?? undefined;
    case 'xattrNames':
      return (reply as Buffer[]).map((name) => name.toString());
    case 'chunk':
      return chunkOf(reply as Buffer[]);
    case 'parents':
      return parentsOf(reply as Buffer[]);
    case 'entryCount':
      return Number(reply);
    case 'counter':
      return numberOf(reply);
    case 'locks':
      return locksOf(reply as Buffer[]);
    case 'quota':
      return reply ? quotaOf(read.quota, replies) : undefined;
    default: {
      if (replies.includes(null)) return undefined;
      const [length, space, inodes] = replies.map(numberOf) as [number, number, number];
      return { length, space, inodes };
    }
  }
}
