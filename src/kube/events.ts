/**
 * Writes events (events.k8s.io/v1): what happened to an object, for `kubectl describe`.
 *
 * A repeat within 6 minutes counts up the series of the first instead of being a new event. Each object may have 25 writes
 * at once and then one in 5 minutes; a repeat that is not written is still counted. Bounds: 1000 queued, 4096 series remembered.
 * Events are news, not state: what cannot be written after three tries is dropped and counted.
 */
import type { Registry } from 'prom-client';
import { type Clock, systemClock } from '../lib/clock.ts';
import { messageOf } from '../lib/errors.ts';
import { type Logger, nullLogger } from '../lib/log.ts';
import { type Random, systemRandom } from '../lib/random.ts';
import { ApiError, isNotFound } from './errors.ts';
import { microTime } from './leader.ts';
import { kitMetrics } from './metrics.ts';
import { TokenBucket } from './rate-limiter.ts';
import { Events } from './resources.ts';
import type { EventInput, EventRecorder, KubeClient, ObjectRef } from './types.ts';

const SERIES_MS = 6 * 60_000;
const MAX_QUEUED = 1000;
const MAX_REMEMBERED = 4096;
const SPAM_BURST = 25;
const SPAM_PER_SECOND = 1 / 300;
const ATTEMPTS = 3;
/** For what is still queued at the end. */
const CLOSE_MS = 5000;
/** Limits of the API (validation of core events). */
export const MAX_NOTE_BYTES = 1024;
const MAX_NAME = 253;

export interface RecorderOptions {
  readonly client: KubeClient;
  /** `reportingController`, e.g. "juicepod.io/volume". */
  readonly controller: string;
  /** `reportingInstance`: this process, at most 128 characters. */
  readonly instance: string;
  readonly log?: Logger;
  readonly clock?: Clock;
  readonly random?: Random;
  readonly metrics?: Registry;
}

interface Series {
  readonly ref: ObjectRef;
  count: number;
  lastAt: number;
  created: boolean;
}

/** Cuts text to so many bytes of UTF-8 without breaking a character. */
export function cutBytes(text: string, max: number): string {
  const bytes = Buffer.from(text);
  if (bytes.length <= max) return text;
  let end = max - 3;
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end--;
  return `${bytes.toString('utf8', 0, end)}…`;
}

export function createRecorder(options: RecorderOptions): EventRecorder {
  const { client, controller } = options;
  const clock = options.clock ?? systemClock;
  const random = options.random ?? systemRandom;
  const log = (options.log ?? nullLogger).child({ events: controller });
  const metrics = options.metrics && kitMetrics(options.metrics);
  const events = client.resource(Events);
  const series = new Map<string, Series>();
  const buckets = new Map<string, TokenBucket>();
  const queue: (() => Promise<void>)[] = [];
  let sending: Promise<void> | undefined;
  let closed = false;

  const drop = (reason: string): void => metrics?.eventsDropped.inc({ controller, reason });

  /** A map as a bounded memory of the most recently used. */
  function remember<V>(map: Map<string, V>, key: string, make: () => V): V {
    const value = map.get(key) ?? make();
    map.delete(key);
    map.set(key, value);
    if (map.size > MAX_REMEMBERED) map.delete(map.keys().next().value as string);
    return value;
  }

  async function send(write: () => Promise<void>): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        await write();
        return;
      } catch (error) {
        const again = error instanceof ApiError && error.retryable && error.code !== 409;
        if (!again || attempt >= ATTEMPTS) {
          drop('error');
          log.warn('event not written', { error: messageOf(error) });
          return;
        }
        await clock.sleep(1000 * attempt);
      }
    }
  }

  async function drainQueue(): Promise<void> {
    for (let next = queue.shift(); next; next = queue.shift()) await send(next);
  }

  async function create(event: EventInput, entry: Series, at: number): Promise<void> {
    const { regarding } = event;
    await events.create({
      metadata: { name: entry.ref.name, namespace: entry.ref.namespace ?? 'default' },
      eventTime: microTime(at),
      reportingController: controller,
      reportingInstance: options.instance.slice(0, 128),
      action: event.action.slice(0, 128),
      reason: event.reason.slice(0, 128),
      type: event.type,
      note: cutBytes(event.note, MAX_NOTE_BYTES),
      regarding: {
        apiVersion: regarding.apiVersion,
        kind: regarding.kind,
        name: regarding.metadata.name,
        ...(regarding.metadata.namespace ? { namespace: regarding.metadata.namespace } : {}),
        ...(regarding.metadata.uid ? { uid: regarding.metadata.uid } : {}),
      },
    });
    entry.created = true;
  }

  async function repeat(event: EventInput, entry: Series): Promise<void> {
    const value = { count: entry.count, lastObservedTime: microTime(entry.lastAt) };
    if (entry.created) {
      try {
        await events.patch(entry.ref, [{ op: 'add', path: '/series', value }]);
        return;
      } catch (error) {
        // Events live for an hour by default, and anybody may delete them.
        if (!isNotFound(error)) throw error;
      }
    }
    await create(event, entry, entry.lastAt);
  }

  return {
    record({ regarding: { apiVersion, kind, metadata }, ...what }) {
      if (closed) return;
      const now = clock.now();
      // What waits in the queue holds the object's name, not the object.
      const { name, namespace, uid } = metadata;
      const regarding = {
        apiVersion,
        kind,
        metadata: { name, ...(namespace ? { namespace } : {}), ...(uid ? { uid } : {}) },
      };
      const event: EventInput = { ...what, regarding };
      const object =
        regarding.metadata.uid ?? `${regarding.kind}/${regarding.metadata.namespace ?? ''}/${regarding.metadata.name}`;
      const key = [object, event.type, event.reason, event.action, event.note].join('\0');
      const known = series.get(key);
      const repeated = known !== undefined && now - known.lastAt < SERIES_MS && now >= known.lastAt;
      if (known && !repeated) series.delete(key);
      const entry = remember(series, key, () => ({
        ref: {
          namespace: regarding.metadata.namespace ?? 'default',
          name: `${regarding.metadata.name.slice(0, MAX_NAME - 17)}.${random.bytes(8).toString('hex')}`,
        },
        count: 0,
        lastAt: now,
        created: false,
      }));
      entry.count++;
      entry.lastAt = now;
      if (!remember(buckets, object, () => new TokenBucket(clock, SPAM_PER_SECOND, SPAM_BURST)).tryTake()) return drop('spam');
      if (queue.length >= MAX_QUEUED) return drop('full');
      queue.push(() => (repeated ? repeat(event, entry) : create(event, entry, now)));
      sending ??= drainQueue().finally(() => (sending = undefined));
    },
    async close() {
      closed = true;
      const late = Promise.withResolvers<void>();
      const cancel = clock.timer(CLOSE_MS, late.resolve);
      await Promise.race([sending, late.promise]);
      cancel();
      for (const _write of queue.splice(0)) drop('closed');
    },
  };
}
