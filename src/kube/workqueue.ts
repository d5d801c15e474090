/**
 * A queue of keys with the semantics of client-go's: a key is in it at most once; a key that is being worked on is not
 * handed out again until `done`, and then at once if it was added meanwhile.
 *
 * Invariants: `ready` and `processing` are disjoint; `again` is a subset of `processing`; a key is never both delayed and
 * ready or again. An earlier time and a higher priority win when adds meet. Memory grows with the number of keys only.
 * One timer serves all delayed keys.
 */
import type { Registry } from 'prom-client';
import { type Clock, systemClock } from '../lib/clock.ts';
import { type Random, systemRandom } from '../lib/random.ts';
import { kitMetrics } from './metrics.ts';
import { TokenBucket, backoffDelay } from './rate-limiter.ts';
import type { AddOptions, WorkQueue } from './types.ts';

export interface WorkQueueOptions {
  readonly name: string;
  readonly clock?: Clock;
  readonly random?: Random;
  readonly metrics?: Registry;
  /** First delay of a failing item, milliseconds. @default 5 */
  readonly baseMs?: number;
  /** Longest delay of a failing item, milliseconds. @default 300000 */
  readonly maxMs?: number;
  /** Rate-limited adds per second, all items together. @default 10 */
  readonly retriesPerSecond?: number;
  /** @default 100 */
  readonly retryBurst?: number;
}

/** Delays are cut here: timers beyond 2^31 ms fire at once, and nobody means a year. */
export const MAX_DELAY_MS = 10 * 3600 * 1000;
const JITTER = 0.1;

interface Delayed {
  readonly key: string;
  readonly at: number;
  readonly sequence: number;
  readonly priority: number;
}

interface Handed {
  readonly key: string;
  readonly priority: number;
}

