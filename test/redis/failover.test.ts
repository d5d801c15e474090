/**
 * The master of a volume dies, or freezes and comes back, while clients work: under Sentinels and in a Cluster. With
 * `wait-replicas` nothing that was answered may be missing afterwards; with and without, nothing is made twice, no number is
 * given out twice, and nothing of the outage stays behind.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test, type TestContext } from 'node:test';
import { ino, ROOT_INO } from '../../src/lib/int64.ts';
import type { MetaEngine, Transaction } from '../../src/meta/engine.ts';
import { openEngine, proveCredentials } from '../../src/meta/open.ts';
import { NodeType } from '../../src/meta/types.ts';
import { ask, type Group, startCluster, startSentinels, until } from './servers.ts';

const count = (name: string): Transaction => ({ checks: [], writes: [{ kind: 'addCounter', name, delta: 1 }] });

async function counter(engine: MetaEngine, name: string): Promise<number> {
  const [value] = await engine.read([{ kind: 'counter', name }]);
  return value;
}

async function open(t: TestContext, url: string): Promise<MetaEngine> {
  const engine = await openEngine(url, { environment: {}, patience: 60_000 });
  t.after(() => engine.close());
  return engine;
}

/** Waits until everybody is in step again, so that the next test may lose its master, too. */
async function whole(group: Group, replicas: number): Promise<void> {
  for (const { pid } of group.servers) {
    try {
      process.kill(pid, 'SIGCONT');
    } catch {
      // It was killed.
    }
  }
  await until('replicas in step', async () => (await group.replicas(1)).length >= replicas);
}

const LISTED = 6000;

/** Makes a directory with LISTED names and reads the first batch; the answer reads the rest, and counts different names. */
async function beginListing(reader: MetaEngine, writer: MetaEngine): Promise<() => Promise<number>> {
  const parent = ino(5000);
  for (let from = 0; from < LISTED; from += 500)
    await writer.commit({
      checks: [],
      writes: Array.from({ length: 500 }, (_, n) => ({
        kind: 'putEntry',
        parent,
        name: Buffer.from(`name-${from + n}`),
        value: { type: NodeType.File, ino: ino(from + n + 10) },
      })),
    });
  const seen = new Set<string>();
  const batches = reader.scanEntries(parent, 500)[Symbol.asyncIterator]();
  const take = async (): Promise<boolean> => {
    const next = await batches.next();
    if (!next.done) for (const each of next.value) seen.add(each.name.toString());
    return !next.done;
  };
  await take();
  return async () => {
    while (await take());
    return seen.size;
  };
}

