import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MetaEngine, Transaction } from './engine.ts';
import { Ids } from './ids.ts';

/** An engine that is one counter. */
function counter(holds: 'last' | 'next', start: number): MetaEngine & { value: number; commits: number } {
  const engine = {
    idCountersHold: holds,
    value: start,
    commits: 0,
    fails: false,
    commit: async ({ writes }: Transaction) => {
      engine.commits++;
      for (const write of writes) if (write.kind === 'addCounter') engine.value += write.delta;
      return { ok: true, results: [engine.value] };
    },
  };
  return engine as unknown as MetaEngine & { value: number; commits: number };
}

test('every number comes once, over many batches and two clients', async () => {
  const engine = counter('last', 0);
  const clients = [new Ids(engine, 'nextInode', 10, 2), new Ids(engine, 'nextInode', 10, 2)];
  const taken = await Promise.all(Array.from({ length: 300 }, async (_, index) => clients[index % 2]?.take()));
  assert.equal(new Set(taken).size, 300);
  assert.equal(
    taken.every((value) => value !== undefined && value >= 2 && value <= engine.value),
    true,
  );
});

test('the first file is inode 2 and the first slice 1, whether the counter holds the last or the next number', async () => {
  assert.equal(await new Ids(counter('last', 0), 'nextInode', 1024, 2).take(), 2);
  assert.equal(await new Ids(counter('next', 2), 'nextInode', 1024, 2).take(), 2);
  assert.equal(await new Ids(counter('last', 0), 'nextChunk', 4096, 1).take(), 1);
  assert.equal(await new Ids(counter('next', 1), 'nextChunk', 4096, 1).take(), 1);
});

test('the next batch is there before the last number is gone', async () => {
  const engine = counter('last', 0);
  const ids = new Ids(engine, 'nextInode', 100, 1);
  await ids.take();
  for (let count = 0; count < 92; count++) assert.equal(typeof ids.take(), 'number');
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(engine.commits, 2);
  for (let count = 0; count < 100; count++) assert.equal(typeof ids.take(), 'number');
});
