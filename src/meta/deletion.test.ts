import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from '../lib/clock.ts';
import { ino } from '../lib/int64.ts';
import { nullLogger } from '../lib/log.ts';
import { Deletions } from './deletion.ts';
import type { MetaEngine, Write } from './engine.ts';

/** Half of the queue, and what the places take at once. */
const MANY = 5000 + 10 * 128;

/** A database of files without data, which answers when `open` is called. */
function surroundings() {
  let open = (): void => {};
  const opened = new Promise<void>((resolve) => (open = resolve));
  const left = new Set<number>();
  const engine = {
    async read(reads: readonly unknown[]) {
      await opened;
      return reads.map(() => Buffer.alloc(0));
    },
    commit: async ({ writes }: { readonly writes: readonly Write[] }) => {
      for (const write of writes) if (write.kind === 'removeDelfile') left.delete(write.ino);
      return { ok: true, results: writes.map(() => 0) };
    },
  } as unknown as MetaEngine;
  const log = { deleteChunk: () => [], deleteSlice: () => [] };
  /** Sleeps until it is told. */
  let late = (): void => {};
  const clock = {
    ...systemClock,
    sleep: (_ms: number, signal?: AbortSignal) =>
      new Promise<void>((resolve, reject) => {
        late = resolve;
        signal?.addEventListener('abort', () => reject(new Error('aborted')));
      }),
  };
  const deletions = new Deletions({ engine, log, logger: nullLogger, clock, callbacks: {} });
  const enqueue = (count: number): void => {
    for (let at = 1; at <= count; at++) {
      left.add(at);
      deletions.enqueue(ino(at), 100);
    }
  };
  return { deletions, enqueue, left, open, late: () => late() };
}

const settled = async (promise: Promise<void>): Promise<boolean> => {
  let over = false;
  void promise.then(() => (over = true));
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => void setImmediate(resolve));
  return over;
};

test('who removes very many files waits until their data is deleted, and none is left', async () => {
  const { deletions, enqueue, left, open } = surroundings();
  enqueue(MANY - 2000);
  assert.equal(await settled(deletions.room()), true, 'a few thousand may wait');
  enqueue(MANY);
  const room = deletions.room();
  assert.equal(await settled(room), false);
  open();
  await room;
  await deletions.settled();
  assert.equal(left.size, 0);
});

test('where no data can be deleted names can: nobody waits for long, nor again', async () => {
  const { deletions, enqueue, open, late } = surroundings();
  enqueue(MANY);
  const room = deletions.room();
  assert.equal(await settled(room), false);
  late();
  await room;
  assert.equal(await settled(deletions.room()), true);
  open();
  await deletions.settled();
});
