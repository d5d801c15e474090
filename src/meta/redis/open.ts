/** Opens the Redis engine from a metadata URL. */
import { type Clock, systemClock } from '../../lib/clock.ts';
import { type Logger, nullLogger } from '../../lib/log.ts';
import { type Random, systemRandom } from '../../lib/random.ts';
import type { RedisUrl } from '../url.ts';
import { RedisConnection } from './connection.ts';
import { RedisEngine } from './engine.ts';
import { Keys } from './keys.ts';
import { ListingConnection } from './listing.ts';
import { LockNotices } from './notices.ts';

export interface RedisEngineOptions {
  /** @default systemClock */
  readonly clock?: Clock;
  /** @default systemRandom */
  readonly random?: Random;
  /** @default nullLogger */
  readonly logger?: Logger;
  /** How long an operation waits for a server that is away before it fails with EIO, ms. @default 30000 */
  readonly patience?: number;
  /** Nothing is to be changed, not even a server's policy of dropping keys; that is left to those who write. @default false */
  readonly readOnly?: boolean;
  /** The server refuses user or password of an engine that was open; see `renew`. */
  readonly onRefused?: () => void;
}

/** Connects and checks the server. Throws UserError where it does not answer within `patience`, or refuses us. */
export async function openRedis(url: RedisUrl, options: RedisEngineOptions = {}): Promise<RedisEngine> {
  const logger = options.logger ?? nullLogger;
  const clock = options.clock ?? systemClock;
  const connection = new RedisConnection(url, {
    clock,
    logger,
    patience: options.patience ?? 30_000,
    ...(options.onRefused ? { onRefused: options.onRefused } : {}),
  });
  await connection.open();
  const engine = new RedisEngine(
    connection,
    new Keys('', String(url.database)),
    new LockNotices(url, clock),
    options.random ?? systemRandom,
    logger,
    new ListingConnection(url, clock),
  );
  if (!options.readOnly) await engine.checkServer();
  return engine;
}
