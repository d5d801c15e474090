import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { anyCase, checkCase } from './testing/random.ts';

test('ten thousand reviews: no crash, nothing removed, nothing lost, valid pods, a second call changes nothing', () => {
  const seen = { ignore: 0, refuse: 0, inject: 0, malformed: 0 };
  fc.assert(
    fc.property(anyCase, (one) => void seen[checkCase(one)]++),
    { numRuns: 10_000 },
  );
  assert.ok(seen.inject > 2000 && seen.refuse > 1000 && seen.ignore > 200 && seen.malformed > 20, JSON.stringify(seen));
});
