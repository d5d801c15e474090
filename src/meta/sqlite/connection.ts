/**
 * One open SQLite file: opening it with an error a person can act on, statements prepared once, and waiting while another
 * process writes.
 *
 * SQLite is called synchronously; it lets one writer at a time into the file. `whenFree` tries, and where the file is
 * locked waits without holding up the process, up to `lockTimeout`.
 *
 * Durability is that of JuiceFS: WAL, and a sync of it at each commit.
 */
import { accessSync, constants, existsSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import type { Clock } from '../../lib/clock.ts';
import { type ErrnoName, FsError, messageOf, UserError } from '../../lib/errors.ts';
import type { Row, SqlValue } from '../sql/rows.ts';

export interface ConnectionOptions {
  readonly clock: Clock;
  /** Only reading; the file is not touched. @default false */
  readonly readOnly?: boolean;
  /** How long to wait for a lock that another process holds, ms. @default 10000 */
  readonly lockTimeout?: number;
}

/** SQLite's result codes that mean something to us. */
const SQLITE = { BUSY: 5, LOCKED: 6, READONLY: 8, IOERR: 10, CORRUPT: 11, FULL: 13, CANTOPEN: 14, NOTADB: 26 } as const;
const errnoOf = new Map<number, ErrnoName>([
  [SQLITE.FULL, 'ENOSPC'],
  [SQLITE.READONLY, 'EROFS'],
]);

/** How long SQLite itself waits, ms: the process stands still meanwhile. */
const BUSY_MS = 10;
const PAGES_KIB = 8192;

/** The primary result code of a SQLite error, else undefined. */
function sqliteCode(error: unknown): number | undefined {
  const code = (error as { readonly errcode?: unknown } | undefined)?.errcode;
  return typeof code === 'number' ? code & 0xff : undefined;
}

function isBusy(error: unknown): boolean {
  const code = sqliteCode(error);
  return code === SQLITE.BUSY || code === SQLITE.LOCKED;
}

/** What went wrong with a file that cannot be opened, for a person. */
function openError(path: string, error: unknown): UserError {
  const make = (code: string, sentence: string, hint: string): UserError => new UserError(code, sentence, { cause: error, hint });
  const readable = `sqlite3://${path}`;
  switch (sqliteCode(error)) {
    case SQLITE.NOTADB:
    case SQLITE.CORRUPT:
      return make(
        'NotADatabase',
        `${path} is no SQLite database, or a damaged one.`,
        'Name another file, or restore it from a dump.',
      );
    case SQLITE.READONLY:
      return make(
        'DatabaseReadOnly',
        `The SQLite database ${path} cannot be written to.`,
        'Give this user write access to it and its folder, or mount read-only.',
      );
    case SQLITE.BUSY:
    case SQLITE.LOCKED:
      return make(
        'DatabaseLocked',
        `The SQLite database ${path} is locked by another process.`,
        'Find the process that holds it (fuser, lsof), or wait until it is done.',
      );
    default:
      return make(
        'DatabaseUnavailable',
        `The metadata database ${readable} cannot be opened: ${messageOf(error)}.`,
        'Check the path and the access rights.',
      );
  }
}

/** Throws UserError where a database cannot be at this path. */
function checkPath(path: string, readOnly: boolean): void {
  const folder = dirname(path);
  if (!existsSync(folder))
    throw new UserError('NoFolder', `The folder ${folder} of the SQLite database ${path} does not exist.`, {
      hint: `Make it first: mkdir -p ${folder}`,
    });
  if (!statSync(folder).isDirectory())
    throw new UserError('NoFolder', `${folder}, where the SQLite database ${path} should be, is not a folder.`);
  if (existsSync(path) && !statSync(path).isFile())
    throw new UserError('NotADatabase', `${path} is not a file, so it is no SQLite database.`, {
      hint: 'Name a file, as in sqlite3:///var/lib/volume.db.',
    });
  if (readOnly) return;
  // SQLite opens a file that it may not write to without a word. Its journals lie in the folder.
  for (const target of existsSync(path) ? [path, folder] : [folder]) {
    try {
      accessSync(target, constants.W_OK);
    } catch (cause) {
      throw new UserError(
        'DatabaseReadOnly',
        `The SQLite database ${path} cannot be written to: there is no write access to ${target}.`,
        {
          cause,
          hint: 'Give this user write access to the file and its folder, or mount read-only.',
        },
      );
    }
  }
}

export class Connection {
  readonly path: string;
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  readonly #clock: Clock;
  readonly #lockTimeout: number;
  #open = true;

  private constructor(path: string, database: DatabaseSync, options: ConnectionOptions) {
    this.path = path;
    this.#database = database;
    this.#clock = options.clock;
    this.#lockTimeout = options.lockTimeout ?? 10_000;
  }

  /** Opens the file, and makes it where there is none. Throws UserError with what is wrong. */
  static async open(path: string, options: ConnectionOptions): Promise<Connection> {
    const readOnly = options.readOnly ?? false;
    checkPath(path, readOnly);
    let connection: Connection | undefined;
    try {
      const opened = new Connection(path, new DatabaseSync(path, { readOnly, timeout: BUSY_MS }), options);
      connection = opened;
      await opened.#whenFree(() => {
        // The first statement that looks into the file is the one that finds out what it is.
        opened.all('SELECT 1 FROM sqlite_master LIMIT 1');
        if (readOnly) return;
        opened.exec('PRAGMA journal_mode = WAL');
        opened.exec('PRAGMA synchronous = FULL');
        opened.exec(`PRAGMA cache_size = -${PAGES_KIB}`);
        opened.exec('BEGIN IMMEDIATE');
        opened.exec('ROLLBACK');
      });
      return opened;
    } catch (error) {
      connection?.close();
      throw openError(path, error);
    }
  }

  /** Runs statements without parameters and without an answer. */
  exec(sql: string): void {
    this.#database.exec(sql);
  }

  #statement(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (!statement) {
      statement = this.#database.prepare(sql);
      statement.setReturnArrays(true);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  /** The first row, or undefined. */
  get(sql: string, ...values: SqlValue[]): Row | undefined {
    return this.#statement(sql).get(...values) as unknown as Row | undefined;
  }

  /** All rows: bound them in the statement. */
  all(sql: string, ...values: SqlValue[]): readonly Row[] {
    return this.#statement(sql).all(...values) as unknown as readonly Row[];
  }

  /** Number of rows that were changed. */
  run(sql: string, ...values: SqlValue[]): number {
    return Number(this.#statement(sql).run(...values).changes);
  }

  /** One consistent view for several reads. */
  snapshot<T>(work: () => T): T {
    this.#statement('BEGIN').run();
    try {
      return work();
    } finally {
      this.#statement('ROLLBACK').run();
    }
  }

  /** All or nothing: what `work` wrote is durable when this returns, and gone where it throws. */
  transaction<T>(work: () => T): T {
    this.#statement('BEGIN IMMEDIATE').run();
    try {
      const result = work();
      this.#statement('COMMIT').run();
      return result;
    } catch (error) {
      // SQLite has rolled back by itself after some errors (disk full, for one).
      if (this.#database.isTransaction) this.#statement('ROLLBACK').run();
      throw error;
    }
  }

  async #whenFree<T>(work: () => T, signal?: AbortSignal): Promise<T> {
    const start = this.#clock.monotonic();
    for (let attempt = 1; ; attempt++) {
      try {
        return work();
      } catch (error) {
        if (!isBusy(error) || this.#clock.monotonic() - start >= this.#lockTimeout) throw error;
      }
      await this.#clock.sleep(Math.min(attempt * attempt, 50), signal);
    }
  }

  /** Does `work`, again and again while another process has the file locked. Throws FsError. */
  async whenFree<T>(work: () => T, signal?: AbortSignal): Promise<T> {
    try {
      if (!this.#open) throw new FsError('EIO', `the metadata database ${this.path} was closed`);
      return await this.#whenFree(work, signal);
    } catch (error) {
      throw this.#fsError(error);
    }
  }

  #fsError(error: unknown): unknown {
    if (error instanceof FsError || error instanceof UserError) return error;
    const cause = { cause: error };
    if (isBusy(error))
      return new FsError('EIO', `the metadata database ${this.path} was locked by another process for ${this.#lockTimeout} ms`, {
        ...cause,
        retryable: true,
      });
    const code = sqliteCode(error);
    if (code !== undefined)
      return new FsError(errnoOf.get(code) ?? 'EIO', `the metadata database ${this.path} failed: ${messageOf(error)}`, cause);
    if (error instanceof RangeError)
      return new FsError('EIO', `the metadata database ${this.path} holds a value that cannot be: ${messageOf(error)}`, cause);
    return error;
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#statements.clear();
    this.#database.close();
  }
}
