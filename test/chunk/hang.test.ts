/**
 * A disk of the cache that hangs: it neither answers nor fails. Here it is a FUSE file system whose server is stopped (SIGSTOP), so that every
 * call into it waits in the kernel, as with a network disk that has lost its server.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statfsSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { BoundedFiles, lanesOf } from '../../src/chunk/bounded-files.ts';
import { type BlockFiles, blockFiles } from '../../src/chunk/disk-files.ts';
import { BufferPool } from '../../src/chunk/pool.ts';
import type { ChunkStoreOptions } from '../../src/chunk/options.ts';
import type { ChunkStore } from '../../src/chunk/types.ts';
import { systemClock } from '../../src/lib/clock.ts';
import { MemoryObjectStore } from '../../src/object/memory.ts';
import { scratch, serve, until, whyNoFuse } from '../fuse/mounted.ts';
import { BLOCK, keysOf, open, pattern, readAll, UUID, write } from './tools.ts';

const skip = whyNoFuse() ?? false;
/** Longer than a server that is not stopped takes on a busy machine. */
const WAIT_MS = 2000;

/** Over a disk that can be stopped, and goes on at the end. */
async function onDisk(
  options: Partial<ChunkStoreOptions>,
  body: (world: {
    readonly store: ChunkStore;
    readonly objects: MemoryObjectStore;
    readonly folder: string;
    readonly stop: () => void;
    readonly resume: () => void;
  }) => Promise<void>,
): Promise<void> {
  await using folder = scratch();
  const target = join(folder.path, 'disk');
  await mkdir(target);
  await using server = await serve({ target });
  const objects = new MemoryObjectStore();
  const { disk, ...rest } = options;
  // The minute between two looks at a disk that failed is 60 ms.
  const failing = (): boolean => store.stats()['blockcache_failing_dirs'] === 1;
  const clock = {
    ...systemClock,
    timer: (ms: number, callback: () => void) => systemClock.timer(ms === 60_000 && failing() ? 60 : ms, callback),
  };
  const store: ChunkStore = open(objects, {
    memoryBytes: BLOCK,
    prefetch: 0,
    clock,
    disk: { folder: target, freeRatio: 0, scanIntervalMs: 0, waitMs: WAIT_MS, ...disk },
    ...rest,
  });
  const resume = (): void => void server.child.kill('SIGCONT');
  try {
    await store.ready;
    await body({ store, objects, folder: target, stop: () => void server.child.kill('SIGSTOP'), resume });
  } finally {
    resume();
    await store.close();
  }
}

/** Fails where something takes so long that it waits for the disk, not for the limit. */
async function inTime<T>(what: string, action: Promise<T>): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`${what} still waits for a disk that hangs`)), 60_000);
  try {
    return await Promise.race([action, late]);
  } finally {
    clearTimeout(timer);
  }
}

const blocksIn = (folder: string, below = 'raw'): string[] =>
  readdirSync(join(folder, UUID, below), { recursive: true, encoding: 'utf8' }).filter((name) => /\d+_\d+_\d+$/.test(name));

