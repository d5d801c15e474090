/**
 * A transaction of the engine seam as SQL: compare, then write. Runs inside BEGIN IMMEDIATE, so nothing changes between the
 * comparison and the writing; a transaction whose check fails has written nothing.
 */
import type { Check, CommitResult, EntryValue, LockRecord, NodeScope, Transaction, Write } from '../engine.ts';
import { type QuotaKey, type QuotaRecord, quotaTypes } from '../quota.ts';
import { SLICE_RECORD } from '../records.ts';
import type { Attr, LockedFile } from '../types.ts';
import type { Ino } from '../../lib/int64.ts';
import type { Connection } from './connection.ts';
import { attrAt, bindIno, bindNode, bindOwner, bindTime, bytesAt, entryAt, lockAt, numberAt, quotaAt } from './rows.ts';
import type { Statements } from './statements.ts';

export interface Tables {
  readonly connection: Connection;
  readonly sql: Statements;
}

/** The node, or undefined. */
export function readNode({ connection, sql }: Tables, ino: Ino): Attr | undefined {
  const row = connection.get(sql.getNode, bindIno(ino));
  return row && attrAt(row, 0);
}

/** The value of a directory entry, or undefined. */
export function readEntry({ connection, sql }: Tables, parent: Ino, name: Buffer): EntryValue | undefined {
  const row = connection.get(sql.getEntry, bindIno(parent), name);
  return row && entryAt(row, 0);
}

/** The records of a chunk, empty where there is no list. */
export function readChunk({ connection, sql }: Tables, ino: Ino, index: number): Buffer {
  const row = connection.get(sql.getChunk, bindIno(ino), index);
  return row ? bytesAt(row, 0) : Buffer.alloc(0);
}

/** What is bound for a quota: its inode, or its type and number. */
function bindQuota(quota: QuotaKey): (number | bigint)[] {
  return quota.kind === 'directory' ? [bindIno(quota.id)] : [quotaTypes[quota.kind], quota.id];
}

/** The quota, or undefined. */
export function readQuota({ connection, sql }: Tables, quota: QuotaKey): QuotaRecord | undefined {
  const row = connection.get(quota.kind === 'directory' ? sql.getDirQuota : sql.getOwnerQuota, ...bindQuota(quota));
  return row && quotaAt(row, 0, quota);
}

/** All locks of a kind in a file. */
export function readLocks({ connection, sql }: Tables, { of, ino }: LockedFile): readonly LockRecord[] {
  return connection.all(of === 'flock' ? sql.flocks : sql.plocks, bindIno(ino)).map(lockAt);
}

/** The counter, 0 where there is none. */
export function readCounter({ connection, sql }: Tables, name: string): number {
  const row = connection.get(sql.getCounter, name);
  return row ? numberAt(row, 0) : 0;
}

const accessFields = ['flags', 'type', 'mode', 'uid', 'gid', 'parent', 'accessAcl', 'defaultAcl', 'tier'] as const;
const allFields = [
  ...accessFields,
  'atime',
  'atimensec',
  'mtime',
  'mtimensec',
  'ctime',
  'ctimensec',
  'nlink',
  'length',
  'rdev',
] as const;

function sameNode(found: Attr | undefined, expected: Attr | undefined, scope: NodeScope): boolean {
  if (!found || !expected) return found === expected;
  if (scope === 'exists') return true;
  return (scope === 'all' ? allFields : accessFields).every((field) => found[field] === expected[field]);
}

function sameLocks(found: readonly LockRecord[], expected: readonly LockRecord[]): boolean {
  const same = (a: LockRecord, b: LockRecord): boolean => a.sid === b.sid && a.owner === b.owner && a.value.equals(b.value);
  return found.length === expected.length && found.every((lock) => expected.some((other) => same(lock, other)));
}

interface Checked {
  readonly holds: boolean;
  readonly current: Attr | EntryValue | undefined;
}

