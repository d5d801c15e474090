/** Opens the engine over an SQL server, whichever it is. */
import { type Clock, systemClock } from '../../lib/clock.ts';
import { type Logger, nullLogger } from '../../lib/log.ts';
import { type Random, systemRandom } from '../../lib/random.ts';
import type { ServerUrl } from '../url-server.ts';
import { ServerEngine } from './engine.ts';
import { Pool } from './pool.ts';
import type { Driver } from './session.ts';

export interface ServerOptions {
  /** @default systemClock */
  readonly clock?: Clock;
  /** @default systemRandom */
  readonly random?: Random;
  /** @default nullLogger */
  readonly logger?: Logger;
  /** How long an operation waits for a server that is away before it fails with EIO, ms. @default 30000 */
  readonly patience?: number;
  /** How long the first connection is waited for, ms. @default patience */
  readonly openPatience?: number;
  /** Nothing is written, not even missing tables. @default false */
  readonly readOnly?: boolean;
  /** The server refuses user or password of an engine that was open; see `renew`. */
  readonly onRefused?: () => void;
}

/** Connects; `driverOf` speaks to the server of a URL. Throws UserError where that does not answer within `patience`, or refuses us. */
export async function openServer(
  driverOf: (url: ServerUrl, clock: Clock) => Driver,
  url: ServerUrl,
  options: ServerOptions = {},
): Promise<ServerEngine> {
  const { clock = systemClock, random = systemRandom, logger = nullLogger, patience = 30_000, readOnly = false } = options;
  const { maxConnections, idleTime } = url;
  const onRefused = options.onRefused ? { onRefused: options.onRefused } : {};
  const pool = new Pool(driverOf(url, clock), { clock, random, logger, patience, maxConnections, idleTime, ...onRefused });
  await pool.open(options.openPatience);
  const engine = new ServerEngine({ url, driverOf: (other) => driverOf(other, clock) }, pool, { clock, random, logger });
  try {
    if (!readOnly) await engine.completeSchema();
    return engine;
  } catch (error) {
    await engine.close();
    throw error;
  }
}