export function createWorkQueue(options: WorkQueueOptions): WorkQueue {
  const clock = options.clock ?? systemClock;
  const random = options.random ?? systemRandom;
  const backoff = { baseMs: options.baseMs ?? 5, maxMs: options.maxMs ?? 300_000, jitter: JITTER };
  const bucket = new TokenBucket(clock, options.retriesPerSecond ?? 10, options.retryBurst ?? 100);
  const metrics = options.metrics && kitMetrics(options.metrics);
  const labels = { name: options.name, controller: options.name };

  /** Priority to keys in order of arrival; emptied levels are dropped. */
  const levels = new Map<number, Set<string>>();
  let order: number[] = [];
  const ready = new Map<string, { readonly priority: number; readonly since: number }>();
  const processing = new Map<string, number>();
  const again = new Map<string, number>();
  const delayed = new Map<string, Delayed>();
  /** Heap by (at, sequence); entries that `delayed` no longer holds are skipped. */
  let heap: Delayed[] = [];
  const failures = new Map<string, number>();
  const waiters: ((item: Handed | undefined) => void)[] = [];
  const drainers: (() => void)[] = [];
  let sequence = 0;
  let cancelTimer: (() => void) | undefined;
  let timerAt = Infinity;
  let shut = false;

  const depth = (priority: number): void => {
    metrics?.queueDepth.set({ ...labels, priority: String(priority) }, levels.get(priority)?.size ?? 0);
  };

  function pushReady(key: string, priority: number): void {
    const old = ready.get(key);
    if (old) {
      if (old.priority >= priority) return;
      removeReady(key, old.priority);
    }
    let level = levels.get(priority);
    if (!level) {
      level = new Set();
      levels.set(priority, level);
      order = [...levels.keys()].toSorted((left, right) => right - left);
    }
    level.add(key);
    ready.set(key, { priority, since: old?.since ?? clock.monotonic() });
    depth(priority);
    if (!old) metrics?.queueAdds.inc(labels);
    const waiter = waiters.shift();
    if (waiter) waiter(take());
  }

  function removeReady(key: string, priority: number): void {
    const level = levels.get(priority);
    level?.delete(key);
    depth(priority);
    if (level?.size === 0) {
      levels.delete(priority);
      order = order.filter((each) => each !== priority);
    }
    ready.delete(key);
  }

  function take(): Handed | undefined {
    const [priority] = order;
    if (priority === undefined) return undefined;
    const key = levels.get(priority)?.values().next().value as string;
    const now = clock.monotonic();
    metrics?.queueSeconds.observe(labels, (now - (ready.get(key)?.since ?? now)) / 1000);
    removeReady(key, priority);
    processing.set(key, now);
    return { key, priority };
  }

  /** Ready now, or as soon as it is done. */
  function activate(key: string, priority: number): void {
    if (processing.has(key)) again.set(key, Math.max(priority, again.get(key) ?? -Infinity));
    else pushReady(key, priority);
  }

  const before = (left: Delayed, right: Delayed): boolean =>
    left.at < right.at || (left.at === right.at && left.sequence < right.sequence);

  function heapPush(entry: Delayed): void {
    // Entries that were overtaken stay in the heap; it is rebuilt before they outnumber the live ones.
    if (heap.length > 2 * delayed.size + 64) {
      heap = [...delayed.values()].filter((each) => each !== entry).toSorted((left, right) => (before(left, right) ? -1 : 1));
    }
    let index = heap.push(entry) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      const above = heap[parent] as Delayed;
      if (!before(entry, above)) break;
      heap[index] = above;
      index = parent;
    }
    heap[index] = entry;
  }

  function heapPop(): void {
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1] as Delayed, heap[child] as Delayed)) child++;
      if (!before(heap[child] as Delayed, last)) break;
      heap[index] = heap[child] as Delayed;
      index = child;
    }
    heap[index] = last;
  }

  function arm(): void {
    while (heap[0] && delayed.get(heap[0].key) !== heap[0]) heapPop();
    const at = heap[0]?.at ?? Infinity;
    if (at === timerAt) return;
    cancelTimer?.();
    cancelTimer = undefined;
    timerAt = at;
    if (at === Infinity) return;
    cancelTimer = clock.timer(Math.max(0, at - clock.monotonic()), () => {
      cancelTimer = undefined;
      timerAt = Infinity;
      fire();
    });
  }

  function fire(): void {
    const now = clock.monotonic();
    for (let top = heap[0]; top; top = heap[0]) {
      const live = delayed.get(top.key) === top;
      if (live && top.at > now) break;
      heapPop();
      if (!live) continue;
      delayed.delete(top.key);
      activate(top.key, top.priority);
    }
    arm();
  }

  function add(key: string, { priority = 0, afterMs = 0, rateLimited = false }: AddOptions = {}): void {
    if (shut) return;
    let wait = Math.min(afterMs, MAX_DELAY_MS);
    if (rateLimited) {
      const count = failures.get(key) ?? 0;
      failures.set(key, count + 1);
      wait = Math.max(wait, backoffDelay(backoff, count, random), bucket.reserve());
      metrics?.retries.inc(labels);
    }
    const old = delayed.get(key);
    if (!(wait > 0)) {
      if (old) delayed.delete(key);
      activate(key, Math.max(priority, old?.priority ?? -Infinity));
      if (old) arm();
      return;
    }
    if (ready.has(key) || again.has(key)) {
      activate(key, priority);
      return;
    }
    const at = clock.monotonic() + wait;
    const raised = Math.max(priority, old?.priority ?? -Infinity);
    if (old && old.at <= at && raised === old.priority) return;
    const entry: Delayed = { key, at: Math.min(at, old?.at ?? Infinity), sequence: sequence++, priority: raised };
    delayed.set(key, entry);
    heapPush(entry);
    arm();
  }

  function settle(): void {
    if (!shut) return;
    if (ready.size === 0) for (const waiter of waiters.splice(0)) waiter(undefined);
    if (ready.size === 0 && processing.size === 0) for (const drainer of drainers.splice(0)) drainer();
  }

  function shutDown(): void {
    if (shut) return;
    shut = true;
    cancelTimer?.();
    cancelTimer = undefined;
    delayed.clear();
    heap = [];
    metrics?.onScrape.delete(measure);
    settle();
  }

  function ages(): { readonly sum: number; readonly longest: number } {
    const now = clock.monotonic();
    let sum = 0;
    let longest = 0;
    for (const since of processing.values()) {
      sum += now - since;
      longest = Math.max(longest, now - since);
    }
    return { sum: sum / 1000, longest: longest / 1000 };
  }

  function measure(): void {
    const { sum, longest } = ages();
    metrics?.unfinishedSeconds.set(labels, sum);
    metrics?.longestSeconds.set(labels, longest);
  }

  if (metrics) {
    metrics.queueAdds.inc(labels, 0);
    metrics.retries.inc(labels, 0);
    metrics.queueDepth.set({ ...labels, priority: '0' }, 0);
    metrics.onScrape.add(measure);
  }

  return {
    name: options.name,
    get length() {
      return ready.size;
    },
    add,
    get() {
      const item = take();
      if (item || shut) {
        if (shut) settle();
        return Promise.resolve(item);
      }
      return new Promise((resolve) => waiters.push(resolve));
    },
    done(key) {
      const since = processing.get(key);
      if (since === undefined) throw new RangeError(`done(${JSON.stringify(key)}): the key was not handed out`);
      processing.delete(key);
      metrics?.workSeconds.observe(labels, (clock.monotonic() - since) / 1000);
      const priority = again.get(key);
      if (priority !== undefined) {
        again.delete(key);
        pushReady(key, priority);
      }
      settle();
    },
    forget: (key) => void failures.delete(key),
    failures: (key) => failures.get(key) ?? 0,
    shutDown,
    drained() {
      shutDown();
      return new Promise((resolve) => {
        drainers.push(resolve);
        settle();
      });
    },
  };
}
