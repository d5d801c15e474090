import assert from 'node:assert/strict';
import { test } from 'node:test';
import { statsLines } from '../lib/metrics.ts';
import { Timings, timeOperations } from './timings.ts';
import type { Meta } from './types.ts';

/** A clock that the operations below move on, milliseconds. */
let now = 0;
const clock = {
  now: () => now,
  nowNs: () => BigInt(now),
  monotonic: () => now,
  sleep: () => Promise.resolve(),
  timer: () => () => {},
};

const lines = (timings: Timings): readonly string[] =>
  statsLines('', timings.families())
    .split('\n')
    .filter((line) => line !== '');

test('operations are counted by their names with the time they took, also those that fail, and answer as before', async () => {
  class Fake {
    #count = 0;
    async lookup(): Promise<number> {
      now += 20;
      return ++this.#count;
    }
    async rmdir(): Promise<void> {
      now += 5;
      throw new Error('in use');
    }
    async mkdir(): Promise<void> {
      now += 1;
    }
    async *readdir(): AsyncGenerator<readonly string[]> {
      now += 10;
      yield ['a'];
      now += 10;
      yield ['b'];
    }
  }
  const fake = new Fake();
  // The others are there, and are not called.
  const others =
    'statfs getattr open setattr truncate fallocate mknod create symlink readlink link unlink rename writeSlice writeParts';
  for (const name of [...others.split(' '), 'copyFileRange', 'tmpfile', 'getxattr', 'setxattr', 'listxattr', 'removexattr'])
    Object.defineProperty(fake, name, { value: () => Promise.resolve(), configurable: true });
  const meta = fake as unknown as Meta;
  const timings = new Timings();
  timeOperations(meta, timings, clock);
  // As limit.ts shows it.
  const shown = new Proxy(meta, {
    get: (target, name) => (name === 'lookup' ? () => 'limited' : Reflect.get(target, name, target)),
  });
  assert.equal((shown.lookup as unknown as () => string)(), 'limited');
  assert.equal(await meta.lookup({ uid: 0, gid: 0, pid: 0 }, 1 as never, Buffer.from('a')), 1);
  await assert.rejects(meta.rmdir({ uid: 0, gid: 0, pid: 0 }, 1 as never, Buffer.from('a')), /in use/);
  await (meta.mkdir as () => Promise<unknown>)();
  await (meta.create as () => Promise<unknown>)();
  const seen: unknown[] = [];
  for await (const batch of meta.readdir({ uid: 0, gid: 0, pid: 0 }, 1 as never, false)) {
    // What the reader does between two batches is not the listing's time.
    now += 1000;
    seen.push(...batch);
  }
  assert.deepEqual(seen, ['a', 'b']);
  await Promise.resolve();
  timings.transactions.observe(0.5);
  timings.restarts++;
  assert.deepEqual(lines(timings), [
    'meta_ops_duration_seconds_Lookup 0.02',
    'meta_ops_duration_seconds_Mknod 0.001',
    'meta_ops_duration_seconds_Rmdir 0.005',
    'meta_ops_duration_seconds_NewDirHandler 0.02',
    'meta_ops_durations_histogram_seconds_total 5',
    'meta_ops_durations_histogram_seconds_sum 0.046',
    'meta_ops_total_Lookup 1',
    'meta_ops_total_Mknod 2',
    'meta_ops_total_Rmdir 1',
    'meta_ops_total_NewDirHandler 1',
    'transaction_durations_histogram_seconds_total 1',
    'transaction_durations_histogram_seconds_sum 0.5',
    'transaction_restart_commit 1',
  ]);
});
