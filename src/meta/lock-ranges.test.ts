import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { decodeRanges, encodeRanges, END_OF_FILE, rangeInTheWay, withRange } from './lock-ranges.ts';
import { LockType, type RangeLock } from './types.ts';

/** Bytes that locks begin and end at, with both ends of what there is. */
const BYTES = [0n, 1n, 2n, 3n, 4n, 5n, 100n, END_OF_FILE - 1n, END_OF_FILE];
const anyLock: fc.Arbitrary<RangeLock> = fc
  .tuple(
    fc.constantFrom<LockType>(0, 1, 2),
    fc.nat(BYTES.length - 1),
    fc.nat(BYTES.length - 1),
    fc.constantFrom(7, 4_000_000_000),
  )
  .map(([type, one, other, pid]) => ({
    type,
    pid,
    start: BYTES[Math.min(one, other)] ?? 0n,
    end: BYTES[Math.max(one, other)] ?? 0n,
  }));

/** What lies on one byte: type and process. */
const on = (ranges: readonly RangeLock[], byte: bigint): string =>
  ranges
    .filter(({ start, end }) => start <= byte && byte <= end)
    .map(({ type, pid }) => `${type} ${pid}`)
    .join();

test('each byte has the last lock that was set on it, the list is ordered, without overlap, and as short as it can be', () => {
  fc.assert(
    fc.property(fc.array(anyLock, { maxLength: 12 }), (locks) => {
      let ranges: readonly RangeLock[] = [];
      for (const lock of locks) ranges = withRange(ranges, lock);
      for (const byte of [...BYTES, 50n, 1_000_000n]) {
        const last = locks.findLast(({ start, end }) => start <= byte && byte <= end);
        assert.equal(on(ranges, byte), last && last.type !== LockType.None ? `${last.type} ${last.pid}` : '');
      }
      ranges.forEach((range, at) => {
        assert.ok(range.start <= range.end);
        const next = ranges[at + 1];
        if (!next) return;
        assert.ok(range.end < next.start);
        assert.ok(range.end + 1n < next.start || range.type !== next.type || range.pid !== next.pid, 'joined');
      });
      assert.deepEqual(decodeRanges(encodeRanges(ranges)), ranges);
    }),
  );
});

test('a lock meets another where they share a byte and one of them is for writing', () => {
  fc.assert(
    fc.property(fc.array(anyLock, { maxLength: 6 }), anyLock, (locks, lock) => {
      let ranges: readonly RangeLock[] = [];
      for (const each of locks) ranges = withRange(ranges, each);
      const found = rangeInTheWay(ranges, lock);
      const shared = ranges.filter(({ start, end }) => start <= lock.end && lock.start <= end);
      const meets = shared.some(({ type }) => type === LockType.Write || lock.type === LockType.Write);
      assert.equal(found !== undefined, meets);
      if (found) assert.ok(shared.includes(found));
    }),
  );
});

test('records are those of the official client', () => {
  // As juicefs 1.4.1 wrote it (test/golden/redis-live, lockp9).
  const bytes = Buffer.from(
    '00000001000001c4000000000000000000000000000000630000000' +
      '0000001c400000000000000c8000000000000012b00000001000001c400000000000013887fffffffffffffff',
    'hex',
  );
  assert.deepEqual(decodeRanges(bytes), [
    { type: LockType.Write, pid: 452, start: 0n, end: 99n },
    { type: LockType.Read, pid: 452, start: 200n, end: 299n },
    { type: LockType.Write, pid: 452, start: 5000n, end: END_OF_FILE },
  ]);
  assert.deepEqual(encodeRanges(decodeRanges(bytes)), bytes);
  assert.throws(() => decodeRanges(bytes.subarray(1)), RangeError);
});
