/**
 * The metadata engine over an SQL server, on JuiceFS's own tables; the official client may work on the same volume at the same
 * time. Which server, and how it is spoken to, is a driver's part (session.ts); listings are those of every SQL database (scans.ts).
 *
 * Round trips: a read, however many values, is one; a lookup is one; a commit is two (transaction.ts). Whatever is listed is
 * read in batches, each beginning behind the last one's end.
 *
 * Exactly once: each connection counts its transactions in a row of its own, within them. Where it is lost under the
 * statements that commit, another one looks there, and only a transaction that was not committed is begun anew.
 */
import type { Clock } from '../../lib/clock.ts';
import { FsError } from '../../lib/errors.ts';
import { type Ino, ROOT_INO, TRASH_INO } from '../../lib/int64.ts';
import type { Random } from '../../lib/random.ts';
import { bareDirectory } from '../bare-directory.ts';
import type { CommitResult, EntryValue, MetaEngine, Read, Transaction, Values } from '../engine.ts';
import type { Attr } from '../types.ts';
import { SqlBulk } from './bulk.ts';
import { failureOf } from './checks.ts';
import type { Pool } from './pool.ts';
import { queryOf, valueOf } from './queries.ts';
import { attrAt, bindAcl, bindIno, bindNode, entryAt, inoAt, numberAt, type Row, type SqlValue } from './rows.ts';
import { INDEX_BATCH, SqlScans } from './scans.ts';
import { addColumnStatements, createStatements, initialCounters, tableNames } from './schema.ts';
import type { Driver, Session, Statement } from './session.ts';
import { countersOf, readingOf, type Texts, textsOf, writingOf } from './transaction.ts';

/** How long the count of a connection that does nothing is kept, seconds. */
const COMMITS_KEPT = 86_400;

const BEGIN: Statement = { text: 'BEGIN', values: [] };
const COMMIT: Statement = { text: 'COMMIT', values: [] };
const ROLLBACK: Statement = { text: 'ROLLBACK', values: [] };

const statement = (text: string, ...values: SqlValue[]): Statement => ({ text, values });

export interface ServerEngineOptions {
  readonly clock: Clock;
  readonly random: Random;
}

/** The transaction of a connection that was lost before it answered. */
interface Lost {
  readonly session: number;
  readonly number: number;
}

/** The outcome of an attempt; with `lost` only if that was carried out. */
interface Attempted {
  readonly result: CommitResult;
  readonly lost?: Lost;
}

export class ServerEngine extends SqlScans implements MetaEngine {
  readonly description: string;
  readonly idCountersHold = 'next';
  readonly usageCounters = 'deferred';
  readonly bulk: SqlBulk;
  readonly #driver: Driver;
  readonly #pool: Pool;
  readonly #texts: Texts;
  protected readonly sql: Texts['sql'];
  readonly #clock: Clock;
  readonly #random: Random;
  /** The number that stands for a connection in the table of commits. */
  readonly #names = new WeakMap<Session, number>();

