/** Cleaning that any client does for all, over every engine: which jobs a client takes part in, and what keeps none from the rest. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Ino, ROOT_INO, TRASH_INO } from '../../src/lib/int64.ts';
import { hourly, type JobName, jobNames } from '../../src/meta/jobs.ts';
import { openMeta } from '../../src/meta/open.ts';
import { hourName } from '../../src/meta/trash.ts';
import { NodeFlag } from '../../src/meta/types.ts';
import { type Database, describeEngines } from '../meta/engines.ts';
import { openWorld, root, type World } from './world.ts';
import { until } from '../until.ts';

const DAY = 86_400_000;
const signal = new AbortController().signal;

describeEngines('cleaning for all', (database: Database) => {
  /** Something for each job to do; its time has come. */
  async function littered(t: Parameters<typeof openWorld>[0]): Promise<World> {
    const world = await openWorld(t, database.newUrl(), { format: { trashDays: 1 } });
    await world.file(ROOT_INO, 'in-trash', 10);
    await world.meta.unlink(root, ROOT_INO, Buffer.from('in-trash'));
    const removed = await world.file(ROOT_INO, 'removed', 10);
    await world.engine.commit({
      checks: [],
      writes: [
        { kind: 'removeEntry', parent: ROOT_INO, name: Buffer.from('removed') },
        { kind: 'removeNode', ino: removed },
        { kind: 'addDelfile', ino: removed, length: 10, time: Math.floor(world.clock.now() / 1000) },
        { kind: 'addSliceRef', id: 77, size: 10, delta: -1 },
      ],
    });
    world.clock.advance(2 * DAY);
    return world;
  }
  async function left({ engine }: World): Promise<ReadonlySet<JobName>> {
    const jobs = new Set<JobName>();
    for await (const batch of engine.allDelfiles()) if (batch.length > 0) jobs.add('files');
    for await (const batch of engine.allUnreferenced()) if (batch.some(({ id }) => id === 77)) jobs.add('slices');
    for await (const batch of engine.scanEntries(TRASH_INO, 10)) if (batch.length > 0) jobs.add('trash');
    return jobs;
  }
  const work = async (world: World, names?: readonly JobName[]): Promise<void> => {
    const volume = world.volume();
    await hourly(volume, signal, names);
    await volume.deletions.settled();
  };

  test('a client does the jobs it takes part in, and leaves the others to others', async (t) => {
    const world = await littered(t);
    const all: readonly JobName[] = ['files', 'slices', 'trash'];
    assert.deepEqual(await left(world), new Set(all));
    await work(world, ['sessions']);
    assert.deepEqual(await left(world), new Set(all));
    for (const [at, name] of all.entries()) {
      await work(world, [name]);
      assert.deepEqual(await left(world), new Set(all.slice(at + 1)));
    }
    assert.equal((await world.gc()).scanned, 0);
    assert.deepEqual(jobNames, ['sessions', ...all, 'changelog']);
  });

  test('of many clients one does each job, once in its hour', async (t) => {
    const world = await littered(t);
    const begun: string[] = [];
    const clients = Array.from({ length: 5 }, () => {
      const volume = world.volume();
      const engine = new Proxy(volume.engine, {
        get(target, name) {
          if (name === 'allDelfiles' || name === 'scanUnreferenced' || name === 'scanDelayed') begun.push(name);
          const value = Reflect.get(target, name) as unknown;
          return typeof value === 'function' ? (value.bind(target) as unknown) : value;
        },
      });
      Object.defineProperty(volume, 'engine', { value: engine });
      return volume;
    });
    for (let round = 0; round < 3; round++) {
      await Promise.all(clients.map((volume) => hourly(volume, signal)));
      world.clock.advance(10 * 60_000);
    }
    assert.deepEqual(begun.toSorted(), ['allDelfiles', 'scanDelayed', 'scanUnreferenced']);
    await Promise.all(clients.map((volume) => volume.deletions.settled()));
    assert.deepEqual(await left(world), new Set());
  });

  test('what cannot be removed from the trash keeps neither the rest of its hour nor other hours', async (t) => {
    const world = await openWorld(t, database.newUrl(), { format: { trashDays: 1 } });
    const { meta, engine, clock } = world;
    const remove = async (name: string): Promise<Ino> => {
      const file = await world.file(ROOT_INO, name, 10);
      await meta.unlink(root, ROOT_INO, Buffer.from(name));
      return file;
    };
    const held = await remove('a');
    await remove('b');
    const [attr] = await engine.nodes([held]);
    assert.ok(attr);
    await engine.commit({ checks: [], writes: [{ kind: 'putNode', ino: held, attr: { ...attr, flags: NodeFlag.Immutable } }] });
    const first = hourName(clock.now());
    clock.advance(3_600_000);
    await remove('c');
    clock.advance(3 * DAY);
    await work(world, ['trash']);
    const entries: string[] = [];
    for await (const batch of engine.scanEntries(TRASH_INO, 10))
      for (const { name, ino } of batch) {
        entries.push(name.toString());
        for await (const inner of engine.scanEntries(ino, 10)) entries.push(...inner.map((entry) => entry.name.toString()));
      }
    assert.deepEqual(entries, [first, `${ROOT_INO}-${held}-a`]);
  });

  test('a client that takes part in nothing leaves the sessions of the dead, another cleans up after them', async (t) => {
    const world = await openWorld(t, database.newUrl());
    const { url, engine, clock } = world;
    await engine.putSession(99, Math.floor(clock.now() / 1000) - 1000, '{}');
    const dead = async (): Promise<boolean> => (await engine.sessions()).some(({ sid }) => sid === 99);
    const pause = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));
    const lazy = await openMeta(url, { clock, heartbeat: 20, backgroundJobs: false });
    t.after(() => lazy.close());
    await lazy.newSession('/lazy');
    await pause(200);
    assert.equal(await dead(), true);
    const keen = await openMeta(url, { clock, heartbeat: 20, backgroundJobs: ['sessions'] });
    t.after(() => keen.close());
    await keen.newSession('/keen');
    await until('the dead session is gone', async () => !(await dead()));
  });
});
