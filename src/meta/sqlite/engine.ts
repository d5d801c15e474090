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
import type { CommitResult, EntryValue, MetaEngine, NamedEntry, Read, Transaction, ValueOf, Values } from '../engine.ts';
import { type QuotaKey, type QuotaRecord, quotaTypes } from '../quota.ts';
import type { Attr, LockedFile, LockKind } from '../types.ts';
import type { SqliteUrl } from '../url.ts';
import { type Dialect, sqliteDialect } from '../sql/dialect.ts';
import { aclAt, attrAt, bindAcl, bindIno, bindNode, bytesAt, entryAt, inoAt, numberAt, quotaAt, type Row } from '../sql/rows.ts';
import { addColumnStatements, createStatements, initialCounters, tableNames } from '../sql/schema.ts';
import { statementsOf } from '../sql/statements.ts';
import { readChunk, readCounter, readEntry, readLocks, readNode, readQuota, sinkOf, type Tables } from './commit.ts';
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

/** Chunk lists read at once: one is at most some 60 KB. */
const CHUNK_BATCH = 100;
const INDEX_BATCH = 4096;

class SqliteEngine implements MetaEngine {
  readonly description: string;
  readonly idCountersHold = 'next';
  readonly usageCounters = 'deferred';
  readonly #tables: Tables;
  readonly #dialect: Dialect;
  readonly #group: GroupCommit;

  constructor(connection: Connection, prefix: string) {
    this.description = `sqlite3://${connection.path}`;
    this.#dialect = sqliteDialect(prefix);
    this.#tables = { connection, sql: statementsOf(this.#dialect), sink: sinkOf(connection) };
    this.#group = new GroupCommit(this.#tables);
  }

