import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { TokenBucket, backoffDelay } from './rate-limiter.ts';
import { FakeClock } from './testing/fake-clock.ts';

const fixed = (float: number) => ({ float: () => float, bytes: () => Buffer.alloc(0), uuid: () => '' });

test('in no span of time does a bucket grant more than its burst and its rate', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 400 }), { minLength: 1, maxLength: 60 }), (pauses) => {
      const clock = new FakeClock();
      const bucket = new TokenBucket(clock, 10, 5);
      const granted: number[] = [];
      for (const pause of pauses) {
        clock.tick(pause);
        granted.push(clock.monotonic() + bucket.reserve());
      }
      for (let from = 0; from < granted.length; from++)
        for (let to = from; to < granted.length; to++) {
          const span = (granted[to] ?? 0) - (granted[from] ?? 0);
          assert.ok(to - from + 1 <= 5 + span / 100 + 1e-6, `${to - from + 1} in ${span} ms`);
        }
      return Promise.resolve();
    }),
  );
});

test('an aborted wait gives its permit back', async () => {
  const clock = new FakeClock();
  const bucket = new TokenBucket(clock, 1, 1);
  assert.equal(await bucket.take(), 0);
  const controller = new AbortController();
  const waiting = bucket.take(controller.signal);
  controller.abort(new Error('no more'));
  await assert.rejects(waiting, /no more/);
  clock.tick(1000);
  assert.equal(await bucket.take(), 0);
  assert.equal(bucket.tryTake(), false);
});

test('a bucket without a rate or a burst is refused', () => {
  assert.throws(() => new TokenBucket(new FakeClock(), 0, 1), /rate above 0/);
  assert.throws(() => new TokenBucket(new FakeClock(), 1, 0), RangeError);
});

test('a backoff grows to its limit, with its jitter added, and never overflows', () => {
  const options = { baseMs: 800, maxMs: 30_000, jitter: 1 };
  assert.deepEqual(
    [0, 1, 2, 5, 6, 1e9].map((failures) => backoffDelay(options, failures, fixed(0))),
    [800, 1600, 3200, 25_600, 30_000, 30_000],
  );
  assert.equal(backoffDelay(options, 0, fixed(0.5)), 1200);
});
