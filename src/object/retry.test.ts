import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from '../lib/clock.ts';
import { systemRandom } from '../lib/random.ts';
import { MemoryObjectStore } from './memory.ts';
import { withRetry } from './retry.ts';
import { ObjectError, type ObjectStore } from './store.ts';

/** A clock that jumps over pauses and remembers them. */
function jumping(): { readonly clock: typeof systemClock; readonly pauses: number[] } {
  let now = 0;
  const pauses: number[] = [];
  const clock = {
    ...systemClock,
    monotonic: () => now,
    sleep: (ms: number, signal?: AbortSignal) => {
      if (signal?.aborted) return Promise.reject(signal.reason as Error);
      pauses.push(ms);
      now += ms;
      return Promise.resolve();
    },
  };
  return { clock, pauses };
}

function failing(times: number, error: () => Error): ObjectStore {
  const inner = new MemoryObjectStore();
  let left = times;
  return {
    description: inner.description,
    create: () => inner.create(),
    put: (key, body) => (left-- > 0 ? Promise.reject(error()) : inner.put(key, body)),
    get: (key, options) => inner.get(key, options),
    head: (key) => inner.head(key),
    delete: (key) => inner.delete(key),
    list: (prefix, options) => inner.list(prefix, options),
    close: () => inner.close(),
  };
}

const unavailable = (): Error => new ObjectError('Unavailable', 'away');
const body = Buffer.from('x');

test('ten retries with pauses that double, up to the longest, within jitter', async () => {
  const { clock, pauses } = jumping();
  const store = withRetry(failing(10, unavailable), { clock, random: systemRandom });
  await store.put('key', body);
  assert.equal(pauses.length, 10);
  for (const [attempt, pause] of pauses.entries()) {
    const ceiling = Math.min(30_000, 200 * 2 ** attempt);
    assert.ok(pause >= ceiling / 2 && pause <= ceiling, `pause ${attempt}: ${pause}`);
  }
  await assert.rejects(withRetry(failing(11, unavailable), { clock }).put('key', body), { code: 'Unavailable' });
});

test('a pause is no shorter than what the store asks for, and no longer than the longest', async () => {
  for (const [asked, least, most] of [
    [5000, 5000, 5000],
    [3_600_000, 30_000, 30_000],
    [1, 100, 200],
  ] as const) {
    const { clock, pauses } = jumping();
    const throttled = (): Error => new ObjectError('Throttled', 'slow down', { retryAfterMs: asked });
    await withRetry(failing(1, throttled), { clock }).put('key', body);
    assert.ok(pauses[0]! >= least && pauses[0]! <= most, `${asked}: ${pauses[0]}`);
  }
});

test('nothing begins behind the deadline', async () => {
  const { clock, pauses } = jumping();
  const throttled = (): Error => new ObjectError('Throttled', 'slow down', { retryAfterMs: 30_000 });
  await assert.rejects(withRetry(failing(100, throttled), { clock, retries: 100, deadlineMs: 100_000 }).put('key', body), {
    code: 'Throttled',
  });
  assert.equal(pauses.length, 3);
});

test('what would fail again, and what is a defect, is thrown at once', async () => {
  for (const error of [new ObjectError('AccessDenied', 'no'), new ObjectError('NotFound', 'none'), new TypeError('defect')]) {
    const { clock, pauses } = jumping();
    await assert.rejects(
      withRetry(
        failing(1, () => error),
        { clock },
      ).put('key', body),
      error,
    );
    assert.equal(pauses.length, 0);
  }
});

test('an abort ends the pause', async () => {
  const store = withRetry(failing(5, unavailable), { baseMs: 60_000, maxMs: 60_000 });
  const controller = new AbortController();
  const putting = store.put('key', body, controller.signal);
  setTimeout(() => controller.abort(), 5);
  await assert.rejects(putting, { name: 'AbortError' });
});