const only = (holds: boolean): Checked => ({ holds, current: undefined });

function compare(tables: Tables, check: Check): Checked {
  const { connection, sql } = tables;
  switch (check.kind) {
    case 'node': {
      const current = readNode(tables, check.ino);
      return { holds: sameNode(current, check.expect, check.scope), current };
    }
    case 'entry': {
      const current = readEntry(tables, check.parent, check.name);
      return { holds: current?.ino === check.expect?.ino && current?.type === check.expect?.type, current };
    }
    case 'emptyDirectory':
      return only(connection.get(sql.hasEntry, bindIno(check.ino)) === undefined);
    case 'xattr':
      return only((connection.get(sql.getXattr, bindIno(check.ino), check.name) === undefined) === (check.expect === 'absent'));
    case 'chunkPrefix': {
      const found = readChunk(tables, check.ino, check.index);
      return only(check.whole ? found.equals(check.records) : found.subarray(0, check.records.length).equals(check.records));
    }
    case 'delayed':
      return only(connection.get(sql.getDelayed, check.id, check.time) !== undefined);
    case 'quotaLimits': {
      const found = readQuota(tables, check.quota)?.limits;
      return only(found?.space === check.expect?.space && found?.inodes === check.expect?.inodes);
    }
    case 'locks':
      return only(sameLocks(readLocks(tables, check), check.expect));
    case 'setting':
      return only(connection.get(sql.getSetting)?.[0] === check.expect);
    case 'counterAtMost':
      return only(readCounter(tables, check.name) <= check.value);
  }
}

