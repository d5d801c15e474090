/**
 * A transaction of the engine seam as SQL: compare, then write. Runs inside BEGIN IMMEDIATE, so nothing changes between the
 * comparison and the writing; a transaction whose check fails has written nothing.
 */
import type { Check, CommitResult, Read, Transaction, ValueOf } from '../engine.ts';
import { type Checked, decide, failureOf, questionOf, sameNode } from '../sql/checks.ts';
import { queryOf, valueOf } from '../sql/queries.ts';
import { numberAt } from '../sql/rows.ts';
import type { Statements } from '../sql/statements.ts';
import { apply, type Sink } from '../sql/writes.ts';
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

/** The value that a read asks for. */
export function valueIn<R extends Read>({ connection, sql }: Tables, read: R): ValueOf[R['kind']] {
  const { text, values } = queryOf(sql, read);
  return valueOf(read, connection.all(text, ...values)) as ValueOf[R['kind']];
}

function compare(tables: Tables, check: Check): Checked {
  if (check.kind === 'node') {
    const current = valueIn(tables, { kind: 'node', ino: check.ino });
    return { holds: sameNode(current, check.expect, check.scope), current };
  }
  const { text, values } = questionOf(tables.sql, check);
  return decide(check, tables.connection.all(text, ...values));
}

/** Compares and writes. Must run inside a transaction of the connection. */
export function applyTransaction(tables: Tables, { checks, writes }: Transaction): CommitResult {
  const failure = failureOf(checks.map((check) => compare(tables, check)));
  return failure ?? { ok: true, results: writes.map((write) => apply(tables.sink, tables.sql, write)) };
}
