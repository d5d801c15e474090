import assert from 'node:assert/strict';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { Registry } from 'prom-client';
import { nullLogger } from '../lib/log.ts';
import { createClient } from './client.ts';
import { ApiError, NotLeadingError } from './errors.ts';
import { createHealth, serveHealth, watchProcess } from './health.ts';
import { createManager } from './manager.ts';
import { ConfigMaps, Leases, Secrets } from './resources.ts';
import { forKind } from './source.ts';
import { FakeApiServer } from './testing/fake-apiserver.ts';
import { FakeClock, settle } from './testing/fake-clock.ts';
import { FakeFrontend } from './testing/fake-transport.ts';
import type { KubeObject, ManagerOptions } from './types.ts';

function setup(options: Partial<ManagerOptions> = {}) {
  const clock = new FakeClock();
  const server = new FakeApiServer({ clock });
  const frontend = new FakeFrontend(server);
  const manager = createManager({ client: createClient(frontend.transport()), log: nullLogger, clock, ...options });
  const stop = new AbortController();
  return { clock, server, frontend, manager, stop };
}

/** What became of a promise so far. */
function watch(promise: Promise<unknown>): { state: string } {
  const seen = { state: 'pending' };
  promise.then(
    () => (seen.state = 'resolved'),
    (error: unknown) => (seen.state = String(error)),
  );
  return seen;
}

const leader = { namespace: 'default', name: 'lock', identity: 'me' };

test('workers start when all caches are filled and the lease is held, and the world follows', async () => {
  const { clock, server, frontend, manager, stop } = setup({ leader });
  server.create(ConfigMaps, { metadata: { name: 'a', namespace: 'x' } });
  const maps = manager.reflector(ConfigMaps);
  const secrets = manager.reflector(Secrets, { metadataOnly: true });
  assert.equal(manager.reflector(ConfigMaps), maps, 'the same question has the same answer');
  manager.controller({
    name: 'copy',
    sources: [forKind(maps)],
    reconcile: async (key) => {
      assert.ok(secrets.hasSynced);
      const [namespace = '', name = ''] = key.split('/');
      await manager.client.resource(Secrets).apply({ metadata: { namespace, name: `${name}-copy` } });
    },
  });
  frontend.fault = (_method, path) => (path.endsWith('/secrets') ? 'reset' : undefined);
  const run = watch(manager.run(stop.signal));
  await clock.advance(10_000);
  assert.match(manager.health.ready()['caches'] ?? '', /secrets/);
  assert.equal(server.peek(Leases, { namespace: 'default', name: 'lock' }), undefined, 'not elected before it could work');
  frontend.fault = undefined;
  await clock.advance(60_000);
  assert.deepEqual(manager.health.ready(), {});
  assert.ok(server.peek(Secrets, { namespace: 'x', name: 'a-copy' }));
  server.create(ConfigMaps, { metadata: { name: 'b', namespace: 'x' } });
  await clock.advance(100);
  assert.ok(server.peek(Secrets, { namespace: 'x', name: 'b-copy' }));
  stop.abort(new Error('received SIGTERM'));
  assert.match(manager.health.ready()['manager'] ?? '', /ending/);
  await clock.advance(30_000);
  assert.equal(run.state, 'resolved');
  const lease = server.peek(Leases, { namespace: 'default', name: 'lock' }) as KubeObject & { spec: Record<string, unknown> };
  assert.equal(lease.spec['holderIdentity'], '');
  assert.equal(server.storage.watchers.size, 0);
  assert.equal(clock.pending, 0);
});