test(
  'reads come from the store when the disk of the cache hangs, writes go on, and the disk is used again when it answers',
  { skip },
  async () => {
    await onDisk({}, async ({ store, folder, stop, resume }) => {
      const data = pattern(20 * BLOCK, 1);
      const slice = await write(store, 1, data);
      await until('all of it comes from the disk', async () => {
        const misses = store.stats()['blockcache_miss'];
        assert.ok((await readAll(store, slice)).equals(data));
        return store.stats()['blockcache_miss'] === misses && blocksIn(folder).length === 20;
      });

      stop();
      const target = Buffer.alloc(slice.size);
      const half = Buffer.alloc(1000);
      // The kernel may have some of it for a while.
      await until('the disk is given up', async () => {
        await inTime('a read', Promise.all([store.read(slice, 0, target), store.read(slice, 5 * BLOCK + 777, half)]));
        assert.ok(target.equals(data));
        assert.ok(half.equals(data.subarray(5 * BLOCK + 777, 5 * BLOCK + 1777)));
        return store.stats()['blockcache_failing_dirs'] === 1;
      });
      // What is the caller's again stays as it is, whatever comes back from the disk.
      target.fill(0x77);
      const other = await inTime('a write', write(store, 2, pattern(3 * BLOCK, 2)));
      assert.ok((await inTime('a read', readAll(store, other))).equals(pattern(3 * BLOCK, 2)));
      await inTime('the file system of others', readFile('/proc/self/stat'));
      await inTime('a removal', store.remove(other));

      resume();
      await until('the disk is used again', () => store.stats()['blockcache_failing_dirs'] === 0);
      assert.ok(target.equals(Buffer.alloc(slice.size, 0x77)));
      await until('all of it comes from the disk again', async () => {
        const misses = store.stats()['blockcache_miss'];
        assert.ok((await readAll(store, slice)).equals(data));
        return store.stats()['blockcache_miss'] === misses && blocksIn(folder).length === 20;
      });
    });
  },
);

test('a client with a disk that hangs can end', { skip }, async () => {
  await onDisk({}, async ({ store, stop }) => {
    const slice = await write(store, 1, pattern(5 * BLOCK, 1));
    await readAll(store, slice);
    stop();
    await inTime('the end', store.close());
  });
});

test('what would be staged on a disk that hangs is uploaded, and leaves nothing staged', { skip }, async () => {
  await onDisk({ writeback: { delayMs: 3_600_000 } }, async ({ store, objects, folder, stop, resume }) => {
    const first = await write(store, 1, pattern(2 * BLOCK, 1));
    assert.deepEqual(await keysOf(objects), []);
    stop();
    await inTime('a write', write(store, 2, pattern(2 * BLOCK, 2)));
    assert.equal((await keysOf(objects)).length, 2);
    resume();
    await until('the disk is used again', () => store.stats()['blockcache_failing_dirs'] === 0);
    assert.ok((await readAll(store, first)).equals(pattern(2 * BLOCK, 1)));
    const left = await store.drain(AbortSignal.timeout(30_000));
    assert.deepEqual(left, { blocks: 0, bytes: 0 });
    assert.equal((await keysOf(objects)).length, 4);
    await until('nothing is staged', () => blocksIn(folder, 'rawstaging').length === 0);
  });
});

/** Operations that begin, and end when the test says so. */
function gated(): { readonly files: BlockFiles; readonly running: (() => void)[]; readonly closed: number[] } {
  const running: (() => void)[] = [];
  const closed: number[] = [];
  const gate = (): Promise<void> => new Promise((resolve) => running.push(resolve));
  const files: BlockFiles = {
    ...blockFiles,
    async read(_descriptor, target, at, length) {
      await gate();
      target.fill(1, at, at + length);
      return length;
    },
    async open() {
      await gate();
      return 4711;
    },
    async close(descriptor) {
      closed.push(descriptor);
    },
  };
  return { files, running, closed };
}

test('so many operations are under way at a time; one that hangs fails all, and what it brings at last goes nowhere', async () => {
  const { files, running, closed } = gated();
  let hangs = 0;
  const bounded = new BoundedFiles({
    files,
    lanes: { reads: 3, changes: 1 },
    waitMs: 50,
    onHang: () => hangs++,
    clock: systemClock,
  });
  const targets = Array.from({ length: 4 }, () => Buffer.alloc(100));
  const reads = targets.map((target) => bounded.read(1, target, 0, 100, 0));
  const opening = bounded.open('/anything');
  assert.equal(running.length, 3);
  running.shift()?.();
  assert.equal(await reads[0], 100);
  assert.ok(targets[0]?.equals(Buffer.alloc(100, 1)));
  await until('the next one is under way', () => running.length === 3);
  for (const result of await Promise.allSettled([...reads.slice(1), opening])) {
    assert.equal(result.status, 'rejected');
    assert.equal((result.reason as NodeJS.ErrnoException).code, 'ETIMEDOUT');
  }
  assert.equal(hangs, 1);
  assert.equal(running.length, 3, 'the fifth was never begun');
  await assert.rejects(bounded.stat('/'), { code: 'ETIMEDOUT' });
  await bounded.close(8);
  assert.deepEqual(closed, [], 'not while the disk does not answer');
  for (const end of running.splice(0)) end();
  await until('the disk answers', () => !bounded.hangs);
  for (const target of targets.slice(1)) assert.ok(target.equals(Buffer.alloc(100)), 'nobody wrote into it');
  await until('it is closed', () => closed.length === 1);
  assert.deepEqual(closed, [8]);
  assert.ok((await bounded.stat('/')).dev >= 0);
});

