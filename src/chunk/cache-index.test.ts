import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { systemClock } from '../lib/clock.ts';
import { systemRandom } from '../lib/random.ts';
import { CacheIndex, evictions } from './cache-index.ts';

const parts = { clock: systemClock, random: systemRandom };

for (const eviction of evictions)
  test(`${eviction}: any sequence of additions, uses, scans and deletions agrees with a map`, () => {
    const step = fc.record({
      kind: fc.constantFrom('add', 'find', 'touch', 'delete', 'scan', 'saw', 'clear'),
      // Apart by what would meet in a table that is too simple.
      key: fc.nat(40).map((n) => (n % 2) * 2 ** 40 + n * 2048),
      size: fc.integer({ min: 1, max: 2 ** 24 }),
      usedAt: fc.nat(50),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
        const index = new CacheIndex({ eviction, ...parts });
        const model = new Map<number, { size: number; seen: boolean }>();
        /** Of each, in the order of use; for those found, by their time. */
        let order: { readonly key: number; readonly at: number }[] = [];
        let uses = 1e15;
        const use = (key: number, at = uses++): void => {
          order = [...order.filter((each) => each.key !== key), { key, at }];
        };
        for (const { kind, key, size, usedAt } of steps) {
          const known = model.get(key);
          if (kind === 'add' || kind === 'find') {
            index.add(key, size, kind === 'find' ? usedAt : undefined);
            model.set(key, { size, seen: true });
            use(key, kind === 'find' ? usedAt : undefined);
          } else if (kind === 'touch') {
            index.touch(key);
            if (known) use(key);
          } else if (kind === 'delete') {
            assert.equal(index.delete(key), model.delete(key));
            order = order.filter((each) => each.key !== key);
          } else if (kind === 'scan') {
            index.beginScan();
            for (const each of model.values()) each.seen = false;
          } else if (kind === 'saw') {
            assert.equal(index.saw(key), known !== undefined);
            if (known) known.seen = true;
          } else {
            index.clear();
            model.clear();
            order = [];
          }
          assert.equal(index.count, model.size);
          for (const [other, { size: wanted }] of model) assert.equal(index.size(other), wanted);
          for (let n = 0; n <= 40; n++) {
            const other = (n % 2) * 2 ** 40 + n * 2048;
            assert.equal(index.size(other), model.get(other)?.size);
          }
          const victim = index.victim();
          assert.equal(victim === undefined, model.size === 0 || eviction === 'none');
          if (victim !== undefined) assert.ok(model.has(victim));
          if (eviction === 'lru' && victim !== undefined) {
            const oldest = Math.min(...order.map(({ at }) => at));
            assert.equal(order.find((each) => each.key === victim)?.at, oldest, 'the least recently used one goes first');
          }
        }
        const unseen: number[] = [];
        for (let from = index.count; from > 0;) {
          const { keys, next } = index.stale(from, 3);
          unseen.push(...keys);
          from = next;
        }
        assert.deepEqual(
          unseen.toSorted((a, b) => a - b),
          [...model].flatMap(([key, { seen }]) => (seen ? [] : [key])).toSorted((a, b) => a - b),
        );
      }),
    );
  });

test('what was used stays longer than what was not', () => {
  const index = new CacheIndex(parts);
  for (let key = 0; key < 4000; key++) index.add(key, 1);
  for (let key = 0; key < 1000; key++) index.touch(key);
  for (let i = 0; i < 2500; i++) index.delete(index.victim() ?? -1);
  let left = 0;
  for (let key = 0; key < 1000; key++) if (index.size(key) !== undefined) left++;
  assert.equal(index.count, 1500);
  assert.ok(left > 900, `${left} of the 1000 used ones are left`);
});

test('what was used last long ago is told a part at a time', () => {
  const index = new CacheIndex(parts);
  for (let key = 1; key <= 1000; key++) index.add(key, 1, key);
  const found: number[] = [];
  for (let from = index.count; from > 0;) {
    const { keys, next } = index.stale(from, 64, 301);
    assert.ok(keys.length <= 64);
    for (const key of keys) index.delete(key);
    found.push(...keys);
    from = next;
  }
  assert.deepEqual(
    found.toSorted((a, b) => a - b),
    Array.from({ length: 300 }, (_, n) => n + 1),
  );
});

test('a block takes few bytes of memory, also in large numbers', () => {
  for (const [eviction, most] of [
    ['2-random', 37],
    ['lru', 47],
  ] as const) {
    const index = new CacheIndex({ eviction, ...parts });
    let worst = 0;
    for (let key = 1; key <= 300_000; key++) {
      index.add(key * 16, 4096);
      if (key > 50_000 && key % 100 === 0) worst = Math.max(worst, index.memoryBytes / key);
    }
    assert.ok(worst <= most, `${eviction}: ${worst} bytes a block`);
  }
});
