/**
 * The metadata engine over an SQL server, on JuiceFS's own tables; the official client may work on the same volume at the same
 * time. Which server, and how it is spoken to, is a driver's part (session.ts); listings are those of every SQL database (scans.ts).
 *
 * Round trips: a read, however many values, is one; a lookup is one; a commit is two (transaction.ts), on PostgreSQL mostly one
 * (at-once.ts), and either way carried out once (commits.ts). Whatever is listed is read in batches, each beginning behind the
 * last one's end.
 */
import type { Clock } from '../../lib/clock.ts';
import { FsError } from '../../lib/errors.ts';
import { type Ino, ROOT_INO, TRASH_INO } from '../../lib/int64.ts';
import type { Random } from '../../lib/random.ts';
import { bareDirectory } from '../bare-directory.ts';
import type { Logger } from '../../lib/log.ts';
import type { CommitResult, EntryValue, LogWrite, MetaEngine, Read, Transaction, Values } from '../engine.ts';
import { fileKey } from '../lock-waits.ts';
import type { Attr } from '../types.ts';
import { parseMetaUrl } from '../url.ts';
import type { ServerUrl } from '../url-server.ts';
import { BEGIN, COMMIT, Committer, rollBack } from './commits.ts';
import { EVERYBODY, ServerNotices } from './notices.ts';
import { SqlBulk } from './bulk.ts';
import type { Pool } from './pool.ts';
import { attrAt, bindAcl, bindIno, bindNode, entryAt, inoAt, numberAt, type Row, type SqlValue } from './rows.ts';
import { proveServer } from './renew.ts';
import { INDEX_BATCH, SqlScans } from './scans.ts';
import { addColumnStatements, createStatements, initialCounters, tableNames } from './schema.ts';
import type { Driver, Session, Statement } from './session.ts';
import { readsOf } from './together.ts';
import { type Texts, textsOf } from './transaction.ts';

/** How long the count of a connection that does nothing is kept, seconds. */
const COMMITS_KEPT = 86_400;

/** Files of which it is announced one by one that a session releases them; of more, everybody is told. */
const MOST_SUBJECTS = 100;

const statement = (text: string, ...values: SqlValue[]): Statement => ({ text, values });

export interface ServerEngineOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** Where the volume is, and how servers of its kind are spoken to. */
export interface ServerPlace {
  readonly url: ServerUrl;
  readonly driverOf: (url: ServerUrl) => Driver;
}

export class ServerEngine extends SqlScans implements MetaEngine {
  readonly description: string;
  readonly idCountersHold = 'next';
  readonly usageCounters = 'deferred';
  /** A TEXT of MySQL ends there. */
  readonly longestEntry: number;
  readonly logGaps = true;
  readonly #place: ServerPlace;
  readonly #options: ServerEngineOptions;
  readonly bulk: SqlBulk;
  readonly #driver: Driver;
  readonly #pool: Pool;
  readonly #notices: ServerNotices | undefined;
  readonly watchLocks?: NonNullable<MetaEngine['watchLocks']>;
  readonly #texts: Texts;
  protected readonly sql: Texts['sql'];
  readonly #commits: Committer;

  /** Over a pool that is open. */
  constructor(place: ServerPlace, pool: Pool, options: ServerEngineOptions) {
    super();
    const driver = place.driverOf(place.url);
    this.#place = place;
    this.#options = options;
    this.description = driver.description;
    this.longestEntry = driver.dialect.kind === 'mysql' ? 65_535 : Infinity;
    this.#driver = driver;
    this.#pool = pool;
    this.#texts = textsOf(driver.dialect);
    this.sql = this.#texts.sql;
    this.#commits = new Committer(driver, pool, this.#texts, options);
    this.bulk = new SqlBulk(driver.dialect, {
      query: async (statements) => {
        const answers = await pool.repeat((session) => session.run(statements));
        return answers.map(({ rows }) => rows);
      },
      write: async (statements) => void (await this.#transaction((session) => session.run(statements))),
      hasTables: () => this.#withTables(async () => (await this.rows(this.sql.getSetting), true), false),
      makeTables: () => this.#makeTables(createStatements(driver.dialect)),
    });
    if (driver.listen) {
      const notices = new ServerNotices(driver.listen, options.clock);
      this.#notices = notices;
      this.watchLocks = (file, woken) => notices.watch(fileKey(file), woken);
    }
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
        await rollBack(session);
        throw error;
      }
    });
  }

  async read<const R extends readonly Read[]>(reads: R, signal?: AbortSignal): Promise<Values<R>> {
    const { statements, valuesOf } = readsOf(this.sql, reads);
    if (statements.length === 0) return [] as unknown as Values<R>;
    return this.#pool.repeat(async (session) => valuesOf(await session.run(statements)) as unknown as Values<R>, signal);
  }

  async lookup(parent: Ino, name: Buffer): Promise<{ readonly value: EntryValue; readonly attr: Attr | undefined } | undefined> {
    const [row] = await this.rows(this.sql.lookup, bindIno(parent), name);
    return row && { value: entryAt(row, 0), attr: numberAt(row, 2) === 1 ? attrAt(row, 3) : undefined };
  }

  commit(transaction: Transaction, signal?: AbortSignal): Promise<CommitResult> {
    return this.#commits.commit(transaction, signal);
  }

  #seconds(): number {
    return Math.floor(this.#options.clock.now() / 1000);
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

  async newSessionId(log?: LogWrite): Promise<number> {
    const { results } = (await this.commit({
      checks: [],
      writes: [{ kind: 'addCounter', name: 'nextSession', delta: 1 }, ...(log ? [log] : [])],
    })) as Extract<CommitResult, { ok: true }>;
    const [id] = results;
    if (!id) throw new FsError('EIO', 'the counter of sessions was not written');
    return id;
  }

  async putSession(sid: number, expire: number, info: string, replace = false, log?: LogWrite): Promise<void> {
    const { sql } = this;
    const put = statement(replace ? sql.replaceSession : sql.putSession, sid, expire, Buffer.from(info));
    if (log) await this.#transaction((session) => session.run([put, this.#logStatement(log)]));
    else await this.#pool.repeat((session) => session.run([put]));
  }

  #logStatement({ head, tail }: LogWrite): Statement {
    return statement(this.sql.appendLog, head + tail);
  }

  async removeSession(sid: number, log?: LogWrite): Promise<void> {
    const { sql } = this;
    const { announce } = this.#driver;
    const files = announce ? await this.lockedFiles(sid) : [];
    await this.#transaction((session) =>
      session.run([
        ...[sql.removeFlocks, sql.removePlocks, sql.removeSession].map((text) => statement(text, sid)),
        ...(log ? [this.#logStatement(log)] : []),
      ]),
    );
    if (!announce || files.length === 0) return;
    const subjects = files.length > MOST_SUBJECTS ? [EVERYBODY] : files.map(fileKey);
    await this.#pool.repeat((session) => session.run(subjects.map(announce))).catch(() => {});
  }

  async renew(...[url, { writing, environment }]: Parameters<Required<MetaEngine>['renew']>): Promise<() => Promise<void>> {
    const driver = await proveServer({
      driverOf: this.#place.driverOf,
      inUse: this.#place.url,
      url: parseMetaUrl(url, environment),
      sql: this.sql,
      writing,
      surroundings: this.#options,
    });
    return async () => {
      this.#pool.adopt(driver);
      if (driver.listen) this.#notices?.adopt(driver.listen);
    };
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
    this.#notices?.close();
    this.#pool.close();
  }
}
