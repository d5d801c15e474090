/**
 * Opens the PostgreSQL engine from a metadata URL. PostgreSQL 10 or newer (CI: 15). The database must be there; tables are made
 * by `format`, and one of our own is added (`jfs_juicepod_commit`, schema.ts).
 */
import type { Clock } from '../../lib/clock.ts';
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
  // A statement that took too long, or that somebody cancelled.
  '57014': 'conflict',
  '53000': 'full',
  '53100': 'full',
  '53200': 'full',
  '53400': 'full',
  '22012': 'guarded',
  '22021': 'text',
  '22P05': 'text',
  '22003': 'range',
  '22001': 'range',
  '42P01': 'missing',
  '28P01': 'refused',
  '28000': 'refused',
  '3D000': 'refused',
  '3F000': 'refused',
  '42501': 'refused',
};

/** What to do, by SQLSTATE. */
const advice: Readonly<Record<string, string>> = {
  '53300': 'raise max_connections of the server, or lower max_open_conns of the clients’ metadata URLs',
  '25006': 'this server only reads: the metadata URL must lead to the primary',
  '57014': 'the server is too slow, or somebody cancelled the statement',
  '53100': 'make room on the disk of the server',
  '53200': 'the server needs more memory',
  '22021': 'make the database with ENCODING UTF8',
  '22P05': 'make the database with ENCODING UTF8',
  '42501': 'grant the user SELECT, INSERT, UPDATE and DELETE on the tables and USAGE on their sequences, or make it their owner',
  '3F000': 'make the schema that search_path names',
};

const codeOf = (error: unknown): string | undefined => {
  const code = (error as { readonly code?: unknown } | undefined)?.code;
  return typeof code === 'string' ? code : undefined;
};

function faultOf(error: unknown): Fault {
  const code = codeOf(error);
  if (code !== undefined && Object.hasOwn(faults, code)) return faults[code] ?? 'other';
  if (code !== undefined && /^08...$/.test(code)) return 'lost';
  return isConnectionLost(error) ? 'lost' : 'other';
}

function adviceOf(error: unknown): string | undefined {
  const code = codeOf(error) ?? '';
  return Object.hasOwn(advice, code) ? advice[code] : undefined;
}

/** Everybody who waits for a lock in these tables listens to it. A name ends at 63 bytes. */
const channelOf = ({ tablePrefix }: ServerUrl): string => `${tablePrefix}juicepod_locks`.slice(-63);

function postgresDriver(url: ServerUrl, clock: Clock): Driver {
  const channel = channelOf(url);
  return {
    description: describeServerUrl(url),
    product: 'PostgreSQL',
    dialect: postgresDialect(url.tablePrefix, url.schema),
    exclusively: { begin: ['BEGIN', `SELECT pg_advisory_xact_lock(${SCHEMA_LOCK})`], end: ['COMMIT'] },
    columns: `SELECT table_name::text, column_name::text FROM information_schema.columns
      WHERE table_schema = COALESCE(?1::text, current_schema()) AND left(table_name, length(?2::text)) = ?2`,
    columnsOf: [url.schema ?? null, url.tablePrefix],
    connect: () => connectPostgres(url, clock),
    faultOf,
    adviceOf,
    announce: (subject) => ({ text: 'SELECT pg_notify(?1, ?2)', values: [channel, subject] }),
    async listen(heard, ended) {
      const session = await connectPostgres(url, clock);
      try {
        return await session.listen(channel, heard, ended);
      } catch (error) {
        session.end();
        throw error;
      }
    },
  };
}

/** Connects. Throws UserError where the server does not answer within `patience`, or refuses us. */
export function openPostgres(url: ServerUrl, options: ServerOptions = {}): Promise<ServerEngine> {
  return openServer(postgresDriver, url, options);
}
