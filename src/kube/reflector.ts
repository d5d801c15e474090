/**
 * Keeps a store equal to what the API server has of one kind: a list, then a watch from its version on, over and over.
 *
 * Rules and constants are client-go's (tools/cache/reflector.go):
 * - The first list takes what the server has cached (version 0), a later one what is at least as new as the last version
 *   seen; where that version is gone or not yet there, the database is asked, in pages of 500. So the store never goes back in time.
 * - Watches ask for bookmarks and end after 5 to 10 minutes; one that is silent for 3 minutes is given up (a broken
 *   connection may say nothing for hours).
 * - 410 means a new list; every other failure means waiting (0.8 s doubling to 30 s, jittered, from the start again after
 *   2 quiet minutes) and going on. Only the signal ends it.
 *
 * The store is changed synchronously with each event, then the handlers run. An object of the same name with another uid is
 * a deletion and an addition. The memory is that of the objects after `transform`, twice during a list.
 */
import type { Registry } from 'prom-client';
import { type Clock, systemClock } from '../lib/clock.ts';
import { messageOf } from '../lib/errors.ts';
import { type Logger, nullLogger } from '../lib/log.ts';
import { type Random, systemRandom } from '../lib/random.ts';
import { ApiError, isGone, isTooLargeResourceVersion } from './errors.ts';
import { kitMetrics } from './metrics.ts';
import { backoffDelay } from './rate-limiter.ts';
import { keyOf } from './resources.ts';
import { IndexedStore } from './store.ts';
import type { KubeObject, Reflector, ReflectorOptions, StoreChange } from './types.ts';

const WATCH_MIN_SECONDS = 300;
const SILENCE_MS = 180_000;
/** A watch that ends sooner without an event is no watch; wait before the next. */
const SHORT_WATCH_MS = 1000;
const backoff = { baseMs: 800, maxMs: 30_000, jitter: 1 } as const;
const BACKOFF_RESET_MS = 120_000;

export interface ReflectorEnvironment {
  readonly log?: Logger;
  readonly clock?: Clock;
  readonly random?: Random;
  readonly metrics?: Registry;
}

/** Drops what no controller reads and what doubles an object's size. The object may be shared: a copy is returned. */
export function withoutManagedFields<T extends KubeObject>(object: T): T {
  const { managedFields: _managedFields, annotations, ...metadata } = object.metadata;
  const lastApplied = 'kubectl.kubernetes.io/last-applied-configuration';
  if (!annotations) return { ...object, metadata };
  if (!(lastApplied in annotations)) return { ...object, metadata: { ...metadata, annotations } };
  const { [lastApplied]: _lastApplied, ...rest } = annotations;
  return { ...object, metadata: { ...metadata, annotations: rest } };
}

class Silence extends Error {
  override readonly name = 'Silence';
}

