import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { sharesOf } from './budget.ts';

test('the shares of any bound add up to it, and nobody is left without', () => {
  const sizes = fc.record({
    blocks: fc.integer({ min: 8, max: 4000 }),
    block: fc.integer({ min: 65_536, max: 16 << 20 }),
    staged: fc.boolean(),
  });
  fc.assert(
    fc.property(sizes, ({ blocks, block, staged }) => {
      const { gated, writes, reads, pending, staging } = sharesOf(blocks * block, block, staged);
      assert.equal(writes + reads, gated);
      assert.ok(gated + pending + staging <= blocks * block, 'together');
      assert.ok(writes >= block && reads > 0 && pending >= block);
      assert.equal(staging >= block, staged);
    }),
  );
});

test('a bound of a block still lets somebody write and read', () => {
  const { writes, reads } = sharesOf(4096, 4096, true);
  assert.ok(writes > 0 && reads > 0);
});
