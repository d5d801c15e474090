/**
 * Opens the MySQL engine from a metadata URL: MySQL 5.7 or newer, or MariaDB (CI: MariaDB 10.11), tables in InnoDB. The database
 * must be there; tables are made by `format`, and one of our own is added (`jfs_juicepod_commit`,
 * schema.ts).
 */
import type { Clock } from '../../lib/clock.ts';
import { mysqlDialect } from '../sql/dialect.ts';
import type { ServerEngine } from '../sql/engine.ts';
import { openServer, type ServerOptions } from '../sql/open.ts';
import { type Driver, type Fault, isNetworkError } from '../sql/session.ts';
import { describeServerUrl, type ServerUrl } from '../url-server.ts';
import { connectMysql } from './session.ts';

/** Faults by the server's number of an error. */
const faults: Readonly<Record<number, Fault>> = {
  // Deadlock, lock wait timeout, duplicate key, row changed since it was read.
  1213: 'conflict',
  1205: 'conflict',
  1062: 'conflict',
  1020: 'conflict',
  // Too many connections, shut down, killed, gone; a server that only reads.
  1040: 'lost',
  1203: 'lost',
  1053: 'lost',
  1927: 'lost',
  2006: 'lost',
  2013: 'lost',
  1290: 'lost',
  1836: 'lost',
  // A statement that took too long (MySQL, MariaDB), or that somebody cancelled.
  3024: 'conflict',
  1969: 'conflict',
  1317: 'conflict',
  1366: 'text',
  1300: 'text',
  3854: 'text',
  1114: 'full',
  1021: 'full',
  // A sum that its type does not hold. Where no guard is the reason, the transaction meets it once more without them.
  1690: 'guarded',
  1264: 'range',
  1406: 'range',
  1146: 'missing',
  1044: 'refused',
  1045: 'refused',
  1049: 'refused',
  1142: 'refused',
  1698: 'refused',
};

/** What to do, by the server's number of an error. */
const advice: Readonly<Record<number, string>> = {
  1040: 'raise max_connections of the server, or lower max_open_conns of the clients’ metadata URLs',
  1203: 'raise max_user_connections of the server, or lower max_open_conns of the clients’ metadata URLs',
  1290: 'this server only reads: the metadata URL must lead to the primary',
  1836: 'this server only reads: the metadata URL must lead to the primary',
  1114: 'make room on the disk of the server',
  1021: 'make room on the disk of the server',
  1030: 'see the log of the server; error 28 is a full disk',
  1153: 'raise max_allowed_packet of the server, to 64M for instance',
  1366: 'the table was made in another character set: ALTER TABLE … CONVERT TO CHARACTER SET utf8mb4',
  1142: 'grant the user SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX and DROP on the database',
  1044: 'grant the user SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX and DROP on the database',
  1049: 'make the database first',
};

function adviceOf(error: unknown): string | undefined {
  const { errno } = (error ?? {}) as { readonly errno?: unknown };
  return typeof errno === 'number' ? advice[errno] : undefined;
}

function faultOf(error: unknown): Fault {
  if (!(error instanceof Error)) return 'other';
  if (/error 28\b/.test(error.message)) return 'full';
  const { errno, fatal, code } = error as { readonly errno?: unknown; readonly fatal?: unknown; readonly code?: unknown };
  if (typeof errno === 'number' && errno in faults) return faults[errno] ?? 'other';
  return isNetworkError(error) || fatal === true || code === 'PROTOCOL_CONNECTION_LOST' || /closed state/.test(error.message)
    ? 'lost'
    : 'other';
}

function mysqlDriver(url: ServerUrl, clock: Clock): Driver {
  return {
    description: describeServerUrl(url),
    product: 'MySQL',
    dialect: mysqlDialect(url.tablePrefix),
    exclusively: {
      begin: [`SELECT GET_LOCK('juicepod.schema', 10)`],
      end: [`SELECT RELEASE_LOCK('juicepod.schema')`],
    },
    columns: `SELECT table_name, column_name FROM information_schema.columns
      WHERE table_schema = DATABASE() AND LEFT(table_name, CHAR_LENGTH(?1)) = ?1`,
    columnsOf: [url.tablePrefix],
    connect: () => connectMysql(url, clock),
    faultOf,
    adviceOf,
  };
}

/** Connects. Throws UserError where the server does not answer within `patience`, or refuses us. */
export function openMysql(url: ServerUrl, options: ServerOptions = {}): Promise<ServerEngine> {
  return openServer(mysqlDriver, url, options);
}
