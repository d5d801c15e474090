import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { MemoryCache } from './memory.ts';
import { BufferPool, capacityFor } from './pool.ts';

test('a buffer is used again after its last release, and only then', () => {
  const pool = new BufferPool();
  const block = pool.acquire(5000);
  const { buffer } = block;
  assert.equal(block.data.length, 5000);
  block.retain();
  block.release();
  assert.notEqual(pool.acquire(5000).buffer, buffer);
  block.release();
  assert.equal(pool.acquire(5000).buffer, buffer);
  assert.throws(() => block.release(), /released twice/);
  assert.throws(() => block.retain(), /after its last release/);
});

test('no more lies free than may', () => {
  const pool = new BufferPool({ maxBytes: 10_000 });
  const blocks = [pool.acquire(8192), pool.acquire(8192)];
  for (const block of blocks) block.release();
  assert.equal(pool.freeBytes, 8192);
  assert.equal(pool.usedBytes, 0);
});

test('capacities hold what they are for, with at most an eighth or a page to spare', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 20_000_000 }), (length) => {
      const capacity = capacityFor(length);
      assert.ok(capacity >= length && capacity - length < Math.max(4096, length / 7.9), `${length}: ${capacity}`);
      assert.equal(capacityFor(capacity), capacity);
    }),
  );
  assert.equal(capacityFor(4 * 1024 * 1024), 4 * 1024 * 1024);
});

test('any sequence of puts, gets, reservations and deletes keeps the bound, and the most recently used', () => {
  const step = fc.record({
    kind: fc.constantFrom('put', 'get', 'delete', 'reserve', 'unreserve'),
    key: fc.nat(9),
    pages: fc.integer({ min: 1, max: 3 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const max = 6 * 4096;
      const pool = new BufferPool();
      const cache = new MemoryCache({ maxBytes: max, pool });
      const reserved: number[] = [];
      for (const { kind, key, pages } of steps) {
        if (kind === 'put') {
          const block = pool.acquire(pages * 4096);
          block.buffer.fill(key);
          cache.put(key, block);
          block.release();
        } else if (kind === 'get') {
          const block = cache.get(key);
          if (block) assert.equal(block.buffer[0], key);
        } else if (kind === 'delete') {
          cache.delete(key);
          assert.equal(cache.has(key), false);
        } else if (kind === 'reserve') {
          if (cache.tryReserve(pages * 4096)) reserved.push(pages * 4096);
        } else {
          const bytes = reserved.pop();
          if (bytes !== undefined) cache.unreserve(bytes);
        }
        assert.ok(cache.bytes <= max, `${cache.bytes} bytes`);
      }
      for (const bytes of reserved) cache.unreserve(bytes);
      assert.equal(pool.usedBytes, cache.bytes, 'every block that is not resident was given back');
      cache.clear();
      assert.equal(pool.usedBytes, 0);
    }),
  );
});

test('the least recently used block goes first', () => {
  const pool = new BufferPool();
  const cache = new MemoryCache({ maxBytes: 3 * 4096, pool });
  for (const key of [1, 2, 3]) cache.put(key, pool.acquire(4096));
  cache.get(1);
  cache.put(4, pool.acquire(4096));
  assert.deepEqual(
    [1, 2, 3, 4].map((key) => cache.has(key)),
    [true, false, true, true],
  );
});

test('reservations that wait are served in their order', async () => {
  const cache = new MemoryCache({ maxBytes: 10, pool: new BufferPool() });
  assert.equal(cache.reserve(8), undefined);
  const order: string[] = [];
  const large = cache.reserve(9)?.then(() => order.push('large'));
  const small = cache.reserve(1)?.then(() => order.push('small'));
  assert.equal(cache.tryReserve(1), false, 'nobody overtakes');
  cache.unreserve(8);
  await large;
  await small;
  assert.deepEqual(order, ['large', 'small']);
});
