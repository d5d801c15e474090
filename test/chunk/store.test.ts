/** The block layer over a store in memory that can fail: what is written is what is read, whatever goes wrong between. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { crc32c } from '../../src/lib/crc32c.ts';
import type { ChunkStoreOptions } from '../../src/chunk/options.ts';
import { type Fault, withFaults } from '../../src/object/faults.ts';
import { measured, RequestFigures } from '../../src/object/measured.ts';
import { MemoryObjectStore } from '../../src/object/memory.ts';
import type { ObjectStore } from '../../src/object/store.ts';
import { BLOCK, is, keysOf, open, pattern, readAll, write } from './tools.ts';

const KIB = 1024;
const root = mkdtempSync(join(tmpdir(), 'juicepod-chunk-'));
after(() => rmSync(root, { recursive: true, force: true }));
let folders = 0;
const newFolder = (): string => join(root, String(folders++));

for (const compression of ['none', 'lz4', 'zstd'])
  for (const disk of [false, true])
    describe(`block layer, ${compression}, ${disk ? 'with' : 'without'} disk cache`, () => {
      const settings = (): Partial<ChunkStoreOptions> => ({
        compression,
        ...(disk ? { disk: { folder: newFolder(), freeRatio: 0 } } : {}),
      });

      test('slices of any length come back, from the writer itself and from another client', async () => {
        const objects = new MemoryObjectStore();
        const store = open(objects, settings());
        const other = open(objects, settings());
        let id = 1;
        for (const size of [1, 4096, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 77]) {
          const data = pattern(size, id);
          const slice = await write(store, id++, data);
          for (const reader of [store, other]) {
            assert.ok(data.equals(await readAll(reader, slice)), `${size} bytes`);
            const part = Buffer.alloc(Math.min(size, 3000));
            await reader.read(slice, size - part.length, part);
            assert.ok(part.equals(data.subarray(size - part.length)), `the end of ${size} bytes`);
          }
        }
        assert.equal(store.dirtyBytes, 0);
        await store.close();
        await other.close();
      });

      test('bytes fetched for one use are those that were written, and are not kept', async () => {
        const objects = new MemoryObjectStore();
        const writer = open(objects, settings());
        const data = pattern(5 * BLOCK + 77, 3);
        const slice = await write(writer, 3, data);
        const store = open(objects, settings());
        for (const [from, to] of [
          [0, BLOCK],
          [5 * BLOCK, data.length],
          [0, data.length],
          [100, BLOCK],
          [BLOCK - 1, 3 * BLOCK + 1],
          [BLOCK, 3 * BLOCK],
          [7, 7],
        ] as const) {
          const target = Buffer.alloc(to - from);
          const sum = await store.fetch(slice, from, target);
          assert.ok(target.equals(data.subarray(from, to)), `${from} to ${to}`);
          if (sum !== undefined) assert.equal(sum, crc32c(target));
        }
        const plain = compression === 'none' && !disk;
        const other = open(objects, settings());
        await other.fetch(slice, 0, Buffer.alloc(5 * BLOCK));
        assert.equal(other.readCached(slice, 0, Buffer.alloc(BLOCK)), !plain);
        const gone = open(objects, settings());
        await writer.remove(slice);
        await assert.rejects(gone.fetch(slice, 0, Buffer.alloc(BLOCK)), is('ENOENT'));
        await assert.rejects(gone.fetch(slice, 0, Buffer.alloc(3 * BLOCK)), is('ENOENT'));
        for (const each of [writer, store, other, gone]) await each.close();
      });

      test('a removed slice leaves nothing in the store and cannot be read', async () => {
        const objects = new MemoryObjectStore();
        const store = open(objects, settings());
        const slice = await write(store, 7, pattern(3 * BLOCK, 7));
        assert.equal((await keysOf(objects)).length, 3);
        await store.remove(slice);
        assert.deepEqual(await keysOf(objects), []);
        await assert.rejects(readAll(store, slice), is('ENOENT'));
        await store.remove(slice);
        await store.close();
      });

      test('a damaged or shortened object is read again; where it stays so, the answer is EIO', async () => {
        const objects = new MemoryObjectStore();
        const writer = open(objects, settings());
        const data = pattern(2 * BLOCK, 3);
        const slice = await write(writer, 9, data);
        await writer.close();
        for (const fault of [
          { kind: 'truncate', length: 100 },
          { kind: 'truncate', length: 0 },
        ] as const satisfies Fault[]) {
          let left = 3;
          const passing = open(objects, settings(), (operation) => (operation === 'get' && left-- > 0 ? fault : undefined));
          assert.ok(data.equals(await readAll(passing, slice)));
          await passing.close();
          const lasting = open(objects, settings(), (operation) => (operation === 'get' ? fault : undefined));
          await assert.rejects(readAll(lasting, slice), is('EIO'));
          await lasting.close();
        }
      });
    });

test('refusals in passing are repeated, lasting ones are EIO, a missing block is ENOENT, a full store ENOSPC', async () => {
  const faults: readonly (readonly [Fault, string])[] = [
    [{ kind: 'status', status: 500 }, 'EIO'],
    [{ kind: 'status', status: 503, retryAfterSeconds: 0 }, 'EIO'],
    [{ kind: 'status', status: 429 }, 'EIO'],
    [{ kind: 'status', status: 409 }, 'EIO'],
    [{ kind: 'reset' }, 'EIO'],
    [{ kind: 'slow', ms: 5 }, ''],
  ];
  for (const [fault, code] of faults) {
    const objects = new MemoryObjectStore();
    const data = pattern(3 * BLOCK, 5);
    const calls = new Map<string, number>();
    // The first two attempts of everything fail.
    const store = open(objects, {}, (operation, key) => {
      const call = (calls.get(operation + key) ?? 0) + 1;
      calls.set(operation + key, call);
      return call <= 2 ? fault : undefined;
    });
    const slice = await write(store, 1, data);
    await store.close();
    calls.clear();
    assert.ok(data.equals(await readAll(store, slice)), JSON.stringify(fault));
    if (code === '') continue;
    const broken = open(objects, {}, () => fault);
    await assert.rejects(readAll(broken, slice), is(code), JSON.stringify(fault));
    await assert.rejects(write(broken, 2, data), is(code), JSON.stringify(fault));
    assert.equal(broken.dirtyBytes, 0, 'a slice that failed holds no memory');
    await broken.close();
  }
  const objects = new MemoryObjectStore();
  for (const [status, code] of [
    [403, 'EIO'],
    [404, 'ENOENT'],
    [507, 'ENOSPC'],
  ] as const) {
    let calls = 0;
    const store = open(objects, {}, () => (calls++, { kind: 'status', status }));
    await assert.rejects(store.read({ id: 1, size: 10 }, 0, Buffer.alloc(10)), is(code));
    assert.equal(calls, 1, `${status} is not repeated`);
    await store.close();
  }
});

test('a write that arrived although its connection broke is done again without harm', async () => {
  const objects = new MemoryObjectStore();
  let resets = 0;
  const store = open(objects, {}, (operation) =>
    operation === 'put' && resets++ < 2 ? { kind: 'reset', applied: true } : undefined,
  );
  const data = pattern(BLOCK + 10, 1);
  const slice = await write(store, 1, data);
  assert.ok(data.equals(await readAll(open(objects), slice)));
  assert.equal((await keysOf(objects)).length, 2);
  await store.close();
});

test('many readers of one block share one download', async () => {
  const objects = new MemoryObjectStore();
  const data = pattern(BLOCK, 1);
  const slice = await write(open(objects), 1, data);
  let gets = 0;
  const store = open(objects, {}, (operation) => (operation === 'get' ? (gets++, { kind: 'slow', ms: 20 }) : undefined));
  const targets = Array.from({ length: 20 }, () => Buffer.alloc(BLOCK));
  await Promise.all(targets.map((target) => store.read(slice, 0, target)));
  for (const target of targets) assert.ok(target.equals(data));
  assert.equal(gets, 1);
  await store.close();
});

test('a small read within a block asks the store for the range only, and the block follows', async () => {
  const objects = new MemoryObjectStore();
  const data = pattern(BLOCK, 1);
  const slice = await write(open(objects), 1, data);
  const requests = new RequestFigures('');
  const store = open(measured(objects, requests));
  const target = Buffer.alloc(1000);
  assert.equal(store.readCached(slice, 5000, target), false);
  await store.read(slice, 5000, target);
  assert.ok(target.equals(data.subarray(5000, 6000)));
  await store.close();
  assert.equal(requests.count('GET'), 2);
  assert.equal(requests.bytes('GET'), 1000 + BLOCK);
});

test('read-ahead brings blocks near, within its budget, and later reads need no store', async () => {
  const objects = new MemoryObjectStore();
  const data = pattern(8 * BLOCK, 1);
  const slice = await write(open(objects), 1, data);
  let away = false;
  const requests = new RequestFigures('');
  const options = { memoryBytes: 8 * BLOCK, readAheadBytes: 4 * BLOCK };
  const store = open(measured(objects, requests), options, (operation) =>
    away ? { kind: 'status', status: 403 } : operation === 'get' ? { kind: 'slow', ms: 10 } : undefined,
  );
  store.prefetch(slice, 0, slice.size);
  const target = Buffer.alloc(4 * BLOCK);
  await store.read(slice, 0, target);
  assert.ok(target.equals(data.subarray(0, 4 * BLOCK)));
  assert.equal(requests.count('GET'), 4, 'no more than the budget');
  away = true;
  target.fill(0);
  assert.equal(store.readCached(slice, 0, target), true);
  assert.ok(target.equals(data.subarray(0, 4 * BLOCK)));
  assert.equal(store.readCached(slice, 4 * BLOCK, target), false);
  await store.close();
});

test('sixteen sequential readers stay within the memory they were given', async () => {
  const objects = new MemoryObjectStore();
  const writer = open(objects);
  const slices = [];
  for (let id = 1; id <= 16; id++) slices.push(await write(writer, id, pattern(16 * BLOCK, id)));
  const store = open(objects, { memoryBytes: 24 * BLOCK }, () => ({ kind: 'slow', ms: 1 }));
  let most = 0;
  await Promise.all(
    slices.map(async (slice) => {
      const data = pattern(slice.size, slice.id);
      const target = Buffer.alloc(BLOCK / 2);
      for (let offset = 0; offset < slice.size; offset += target.length) {
        store.prefetch(slice, offset, 4 * BLOCK);
        await store.read(slice, offset, target);
        assert.ok(target.equals(data.subarray(offset, offset + target.length)), `slice ${slice.id} at ${offset}`);
        most = Math.max(most, store.stats()['store_cache_size_bytes'] ?? 0);
      }
    }),
  );
  assert.ok(most <= 24 * BLOCK, `${most} bytes`);
  await store.close();
});

test('a reader that gives up gets its buffer back at once; others are not disturbed', async () => {
  const objects = new MemoryObjectStore();
  const data = pattern(BLOCK, 1);
  const slice = await write(open(objects), 1, data);
  const store = open(objects, {}, () => ({ kind: 'slow', ms: 50 }));
  const controller = new AbortController();
  const mine = Buffer.alloc(BLOCK, 7);
  const theirs = Buffer.alloc(BLOCK);
  const reading = store.read(slice, 0, mine, controller.signal);
  const other = store.read(slice, 0, theirs);
  controller.abort();
  await assert.rejects(reading, { name: 'AbortError' });
  await other;
  assert.ok(theirs.equals(data));
  assert.ok(mine.equals(Buffer.alloc(BLOCK, 7)));
  await store.close();
});

test('blocks are uploaded as they fill once the id is known, and only the tail can be rewritten', async () => {
  const objects = new MemoryObjectStore();
  const store = open(objects);
  const writer = store.newSlice();
  const data = pattern(3 * BLOCK, 1);
  writer.write(data.subarray(0, 2 * BLOCK + 10), 0);
  writer.flushFull();
  assert.equal(writer.uploaded, 0);
  assert.equal(store.dirtyBytes, 2 * BLOCK + 10);
  writer.write(Buffer.alloc(10), 5);
  writer.write(data.subarray(5, 15), 5);
  writer.setId(3);
  assert.equal(writer.uploaded, 2 * BLOCK);
  assert.throws(() => writer.write(Buffer.alloc(1), 2 * BLOCK - 1), is('EINVAL'));
  assert.throws(() => writer.write(Buffer.alloc(1), 2 * BLOCK + 11), is('EINVAL'));
  assert.throws(() => writer.write(Buffer.alloc(1), 64 * 1024 * KIB), is('EINVAL'));
  writer.write(Buffer.from('tail'), 2 * BLOCK + 10);
  writer.write(data.subarray(2 * BLOCK + 10), 2 * BLOCK + 10);
  await writer.finish();
  assert.equal(writer.length, 3 * BLOCK);
  assert.ok(data.equals(await readAll(open(objects), { id: 3, size: 3 * BLOCK })));
  assert.throws(() => writer.write(Buffer.alloc(1), 3 * BLOCK), is('EINVAL'));
  await store.close();
});

test('a dropped slice leaves neither memory nor objects', async () => {
  const objects = new MemoryObjectStore();
  const store = open(objects, {}, (operation) => (operation === 'put' ? { kind: 'slow', ms: 5 } : undefined));
  const writer = store.newSlice();
  writer.setId(1);
  writer.write(pattern(5 * BLOCK + 3, 1), 0);
  writer.abort();
  await store.close();
  assert.equal(store.dirtyBytes, 0);
  assert.equal(store.stats()['used_buffer_size_bytes'], 0);
  assert.deepEqual(await keysOf(objects), []);
});

test('writers wait when the buffers are full, go on when there is room, and stop waiting when told to', async () => {
  const objects = new MemoryObjectStore();
  let release: () => void = () => undefined;
  const gate = new Promise<void>((resolve) => (release = resolve));
  const held: ObjectStore = {
    ...withFaults(objects, () => undefined),
    put: async (key, body) => {
      await gate;
      await objects.put(key, body);
    },
  };
  const store = open(held, { bufferBytes: 4 * BLOCK });
  const writer = store.newSlice();
  writer.setId(1);
  assert.equal(store.throttle(), undefined);
  writer.write(pattern(4 * BLOCK, 1), 0);
  const controller = new AbortController();
  const impatient = store.throttle(controller.signal);
  const patient = store.throttle();
  assert.ok(impatient && patient);
  controller.abort();
  await assert.rejects(impatient, { name: 'AbortError' });
  release();
  await patient;
  assert.equal(store.throttle(), undefined);
  await writer.finish();
  await store.close();
});

test('while blocks are on their way writers only wait; slices are to be finished when nothing else makes room', async () => {
  const gates: (() => void)[] = [];
  const held: ObjectStore = {
    ...withFaults(new MemoryObjectStore(), () => undefined),
    put: () => new Promise((resolve) => gates.push(resolve)),
  };
  const store = open(held, { bufferBytes: 4 * BLOCK });
  const [stored, other] = [store.newSlice(), store.newSlice()];
  stored.setId(1);
  other.setId(2);
  other.write(pattern(3 * BLOCK - 1, 1), 0);
  stored.write(pattern(BLOCK, 1), 0);
  const asked = Promise.withResolvers<void>();
  let asks = 0;
  const relieve = (): void => {
    asks++;
    asked.resolve();
  };
  const waiting = store.throttle(undefined, relieve);
  assert.ok(waiting);
  assert.equal(asks, 0, 'three blocks are on their way');
  // They make room for one who writes it full again, and then there is nothing on its way.
  for (const go of gates.splice(0)) go();
  await waiting;
  const more = store.newSlice();
  more.write(pattern(4 * BLOCK - 1, 2), 0);
  assert.ok(store.throttle(undefined, relieve));
  await asked.promise;
  assert.ok(asks > 0);
  for (const slice of [stored, other, more]) slice.abort();
  await store.close();
});

test('a writer that waited and then does not write leaves nobody waiting', async () => {
  const store = open(new MemoryObjectStore(), { bufferBytes: BLOCK });
  const writer = store.newSlice();
  writer.write(pattern(BLOCK, 1), 0);
  const waiting = Array.from({ length: 5 }, () => store.throttle() ?? assert.fail('there is room'));
  writer.setId(1);
  await writer.finish();
  await Promise.all(waiting);
  await store.close();
});

test('no more uploads run at a time than are allowed', async () => {
  const objects = new MemoryObjectStore();
  let running = 0;
  let most = 0;
  const counting: ObjectStore = {
    ...withFaults(objects, () => undefined),
    put: async (key, body) => {
      most = Math.max(most, ++running);
      await new Promise((resolve) => setTimeout(resolve, 1));
      await objects.put(key, body);
      running--;
    },
  };
  const store = open(counting, { maxUploads: 3 });
  const data = pattern(40 * BLOCK, 1);
  const slice = await write(store, 1, data);
  assert.equal(most, 3);
  assert.ok(data.equals(await readAll(open(objects), slice)));
  await store.close();
});

test('a store that is away for a while is waited for, by writers and readers', async () => {
  const objects = new MemoryObjectStore();
  let away = true;
  const store = open(objects, {}, () => (away ? { kind: 'reset' } : undefined));
  const data = pattern(2 * BLOCK, 1);
  const writing = write(store, 1, data);
  setTimeout(() => (away = false), 3);
  const slice = await writing;
  await store.close();
  const reader = open(objects, {}, () => (away ? { kind: 'reset' } : undefined));
  away = true;
  const reading = readAll(reader, slice);
  setTimeout(() => (away = false), 3);
  assert.ok(data.equals(await reading));
  await reader.close();
});
