import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { cacheIn, roomFor } from './plan-room.ts';

test('a cache has all the room that was made for it, and never more than there is', () => {
  const mib = fc.integer({ min: 0, max: 200_000 });
  fc.assert(
    fc.property(mib, mib, mib, (size, fixed, room) => {
      assert.equal(cacheIn(roomFor(size, fixed), fixed), size);
      assert.ok(roomFor(cacheIn(room, fixed), fixed) <= room);
    }),
    { numRuns: 20_000 },
  );
  assert.equal(cacheIn(49_037, 36), 44_429);
});
