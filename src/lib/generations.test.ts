import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { Generations } from './generations.ts';

test('what was used last is there, nothing is there that was not set or was deleted, and the number is bounded', () => {
  const step = fc.record({ kind: fc.constantFrom('get', 'set', 'delete'), key: fc.nat(30), value: fc.integer() });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 8 }), fc.array(step, { maxLength: 200 }), (limit, steps) => {
      const map = new Generations<number, number>(limit);
      const model = new Map<number, number>();
      /** Keys by their last use, the latest last. */
      let used: number[] = [];
      const use = (key: number): void => void (used = [...used.filter((each) => each !== key), key]);
      for (const { kind, key, value } of steps) {
        if (kind === 'set') {
          map.set(key, value);
          model.set(key, value);
          use(key);
        } else if (kind === 'delete') {
          map.delete(key);
          model.delete(key);
          used = used.filter((each) => each !== key);
        } else {
          const found = map.get(key);
          if (found !== undefined) {
            assert.equal(found, model.get(key));
            use(key);
          } else assert.ok(!used.slice(-limit).includes(key), 'one of the last used is gone');
        }
      }
      assert.ok(Array.from({ length: 31 }, (_, key) => key).filter((key) => map.get(key) !== undefined).length <= 2 * limit + 1);
    }),
  );
});
