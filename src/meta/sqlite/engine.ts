/**
 * The metadata engine over a SQLite file (`node:sqlite`), on JuiceFS's own tables: the embedded default. Several processes,
 * the official client among them, may use one file on one machine.
 *
 * Statements run synchronously in this process (a read takes a few microseconds); only waiting for another process's lock
 * and the grouping of commits are asynchronous. Whatever is listed is read in batches.
 */
import { existsSync } from 'node:fs';
import { type Clock, systemClock } from '../../lib/clock.ts';
import { FsError, UserError } from '../../lib/errors.ts';
import { type Ino, ROOT_INO, TRASH_INO } from '../../lib/int64.ts';
import { bareDirectory } from '../bare-directory.ts';
import type { CommitResult, EntryValue, LogWrite, MetaEngine, Read, Transaction, Values } from '../engine.ts';
import type { Attr } from '../types.ts';
import type { SqliteUrl } from '../url.ts';
import { type Dialect, sqliteDialect } from '../sql/dialect.ts';
import { SqlBulk } from '../sql/bulk.ts';
import { attrAt, bindAcl, bindIno, bindNode, entryAt, numberAt, type Row, type SqlValue } from '../sql/rows.ts';
import { addColumnStatements, createStatements, initialCounters, tableNames } from '../sql/schema.ts';
import { SqlScans } from '../sql/scans.ts';
import type { Statement } from '../sql/session.ts';
import { type Statements, statementsOf } from '../sql/statements.ts';
import { sinkOf, type Tables, valueIn } from './commit.ts';
import { Connection } from './connection.ts';
import { GroupCommit } from './group-commit.ts';

export interface SqliteOptions {
  /** @default systemClock */
  readonly clock?: Clock;
  /** Nothing is written, not even missing tables. @default false */
  readonly readOnly?: boolean;
  /** A file that is missing is not made. @default false */
  readonly existing?: boolean;
  /** How long an operation waits while another process has the file locked, ms. @default 10000 */
  readonly lockTimeout?: number;
}

class SqliteEngine extends SqlScans implements MetaEngine {
  readonly description: string;
  readonly idCountersHold = 'next';
  readonly usageCounters = 'deferred';
  readonly longestEntry = Infinity;
  readonly logGaps = false;
  readonly bulk: SqlBulk;
  protected readonly sql: Statements;
  readonly #tables: Tables;
  readonly #dialect: Dialect;
  readonly #group: GroupCommit;

