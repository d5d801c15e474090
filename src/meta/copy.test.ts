import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { planCopy } from './copy.ts';
import type { SliceRecord } from './records.ts';
import { findPiece } from './seek.ts';
import { viewOf } from './slices.ts';
import { CHUNK_SIZE } from './types.ts';

/** Positions near the borders of chunks, where things go wrong. */
const position = (chunks: number): fc.Arbitrary<number> =>
  fc
    .tuple(fc.nat(chunks - 1), fc.oneof(fc.nat(CHUNK_SIZE - 1), fc.constantFrom(0, 1, CHUNK_SIZE - 1)))
    .map(([chunk, at]) => chunk * CHUNK_SIZE + at);

/** Which byte of which slice is seen at an offset; undefined where there are zeros. */
function byteAt(lists: ReadonlyMap<number, readonly SliceRecord[]>, offset: number): string | undefined {
  const view = viewOf(lists.get(Math.floor(offset / CHUNK_SIZE)) ?? []);
  const at = offset % CHUNK_SIZE;
  const piece = view.find(({ pos, len }) => pos <= at && at < pos + len);
  return piece && piece.id !== 0 ? `${piece.id}:${piece.off + at - piece.pos}` : undefined;
}

test('a copied range shows what the source shows, and nothing outside of it', () => {
  const write = fc.record({ pos: fc.nat(CHUNK_SIZE - 1), len: fc.integer({ min: 1, max: CHUNK_SIZE }), zero: fc.boolean() });
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(2), write), { maxLength: 12 }),
      position(3),
      position(4),
      fc.integer({ min: 1, max: 2 * CHUNK_SIZE }),
      fc.array(fc.nat(), { minLength: 20, maxLength: 20 }),
      (writes, from, to, wanted, samples) => {
        const source = new Map<number, SliceRecord[]>();
        for (const [at, [index, { pos, len, zero }]] of writes.entries()) {
          const size = Math.min(len, CHUNK_SIZE - pos);
          const id = zero ? 0 : at + 1;
          source.set(index, [...(source.get(index) ?? []), { pos, id, size: id && size, off: 0, len: size }]);
        }
        const length = Math.min(wanted, 3 * CHUNK_SIZE - from);
        const first = Math.floor(from / CHUNK_SIZE);
        const views = [0, 1, 2].slice(first).map((index) => viewOf(source.get(index) ?? []));
        const { copied, records } = planCopy(views, from, to, length);
        assert.equal(copied, length);
        const edges = [0, 1, length - 2, length - 1].filter((at) => at >= 0 && at < length);
        for (const at of [...edges, ...samples.map((sample) => sample % length)])
          assert.equal(byteAt(records, to + at), byteAt(source, from + at), `byte ${at}`);
        for (const [index, list] of records)
          for (const { pos, len, size, off, id } of list) {
            const begin = index * CHUNK_SIZE + pos;
            assert.ok(begin >= to && begin + len <= to + length && pos + len <= CHUNK_SIZE && len > 0, 'inside the range');
            assert.ok(id === 0 || off + len <= size, 'inside the slice');
          }
      },
    ),
  );
});

test('a copy of very many pieces ends at the end of a chunk and says so', () => {
  const view = Array.from({ length: 3000 }, (_, at) => ({ pos: at, id: at + 1, size: 1, off: 0, len: 1 }));
  const { copied, records } = planCopy([view, view, view], 0, 0, 3 * CHUNK_SIZE);
  assert.equal(copied, CHUNK_SIZE);
  assert.deepEqual([...records.keys()], [0]);
});

test('data and holes of a chunk are found from any position', () => {
  const view = viewOf([
    { pos: 10, id: 1, size: 10, off: 0, len: 10 },
    { pos: 15, id: 0, size: 0, off: 0, len: 2 },
  ]);
  const found = (want: 'data' | 'hole') => [0, 9, 10, 12, 15, 16, 17, 19, 20, 99].map((from) => findPiece(view, from, want));
  assert.deepEqual(found('data'), [10, 10, 10, 12, 17, 17, 17, 19, undefined, undefined]);
  assert.deepEqual(found('hole'), [0, 9, 15, 15, 15, 16, 20, 20, 20, 99]);
  assert.equal(findPiece([{ pos: 0, id: 1, size: CHUNK_SIZE, off: 0, len: CHUNK_SIZE }], 5, 'hole'), undefined);
  assert.equal(findPiece([], 5, 'hole'), 5);
});
