/**
 * A transaction of the engine seam in a single round trip, where the server skips what is behind a statement that fails: what is locked
 * and read (transaction.ts), then a *guard* for each check, which fails where the check does not hold, then the writes. The answers
 * to the reads come back all the same, and say what there is now.
 *
 * A guard is never laxer than the decision on the answers: it compares every column that this looks at, in the form in which we write it.
 * It may be stricter (the official client writes some times before 1970 in another form); then it has to be two round trips.
 * Checks of nodes and entries have one, which is all that creating, removing, renaming and writing rest on.
 */
import type { Check, Transaction } from '../engine.ts';
import { bindIno, bindNode, type SqlValue } from './rows.ts';
import type { Statement } from './session.ts';
import type { Statements } from './statements.ts';
import { countersOf, type Reading, readingOf, subjectOf, type Texts, type Writing, writingOf } from './transaction.ts';

export interface AtOnce {
  readonly reading: Reading;
  readonly guards: readonly Statement[];
  readonly writing: Writing;
  /** What the writes answer if they are carried out and nobody tells. */
  readonly assumed: readonly number[];
}

/** Of what `bindNode` answers: the inode, and what tells who may do what. */
const ACCESS = [0, 1, 2, 3, 4, 5, 15, 16, 17, 18] as const;

/** The statement that fails where the check does not hold; undefined where there is none for it. */
export function guardOf(sql: Statements, check: Check): Statement | undefined {
  if (check.kind === 'entry') {
    const place: SqlValue[] = [bindIno(check.parent), check.name];
    return check.expect
      ? { text: sql.sameEntry, values: [...place, bindIno(check.expect.ino), check.expect.type] }
      : { text: sql.noEntry, values: place };
  }
  if (check.kind !== 'node') return undefined;
  if (!check.expect) return { text: sql.noNode, values: [bindIno(check.ino)] };
  if (check.scope === 'exists') return { text: sql.someNode, values: [bindIno(check.ino)] };
  const values = bindNode(check.ino, check.expect);
  return check.scope === 'all'
    ? { text: sql.sameNode, values }
    : { text: sql.sameAccess, values: ACCESS.map((column) => values[column] ?? 0) };
}

/** Writes of more are a list in one statement, and checks of as many are, too (together.ts): a guard for each would cost more than a round trip. */
const MOST_CHECKS = 16;

/** Plans it; undefined where it has to be two round trips. Counters do: what they become must be known before. */
export function atOnce(texts: Texts, transaction: Transaction): AtOnce | undefined {
  const { checks, writes } = transaction;
  if (
    writes.length === 0 ||
    checks.length > MOST_CHECKS ||
    writes.some(({ kind }) => kind === 'addCounter' || kind === 'setCounter')
  )
    return undefined;
  const guards = checks.map((check) => guardOf(texts.sql, check));
  if (!guards.every((guard) => guard !== undefined)) return undefined;
  const absent = new Set<string>();
  for (const check of checks) {
    const subject = 'expect' in check && check.expect === undefined ? subjectOf(check) : undefined;
    if (subject !== undefined) absent.add(subject);
  }
  return {
    reading: readingOf(texts, transaction),
    guards,
    writing: writingOf(texts, writes, absent),
    assumed: countersOf(texts, writes).assume([], new Set()),
  };
}
