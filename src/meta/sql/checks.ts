/**
 * The checks of a transaction: what each asks the database, and how it comes out. One place for all SQL databases; how and under which
 * lock it is asked is the engine's part.
 */
import type { Check, CommitResult, EntryValue, LockRecord, NodeScope } from '../engine.ts';
import type { QuotaLimits } from '../quota.ts';
import type { Attr } from '../types.ts';
import { type Query, queryOf, valueOf } from './queries.ts';
import { bindIno, type Row } from './rows.ts';
import type { Statements } from './statements.ts';

/** How a check came out. */
export interface Checked {
  readonly holds: boolean;
  readonly current: Attr | EntryValue | undefined;
}

type OtherCheck = Exclude<Check, { kind: 'node' }>;

const only = (holds: boolean): Checked => ({ holds, current: undefined });

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

/** Whether a node is still what a decision rested on. */
export function sameNode(found: Attr | undefined, expected: Attr | undefined, scope: NodeScope): boolean {
  if (!found || !expected) return found === expected;
  if (scope === 'exists') return true;
  return (scope === 'all' ? allFields : accessFields).every((field) => found[field] === expected[field]);
}

/** Whether an entry is still the same. */
function sameEntry(found: EntryValue | undefined, expected: EntryValue | undefined): boolean {
  return found?.ino === expected?.ino && found?.type === expected?.type;
}

/** Whether the limits of a quota are still the same. */
function sameLimits(found: QuotaLimits | undefined, expected: QuotaLimits | undefined): boolean {
  return found?.space === expected?.space && found?.inodes === expected?.inodes;
}

/** Whether a chunk's list begins with the records of the check, or is them. */
function holdsRecords(found: Buffer, { records, whole }: Extract<Check, { kind: 'chunkPrefix' }>): boolean {
  return whole ? found.equals(records) : found.subarray(0, records.length).equals(records);
}

/** Whether the locks in a file are still the same, in any order. */
function sameLocks(found: readonly LockRecord[], expected: readonly LockRecord[]): boolean {
  const same = (a: LockRecord, b: LockRecord): boolean => a.sid === b.sid && a.owner === b.owner && a.value.equals(b.value);
  return found.length === expected.length && found.every((lock) => expected.some((other) => same(lock, other)));
}

/** The statement that a check of anything but a node rests on. */
export function questionOf(sql: Statements, check: OtherCheck): Query {
  switch (check.kind) {
    case 'entry':
      return queryOf(sql, check);
    case 'emptyDirectory':
      return { text: sql.hasEntry, values: [bindIno(check.ino)] };
    case 'xattr':
      return queryOf(sql, check);
    case 'chunkPrefix':
      return queryOf(sql, { kind: 'chunk', ino: check.ino, index: check.index });
    case 'delayed':
      return { text: sql.getDelayed, values: [check.id, check.time] };
    case 'quotaLimits':
      return queryOf(sql, { kind: 'quota', quota: check.quota });
    case 'locks':
      return queryOf(sql, check);
    case 'setting':
      return { text: sql.getSetting, values: [] };
    case 'counterAtMost':
      return queryOf(sql, { kind: 'counter', name: check.name });
  }
}

/** Whether a check holds, by the rows of its question. */
export function decide(check: OtherCheck, rows: readonly Row[]): Checked {
  switch (check.kind) {
    case 'entry': {
      const current = valueOf(check, rows) as EntryValue | undefined;
      return { holds: sameEntry(current, check.expect), current };
    }
    case 'emptyDirectory':
      return only(rows.length === 0);
    case 'xattr':
      return only(rows.length > 0 === (check.expect === 'present'));
    case 'chunkPrefix':
      return only(holdsRecords(valueOf({ kind: 'chunk', ino: check.ino, index: check.index }, rows) as Buffer, check));
    case 'delayed':
      return only(rows.length > 0);
    case 'quotaLimits': {
      const found = valueOf({ kind: 'quota', quota: check.quota }, rows) as { readonly limits: never } | undefined;
      return only(sameLimits(found?.limits, check.expect));
    }
    case 'locks':
      return only(sameLocks(valueOf(check, rows) as readonly LockRecord[], check.expect));
    case 'setting':
      return only(rows[0]?.[0] === check.expect);
    case 'counterAtMost':
      return only((valueOf({ kind: 'counter', name: check.name }, rows) as number) <= check.value);
  }
}

/** The result of a transaction whose checks do not all hold; undefined where they do. */
export function failureOf(checked: readonly Checked[]): CommitResult | undefined {
  if (checked.every(({ holds }) => holds)) return undefined;
  return {
    ok: false,
    failed: checked.flatMap(({ holds }, index) => (holds ? [] : [index])),
    current: checked.map(({ current }) => current),
  };
}