  /** Over a pool that is open. */
  constructor(driver: Driver, pool: Pool, options: ServerEngineOptions) {
    super();
    this.description = driver.description;
    this.#driver = driver;
    this.#pool = pool;
    this.#texts = textsOf(driver.dialect);
    this.sql = this.#texts.sql;
    this.#clock = options.clock;
    this.#random = options.random;
    this.bulk = new SqlBulk(driver.dialect, {
      query: async (statements) => {
        const answers = await pool.repeat((session) => session.run(statements));
        return answers.map(({ rows }) => rows);
      },
      write: async (statements) => void (await this.#transaction((session) => session.run(statements))),
      hasTables: () => this.#withTables(async () => (await this.rows(this.sql.getSetting), true), false),
      makeTables: () => this.#makeTables(createStatements(driver.dialect)),
    });
  }

  protected async rows(text: string, ...values: SqlValue[]): Promise<readonly Row[]> {
    const [answer] = await this.#pool.repeat((session) => session.run([{ text, values }]));
    return answer?.rows ?? [];
  }

  /** Carries out what may be done twice, all or nothing. */
  #transaction<T>(work: (session: Session) => Promise<T>): Promise<T> {
    return this.#pool.repeat(async (session) => {
      await session.run([BEGIN]);
      try {
        const result = await work(session);
        await session.run([COMMIT]);
        return result;
      } catch (error) {
        await this.#rollback(session);
        throw error;
      }
    });
  }

  /** The connection is as it was before; where that fails it is closed. */
  async #rollback(session: Session): Promise<void> {
    if (session.broken) return;
    try {
      await session.run([ROLLBACK]);
    } catch {
      session.end();
    }
  }

  async read<const R extends readonly Read[]>(reads: R, signal?: AbortSignal): Promise<Values<R>> {
    const statements = reads.map((read) => queryOf(this.sql, read));
    if (statements.length === 0) return [] as unknown as Values<R>;
    return this.#pool.repeat(async (session) => {
      const answers = await session.run(statements);
      return reads.map((read, index) => valueOf(read, answers[index]?.rows ?? [])) as unknown as Values<R>;
    }, signal);
  }

  async lookup(parent: Ino, name: Buffer): Promise<{ readonly value: EntryValue; readonly attr: Attr | undefined } | undefined> {
    const [row] = await this.rows(this.sql.lookup, bindIno(parent), name);
    return row && { value: entryAt(row, 0), attr: numberAt(row, 2) === 1 ? attrAt(row, 3) : undefined };
  }

  async commit(transaction: Transaction, signal?: AbortSignal): Promise<CommitResult> {
    for (;;) {
      const { result, lost } = await this.#pool.repeat((session) => this.#attempt(session, transaction), signal);
      if (!lost || (await this.#wasCommitted(lost))) return result;
    }
  }

  async #attempt(session: Session, transaction: Transaction): Promise<Attempted> {
    const { writes } = transaction;
    const reading = readingOf(this.#texts, transaction);
    try {
      const counters = countersOf(this.#texts, writes);
      // What the counters are is known before they are changed, should the answer to that be lost.
      const proof = writes.length > 0 ? [this.#countCommit(session), ...counters.statements] : [];
      const first = [BEGIN, ...proof];
      const answers = await session.run([...first, ...reading.statements]);
      const { checked, absent } = reading.decide(answers.slice(first.length));
      const failure = failureOf(checked);
      if (failure || writes.length === 0) {
        // The connection's next user waits for it, not this call.
        void this.#rollback(session);
        return { result: failure ?? { ok: true, results: [] } };
      }
      const number = numberAt(answers[1]?.rows[0] ?? [], 0);
      const assumed = counters.assume(answers.slice(2, first.length), absent);
      const writing = writingOf(this.#texts, writes, absent);
      try {
        return { result: { ok: true, results: writing.resultsOf(await session.run([...writing.statements, COMMIT])) } };
      } catch (error) {
        if (this.#driver.faultOf(error) !== 'lost') throw error;
        session.end();
        return { result: { ok: true, results: assumed }, lost: { session: this.#names.get(session) ?? 0, number } };
      }
    } catch (error) {
      await this.#rollback(session);
      throw error;
    }
  }

  #seconds(): number {
    return Math.floor(this.#clock.now() / 1000);
  }

  #countCommit(session: Session): Statement {
    let name = this.#names.get(session);
    if (name === undefined) this.#names.set(session, (name = this.#random.bytes(6).readUIntBE(0, 6)));
    return statement(this.sql.countCommit, name, this.#seconds());
  }

  /** What became of the transaction with this number of a connection that was lost. */
  async #wasCommitted({ session, number }: Lost): Promise<boolean> {
    const [row] = await this.rows(this.sql.wasCommitted, session, this.#seconds(), number);
    return row?.[0] === 1;
  }

  async nodes(inos: readonly Ino[]): Promise<readonly (Attr | undefined)[]> {
    const { sql } = this;
    const found = new Map<Ino, Attr>();
    for (let from = 0; from < inos.length; from += INDEX_BATCH) {
      const values = [inos.slice(from, from + INDEX_BATCH).map(bindIno)];
      const [answer] = await this.#pool.repeat((session) => session.run([{ text: sql.getNodes, values }]));
      for (const row of answer?.rows ?? []) found.set(inoAt(row, row.length - 1), attrAt(row, 0));
    }
    return inos.map((ino) => found.get(ino));
  }

  /** Does `work`, or answers `otherwise` where the volume's tables are not there. */
  async #withTables<T>(work: () => Promise<T>, otherwise: T): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (this.#driver.faultOf((error as Error).cause) === 'missing') return otherwise;
      throw error;
    }
  }

  readSetting(): Promise<string | undefined> {
    return this.#withTables(async () => {
      const [row] = await this.rows(this.sql.getSetting);
      return row && String(row[0]);
    }, undefined);
  }

  async writeSetting(text: string, create?: { readonly trash: boolean; readonly nowNs: bigint }): Promise<boolean> {
    const { sql, onlyNew } = this.#texts;
    const change = async (): Promise<boolean> => {
      const [answer] = await this.#pool.repeat((session) => session.run([statement(sql.updateSetting, text)]));
      return (answer?.changed ?? 0) > 0;
    };
    if (!create) return this.#withTables(change, false);
    await this.#makeTables(createStatements(this.#driver.dialect));
    const time = { sec: Number(create.nowNs / 1_000_000_000n), nsec: Number(create.nowNs % 1_000_000_000n) };
    return this.#transaction(async (session) => {
      const [found] = await session.run([statement(sql.getSetting)]);
      if ((found?.rows.length ?? 0) > 0) return false;
      // Who makes a volume at the same time makes the same rows: it fails, is repeated, and finds ours.
      await session.run([
        statement(sql.insertSetting, text),
        ...(create.trash ? [statement(sql.putNode, ...bindNode(TRASH_INO, bareDirectory(0o555, time)))] : []),
        statement(onlyNew.putNode, ...bindNode(ROOT_INO, bareDirectory(0o777, time))),
        ...Object.entries(initialCounters).map(([name, value]) => statement(sql.setCounter, name, value)),
      ]);
      return true;
    });
  }

  /** Carries out statements that make tables, one client at a time. */
  async #makeTables(texts: readonly string[]): Promise<void> {
    const { begin, end } = this.#driver.exclusively;
    await this.#pool.repeat(async (session) => {
      try {
        await session.run([...begin, ...texts, ...end].map((text) => statement(text)));
      } catch (error) {
        // That ends the exclusion, too.
        session.end();
        throw error;
      }
    });
  }

  /** Adds the tables and columns that a volume of an older version lacks, as the official client does at a mount. */
  async completeSchema(): Promise<void> {
    const { dialect } = this.#driver;
    if ((await this.readSetting()) === undefined) return;
    const rows = await this.rows(this.#driver.columns, ...this.#driver.columnsOf);
    const names = new Map<string, Set<string>>();
    for (const [table, column] of rows) {
      const columns = names.get(String(table)) ?? new Set();
      names.set(String(table), columns.add(String(column)));
    }
    const node = names.get(`${dialect.prefix}node`);
    const missing = node ? addColumnStatements(dialect, node) : [];
    const complete = tableNames(dialect).every((name) => names.has(dialect.prefix + name));
    if (!complete || missing.length > 0) await this.#makeTables([...createStatements(dialect), ...missing]);
    await this.rows(this.sql.forgetCommits, this.#seconds() - COMMITS_KEPT);
  }

  /** Where the answer is lost it is stored twice, which does no harm. */
  async addAcl(rule: Buffer): Promise<number> {
    const [row] = await this.rows(this.sql.addAcl, ...bindAcl(rule));
    if (!row) throw new FsError('EIO', 'the access control list was not written');
    return numberAt(row, 0);
  }

  async newSessionId(): Promise<number> {
    const { results } = (await this.commit({
      checks: [],
      writes: [{ kind: 'addCounter', name: 'nextSession', delta: 1 }],
    })) as Extract<CommitResult, { ok: true }>;
    const [id] = results;
    if (!id) throw new FsError('EIO', 'the counter of sessions was not written');
    return id;
  }

  async putSession(sid: number, expire: number, info: string, replace = false): Promise<void> {
    const { sql } = this;
    await this.rows(replace ? sql.replaceSession : sql.putSession, sid, expire, Buffer.from(info));
  }

  async removeSession(sid: number): Promise<void> {
    const { sql } = this;
    await this.#transaction((session) =>
      session.run([sql.removeFlocks, sql.removePlocks, sql.removeSession].map((text) => statement(text, sid))),
    );
  }

  async reset(): Promise<void> {
    const { dialect } = this.#driver;
    await this.#makeTables([
      `DROP TABLE IF EXISTS ${tableNames(dialect)
        .map((name) => dialect.table(name))
        .join(', ')}`,
    ]);
  }

  async close(): Promise<void> {
    this.#pool.close();
  }
}
