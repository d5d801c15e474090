/**
 * A transaction of the engine seam on a server, at READ COMMITTED: one round trip that locks and reads what the checks ask
 * about, and one that writes and commits. What is asked of the checks is decided here, between the two. (The common ones are one:
 * at-once.ts.)
 *
 * Locks. The rows of all nodes that are written are locked first, in the order of their inodes, then those of nodes that are
 * only checked (against changes), then everything else that is checked. The official client locks the same rows of `node`, so
 * the two shut each other out. Every statement sees what was committed before it began; what is locked stays as it was read.
 * What is *not there* cannot be locked: a write that rests on its absence makes the row and fails where somebody else has made
 * it, and the transaction is begun anew. Removing an empty directory excludes a new entry in it by the lock on its node, which
 * both take.
 */
import type { Ino } from '../../lib/int64.ts';
import type { Check, Transaction, Write } from '../engine.ts';
import type { QuotaKey } from '../quota.ts';
import type { Attr } from '../types.ts';
import { type Checked, decide, questionOf, sameNode } from './checks.ts';
import type { Dialect } from './dialect.ts';
import { queryOf } from './queries.ts';
import { attrAt, bindIno, inoAt, numberAt, type SqlValue } from './rows.ts';
import type { Answer, Statement } from './session.ts';
import { statementsOf, type Statements } from './statements.ts';
import { entriesOf, removalsOf } from './together.ts';
import { apply, type Sink } from './writes.ts';

/** Columns of a node that come before its inode in `lockNodes`. */
const NODE_COLUMNS = 18;

/** The statements of a volume: the ordinary ones, those that fail where a row is there already, and those that lock. */
export interface Texts {
  readonly sql: Statements;
  readonly onlyNew: Statements;
  readonly locking: Statements;
}

/** All statements of a volume in a dialect. */
export function textsOf(dialect: Dialect): Texts {
  const sql = statementsOf(dialect);
  const lock = (text: string): string => text + dialect.forUpdate;
  return {
    sql,
    onlyNew: statementsOf(dialect, { onlyNew: true }),
    locking: {
      ...sql,
      getEntry: lock(sql.getEntry),
      getXattr: lock(sql.getXattr),
      getChunk: lock(sql.getChunk),
      getDelayed: lock(sql.getDelayed),
      getDirQuota: lock(sql.getDirQuota),
      getOwnerQuota: lock(sql.getOwnerQuota),
      getSetting: lock(sql.getSetting),
      getCounter: lock(sql.getCounter),
    },
  };
}

/** A name for what a check or write is about, where a row of it may be made; undefined for the others. */
export function subjectOf(about: Check | Write): string | undefined {
  const quota = (key: QuotaKey): string => `quota ${key.kind} ${key.id}`;
  switch (about.kind) {
    case 'node':
    case 'putNode':
      return `node ${about.ino}`;
    case 'entry':
    case 'putEntry':
      return `entry ${about.parent} ${about.name.toString('latin1')}`;
    case 'xattr':
    case 'putXattr':
      return `xattr ${about.ino} ${about.name}`;
    case 'chunkPrefix':
      return `chunk ${about.ino} ${about.index}`;
    case 'appendSlices':
      return about.onlyExisting ? undefined : `chunk ${about.ino} ${about.index}`;
    case 'quotaLimits':
    case 'putQuota':
    case 'addQuotaUsage':
      return quota(about.quota);
    case 'counterAtMost':
    case 'setCounter':
    case 'addCounter':
      return `counter ${about.name}`;
    default:
      return undefined;
  }
}

/** What is locked and read before the writes, and what of it follows. */
export interface Reading {
  readonly statements: readonly Statement[];
  /** The result of the checks, and the subjects of which there is nothing yet. */
  decide(answers: readonly Answer[]): { readonly checked: readonly Checked[]; readonly absent: Set<string> };
}

