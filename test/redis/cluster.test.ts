/** What is particular to a Redis Cluster: many volumes beside each other, slots that move, nodes that are gone. */
import assert from 'node:assert/strict';
import { after, before, test, type TestContext } from 'node:test';
import { FsError } from '../../src/lib/errors.ts';
import { ino, ROOT_INO } from '../../src/lib/int64.ts';
import type { MetaEngine, Transaction } from '../../src/meta/engine.ts';
import { openEngine } from '../../src/meta/open.ts';
import { slotOf } from '../../src/meta/redis/slot.ts';
import { NodeType } from '../../src/meta/types.ts';
import { ask, type Group, startCluster } from './servers.ts';

let cluster: Group;
before(async () => {
  cluster = await startCluster(0);
});
after(() => cluster.stop());

const count = (delta: number): Transaction => ({ checks: [], writes: [{ kind: 'addCounter', name: 'usedSpace', delta }] });

async function open(t: TestContext, url: string, patience = 20_000): Promise<MetaEngine> {
  const engine = await openEngine(url, { environment: {}, patience });
  t.after(() => engine.close());
  return engine;
}

const keysOf = async (database: number): Promise<string[]> => {
  const found = await Promise.all(cluster.servers.map(({ port }) => ask(port, (redis) => redis.keys(`{${database}}*`))));
  return found.flat();
};

test('one node of a Cluster is enough to find the volume, and volumes beside each other do not meet', async (t) => {
  const engines: MetaEngine[] = [];
  for (const [n, { port }] of cluster.servers.entries()) {
    const engine = await open(t, `redis://127.0.0.1:${port}/${n + 1}`);
    assert.ok(await engine.writeSetting(`{"n":${n}}`, { trash: true, nowNs: 1n }));
    engines.push(engine);
  }
  for (const [n] of cluster.servers.entries()) {
    const again = await open(t, cluster.url(n + 1));
    assert.equal(await again.readSetting(), `{"n":${n}}`);
    assert.ok((await keysOf(n + 1)).includes(`{${n + 1}}setting`));
  }
  await engines[0]?.reset();
  assert.deepEqual(await keysOf(1), []);
  assert.equal(await engines[1]?.readSetting(), '{"n":1}');
});

/** Moves the slot of a database to another node, key by key; `during` runs when half of them have moved. */
async function moveSlot(database: number, during: () => Promise<void>): Promise<void> {
  const slot = slotOf(`{${database}}`);
  const from = await cluster.master(database);
  const to = cluster.servers.find((server) => server !== from) ?? from;
  const id = (port: number): Promise<string> => ask(port, (redis) => redis.call('CLUSTER', 'MYID').then(String));
  const [fromId, toId] = await Promise.all([id(from.port), id(to.port)]);
  await ask(to.port, (redis) => redis.call('CLUSTER', 'SETSLOT', slot, 'IMPORTING', fromId));
  await ask(from.port, (redis) => redis.call('CLUSTER', 'SETSLOT', slot, 'MIGRATING', toId));
  const keys = (await ask(from.port, (redis) => redis.keys(`{${database}}*`))).toSorted();
  const move = (some: readonly string[]): Promise<unknown> =>
    ask(from.port, (redis) => redis.call('MIGRATE', '127.0.0.1', to.port, '', 0, 5000, 'KEYS', ...some));
  const half = Math.ceil(keys.length / 2);
  await move(keys.slice(0, half));
  await during();
  const rest = await ask(from.port, (redis) => redis.keys(`{${database}}*`));
  if (rest.length > 0) await move(rest);
  for (const { port } of [to, from, ...cluster.servers])
    await ask(port, (redis) => redis.call('CLUSTER', 'SETSLOT', slot, 'NODE', toId));
}

test('while the slot moves, what is there is read wherever it is and changes wait; then all goes on at the other node', async (t) => {
  const engine = await open(t, cluster.url(7));
  await engine.writeSetting('{}', { trash: true, nowNs: 1n });
  const names = Array.from({ length: 40 }, (_, n) => Buffer.from(`name-${n}`));
  for (const [n, name] of names.entries())
    await engine.commit({
      checks: [],
      writes: [
        { kind: 'putEntry', parent: ino(100 + n), name, value: { type: NodeType.File, ino: ino(n + 2) } },
        { kind: 'addCounter', name: 'usedSpace', delta: 1 },
      ],
    });
  let waiting: Promise<unknown> = Promise.resolve();
  await moveSlot(7, async () => {
    for (const [n, name] of names.entries()) {
      const [entry, space] = await engine.read([
        { kind: 'entry', parent: ino(100 + n), name },
        { kind: 'counter', name: 'usedSpace' },
      ]);
      assert.deepEqual([entry, space], [{ type: NodeType.File, ino: ino(n + 2) }, 40]);
    }
    waiting = engine.commit(count(2));
  });
  assert.deepEqual(await waiting, { ok: true, results: [42] });
  for (const [n, name] of names.entries()) assert.equal((await engine.lookup(ino(100 + n), name))?.value.ino, ino(n + 2));
  const listed: string[] = [];
  for await (const batch of engine.scanEntries(ino(100), 10)) listed.push(...batch.map(({ name }) => name.toString()));
  assert.deepEqual(listed, ['name-0']);
  const other = await open(t, cluster.url(7));
  assert.deepEqual(await other.commit(count(1)), { ok: true, results: [43] });
});

test('a node that is gone and has no replica is EIO after the patience, with what the Cluster says; back again, all goes on', async (t) => {
  const url = cluster.url(9);
  const engine = await open(t, `${url}?read-timeout=1s`, 3000);
  await engine.writeSetting('{}', { trash: true, nowNs: 1n });
  const master = await cluster.master(9);
  process.kill(master.pid, 'SIGSTOP');
  try {
    await assert.rejects(engine.commit(count(1)), (error: unknown) => {
      assert.ok(error instanceof FsError);
      assert.equal(error.code, 'EIO');
      return true;
    });
  } finally {
    process.kill(master.pid, 'SIGCONT');
  }
  const again = await open(t, url, 30_000);
  const [space] = await again.read([{ kind: 'counter', name: 'usedSpace' }]);
  assert.deepEqual(await again.commit(count(1)), { ok: true, results: [space + 1] });
  assert.equal(await again.lookup(ROOT_INO, Buffer.from('x')), undefined);
});