  #get(sql: string, ...values: Parameters<Connection['run']>[1][]): Promise<Row | undefined> {
    return this.#tables.connection.whenFree(() => this.#tables.connection.get(sql, ...values));
  }

  #all(sql: string, ...values: Parameters<Connection['run']>[1][]): Promise<readonly Row[]> {
    return this.#tables.connection.whenFree(() => this.#tables.connection.all(sql, ...values));
  }

  #readOne(read: Read): ValueOf[Read['kind']] {
    const { connection, sql } = this.#tables;
    switch (read.kind) {
      case 'node':
        return readNode(this.#tables, read.ino);
      case 'entry':
        return readEntry(this.#tables, read.parent, read.name);
      case 'symlink': {
        const row = connection.get(sql.getSymlink, bindIno(read.ino));
        return row && bytesAt(row, 0);
      }
      case 'xattr': {
        const row = connection.get(sql.getXattr, bindIno(read.ino), read.name);
        return row && bytesAt(row, 0);
      }
      case 'xattrNames':
        return connection.all(sql.xattrNames, bindIno(read.ino)).map(([name]) => String(name));
      case 'chunk':
        return readChunk(this.#tables, read.ino, read.index);
      case 'parents':
        return new Map(connection.all(sql.getParents, bindIno(read.ino)).map((row) => [inoAt(row, 0), numberAt(row, 1)]));
      case 'entryCount':
        return numberAt(connection.get(sql.countEntries, bindIno(read.ino)) ?? [0], 0);
      case 'counter':
        return readCounter(this.#tables, read.name);
      case 'quota':
        return readQuota(this.#tables, read.quota);
      case 'locks':
        return readLocks(this.#tables, read);
      case 'acl': {
        const row = connection.get(sql.getAcl, read.id);
        return row && aclAt(row);
      }
      case 'dirStat': {
        const row = connection.get(sql.getDirStat, bindIno(read.ino));
        return row && { length: numberAt(row, 0), space: numberAt(row, 1), inodes: numberAt(row, 2) };
      }
    }
  }

  read<const R extends readonly Read[]>(reads: R, signal?: AbortSignal): Promise<Values<R>> {
    const { connection } = this.#tables;
    const work = (): Values<R> => reads.map((read) => this.#readOne(read)) as unknown as Values<R>;
    return connection.whenFree(reads.length > 1 ? () => connection.snapshot(work) : work, signal);
  }

  async lookup(parent: Ino, name: Buffer): Promise<{ readonly value: EntryValue; readonly attr: Attr | undefined } | undefined> {
    const row = await this.#get(this.#tables.sql.lookup, bindIno(parent), name);
    return row && { value: entryAt(row, 0), attr: numberAt(row, 2) === 1 ? attrAt(row, 3) : undefined };
  }

  commit(transaction: Transaction, signal?: AbortSignal): Promise<CommitResult> {
    return this.#group.commit(transaction, signal);
  }

  async *scanEntries(ino: Ino, batch: number): AsyncGenerator<readonly NamedEntry[]> {
    const { sql } = this.#tables;
    let last: Buffer | undefined;
    for (;;) {
      const rows = last
        ? await this.#all(sql.nextEntries, bindIno(ino), batch, last)
        : await this.#all(sql.firstEntries, bindIno(ino), batch);
      const entries = rows.map((row) => ({ name: bytesAt(row, 0), ...entryAt(row, 1) }));
      if (entries.length > 0) yield entries;
      if (entries.length < batch) return;
      last = entries.at(-1)?.name;
    }
  }

  nodes(inos: readonly Ino[]): Promise<readonly (Attr | undefined)[]> {
    const { connection } = this.#tables;
    return connection.whenFree(() => connection.snapshot(() => inos.map((ino) => readNode(this.#tables, ino))));
  }

  async *scanChunks(ino: Ino): AsyncGenerator<number> {
    for (let last = -1; ;) {
      const rows = await this.#all(this.#tables.sql.nextChunks, bindIno(ino), last, INDEX_BATCH);
      for (const row of rows) yield (last = numberAt(row, 0));
      if (rows.length < INDEX_BATCH) return;
    }
  }

  async *scanAllChunks(): AsyncGenerator<{ readonly ino: Ino; readonly index: number; readonly records: Buffer }> {
    for (let last = 0; ;) {
      const rows = await this.#all(this.#tables.sql.allChunks, last, CHUNK_BATCH);
      for (const row of rows) {
        last = numberAt(row, 0);
        yield { ino: inoAt(row, 1), index: numberAt(row, 2), records: bytesAt(row, 3) };
      }
      if (rows.length < CHUNK_BATCH) return;
    }
  }

  async scanDelfiles(before: number, limit: number): Promise<readonly { readonly ino: Ino; readonly length: number }[]> {
    const rows = await this.#all(this.#tables.sql.delfiles, before, limit);
    return rows.map((row) => ({ ino: inoAt(row, 0), length: numberAt(row, 1) }));
  }

  async scanDelayed(
    before: number,
    limit: number,
  ): Promise<readonly { readonly id: number; readonly time: number; readonly slices: Buffer }[]> {
    const rows = await this.#all(this.#tables.sql.delayed, before, limit);
    return rows.map((row) => ({ id: numberAt(row, 0), time: numberAt(row, 1), slices: bytesAt(row, 2) }));
  }

  async *scanQuotas(of: QuotaKey['kind']): AsyncGenerator<readonly QuotaRecord[]> {
    const { sql } = this.#tables;
    for (let last = -1; ;) {
      const rows = await (of === 'directory'
        ? this.#all(sql.nextDirQuotas, last, INDEX_BATCH)
        : this.#all(sql.nextOwnerQuotas, quotaTypes[of], last, INDEX_BATCH));
      if (rows.length > 0) yield rows.map((row) => quotaAt(row, 1, { kind: of, id: inoAt(row, 0) }));
      if (rows.length < INDEX_BATCH) return;
      last = numberAt(rows.at(-1) ?? [], 0);
    }
  }

  async *scanSustained(): AsyncGenerator<readonly Ino[]> {
    for (let last = -1; ;) {
      const rows = await this.#all(this.#tables.sql.allSustained, last, INDEX_BATCH);
      if (rows.length > 0) yield rows.map((row) => inoAt(row, 1));
      if (rows.length < INDEX_BATCH) return;
      last = numberAt(rows.at(-1) ?? [], 0);
    }
  }

  async scanUnreferenced(limit: number): Promise<readonly { readonly id: number; readonly size: number }[]> {
    const rows = await this.#all(this.#tables.sql.unreferenced, limit);
    return rows.map((row) => ({ id: numberAt(row, 0), size: numberAt(row, 1) }));
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

  async acls(limit: number): Promise<readonly { readonly id: number; readonly rule: Buffer }[]> {
    const rows = await this.#all(this.#tables.sql.acls, limit);
    return rows.map((row) => ({ id: numberAt(row, 0), rule: aclAt(row) }));
  }

  async addAcl(rule: Buffer): Promise<number> {
    const { connection, sql } = this.#tables;
    const row = await connection.whenFree(() => connection.transaction(() => connection.get(sql.addAcl, ...bindAcl(rule))));
    if (!row) throw new FsError('EIO', 'the access control list was not written');
    return numberAt(row, 0);
  }

  async newSessionId(): Promise<number> {
    const { connection, sql } = this.#tables;
    const row = await connection.whenFree(() => connection.transaction(() => connection.get(sql.addCounter, 'nextSession', 1)));
    if (!row) throw new FsError('EIO', 'the counter of sessions was not written');
    return numberAt(row, 0);
  }

  async putSession(sid: number, expire: number, info: string, replace = false): Promise<void> {
    const { connection, sql } = this.#tables;
    const statement = replace ? sql.replaceSession : sql.putSession;
    await connection.whenFree(() => connection.transaction(() => connection.run(statement, sid, expire, Buffer.from(info))));
  }

  async sessions(): Promise<readonly { readonly sid: number; readonly expire: number; readonly info: string | undefined }[]> {
    const rows = await this.#all(this.#tables.sql.sessions);
    return rows.map((row) => ({
      sid: numberAt(row, 0),
      expire: numberAt(row, 1),
      info: row[2] === null ? undefined : bytesAt(row, 2).toString('utf8'),
    }));
  }

  async sustained(sid: number): Promise<readonly Ino[]> {
    const rows = await this.#all(this.#tables.sql.sustained, sid);
    return rows.map((row) => inoAt(row, 0));
  }

  async lockedFiles(sid: number): Promise<readonly LockedFile[]> {
    const { sql } = this.#tables;
    const files = async (of: LockKind, statement: string): Promise<readonly LockedFile[]> =>
      (await this.#all(statement, sid)).map((row) => ({ of, ino: inoAt(row, 0) }));
    return [...(await files('flock', sql.flockedFiles)), ...(await files('posix', sql.plockedFiles))];
  }

  async removeSession(sid: number): Promise<void> {
    const { connection, sql } = this.#tables;
    await connection.whenFree(() =>
      connection.transaction(() => {
        for (const statement of [sql.removeFlocks, sql.removePlocks, sql.removeSession]) connection.run(statement, sid);
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
