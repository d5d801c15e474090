/** So much per second for everybody together, each in turn, whatever is changed or given up meanwhile. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { FakeClock, settle } from '../../src/kube/testing/fake-clock.ts';
import { FsError } from '../../src/lib/errors.ts';
import { TokenBucket } from '../../src/lib/token-bucket.ts';

test('what fits the burst goes at once, the rest at the rate', async () => {
  const clock = new FakeClock();
  const bucket = new TokenBucket({ rate: 100, burst: 50, clock });
  assert.equal(bucket.take(30), undefined);
  assert.equal(bucket.take(20), undefined);
  let gone = false;
  void bucket.take(10)?.then(() => (gone = true));
  await clock.advance(99);
  assert.equal(gone, false);
  await clock.advance(1);
  assert.equal(gone, true);
});

test('without a rate nobody waits, and a rate that is lifted lets all go', async () => {
  const clock = new FakeClock();
  const bucket = new TokenBucket({ rate: 0, burst: 0, clock });
  for (let count = 0; count < 1000; count++) assert.equal(bucket.take(1e9), undefined);
  bucket.setRate(1, 1);
  const waits = [bucket.take(1), bucket.take(1000), bucket.take(1000)];
  assert.equal(bucket.waiting, 3);
  bucket.setRate(0, 0);
  for (const wait of waits) await wait;
  assert.equal(bucket.waiting, 0);
});

test('a raised rate shortens the wait that is under way', async () => {
  const clock = new FakeClock();
  const bucket = new TokenBucket({ rate: 1, burst: 1, clock });
  bucket.charge(1);
  let gone = false;
  void bucket.take(100)?.then(() => (gone = true));
  await clock.advance(10_000);
  bucket.setRate(90, 9);
  await clock.advance(999);
  assert.equal(gone, false);
  await clock.advance(2);
  assert.equal(gone, true);
});

test('a taker who gives up takes nothing and holds up nobody', async () => {
  const clock = new FakeClock();
  const bucket = new TokenBucket({ rate: 10, burst: 10, clock });
  bucket.charge(10);
  const given = new AbortController();
  const first = bucket.take(1_000_000, 0, given.signal);
  let gone = false;
  void bucket.take(10)?.then(() => (gone = true));
  given.abort(new Error('enough'));
  await assert.rejects(first!, /enough/);
  await clock.advance(1000);
  assert.equal(gone, true);
  await assert.rejects(bucket.take(1, 0, AbortSignal.abort(new Error('never')))!, /never/);
});

test('one key with a thousand takers does not keep another from its turn', async () => {
  const clock = new FakeClock();
  const bucket = new TokenBucket({ rate: 10, burst: 1, clock });
  const order: number[] = [];
  bucket.charge(1);
  for (let count = 0; count < 1000; count++) void bucket.take(1, 7)?.then(() => order.push(7));
  for (let count = 0; count < 3; count++) void bucket.take(1, 8)?.then(() => order.push(8));
  await clock.advance(600);
  assert.deepEqual(order, [7, 8, 7, 8, 7, 8]);
});

test('more takers than may wait are turned away with EAGAIN', () => {
  const bucket = new TokenBucket({ rate: 1, burst: 1, clock: new FakeClock(), maxWaiting: 2 });
  bucket.charge(1);
  void bucket.take(1);
  void bucket.take(1);
  assert.throws(
    () => bucket.take(1),
    (error: unknown) => error instanceof FsError && error.code === 'EAGAIN',
  );
});

test('in any time no more is handed out than burst and rate allow, and nobody waits for ever', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ wait: fc.nat(500), count: fc.integer({ min: 1, max: 300 }), key: fc.nat(3), leaves: fc.boolean() }), {
        minLength: 1,
        maxLength: 40,
      }),
      fc.integer({ min: 1, max: 200 }),
      fc.integer({ min: 1, max: 200 }),
      async (takers, rate, burst) => {
        const clock = new FakeClock();
        const bucket = new TokenBucket({ rate, burst, clock });
        const taken: { readonly at: number; readonly count: number }[] = [];
        const leaving: AbortController[] = [];
        for (const { wait, count, key, leaves } of takers) {
          await clock.advance(wait);
          const controller = new AbortController();
          const took = (): void => void taken.push({ at: clock.monotonic(), count });
          const waiting = bucket.take(count, key, controller.signal);
          if (!waiting) took();
          else void waiting.then(took, () => {});
          if (leaves) leaving.push(controller);
          if (leaving.length > 3) leaving.shift()?.abort(new Error('left'));
        }
        await clock.advance((takers.reduce((sum, { count }) => sum + count, 0) / rate) * 1000 + 1000 + takers.length);
        await settle();
        assert.equal(bucket.waiting, 0);
        const largest = Math.max(burst, ...takers.map(({ count }) => count));
        for (const [from, first] of taken.entries()) {
          let sum = 0;
          for (const { at, count } of taken.slice(from)) {
            sum += count;
            const most = largest + ((at - first.at) / 1000) * rate + 1e-6;
            assert.ok(sum <= most, `${sum} in ${at - first.at} ms at ${rate}/s, burst ${burst}`);
          }
        }
      },
    ),
    { numRuns: 200 },
  );
});