  constructor(connection: Connection, prefix: string) {
    super();
    this.description = `sqlite3://${connection.path}`;
    this.#dialect = sqliteDialect(prefix);
    this.sql = statementsOf(this.#dialect);
    this.#tables = { connection, sql: this.sql, sink: sinkOf(connection) };
    this.#group = new GroupCommit(this.#tables);
    const all = (statements: readonly Statement[]): readonly (readonly Row[])[] =>
      statements.map(({ text, values }) => connection.all(text, ...(values as readonly SqlValue[])));
    this.bulk = new SqlBulk(this.#dialect, {
      query: (statements) => connection.whenFree(() => all(statements)),
      // A load has ten thousand transactions, and is begun again where the machine stops: it need not wait for the disk in each.
      write: (statements, last = false) =>
        connection.whenFree(() => {
          if (!last) connection.exec('PRAGMA synchronous = NORMAL');
          try {
            connection.transaction(() => void all(statements));
          } finally {
            if (!last) connection.exec('PRAGMA synchronous = FULL');
          }
        }),
      hasTables: async () => connection.whenFree(() => this.#hasTable('setting')),
      makeTables: () =>
        connection.whenFree(() =>
          connection.transaction(() => createStatements(this.#dialect).forEach((statement) => connection.exec(statement))),
        ),
    });
  }

  protected rows(text: string, ...values: SqlValue[]): Promise<readonly Row[]> {
    return this.#tables.connection.whenFree(() => this.#tables.connection.all(text, ...values));
  }

  read<const R extends readonly Read[]>(reads: R, signal?: AbortSignal): Promise<Values<R>> {
    const { connection } = this.#tables;
    const work = (): Values<R> => reads.map((read) => valueIn(this.#tables, read)) as unknown as Values<R>;
    return connection.whenFree(reads.length > 1 ? () => connection.snapshot(work) : work, signal);
  }

  async lookup(parent: Ino, name: Buffer): Promise<{ readonly value: EntryValue; readonly attr: Attr | undefined } | undefined> {
    const { connection, sql } = this.#tables;
    const row = await connection.whenFree(() => connection.get(sql.lookup, bindIno(parent), name));
    return row && { value: entryAt(row, 0), attr: numberAt(row, 2) === 1 ? attrAt(row, 3) : undefined };
  }

  commit(transaction: Transaction, signal?: AbortSignal): Promise<CommitResult> {
    return this.#group.commit(transaction, signal);
  }

  nodes(inos: readonly Ino[]): Promise<readonly (Attr | undefined)[]> {
    const { connection } = this.#tables;
    return connection.whenFree(() => connection.snapshot(() => inos.map((ino) => valueIn(this.#tables, { kind: 'node', ino }))));
  }

  #hasTable(name: string): boolean {
    const found = this.#tables.connection.get(
      "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?",
      this.#dialect.prefix + name,
    );
    return found !== undefined;
  }

  async readSetting(): Promise<string | undefined> {
    const { connection, sql } = this.#tables;
    return connection.whenFree(() => {
      if (!this.#hasTable('setting')) return undefined;
      const row = connection.get(sql.getSetting);
      return row && String(row[0]);
    });
  }

  async writeSetting(text: string, create?: { readonly trash: boolean; readonly nowNs: bigint }): Promise<boolean> {
    const { connection, sql } = this.#tables;
    return connection.whenFree(() =>
      connection.transaction(() => {
        if (!create) return this.#hasTable('setting') && connection.run(sql.updateSetting, text) > 0;
        for (const statement of createStatements(this.#dialect)) connection.exec(statement);
        if (connection.get(sql.getSetting)) return false;
        connection.run(sql.insertSetting, text);
        const time = { sec: Number(create.nowNs / 1_000_000_000n), nsec: Number(create.nowNs % 1_000_000_000n) };
        if (create.trash) connection.run(sql.putNode, ...bindNode(TRASH_INO, bareDirectory(0o555, time)));
        connection.run(sql.putNode, ...bindNode(ROOT_INO, bareDirectory(0o777, time)));
        for (const [name, value] of Object.entries(initialCounters)) connection.run(sql.setCounter, name, value);
        return true;
      }),
    );
  }

  /** Adds the tables and columns that a volume of an older version lacks, as the official client does at a mount. */
  async completeSchema(): Promise<void> {
    const { connection } = this.#tables;
    await connection.whenFree(() => {
      if (!this.#hasTable('setting')) return;
      const table = `${this.#dialect.prefix}node`;
      const columns = new Set(connection.all('SELECT name FROM pragma_table_info(?)', table).map(([name]) => String(name)));
      const missing = columns.size === 0 ? [] : addColumnStatements(this.#dialect, columns);
      const complete = tableNames(this.#dialect).every((name) => this.#hasTable(name));
      if (complete && missing.length === 0) return;
      connection.transaction(() => {
        for (const statement of [...createStatements(this.#dialect), ...missing]) connection.exec(statement);
      });
    });
  }

  async addAcl(rule: Buffer): Promise<number> {
    const { connection, sql } = this.#tables;
    const row = await connection.whenFree(() => connection.transaction(() => connection.get(sql.addAcl, ...bindAcl(rule))));
    if (!row) throw new FsError('EIO', 'the access control list was not written');
    return numberAt(row, 0);
  }

  #log(log: LogWrite | undefined): void {
    if (log) this.#tables.connection.run(this.sql.appendLog, log.head + log.tail);
  }

  async newSessionId(log?: LogWrite): Promise<number> {
    const { connection, sql } = this.#tables;
    const work = (): Row | undefined => {
      this.#log(log);
      return connection.get(sql.addCounter, 'nextSession', 1);
    };
    const row = await connection.whenFree(() => connection.transaction(work));
    if (!row) throw new FsError('EIO', 'the counter of sessions was not written');
    return numberAt(row, 0);
  }

  async putSession(sid: number, expire: number, info: string, replace = false, log?: LogWrite): Promise<void> {
    const { connection, sql } = this.#tables;
    const statement = replace ? sql.replaceSession : sql.putSession;
    await connection.whenFree(() =>
      connection.transaction(() => {
        connection.run(statement, sid, expire, Buffer.from(info));
        this.#log(log);
      }),
    );
  }

  async removeSession(sid: number, log?: LogWrite): Promise<void> {
    const { connection, sql } = this.#tables;
    await connection.whenFree(() =>
      connection.transaction(() => {
        for (const statement of [sql.removeFlocks, sql.removePlocks, sql.removeSession]) connection.run(statement, sid);
        this.#log(log);
      }),
    );
  }

  async reset(): Promise<void> {
    const { connection } = this.#tables;
    await connection.whenFree(() =>
      connection.transaction(() => {
        for (const name of tableNames(this.#dialect)) connection.exec(`DROP TABLE IF EXISTS ${this.#dialect.table(name)}`);
      }),
    );
  }

  async close(): Promise<void> {
    await this.#group.drained();
    this.#tables.connection.close();
  }
}

/**
 * Opens the SQLite database of a URL; a file that is not there is made (and holds no volume). Throws UserError, one
 * sentence each, where the folder is missing, the file is no database, cannot be written to, or is locked. With `readOnly`
 * the file must be there.
 */
export async function openSqlite(url: SqliteUrl, options: SqliteOptions = {}): Promise<MetaEngine> {
  const { readOnly = false, existing = readOnly, clock = systemClock } = options;
  if (existing && !existsSync(url.path))
    throw new UserError('NoDatabase', `There is no SQLite database at ${url.path}.`, {
      hint: 'Check the path, or make a volume there with `juicepod format`.',
    });
  const lockTimeout = options.lockTimeout === undefined ? {} : { lockTimeout: options.lockTimeout };
  const connection = await Connection.open(url.path, { clock, readOnly, ...lockTimeout });
  const engine = new SqliteEngine(connection, url.tablePrefix);
  try {
    if (!readOnly) await engine.completeSchema();
    return engine;
  } catch (error) {
    await engine.close();
    throw error;
  }
}
