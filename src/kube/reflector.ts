/**
 * Keeps a store equal to what the API server has of one kind: its objects, then a watch from there on, over and over.
 *
 * Rules and constants are client-go's (tools/cache/reflector.go), but for memory, which comes first here:
 * - Objects are read as the start of the watch itself where the server can (KEP-3157, on from 1.34), one line at a time; else
 *   as a list in pages of 500. Either way they are the latest, so the store never goes back in time, and never is a list
 *   held whole as text. A list whose pages expire twice is read in one piece, as client-go does.
 * - Watches ask for bookmarks and end after 5 to 10 minutes; one that is silent for 3 minutes is given up (a broken
 *   connection may say nothing for hours). One that the server cut off because we read too slowly goes on where it ended.
 * - 410 means reading all objects anew; every other failure means waiting (0.8 s doubling to 30 s, jittered, from the start
 *   again after 2 quiet minutes) and going on. Only the signal ends it.
 *
 * The store is changed synchronously with each event, then the handlers run. An object of the same name with another uid is
 * a deletion and an addition. The memory is that of the objects after `transform`: while all are read anew, those that did
 * not change are shared with the store.
 */
import type { Registry } from 'prom-client';
import { type Clock, systemClock } from '../lib/clock.ts';
import { messageOf } from '../lib/errors.ts';
import { type Logger, nullLogger } from '../lib/log.ts';
import { type Random, systemRandom } from '../lib/random.ts';
import { ApiError, isForbidden, isGone, isInvalid, isNotFound, isTooLargeResourceVersion } from './errors.ts';
import { kitMetrics } from './metrics.ts';
import { backoffDelay } from './rate-limiter.ts';
import { keyOf } from './resources.ts';
import { IndexedStore } from './store.ts';
import type { KubeObject, Reflector, ReflectorOptions, StoreChange } from './types.ts';

const WATCH_MIN_SECONDS = 300;
const SILENCE_MS = 180_000;
/** The same while the objects there are come in; such a server is asked for lists from then on. */
const SILENT_START_MS = 30_000;
const PAGE = 500;
/** So many lists whose pages expired are tried again in pages. */
const EXPIRED_PAGES = 2;
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

/** So many strings are remembered for sharing; then it begins anew. */
const MAX_SHARED = 4096;
/** Shorter ones V8 shares itself, longer ones are seldom the same. */
const SHARED_MIN = 9;
const SHARED_MAX = 128;

/**
 * Makes equal strings of objects that were parsed one by one the same string: field values that repeat (namespaces, reasons,
 * times, labels) are a third of what objects of one kind take. Changes the object in place, to an equal one.
 */
