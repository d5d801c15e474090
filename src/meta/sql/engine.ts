/**
 * The metadata engine over an SQL server, on JuiceFS's own tables; the official client may work on the same volume at the same
 * time. Which server, and how it is spoken to, is a driver's part (session.ts).
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
import type { CommitResult, EntryValue, MetaEngine, NamedEntry, Read, Transaction, Values } from '../engine.ts';
import { type QuotaKey, type QuotaRecord, quotaTypes } from '../quota.ts';
import type { Attr, LockedFile, LockKind } from '../types.ts';
import type { Pool } from './pool.ts';
import { queryOf, valueOf } from './queries.ts';
import {
  aclAt,
  attrAt,
  bindAcl,
  bindIno,
  bindNode,
  bytesAt,
  entryAt,
  inoAt,
  numberAt,
  quotaAt,
  type Row,
  type SqlValue,
} from './rows.ts';
import { addColumnStatements, createStatements, initialCounters, tableNames } from './schema.ts';
import type { Driver, Session, Statement } from './session.ts';
import { countersOf, failureOf, readingOf, type Texts, textsOf, writingOf } from './transaction.ts';

/** Chunk lists read at once: one is at most some 60 KB. */
const CHUNK_BATCH = 100;
const INDEX_BATCH = 4096;
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

export class ServerEngine implements MetaEngine {
  readonly description: string;
  readonly idCountersHold = 'next';
  readonly usageCounters = 'deferred';
  readonly #driver: Driver;
  readonly #pool: Pool;
  readonly #texts: Texts;
  readonly #clock: Clock;
  readonly #random: Random;
  /** The number that stands for a connection in the table of commits. */
  readonly #names = new WeakMap<Session, number>();

  /** Over a pool that is open. */
  constructor(driver: Driver, pool: Pool, options: ServerEngineOptions) {
    this.description = driver.description;
    this.#driver = driver;
    this.#pool = pool;
    this.#texts = textsOf(driver.dialect);
    this.#clock = options.clock;
    this.#random = options.random;
  }

