/** The disk cache serves what it has, survives what happens to disks, and never fails a read or a write. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { DiskCacheSettings } from '../../src/chunk/options.ts';
import type { ChunkStore, SliceId } from '../../src/chunk/types.ts';
import { MemoryObjectStore } from '../../src/object/memory.ts';
import { BLOCK, open, pattern, readAll, UUID, write } from './tools.ts';

const root = mkdtempSync(join(tmpdir(), 'juicepod-disk-'));
after(() => rmSync(root, { recursive: true, force: true }));
let folders = 0;
const newFolder = (): string => join(root, String(folders++));

const objects = new MemoryObjectStore();
const writer = open(objects);
const data = pattern(3 * BLOCK + 1000, 1);
const slice = await write(writer, 1, data);

/** Memory for one block, so that reads come from the disk. */
function cached(folder: string, settings: Partial<DiskCacheSettings> = {}, away = false): ChunkStore {
  return open(objects, { memoryBytes: BLOCK, prefetch: 0, disk: { folder, freeRatio: 0, ...settings } }, () =>
    away ? { kind: 'status', status: 403 } : undefined,
  );
}

async function filled(settings: Partial<DiskCacheSettings> = {}): Promise<string> {
  const folder = newFolder();
  const store = cached(folder, settings);
  assert.ok(data.equals(await readAll(store, slice)));
  await store.close();
  return folder;
}

const blocks = (folder: string): string => join(folder, UUID, 'raw/chunks/0/0');
const block = (folder: string, index: number): string =>
  join(blocks(folder), `1_${index}_${Math.min(BLOCK, data.length - index * BLOCK)}`);

function flip(path: string, at: number): void {
  const bytes = readFileSync(path);
  bytes[at]! ^= 1;
  writeFileSync(path, bytes);
}

/** Waits for a state of the world; a minute is for ever. */
async function eventually(state: () => boolean, what: string): Promise<void> {
  for (let tried = 0; tried < 6000 && !state(); tried++) await new Promise((resolve) => setTimeout(resolve, 10));
  assert.ok(state(), what);
}

async function reads(store: ChunkStore, from: SliceId, offset: number, length: number): Promise<Buffer> {
  const target = Buffer.alloc(length);
  if (!store.readCached(from, offset, target)) await store.read(from, offset, target);
  return target;
}

test('what was read once is served from the disk after a restart, in any ranges, without the store', async () => {
  const folder = await filled();
  const store = cached(folder, {}, true);
  for (const [offset, length] of [
    [0, 1],
    [32 * 1024 - 1, 2],
    [BLOCK - 5, 10],
    [BLOCK + 7, 40_000],
    [3 * BLOCK, 1000],
    [data.length - 1, 1],
    [0, data.length],
  ] as const)
    for (let time = 0; time < 2; time++)
      assert.ok(
        (await reads(store, slice, offset, length)).equals(data.subarray(offset, offset + length)),
        `${length} at ${offset}`,
      );
  const target = Buffer.alloc(4096);
  assert.equal(store.readCached(slice, BLOCK + 4096, target), true, 'what is in the page cache needs no waiting');
  assert.ok(target.equals(data.subarray(BLOCK + 4096, BLOCK + 8192)));
  await store.close();
});

for (const [what, spoil] of Object.entries({
  'has another byte': (path: string) => flip(path, 40_000),
  'has another checksum': (path: string) => flip(path, BLOCK + 5),
  'was cut off': (path: string) => truncateSync(path, 30_000),
  'lost part of its checksums': (path: string) => truncateSync(path, BLOCK + 4),
  'is gone': (path: string) => rmSync(path),
  'is empty': (path: string) => truncateSync(path, 0),
  'is a directory': (path: string) => (rmSync(path), mkdirSync(path)),
}))
  test(`a cached block that ${what} is read from the store instead`, async () => {
    const folder = await filled();
    spoil(block(folder, 1));
    const store = cached(folder);
    for (let time = 0; time < 3; time++) assert.ok((await reads(store, slice, 0, data.length)).equals(data));
    await store.close();
    if (what === 'is a directory') return;
    assert.equal(statSync(block(folder, 1)).size, BLOCK + 8, 'it was cached anew');
  });

test('a block that is spoiled or removed while it is open is noticed or served, never wrong', async () => {
  const folder = await filled();
  const store = cached(folder);
  await reads(store, slice, 0, 100);
  rmSync(join(folder, UUID), { recursive: true });
  for (let time = 0; time < 2; time++) assert.ok((await reads(store, slice, 0, data.length)).equals(data));
  await store.close();
});

test('each level of verification sees what it promises to see', async () => {
  const wrong = 40_000; // in the second piece of the second block
  const seen = async (checksum: DiskCacheSettings['checksum'], offset: number, length: number): Promise<boolean> => {
    const folder = await filled();
    flip(block(folder, 1), wrong);
    const store = cached(folder, checksum === undefined ? {} : { checksum });
    const right = (await reads(store, slice, BLOCK + offset, length)).equals(
      data.subarray(BLOCK + offset, BLOCK + offset + length),
    );
    await store.close();
    return right;
  };
  assert.equal(await seen('none', 0, BLOCK), false);
  assert.equal(await seen('full', 0, BLOCK), true);
  assert.equal(await seen('full', 1, BLOCK - 1), false);
  assert.equal(await seen('shrink', 1000, BLOCK - 1000), true);
  assert.equal(await seen('shrink', 33_000, 10_000), false);
  assert.equal(await seen('extend', 39_999, 2), true);
  assert.equal(await seen(undefined, 39_999, 2), true);
});

