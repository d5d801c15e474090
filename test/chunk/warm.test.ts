/** Blocks brought into the cache by themselves, told of, and dropped: on the disk, and in memory where there is none. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { ChunkStore, SliceId } from '../../src/chunk/types.ts';
import { MemoryObjectStore } from '../../src/object/memory.ts';
import { BLOCK, open, pattern, readAll, UUID, write } from './tools.ts';

const root = mkdtempSync(join(tmpdir(), 'juicepod-warm-'));
after(() => rmSync(root, { recursive: true, force: true }));
let folders = 0;
const newFolder = (): string => join(root, String(folders++));

const COUNT = 64;
/** Downloads of the store there is, in all. */
let downloads = 0;
class CountingStore extends MemoryObjectStore {
  override get(...call: Parameters<MemoryObjectStore['get']>): Promise<Buffer> {
    downloads++;
    return super.get(...call);
  }
}
const objects = new CountingStore();
const writer = open(objects);
const data = pattern(COUNT * BLOCK - 1000, 1);
const slice = await write(writer, 1, data);
const indexes = Array.from({ length: COUNT }, (_, index) => index);

const cacheIn = (folder: string, more: object = {}): ChunkStore =>
  open(objects, { memoryBytes: 4 * BLOCK, prefetch: 0, disk: { folder, freeRatio: 0, ...more } });
const filesIn = (folder: string): readonly string[] => {
  const blocks = join(folder, UUID, 'raw/chunks/0/0');
  return existsSync(blocks) ? readdirSync(blocks).filter((name) => !name.endsWith('.tmp')) : [];
};
const warmAll = (store: ChunkStore, of: SliceId = slice): Promise<readonly boolean[]> =>
  Promise.all(indexes.map((index) => store.warm(of, index)));

test('all blocks lie on the disk when it is said so, far more than memory holds, each downloaded once', async () => {
  const folder = newFolder();
  const store = cacheIn(folder);
  const before = downloads;
  assert.equal(store.locate(slice, 0), undefined);
  assert.ok((await warmAll(store)).every(Boolean));
  assert.equal(filesIn(folder).length, COUNT);
  assert.equal(downloads - before, COUNT);
  for (const index of indexes) assert.equal(store.locate(slice, index), join(folder, UUID));
  assert.ok((await warmAll(store)).every(Boolean));
  assert.ok(data.equals(await readAll(store, slice)));
  assert.equal(downloads - before, COUNT);
  await store.close();
});

test('readers of the same blocks at the same time share the downloads', async () => {
  const folder = newFolder();
  const store = cacheIn(folder);
  const large = open(objects, { memoryBytes: 2 * COUNT * BLOCK, prefetch: 0, disk: { folder: newFolder(), freeRatio: 0 } });
  let last = 0;
  for (const each of [store, large]) {
    last = downloads;
    const reading = readAll(each, slice);
    assert.ok((await warmAll(each)).every(Boolean));
    assert.ok(data.equals(await reading));
  }
  assert.equal(filesIn(folder).length, COUNT);
  // Where memory holds what one of them has read, too.
  assert.equal(downloads - last, COUNT);
  await store.close();
  await large.close();
});

test('dropped, it is found nowhere, and read again from the store', async () => {
  const folder = newFolder();
  const store = cacheIn(folder);
  const before = downloads;
  await warmAll(store);
  for (const index of indexes.slice(1)) store.evict(slice, index);
  assert.deepEqual(
    indexes.filter((index) => store.locate(slice, index) !== undefined),
    [0],
  );
  assert.ok(data.equals(await readAll(store, slice)));
  assert.equal(downloads - before, 2 * COUNT - 1);
  await store.close();
  const left = filesIn(folder);
  assert.ok(left.includes(`1_0_${BLOCK}`));
});

test('what waits for its upload is not dropped', async () => {
  const folder = newFolder();
  const own = new MemoryObjectStore();
  const store = open(own, { disk: { folder, freeRatio: 0 }, writeback: { delayMs: 3_600_000 } });
  const bytes = pattern(2 * BLOCK, 5);
  const staged = await write(store, 9, bytes);
  for (const index of [0, 1]) store.evict(staged, index);
  assert.ok(bytes.equals(await readAll(store, staged)));
  assert.equal(store.locate(staged, 0), join(folder, UUID));
  await store.close();
});

test('where the disk takes nothing, a block is said not to be there', async () => {
  const folder = newFolder();
  const store = cacheIn(folder, { freeRatio: 1 });
  assert.deepEqual(await store.warm(slice, 0), false);
  assert.equal(filesIn(folder).length, 0);
  await store.close();
});

test('without a disk, memory is the cache, as far as it reaches', async () => {
  const store = open(objects, { memoryBytes: 4 * BLOCK, prefetch: 0 });
  assert.equal(await store.warm(slice, 3), true);
  assert.equal(store.locate(slice, 3), 'memory');
  store.evict(slice, 3);
  assert.equal(store.locate(slice, 3), undefined);
  await warmAll(store);
  assert.ok(indexes.filter((index) => store.locate(slice, index) !== undefined).length <= 4);
  await store.close();
});

test('a block that is not in the store fails, an interrupted wait ends', async () => {
  const store = cacheIn(newFolder());
  await assert.rejects(store.warm({ id: 77, size: BLOCK }, 0), { code: 'ENOENT' });
  const stop = new AbortController();
  stop.abort();
  await assert.rejects(store.warm(slice, 0, stop.signal), { name: 'AbortError' });
  assert.equal(await store.warm(slice, 0), true);
  await store.close();
});
