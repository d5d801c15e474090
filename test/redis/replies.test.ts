/** Every reply with which a Redis says "not now", "not here" or "not you": what becomes of the operation, and of the next one. */
import assert from 'node:assert/strict';
import { after, before, test, type TestContext } from 'node:test';
import { Redis } from 'ioredis';
import { FsError } from '../../src/lib/errors.ts';
import type { MetaEngine, Transaction } from '../../src/meta/engine.ts';
import { openEngine } from '../../src/meta/open.ts';
import { ROOT_INO } from '../../src/lib/int64.ts';
import { Line } from '../line.ts';
import { startRedis } from '../servers.ts';
import { until } from './servers.ts';

let server: Awaited<ReturnType<typeof startRedis>>;
let admin: Redis;
before(async () => {
  server = await startRedis();
  admin = new Redis(server.port, '127.0.0.1');
});
after(async () => {
  admin.disconnect();
  await server.stop();
});

const count = (delta: number): Transaction => ({ checks: [], writes: [{ kind: 'addCounter', name: 'usedSpace', delta }] });

async function counter(engine: MetaEngine): Promise<number> {
  const [value] = await engine.read([{ kind: 'counter', name: 'usedSpace' }]);
  return value;
}

async function through(t: TestContext, patience = 10_000): Promise<{ readonly engine: MetaEngine; readonly line: Line }> {
  const line = await Line.start(server.port);
  const engine = await openEngine(`redis://127.0.0.1:${line.port}/1`, { environment: {}, patience });
  await engine.reset();
  t.after(async () => {
    await engine.close();
    await line.cut();
  });
  return { engine, line };
}

const inScript = (reply: string): string => `ERR Error running script (call to f_abc): @user_script:199: -${reply}`;
const passing = [
  'LOADING Redis is loading the dataset in memory',
  'BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.',
  'CLUSTERDOWN The cluster is down',
  'TRYAGAIN Multiple keys request during rehashing of slot',
  "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
  'MISCONF Redis is configured to save RDB snapshots, but it is currently unable to persist to disk.',
  'NOREPLICAS Not enough good replicas to write.',
  "READONLY You can't write against a read only replica.",
  "READONLY You can't write against a read only replica. script: abc, on @user_script:199.",
  'UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)',
  'ERR Script attempted to access a non local key in a cluster node script: abc',
  inScript("READONLY You can't write against a read only replica."),
  inScript('MISCONF Redis is configured to save RDB snapshots'),
  inScript('NOREPLICAS Not enough good replicas to write.'),
];

for (const reply of passing)
  test(`a change that is answered with "${reply.slice(0, 60)}" is made later, once, and so is a read`, async (t) => {
    const { engine, line } = await through(t);
    let refusals = 0;
    line.answers = (data) =>
      /EVALSHA|\r\nget\r\n/i.test(data.toString('latin1')) && refusals++ < 3 ? `-${reply}\r\n` : undefined;
    assert.deepEqual(await engine.commit(count(5)), { ok: true, results: [5] });
    assert.ok(refusals >= 3);
    refusals = 0;
    assert.equal(await counter(engine), 5);
    assert.ok(refusals >= 3);
    assert.deepEqual(await engine.commit(count(1)), { ok: true, results: [6] });
  });

for (const [reply, code] of [
  ["OOM command not allowed when used memory > 'maxmemory'. script: abc", 'ENOSPC'],
  [inScript("OOM command not allowed when used memory > 'maxmemory'."), 'ENOSPC'],
  ["NOPERM this user has no permissions to run the 'evalsha' command", 'EIO'],
] as const)
  test(`"${reply.slice(0, 50)}" fails the change at once with ${code}, and the next one is made`, async (t) => {
    const { engine, line } = await through(t);
    let refusals = 0;
    line.answers = (data) => (data.includes('EVALSHA') && refusals++ < 1 ? `-${reply}\r\n` : undefined);
    await assert.rejects(engine.commit(count(5)), (error: unknown) => {
      assert.ok(error instanceof FsError);
      assert.equal(error.code, code);
      assert.ok(error.message.includes(reply));
      return true;
    });
    assert.equal(refusals, 1);
    assert.deepEqual(await engine.commit(count(5)), { ok: true, results: [5] });
  });

test('an answer that does not pass within the patience is EIO and says what was answered; nothing of it stays', async (t) => {
  const { engine, line } = await through(t, 400);
  line.answers = (data) => (data.includes('EVALSHA') ? '-MISCONF unable to persist to disk\r\n' : undefined);
  await assert.rejects(engine.commit(count(5)), (error: unknown) => {
    assert.ok(error instanceof FsError);
    assert.equal(error.code, 'EIO');
    assert.match(error.message, /redis:\/\/127\.0\.0\.1:\d+\/1 does not answer: MISCONF unable to persist/);
    return true;
  });
  assert.equal(await counter(engine), 0);
  line.answers = () => undefined;
  assert.deepEqual(await engine.commit(count(5)), { ok: true, results: [5] });
});

test('a server that runs somebody else’s endless script is waited for', async (t) => {
  const { engine } = await through(t, 30_000);
  await admin.config('SET', 'busy-reply-threshold', '50');
  const other = new Redis(server.port, '127.0.0.1');
  const endless = other.eval('while true do end', 0).then(
    () => '',
    (error: Error) => error.message,
  );
  await until('a busy server', () =>
    admin.get('x').then(
      () => false,
      (error: Error) => error.message.startsWith('BUSY'),
    ),
  );
  const waiting = engine.commit(count(3));
  await new Promise((resolve) => setTimeout(resolve, 150));
  await admin.script('KILL');
  assert.deepEqual(await waiting, { ok: true, results: [3] });
  assert.match(await endless, /killed/);
  other.disconnect();
});

test('a server that wants replicas before it writes, and one that has become a replica, are waited for; reading goes on', async (t) => {
  const { engine } = await through(t, 30_000);
  await admin.config('SET', 'min-replicas-to-write', '1');
  let done = false;
  const waiting = engine.commit(count(3)).finally(() => (done = true));
  await new Promise((resolve) => setTimeout(resolve, 150));
  assert.equal(await counter(engine), 0);
  assert.equal(done, false);
  await admin.config('SET', 'min-replicas-to-write', '0');
  assert.deepEqual(await waiting, { ok: true, results: [3] });

  await admin.replicaof('127.0.0.1', 1);
  const second = engine.commit(count(4));
  await new Promise((resolve) => setTimeout(resolve, 150));
  assert.equal(await counter(engine), 3);
  await admin.replicaof('NO', 'ONE');
  assert.deepEqual(await second, { ok: true, results: [7] });
  assert.equal(await engine.lookup(ROOT_INO, Buffer.from('x')), undefined);
});
