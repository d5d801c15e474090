/**
 * A transaction as the arguments of commit.lua, and its answer as a result. The script's head is the contract.
 *
 * A node is compared byte for byte. A record that JuiceFS would write differently today (an ancient, shorter one) still
 * compares: see `nodeBytes`.
 */
import { FsError } from '../../lib/errors.ts';
import { formatIno } from '../../lib/int64.ts';
import type { Check, CommitResult, EntryValue, LogWrite, Transaction, Write } from '../engine.ts';
import {
  decodeAttr,
  decodeEntry,
  encodeAttr,
  encodeEntry,
  encodeQuotaLimits,
  encodeTimes,
  NODE_OWNER_END,
  NODE_PARENT_OFFSET,
  SLICE_RECORD,
} from '../records.ts';
import { NO_LIMITS } from '../quota.ts';
import type { Attr } from '../types.ts';
import type { Argument } from './connection.ts';
import { type Keys, lockField, quotaField, sliceField } from './keys.ts';

export interface Encoded {
  /** One per check, then one per command. */
  readonly keys: readonly string[];
  readonly args: readonly Argument[];
  /** Where the commands of each write end, counted in commands. */
  readonly ends: readonly number[];
}

/** The stored bytes that stand for an attribute in a check, where they are not what `encodeAttr` makes of it. */
export type NodeBytes = ReadonlyMap<number, Buffer>;

const NONE = Buffer.alloc(0);

function encodeCheck(check: Check, keys: Keys, raw: Buffer | undefined, outKeys: string[], out: Argument[]): void {
  switch (check.kind) {
    case 'node':
      outKeys.push(keys.node(check.ino));
      if (check.scope === 'exists') out.push('x');
      else out.push(check.scope === 'all' ? 'n' : 'a', raw ?? (check.expect ? encodeAttr(check.expect) : NONE));
      break;
    case 'entry':
      outKeys.push(keys.directory(check.parent));
      out.push('h', check.name, check.expect ? encodeEntry(check.expect) : NONE);
      break;
    case 'emptyDirectory':
      outKeys.push(keys.directory(check.ino));
      out.push('e');
      break;
    case 'xattr':
      outKeys.push(keys.xattr(check.ino));
      out.push('p', check.name, check.expect === 'present' ? 1 : 0);
      break;
    case 'chunkPrefix':
      outKeys.push(keys.chunk(check.ino, check.index));
      out.push('l', check.records, check.whole ? 1 : 0);
      break;
    case 'delayed':
      outKeys.push(keys.delayed);
      out.push('p', `${check.id}_${check.time}`, 1);
      break;
    case 'quotaLimits':
      outKeys.push(keys.quotas[check.quota.kind].limits);
      out.push('h', quotaField(check.quota), check.expect ? encodeQuotaLimits(check.expect) : NONE);
      break;
    case 'locks':
      outKeys.push(keys.locks(check));
      out.push('w', check.expect.length, ...check.expect.flatMap(({ sid, owner, value }) => [lockField(sid, owner), value]));
      break;
    case 'setting':
      outKeys.push(keys.setting);
      out.push('n', check.expect);
      break;
    case 'counterAtMost':
      outKeys.push(keys.counter(check.name));
      out.push('c', check.value);
      break;
  }
}

function recordsOf(records: Buffer): Buffer[] {
  const list: Buffer[] = [];
  for (let at = 0; at < records.length; at += SLICE_RECORD) list.push(records.subarray(at, at + SLICE_RECORD));
  return list;
}