function createSharing(): <T>(value: T) => T {
  const pool = new Map<string, string>();
  const one = (text: string): string => {
    if (text.length < SHARED_MIN || text.length > SHARED_MAX) return text;
    const known = pool.get(text);
    if (known !== undefined) return known;
    if (pool.size >= MAX_SHARED) pool.clear();
    pool.set(text, text);
    return text;
  };
  const walk = (value: unknown): void => {
    if (typeof value !== 'object' || value === null) return;
    const fields = value as Record<string, unknown>;
    for (const name of Object.keys(fields)) {
      const field = fields[name];
      if (typeof field === 'string') fields[name] = one(field);
      else walk(field);
    }
  };
  return (value) => {
    walk(value);
    return value;
  };
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
  const share = createSharing();
  const kept = options.transform ?? withoutManagedFields;
  const transform = (object: T): T | undefined => share(kept(object));
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
  /** Where the next watch starts. */
  let version = '';
  let mustList = true;
  // The stand-in for a client may know lists and watches only.
  let streams = 'streamsLists' in client && client.streamsLists === true;
  let expiredPages = 0;
  let listReason = 'start';
  let failures = 0;
  let lastFailure = -Infinity;
  let refusal: string | undefined;
  const refusalHandlers: ((refusal: string) => void)[] = [];

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

  /** All objects there are, in the making. */
  function collection() {
    const found = new Map<string, T>();
    return {
      add(item: T): void {
        const key = keyOf(item);
        const before = store.get(key);
        const { uid, resourceVersion } = item.metadata;
        // What did not change is held once.
        const same = before && before.metadata.uid === uid && before.metadata.resourceVersion === resourceVersion;
        const object = same ? before : transform(item);
        if (object) found.set(key, object);
        else found.delete(key);
      },
      remove: (item: T) => void found.delete(keyOf(item)),
      /** Makes the store equal to it. */
      finish(at: string): void {
        for (const key of store.keys()) if (!found.has(key)) remove(key);
        for (const object of found.values()) put(object, !synced);
        version = at;
        mustList = false;
        refusal = undefined;
        expiredPages = 0;
        lastEventAt = clock.monotonic();
        metrics?.lists.inc({ kind, reason: listReason });
        if (synced) return;
        synced = true;
        firstList.resolve();
      },
    };
  }

  async function list(signal: AbortSignal): Promise<void> {
    const all = collection();
    let listed = '';
    const limit = expiredPages < EXPIRED_PAGES ? PAGE : 0;
    for await (const page of client.pages({ ...selection, limit, signal })) {
      for (const item of page.items) all.add(item);
      listed = page.resourceVersion;
    }
    all.finish(listed);
  }

  /** Follows the changes; reads all objects first where that must be. */
  async function watch(signal: AbortSignal): Promise<void> {
    let all = mustList ? collection() : undefined;
    const controller = new AbortController();
    const onAbort = (): void => controller.abort(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    let alive = clock.monotonic();
    let cancel: () => void = () => {};
    const guard = (wait: number): void => {
      cancel = clock.timer(wait, () => {
        const quiet = clock.monotonic() - alive;
        if (quiet >= silence()) controller.abort(new Silence(`nothing was heard for ${Math.round(quiet / 1000)} s`));
        else guard(silence() - quiet);
      });
    };
    const silence = (): number => (all ? SILENT_START_MS : SILENCE_MS);
    guard(silence());
    const started = alive;
    let events = 0;
    try {
      metrics?.watches.inc({ kind });
      const timeoutSeconds = Math.floor(WATCH_MIN_SECONDS * (1 + random.float()));
      const stream = client.watch({
        ...selection,
        resourceVersion: all ? '' : version,
        ...(all ? { initialEvents: true } : {}),
        timeoutSeconds,
        signal: controller.signal,
      });
      for await (const event of stream) {
        alive = clock.monotonic();
        lastEventAt = alive;
        refusal = undefined;
        events++;
        if (event.type === 'BOOKMARK') {
          if (!all) version = event.resourceVersion;
          else if (event.initialEventsEnd) {
            all.finish(event.resourceVersion);
            all = undefined;
          }
          continue;
        }
        if (all) {
          if (event.type === 'DELETED') all.remove(event.object);
          else all.add(event.object);
          continue;
        }
        const object = transform(event.object);
        if (event.type === 'DELETED' || !object) remove(keyOf(event.object), object);
        else put(object, false);
        version = event.object.metadata.resourceVersion ?? version;
      }
    } finally {
      cancel();
      signal.removeEventListener('abort', onAbort);
    }
    if (all)
      throw new ApiError(0, `watch of ${client.resource.plural} ended within its initial events`, { reason: 'ShortWatch' });
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
      if (mustList) streams = false;
      return false;
    }
    if (mustList && streams && isInvalid(error)) {
      streams = false;
      log.info('the API server does not stream lists; they are read in pages', { error });
      return false;
    }
    if (gone && mustList) {
      log.info('a list expired before it was read', { error });
      listReason = 'expired';
      return ++expiredPages > EXPIRED_PAGES;
    }
    if (gone || isTooLargeResourceVersion(error)) {
      log.info('the version to watch from is gone', { error });
      const again = mustList;
      mustList = true;
      listReason = 'gone';
      return again;
    }
    if (isForbidden(error) || isNotFound(error)) {
      const said = messageOf(error);
      const isNew = said !== refusal;
      refusal = said;
      if (isNew) for (const handler of refusalHandlers) handler(said);
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
    get refusal() {
      return refusal;
    },
    onRefusal(handler) {
      refusalHandlers.push(handler);
      if (refusal !== undefined) handler(refusal);
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
          await (mustList && !streams ? list(signal) : watch(signal));
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
