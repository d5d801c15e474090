/** Write-back as seen from outside: what lies where, when, and what becomes of it when disk, store or client fail. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { blockFiles, type BlockFiles } from '../../src/chunk/disk-files.ts';
import type { WritebackSettings } from '../../src/chunk/options.ts';
import type { ChunkStore } from '../../src/chunk/types.ts';
import { crc32c } from '../../src/lib/crc32c.ts';
import type { FaultPlan } from '../../src/object/faults.ts';
import { measured, RequestFigures } from '../../src/object/measured.ts';
import { MemoryObjectStore } from '../../src/object/memory.ts';
import type { ObjectStore } from '../../src/object/store.ts';
import { BLOCK, hasty, is, keysOf, open, pattern, readAll, UUID, write } from './tools.ts';

const root = mkdtempSync(join(tmpdir(), 'juicepod-staging-'));
after(() => rmSync(root, { recursive: true, force: true }));
let folders = 0;
const newFolder = (): string => join(root, String(folders++));
const HOUR = 3_600_000;
const data = pattern(2 * BLOCK + 1000, 1);
const names = ['1_0_65536', '1_1_65536', '1_2_1000'];

function client(
  folder: string,
  objects: ObjectStore,
  writeback: WritebackSettings | undefined,
  { freeRatio = 0, plan, memoryBytes = BLOCK }: { freeRatio?: number; plan?: FaultPlan; memoryBytes?: number } = {},
): ChunkStore {
  return open(objects, { memoryBytes, prefetch: 0, disk: { folder, freeRatio }, writeback }, plan);
}

const staging = (folder: string): string => join(folder, UUID, 'rawstaging/chunks/0/0');
const cached = (folder: string): string => join(folder, UUID, 'raw/chunks/0/0');
const listed = (folder: string): string[] => (existsSync(folder) ? readdirSync(folder).toSorted() : []);
const figure = (store: ChunkStore, name: string): number => store.stats()[name] ?? Number.NaN;

/** Waits for a state of the world; a minute is for ever. */
async function eventually(state: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (let tried = 0; tried < 6000 && !(await state()); tried++) await new Promise((resolve) => setTimeout(resolve, 10));
  assert.ok(await state(), what);
}

const failing = (code: string): BlockFiles => ({
  ...blockFiles,
  write: () => Promise.reject(Object.assign(new Error(`${code}: a disk that fails`), { code })),
});

test('a staged block is JuiceFS’s: plain bytes, checksums, mode, and a second name as a cached block', async () => {
  const folder = newFolder();
  const objects = new MemoryObjectStore();
  const store = client(folder, objects, { delayMs: HOUR });
  await write(store, 1, data);
  assert.deepEqual(listed(staging(folder)), names);
  assert.deepEqual(listed(cached(folder)), names);
  assert.deepEqual(await keysOf(objects), [], 'nothing is uploaded yet');
  for (const [index, name] of names.entries()) {
    const plain = data.subarray(index * BLOCK, (index + 1) * BLOCK);
    const path = join(staging(folder), name);
    const file = readFileSync(path);
    const sums = file.subarray(plain.length);
    assert.ok(file.subarray(0, plain.length).equals(plain));
    assert.equal(sums.length, Math.ceil(plain.length / 32_768) * 4);
    for (let piece = 0; piece * 4 < sums.length; piece++)
      assert.equal(sums.readUInt32BE(piece * 4), crc32c(plain.subarray(piece * 32_768, (piece + 1) * 32_768)));
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.equal(statSync(path).ino, statSync(join(cached(folder), name)).ino);
  }
  assert.equal(figure(store, 'staging_blocks'), 3);
  assert.equal(figure(store, 'staging_block_bytes'), data.length);
  await store.close();
  assert.deepEqual(listed(staging(folder)), names, 'an orderly end leaves it staged');
});

test('what is staged is read from the disk by this client and the next, while the store has nothing', async () => {
  const folder = newFolder();
  const objects = new MemoryObjectStore();
  const first = client(folder, objects, { delayMs: HOUR });
  const slice = await write(first, 1, data);
  const other = await write(first, 2, pattern(BLOCK, 2));
  for (let time = 0; time < 3; time++) {
    assert.ok((await readAll(first, slice)).equals(data));
    assert.ok((await readAll(first, other)).equals(pattern(BLOCK, 2)));
  }
  await first.close();
  rmSync(join(folder, UUID, 'raw'), { recursive: true });
  const second = client(folder, objects, { delayMs: HOUR });
  await second.ready;
  assert.ok((await readAll(second, slice)).equals(data), 'also without the second name');
  assert.deepEqual(await keysOf(objects), []);
  await second.close();
});

test('a block that is uploaded leaves the staging folder and stays cached', async () => {
  const folder = newFolder();
  const objects = new MemoryObjectStore();
  const requests = new RequestFigures('');
  const store = client(folder, measured(objects, requests), {});
  const slice = await write(store, 1, data);
  await eventually(() => figure(store, 'staging_blocks') === 0 && listed(staging(folder)).length === 0, 'all uploaded');
  assert.equal((await keysOf(objects)).length, 3);
  assert.deepEqual(listed(cached(folder)), names);
  assert.ok((await readAll(store, slice)).equals(data));
  assert.equal(requests.count('GET'), 0);
  await store.close();
});