/** Writes, and answers what the seam says about the result of this kind. */
function apply({ connection, sql }: Tables, write: Write): number {
  const run = (statement: string, ...values: Parameters<Connection['run']>[1][]): number => connection.run(statement, ...values);
  const answer = (statement: string, ...values: Parameters<Connection['run']>[1][]): number => {
    const row = connection.get(statement, ...values);
    return row ? numberAt(row, 0) : 0;
  };
  switch (write.kind) {
    case 'putNode':
      run(sql.putNode, ...bindNode(write.ino, write.attr));
      return 0;
    case 'touchNode':
      return run(sql.touchNode, ...bindTime(write.sec, write.nsec), write.nlink, bindIno(write.ino));
    case 'removeNode':
      run(sql.removeNode, bindIno(write.ino));
      return 0;
    case 'putEntry':
      run(sql.putEntry, bindIno(write.parent), write.name, bindIno(write.value.ino), write.value.type);
      return 0;
    case 'removeEntry':
      run(sql.removeEntry, bindIno(write.parent), write.name);
      return 0;
    case 'addParent':
    case 'removeParents':
      // The parents of a file are its rows in `edge`.
      return 0;
    case 'putSymlink':
      run(sql.putSymlink, bindIno(write.ino), write.target);
      return 0;
    case 'removeSymlink':
      run(sql.removeSymlink, bindIno(write.ino));
      return 0;
    case 'putXattr':
      run(sql.putXattr, bindIno(write.ino), write.name, write.value);
      return 0;
    case 'removeXattr':
      run(sql.removeXattr, bindIno(write.ino), write.name);
      return 0;
    case 'removeXattrs':
      run(sql.removeXattrs, bindIno(write.ino));
      return 0;
    case 'appendSlices': {
      const length = answer(
        write.onlyExisting ? sql.appendExisting : sql.appendSlices,
        bindIno(write.ino),
        write.index,
        write.records,
      );
      if (write.newSlice) run(sql.newSlice, write.newSlice.id, write.newSlice.size);
      return length / SLICE_RECORD;
    }
    case 'replaceSlices': {
      const row = connection.get(sql.replaceSlices, bindIno(write.ino), write.index, write.records, write.count * SLICE_RECORD);
      if (row && numberAt(row, 0) === 0) run(sql.removeChunk, bindIno(write.ino), write.index);
      if (write.newSlice) run(sql.newSlice, write.newSlice.id, write.newSlice.size);
      return 0;
    }
    case 'removeChunk':
      run(sql.removeChunk, bindIno(write.ino), write.index);
      return 0;
    case 'addSliceRef':
      return answer(sql.addSliceRef, write.id, write.size, write.delta);
    case 'forgetSlice':
      run(sql.forgetSlice, write.id);
      return 0;
    case 'delaySlices':
      run(sql.delaySlices, write.id, write.time, write.slices);
      return 0;
    case 'removeDelayed':
      run(sql.removeDelayed, write.id, write.time);
      return 0;
    case 'addCounter':
      return answer(sql.addCounter, write.name, write.delta);
    case 'setCounter':
      run(sql.setCounter, write.name, write.value);
      return 0;
    case 'addDirStat':
      return run(sql.addDirStat, write.delta.length, write.delta.space, write.delta.inodes, bindIno(write.ino));
    case 'putDirStat':
      run(sql.putDirStat, write.value.length, write.value.space, write.value.inodes, bindIno(write.ino));
      return 0;
    case 'removeDirStat':
      run(sql.removeDirStat, bindIno(write.ino));
      return 0;
    case 'removeDirStats':
      run(sql.removeDirStats);
      return 0;
    case 'putQuota': {
      const directory = write.quota.kind === 'directory';
      const { limits, usage } = write;
      const values = [...bindQuota(write.quota), limits.space, limits.inodes];
      if (usage) run(directory ? sql.putDirQuota : sql.putOwnerQuota, ...values, usage.space, usage.inodes);
      else run(directory ? sql.putDirLimits : sql.putOwnerLimits, ...values);
      return 0;
    }
    case 'addQuotaUsage': {
      const statement = write.quota.kind === 'directory' ? sql.addDirQuotaUsage : sql.addOwnerQuotaUsage;
      run(statement, ...bindQuota(write.quota), write.delta.space, write.delta.inodes);
      return 0;
    }
    case 'removeQuota':
      run(write.quota.kind === 'directory' ? sql.removeDirQuota : sql.removeOwnerQuota, ...bindQuota(write.quota));
      return 0;
    case 'removeQuotas':
      run(sql.removeOwnerQuotas, quotaTypes[write.of]);
      return 0;
    case 'putSetting':
      run(sql.updateSetting, write.text);
      return 0;
    case 'addDelfile':
      run(sql.addDelfile, bindIno(write.ino), write.length, write.time);
      return 0;
    case 'removeDelfile':
      run(sql.removeDelfile, bindIno(write.ino));
      return 0;
    case 'addSustained':
      run(sql.addSustained, write.sid, bindIno(write.ino));
      return 0;
    case 'removeSustained':
      run(sql.removeSustained, write.sid, bindIno(write.ino));
      return 0;
    case 'putLock': {
      const holder = [bindIno(write.ino), write.sid, bindOwner(write.owner)];
      if (write.of === 'flock') run(sql.putFlock, ...holder, write.value[0] ?? 0);
      else run(sql.putPlock, ...holder, write.value);
      return 0;
    }
    case 'removeLock':
      run(write.of === 'flock' ? sql.removeFlock : sql.removePlock, bindIno(write.ino), write.sid, bindOwner(write.owner));
      return 0;
    case 'announceLocks':
      return 0;
  }
}

/** Compares and writes. Must run inside a transaction of the connection. */
export function applyTransaction(tables: Tables, { checks, writes }: Transaction): CommitResult {
  const checked = checks.map((check) => compare(tables, check));
  if (checked.every(({ holds }) => holds)) return { ok: true, results: writes.map((write) => apply(tables, write)) };
  return {
    ok: false,
    failed: checked.flatMap(({ holds }, index) => (holds ? [] : [index])),
    current: checked.map(({ current }) => current),
  };
}
