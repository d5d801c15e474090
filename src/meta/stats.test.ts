import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ino, ROOT_INO, TRASH_INO } from '../lib/int64.ts';
import { nullLogger } from '../lib/log.ts';
import type { DirStat, MetaEngine, Transaction } from './engine.ts';
import { charged, Stats } from './stats.ts';
import { fullness } from './summary.ts';
import { hourName, hourOf } from './trash.ts';

test('files are charged in steps of 4 KiB, an empty one 4 KiB', () => {
  assert.deepEqual([0, 1, 4096, 4097, 2 ** 50].map(charged), [4096, 4096, 4096, 8192, 2 ** 50]);
});

test('a volume without limits seems large enough, one with limits is exact and never below zero', () => {
  assert.equal(fullness({ space: 0, inodes: 0 }, 0, 0).totalBytes, 2 ** 50);
  const large = fullness({ space: 2 ** 50, inodes: 10 ** 9 }, 0, 0);
  assert.ok(large.totalBytes >= 2 ** 51 && large.availableInodes * 4 >= 10 ** 9);
  const limited = fullness({ space: 60, inodes: 3 }, 100, 5);
  assert.deepEqual([limited.totalBytes, limited.availableBytes, limited.availableInodes], [100, 40, 2]);
  const over = fullness({ space: 160, inodes: 9 }, 100, 5);
  assert.deepEqual([over.availableBytes, over.availableInodes], [0, 0]);
});

test('an hour of the trash is named in UTC, and its name tells when it was', () => {
  const time = Date.UTC(2026, 10, 21, 9, 59, 59);
  assert.equal(hourName(time), '2026-11-21-09');
  assert.equal(hourOf('2026-11-21-09'), Date.UTC(2026, 10, 21, 9));
  assert.equal(hourOf('2026-11-21'), undefined);
});

/** Remembers what was written; fails on request. */
class Sink {
  readonly usageCounters: 'inline' | 'deferred';
  readonly directories = new Map<number, DirStat>();
  readonly counters = new Map<string, number>();
  fails = false;

  constructor(usageCounters: 'inline' | 'deferred') {
    this.usageCounters = usageCounters;
  }

  async commit({ writes }: Transaction): Promise<unknown> {
    if (this.fails) throw new Error('away');
    for (const write of writes) {
      if (write.kind === 'addDirStat') this.directories.set(write.ino, write.delta);
      if (write.kind === 'addCounter') this.counters.set(write.name, (this.counters.get(write.name) ?? 0) + write.delta);
    }
    return { ok: true, results: writes.map(() => 1) };
  }
}

function statsOver(sink: Sink): Stats {
  return new Stats(sink as unknown as MetaEngine, nullLogger);
}

test('changes of a directory come together until they are written, and those that cancel out are not written', async () => {
  const sink = new Sink('inline');
  const stats = statsOver(sink);
  const one = { length: 5, space: 4096, inodes: 1 };
  for (const _ of [1, 2, 3]) stats.add(ROOT_INO, one);
  stats.add(ino(2), one);
  stats.add(ino(2), { length: -5, space: -4096, inodes: -1 });
  stats.add(TRASH_INO, one);
  await stats.flush();
  assert.deepEqual([...sink.directories], [[ROOT_INO, { length: 15, space: 12_288, inodes: 3 }]]);
});

test('nothing is lost where writing fails', async () => {
  const sink = new Sink('deferred');
  const stats = statsOver(sink);
  stats.charge(4096, 1);
  stats.add(ROOT_INO, { length: 1, space: 4096, inodes: 1 });
  sink.fails = true;
  await assert.rejects(stats.flush(), /away/);
  sink.fails = false;
  stats.charge(4096, 1);
  stats.add(ROOT_INO, { length: 1, space: 4096, inodes: 1 });
  await stats.flush();
  assert.deepEqual(Object.fromEntries(sink.counters), { usedSpace: 8192, totalInodes: 2 });
  assert.deepEqual(sink.directories.get(ROOT_INO), { length: 2, space: 8192, inodes: 2 });
});

test('the counters are part of the transaction only where the engine wants them there', () => {
  assert.deepEqual(statsOver(new Sink('deferred')).writes(4096, 1), []);
  assert.deepEqual(statsOver(new Sink('inline')).writes(4096, 0), [{ kind: 'addCounter', name: 'usedSpace', delta: 4096 }]);
});

test('a limited volume refuses what does not fit any more', () => {
  const stats = statsOver(new Sink('inline'));
  stats.capacity = 10_000;
  stats.inodes = 2;
  stats.charge(8192, 2);
  assert.equal(stats.refusal(4096, 0)?.code, 'ENOSPC');
  assert.equal(stats.refusal(0, 1)?.code, 'ENOSPC');
  assert.equal(stats.refusal(-4096, -1), undefined);
});

test('what is set aside is not given twice', () => {
  const stats = statsOver(new Sink('inline'));
  stats.capacity = 10_000;
  stats.reserved = 8192;
  assert.equal(stats.refusal(4096, 0)?.code, 'ENOSPC');
  stats.reserved = 0;
  assert.equal(stats.refusal(4096, 0), undefined);
});
