/**
 * A transaction of the engine seam as SQL: compare, then write. Runs inside BEGIN IMMEDIATE, so nothing changes between the
 * comparison and the writing; a transaction whose check fails has written nothing.
 */
import type { Ino } from '../../lib/int64.ts';
import type { Check, CommitResult, EntryValue, LockRecord, Transaction } from '../engine.ts';
import type { QuotaKey, QuotaRecord } from '../quota.ts';
import { holdsRecords, sameEntry, sameLimits, sameLocks, sameNode } from '../sql/checks.ts';
import { attrAt, bindIno, bytesAt, entryAt, lockAt, numberAt, quotaAt } from '../sql/rows.ts';
import type { Statements } from '../sql/statements.ts';
import { apply, bindQuota, type Sink } from '../sql/writes.ts';
import type { Attr, LockedFile } from '../types.ts';
import type { Connection } from './connection.ts';

export interface Tables {
  readonly connection: Connection;
  readonly sql: Statements;
  /** Where writes go: they are carried out at once. */
  readonly sink: Sink<number>;
}

/** Carries statements out on this connection. */
export function sinkOf(connection: Connection): Sink<number> {
  return {
    run: (statement, ...values) => connection.run(statement, ...values),
    answer(statement, ...values) {
      const row = connection.get(statement, ...values);
      return row ? numberAt(row, 0) : 0;
    },
    nothing: 0,
  };
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
      return { holds: sameEntry(current, check.expect), current };
    }
    case 'emptyDirectory':
      return only(connection.get(sql.hasEntry, bindIno(check.ino)) === undefined);
    case 'xattr':
      return only((connection.get(sql.getXattr, bindIno(check.ino), check.name) === undefined) === (check.expect === 'absent'));
    case 'chunkPrefix':
      return only(holdsRecords(readChunk(tables, check.ino, check.index), check));
    case 'delayed':
      return only(connection.get(sql.getDelayed, check.id, check.time) !== undefined);
    case 'quotaLimits':
      return only(sameLimits(readQuota(tables, check.quota)?.limits, check.expect));
    case 'locks':
      return only(sameLocks(readLocks(tables, check), check.expect));
    case 'setting':
      return only(connection.get(sql.getSetting)?.[0] === check.expect);
    case 'counterAtMost':
      return only(readCounter(tables, check.name) <= check.value);
  }
}

/** Compares and writes. Must run inside a transaction of the connection. */
export function applyTransaction(tables: Tables, { checks, writes }: Transaction): CommitResult {
  const checked = checks.map((check) => compare(tables, check));
  if (checked.every(({ holds }) => holds))
    return { ok: true, results: writes.map((write) => apply(tables.sink, tables.sql, write)) };
  return {
    ok: false,
    failed: checked.flatMap(({ holds }, index) => (holds ? [] : [index])),
    current: checked.map(({ current }) => current),
  };
}