test('a standby fills its caches and writes nothing', async () => {
  const { clock, server, manager, stop } = setup({ leader });
  server.create(Leases, {
    metadata: { name: 'lock', namespace: 'default' },
    spec: { holderIdentity: 'other', leaseDurationSeconds: 15, renewTime: '2026-01-01T00:00:00.000000Z' },
  });
  const renew = (): void =>
    void server.patch(Leases, { namespace: 'default', name: 'lock' }, [
      { op: 'replace', path: '/spec/renewTime', value: new Date(clock.now()).toISOString() },
    ]);
  const maps = manager.reflector(ConfigMaps);
  let reconciled = 0;
  manager.controller({ name: 'c', sources: [forKind(maps)], reconcile: () => Promise.resolve(void reconciled++) });
  server.create(ConfigMaps, { metadata: { name: 'a', namespace: 'x' } });
  const run = watch(manager.run(stop.signal));
  for (let round = 0; round < 20; round++) {
    await clock.advance(5000);
    renew();
  }
  assert.equal(maps.store.size, 1);
  assert.deepEqual(manager.health.ready(), {}, 'a standby is ready');
  assert.equal(reconciled, 0);
  await assert.rejects(manager.client.resource(Secrets).apply({ metadata: { name: 's', namespace: 'x' } }), NotLeadingError);
  stop.abort(new Error('end'));
  await clock.advance(1000);
  assert.equal(run.state, 'resolved');
});

test('the lease of a leader that was killed runs out while the caches fill', async () => {
  const { clock, server, frontend, manager, stop } = setup({ leader });
  server.create(Leases, {
    metadata: { name: 'lock', namespace: 'default' },
    spec: { holderIdentity: 'killed', leaseDurationSeconds: 15 },
  });
  manager.reflector(ConfigMaps);
  frontend.fault = (_method, path) => (path.endsWith('/configmaps') ? 'reset' : undefined);
  const run = watch(manager.run(stop.signal));
  await clock.advance(60_000);
  const holder = () =>
    (server.peek(Leases, { namespace: 'default', name: 'lock' }) as KubeObject & { spec: Record<string, unknown> }).spec[
      'holderIdentity'
    ];
  assert.equal(holder(), 'killed', 'who is not ready to lead does not take it');
  frontend.fault = undefined;
  // The reflector waits 30 s and its jitter at most.
  for (let waited = 0; !manager.reflector(ConfigMaps).hasSynced && waited < 70_000; waited += 100) await clock.advance(100);
  await clock.advance(300);
  assert.equal(holder(), 'me');
  stop.abort(new Error('end'));
  await clock.advance(1000);
  assert.equal(run.state, 'resolved');
  assert.equal(clock.pending, 0);
});

test('a manager that loses its lease ends with an error', async () => {
  const { clock, server, frontend, manager, stop } = setup({ leader });
  manager.controller({ name: 'c', sources: [forKind(manager.reflector(ConfigMaps))], reconcile: () => Promise.resolve() });
  const run = watch(manager.run(stop.signal));
  await clock.advance(5000);
  assert.ok(server.peek(Leases, { namespace: 'default', name: 'lock' }));
  frontend.fault = (_method, path) => (path.includes('/leases') ? new ApiError(500, 'etcd is away') : undefined);
  await clock.advance(30_000);
  assert.match(run.state, /NotLeading/);
});

test('caches that cannot be filled end the manager with a sentence that names them', async () => {
  const { clock, frontend, manager, stop } = setup({ syncTimeoutMs: 5000 });
  manager.reflector(ConfigMaps);
  manager.reflector(Secrets);
  frontend.fault = (_method, path) => (path.endsWith('/secrets') ? new ApiError(500, 'etcd is away') : undefined);
  const run = watch(manager.run(stop.signal));
  await clock.advance(10_000);
  assert.match(run.state, /did not fill within 5 s: secrets;/);
  assert.equal(clock.pending, 0);
});

