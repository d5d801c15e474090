import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { CHUNK_SIZE } from '../meta/types.ts';
import { Pack } from './pack.ts';

test('a pack tells the newest bytes of each place, whatever was put over what', () => {
  const put = fc.record({ begin: fc.nat(60), length: fc.integer({ min: 1, max: 20 }), far: fc.boolean() });
  fc.assert(
    fc.property(fc.array(put, { minLength: 1, maxLength: 60 }), (puts) => {
      const pack = new Pack();
      const model = new Map<number, number>();
      let end = 0;
      for (const { begin, length, far } of puts) {
        const at = begin + (far ? CHUNK_SIZE - 40 : 0);
        const clash = Array.from({ length }, (_, index) => model.has(at + index)).some(Boolean);
        assert.equal(pack.overlaps(at, at + length), clash);
        const known = pack.whereIs(at, at + length);
        const places = Array.from({ length }, (_, index) => model.get(at + index));
        const isOne = places[0] !== undefined && places.every((place, index) => place === (places[0] ?? 0) + index);
        if (known !== undefined) assert.equal(known, places[0]);
        if (known !== undefined) assert.ok(isOne);
        pack.put(at, at + length, end);
        for (let index = 0; index < length; index++) model.set(at + index, end + index);
        end += length;
      }
      const told = new Map<number, number>();
      let before = -1;
      for (const { index, pos, off, len } of pack.parts()) {
        const from = index * CHUNK_SIZE + pos;
        assert.ok(from >= before, 'in the order of the file');
        assert.ok(len > 0 && pos + len <= CHUNK_SIZE);
        for (let each = 0; each < len; each++) told.set(from + each, off + each);
        before = from + len;
      }
      assert.deepEqual(told, model);
      assert.ok(pack.size <= 2 * puts.length);
    }),
    { numRuns: 300 },
  );
});

test('what goes on where another range ended, and not at the end of the slice, is a stream of its own', () => {
  const pack = Pack.of(100, 10);
  assert.equal(pack.continues(110, 10), false, 'the end of the slice');
  pack.put(200, 205, 10);
  assert.equal(pack.continues(110, 15), true);
  assert.equal(pack.continues(205, 15), false);
  assert.equal(pack.continues(300, 15), false);
  pack.put(205, 208, 15);
  assert.equal(pack.size, 2, 'one piece in file and slice');
  assert.deepEqual(pack.parts(), [
    { index: 0, pos: 100, off: 0, len: 10 },
    { index: 0, pos: 200, off: 10, len: 8 },
  ]);
});