for (const [name, start] of [
  ['Sentinel', () => startSentinels(2)],
  ['Cluster', () => startCluster(2)],
] as const)
  describe(`Redis ${name}`, () => {
    let group: Group;
    let volumes = 0;
    before(async () => {
      group = await start();
    });
    after(() => group.stop());

    /** All in one database, for the first master is another one in another slot; each test has counters of its own. */
    const url = (options = ''): string => `${group.url(1)}?${options}`;

    test('a change is answered only when a replica has it, where that is asked for; meanwhile reading goes on', async (t) => {
      const plain = await open(t, url());
      const waits = await open(t, url('wait-replicas=1'));
      await waits.writeSetting('{}', { trash: true, nowNs: 1n });
      const replicas = await group.replicas(1);
      for (const { pid } of replicas) process.kill(pid, 'SIGSTOP');
      try {
        assert.ok((await plain.commit(count('a'))).ok);
        let answered = false;
        const waiting = waits.commit(count('a')).finally(() => (answered = true));
        await until('the change', async () => (await counter(waits, 'a')) === 2);
        await new Promise((resolve) => setTimeout(resolve, 200));
        assert.equal(answered, false);
        for (const { pid } of replicas) process.kill(pid, 'SIGCONT');
        assert.deepEqual(await waiting, { ok: true, results: [2] });
        assert.equal(await counter(waits, 'a'), 2);
      } finally {
        await whole(group, 2);
      }
    });

    test('commits that wait together share one WAIT', async (t) => {
      const waits = await open(t, url('wait-replicas=1'));
      await waits.commit(count('b'));
      const { port } = await group.master(1);
      const calls = async (): Promise<number> =>
        Number(/cmdstat_wait:calls=(\d+)/.exec(await ask(port, (redis) => redis.info('commandstats')))?.[1] ?? 0);
      const first = await calls();
      await Promise.all(Array.from({ length: 200 }, () => waits.commit(count('b'))));
      assert.equal(await counter(waits, 'b'), 201);
      assert.ok((await calls()) - first < 50);
    });

    for (const signal of ['SIGSTOP', 'SIGKILL'] as const)
      test(`${signal} to the master under load: all that was answered is there, once; numbers, readers, waits for locks go on`, async (t) => {
        const own = `${++volumes}${signal}`;
        // Of the three servers one is gone afterwards; one that only slept comes back.
        const wait = signal === 'SIGSTOP' ? 2 : 1;
        const waiting = await Promise.all([1, 2].map(() => open(t, url(`wait-replicas=${wait}`))));
        const reader = await open(t, url());
        // Begun with one server and ended with another, which has another order.
        const listing = await beginListing(reader, waiting[0] as MetaEngine);
        const state = { done: 0, reads: 0, stopped: false };
        const ids = new Set<number>();
        const given: number[] = [];
        const worker = async (engine: MetaEngine, n: number): Promise<void> => {
          for (let made = 1; !state.stopped; made++) {
            const name = Buffer.from(`${own}-${n}-${made}`);
            const result = await engine.commit({
              checks: [{ kind: 'entry', parent: ROOT_INO, name, expect: undefined }],
              writes: [
                { kind: 'putEntry', parent: ROOT_INO, name, value: { type: NodeType.File, ino: ino(made) } },
                { kind: 'addCounter', name: `c${own}${n}`, delta: 1 },
                { kind: 'addCounter', name: `t${own}`, delta: 1 },
              ],
            });
            // Answered exactly once: the own counter has no gap, and the name was not there.
            assert.ok(result.ok);
            assert.equal(result.results[1], made);
            state.done++;
          }
        };
        const number = async (engine: MetaEngine): Promise<void> => {
          while (!state.stopped) {
            const result = await engine.commit(count('nextInode'));
            assert.ok(result.ok);
            given.push(result.results[0] ?? 0);
            ids.add(result.results[0] ?? 0);
            await new Promise((resolve) => setTimeout(resolve, 5));
          }
        };
        const read = async (): Promise<void> => {
          while (!state.stopped) {
            await counter(reader, `t${own}`);
            state.reads++;
          }
        };
        let woken = 0;
        const file = { of: 'flock', ino: ino(77) } as const;
        const unwatch = await reader.watchLocks?.(file, () => woken++);
        const working = Promise.all([
          ...waiting.flatMap((engine, e) => [1, 2, 3].map((n) => worker(engine, e * 3 + n))),
          ...waiting.map(number),
          // Also those who do not wait for replicas get numbers that replicas have.
          number(reader),
          read(),
        ]);
        await until('work', () => Promise.resolve(state.done > 100));
        const master = await group.master(1);
        process.kill(master.pid, signal);
        await until('another master', async () => (await group.master(1)) !== master);
        if (signal === 'SIGSTOP') process.kill(master.pid, 'SIGCONT');
        const [done, reads] = [state.done, state.reads];
        await until('work after the failover', () => Promise.resolve(state.done > done + 100 && state.reads > reads + 100));
        state.stopped = true;
        await working;
        assert.equal(await counter(reader, `t${own}`), state.done);
        assert.equal(ids.size, given.length);
        const names = new Set<string>();
        for await (const batch of reader.scanEntries(ROOT_INO, 1000))
          for (const each of batch) if (each.name.toString().startsWith(`${own}-`)) names.add(each.name.toString());
        assert.equal(names.size, state.done);
        assert.equal(await listing(), LISTED);
        // An announcement through the new master reaches who waited since before.
        const before = woken;
        await until('an announcement', async () => {
          await waiting[0]?.commit({ checks: [], writes: [{ kind: 'announceLocks', ...file }] });
          return woken > before;
        });
        unwatch?.();
        await whole(group, 1);
      });

    test('clients that only read may ask a replica, also when the one they asked is gone', async (t) => {
      const writer = await open(t, url('wait-replicas=1'));
      await writer.commit(count('r'));
      const { port } = await group.master(1);
      const gets = async (): Promise<number> =>
        Number(/cmdstat_get:calls=(\d+)/.exec(await ask(port, (redis) => redis.info('commandstats')))?.[1] ?? 0);
      // Sentinels learn some seconds after a failover that a replica is in order again.
      const reader = await until('reads that the master does not answer', async () => {
        const options = { environment: {}, patience: 30_000, readOnly: true };
        const each = await openEngine(url('route-read=replica&read-timeout=1s'), options);
        assert.equal(await counter(each, 'r'), 1);
        const before = await gets();
        for (let n = 0; n < 50; n++) await counter(each, 'r');
        if ((await gets()) - before < 50) return each;
        await each.close();
        return undefined;
      });
      t.after(() => reader.close());
      const [replica] = await group.replicas(1);
      assert.ok(replica);
      process.kill(replica.pid, 'SIGSTOP');
      try {
        for (let n = 0; n < 20; n++) assert.equal(await counter(reader, 'r'), 1);
      } finally {
        await whole(group, 1);
      }
    });

    test('a password that changes while the volume is in use is taken over, and known to the connections after a failover', async (t) => {
      // One of them was killed.
      const everywhere = (command: string, ...args: string[]): Promise<unknown> =>
        Promise.allSettled(group.servers.map(({ port }) => ask(port, (redis) => redis.call(command, ...args))));
      const rights = ['on', '~*', '&*', '+@all'];
      const set = (...password: string[]): Promise<unknown> => everywhere('ACL', 'SETUSER', 'app', ...rights, ...password);
      const as = (password: string): string => url('wait-replicas=1').replace('redis://', `redis://app:${password}@`);
      await set('>one');
      const engine = await open(t, as('one'));
      await engine.commit(count('p'));
      await set('>two');
      await assert.rejects(proveCredentials(engine, as('three'), { writing: true, environment: {} }), { code: 'MetaRefused' });
      await (
        await proveCredentials(engine, as('two'), { writing: true, environment: {} })
      )();
      await set('<one');
      await everywhere('CLIENT', 'KILL', 'USER', 'app');
      assert.deepEqual(await engine.commit(count('p')), { ok: true, results: [2] });
      for await (const batch of engine.scanEntries(ROOT_INO, 1000)) assert.ok(batch.length > 0);
      assert.equal(await counter(engine, 'p'), 2);
    });
  });
