/**
 * Tries again where a store failed in passing (`ObjectError.retryable`): a bounded number of attempts, exponential pauses
 * with full jitter, never shorter than the store's Retry-After. A listing goes on behind the last key that was seen.
 *
 * With the defaults the pauses add up to at most two minutes, within the time that JuiceFS gives a flush (5 minutes).
 */
import { type Clock, systemClock } from '../lib/clock.ts';
import { type Random, systemRandom } from '../lib/random.ts';
import { ObjectError, type ObjectInfo, type ObjectStore } from './store.ts';
import { uploadsOf } from './uploads.ts';

export interface RetryOptions {
  /** Attempts after the first one; JuiceFS's --io-retries. @default 10 */
  readonly retries?: number;
  /** The first pause, milliseconds; doubles from there. @default 200 */
  readonly baseMs?: number;
  /** The longest pause, milliseconds; bounds Retry-After too. @default 30000 */
  readonly maxMs?: number;
  /** No attempt begins later than this after the first, milliseconds. @default 240000 */
  readonly deadlineMs?: number;
  readonly clock?: Clock;
  readonly random?: Random;
  /** Told of every failed attempt that will be repeated, and how many bytes will be sent again. */
  readonly onRetry?: (error: ObjectError, attempt: number, bytes: number) => void;
}

interface From {
  readonly after?: string;
  readonly signal?: AbortSignal;
}

export function withRetry(store: ObjectStore, options: RetryOptions = {}): ObjectStore {
  const {
    retries = 10,
    baseMs = 200,
    maxMs = 30_000,
    deadlineMs = 240_000,
    clock = systemClock,
    random = systemRandom,
  } = options;

  /** Pauses before the next attempt, or throws the error where there shall be none. */
  const pause = async (
    error: unknown,
    attempt: number,
    begun: number,
    signal: AbortSignal | undefined,
    bytes = 0,
  ): Promise<void> => {
    if (!(error instanceof ObjectError) || !error.retryable || attempt >= retries) throw error;
    const ceiling = Math.min(maxMs, baseMs * 2 ** attempt);
    const wait = Math.max(Math.min(error.retryAfterMs ?? 0, maxMs), ceiling * (0.5 + random.float() / 2));
    if (clock.monotonic() - begun + wait > deadlineMs) throw error;
    options.onRetry?.(error, attempt + 1, bytes);
    await clock.sleep(wait, signal);
  };

  const attempt = async <T>(action: () => Promise<T>, signal: AbortSignal | undefined, bytes = 0): Promise<T> => {
    const begun = clock.monotonic();
    for (let tried = 0; ; tried++) {
      try {
        return await action();
      } catch (error) {
        await pause(error, tried, begun, signal, bytes);
      }
    }
  };

  /** Goes on behind the last key that was seen. */
  async function* listed(
    list: (from: From) => AsyncIterable<ObjectInfo>,
    { after, signal }: From = {},
  ): AsyncGenerator<ObjectInfo> {
    let last = after;
    let begun = clock.monotonic();
    for (let tried = 0; ; tried++) {
      try {
        const from = { ...(last === undefined ? {} : { after: last }), ...(signal ? { signal } : {}) };
        for await (const info of list(from)) {
          last = info.key;
          tried = 0;
          yield info;
          begun = clock.monotonic();
        }
        return;
      } catch (error) {
        await pause(error, tried, begun, signal);
      }
    }
  }

  return {
    description: store.description,
    create: (signal) => attempt(() => store.create(signal), signal),
    put: (key, body, signal) => attempt(() => store.put(key, body, signal), signal, body.length),
    get: (key, get = {}) => attempt(() => store.get(key, get), get.signal),
    head: (key, signal) => attempt(() => store.head(key, signal), signal),
    delete: (key, signal) => attempt(() => store.delete(key, signal), signal),
    list: (prefix, from) => listed((options) => store.list(prefix, options), from),
    ...(store.level ? { level: (prefix: string, from?: From) => listed((options) => store.level!(prefix, options), from) } : {}),
    ...uploadsOf(
      store,
      (upload) => ({
        part: (number, body, signal) => attempt(() => upload.part(number, body, signal), signal, body.length),
        complete: (signal) => attempt(() => upload.complete(signal), signal),
      }),
      attempt,
    ),
    close: () => store.close(),
  };
}
