/**
 * Several statements in one message of the extended protocol, with one Sync behind all of them: where one fails, the server skips the
 * rest, whatever that is. (`pg` puts a Sync behind each, after which the server goes on: a BEGIN that fails would leave what follows
 * to be committed one by one.) What was answered before the failure is kept.
 *
 * A Query of `pg`, for its pipeline mode takes nothing else; everything that it does is replaced. Source: PostgreSQL, "Message Flow",
 * extended query; `pg` 8.23, lib/client.js and lib/query.js, whose handlers these are.
 */
import { type Connection, Query } from 'pg';
import type { Row, SqlValue } from '../sql/rows.ts';
import type { Answer, Statement } from '../sql/session.ts';

/** A statement as the server knows it: without a name it is parsed each time. */
export interface Named {
  readonly name: string;
  readonly text: string;
}

/** Reads a column of a type of the server. */
export type Parsers = (oid: number) => (value: string) => unknown;

/** What `pg` keeps of statements that have a name: those that the server knows, and those that it was sent. */
interface Prepared {
  readonly parsedStatements: Readonly<Record<string, string | undefined>>;
  readonly submittedNamedStatements: Record<string, string | undefined>;
}

export interface BatchAnswers {
  /** Of the statements that were carried out, in order. */
  readonly answers: readonly Answer[];
  /** Of the first one that failed; undefined where none did. */
  readonly error: unknown;
}

function bound(value: SqlValue | readonly SqlValue[]): Buffer | string | null {
  if (value === null) return null;
  if (typeof value === 'string') return value;
  if (typeof value === 'number' || typeof value === 'bigint') return String(value);
  if (value instanceof Uint8Array) return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  return `{${value.map((each) => (each instanceof Uint8Array ? String.raw`"\\x${Buffer.from(each).toString('hex')}"` : String(each))).join(',')}}`;
}

export class Batch extends Query {
  readonly #statements: readonly Statement[];
  readonly #namedOf: (statement: Statement) => Named;
  readonly #parsers: Parsers;
  readonly #settle: (result: BatchAnswers) => void;
  readonly #answers: Answer[] = [];
  #columns: readonly ((value: string) => unknown)[] = [];
  #rows: Row[] = [];
  #unfit: unknown;
  #prepared: Prepared | undefined;

  /** `settle` is called once. */
  constructor(
    statements: readonly Statement[],
    namedOf: (statement: Statement) => Named,
    parsers: Parsers,
    settle: (result: BatchAnswers) => void,
  ) {
    super('');
    this.#statements = statements;
    this.#namedOf = namedOf;
    this.#parsers = parsers;
    this.#settle = settle;
    // `pg` asks which statement it is that the server has parsed: the one that is being answered.
    Object.defineProperty(this, 'name', { get: () => this.#current?.name || undefined });
    Object.defineProperty(this, 'text', { get: () => this.#current?.text });
  }

  get #current(): Named | undefined {
    const statement = this.#statements[this.#answers.length];
    return statement && this.#namedOf(statement);
  }

  override submit = (connection: Connection): void => {
    const prepared = connection as unknown as Prepared;
    this.#prepared = prepared;
    for (const statement of this.#statements) {
      const { name, text } = this.#namedOf(statement);
      if (
        name === '' ||
        (prepared.parsedStatements[name] === undefined && prepared.submittedNamedStatements[name] === undefined)
      ) {
        connection.parse({ name, text, types: [] }, true);
        if (name !== '') prepared.submittedNamedStatements[name] = text;
      }
      connection.bind({ statement: name, values: statement.values.map(bound), portal: '', binary: '' }, true);
      connection.describe({ type: 'P', name: '' }, true);
      connection.execute({ portal: '', rows: '' }, true);
    }
    connection.sync();
  };

  handleRowDescription({ fields }: { readonly fields: readonly { readonly dataTypeID: number }[] }): void {
    this.#columns = fields.map(({ dataTypeID }) => this.#parsers(dataTypeID));
  }

  handleDataRow({ fields }: { readonly fields: readonly (string | null)[] }): void {
    this.#rows.push(
      fields.map((value, index) => (value === null ? null : ((this.#columns[index]?.(value) ?? value) as SqlValue))),
    );
  }

  handleCommandComplete({ text }: { readonly text: string }): void {
    this.#answers.push({ rows: this.#rows, changed: Number(/\d+$/.exec(text)?.[0] ?? 0) });
    this.#rows = [];
  }

  handleError(error: unknown): void {
    this.#unfit = error;
    // What came behind was skipped, and so not parsed.
    const prepared = this.#prepared;
    for (const statement of this.#statements.slice(this.#answers.length)) {
      const { name } = this.#namedOf(statement);
      if (prepared && name !== '') Reflect.deleteProperty(prepared.submittedNamedStatements, name);
    }
    this.#settle({ answers: this.#answers, error });
  }

  handleReadyForQuery(): void {
    if (this.#unfit === undefined) this.#settle({ answers: this.#answers, error: undefined });
  }
}
