/**
 * All that the block layer holds in memory stays within its bound, whatever is written, read, read ahead, cached on the disk and staged
 * at the same time, over a store that is slow in its own ways; and everybody goes on.
 */
import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import * as fc from 'fast-check';
import type { SliceId } from '../../src/chunk/types.ts';
import { memoryFile } from '../../src/fuse/libc.ts';
import type { Ino } from '../../src/lib/int64.ts';
import { MemoryObjectStore } from '../../src/object/memory.ts';
import { Pieces } from '../../src/vfs/pieces.ts';
import { BLOCK, open, pattern, write } from './tools.ts';

const root = mkdtempSync(join(tmpdir(), 'juicepod-budget-'));
after(() => rmSync(root, { recursive: true, force: true }));

const BOUND = 32 * BLOCK;
const SLICE = 12 * BLOCK;
const turn = (): Promise<void> => new Promise((done) => setImmediate(done));

test('streams of all kinds at once stay within one bound', async () => {
  const seeded = new MemoryObjectStore();
  const seeder = open(seeded);
  const known: SliceId[] = [];
  for (let id = 1; id <= 8; id++) known.push(await write(seeder, id, pattern(SLICE, id)));
  await seeder.close();
  let run = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        writers: fc.nat(8),
        readers: fc.nat(8),
        disk: fc.boolean(),
        staged: fc.boolean(),
        lent: fc.boolean(),
        seed: fc.nat(),
      }),
      async ({ writers, readers, disk, staged, lent, seed }) => {
        let state = seed;
        const random = (most: number): number => {
          state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
          return state % most;
        };
        const folder = join(root, String(run++));
        const store = open(
          seeded,
          {
            bufferBytes: BOUND,
            ...(disk || staged ? { disk: { folder, freeRatio: 0, largeWrites: true } } : {}),
            ...(staged ? { writeback: {} } : {}),
          },
          () => (random(3) === 0 ? { kind: 'slow', ms: random(4) } : undefined),
        );
        let most = 0;
        const look = (): void => void (most = Math.max(most, store.stats()['block_memory_bytes'] ?? assert.fail('no figure')));
        let id = 1000 * run;
        const fd = memoryFile('test');
        const pieces = new Pieces({ fd, from: 0 }, { maxBytes: BOUND * 0.6 });
        // Pieces of a slice can be had again when it is committed; who waits for them has all slices finished and committed.
        const unfinished = new Set<() => Promise<void>>();
        const relieve = (): void => {
          for (const commit of unfinished) void commit();
        };
        const writingToPieces = async (): Promise<void> => {
          let left = SLICE;
          while (left > 0) {
            const ino = id++ as Ino;
            const writer = store.newSlice({ memory: pieces });
            writer.setId(ino);
            let position = 0;
            const state: { committed?: Promise<void> } = {};
            const commit = (): Promise<void> =>
              (state.committed ??= writer.finish().then(() => {
                pieces.release(ino);
                unfinished.delete(commit);
              }));
            unfinished.add(commit);
            const piece = pattern(BLOCK / 2, ino);
            while (left > 0 && !state.committed) {
              for (let wait = store.throttle(undefined, relieve); wait; wait = store.throttle(undefined, relieve)) await wait;
              if (state.committed) break;
              writer.write(piece, writer.length, (buffer) => pieces.hold(buffer, ino, { index: 0, position: position++ }));
              left -= piece.length;
              look();
              if (random(4) === 0) await turn();
            }
            await commit();
            look();
          }
        };
        const writing = async (): Promise<void> => {
          const writer = store.newSlice();
          writer.setId(id++);
          const piece = pattern(BLOCK / 2, id);
          while (writer.length < SLICE) {
            for (let wait = store.throttle(); wait; wait = store.throttle()) await wait;
            writer.write(piece, writer.length);
            look();
            if (random(4) === 0) await turn();
          }
          await writer.finish();
          look();
        };
        const reading = async (index: number): Promise<void> => {
          const slice = known[index % known.length]!;
          const data = pattern(SLICE, slice.id);
          const target = Buffer.alloc(BLOCK / 2);
          for (let offset = 0; offset < SLICE; offset += target.length) {
            store.prefetch(slice, offset, 4 * BLOCK);
            look();
            await store.read(slice, offset, target);
            assert.ok(target.equals(data.subarray(offset, offset + target.length)), `slice ${slice.id} at ${offset}`);
            look();
          }
        };
        await Promise.all([
          ...Array.from({ length: writers }, lent ? writingToPieces : writing),
          ...Array.from({ length: readers }, (_, index) => reading(index)),
        ]);
        // Who was let through writes at most one block more.
        assert.ok(most <= BOUND + BLOCK, `${most / BLOCK} blocks where ${BOUND / BLOCK} are allowed`);
        await store.close();
        assert.equal(store.stats()['block_memory_bytes'], 0, 'nothing is held at the end');
        assert.equal(store.dirtyBytes, 0);
        closeSync(fd);
      },
    ),
    { numRuns: 25 },
  );
});

test('memory that was needed for a burst is given back when nobody has wanted it for a while', async () => {
  const timers: { readonly at: number; readonly run: () => void }[] = [];
  let now = 0;
  const clock = {
    now: () => now,
    nowNs: () => BigInt(now) * 1_000_000n,
    monotonic: () => now,
    sleep: () => Promise.resolve(),
    timer(ms: number, run: () => void) {
      const timer = { at: now + ms, run };
      timers.push(timer);
      return () => void (timers.includes(timer) && timers.splice(timers.indexOf(timer), 1));
    },
  };
  const pass = (ms: number): void => {
    const end = now + ms;
    for (;;) {
      const next = timers.filter(({ at }) => at <= end).toSorted((a, b) => a.at - b.at)[0];
      if (!next) break;
      now = next.at;
      timers.splice(timers.indexOf(next), 1);
      next.run();
    }
    now = end;
  };
  const folder = join(root, 'burst');
  const store = open(new MemoryObjectStore(), { bufferBytes: BOUND, clock, disk: { folder, freeRatio: 0 } });
  await write(store, 1, pattern(SLICE, 1));
  const held = store.stats()['block_memory_bytes'] ?? 0;
  assert.ok(held >= BLOCK, `${held} bytes`);
  pass(60_000);
  assert.equal(store.stats()['block_memory_bytes'], 0);
  await store.close();
});