test('a right that is missing is told and waited for; what may be done without it goes on, and the rest as soon as it is given', async () => {
  const told: string[] = [];
  const { clock, server, frontend, manager, stop } = setup({
    syncTimeoutMs: 5000,
    onRefusal: (refusal) => void told.push(refusal),
  });
  server.create(ConfigMaps, { metadata: { name: 'a', namespace: 'x' } });
  server.create(Secrets, { metadata: { name: 's', namespace: 'x' } });
  const worked: string[] = [];
  const work = (key: string): Promise<void> => Promise.resolve(void worked.push(key));
  manager.controller({ name: 'maps', sources: [forKind(manager.reflector(ConfigMaps))], reconcile: work });
  manager.controller({ name: 'secrets', sources: [forKind(manager.reflector(Secrets, { optional: true }))], reconcile: work });
  let forbidden = /secrets|configmaps/;
  frontend.fault = (_method, path) =>
    forbidden.test(path) ? new ApiError(403, `cannot list ${path}`, { reason: 'Forbidden' }) : undefined;
  const run = watch(manager.run(stop.signal));
  await clock.advance(60_000);
  assert.equal(run.state, 'pending', 'a process that is started anew would be refused, too');
  assert.deepEqual(told.toSorted(), ['cannot list /api/v1/configmaps', 'cannot list /api/v1/secrets'], 'each once');
  assert.match(manager.health.ready()['caches'] ?? '', /^not synced: configmaps \(cannot list \/api\/v1\/configmaps\)$/);
  forbidden = /secrets/;
  await clock.advance(60_000);
  assert.deepEqual(manager.health.ready(), {});
  assert.deepEqual(worked, ['x/a']);
  forbidden = /nothing/;
  await clock.advance(60_000);
  assert.deepEqual(worked, ['x/a', 'x/s']);
  stop.abort(new Error('received SIGTERM'));
  await clock.advance(30_000);
  assert.equal(run.state, 'resolved');
  assert.equal(clock.pending, 0);
});

test('a runnable that fails ends the manager with its error', async () => {
  const { clock, manager, stop } = setup();
  manager.runnable(async () => {
    await clock.sleep(1000);
    throw new Error('the poll is broken');
  });
  manager.reflector(ConfigMaps);
  const run = watch(manager.run(stop.signal));
  await clock.advance(30_000);
  assert.match(run.state, /the poll is broken/);
});

test('work that does not end when it is told to is a live failure, so that the process is restarted', async () => {
  const { clock, manager, stop } = setup({ drainMs: 1000 });
  manager.runnable(() => new Promise(() => {}));
  void manager.run(stop.signal);
  await clock.advance(1000);
  stop.abort(new Error('received SIGTERM'));
  await clock.advance(30_000);
  assert.equal(manager.health.live()['shutdown'], undefined);
  await clock.advance(2000);
  assert.match(manager.health.live()['shutdown'] ?? '', /told to end 32 s ago/);
});

test('health is served over HTTP, and says what fails', async () => {
  const health = createHealth();
  const metrics = new Registry();
  let broken: string | undefined;
  health.addReady('caches', () => broken);
  health.addLive('always', () => undefined);
  const many = Array.from({ length: 1000 }, (_, index) => `pieces{n="${index}"} ${'1'.repeat(100)}\n`);
  const server = await serveHealth({ health, metrics, moreMetrics: () => many, port: 0, host: '127.0.0.1' });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const get = async (path: string): Promise<string> => {
    const response = await fetch(url + path);
    return `${response.status} ${await response.text()}`;
  };
  try {
    assert.equal(await get('/readyz'), '200 ok\n');
    broken = 'not synced: pods';
    assert.equal(await get('/readyz'), '503 caches: not synced: pods\n');
    assert.equal(await get('/livez'), '200 ok\n');
    assert.equal(await get('/healthz?verbose'), '200 ok\n');
    assert.equal(await get('/metrics'), `200 ${await metrics.metrics()}${many.join('')}`);
    assert.match(await get('/other'), /^404 /);
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});

test('a stalled event loop and clocks that have drifted apart are live failures', async () => {
  const clock = new FakeClock();
  const health = createHealth();
  const stop = watchProcess(health, clock);
  await clock.advance(5000);
  assert.deepEqual(health.live(), {});
  clock.freeze(8000);
  clock.tick(0);
  await settle();
  assert.match(health.live()['event-loop'] ?? '', /late/);
  await clock.advance(2000);
  assert.equal(health.live()['event-loop'], undefined);
  clock.setWall(400_000);
  assert.match(health.live()['clock'] ?? '', /400 s apart/);
  stop();
  assert.equal(clock.pending, 0);
});
