import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import type { SliceRecord } from './records.ts';
import {
  compactionAfterRead,
  compactionAfterWrite,
  MOST_PARTS,
  planListCompaction,
  viewOf,
  zeroRange,
  zeroRecord,
} from './slices.ts';
import { CHUNK_SIZE, type Piece } from './types.ts';

/** A chunk of cells: each cell says which cell of which slice is seen there. `unit` is the bytes of a cell. */
class Model {
  readonly cells: string[];
  readonly unit: number;

  constructor(count: number, unit: number) {
    this.cells = Array.from({ length: count }, () => 'zero');
    this.unit = unit;
  }

  paint(piece: SliceRecord | Piece, source?: (cell: number) => string): void {
    for (let cell = 0; cell < piece.len / this.unit; cell++)
      this.cells[piece.pos / this.unit + cell] =
        source?.(cell) ?? (piece.id === 0 ? 'zero' : `${piece.id}:${piece.off / this.unit + cell}`);
  }
}

const CELLS = 64;

/** Records over 64 cells; ids repeat on purpose, so that equal records occur. */
const recordsOf = (unit: number, maxLength: number): fc.Arbitrary<SliceRecord[]> =>
  fc.array(
    fc.tuple(fc.nat(CELLS - 1), fc.integer({ min: 0, max: maxLength }), fc.nat(6), fc.nat(3)).map(([pos, length, id, off]) => {
      const len = Math.min(length, CELLS - pos) * unit;
      if (id === 0) return zeroRecord(pos * unit, len);
      return { pos: pos * unit, id, size: (off + maxLength) * unit, off: off * unit, len };
    }),
    { maxLength: 24 },
  );

function assertView(pieces: readonly Piece[]): void {
  let end = 0;
  for (const [index, piece] of pieces.entries()) {
    assert.equal(piece.pos, end, 'no gap and no overlap');
    assert.ok(piece.len > 0);
    assert.ok(piece.id === 0 ? piece.size === 0 && piece.off === 0 : piece.off + piece.len <= piece.size);
    assert.ok(piece.id !== 0 || pieces[index - 1]?.id !== 0, 'holes are joined');
    end += piece.len;
  }
}

test('a view shows in every byte the newest record that covers it', () => {
  fc.assert(
    fc.property(recordsOf(1, 20), (records) => {
      const expected = new Model(CELLS, 1);
      for (const record of records) expected.paint(record);
      const found = new Model(CELLS, 1);
      const view = viewOf(records);
      assertView(view);
      for (const piece of view) found.paint(piece);
      assert.deepEqual(found.cells, expected.cells);
    }),
    { numRuns: 2000 },
  );
});

test('a view ends where the farthest record ends, and an empty list has none', () => {
  assert.deepEqual(viewOf([]), []);
  assert.deepEqual(viewOf([{ pos: 10, id: 3, size: 8, off: 2, len: 5 }]), [
    { pos: 0, id: 0, size: 0, off: 0, len: 10 },
    { pos: 10, id: 3, size: 8, off: 2, len: 5 },
  ]);
});

test('a thousand records behind one another make a view of a thousand pieces', () => {
  const records = Array.from({ length: 1000 }, (_, index) => ({ pos: index * 4, id: index + 1, size: 4, off: 0, len: 4 }));
  assert.equal(viewOf(records).length, 1000);
});

test('zeroing a range touches exactly the bytes of the range, in whole chunks only where there is a list', () => {
  const boundary = fc.oneof(
    fc.nat(5 * CHUNK_SIZE),
    fc.tuple(fc.nat(5), fc.integer({ min: -2, max: 2 })).map(([chunk, delta]) => Math.max(0, chunk * CHUNK_SIZE + delta)),
  );
  fc.assert(
    fc.property(boundary, boundary, (a, b) => {
      const [from, to] = [Math.min(a, b), Math.max(a, b)];
      const { edges, middle } = zeroRange(from, to);
      const covered = new Map<number, readonly [number, number]>();
      for (const { index, record } of edges) {
        assert.ok(record.len > 0 && record.pos + record.len <= CHUNK_SIZE && record.id === 0);
        assert.ok(!covered.has(index));
        covered.set(index, [record.pos, record.pos + record.len]);
      }
      if (middle) for (let index = middle.first; index <= middle.last; index++) covered.set(index, [0, CHUNK_SIZE]);
      for (let index = 0; index <= 6; index++) {
        const wanted = [Math.max(from, index * CHUNK_SIZE), Math.min(to, (index + 1) * CHUNK_SIZE)] as const;
        const range = covered.get(index)?.map((offset) => index * CHUNK_SIZE + offset);
        if (wanted[0] >= wanted[1]) assert.equal(range, undefined);
        else assert.deepEqual(range, [...wanted]);
      }
    }),
  );
});

test('the zeros of a truncation are the records that JuiceFS writes', () => {
  assert.deepEqual(zeroRange(100, 100), { edges: [], middle: undefined });
  assert.deepEqual(zeroRange(100, 3 * CHUNK_SIZE + 7), {
    edges: [
      { index: 0, record: zeroRecord(100, CHUNK_SIZE - 100) },
      { index: 3, record: zeroRecord(0, 7) },
    ],
    middle: { first: 1, last: 2 },
  });
  assert.deepEqual(zeroRange(CHUNK_SIZE, 2 * CHUNK_SIZE), {
    edges: [{ index: 1, record: zeroRecord(0, CHUNK_SIZE) }],
    middle: undefined,
  });
});