/** Plans what a transaction reads first. */
export function readingOf(texts: Texts, { checks, writes }: Transaction): Reading {
  const written = new Set<Ino>();
  for (const write of writes)
    if (write.kind === 'putNode' || write.kind === 'touchNode' || write.kind === 'removeNode') written.add(write.ino);
  // Locks of a file are compared and changed under the lock of its node, as the official client does.
  const guarded = checks.flatMap((check) => (check.kind === 'locks' ? [check.ino] : []));
  for (const ino of guarded) written.add(ino);
  const shared = new Set<Ino>();
  for (const check of checks) if (check.kind === 'node' && !written.has(check.ino)) shared.add(check.ino);
  // A single node that is written and not checked needs no lock before its write.
  const lock =
    written.size > 1 || guarded.length > 0 || checks.some((check) => check.kind === 'node' && written.has(check.ino))
      ? written
      : [];
  const nodeReads = [
    { text: texts.sql.lockNodes, inos: [...lock] },
    { text: texts.sql.shareNodes, inos: [...shared] },
  ].filter(({ inos }) => inos.length > 0);
  const entries = entriesOf(texts.sql, checks);
  const others = checks.filter((check) => check.kind !== 'node' && !entries?.checks.has(check));
  const first = nodeReads.length + (entries ? 1 : 0);
  return {
    statements: [
      ...nodeReads.map(({ text, inos }) => ({ text, values: [inos.map(bindIno)] })),
      ...(entries ? [entries.statement] : []),
      ...others.map((check) => questionOf(texts.locking, check as Exclude<Check, { kind: 'node' }>)),
    ],
    decide(answers) {
      const nodes = new Map<Ino, Attr>();
      for (const { rows } of answers.slice(0, nodeReads.length))
        for (const row of rows) nodes.set(inoAt(row, NODE_COLUMNS), attrAt(row, 0));
      const absent = new Set<string>();
      const entryRows = entries?.rowsOf(answers[nodeReads.length]);
      let next = first;
      const checked = checks.map((check): Checked => {
        let found: boolean;
        let result: Checked;
        if (check.kind === 'node') {
          const current = nodes.get(check.ino);
          found = current !== undefined;
          result = { holds: sameNode(current, check.expect, check.scope), current };
        } else {
          const rows = (check.kind === 'entry' && entries?.checks.has(check) ? entryRows?.(check) : answers[next++]?.rows) ?? [];
          found = rows.length > 0;
          result = decide(check, rows);
        }
        const subject = found ? undefined : subjectOf(check);
        if (subject !== undefined) absent.add(subject);
        return result;
      });
      return { checked, absent };
    },
  };
}

/** Where a number comes from when the statements have been carried out. */
type Source = { readonly statement: number; readonly of: 'changed' | 'first row' } | undefined;

/** The writes as statements. */
export interface Writing {
  readonly statements: readonly Statement[];
  resultsOf(answers: readonly Answer[]): readonly number[];
}

/** Plans the writes; `absent` are the subjects that a check found to be nothing, whose rows must be new. */
export function writingOf(texts: Texts, writes: readonly Write[], absent: Set<string>): Writing {
  const statements: Statement[] = [];
  const add = (text: string, values: SqlValue[], of: 'changed' | 'first row'): Source => ({
    statement: statements.push({ text, values }) - 1,
    of,
  });
  const sink: Sink<Source> = {
    run: (text, ...values) => add(text, values, 'changed'),
    answer: (text, ...values) => add(text, values, 'first row'),
    nothing: undefined,
  };
  let together = 0;
  const sources = writes.map((write, at): Source => {
    if (together > 0) {
      together--;
      return undefined;
    }
    const many = removalsOf(texts.sql, writes, at);
    if (many) {
      together = many.count - 1;
      statements.push(many.statement);
      return undefined;
    }
    const subject = absent.size > 0 ? subjectOf(write) : undefined;
    // Only the first: what comes after it finds the row that it made.
    return apply(sink, subject !== undefined && absent.delete(subject) ? texts.onlyNew : texts.sql, write);
  });
  return {
    statements,
    resultsOf: (answers) =>
      sources.map((source) => {
        if (!source) return 0;
        const { rows, changed } = answers[source.statement] ?? { rows: [], changed: 0 };
        return source.of === 'changed' ? changed : rows[0] ? numberAt(rows[0], 0) : 0;
      }),
  };
}

/** The counters that a transaction adds to, locked and read beforehand. */
export interface Counters {
  readonly statements: readonly Statement[];
  /**
   * What the writes answer if they are carried out and nobody tells: counters exactly; of a slice that it is still referred to,
   * so that its blocks are left to the job that looks for such; of a list that its length is not known. Counters that are not
   * there join `absent`.
   */
  assume(answers: readonly Answer[], absent: Set<string>): readonly number[];
}

/** Plans what is read of counters before the writes. */
export function countersOf({ locking }: Texts, writes: readonly Write[]): Counters {
  const names = [...new Set(writes.flatMap((write) => (write.kind === 'addCounter' ? [write.name] : [])))].toSorted();
  return {
    statements: names.map((name) => queryOf(locking, { kind: 'counter', name })),
    assume(answers, absent) {
      const values = new Map<string, number>();
      for (const [index, name] of names.entries()) {
        const row = answers[index]?.rows[0];
        if (!row) absent.add(`counter ${name}`);
        values.set(name, row ? numberAt(row, 0) : 0);
      }
      return writes.map((write) => {
        switch (write.kind) {
          case 'addCounter': {
            const value = (values.get(write.name) ?? 0) + write.delta;
            values.set(write.name, value);
            return value;
          }
          case 'setCounter':
            values.set(write.name, write.value);
            return 0;
          case 'addSliceRef':
          case 'touchNode':
          case 'addDirStat':
            return 1;
          default:
            return 0;
        }
      });
    },
  };
}
