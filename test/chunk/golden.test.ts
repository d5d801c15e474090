/** Blocks and cache files that the official client wrote are read, and ours are like them. Golden data: test/golden. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { cpSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { FileObjectStore } from '../../src/object/file.ts';
import { MemoryObjectStore } from '../../src/object/memory.ts';
import { BLOCK, keysOf, open, readAll, UUID, write } from './tools.ts';

const golden = join(import.meta.dirname, '../golden');
const root = mkdtempSync(join(tmpdir(), 'juicepod-golden-'));
after(() => rmSync(root, { recursive: true, force: true }));

/** Slice, its length, and the SHA-256 of the file that consists of it, from the manifest of the golden volume. */
const slices = [
  [1, 70_000, 'fb4aaa1e573ca876d637941c373386ad953583d3ce8f183680723a056c6acc5e'],
  [2, 3000, '795e6dd6e82df8715fc4a7ffcdf5c757fd22bc92bdc226df9f5ac5d78433b3c8'],
  [3, 1, '2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881'],
] as const;

for (const compression of ['none', 'lz4', 'zstd'])
  for (const layout of ['flat', 'hash'])
    test(`a volume of the official client is read: ${compression}, ${layout} keys; we write the same keys`, async () => {
      const objects = new FileObjectStore(join(golden, 'blocks', `${compression}-${layout}`));
      const options = { compression, hashPrefix: layout === 'hash' };
      const theirs = open(objects, options);
      const copy = new MemoryObjectStore();
      const ours = open(copy, options);
      for (const [id, size, sha256] of slices) {
        const data = await readAll(theirs, { id, size });
        assert.equal(createHash('sha256').update(data).digest('hex'), sha256);
        await write(ours, id, data);
      }
      const keys = await keysOf(objects);
      assert.equal(keys.length, 4);
      assert.deepEqual(await keysOf(copy), keys);
      // The LZ4 encoders differ in their choices; the others are the same bytes.
      if (compression !== 'lz4') for (const key of keys) assert.ok((await copy.get(key)).equals(await objects.get(key)), key);
      await theirs.close();
      await ours.close();
    });

test('a cache directory of the official client serves reads while the store is away', async () => {
  const folder = join(root, 'theirs');
  cpSync(join(golden, 'cache/raw'), join(folder, UUID, 'raw'), { recursive: true });
  const objects = new FileObjectStore(join(golden, 'cache'));
  const direct = open(objects, { compression: 'lz4' });
  const expected = await readAll(direct, { id: 1, size: 70_000 });
  await direct.close();
  const store = open(objects, { compression: 'lz4', disk: { folder, freeRatio: 0 } }, () => ({ kind: 'status', status: 403 }));
  assert.ok(expected.equals(await readAll(store, { id: 1, size: 70_000 })));
  await store.close();
});

test('our cache files have the bytes, names and modes of the official ones', async () => {
  const folder = join(root, 'ours');
  const objects = new FileObjectStore(join(golden, 'cache'));
  const store = open(objects, { compression: 'lz4', disk: { folder, freeRatio: 0 } });
  await readAll(store, { id: 1, size: 70_000 });
  await store.close();
  for (const name of [`1_0_${BLOCK}`, '1_1_4464']) {
    const path = join(folder, UUID, 'raw/chunks/0/0', name);
    assert.ok(readFileSync(path).equals(readFileSync(join(golden, 'cache/raw/chunks/0/0', name))), name);
    assert.equal(statSync(path).mode & 0o777, 0o600);
  }
  assert.equal(statSync(join(folder, UUID, 'raw/chunks')).mode & 0o777, 0o700);
  assert.equal(readFileSync(join(folder, UUID, '.lock'), 'utf8').length, 36);
});
