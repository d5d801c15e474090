/**
 * Other credentials for a server that is in use: proved on a connection of their own first, with what the engine does (it reads
 * the volume's settings and, for a client that writes, changes a row by nothing), then taken by the pool.
 */
import { FsError, messageOf, UserError } from '../../lib/errors.ts';
import { describeMetaUrl, type MetaUrl } from '../url.ts';
import type { ServerUrl } from '../url-server.ts';
import { Pool, type PoolOptions } from './pool.ts';
import type { Driver, Statement } from './session.ts';
import type { Statements } from './statements.ts';

/** How long the proof may take, ms. */
const PATIENCE = 10_000;

const plain = (text: string): Statement => ({ text, values: [] });

export interface Proof {
  readonly driverOf: (url: ServerUrl) => Driver;
  /** The URL in use. */
  readonly inUse: ServerUrl;
  /** The URL to be proved. */
  readonly url: MetaUrl;
  readonly sql: Statements;
  readonly writing: boolean;
  readonly surroundings: Pick<PoolOptions, 'clock' | 'random' | 'logger'>;
}

/** The same tables of the same server. */
function isSamePlace(url: MetaUrl, inUse: ServerUrl): url is ServerUrl {
  return url.kind === inUse.kind && describeMetaUrl(url) === describeMetaUrl(inUse) && url.tablePrefix === inUse.tablePrefix;
}

/** Answers what connects with the new credentials. Throws UserError where they do not do. */
export async function proveServer({ driverOf, inUse, url, sql, writing, surroundings }: Proof): Promise<Driver> {
  if (!isSamePlace(url, inUse))
    throw new UserError(
      'MetaElsewhere',
      `the metadata database is now ${describeMetaUrl(url)}, and was ${describeMetaUrl(inUse)}: only its credentials can change under a mount`,
      { hint: 'A client that is started anew takes the new place.' },
    );
  const driver = driverOf(url);
  const pool = new Pool(driver, { ...surroundings, patience: PATIENCE, maxConnections: 1, idleTime: PATIENCE });
  try {
    await pool.open();
    const rows = await pool.repeat(async (session) => {
      const nothing: Statement = { text: sql.addCounter, values: ['nextSession', 0] };
      try {
        const answers = await session.run([
          plain('BEGIN'),
          plain(sql.getSetting),
          ...(writing ? [nothing] : []),
          plain('ROLLBACK'),
        ]);
        return answers[1]?.rows.length ?? 0;
      } catch (error) {
        session.end();
        throw error;
      }
    });
    if (rows === 0) throw new UserError('NoVolume', `these credentials find no volume in ${driver.description}`);
    return driver;
  } catch (error) {
    if (error instanceof FsError) throw new UserError('MetaRefused', messageOf(error), { cause: error });
    throw error;
  } finally {
    pool.close();
  }
}