  /** The rows of one statement that changes nothing, or may be carried out twice. */
  async #rows(text: string, ...values: SqlValue[]): Promise<readonly Row[]> {
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
    const statements = reads.map((read) => queryOf(this.#texts.sql, read));
    if (statements.length === 0) return [] as unknown as Values<R>;
    return this.#pool.repeat(async (session) => {
      const answers = await session.run(statements);
      return reads.map((read, index) => valueOf(read, answers[index]?.rows ?? [])) as unknown as Values<R>;
    }, signal);
  }

  async lookup(parent: Ino, name: Buffer): Promise<{ readonly value: EntryValue; readonly attr: Attr | undefined } | undefined> {
    const [row] = await this.#rows(this.#texts.sql.lookup, bindIno(parent), name);
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
    return statement(this.#texts.sql.countCommit, name, this.#seconds());
  }

  /** What became of the transaction with this number of a connection that was lost. */
  async #wasCommitted({ session, number }: Lost): Promise<boolean> {
    const [row] = await this.#rows(this.#texts.sql.wasCommitted, session, this.#seconds(), number);
    return row?.[0] === 1;
  }

  async *scanEntries(ino: Ino, batch: number): AsyncGenerator<readonly NamedEntry[]> {
    const { sql } = this.#texts;
    let last: Buffer | undefined;
    for (;;) {
      const rows = last
        ? await this.#rows(sql.nextEntries, bindIno(ino), batch, last)
        : await this.#rows(sql.firstEntries, bindIno(ino), batch);
      const entries = rows.map((row) => ({ name: bytesAt(row, 0), ...entryAt(row, 1) }));
      if (entries.length > 0) yield entries;
      if (entries.length < batch) return;
      last = entries.at(-1)?.name;
    }
  }

  async nodes(inos: readonly Ino[]): Promise<readonly (Attr | undefined)[]> {
    const { sql } = this.#texts;
    const found = new Map<Ino, Attr>();
    for (let from = 0; from < inos.length; from += INDEX_BATCH) {
      const values = [inos.slice(from, from + INDEX_BATCH).map(bindIno)];
      const [answer] = await this.#pool.repeat((session) => session.run([{ text: sql.getNodes, values }]));
      for (const row of answer?.rows ?? []) found.set(inoAt(row, row.length - 1), attrAt(row, 0));
    }
    return inos.map((ino) => found.get(ino));
  }

  async *scanChunks(ino: Ino): AsyncGenerator<number> {
    for (let last = -1; ;) {
      const rows = await this.#rows(this.#texts.sql.nextChunks, bindIno(ino), last, INDEX_BATCH);
      for (const row of rows) yield (last = numberAt(row, 0));
      if (rows.length < INDEX_BATCH) return;
    }
  }

  async *scanAllChunks(): AsyncGenerator<{ readonly ino: Ino; readonly index: number; readonly records: Buffer }> {
    for (let last = 0; ;) {
      const rows = await this.#rows(this.#texts.sql.allChunks, last, CHUNK_BATCH);
      for (const row of rows) {
        last = numberAt(row, 0);
        yield { ino: inoAt(row, 1), index: numberAt(row, 2), records: bytesAt(row, 3) };
      }
      if (rows.length < CHUNK_BATCH) return;
    }
  }

  async scanDelfiles(before: number, limit: number): Promise<readonly { readonly ino: Ino; readonly length: number }[]> {
    const rows = await this.#rows(this.#texts.sql.delfiles, before, limit);
    return rows.map((row) => ({ ino: inoAt(row, 0), length: numberAt(row, 1) }));
  }

  async scanDelayed(
    before: number,
    limit: number,
  ): Promise<readonly { readonly id: number; readonly time: number; readonly slices: Buffer }[]> {
    const rows = await this.#rows(this.#texts.sql.delayed, before, limit);
    return rows.map((row) => ({ id: numberAt(row, 0), time: numberAt(row, 1), slices: bytesAt(row, 2) }));
  }

  async *scanQuotas(of: QuotaKey['kind']): AsyncGenerator<readonly QuotaRecord[]> {
    const { sql } = this.#texts;
    for (let last = -1; ;) {
      const rows = await (of === 'directory'
        ? this.#rows(sql.nextDirQuotas, last, INDEX_BATCH)
        : this.#rows(sql.nextOwnerQuotas, quotaTypes[of], last, INDEX_BATCH));
      if (rows.length > 0) yield rows.map((row) => quotaAt(row, 1, { kind: of, id: inoAt(row, 0) }));
      if (rows.length < INDEX_BATCH) return;
      last = numberAt(rows.at(-1) ?? [], 0);
    }
  }

  async *scanSustained(): AsyncGenerator<readonly Ino[]> {
    for (let last = -1; ;) {
      const rows = await this.#rows(this.#texts.sql.allSustained, last, INDEX_BATCH);
      if (rows.length > 0) yield rows.map((row) => inoAt(row, 1));
      if (rows.length < INDEX_BATCH) return;
      last = numberAt(rows.at(-1) ?? [], 0);
    }
  }

  async scanUnreferenced(limit: number): Promise<readonly { readonly id: number; readonly size: number }[]> {
    const rows = await this.#rows(this.#texts.sql.unreferenced, limit);
    return rows.map((row) => ({ id: numberAt(row, 0), size: numberAt(row, 1) }));
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
      const [row] = await this.#rows(this.#texts.sql.getSetting);
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
    const rows = await this.#rows(this.#driver.columns, ...this.#driver.columnsOf);
    const names = new Map<string, Set<string>>();
    for (const [table, column] of rows) {
      const columns = names.get(String(table)) ?? new Set();
      names.set(String(table), columns.add(String(column)));
    }
    const node = names.get(`${dialect.prefix}node`);
    const missing = node ? addColumnStatements(dialect, node) : [];
    const complete = tableNames(dialect).every((name) => names.has(dialect.prefix + name));
    if (!complete || missing.length > 0) await this.#makeTables([...createStatements(dialect), ...missing]);
    await this.#rows(this.#texts.sql.forgetCommits, this.#seconds() - COMMITS_KEPT);
  }

  async acls(limit: number): Promise<readonly { readonly id: number; readonly rule: Buffer }[]> {
    const rows = await this.#rows(this.#texts.sql.acls, limit);
    return rows.map((row) => ({ id: numberAt(row, 0), rule: aclAt(row) }));
  }

  /** Where the answer is lost it is stored twice, which does no harm. */
  async addAcl(rule: Buffer): Promise<number> {
    const [row] = await this.#rows(this.#texts.sql.addAcl, ...bindAcl(rule));
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
    const { sql } = this.#texts;
    await this.#rows(replace ? sql.replaceSession : sql.putSession, sid, expire, Buffer.from(info));
  }

  async sessions(): Promise<readonly { readonly sid: number; readonly expire: number; readonly info: string | undefined }[]> {
    const rows = await this.#rows(this.#texts.sql.sessions);
    return rows.map((row) => ({
      sid: numberAt(row, 0),
      expire: numberAt(row, 1),
      info: row[2] === null ? undefined : bytesAt(row, 2).toString('utf8'),
    }));
  }

  async sustained(sid: number): Promise<readonly Ino[]> {
    const rows = await this.#rows(this.#texts.sql.sustained, sid);
    return rows.map((row) => inoAt(row, 0));
  }

  async lockedFiles(sid: number): Promise<readonly LockedFile[]> {
    const { sql } = this.#texts;
    const files = async (of: LockKind, text: string): Promise<readonly LockedFile[]> =>
      (await this.#rows(text, sid)).map((row) => ({ of, ino: inoAt(row, 0) }));
    return [...(await files('flock', sql.flockedFiles)), ...(await files('posix', sql.plockedFiles))];
  }

  async removeSession(sid: number): Promise<void> {
    const { sql } = this.#texts;
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
