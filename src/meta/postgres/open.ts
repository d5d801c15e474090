/**
 * Opens the PostgreSQL engine from a metadata URL. PostgreSQL 10 or newer (CI: 15). The database must be there; tables are made
 * by `format`, and one of our own is added (`jfs_juicepod_commit`, schema.ts).
 */
import { systemClock } from '../../lib/clock.ts';
import { postgresDialect } from '../sql/dialect.ts';
import type { ServerEngine } from '../sql/engine.ts';
import { openServer, type ServerOptions } from '../sql/open.ts';
import type { Driver, Fault } from '../sql/session.ts';
import { describeServerUrl, type ServerUrl } from '../url-server.ts';
import { connectPostgres, isConnectionLost } from './session.ts';

/** The lock that clients of ours take to make tables. */
const SCHEMA_LOCK = 0x6a75_6963;

/** Faults by SQLSTATE. */
const faults: Readonly<Record<string, Fault>> = {
  '40001': 'conflict',
  '40P01': 'conflict',
  '23505': 'conflict',
  '55P03': 'conflict',
  '25P02': 'conflict',
  // Shut down, crashed, starting, too many clients; a replica, or a primary that has become one.
  '57P01': 'lost',
  '57P02': 'lost',
  '57P03': 'lost',
  '53300': 'lost',
  '25006': 'lost',
  '25P03': 'lost',
  '53100': 'full',
  '53200': 'full',
  '22003': 'range',
  '22001': 'range',
  '42P01': 'missing',
  '28P01': 'refused',
  '28000': 'refused',
  '3D000': 'refused',
  '3F000': 'refused',
  '42501': 'refused',
};

function faultOf(error: unknown): Fault {
  const code = (error as { readonly code?: unknown } | undefined)?.code;
  if (typeof code === 'string' && Object.hasOwn(faults, code)) return faults[code] ?? 'other';
  if (typeof code === 'string' && /^08...$/.test(code)) return 'lost';
  return isConnectionLost(error) ? 'lost' : 'other';
}

/** Connects. Throws UserError where the server does not answer within `patience`, or refuses us. */
export async function openPostgres(url: ServerUrl, options: ServerOptions = {}): Promise<ServerEngine> {
  const driver: Driver = {
    description: describeServerUrl(url),
    product: 'PostgreSQL',
    dialect: postgresDialect(url.tablePrefix, url.schema),
    exclusively: { begin: ['BEGIN', `SELECT pg_advisory_xact_lock(${SCHEMA_LOCK})`], end: ['COMMIT'] },
    columns: `SELECT table_name::text, column_name::text FROM information_schema.columns
      WHERE table_schema = COALESCE(?1::text, current_schema()) AND left(table_name, length(?2::text)) = ?2`,
    columnsOf: [url.schema ?? null, url.tablePrefix],
    connect: () => connectPostgres(url, options.clock ?? systemClock),
    faultOf,
  };
  return openServer(driver, url, options);
}
