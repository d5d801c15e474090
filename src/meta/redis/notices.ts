/**
 * Announcements of released locks, by Redis's publish and subscribe: a connection of its own, made when the first program waits
 * for a lock and closed when none has waited for a while. It promises nothing: without it (no connection, a user who may not
 * subscribe) who waits finds out a little later by looking.
 *
 * Bounds: one connection; one subscription per file that is waited for.
 */
import { Redis } from 'ioredis';
import type { Clock } from '../../lib/clock.ts';
import type { RedisUrl } from '../url-redis.ts';
import { redisOptions } from './connector.ts';
import type { Place } from './place.ts';

/** How long a subscription may take before its caller goes on without. */
const PATIENCE_MS = 1000;
/** How long the connection stays though nobody waits. */
const IDLE_MS = 30_000;

export class LockNotices {
  readonly #clock: Clock;
  readonly #watchers = new Map<string, Set<() => void>>();
  #url: RedisUrl;
  readonly #place: Place | undefined;
  #redis: Redis | undefined;
  #cancelIdle: (() => void) | undefined;
  #closed = false;

  /** `place`: where the server is, where that can change. */
  constructor(url: RedisUrl, clock: Clock, place?: Place) {
    this.#url = url;
    this.#clock = clock;
    this.#place = place;
    place?.onMove(() => this.#again());
  }

  /** Goes on with other credentials, on the next connection. */
  adopt(url: RedisUrl): void {
    this.#url = url;
    this.#again();
  }

  #again(): void {
    if (!this.#redis) return;
    this.#disconnect();
    for (const channel of this.#watchers.keys()) void this.#subscribe(channel);
  }

  /** Calls back on every message from when it resolves until the answer is called. */
  async watch(channel: string, woken: () => void): Promise<() => void> {
    const watchers = this.#watchers.get(channel) ?? new Set();
    this.#watchers.set(channel, watchers.add(woken));
    this.#cancelIdle?.();
    const timer = new AbortController();
    await Promise.race([this.#subscribe(channel), this.#clock.sleep(PATIENCE_MS, timer.signal).catch(() => {})]);
    timer.abort();
    return () => this.#unwatch(channel, watchers, woken);
  }

  #unwatch(channel: string, watchers: Set<() => void>, woken: () => void): void {
    watchers.delete(woken);
    if (watchers.size > 0 || this.#watchers.get(channel) !== watchers) return;
    this.#watchers.delete(channel);
    this.#redis?.unsubscribe(channel).catch(() => {});
    if (this.#watchers.size === 0) this.#cancelIdle = this.#clock.timer(IDLE_MS, () => this.#disconnect());
  }

  async #subscribe(channel: string): Promise<void> {
    if (this.#closed) return;
    this.#redis ??= this.#connect();
    // Subscribing again is answered again, so the second of two watchers can wait for it as the first does.
    await this.#redis.subscribe(channel).catch(() => {});
  }

  #connect(): Redis {
    // Subscriptions are renewed by ioredis when the connection was lost; commands wait for the connection.
    const redis = new Redis({ ...redisOptions(this.#url, this.#place, () => this.#url), maxRetriesPerRequest: null });
    redis.on('message', (channel: string) => this.#wake(channel));
    // What was announced in between is lost: everybody looks.
    redis.on('ready', () => {
      for (const channel of this.#watchers.keys()) this.#wake(channel);
    });
    // The other connection tells of problems with the server.
    redis.on('error', () => {});
    return redis;
  }

  #wake(channel: string): void {
    for (const woken of this.#watchers.get(channel) ?? []) woken();
  }

  #disconnect(): void {
    this.#redis?.disconnect();
    this.#redis = undefined;
  }

  close(): void {
    this.#closed = true;
    this.#cancelIdle?.();
    this.#disconnect();
  }
}
