/** What the tests of the block layer share. */
import { systemClock } from '../../src/lib/clock.ts';
import type { ChunkStoreOptions } from '../../src/chunk/options.ts';
import { openChunkStore } from '../../src/chunk/store.ts';
import type { ChunkStore, SliceId } from '../../src/chunk/types.ts';
import { FsError } from '../../src/lib/errors.ts';
import { encrypted } from '../../src/object/encrypt.ts';
import type { Envelope } from '../../src/object/envelope.ts';
import { type FaultPlan, withFaults } from '../../src/object/faults.ts';
import { withRetry } from '../../src/object/retry.ts';
import type { ObjectStore } from '../../src/object/store.ts';

export const BLOCK = 64 * 1024;
export const UUID = 'f0e1d2c3-0000-4000-8000-000000000000';

/** Bytes that differ from place to place and from seed to seed. */
export function pattern(length: number, seed: number): Buffer {
  const data = Buffer.allocUnsafe(length);
  let state = Math.imul(seed, 2654435761) + 1;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    data[i] = state >>> 24;
  }
  return data;
}

/** Pauses fifty times shorter. */
export const hasty = { ...systemClock, sleep: (ms: number, signal?: AbortSignal) => systemClock.sleep(ms / 50, signal) };

/** A block layer over `objects`, whose failures the plan gives; retries without long pauses. */
export function open(
  objects: ObjectStore,
  options: Partial<ChunkStoreOptions> = {},
  plan: FaultPlan = () => undefined,
  encryption?: Envelope,
): ChunkStore {
  const reached = withRetry(withFaults(objects, plan), { retries: 4, baseMs: 1, maxMs: 20 });
  return openChunkStore({
    objects: encrypted(reached, encryption),
    blockSize: BLOCK,
    uuid: UUID,
    clock: hasty,
    ...options,
  });
}

/** Writes a slice in pieces and waits until it is durable. */
export async function write(store: ChunkStore, id: number, data: Buffer): Promise<SliceId> {
  const writer = store.newSlice();
  writer.setId(id);
  for (let done = 0; done < data.length; done += 50_000) writer.write(data.subarray(done, done + 50_000), done);
  await writer.finish();
  return { id, size: data.length };
}

export async function readAll(store: ChunkStore, slice: SliceId): Promise<Buffer> {
  const target = Buffer.alloc(slice.size);
  await store.read(slice, 0, target);
  return target;
}

export async function keysOf(objects: ObjectStore): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of objects.list('')) keys.push(key);
  return keys;
}

export const is = (code: string) => (error: unknown) => error instanceof FsError && error.code === code;
