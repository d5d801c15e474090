/** A cache in several directories: what lies where, and what happens when one of them fails. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, test } from 'node:test';
import { type BlockFiles, blockFiles } from '../../src/chunk/disk-files.ts';
import { HashRing } from '../../src/chunk/hash-ring.ts';
import type { ChunkStoreOptions, DiskCacheSettings } from '../../src/chunk/options.ts';
import type { ChunkStore } from '../../src/chunk/types.ts';
import { systemClock } from '../../src/lib/clock.ts';
import type { Logger } from '../../src/lib/log.ts';
import { MemoryObjectStore } from '../../src/object/memory.ts';
import { BLOCK, hasty, keysOf, open, pattern, readAll, UUID, write } from './tools.ts';

const root = mkdtempSync(join(tmpdir(), 'juicepod-directories-'));
after(() => rmSync(root, { recursive: true, force: true }));
let folders = 0;
const newFolders = (count: number): string[] => Array.from({ length: count }, () => join(root, String(folders++)));

const objects = new MemoryObjectStore();
const seed = open(objects);
const data = pattern(60 * BLOCK, 1);
const slice = await write(seed, 1, data);
await seed.close();

/** A minute of a fault is some hundredths of a second here. */
const brief = { ...hasty, timer: (ms: number, callback: () => void) => systemClock.timer(ms / 1000, callback) };

/** That a disk hangs is for other tests: ten seconds by that clock. */
const LONG_MS = 10_000_000;

/** Memory for one block, so that reads come from the disks. */
function cached(
  folder: string | readonly string[],
  settings: Partial<DiskCacheSettings> = {},
  options: Partial<ChunkStoreOptions> = {},
): ChunkStore {
  return open(objects, {
    memoryBytes: BLOCK,
    prefetch: 0,
    clock: brief,
    disk: { folder, freeRatio: 0, scanIntervalMs: 0, waitMs: LONG_MS, ...settings },
    ...options,
  });
}

/** Leaves all blocks in these directories. */
async function fillCache(folder: string | readonly string[]): Promise<void> {
  const store = cached(folder);
  await readAll(store, slice);
  await store.close();
}

/** The same without a store: what is read lies in the cache. */
const alone = (folder: string | readonly string[], settings: Partial<DiskCacheSettings> = {}): ChunkStore =>
  open(
    objects,
    { memoryBytes: BLOCK, prefetch: 0, clock: brief, disk: { folder, freeRatio: 0, waitMs: LONG_MS, ...settings } },
    () => ({
      kind: 'status',
      status: 403,
    }),
  );