test('files without checksums are served as they are', async () => {
  const folder = await filled({ checksum: 'none' });
  assert.equal(statSync(block(folder, 0)).size, BLOCK);
  const store = cached(folder, {}, true);
  assert.ok((await reads(store, slice, 0, data.length)).equals(data));
  await store.close();
});

test('the directory stays within its size, and within its number of blocks', async () => {
  const big = await write(writer, 2, pattern(40 * BLOCK, 2));
  for (const [settings, most] of [
    [{ maxBytes: 10 * (BLOCK + 4096) }, 10],
    [{ maxItems: 7 }, 7],
  ] as const) {
    const folder = newFolder();
    const store = cached(folder, settings);
    for (let time = 0; time < 2; time++) assert.ok((await readAll(store, big)).equals(pattern(40 * BLOCK, 2)));
    await store.close();
    const left = readdirSync(blocks(folder)).length;
    assert.ok(left <= most && left > most / 2, `${left} blocks`);
    const smaller = cached(folder, { maxItems: 3 });
    await eventually(() => readdirSync(blocks(folder)).length <= 3, 'an earlier, larger cache is cut down at start');
    await smaller.close();
  }
});

test('a full disk keeps its share free: nothing is cached there', async () => {
  const folder = newFolder();
  const store = cached(folder, { freeRatio: 0.9999 });
  assert.ok((await readAll(store, slice)).equals(data));
  await store.close();
  assert.equal(existsSync(blocks(folder)), false);
});

test('leftovers of a crash are removed when they are old, and young ones are left to their writers', async () => {
  const folder = await filled();
  const old = join(blocks(folder), '9_0_10.123.tmp');
  const young = join(blocks(folder), '9_1_10.tmp');
  const foreign = join(blocks(folder), 'README');
  for (const path of [old, young, foreign]) writeFileSync(path, 'x');
  utimesSync(old, 1000, 1000);
  const store = cached(folder, {}, true);
  await eventually(() => !existsSync(old), 'the old leftover is removed');
  await store.close();
  assert.equal(existsSync(young), true);
  assert.equal(existsSync(foreign), true);
});

test('a removed slice leaves the disk too', async () => {
  const folder = newFolder();
  const store = cached(folder);
  const gone = await write(store, 77, pattern(2 * BLOCK, 7));
  await readAll(store, gone);
  await store.remove(gone);
  await store.close();
  assert.deepEqual(existsSync(blocks(folder)) ? readdirSync(blocks(folder)) : [], []);
});

test('short blocks that were written are on the disk at once, whole ones only where it was asked for', async () => {
  for (const largeWrites of [false, true]) {
    const folder = newFolder();
    const store = cached(folder, { largeWrites });
    await write(store, 5, pattern(BLOCK + 10, 5));
    await store.close();
    assert.deepEqual(readdirSync(blocks(folder)).toSorted(), [...(largeWrites ? [`5_0_${BLOCK}`] : []), '5_1_10']);
  }
});

test('a cache directory that cannot be made or written does not matter', async () => {
  const file = newFolder();
  writeFileSync(file, 'a file');
  const locked = newFolder();
  mkdirSync(join(locked, UUID), { recursive: true });
  writeFileSync(join(locked, UUID, 'raw'), 'a file where a directory should be');
  for (const folder of [file, join(file, 'below'), locked]) {
    const store = cached(folder);
    for (let time = 0; time < 5; time++) assert.ok((await readAll(store, slice)).equals(data), folder);
    const own = await write(store, 1000, pattern(100, 1));
    assert.ok((await readAll(store, own)).equals(pattern(100, 1)));
    await store.close();
  }
});

/** A small file system of its own, where this machine lets us. */
function mountTmpfs(folder: string, size: string): boolean {
  mkdirSync(folder);
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', folder], { stdio: 'pipe' });
    return true;
  } catch {
    return false;
  }
}

test('a disk that is really full is no error, and what fits is served', async (context) => {
  const folder = newFolder();
  if (!mountTmpfs(folder, '512k')) return context.skip('a tmpfs cannot be mounted here');
  try {
    const store = cached(folder);
    const big = await write(writer, 3, pattern(30 * BLOCK, 3));
    for (let time = 0; time < 3; time++) assert.ok((await readAll(store, big)).equals(pattern(30 * BLOCK, 3)));
    await store.close();
    assert.ok((store.stats()['blockcache_drops'] ?? 0) > 0, 'blocks were turned away');
    const names = readdirSync(join(folder, UUID), { recursive: true, encoding: 'utf8' });
    assert.deepEqual(
      names.filter((name) => name.endsWith('.tmp')),
      [],
      'no temporary files are left',
    );
    const again = cached(folder);
    assert.ok((await readAll(again, big)).equals(pattern(30 * BLOCK, 3)));
    await again.close();
  } finally {
    execFileSync('umount', [folder]);
  }
});

test('a directory that became read-only serves what it has', async (context) => {
  const folder = newFolder();
  if (!mountTmpfs(folder, '2m')) return context.skip('a tmpfs cannot be mounted here');
  try {
    const first = cached(folder);
    await readAll(first, slice);
    await first.close();
    execFileSync('mount', ['-o', 'remount,ro', folder]);
    chmodSync(root, 0o700);
    const store = cached(folder, {}, true);
    assert.ok((await readAll(store, slice)).equals(data));
    await store.close();
  } finally {
    execFileSync('umount', [folder]);
  }
});
