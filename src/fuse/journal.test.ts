import assert from 'node:assert/strict';
import { closeSync, fstatSync } from 'node:fs';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { ino } from '../lib/int64.ts';
import { openJournal } from './journal.ts';
import { memoryFile } from './libc.ts';
import type { OpenHandle } from './types.ts';

test('another process finds exactly the handles that are open, at any moment', () => {
  const operation = fc.record({
    add: fc.boolean(),
    handle: fc.integer({ min: 1, max: 12 }),
    flags: fc.nat({ max: 0xffff_ffff }),
    backing: fc.option(fc.integer({ min: 1, max: 0x7fff_ffff }), { nil: undefined }),
  });
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
      const fd = memoryFile('test');
      try {
        let journal = openJournal(fd);
        const model = new Map<number, OpenHandle>();
        for (const [index, { add, handle, flags, backing }] of operations.entries()) {
          const open = { handle: handle * 2 ** 40, ino: ino(handle - 6), flags, ...(backing === undefined ? {} : { backing }) };
          if (add) {
            assert.equal(journal.add(open), true);
            model.set(open.handle, open);
          } else {
            journal.remove(open.handle);
            model.delete(open.handle);
          }
          const byHandle = (left: OpenHandle, right: OpenHandle): number => left.handle - right.handle;
          const next = openJournal(fd);
          assert.deepEqual(next.entries().toSorted(byHandle), [...model.values()].toSorted(byHandle));
          if (index % 7 === 0) journal = next;
        }
        // Freed records are used again.
        assert.ok(fstatSync(fd).size <= 12 * 24);
      } finally {
        closeSync(fd);
      }
    }),
  );
});

test('a full journal says so, and takes handles again when one is closed', () => {
  const fd = memoryFile('test');
  const journal = openJournal(fd, 2);
  const open = (handle: number): boolean => journal.add({ handle, ino: ino(1), flags: 0 });
  assert.deepEqual([open(1), open(2), open(3)], [true, true, false]);
  journal.remove(1);
  assert.equal(open(3), true);
  closeSync(fd);
});
