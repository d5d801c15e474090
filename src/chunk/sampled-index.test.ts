import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { systemRandom } from '../lib/random.ts';
import { SampledIndex } from './sampled-index.ts';

test('any sequence of additions, uses and deletions agrees with a map', () => {
  const step = fc.record({
    kind: fc.constantFrom('add', 'touch', 'delete'),
    key: fc.nat(20),
    size: fc.integer({ min: 1, max: 2 ** 24 }),
  });
  fc.assert(
    fc.property(fc.array(step), (steps) => {
      const index = new SampledIndex(systemRandom);
      const model = new Map<number, number>();
      for (const { kind, key, size } of steps) {
        if (kind === 'add') {
          index.add(key, size);
          model.set(key, size);
        } else if (kind === 'touch') index.touch(key);
        else assert.equal(index.delete(key), model.delete(key));
        assert.equal(index.count, model.size);
        for (let other = 0; other <= 20; other++) assert.equal(index.size(other), model.get(other));
        const victim = index.victim();
        assert.equal(victim === undefined, model.size === 0);
        if (victim !== undefined) assert.ok(model.has(victim));
      }
    }),
  );
});

test('what was used stays longer than what was not', () => {
  const index = new SampledIndex(systemRandom);
  for (let key = 0; key < 4000; key++) index.add(key, 1);
  for (let key = 0; key < 1000; key++) index.touch(key);
  for (let i = 0; i < 2500; i++) index.delete(index.victim() ?? -1);
  let left = 0;
  for (let key = 0; key < 1000; key++) if (index.size(key) !== undefined) left++;
  assert.equal(index.count, 1500);
  assert.ok(left > 900, `${left} of the 1000 used ones are left`);
});