function lines(): { readonly logger: Logger; readonly said: { readonly level: string; readonly text: string }[] } {
  const said: { level: string; text: string }[] = [];
  const at = (level: string) => (text: string, fields?: object) =>
    void said.push({ level, text: `${text} ${JSON.stringify(fields ?? {})}` });
  return { said, logger: { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') } as unknown as Logger };
}

/** Waits for a state of the world; a minute is for ever. */
async function eventually(state: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (let tried = 0; tried < 6000; tried++) {
    if (await state()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.fail(what);
}

function blocksIn(folder: string, below = 'raw'): string[] {
  const path = join(folder, UUID, below);
  if (!existsSync(path)) return [];
  const names = readdirSync(path, { recursive: true, encoding: 'utf8' });
  return names.filter((name) => /\d+_\d+_\d+$/.test(name));
}

const failing = (code: string): NodeJS.ErrnoException => Object.assign(new Error(code), { code });

/** The file system, in which what is done below a folder fails as `fault` says. */
function faulty(fault: (operation: keyof BlockFiles, path: string) => string | undefined): BlockFiles {
  const opened = new Map<number, string>();
  const check = (operation: keyof BlockFiles, path: string): void => {
    const code = fault(operation, path);
    if (code !== undefined) throw failing(code);
  };
  const checked =
    <A extends readonly unknown[], T>(operation: keyof BlockFiles, action: (path: string, ...rest: A) => Promise<T>) =>
    async (path: string, ...rest: A): Promise<T> => {
      check(operation, path);
      return action(path, ...rest);
    };
  return {
    ...blockFiles,
    write: checked('write', (path, parts: readonly Uint8Array[], mode: number) => blockFiles.write(path, parts, mode)),
    rename: checked('rename', (from, to: string) => blockFiles.rename(from, to)),
    link: checked('link', (from, to: string) => blockFiles.link(from, to)),
    unlink: checked('unlink', (path) => blockFiles.unlink(path)),
    stat: checked('stat', (path) => blockFiles.stat(path)),
    list: checked('list', (path) => blockFiles.list(path)),
    space: checked('space', (path) => blockFiles.space(path)),
    async open(path) {
      check('open', path);
      const descriptor = await blockFiles.open(path);
      opened.set(descriptor, path);
      return descriptor;
    },
    openNow(path) {
      if (fault('open', path) !== undefined) return undefined;
      const descriptor = blockFiles.openNow(path);
      if (descriptor !== undefined) opened.set(descriptor, path);
      return descriptor;
    },
    async read(descriptor, ...rest) {
      check('read', opened.get(descriptor) ?? '');
      return blockFiles.read(descriptor, ...rest);
    },
    readNow(descriptor, ...rest) {
      check('read', opened.get(descriptor) ?? '');
      return blockFiles.readNow(descriptor, ...rest);
    },
  };
}

test('each block lies in the directory that JuiceFS would put it in, whatever the order of the directories', async () => {
  const [a = '', b = '', c = ''] = newFolders(3);
  for (const order of [
    [a, b, c],
    [c, a, b],
  ]) {
    const store = cached(order);
    assert.ok((await readAll(store, slice)).equals(data));
    await store.close();
  }
  const all = [a, b, c];
  const ring = new HashRing(all.map((folder) => readFileSync(join(folder, UUID, '.lock'), 'utf8')));
  for (const [at, folder] of all.entries()) {
    const names = blocksIn(folder);
    assert.ok(names.length > 5, `${names.length} of 60 blocks in ${folder}`);
    for (const name of names) assert.equal(ring.owner(name), at, name);
  }
  assert.equal(all.flatMap((folder) => blocksIn(folder)).length, 60, 'each block lies in one directory');
  const restarted = alone([b, c, a]);
  assert.ok((await readAll(restarted, slice)).equals(data));
  await restarted.close();
});

test('what another set of directories has left is found in whichever it lies', async () => {
  const [a = '', b = ''] = newFolders(2);
  await fillCache(a);
  const both = alone([a, b]);
  await eventually(() => both.stats()['blockcache_blocks'] === 60, 'the scan finds all blocks');
  assert.ok((await readAll(both, slice)).equals(data));
  await both.remove({ id: 1, size: 0 });
  await both.close();
});

test('size and number are those of all directories together', async () => {
  for (const settings of [{ maxBytes: 20 * (BLOCK + 4096) }, { maxItems: 20 }]) {
    const all = newFolders(4);
    const store = cached(all, settings);
    for (let time = 0; time < 2; time++) assert.ok((await readAll(store, slice)).equals(data));
    await store.close();
    const left = all.map((folder) => blocksIn(folder).length);
    for (const count of left) assert.ok(count <= 5 && count > 0, `blocks in each: ${left.join(', ')}`);
  }
});

test('a removed slice leaves all directories, one that is evicted too', async () => {
  const all = newFolders(3);
  const store = cached(all, { largeWrites: true });
  const gone = await write(store, 77, pattern(10 * BLOCK, 7));
  await readAll(store, gone);
  await readAll(store, slice);
  await eventually(() => all.flatMap((folder) => blocksIn(folder)).length === 70, 'all are cached');
  for (let index = 0; index < 60; index++) store.evict(slice, index);
  await store.remove(gone);
  await store.close();
  assert.deepEqual(
    all.flatMap((folder) => blocksIn(folder)),
    [],
  );
});

test('of two blocks that are as likely the one not used is dropped; with none, nothing is', async () => {
  for (const eviction of ['lru', 'none'] as const) {
    const [folder = ''] = newFolders(1);
    const store = cached(folder, { eviction, maxItems: 10 });
    const target = Buffer.alloc(BLOCK);
    const block = async (index: number): Promise<void> => {
      await store.read(slice, index * BLOCK, target);
      assert.ok(target.equals(data.subarray(index * BLOCK, (index + 1) * BLOCK)));
      await eventually(async () => (await store.warm(slice, index)) || eviction === 'none', 'it is cached');
    };
    for (let index = 0; index < 10; index++) await block(index);
    await block(0);
    await block(3);
    for (let index = 20; index < 28; index++) await block(index);
    const left = blocksIn(folder)
      .map((name) => Number(/_(\d+)_/.exec(basename(name))?.[1]))
      .toSorted((one, other) => one - other);
    await store.close();
    assert.deepEqual(left, eviction === 'lru' ? [0, 3, 20, 21, 22, 23, 24, 25, 26, 27] : [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  }
});

test('lru goes on over a restart with what was used before', async () => {
  const [folder = ''] = newFolders(1);
  await fillCache(folder);
  // Used a day ago, but for every tenth.
  for (const name of blocksIn(folder)) {
    const index = Number(/_(\d+)_/.exec(basename(name))?.[1]);
    const at = Date.now() / 1000 - (index % 10 === 0 ? 60 : 86_400);
    utimesSync(join(folder, UUID, 'raw', name), at, at);
  }
  const second = cached(folder, { eviction: 'lru', maxItems: 6 });
  await eventually(() => blocksIn(folder).length <= 6, 'the cache is cut down');
  await second.close();
  assert.deepEqual(
    blocksIn(folder)
      .map((name) => Number(/_(\d+)_/.exec(basename(name))?.[1]) % 10)
      .filter((rest) => rest !== 0),
    [],
  );
});

test('blocks that were not used for long are dropped, those that are used stay', async () => {
  const [folder = ''] = newFolders(1);
  await fillCache(folder);
  for (const name of blocksIn(folder)) {
    const at = Date.now() / 1000 - 7200;
    utimesSync(join(folder, UUID, 'raw', name), at, at);
  }
  const store = cached(folder, { expireMs: 3_600_000 });
  const target = Buffer.alloc(10);
  await store.read(slice, 5 * BLOCK, target);
  await eventually(() => blocksIn(folder).length === 1, 'what is old goes');
  assert.deepEqual(
    blocksIn(folder).map((name) => basename(name)),
    [`1_5_${BLOCK}`],
  );
  await store.close();
});

test('what others put there is found, and what they take away is forgotten', async () => {
  const [folder = '', other = ''] = newFolders(2);
  await fillCache(other);
  // A thousandth of what is asked for.
  const store = alone(folder, { scanIntervalMs: 20_000 });
  await eventually(() => existsSync(join(folder, UUID, '.lock')), 'it is made');
  rmSync(join(folder, UUID, 'raw'), { recursive: true });
  renameSync(join(other, UUID, 'raw'), join(folder, UUID, 'raw'));
  await eventually(() => store.stats()['blockcache_blocks'] === 60, 'they are found');
  assert.ok((await readAll(store, slice)).equals(data));
  rmSync(join(folder, UUID, 'raw/chunks'), { recursive: true });
  await eventually(() => store.stats()['blockcache_bytes'] === store.stats()['store_cache_size_bytes'], 'they are forgotten');
  await store.close();
});

test('reads go on while a directory is scanned', async () => {
  const [folder = ''] = newFolders(1);
  await fillCache(folder);
  const gate = Promise.withResolvers<void>();
  const files: BlockFiles = {
    ...blockFiles,
    async list(path) {
      await gate.promise;
      return blockFiles.list(path);
    },
  };
  const store = alone(folder, { files });
  assert.ok((await readAll(store, slice)).equals(data), 'without the store, and before anything was found');
  gate.resolve();
  await store.close();
});

test('a wrong byte on the disk is noticed, deleted and fetched again', async () => {
  const [folder = ''] = newFolders(1);
  const store = cached(folder);
  await readAll(store, slice);
  await eventually(() => blocksIn(folder).length === 60, 'all are cached');
  await store.close();
  const path = join(folder, UUID, 'raw/chunks/0/0', `1_7_${BLOCK}`);
  const right = readFileSync(path);
  const wrong = Buffer.from(right);
  wrong[40_000]! ^= 1;
  writeFileSync(path, wrong);
  const { logger, said } = lines();
  const again = cached(folder, {}, { logger });
  assert.ok((await readAll(again, slice)).equals(data));
  await eventually(() => existsSync(path) && readFileSync(path).equals(right), 'it is cached anew');
  assert.equal(again.stats()['blockcache_corrupt'], 1);
  assert.equal(said.filter(({ level }) => level === 'warn').length, 1);
  await again.close();
});

for (const [what, operations, code] of [
  ['cannot be read', ['open', 'read'], 'EIO'],
  ['cannot be written', ['write'], 'EIO'],
  ['cannot be renamed in', ['rename'], 'EIO'],
  ['is read-only', ['write', 'rename', 'unlink'], 'EROFS'],
  ['is full', ['write'], 'ENOSPC'],
  ['does not tell how full it is', ['space'], 'EIO'],
  ['cannot be listed', ['list'], 'EIO'],
  ['fails in every way', ['open', 'read', 'write', 'rename', 'unlink', 'list', 'space', 'stat'], 'EIO'],
] as const)
  test(`a directory that ${what} (${code}) fails no read; the others do its part, and when it works again it has its own`, async () => {
    const [good = '', bad = ''] = newFolders(2);
    await fillCache([good, bad]);
    const own = blocksIn(bad).length;
    assert.ok(own > 5);
    let broken = true;
    const files = faulty((operation, path) =>
      broken && path.startsWith(bad) && (operations as readonly string[]).includes(operation) ? code : undefined,
    );
    const { logger, said } = lines();
    const store = cached([good, bad], { files }, { logger });
    const other = await write(store, 5, pattern(40 * BLOCK, 5));
    for (let time = 0; time < 4; time++) {
      assert.ok((await readAll(store, slice)).equals(data));
      assert.ok((await readAll(store, other)).equals(pattern(40 * BLOCK, 5)));
    }
    // How full it is, the other one may have been told: they are on one file system.
    if (code !== 'ENOSPC' && !['cannot be listed', 'does not tell how full it is'].includes(what)) {
      // It is tried again all the time: seen as failing at some moment.
      await eventually(async () => {
        await readAll(store, slice);
        await readAll(store, other);
        return store.stats()['blockcache_failing_dirs'] === 1;
      }, 'it is counted');
      assert.ok((store.stats()['blockcache_io_errors'] ?? 0) > 0);
      assert.ok(said.some(({ text }) => text.includes('a cache directory fails')));
      for (let time = 0; time < 3; time++) assert.ok((await readAll(store, other)).equals(pattern(40 * BLOCK, 5)));
      await eventually(async () => {
        await readAll(store, other);
        return blocksIn(good).filter((name) => basename(name).startsWith('5_')).length === 40;
      }, 'the other directory has taken over what belongs there');
    }
    const [left, again] = ['a cache directory fails', 'works again'].map(
      (what) => said.filter(({ text }) => text.includes(what)).length,
    );
    // A probe may succeed where what failed is not what is probed.
    assert.ok((left ?? 0) <= 2 + 2 * (again ?? 0), `left ${left} times, used again ${again} times`);
    broken = false;
    await eventually(async () => {
      await readAll(store, slice);
      return store.stats()['blockcache_failing_dirs'] === 0;
    }, 'it is used again');
    const more = await write(store, 6, pattern(30 * BLOCK, 6));
    await eventually(async () => {
      await readAll(store, more);
      return blocksIn(bad).some((name) => basename(name).startsWith('6_'));
    }, 'blocks go there again');
    await store.close();
  });

test('a directory that is deleted under the client is made anew', async () => {
  const [a = '', b = ''] = newFolders(2);
  const { logger, said } = lines();
  const store = cached([a, b], {}, { logger, clock: { ...brief, monotonic: () => performance.now() * 100 } });
  await readAll(store, slice);
  await eventually(() => blocksIn(a).length + blocksIn(b).length === 60, 'all are cached');
  rmSync(b, { recursive: true });
  await eventually(async () => {
    assert.ok((await readAll(store, slice)).equals(data));
    return blocksIn(a).length + blocksIn(b).length === 60;
  }, 'they are cached there again');
  assert.ok(existsSync(join(b, UUID, '.lock')));
  assert.deepEqual(
    said.filter(({ level }) => level === 'error'),
    [],
  );
  await store.close();
});

test('a directory that cannot be made has no part, until it can be', async () => {
  const [good = '', bad = ''] = newFolders(2);
  writeFileSync(bad, 'a file');
  const store = cached([good, bad]);
  assert.ok((await readAll(store, slice)).equals(data));
  await eventually(async () => {
    await readAll(store, slice);
    return blocksIn(good).length === 60;
  }, 'all are in the other one');
  rmSync(bad);
  await eventually(() => store.stats()['blockcache_failing_dirs'] === 0, 'it is made');
  const more = await write(store, 8, pattern(30 * BLOCK, 8));
  await eventually(async () => {
    await readAll(store, more);
    return blocksIn(bad).some((name) => basename(name).startsWith('8_'));
  }, 'blocks go there');
  await store.close();
});

/** A file system of its own, where this machine lets us. */
function mountTmpfs(folder: string, size: string): boolean {
  mkdirSync(folder, { recursive: true });
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', folder], { stdio: 'pipe' });
    return true;
  } catch {
    return false;
  }
}

test('a disk that is unmounted is not written to beneath, and is used again when it is back', async (context) => {
  const [good = '', bad = ''] = newFolders(2);
  if (!mountTmpfs(bad, '64m')) return context.skip('a tmpfs cannot be mounted here');
  let mounted = true;
  try {
    const store = cached([good, bad], {}, { clock: { ...brief, monotonic: () => performance.now() * 100 } });
    await readAll(store, slice);
    await eventually(() => blocksIn(good).length + blocksIn(bad).length === 60, 'all are cached');
    const id = readFileSync(join(bad, UUID, '.lock'), 'utf8');
    execFileSync('umount', ['-l', bad]);
    mounted = false;
    await eventually(async () => {
      assert.ok((await readAll(store, slice)).equals(data));
      return blocksIn(good).length === 60;
    }, 'the other one has taken over');
    assert.deepEqual(readdirSync(bad), [], 'nothing was made in the mount point');
    assert.equal(store.stats()['blockcache_failing_dirs'], 1);
    mounted = mountTmpfs(bad, '64m');
    mkdirSync(join(bad, UUID));
    writeFileSync(join(bad, UUID, '.lock'), id);
    await store.close();
    const again = cached([good, bad]);
    assert.ok((await readAll(again, slice)).equals(data));
    await again.close();
  } finally {
    if (mounted) execFileSync('umount', ['-l', bad]);
  }
});

test('two directories on one disk leave its share free together, and free what is missing once', async (context) => {
  const [disk = ''] = newFolders(1);
  if (!mountTmpfs(disk, '8m')) return context.skip('a tmpfs cannot be mounted here');
  try {
    const all = [join(disk, 'a'), join(disk, 'b')];
    const store = cached(all);
    await readAll(store, slice);
    await eventually(() => all.flatMap((folder) => blocksIn(folder)).length === 60, 'all are cached');
    await store.close();
    // 60 blocks take some 4.1 of 8 MiB; half is to be free.
    const guarded = cached(all, { freeRatio: 0.6 });
    await readAll(guarded, slice);
    const more = await write(guarded, 9, pattern(3 * BLOCK, 9));
    await eventually(async () => {
      await readAll(guarded, more);
      return all.flatMap((folder) => blocksIn(folder)).length < 60;
    }, 'room is made');
    await guarded.close();
    const left = all.flatMap((folder) => blocksIn(folder)).length;
    assert.ok(left >= 30, `${left} of 60 blocks are left: no more was dropped than had to be`);
  } finally {
    execFileSync('umount', ['-l', disk]);
  }
});

test('staged blocks lie in all directories, and reach the store from there, also after a restart', async () => {
  const all = newFolders(3);
  const mine = new MemoryObjectStore();
  const settings = { memoryBytes: BLOCK, prefetch: 0, disk: { folder: all, freeRatio: 0 } };
  const store = open(mine, { ...settings, writeback: { delayMs: 3_600_000 } });
  await store.ready;
  const written = await write(store, 3, pattern(30 * BLOCK, 3));
  for (const folder of all) assert.ok(blocksIn(folder, 'rawstaging').length > 3);
  assert.equal(all.flatMap((folder) => blocksIn(folder, 'rawstaging')).length, 30);
  assert.ok((await readAll(store, written)).equals(pattern(30 * BLOCK, 3)));
  assert.deepEqual(await keysOf(mine), []);
  await store.close();
  const next = open(mine, { ...settings, disk: { folder: all.toReversed(), freeRatio: 0 } });
  await next.ready;
  assert.ok((await readAll(next, written)).equals(pattern(30 * BLOCK, 3)));
  assert.deepEqual(await next.drain(AbortSignal.timeout(60_000)), { blocks: 0, bytes: 0 });
  await next.close();
  const elsewhere = open(mine);
  assert.ok((await readAll(elsewhere, written)).equals(pattern(30 * BLOCK, 3)));
  await elsewhere.close();
});

test('what is staged on a disk that fails stays told, and is uploaded when it works again', async () => {
  const all = newFolders(2);
  const [, bad = ''] = all;
  let broken = false;
  const files = faulty((_, path) => (broken && path.startsWith(bad) ? 'EIO' : undefined));
  const mine = new MemoryObjectStore();
  const { logger, said } = lines();
  const store = open(mine, {
    memoryBytes: BLOCK,
    prefetch: 0,
    logger,
    // A minute of a fault is not one of a write.
    clock: {
      ...hasty,
      monotonic: () => performance.now() * 100,
      timer: (ms, callback) => systemClock.timer(broken ? ms / 1000 : ms, callback),
    },
    disk: { folder: all, freeRatio: 0, files },
    writeback: { delayMs: 3_600_000 },
  });
  await store.ready;
  const written = await write(store, 4, pattern(30 * BLOCK, 4));
  const there = blocksIn(bad, 'rawstaging').length;
  assert.ok(there > 3);
  broken = true;
  const left = await store.drain(AbortSignal.timeout(3000));
  assert.ok(left.blocks >= there - 1 && left.blocks <= there, `${left.blocks} of ${there} are left`);
  assert.equal(store.stats()['staging_blocks'], left.blocks);
  assert.equal(store.stats()['staging_unreadable_blocks'], left.blocks);
  const told = said.filter(({ level, text }) => level === 'error' && text.includes('cannot be read'));
  assert.ok(told.length > 0 && told.length <= left.blocks + 6, `told ${told.length} times`);
  broken = false;
  assert.deepEqual(await store.drain(AbortSignal.timeout(60_000)), { blocks: 0, bytes: 0 });
  assert.equal(store.stats()['staging_unreadable_blocks'], 0);
  await store.close();
  const elsewhere = open(mine);
  assert.ok((await readAll(elsewhere, written)).equals(pattern(30 * BLOCK, 4)));
  await elsewhere.close();
});

test('staged blocks whose files somebody deleted are said to be lost, and counted', async () => {
  const [folder = ''] = newFolders(1);
  const mine = new MemoryObjectStore();
  const { logger, said } = lines();
  const store = open(mine, {
    memoryBytes: BLOCK,
    prefetch: 0,
    logger,
    disk: { folder, freeRatio: 0 },
    writeback: { delayMs: 3_600_000 },
  });
  await store.ready;
  await write(store, 2, pattern(5 * BLOCK, 2));
  for (const below of ['raw/chunks', 'rawstaging/chunks']) rmSync(join(folder, UUID, below), { recursive: true });
  const left = await store.drain(AbortSignal.timeout(60_000));
  assert.deepEqual(left, { blocks: 0, bytes: 0 });
  // The last one may still be in memory, and is then stored from there.
  const stored = (await keysOf(mine)).length;
  assert.equal((store.stats()['staging_lost_blocks'] ?? 0) + stored, 5);
  assert.ok(stored <= 1);
  assert.equal(said.filter(({ level, text }) => level === 'error' && text.includes('no object')).length, 5 - stored);
  await store.close();
});

test('a directory that is named twice, or through a link, is none the worse for it', async () => {
  const [a = '', b = ''] = newFolders(2);
  mkdirSync(a);
  symlinkSync(a, b);
  const store = cached([a, b, a]);
  for (let time = 0; time < 3; time++) assert.ok((await readAll(store, slice)).equals(data));
  await store.close();
});
