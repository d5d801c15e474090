/**
 * Opens the MySQL engine from a metadata URL: MySQL 5.7 or newer, or MariaDB (CI: MariaDB 10.11), tables in InnoDB. The database
 * must be there; tables are made by `format`, and one of our own is added (`jfs_juicepod_commit`,
 * schema.ts).
 */
import { systemClock } from '../../lib/clock.ts';
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
  1114: 'full',
  1021: 'full',
  1264: 'range',
  1406: 'range',
  1146: 'missing',
  1044: 'refused',
  1045: 'refused',
  1049: 'refused',
  1142: 'refused',
  1698: 'refused',
};

function faultOf(error: unknown): Fault {
  if (!(error instanceof Error)) return 'other';
  const { errno, fatal, code } = error as { readonly errno?: unknown; readonly fatal?: unknown; readonly code?: unknown };
  if (typeof errno === 'number' && errno in faults) return faults[errno] ?? 'other';
  return isNetworkError(error) || fatal === true || code === 'PROTOCOL_CONNECTION_LOST' || /closed state/.test(error.message)
    ? 'lost'
    : 'other';
}

/** Connects. Throws UserError where the server does not answer within `patience`, or refuses us. */
export async function openMysql(url: ServerUrl, options: ServerOptions = {}): Promise<ServerEngine> {
  const dialect = mysqlDialect(url.tablePrefix);
  const driver: Driver = {
    description: describeServerUrl(url),
    product: 'MySQL',
    dialect,
    exclusively: {
      begin: [`SELECT GET_LOCK('juicepod.schema', 10)`],
      end: [`SELECT RELEASE_LOCK('juicepod.schema')`],
    },
    columns: `SELECT table_name, column_name FROM information_schema.columns
      WHERE table_schema = DATABASE() AND LEFT(table_name, CHAR_LENGTH(?1)) = ?1`,
    columnsOf: [url.tablePrefix],
    connect: () => connectMysql(url, options.clock ?? systemClock),
    faultOf,
  };
  return openServer(driver, url, options);
}
