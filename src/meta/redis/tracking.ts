/**
 * Hears from Redis which names and attributes anybody changes (CLIENT TRACKING with BCAST, Redis 6 and newer), on a connection of
 * its own, and tells the cache. While there is no such connection, or nothing is heard on it for MISSED_MS, nothing is kept:
 * that is the longest time for which something stale can be answered.
 *
 * The connection gets its own announcements redirected to itself, since in RESP 2 they come as messages only.
 * Source: the Redis documentation, "Client-side caching"; JuiceFS 1.4 tracks the same prefixes.
 */
import { Redis } from 'ioredis';
import type { Clock } from '../../lib/clock.ts';
import { messageOf } from '../../lib/errors.ts';
import type { Logger } from '../../lib/log.ts';
import { describeRedisUrl, type RedisUrl } from '../url-redis.ts';
import type { ClientCache } from './client-cache.ts';
import type { RedisConnection } from './connection.ts';
import { redisOptions } from './connector.ts';

const CHANNEL = '__redis__:invalidate';
const BEAT_MS = 1000;
const MISSED_MS = 3000;

export interface TrackingOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** What all keys of the volume begin with. */
  readonly prefix: string;
}

export class Tracking {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #prefixes: readonly string[];
  readonly #cache: ClientCache;
  readonly #connection: RedisConnection;
  #url: RedisUrl;
  #redis: Redis | undefined;
  #cancelBeat = (): void => {};
  #closed = false;
  #onFirst: (() => void) | undefined;

  /** Begins at once. `connection` is what the volume is read over: where it leads elsewhere, nothing is kept. */
  constructor(url: RedisUrl, connection: RedisConnection, cache: ClientCache, options: TrackingOptions) {
    this.#url = url;
    this.#connection = connection;
    this.#cache = cache;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#prefixes = [`${options.prefix}i`, `${options.prefix}d`];
    connection.place?.onMove(() => this.#again());
    connection.onServer(() => this.#again());
    this.#again();
  }

  /** Calls `action` when changes are heard of for the first time. */
  onFirst(action: () => void): void {
    this.#onFirst = action;
  }

  /** Goes on with other credentials, on another connection. */
  adopt(url: RedisUrl): void {
    this.#url = { ...url };
    this.#again();
  }

  #again(): void {
    this.#drop();
    if (this.#closed) return;
    const redis = new Redis({
      ...redisOptions(this.#url, this.#connection.place, () => this.#url),
      maxRetriesPerRequest: 0,
      autoResubscribe: false,
      enableOfflineQueue: false,
    });
    this.#redis = redis;
    redis.on('ready', () => void this.#begin(redis));
    redis.on('close', () => this.#stop(redis));
    // The other connection tells of problems with the server.
    redis.on('error', () => {});
    redis.on('messageBuffer', (_channel: Buffer, keys: readonly Buffer[] | null) => {
      if (redis !== this.#redis) return;
      // Without keys, everything was removed.
      if (!Array.isArray(keys)) return this.#cache.clear();
      for (const key of keys as readonly Buffer[]) this.#cache.changed(key.toString('latin1'));
    });
    redis.connect().catch(() => {});
  }

  async #begin(redis: Redis): Promise<void> {
    try {
      const id = Number(await redis.call('CLIENT', 'ID'));
      const prefixes = this.#prefixes.flatMap((prefix) => ['PREFIX', prefix]);
      await redis.call('CLIENT', 'TRACKING', 'ON', 'REDIRECT', id, 'BCAST', ...prefixes);
      await redis.subscribe(CHANNEL);
    } catch (error) {
      if (redis !== this.#redis || redis.status !== 'ready') return;
      this.#logger.warn(
        'Redis does not tell of changes, so nothing is kept (client-cache; it needs Redis 6 and the right to ask)',
        {
          server: describeRedisUrl(this.#url),
          problem: messageOf(error),
        },
      );
      return this.#drop();
    }
    if (redis !== this.#redis) return;
    this.#cache.listen(true);
    this.#beat(redis);
    this.#onFirst?.();
    this.#onFirst = undefined;
  }

  /** A connection that has died in silence is found out. */
  #beat(redis: Redis): void {
    this.#cancelBeat = this.#clock.timer(BEAT_MS, () => {
      const cancel = this.#clock.timer(MISSED_MS - BEAT_MS, () => {
        this.#stop(redis);
        if (redis === this.#redis) this.#again();
      });
      redis.ping().then(
        () => {
          cancel();
          if (redis === this.#redis) this.#beat(redis);
        },
        () => cancel(),
      );
    });
  }

  #stop(redis: Redis): void {
    if (redis !== this.#redis) return;
    this.#cancelBeat();
    this.#cache.listen(false);
  }

  #drop(): void {
    this.#cancelBeat();
    this.#cache.listen(false);
    this.#redis?.disconnect();
    this.#redis = undefined;
  }

  close(): void {
    this.#closed = true;
    this.#drop();
  }
}
