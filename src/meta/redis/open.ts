/** Opens the Redis engine from a metadata URL. */
import { type Clock, systemClock } from '../../lib/clock.ts';
import { messageOf } from '../../lib/errors.ts';
import { type Logger, nullLogger } from '../../lib/log.ts';
import { type Random, systemRandom } from '../../lib/random.ts';
import type { RedisUrl } from '../url-redis.ts';
import { ClientCache } from './client-cache.ts';
import { RedisConnection } from './connection.ts';
import { RedisEngine } from './engine.ts';
import { Keys } from './keys.ts';
import { ListingConnection } from './listing.ts';
import { LockNotices } from './notices.ts';
import { checkServer } from './server-check.ts';
import { Tracking } from './tracking.ts';

export interface RedisEngineOptions {
  /** @default systemClock */
  readonly clock?: Clock;
  /** @default systemRandom */
  readonly random?: Random;
  /** @default nullLogger */
  readonly logger?: Logger;
  /** How long an operation waits for a server that is away before it fails with EIO, ms. @default 30000 */
  readonly patience?: number;
  /** How long the first answer is waited for, ms. @default patience */
  readonly openPatience?: number;
  /** Nothing is to be changed, not even a server's policy of dropping keys; that is left to those who write. @default false */
  readonly readOnly?: boolean;
  /** The server refuses user or password of an engine that was open; see `renew`. */
  readonly onRefused?: () => void;
}

/** A connection to the server of a volume, and the names of the volume's keys there. */
export interface Connected {
  readonly connection: RedisConnection;
  readonly keys: Keys;
  /** The URL, with what was found out of it: that it is a Cluster. */
  readonly url: RedisUrl;
}

/** Connects. Throws UserError where the server does not answer within `patience`, or refuses us. */
export async function connectRedis(url: RedisUrl, options: RedisEngineOptions = {}): Promise<Connected> {
  const { clock = systemClock, random = systemRandom, logger = nullLogger, patience = 30_000, onRefused, readOnly } = options;
  const role = readOnly && url.readReplica ? 'replica' : 'master';
  const common = { clock, random, logger, patience, role, ...(onRefused ? { onRefused } : {}) } as const;
  const connection = new RedisConnection(url, common);
  await connection.open(options.openPatience);
  if (url.sentinel || url.cluster || url.socket !== undefined || !(await isCluster(connection)))
    return { connection, keys: keysOf(url), url };
  connection.close();
  const { host, port } = url;
  const cluster = { ...url, cluster: [{ host, port }] };
  const second = new RedisConnection(cluster, common);
  await second.open();
  logger.info('This Redis is a Cluster', { server: second.description });
  return { connection: second, keys: keysOf(cluster), url: cluster };
}

/** In a Cluster all keys of a volume have one hash tag, so that one node has them all. */
function keysOf({ cluster, database }: RedisUrl): Keys {
  return new Keys(cluster ? `{${database}}` : '', String(database));
}

/** A server that does not know the question, or lets us not ask it, is none. */
async function isCluster(connection: RedisConnection): Promise<boolean> {
  try {
    return String(await connection.call('CLUSTER', 'INFO')).includes('cluster_state:');
  } catch {
    return false;
  }
}

/** Connects and checks the server. Throws UserError where it does not answer within `patience`, or refuses us. */
export async function openRedis(given: RedisUrl, options: RedisEngineOptions = {}): Promise<RedisEngine> {
  const { connection, keys, url } = await connectRedis(given, options);
  const { clock = systemClock, random = systemRandom, logger = nullLogger, patience = 30_000, onRefused } = options;
  const { place } = connection;
  let writer: RedisConnection | undefined;
  if (url.waitReplicas && !options.readOnly) {
    writer = new RedisConnection(url, { clock, random, logger, patience, place, ...(onRefused ? { onRefused } : {}) });
    await writer.open().catch((error: unknown) => {
      connection.close();
      throw error;
    });
  }
  const cache = url.clientCache && new ClientCache({ clock, ...url.clientCache });
  const tracking = cache && new Tracking(url, connection, cache, { clock, logger, prefix: keys.prefix });
  const engine = new RedisEngine({
    connection,
    writer,
    keys,
    notices: new LockNotices(url, clock, place),
    listing: new ListingConnection(url, clock, place),
    cache,
    tracking,
    random,
  });
  const { size = 0, preload = 0 } = url.clientCache ?? {};
  if (preload > 0)
    tracking?.onFirst(() => {
      engine.preload(Math.min(size, preload)).catch((error: unknown) => {
        logger.info('the names of the root directory were not all looked up ahead', { reason: messageOf(error) });
      });
    });
  if (!options.readOnly) await checkServer(connection, logger);
  return engine;
}
