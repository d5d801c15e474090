import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import type { ChunkStore } from '../chunk/types.ts';
import { ino } from '../lib/int64.ts';
import { CHUNK_SIZE, type Attr, type Meta, type Piece } from '../meta/types.ts';
import { changedRanges, contentOf, copyRanges, isCached, type Range, stateOf } from './content.ts';

const BLOCK = 16;
const INO = ino(5);

/** Lists of slices by chunk. */
const metaOf = (chunks: ReadonlyMap<number, readonly Piece[]>): Meta =>
  ({
    readChunks: (asked: readonly { index: number }[]) => Promise.resolve(asked.map(({ index }) => chunks.get(index))),
  }) as unknown as Meta;

/** Byte `offset` of slice `id`. */
const byteOf = (id: number, offset: number): number => (id * 31 + offset * 7) & 0xff || 1;

const chunks = {
  blockSize: BLOCK,
  read(slice: { id: number; size: number }, offset: number, target: Buffer) {
    assert.ok(
      offset + target.length <= slice.size && Math.floor(offset / BLOCK) === Math.floor((offset + target.length - 1) / BLOCK),
    );
    for (let at = 0; at < target.length; at++) target[at] = byteOf(slice.id, offset + at);
    return Promise.resolve();
  },
} as unknown as ChunkStore;

async function bytesOf(ranges: readonly Range[], length: number, into = Buffer.alloc(length, 0xee)): Promise<Buffer> {
  const take = (bytes: Buffer, at: number): Promise<void> => {
    bytes.copy(into, at);
    return Promise.resolve();
  };
  await copyRanges(chunks, ranges, take, new AbortController().signal);
  return into;
}

/** A chunk's list, and what the file is then: pieces in order, with gaps. */
const listing = fc
  .array(fc.record({ gap: fc.nat(20), len: fc.integer({ min: 1, max: 60 }), id: fc.nat(5), off: fc.nat(30) }), { maxLength: 8 })
  .map((parts) => {
    const pieces: Piece[] = [];
    let pos = 0;
    for (const { gap, len, id, off } of parts) {
      pos += gap;
      pieces.push({ pos, id, size: id === 0 ? 0 : off + len + 5, off: id === 0 ? 0 : off, len });
      pos += len;
    }
    return { pieces, end: pos };
  });

const expected = (pieces: readonly Piece[], length: number): Buffer => {
  const data = Buffer.alloc(length);
  for (const { pos, id, off, len } of pieces)
    for (let at = 0; at < len && pos + at < length; at++) if (id !== 0) data[pos + at] = byteOf(id, off + at);
  return data;
};

test('what a file consists of covers it without gaps, and gives its bytes', async () => {
  await fc.assert(
    fc.asyncProperty(listing, fc.nat(80), async ({ pieces, end }, more) => {
      const length = Math.max(0, end - 10 + more);
      const ranges = await contentOf(metaOf(new Map([[0, pieces]])), INO, length);
      let at = 0;
      for (const range of ranges) {
        assert.equal(range.at, at);
        at += range.length;
      }
      assert.equal(at, length);
      assert.deepEqual(await bytesOf(ranges, length), expected(pieces, length));
    }),
  );
});

test('copying what has changed over what was there gives what there is', async () => {
  await fc.assert(
    fc.asyncProperty(listing, listing, fc.nat(300), fc.nat(300), async (before, now, lengthBefore, length) => {
      const old = await contentOf(metaOf(new Map([[0, before.pieces]])), INO, lengthBefore);
      const ranges = await contentOf(metaOf(new Map([[0, now.pieces]])), INO, length);
      const file = Buffer.alloc(length);
      (await bytesOf(old, lengthBefore)).copy(file);
      assert.deepEqual(await bytesOf(changedRanges(old, ranges), length, file), expected(now.pieces, length));
      assert.deepEqual(changedRanges(ranges, ranges), []);
      assert.deepEqual(changedRanges(undefined, ranges), ranges);
    }),
  );
});

test('chunks that have no list are holes, and a file may end in one', async () => {
  const meta = metaOf(new Map([[1, [{ pos: 5, id: 3, size: 10, off: 2, len: 4 }]]]));
  const ranges = await contentOf(meta, INO, CHUNK_SIZE + 100);
  assert.deepEqual(ranges, [
    { at: 0, length: CHUNK_SIZE, id: 0, size: 0, off: 0 },
    { at: CHUNK_SIZE, length: 5, id: 0, size: 0, off: 0 },
    { at: CHUNK_SIZE + 5, length: 4, id: 3, size: 10, off: 2 },
    { at: CHUNK_SIZE + 9, length: 91, id: 0, size: 0, off: 0 },
  ]);
});

test('a file is cached when each block that it has bytes of is', () => {
  const there = new Set(['3:0', '3:1']);
  const store = {
    blockSize: BLOCK,
    locate: ({ id }: { id: number }, index: number) => (there.has(`${id}:${index}`) ? 'here' : undefined),
  };
  const range = (off: number, length: number, id = 3): Range => ({ at: 0, length, id, size: 100, off });
  const cached = (...ranges: Range[]): boolean => isCached(store as unknown as ChunkStore, ranges);
  assert.equal(cached(range(0, 32), range(0, 1000, 0)), true);
  assert.equal(cached(range(0, 33)), false);
  assert.equal(cached(range(31, 1)), true);
  assert.equal(cached(range(32, 1)), false);
  assert.equal(cached(range(0, 1, 4)), false);
});

test('each attribute that tells of a change makes another state, and its name is fit for a file', () => {
  const attr = { length: 1, mtime: 2, mtimensec: 3, ctime: 4, ctimensec: 5, mode: 6 } as Attr;
  const states = new Set([
    stateOf(attr),
    ...['length', 'mtime', 'mtimensec', 'ctime', 'ctimensec'].map((name) => stateOf({ ...attr, [name]: 9 })),
  ]);
  assert.equal(states.size, 6);
  assert.equal(stateOf({ ...attr, mode: 7 }), stateOf(attr));
  assert.match(stateOf({ ...attr, length: 2 ** 52, mtime: -(2 ** 40) }), /^[0-9a-f-]{1,128}$/);
});
