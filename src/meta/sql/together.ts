/**
 * Many reads, checks or writes of one kind as one statement: where a hundred names go in one transaction, a server takes less
 * time for a list than for a hundred statements, and holds its locks that much shorter.
 *
 * Only what stands next to each other and asks for nothing back is put together, so the order of a transaction stays as it was.
 */
import type { Check, Read, ValueOf, Write } from '../engine.ts';
import type { Ino } from '../../lib/int64.ts';
import { queryOf, valueOf } from './queries.ts';
import { bindIno, bytesAt, inoAt, type Row } from './rows.ts';
import type { Answer, Statement } from './session.ts';
import type { Statements } from './statements.ts';

/** Fewer are statements of their own: those of the ordinary operations, which the server knows already. */
const FEW = 4;

/** What is read, as statements, and the values in their answers. */
export interface Reads {
  readonly statements: readonly Statement[];
  readonly valuesOf: (answers: readonly Answer[]) => readonly ValueOf[Read['kind']][];
}

const none = Buffer.alloc(0);

/** Reads; the lists of many files' chunks of the same index are one statement. */
export function readsOf(sql: Statements, reads: readonly Read[]): Reads {
  const groups = new Map<number, Set<Ino>>();
  for (const read of reads) {
    if (read.kind !== 'chunk') continue;
    const group = groups.get(read.index);
    if (group) group.add(read.ino);
    else groups.set(read.index, new Set([read.ino]));
  }
  const many = [...groups].filter(([, inos]) => inos.size > FEW);
  const places = new Map(many.map(([index], at) => [index, at]));
  const apart = reads.filter((read) => read.kind !== 'chunk' || !places.has(read.index));
  return {
    statements: [
      ...many.map(([index, inos]) => ({ text: sql.getChunks, values: [Array.from(inos, bindIno), index] })),
      ...apart.map((read) => queryOf(sql, read)),
    ],
    valuesOf(answers) {
      const lists = many.map((_group, at) => new Map((answers[at]?.rows ?? []).map((row) => [inoAt(row, 0), bytesAt(row, 1)])));
      let next = many.length;
      return reads.map((read) => {
        const list = read.kind === 'chunk' ? lists[places.get(read.index) ?? -1] : undefined;
        return list && read.kind === 'chunk' ? (list.get(read.ino) ?? none) : valueOf(read, answers[next++]?.rows ?? []);
      });
    },
  };
}

type EntryCheck = Extract<Check, { kind: 'entry' }>;

/** Checks of many entries of one directory: one statement that locks them, and the rows of each. */
export interface Entries {
  readonly checks: ReadonlySet<Check>;
  readonly statement: Statement;
  /** As the statement for one entry would answer. */
  rowsOf(answer: Answer | undefined): (check: EntryCheck) => readonly Row[];
}

/** The entries of one directory that a transaction checks; undefined where they are few. */
export function entriesOf(sql: Statements, checks: readonly Check[]): Entries | undefined {
  const [first] = checks.filter((check) => check.kind === 'entry');
  if (!first) return undefined;
  const { parent } = first;
  const names = new Map<string, EntryCheck>();
  for (const check of checks)
    if (check.kind === 'entry' && check.parent === parent) names.set(check.name.toString('latin1'), check);
  if (names.size <= FEW) return undefined;
  const together = [...names.values()];
  return {
    checks: new Set(checks.filter((check) => check.kind === 'entry' && check.parent === parent)),
    statement: { text: sql.lockEntries, values: [bindIno(parent), together.map(({ name }) => name)] },
    rowsOf(answer) {
      const rows = new Map((answer?.rows ?? []).map((row) => [bytesAt(row, 2).toString('latin1'), row]));
      return ({ name }) => {
        const row = rows.get(name.toString('latin1'));
        return row ? [row] : [];
      };
    },
  };
}

/** The statement for many removals of one kind that stand at the beginning of these writes, and how many they are. */
export function removalsOf(
  sql: Statements,
  writes: readonly Write[],
  from: number,
): { readonly statement: Statement; readonly count: number } | undefined {
  const first = writes[from];
  const textOf: Partial<Record<Write['kind'], string>> = {
    removeNode: sql.removeNodes,
    removeXattrs: sql.removeManyXattrs,
    removeDelfile: sql.removeDelfiles,
    removeEntry: sql.removeEntries,
  };
  const text = first && textOf[first.kind];
  if (!text) return undefined;
  const same = (write: Write | undefined): boolean =>
    write?.kind === first.kind && (first.kind !== 'removeEntry' || (write as typeof first).parent === first.parent);
  let end = from + 1;
  while (same(writes[end])) end++;
  if (end - from <= FEW) return undefined;
  const run = writes.slice(from, end);
  const values =
    first.kind === 'removeEntry'
      ? [bindIno(first.parent), run.map((write) => (write as typeof first).name)]
      : [run.map((write) => bindIno((write as { readonly ino: Ino }).ino))];
  return { statement: { text, values }, count: run.length };
}
