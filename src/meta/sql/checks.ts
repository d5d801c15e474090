/**
 * The checks of a transaction, decided over what was read: one place for all SQL databases. How and under which lock it is
 * read is the engine's part.
 */
import type { Check, EntryValue, LockRecord, NodeScope } from '../engine.ts';
import type { QuotaLimits } from '../quota.ts';
import type { Attr } from '../types.ts';

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
export function sameEntry(found: EntryValue | undefined, expected: EntryValue | undefined): boolean {
  return found?.ino === expected?.ino && found?.type === expected?.type;
}

/** Whether the limits of a quota are still the same. */
export function sameLimits(found: QuotaLimits | undefined, expected: QuotaLimits | undefined): boolean {
  return found?.space === expected?.space && found?.inodes === expected?.inodes;
}

/** Whether a chunk's list begins with the records of the check, or is them. */
export function holdsRecords(found: Buffer, { records, whole }: Extract<Check, { kind: 'chunkPrefix' }>): boolean {
  return whole ? found.equals(records) : found.subarray(0, records.length).equals(records);
}

/** Whether the locks in a file are still the same, in any order. */
export function sameLocks(found: readonly LockRecord[], expected: readonly LockRecord[]): boolean {
  const same = (a: LockRecord, b: LockRecord): boolean => a.sid === b.sid && a.owner === b.owner && a.value.equals(b.value);
  return found.length === expected.length && found.every((lock) => expected.some((other) => same(lock, other)));
}