test('memory that is given up with a read that hangs is written to without a copy, and is not used again', async () => {
  const { files, running } = gated();
  const bounded = new BoundedFiles({ files, lanes: lanesOf(1), waitMs: 20, onHang: () => undefined, clock: systemClock });
  const pool = new BufferPool({ maxBytes: 1 << 20 });
  const block = pool.acquire(8192);
  await assert.rejects(bounded.read(1, block.data, 0, 100, 0, true), { code: 'ETIMEDOUT' });
  block.giveUp();
  assert.equal(pool.usedBytes + pool.busyBytes + pool.freeBytes, 0, 'it counts no more');
  const next = pool.acquire(8192);
  next.data.fill(0);
  running.shift()?.();
  await until('the disk answers', () => !bounded.hangs);
  assert.ok(next.data.equals(Buffer.alloc(8192)), 'what came too late went elsewhere');
  assert.ok(block.buffer.subarray(0, 100).equals(Buffer.alloc(100, 1)), 'into what was given up');
});

test('files that were opened too late are closed', async () => {
  const { files, running, closed } = gated();
  const bounded = new BoundedFiles({ files, lanes: lanesOf(1), waitMs: 20, onHang: () => undefined, clock: systemClock });
  await assert.rejects(bounded.open('/anything'), { code: 'ETIMEDOUT' });
  running.shift()?.();
  await until('it is closed', () => closed.length === 1);
  assert.deepEqual(closed, [4711]);
});

test('all directories together leave threads of the pool to others', () => {
  assert.deepEqual(lanesOf(1, 12), { reads: 7, changes: 3 });
  assert.deepEqual(lanesOf(1, 4), { reads: 2, changes: 1 });
  for (const threads of [4, 12, 64])
    for (const directories of [1, 2, 3]) {
      const { reads, changes } = lanesOf(directories, threads);
      assert.ok(reads >= 1 && changes >= 1);
      if (threads >= 12) assert.ok((reads + changes) * directories < threads);
    }
});

test('files of other machines are not opened on the main thread', async () => {
  const own = new BoundedFiles({
    files: blockFiles,
    lanes: lanesOf(1),
    waitMs: 10_000,
    onHang: () => undefined,
    clock: systemClock,
  });
  const path = import.meta.filename;
  readFileSync(path);
  assert.equal(own.openNow(path), undefined, 'the kind of the file system is not known yet');
  await own.space(path);
  const descriptor = own.openNow(path);
  if (![0xef53, 0x58465342, 0x9123683e, 0x794c7630].includes(statfsSync(path).type)) return;
  assert.ok(descriptor !== undefined && own.sizeNow(descriptor) > 1000);
  await own.close(descriptor);
  const far = new BoundedFiles({
    // FUSE.
    files: { ...blockFiles, space: async (asked) => ({ ...(await blockFiles.space(asked)), type: 0x65735546 }) },
    lanes: lanesOf(1),
    waitMs: 10_000,
    onHang: () => undefined,
    clock: systemClock,
  });
  await far.space(path);
  assert.equal(far.openNow(path), undefined);
});
