import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { Listed } from './namespace.ts';

const named = (name: string) => ({ name: Buffer.from(name) });
/** What comes out of a listing in such batches. */
function told(batches: readonly (readonly string[])[]): string[] {
  const listed = new Listed();
  return batches.flatMap((batch) => listed.fresh(batch.map(named)).map(({ name }) => name.toString()));
}
const numbered = (from: number, count: number): string[] =>
  Array.from({ length: count }, (_, index) => `n-${String(from + index).padStart(8, '0')}`);

test('names that come twice in a listing without order are told once, however the batches are cut', () => {
  const names = fc.array(
    fc.nat(300).map((number) => `n-${(number * 7919) % 1000}`),
    { maxLength: 600 },
  );
  fc.assert(
    fc.property(names, fc.integer({ min: 1, max: 50 }), (all, size) => {
      const batches: string[][] = [];
      // Within one batch no name comes twice.
      for (const name of all) {
        const last = batches.at(-1);
        if (!last || last.length >= size || last.includes(name)) batches.push([name]);
        else last.push(name);
      }
      assert.deepEqual(told(batches), [...new Set(all)]);
    }),
  );
});

test('names that come in order are all told, and a batch that is out of order after them, too', () => {
  const batches = [numbered(0, 100), numbered(100, 100), numbered(200, 3)];
  assert.deepEqual(told(batches), batches.flat());
  assert.deepEqual(told([...batches, ['m', 'z']]), [...batches.flat(), 'm', 'z']);
});

test('a long first batch in order does not hide that a later one repeats its names', () => {
  assert.deepEqual(told([numbered(0, 100), ['x', ...numbered(50, 60)]]), [...numbered(0, 100), 'x', ...numbered(100, 10)]);
});