/** The commands of one write; each is a key, a command and its arguments. */
function encodeWrite(write: Write, keys: Keys, command: (key: string, name: string, ...args: Argument[]) => void): void {
  switch (write.kind) {
    case 'putNode':
      return command(keys.node(write.ino), 'SET', encodeAttr(write.attr));
    case 'touchNode':
      return command(keys.node(write.ino), 'TOUCH', encodeTimes(write.sec, write.nsec), write.nlink);
    case 'removeNode':
      return command(keys.node(write.ino), 'DEL');
    case 'putEntry':
      return command(keys.directory(write.parent), 'HSET', write.name, encodeEntry(write.value));
    case 'removeEntry':
      return command(keys.directory(write.parent), 'HDEL', write.name);
    case 'addParent':
      return command(keys.parents(write.ino), 'HINCRBY', formatIno(write.parent), write.delta);
    case 'removeParents':
      return command(keys.parents(write.ino), 'DEL');
    case 'putSymlink':
      return command(keys.symlink(write.ino), 'SET', write.target);
    case 'removeSymlink':
      return command(keys.symlink(write.ino), 'DEL');
    case 'putXattr':
      return command(keys.xattr(write.ino), 'HSET', write.name, write.value);
    case 'removeXattr':
      return command(keys.xattr(write.ino), 'HDEL', write.name);
    case 'removeXattrs':
      return command(keys.xattr(write.ino), 'DEL');
    case 'appendSlices':
      if (write.records.length === 0) return;
      return command(keys.chunk(write.ino, write.index), write.onlyExisting ? 'RPUSHX' : 'RPUSH', ...recordsOf(write.records));
    case 'replaceSlices': {
      const key = keys.chunk(write.ino, write.index);
      command(key, 'LTRIM', write.count, -1);
      if (write.records.length > 0) command(key, 'LPUSH', ...recordsOf(write.records).toReversed());
      return;
    }
    case 'removeChunk':
      return command(keys.chunk(write.ino, write.index), 'DEL');
    case 'addSliceRef':
      return command(keys.sliceRefs, 'HINCRBY', sliceField(write.id, write.size), write.delta);
    case 'forgetSlice':
      return command(keys.sliceRefs, 'HDEL', sliceField(write.id, write.size));
    case 'delaySlices':
      return command(keys.delayed, 'HSET', `${write.id}_${write.time}`, write.slices);
    case 'removeDelayed':
      return command(keys.delayed, 'HDEL', `${write.id}_${write.time}`);
    case 'addCounter':
      return command(keys.counter(write.name), 'INCRBY', write.delta);
    case 'setCounter':
      return command(keys.counter(write.name), 'SET', write.value);
    case 'addDirStat': {
      const field = formatIno(write.ino);
      command(keys.dirLength, 'HINCRBYX', field, write.delta.length);
      command(keys.dirInodes, 'HINCRBYX', field, write.delta.inodes);
      return command(keys.dirSpace, 'HINCRBYX', field, write.delta.space);
    }
    case 'putDirStat': {
      const field = formatIno(write.ino);
      command(keys.dirLength, 'HSET', field, write.value.length);
      command(keys.dirInodes, 'HSET', field, write.value.inodes);
      return command(keys.dirSpace, 'HSET', field, write.value.space);
    }
    case 'removeDirStat': {
      const field = formatIno(write.ino);
      for (const key of [keys.dirLength, keys.dirInodes, keys.dirSpace]) command(key, 'HDEL', field);
      return;
    }
    case 'removeDirStats':
      for (const key of [keys.dirLength, keys.dirInodes, keys.dirSpace]) command(key, 'DEL');
      return;
    case 'putQuota': {
      const { limits, space, inodes } = keys.quotas[write.quota.kind];
      const field = quotaField(write.quota);
      command(limits, 'HSET', field, encodeQuotaLimits(write.limits));
      const put = write.usage ? 'HSET' : 'HSETNX';
      command(space, put, field, write.usage?.space ?? 0);
      return command(inodes, put, field, write.usage?.inodes ?? 0);
    }
    case 'addQuotaUsage': {
      const { limits, space, inodes } = keys.quotas[write.quota.kind];
      const field = quotaField(write.quota);
      const existing = write.quota.kind === 'directory';
      if (!existing) command(limits, 'HSETNX', field, encodeQuotaLimits(NO_LIMITS));
      const add = existing ? 'HINCRBYX' : 'HINCRBY';
      command(space, add, field, write.delta.space);
      return command(inodes, add, field, write.delta.inodes);
    }
    case 'removeQuota':
      for (const key of Object.values(keys.quotas[write.quota.kind]) as string[]) command(key, 'HDEL', quotaField(write.quota));
      return;
    case 'removeQuotas':
      for (const key of Object.values(keys.quotas[write.of]) as string[]) command(key, 'DEL');
      return;
    case 'putSetting':
      return command(keys.setting, 'SET', write.text);
    case 'addDelfile':
      return command(keys.delfiles, 'ZADD', write.time, `${formatIno(write.ino)}:${write.length}`);
    case 'removeDelfile':
      return command(keys.delfiles, 'ZREM', `${formatIno(write.ino)}:${write.length}`);
    case 'addDetached':
      return command(keys.detached, 'ZADD', write.time, formatIno(write.ino));
    case 'removeDetached':
      return command(keys.detached, 'ZREM', formatIno(write.ino));
    case 'addSustained':
      return command(keys.sustained(write.sid), 'SADD', formatIno(write.ino));
    case 'removeSustained':
      return command(keys.sustained(write.sid), 'SREM', formatIno(write.ino));
    case 'putLock':
      command(keys.locks(write), 'HSET', lockField(write.sid, write.owner), write.value);
      // The official client leaves shared flocks out, and cannot clean up after a session that dies with one.
      return command(keys.locked(write.sid), 'SADD', keys.locks(write));
    case 'removeLock':
      command(keys.locks(write), 'HDEL', lockField(write.sid, write.owner));
      if (write.last) command(keys.locked(write.sid), 'SREM', keys.locks(write));
      return;
    case 'announceLocks':
      return command(keys.locks(write), 'ANNOUNCE', keys.lockChannel(write));
    case 'appendLog':
      for (const [key, name, ...args] of logCommands(write, keys)) command(key, name, ...args);
      return;
  }
}

