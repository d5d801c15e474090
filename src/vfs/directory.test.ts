import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { FsError } from '../lib/errors.ts';
import { ino, ROOT_INO } from '../lib/int64.ts';
import { type DirEntry, type Meta, NodeType, SYSTEM } from '../meta/types.ts';
import { DirectoryListing, dots } from './directory.ts';

const entry = (name: string): DirEntry => ({ name: Buffer.from(name), ino: ino(7), type: NodeType.File, attr: undefined });

/** A directory that is listed in the given batches; `fails` is asked before each batch. */
function metaOf(batches: readonly (readonly string[])[], fails: () => boolean = () => false): Meta {
  return {
    async *readdir() {
      for (const batch of batches) {
        await Promise.resolve();
        if (fails()) throw new FsError('EIO');
        yield batch.map(entry);
      }
    },
  } as unknown as Meta;
}

const listing = (meta: Meta): DirectoryListing =>
  new DirectoryListing(
    meta,
    ROOT_INO,
    () => Promise.resolve(dots(ROOT_INO, ROOT_INO)),
    () => ({ moment: 0, time: 0 }),
  );

test('whatever is asked for in whatever order, an offset always gives the same name', async () => {
  const batches = fc.array(fc.array(fc.stringMatching(/^[a-z]{1,4}$/), { maxLength: 5 }), { maxLength: 5 });
  const asks = fc.array(fc.record({ offset: fc.nat(30), limit: fc.integer({ min: 1, max: 7 }) }), { maxLength: 15 });
  await fc.assert(
    fc.asyncProperty(batches, asks, async (names, asked) => {
      const all = ['.', '..', ...names.flat()];
      const open = listing(metaOf(names));
      for (const { offset, limit } of asked) {
        const found = await open.from(SYSTEM, offset, limit);
        assert.deepEqual(
          found.map((each) => each.name.toString()),
          all.slice(offset, offset + found.length),
        );
        assert.ok(found.length <= limit);
        assert.equal(found.length > 0, offset < all.length, 'nothing only behind the end');
      }
    }),
  );
});

test('a listing that failed half-way goes on where it was; it does not end early', async () => {
  let failures = 1;
  let batch = 0;
  const failing = listing(
    metaOf(
      [
        ['a', 'b'],
        ['c', 'd'],
      ],
      () => ++batch === 2 && failures-- > 0,
    ),
  );
  assert.equal((await failing.from(SYSTEM, 0, 10)).length, 2);
  assert.equal((await failing.from(SYSTEM, 2, 10)).length, 2);
  await assert.rejects(failing.from(SYSTEM, 4, 10), FsError);
  assert.deepEqual(
    (await failing.from(SYSTEM, 4, 10)).map((each) => each.name.toString()),
    ['c', 'd'],
  );
});
