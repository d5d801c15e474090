/**
 * Random lives of a block layer against a model of plain bytes: slices written in pieces (the tail rewritten), finished or
 * dropped, read anywhere, removed; several at a time; the client restarted over the same cache directory; the store
 * failing in passing. What is read is what was written; what was removed is gone; nothing stays dirty.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import * as fc from 'fast-check';
import { MAX_SLICE } from '../../src/chunk/key.ts';
import type { ChunkStore } from '../../src/chunk/types.ts';
import { type EncryptionAlgorithm, encryptionAlgorithms, openEnvelope } from '../../src/object/envelope.ts';
import type { FaultPlan } from '../../src/object/faults.ts';
import { MemoryObjectStore } from '../../src/object/memory.ts';
import { BLOCK, is, keysOf, open, pattern } from './tools.ts';

const root = mkdtempSync(join(tmpdir(), 'juicepod-model-'));
after(() => rmSync(root, { recursive: true, force: true }));

interface Step {
  readonly kind: 'write' | 'read' | 'readMany' | 'drop' | 'remove' | 'restart' | 'prefetch';
  readonly pick: number;
  readonly a: number;
  readonly b: number;
}

const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom('write', 'write', 'read', 'read', 'readMany', 'drop', 'remove', 'restart', 'prefetch'),
  pick: fc.nat(1000),
  a: fc.nat(1_000_000),
  b: fc.nat(1_000_000),
});

async function writeRandomly(store: ChunkStore, id: number, seed: number, length: number): Promise<Buffer> {
  const model = pattern(length, seed);
  const writer = store.newSlice();
  let state = seed;
  let named = false;
  const next = (most: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return state % most;
  };
  while (writer.length < length) {
    const room = store.throttle();
    if (room && !named) {
      // Without an id nothing is uploaded, and nobody would make room.
      writer.setId(id);
      named = true;
    }
    if (room && writer.uploaded > 0) await room;
    // Append, or go back into what is not uploaded yet: first with wrong bytes, then with the right ones.
    const from = next(3) === 0 ? Math.max(writer.uploaded, writer.length - next(BLOCK)) : writer.length;
    const part = Math.min(length - from, 1 + next(BLOCK * 2));
    if (part <= 0) continue;
    if (next(3) === 0 && from + part <= writer.length + 1) writer.write(Buffer.alloc(Math.min(part, 100), 0xee), from);
    if (from >= writer.uploaded) writer.write(model.subarray(from, from + part), from);
    if (!named && next(2) === 0) {
      writer.setId(id);
      named = true;
    }
  }
  if (!named) writer.setId(id);
  await writer.finish();
  assert.equal(writer.length, length);
  return model;
}

const key = readFileSync(join(import.meta.dirname, '../golden/keys/rsa-pkcs8.pem'), 'utf8');
const volumes: readonly { readonly compression: string; readonly algorithm?: EncryptionAlgorithm; readonly runs: number }[] = [
  ...['none', 'zstd'].map((compression) => ({ compression, runs: 60 })),
  ...encryptionAlgorithms.flatMap((algorithm) =>
    ['none', 'lz4', 'zstd'].map((compression) => ({ compression, algorithm, runs: 20 })),
  ),
];

for (const { compression, algorithm, runs } of volumes)
  test(`any life of the block layer agrees with the model (${compression}${algorithm ? `, ${algorithm}` : ''})`, async () => {
    const encryption = algorithm && openEnvelope({ key, passphrase: undefined, algorithm });
    let run = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 5, maxLength: 25 }),
        fc.boolean(),
        fc.nat(),
        async (steps, withDisk, faultSeed) => {
          const folder = join(root, `${compression}-${algorithm ?? 'plain'}-${run++}`);
          const objects = new MemoryObjectStore();
          const plan: FaultPlan = (operation, _key, call) => {
            const roll = Math.imul(call ^ faultSeed, 2654435761) >>> 28;
            if (roll === 0) return { kind: 'reset', applied: operation === 'put' };
            if (roll === 1) return { kind: 'status', status: 503 };
            if (roll === 2 && operation === 'get') return { kind: 'truncate', length: 1 };
            return undefined;
          };
          const start = (): ChunkStore =>
            open(
              objects,
              {
                compression,
                memoryBytes: 6 * BLOCK,
                bufferBytes: 4 * BLOCK,
                corruptRetries: 10,
                ...(withDisk ? { disk: { folder, freeRatio: 0, maxBytes: 12 * BLOCK, largeWrites: faultSeed % 2 === 0 } } : {}),
              },
              plan,
              encryption,
            );
          let store = start();
          const slices = new Map<number, Buffer>();
          let id = 1;
          const choose = (pick: number): [number, Buffer] | undefined => [...slices][pick % Math.max(1, slices.size)];
          const read = async (at: [number, Buffer], a: number, b: number): Promise<void> => {
            const offset = a % at[1].length;
            const target = Buffer.alloc(1 + (b % Math.min(at[1].length - offset, 3 * BLOCK)));
            const slice = { id: at[0], size: at[1].length };
            if (!store.readCached(slice, offset, target)) await store.read(slice, offset, target);
            assert.ok(
              target.equals(at[1].subarray(offset, offset + target.length)),
              `slice ${at[0]}, ${target.length} bytes at ${offset}`,
            );
          };
          for (const { kind, pick, a, b } of steps) {
            const at = choose(pick);
            if (kind === 'write') {
              const mine = id++;
              slices.set(mine, await writeRandomly(store, mine, a + 1, 1 + (b % (4 * BLOCK))));
            } else if (kind === 'drop') {
              const writer = store.newSlice();
              writer.setId(id++);
              writer.write(pattern(1 + (a % (3 * BLOCK)), a), 0);
              writer.abort();
            } else if (kind === 'restart') {
              await store.close();
              store = start();
            } else if (!at) continue;
            else if (kind === 'read') await read(at, a, b);
            else if (kind === 'readMany')
              await Promise.all(Array.from({ length: 8 }, (_, i) => read(choose(pick + i) ?? at, a + i * 40_000, b + i * 7777)));
            else if (kind === 'prefetch') store.prefetch({ id: at[0], size: at[1].length }, a % at[1].length, b % MAX_SLICE);
            else {
              const slice = { id: at[0], size: at[1].length };
              await store.remove(slice);
              slices.delete(at[0]);
              await assert.rejects(store.read(slice, 0, Buffer.alloc(1)), is('ENOENT'));
            }
          }
          for (const at of slices) await read(at, 0, at[1].length - 1);
          await store.close();
          assert.equal(store.dirtyBytes, 0);
          assert.equal(store.stats()['used_buffer_size_bytes'], 0);
          const expected = [...slices].reduce((count, [, data]) => count + Math.ceil(data.length / BLOCK), 0);
          assert.equal((await keysOf(objects)).length, expected, 'no object too many or too few');
          rmSync(folder, { recursive: true, force: true });
        },
      ),
      { numRuns: runs, endOnFailure: true },
    );
  });