/** An entry of the change log. As in the official client the length of a list is not known before the end, and stands as 0. */
export function logCommands(
  { head, tail, records }: LogWrite,
  keys: Keys,
): readonly (readonly [key: string, command: string, ...args: Argument[]])[] {
  return [
    [keys.log, 'RPUSH', records ? `${head}0${tail}` : head + tail],
    [keys.logNumber, 'INCR'],
  ];
}

/** Keys and arguments of the script from the number of checks on. */
export function encodeTransaction(transaction: Transaction, keys: Keys, nodeBytes?: NodeBytes): Encoded {
  const outKeys: string[] = [];
  const args: Argument[] = [transaction.checks.length];
  transaction.checks.forEach((check, index) => encodeCheck(check, keys, nodeBytes?.get(index), outKeys, args));
  const ends: number[] = [];
  for (const write of transaction.writes) {
    encodeWrite(write, keys, (key, name, ...rest) => {
      outKeys.push(key);
      args.push(name, rest.length, ...rest);
    });
    ends.push(outKeys.length - transaction.checks.length);
  }
  return { keys: outKeys, args, ends };
}

/** What a write answers, from the numbers its commands answered. */
function resultOf(write: Write, numbers: readonly number[]): number {
  const last = numbers.at(-1) ?? 0;
  switch (write.kind) {
    case 'addCounter':
    case 'appendSlices':
    case 'touchNode':
      return last;
    // Redis counts the references beside the first.
    case 'addSliceRef':
      return last + 1;
    case 'addDirStat':
      return Math.min(...numbers);
    default:
      return 0;
  }
}

function results(transaction: Transaction, encoded: Encoded, numbers: readonly number[]): CommitResult {
  let from = 0;
  return {
    ok: true,
    results: transaction.writes.map((write, index) => {
      const to = encoded.ends[index] ?? from;
      const result = resultOf(write, numbers.slice(from, to));
      from = to;
      return result;
    }),
  };
}

function currentOf(check: Check, value: Buffer | null): Attr | EntryValue | undefined {
  if (!value) return undefined;
  if (check.kind === 'node') return decodeAttr(value);
  return check.kind === 'entry' ? decodeEntry(value) : undefined;
}

/** Reads the script's answer. */
export function decodeAnswer(transaction: Transaction, encoded: Encoded, answer: unknown): CommitResult {
  const [outcome, ...rest] = answer as [number, ...unknown[]];
  switch (outcome) {
    case 0: {
      const [failed, current] = rest as [readonly number[], readonly (Buffer | null)[]];
      return {
        ok: false,
        failed,
        current: transaction.checks.map((check, index) => currentOf(check, current[index] ?? null)),
      };
    }
    case 1:
      return results(transaction, encoded, rest as number[]);
    case 2: {
      const text = String(rest[0]);
      return results(transaction, encoded, text === '' ? [] : text.split(',').map(Number));
    }
    default:
      throw new FsError('EIO', `the commit script answered ${JSON.stringify(answer)}`);
  }
}

/**
 * Node records that failed their check though they mean what was expected: written by an older client in another length.
 * Answers the bytes to compare with instead, by index of the check, or undefined where some check failed for good.
 */
export function otherSpelling(transaction: Transaction, answer: unknown): NodeBytes | undefined {
  const [outcome, failed, current] = answer as [number, readonly number[], readonly (Buffer | null)[]];
  if (outcome !== 0) return undefined;
  const bytes = new Map<number, Buffer>();
  for (const index of failed) {
    const check = transaction.checks[index];
    const found = current[index];
    if (check?.kind !== 'node' || !check.expect || !found) return undefined;
    const expected = encodeAttr(check.expect);
    const canonical = encodeAttr(decodeAttr(found));
    const same =
      check.scope === 'all'
        ? canonical.equals(expected)
        : canonical.subarray(0, NODE_OWNER_END).equals(expected.subarray(0, NODE_OWNER_END)) &&
          canonical.subarray(NODE_PARENT_OFFSET).equals(expected.subarray(NODE_PARENT_OFFSET));
    if (!same || canonical.equals(found)) return undefined;
    bytes.set(index, found);
  }
  return bytes;
}