test('a compaction leaves every byte of the chunk as it was, and the list shorter', () => {
  // A cell of 256 KiB, so that some records are large enough to stay.
  const unit = 256 * 1024;
  let planned = 0;
  let kept = 0;
  fc.assert(
    fc.property(recordsOf(unit, 12), (records) => {
      const before = new Model(CELLS, unit);
      for (const record of records) before.paint(record);
      const plan = planListCompaction(records);
      if (!plan) return;
      planned++;
      if (plan.skipped > 0) kept++;
      assert.ok(plan.count - plan.skipped >= 2);
      assert.equal(
        plan.pieces.reduce((sum, piece) => sum + piece.len, 0),
        plan.size,
      );
      assert.equal(plan.pieces[0]?.pos, plan.pos);
      // What the copy would hold, cell by cell. A slice of one byte of zeros stands for a chunk of zeros.
      const merged = new Model(CELLS, unit);
      for (const piece of plan.pieces) if (piece.len >= unit) merged.paint(piece);
      const after = new Model(CELLS, unit);
      for (const record of records.slice(0, plan.skipped)) after.paint(record);
      if (plan.size >= unit)
        after.paint(
          { pos: plan.pos, id: 99, size: plan.size, off: 0, len: plan.size },
          (cell) => merged.cells[plan.pos / unit + cell]!,
        );
      assert.deepEqual(after.cells, before.cells);
      for (const { pos, len } of records.slice(0, plan.skipped))
        assert.ok(plan.pos + plan.size <= pos || pos + len <= plan.pos, 'the merged slice hides nothing that stays');
    }),
    { numRuns: 2000 },
  );
  assert.ok(planned > 500 && kept > 20, `the test met too little: ${planned} plans, ${kept} with kept records`);
});

test('large records at the front stay, until they would be copied for little', () => {
  const mib = 1024 * 1024;
  const record = (pos: number, len: number, id: number): SliceRecord => ({ pos, id, size: len, off: 0, len });
  const plan = planListCompaction([
    record(0, 4 * mib, 1),
    record(4 * mib, 2 * mib, 2),
    record(6 * mib, 10, 3),
    record(6 * mib + 10, 10, 4),
  ]);
  assert.deepEqual([plan?.skipped, plan?.count, plan?.pos, plan?.size], [2, 4, 6 * mib, 20]);
  const small = planListCompaction([record(0, mib, 1), record(mib, 6 * mib, 2)]);
  assert.deepEqual([small?.skipped, small?.size], [0, 7 * mib], 'less than a fifth of the result is not kept');
});

test('nothing is planned for one record, and no more than five thousand are taken at once', () => {
  assert.equal(planListCompaction([]), undefined);
  assert.equal(planListCompaction([{ pos: 0, id: 1, size: 4, off: 0, len: 4 }]), undefined);
  const many = Array.from({ length: 5500 }, (_, index) => ({ pos: index, id: index + 1, size: 1, off: 0, len: 1 }));
  assert.deepEqual([planListCompaction(many)?.count, planListCompaction(many)?.size], [5000, 5000]);
});

test('a list of nothing but zeros becomes one byte of zero', () => {
  assert.deepEqual(planListCompaction([zeroRecord(300, 50), zeroRecord(200, 50)]), {
    skipped: 0,
    count: 2,
    pos: 200,
    size: 1,
    pieces: [{ pos: 200, id: 0, size: 0, off: 0, len: 1 }],
  });
});

test('a long list is compacted in good time after a write', () => {
  assert.deepEqual(
    [1, 98, 99, 199, 350, 351, 360, 2499, 2500].map((length) => compactionAfterWrite(length)),
    ['none', 'none', 'soon', 'soon', 'none', 'none', 'soon', 'soon', 'now'],
  );
  assert.deepEqual(
    [2500, 3749, 3750, 4999, 5000].map((length) => compactionAfterWrite(length, 64)),
    ['none', 'none', 'soon', 'soon', 'now'],
    'many at once',
  );
  const most = 2730;
  assert.deepEqual(
    [1279, 1280, most - MOST_PARTS, most - MOST_PARTS + 1].map((length) => compactionAfterWrite(length, 64, most)),
    ['none', 'soon', 'now', 'now'],
    'what comes next must fit',
  );
});

test('reading has a chunk compacted where that takes enough off its list for what it writes', () => {
  const mib = 1024 * 1024;
  const record = (pos: number, len: number, id: number): SliceRecord => ({ pos, id, size: len, off: 0, len });
  const scattered = (size: number, count: number): SliceRecord[] => [
    record(0, size, 1),
    ...Array.from({ length: count }, (_, at) => record(Math.floor((size / (count + 1)) * (at + 0.5)), 100, at + 2)),
  ];
  const due = (list: readonly SliceRecord[]): boolean => compactionAfterRead(list, viewOf(list));
  assert.equal(due(scattered(1000, 1)), false, 'three pieces are few');
  assert.equal(due(scattered(100_000, 2)), true, 'five pieces of a small file');
  assert.equal(due(scattered(64 * mib, 100)), false, '64 MiB are not written anew for a hundred small changes');
  assert.equal(due(scattered(64 * mib, 511)), false);
  assert.equal(due(scattered(64 * mib, 512)), true);
  const appended = [record(0, 60 * mib, 1), ...Array.from({ length: 5 }, (_, at) => record(60 * mib + at * 100, 100, at + 2))];
  assert.equal(due(appended), true, 'what a large record is left out of costs little');
});
