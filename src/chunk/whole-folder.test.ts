import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { crc32c } from '../lib/crc32c.ts';
import type { Ino } from '../lib/int64.ts';
import { WholeFolder, type WholeFolderOptions } from './whole-folder.ts';

const signal = new AbortController().signal;

function scratch(): { readonly path: string } & Disposable {
  const path = mkdtempSync(join(tmpdir(), 'juicepod-whole-'));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

const optionsOf = (root: string, more: Partial<WholeFolderOptions> = {}): WholeFolderOptions => ({
  root,
  mount: '/mnt',
  maxBytes: 1000,
  freeRatio: 0,
  ...more,
});

async function opened(root: string, more: Partial<WholeFolderOptions> = {}): Promise<WholeFolder> {
  const folder = await WholeFolder.open(optionsOf(root, more));
  assert.ok(folder);
  return folder;
}

const make = (folder: WholeFolder, ino: number, data: Buffer, key = 'a-1'): Promise<boolean> =>
  folder.make(ino as Ino, data.length, async (write) => {
    await write(data, 0);
    return { key, crc: crc32c(data) };
  });

test('a file is found in the state that it was made in, and in no other', async () => {
  using work = scratch();
  const folder = await opened(work.path);
  const data = Buffer.alloc(300, 7);
  assert.equal(await make(folder, 5, data), true);
  const found = folder.find(5 as Ino, 'a-1');
  assert.deepEqual(readFileSync(found?.path ?? ''), data);
  assert.equal(folder.find(5 as Ino, 'a-2'), undefined);
  assert.equal(folder.find(6 as Ino, 'a-1'), undefined);
  assert.equal(await make(folder, 5, Buffer.alloc(200, 8), 'a-2'), true);
  assert.equal(folder.find(5 as Ino, 'a-1'), undefined);
  assert.equal(folder.bytes, 200);
  folder.close();
});

test('what comes to nothing, or fails, leaves nothing', async () => {
  using work = scratch();
  const folder = await opened(work.path);
  assert.equal(await folder.make(5 as Ino, 100, () => Promise.resolve(undefined)), false);
  await assert.rejects(
    folder.make(5 as Ino, 100, () => Promise.reject(new Error('no block'))),
    /no block/,
  );
  assert.equal(folder.bytes, 0);
  const [slot = ''] = readdirSync(join(work.path, 'whole'));
  assert.deepEqual(readdirSync(join(work.path, 'whole', slot)), []);
  folder.close();
});

test('the least recently used goes for room, never one that is being read', async () => {
  using work = scratch();
  const folder = await opened(work.path);
  for (const ino of [1, 2, 3]) await make(folder, ino, Buffer.alloc(300));
  folder.pin(1 as Ino, true);
  folder.find(2 as Ino, 'a-1');
  assert.equal(await make(folder, 4, Buffer.alloc(300)), true);
  assert.deepEqual(
    [1, 2, 3, 4].map((ino) => folder.find(ino as Ino, 'a-1') !== undefined),
    [true, true, false, true],
  );
  assert.ok(folder.bytes <= 1000);
  assert.equal(await make(folder, 5, Buffer.alloc(1001)), false);
  for (const ino of [2, 4]) folder.pin(ino as Ino, true);
  assert.equal(await make(folder, 6, Buffer.alloc(300)), false);
  folder.close();
});

test('a disk that has no more than its share free takes no file, and gives back those that it has', async () => {
  using work = scratch();
  const first = await opened(work.path);
  await make(first, 1, Buffer.alloc(100));
  first.close();
  const folder = await opened(work.path, { freeRatio: 0.999_999 });
  assert.equal(folder.count, 0);
  assert.equal(await make(folder, 2, Buffer.alloc(100)), false);
  folder.close();
});

test('the next client uses what was left once its sum is right, and drops what is damaged or was not finished', async () => {
  using work = scratch();
  const first = await opened(work.path);
  for (const ino of [1, 2]) await make(first, ino, Buffer.alloc(300, ino));
  const damaged = first.find(2 as Ino, 'a-1')?.path ?? '';
  writeFileSync(damaged, Buffer.alloc(300, 9));
  writeFileSync(join(damaged, '../7.tmp'), 'x');
  writeFileSync(join(damaged, '../8.live'), 'x');
  writeFileSync(join(damaged, '../something'), 'x');
  first.close();
  const folder = await opened(work.path);
  assert.equal(folder.count, 2);
  assert.equal(folder.find(1 as Ino, 'a-1'), undefined, 'not before it was verified');
  assert.equal(await folder.verify(1 as Ino, 'a-1', signal), true);
  assert.ok(folder.find(1 as Ino, 'a-1'));
  assert.equal(await folder.verify(2 as Ino, 'a-1', signal), false);
  assert.equal(folder.counters.damaged, 1);
  assert.equal(folder.count, 1);
  const left = readdirSync(join(damaged, '..')).toSorted();
  assert.equal(left.length, 2);
  assert.ok(left.includes('something'), 'what is not ours stays');
  folder.close();
});

test('a file that is changed in place has no state, is there for its readers and a client that follows, and goes with the last', async () => {
  using work = scratch();
  const first = await opened(work.path);
  await make(first, 1, Buffer.alloc(300));
  first.pin(1 as Ino, true);
  await first.rekey(1 as Ino, 'a-2');
  assert.ok(first.find(1 as Ino, 'a-2'));
  await assert.rejects(first.change(1 as Ino, 1001), /no room/);
  assert.ok(first.find(1 as Ino, 'a-2'), 'it is as it was');
  const path = await first.change(1 as Ino, 500);
  assert.match(path, /1\.live$/);
  assert.equal(first.find(1 as Ino, 'a-2'), undefined);
  assert.equal(first.bytes, 500);
  assert.equal(await make(first, 1, Buffer.alloc(10)), false, 'its readers have this one');
  first.close();
  const folder = await opened(work.path, { held: [1 as Ino] });
  assert.equal(folder.get(1 as Ino)?.path, path);
  folder.pin(1 as Ino, false);
  assert.equal(folder.get(1 as Ino), undefined);
  await assert.rejects(folder.change(1 as Ino, 500), /no whole file/);
  folder.close();
});

test('two clients of one mount do not share a folder; those of two mounts have one each', async () => {
  using work = scratch();
  const first = await opened(work.path);
  assert.equal(await WholeFolder.open(optionsOf(work.path)), undefined);
  const other = await opened(work.path, { mount: '/other' });
  await make(first, 1, Buffer.alloc(10));
  assert.equal(other.get(1 as Ino), undefined);
  other.close();
  first.close();
  (await opened(work.path)).close();
});

test('what mounts have left that are gone for an hour is dropped', async () => {
  using work = scratch();
  const gone = await opened(work.path, { mount: '/gone' });
  await make(gone, 1, Buffer.alloc(10));
  const used = await opened(work.path, { mount: '/used' });
  gone.close();
  const later = { now: () => Date.now() + 2 * 3_600_000 } as NonNullable<WholeFolderOptions['clock']>;
  const folder = await opened(work.path, { clock: later });
  assert.equal(readdirSync(join(work.path, 'whole')).length, 2);
  used.close();
  folder.close();
});