test('a client without write-back uploads what one with it has left', async () => {
  const folder = newFolder();
  const objects = new MemoryObjectStore();
  const first = client(folder, objects, { delayMs: HOUR });
  const slice = await write(first, 1, data);
  await first.close();
  const second = client(folder, objects, undefined);
  await second.ready;
  assert.ok((await readAll(second, slice)).equals(data));
  await eventually(async () => (await keysOf(objects)).length === 3 && listed(staging(folder)).length === 0, 'all uploaded');
  await write(second, 2, data);
  assert.equal((await keysOf(objects)).length, 6, 'and uploads its own at once');
  assert.deepEqual(listed(staging(folder)), []);
  await second.close();
});

test('a slice that is removed before it was uploaded never is', async () => {
  const folder = newFolder();
  const objects = new MemoryObjectStore();
  const requests = new RequestFigures('');
  const store = client(folder, measured(objects, requests), { delayMs: HOUR });
  const slice = await write(store, 1, data);
  await store.remove(slice);
  assert.equal(requests.count('DELETE'), 0, 'nor deleted');
  await eventually(() => listed(staging(folder)).length + listed(cached(folder)).length === 0, 'both names are gone');
  assert.deepEqual(await store.drain(AbortSignal.timeout(60_000)), { blocks: 0, bytes: 0 });
  assert.deepEqual(await keysOf(objects), []);
  await assert.rejects(readAll(store, slice), is('ENOENT'));
  await store.close();
});

test('a slice that is removed while it is uploaded leaves no object', async () => {
  const folder = newFolder();
  const objects = new MemoryObjectStore();
  const begun = Promise.withResolvers<void>();
  const store = client(
    folder,
    objects,
    {},
    {
      plan: (operation) => {
        if (operation !== 'put') return undefined;
        begun.resolve();
        return { kind: 'slow', ms: 50 };
      },
    },
  );
  const slice = await write(store, 1, data);
  await begun.promise;
  await store.remove(slice);
  assert.deepEqual(await keysOf(objects), []);
  assert.deepEqual(listed(staging(folder)), []);
  await store.close();
});

test('blocks go out when their delay is over, counted from when they were staged, also by another client', async () => {
  const folder = newFolder();
  const objects = new MemoryObjectStore();
  const first = client(folder, objects, { delayMs: HOUR });
  await write(first, 1, data);
  await write(first, 2, data);
  await first.close();
  const before = new Date(Date.now() - 2 * HOUR);
  for (const name of names) utimesSync(join(staging(folder), name), before, before);
  const second = client(folder, objects, { delayMs: HOUR });
  // An object is there a moment before its block has left the folder.
  await eventually(async () => (await keysOf(objects)).length === 3 && listed(staging(folder)).length === 3, 'the old ones go');
  assert.deepEqual(
    listed(staging(folder)),
    names.map((name) => name.replace('1_', '2_')),
  );
  await second.close();
});

for (const code of ['ENOSPC', 'EIO', 'EROFS'])
  test(`on a disk that says ${code} blocks are uploaded directly`, async () => {
    const folder = newFolder();
    const objects = new MemoryObjectStore();
    const store = client(folder, objects, { delayMs: HOUR, files: failing(code) });
    for (let id = 1; id <= 5; id++) await write(store, id, data);
    assert.equal((await keysOf(objects)).length, 15);
    assert.equal(figure(store, 'staging_blocks'), 0);
    assert.ok(figure(store, 'staging_block_errors') > 0);
    await store.close();
  });

test('a disk that never answers does not hold up a writer for ever', async () => {
  const folder = newFolder();
  const objects = new MemoryObjectStore();
  const stuck = Promise.withResolvers<void>();
  const files: BlockFiles = {
    ...blockFiles,
    write: async (path, parts, mode) => {
      await stuck.promise;
      return blockFiles.write(path, parts, mode);
    },
  };
  // The minute that a write may take is over at once.
  const clock = { ...hasty, timer: (ms: number, callback: () => void) => hasty.timer(ms / 1000, callback) };
  const store = open(objects, { clock, disk: { folder, freeRatio: 0 }, writeback: { delayMs: HOUR, files } });
  const slice = await write(store, 1, data);
  assert.equal((await keysOf(objects)).length, 3);
  await store.remove(slice);
  stuck.resolve();
  await store.close();
  assert.deepEqual(listed(staging(folder)), [], 'a write that comes too late leaves nothing');
});

test('a nearly full disk takes no blocks, and one that is getting full is emptied without delay', async () => {
  for (const [freeRatio, expected] of [
    [1, 'direct'],
    [0.0001, 'staged'],
  ] as const) {
    const folder = newFolder();
    const objects = new MemoryObjectStore();
    const store = client(folder, objects, { delayMs: HOUR }, { freeRatio });
    await write(store, 1, data);
    assert.equal((await keysOf(objects)).length, expected === 'direct' ? 3 : 0);
    await store.close();
  }
});