export function createReflector<T extends KubeObject>(
  options: ReflectorOptions<T>,
  environment: ReflectorEnvironment = {},
): Reflector<T> {
  const { client, namespace, labelSelector, fieldSelector } = options;
  const selection = { namespace, labelSelector, fieldSelector };
  const transform = options.transform ?? withoutManagedFields;
  const clock = environment.clock ?? systemClock;
  const random = environment.random ?? systemRandom;
  const kind = client.resource.kind;
  const log = (environment.log ?? nullLogger).child({ reflector: kind });
  const metrics = environment.metrics && kitMetrics(environment.metrics);

  const store = new IndexedStore<T>(options.indexes);
  const handlers: ((change: StoreChange<T>) => void)[] = [];
  const firstList = Promise.withResolvers<void>();
  let synced = false;
  let lastEventAt: number | undefined;
  /** Where the next watch starts, and what the next list must at least show. */
  let version: string | undefined;
  let mustList = true;
  /** The version cannot be had any more: ask the database. */
  let versionLost = false;
  let listReason = 'start';
  let failures = 0;
  let lastFailure = -Infinity;

  function tell(handler: (change: StoreChange<T>) => void, change: StoreChange<T>): void {
    try {
      handler(change);
    } catch (error) {
      metrics?.handlerErrors.inc({ kind });
      log.error('a handler of a watch failed', { key: change.key, error });
    }
  }

  function emit(change: StoreChange<T>): void {
    for (const handler of handlers) tell(handler, change);
  }

  function put(object: T, initial: boolean): void {
    const key = keyOf(object);
    const before = store.get(key);
    if (before && before.metadata.uid === object.metadata.uid) {
      if (before.metadata.resourceVersion === object.metadata.resourceVersion) return;
      store.set(key, object);
      emit({ type: 'updated', key, object, old: before });
      return;
    }
    if (before) {
      store.delete(key);
      emit({ type: 'deleted', key, object: before });
    }
    store.set(key, object);
    emit({ type: 'added', key, object, initial });
  }

  function remove(key: string, last?: T): void {
    const before = store.delete(key);
    if (before) emit({ type: 'deleted', key, object: last ?? before });
  }

  async function list(signal: AbortSignal): Promise<void> {
    const from = versionLost ? '' : (version ?? '0');
    const seen = new Map<string, T>();
    let listed = '';
    for await (const page of client.pages({ ...selection, resourceVersion: from, limit: from === '' ? 500 : 0, signal })) {
      for (const item of page.items) {
        const object = transform(item);
        seen.set(keyOf(object), object);
      }
      listed = page.resourceVersion;
    }
    for (const key of store.keys()) if (!seen.has(key)) remove(key);
    for (const object of seen.values()) put(object, !synced);
    version = listed;
    versionLost = false;
    mustList = false;
    lastEventAt = clock.monotonic();
    metrics?.lists.inc({ kind, reason: listReason });
    if (!synced) {
      synced = true;
      firstList.resolve();
    }
  }

  async function watch(signal: AbortSignal): Promise<void> {
    const controller = new AbortController();
    const onAbort = (): void => controller.abort(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    let alive = clock.monotonic();
    let cancel: () => void = () => {};
    const guard = (wait: number): void => {
      cancel = clock.timer(wait, () => {
        const quiet = clock.monotonic() - alive;
        if (quiet >= SILENCE_MS) controller.abort(new Silence(`nothing was heard for ${Math.round(quiet / 1000)} s`));
        else guard(SILENCE_MS - quiet);
      });
    };
    guard(SILENCE_MS);
    const started = alive;
    let events = 0;
    try {
      metrics?.watches.inc({ kind });
      const timeoutSeconds = Math.floor(WATCH_MIN_SECONDS * (1 + random.float()));
      const stream = client.watch({
        ...selection,
        resourceVersion: version ?? '',
        timeoutSeconds,
        signal: controller.signal,
      });
      for await (const event of stream) {
        alive = clock.monotonic();
        lastEventAt = alive;
        events++;
        if (event.type === 'BOOKMARK') {
          version = event.resourceVersion;
          continue;
        }
        const object = transform(event.object);
        if (event.type === 'DELETED') remove(keyOf(object), object);
        else put(object, false);
        version = object.metadata.resourceVersion;
      }
    } finally {
      cancel();
      signal.removeEventListener('abort', onAbort);
    }
    if (events === 0 && clock.monotonic() - started < SHORT_WATCH_MS)
      throw new ApiError(0, `watch of ${client.resource.plural} ended at once, without an event`, { reason: 'ShortWatch' });
  }

  /** What a failure means for the next turn; true where it means to wait first. */
  function learn(error: unknown): boolean {
    const gone = isGone(error);
    const reason =
      error instanceof ApiError ? error.reason || String(error.code) : error instanceof Silence ? 'Silence' : 'Error';
    metrics?.watchErrors.inc({ kind, reason });
    if (error instanceof Silence) {
      log.info('a silent watch was given up', { error });
      return false;
    }
    if (gone || isTooLargeResourceVersion(error)) {
      log.info(mustList ? 'the version to list at is gone' : 'the version to watch from is gone', { error });
      // A watch that is too old is cured by a list at that version or later; a list that fails so, by the database.
      if (mustList) {
        const first = !versionLost;
        versionLost = true;
        listReason = 'expired';
        return !first;
      }
      mustList = true;
      listReason = 'gone';
      return false;
    }
    log.warn(mustList ? 'list failed, will try again' : 'watch failed, will go on', { error: messageOf(error) });
    return true;
  }

  async function pause(signal: AbortSignal): Promise<void> {
    const now = clock.monotonic();
    if (now - lastFailure > BACKOFF_RESET_MS) failures = 0;
    lastFailure = now;
    await clock.sleep(backoffDelay(backoff, failures++, random), signal);
    lastFailure = clock.monotonic();
  }

  return {
    resource: client.resource,
    store,
    get hasSynced() {
      return synced;
    },
    get lastEventAt() {
      return lastEventAt;
    },
    synced(signal) {
      if (synced || !signal) return firstList.promise;
      if (signal.aborted) return Promise.reject(signal.reason as Error);
      return new Promise((resolve, reject) => {
        const onAbort = (): void => reject(signal.reason as Error);
        signal.addEventListener('abort', onAbort, { once: true });
        void firstList.promise.then(() => {
          signal.removeEventListener('abort', onAbort);
          resolve();
        });
      });
    },
    onChange(handler) {
      handlers.push(handler);
      for (const [key, object] of store.entries()) tell(handler, { type: 'added', key, object, initial: true });
    },
    async run(signal) {
      const measure = (): void => {
        if (lastEventAt !== undefined) metrics?.lastEvent.set({ kind }, (clock.monotonic() - lastEventAt) / 1000);
      };
      metrics?.onScrape.add(measure);
      while (!signal.aborted) {
        try {
          await (mustList ? list(signal) : watch(signal));
        } catch (error) {
          if (signal.aborted) break;
          try {
            if (learn(error)) await pause(signal);
          } catch {
            break;
          }
        }
      }
      metrics?.onScrape.delete(measure);
    },
  };
}
