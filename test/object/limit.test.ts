/** A limited store moves bytes no faster than it may, counts what it really moved, and releases without waiting. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock, settle } from '../../src/kube/testing/fake-clock.ts';
import { bytesOfMbps, setTransferLimit, transferLimit, withLimit } from '../../src/object/limit.ts';
import { MemoryObjectStore } from '../../src/object/memory.ts';
import { withRetry } from '../../src/object/retry.ts';
import { ObjectError, type ObjectStore } from '../../src/object/store.ts';

const KIB = 1024;

/** Keys in the order in which their transfers ended, with the time, ms. */
function watched(clock: FakeClock) {
  const ended: [string, number][] = [];
  const watch = (name: string, transfer: Promise<unknown>): void =>
    void transfer.then(() => ended.push([name, Math.round(clock.monotonic())]));
  return { ended, watch };
}

test('JuiceFS’s Mbit/s are bits, of which 85 % are left to bodies', () => {
  assert.equal(bytesOfMbps(8), 850_000);
  assert.equal(bytesOfMbps(0), 0);
});

test('uploads go at the rate, in order; deletes and heads do not wait', async () => {
  const clock = new FakeClock();
  const objects = new MemoryObjectStore(clock);
  const store = withLimit(objects, transferLimit({ upload: 100 * KIB, download: 0 }, clock));
  const { ended, watch } = watched(clock);
  for (const name of ['a', 'b', 'c']) watch(name, store.put(name, Buffer.alloc(50 * KIB)));
  await clock.advance(600);
  assert.deepEqual(ended, [['a', 400]]);
  await store.delete('a');
  assert.equal(await store.head('a'), undefined);
  assert.deepEqual(await objects.head('b'), undefined, 'b has not begun');
  await clock.advance(2000);
  assert.deepEqual(ended, [
    ['a', 400],
    ['b', 900],
    ['c', 1400],
  ]);
});

test('a body that is shorter than its buffer is counted as what it was', async () => {
  const clock = new FakeClock();
  const objects = new MemoryObjectStore(clock);
  await objects.put('k', Buffer.alloc(10 * KIB));
  const store = withLimit(objects, transferLimit({ upload: 0, download: 100 * KIB }, clock));
  const { ended, watch } = watched(clock);
  for (const name of ['a', 'b', 'c']) {
    watch(name, store.get('k', { into: Buffer.alloc(40 * KIB) }));
    await clock.advance(1000);
  }
  // 40 KiB have to come together; 30 of them are given back, but no more than the burst of 10.
  assert.deepEqual(
    ended.map(([, at]) => at),
    [300, 1300, 2300],
  );
  watch(
    'missing',
    store.get('nothing', { length: 1000 * KIB }).catch(() => {}),
  );
  await clock.advance(20_000);
  watch('d', store.get('k', { length: 10 * KIB }));
  await clock.advance(1);
  assert.equal(ended.at(-1)?.[0], 'd', 'a refusal costs nothing');
});

test('what is sent again is counted, and the attempt does not wait', async () => {
  const clock = new FakeClock();
  const objects = new MemoryObjectStore(clock);
  let failures = 3;
  const flaky: ObjectStore = {
    description: objects.description,
    create: () => objects.create(),
    put: (key, body) => (failures-- > 0 ? Promise.reject(new ObjectError('Unavailable', 'reset')) : objects.put(key, body)),
    get: (key, options) => objects.get(key, options),
    head: (key) => objects.head(key),
    delete: (key) => objects.delete(key),
    list: (prefix, options) => objects.list(prefix, options),
    close: () => objects.close(),
  };
  const limit = transferLimit({ upload: 10 * KIB, download: 0 }, clock);
  const onRetry = (_error: Error, _attempt: number, bytes: number): void => limit.upload.charge(bytes);
  const store = withLimit(withRetry(flaky, { clock, baseMs: 1, onRetry }), limit);
  const { ended, watch } = watched(clock);
  watch('a', store.put('a', Buffer.alloc(KIB)));
  await clock.advance(20);
  assert.deepEqual(
    ended.map(([name]) => name),
    ['a'],
  );
  watch('b', store.put('b', Buffer.alloc(KIB)));
  await clock.advance(300);
  assert.equal(ended.length, 1, 'b pays for the three attempts before it');
  await clock.advance(200);
  assert.equal(ended.length, 2);
});

test('a limit that comes, changes and goes while transfers are under way is followed', async () => {
  const clock = new FakeClock();
  const limit = transferLimit({ upload: 0, download: 0 }, clock);
  const store = withLimit(new MemoryObjectStore(clock), limit);
  const { ended, watch } = watched(clock);
  watch('free', store.put('free', Buffer.alloc(1000 * KIB)));
  await settle();
  assert.equal(ended.length, 1);
  setTransferLimit(limit, { upload: KIB, download: 0 });
  watch('slow', store.put('slow', Buffer.alloc(100 * KIB)));
  watch('next', store.put('next', Buffer.alloc(100 * KIB)));
  await clock.advance(50_000);
  assert.equal(ended.length, 1);
  setTransferLimit(limit, { upload: 50 * KIB, download: 0 });
  await clock.advance(1001);
  assert.equal(ended.length, 2, 'half had come together, the other half takes a second');
  setTransferLimit(limit, { upload: 0, download: 0 });
  await settle();
  assert.equal(ended.length, 3);
});