test('more than may be staged is uploaded directly, and what is staged goes out early', async () => {
  const folder = newFolder();
  const objects = new MemoryObjectStore();
  const store = client(folder, objects, { delayMs: HOUR, maxBytes: 3 * (BLOCK + 4096) });
  const slices = [];
  for (let id = 1; id <= 8; id++) {
    slices.push(await write(store, id, pattern(BLOCK, id)));
    assert.ok(figure(store, 'staging_block_bytes') <= 3 * BLOCK);
  }
  await eventually(async () => (await keysOf(objects)).length >= 6, 'most of it is uploaded');
  for (const [index, slice] of slices.entries()) assert.ok((await readAll(store, slice)).equals(pattern(BLOCK, index + 1)));
  await store.close();
});

test('a store that is away for a while gets everything when it is back', async () => {
  const folder = newFolder();
  const objects = new MemoryObjectStore();
  let away = true;
  let asked = 0;
  const plan = (): ReturnType<FaultPlan> => {
    asked++;
    return away ? { kind: 'status', status: 503 } : undefined;
  };
  const store = client(folder, objects, {}, { plan });
  const slice = await write(store, 1, data);
  await eventually(() => asked >= 15, 'uploads have failed for good');
  assert.ok((await readAll(store, slice)).equals(data));
  assert.equal(figure(store, 'staging_blocks'), 3);
  const late = await store.drain(AbortSignal.timeout(300));
  assert.deepEqual(late, { blocks: 3, bytes: data.length }, 'a drain that ends early says what is left');
  away = false;
  assert.deepEqual(await store.drain(AbortSignal.timeout(60_000)), { blocks: 0, bytes: 0 });
  assert.equal((await keysOf(objects)).length, 3);
  await store.close();
});

test('after a drain nothing more is staged', async () => {
  const folder = newFolder();
  const objects = new MemoryObjectStore();
  const store = client(folder, objects, { delayMs: HOUR });
  await write(store, 1, data);
  await store.drain(AbortSignal.timeout(60_000));
  await write(store, 2, data);
  assert.equal((await keysOf(objects)).length, 6);
  await store.close();
});

test('a damaged staged block is never uploaded, never deleted, and is told of', async () => {
  const folder = newFolder();
  const objects = new MemoryObjectStore();
  const first = client(folder, objects, { delayMs: HOUR });
  await write(first, 1, data);
  await first.close();
  const path = join(staging(folder), names[1]!);
  const bytes = readFileSync(path);
  bytes[100]! ^= 1;
  writeFileSync(path, bytes);
  const second = client(folder, objects, {});
  await eventually(async () => (await keysOf(objects)).length === 2, 'the others are uploaded');
  assert.deepEqual(await second.drain(AbortSignal.timeout(200)), { blocks: 1, bytes: BLOCK });
  assert.ok(figure(second, 'staging_block_errors') > 0);
  assert.deepEqual(listed(staging(folder)), [names[1]]);
  await second.close();
});

test('blocks without checksums, and with the footer that the official client gives those of a tier, are uploaded whole', async () => {
  const folder = newFolder();
  const objects = new MemoryObjectStore();
  const plain = open(objects, { disk: { folder, freeRatio: 0, checksum: 'none' }, writeback: { delayMs: HOUR } });
  const slice = await write(plain, 1, data);
  await plain.close();
  assert.equal(statSync(join(staging(folder), names[0]!)).size, BLOCK);
  // Tier 1, padded so that it shows that there are no checksums: magic, length, msgpack.
  const footer = Buffer.from('4653000d82a47469657201a3706164c400', 'hex');
  const path = join(staging(folder), names[1]!);
  writeFileSync(path, Buffer.concat([data.subarray(BLOCK, 2 * BLOCK), footer]));
  assert.notEqual((statSync(path).size - BLOCK) % 4, 0);
  const next = client(folder, objects, {});
  assert.deepEqual(await next.drain(AbortSignal.timeout(60_000)), { blocks: 0, bytes: 0 });
  await next.close();
  assert.ok((await readAll(open(objects), slice)).equals(data));
});

test('names in the staging folder that are no blocks are left alone', async () => {
  const folder = newFolder();
  const objects = new MemoryObjectStore();
  const first = client(folder, objects, { delayMs: HOUR });
  await write(first, 1, data);
  await first.close();
  for (const name of ['README', '1_0_99999999', '0_0_5']) writeFileSync(join(staging(folder), name), 'x');
  const second = client(folder, objects, {});
  assert.deepEqual(await second.drain(AbortSignal.timeout(60_000)), { blocks: 0, bytes: 0 });
  assert.deepEqual(listed(staging(folder)), ['0_0_5', '1_0_99999999', 'README']);
  await second.close();
});

test('a writer that asks for it is uploaded directly', async () => {
  const folder = newFolder();
  const objects = new MemoryObjectStore();
  const store = client(folder, objects, { delayMs: HOUR });
  const writer = store.newSlice({ direct: true });
  writer.setId(9);
  writer.write(data, 0);
  await writer.finish();
  assert.equal((await keysOf(objects)).length, 3);
  await store.close();
});
