import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nullLogger } from '../lib/log.ts';
import { createClient } from './client.ts';
import { ApiError } from './errors.ts';
import { createManager } from './manager.ts';
import { ConfigMaps, Namespaces } from './resources.ts';
import { LOOK_MS } from './scope.ts';
import { FakeApiServer } from './testing/fake-apiserver.ts';
import { FakeClock, settle } from './testing/fake-clock.ts';
import { FakeFrontend } from './testing/fake-transport.ts';

function setup(namespaces: readonly string[]) {
  const clock = new FakeClock();
  const server = new FakeApiServer({ clock });
  const frontend = new FakeFrontend(server);
  // As Roles in these namespaces allow: nothing of the whole cluster.
  frontend.fault = (_method, path) => {
    const allowed = namespaces.some(
      (name) => path.startsWith(`/api/v1/namespaces/${name}/`) || path === `/api/v1/namespaces/${name}`,
    );
    return allowed ? undefined : new ApiError(403, `${path} is forbidden`, { reason: 'Forbidden' });
  };
  const manager = createManager({ client: createClient(frontend.transport()), log: nullLogger, clock, namespaces });
  const stop = new AbortController();
  return { clock, server, frontend, manager, stop };
}

test('the objects of the namespaces that may be seen are one store, kept up to date, and no others are asked for', async () => {
  const { clock, server, manager, stop } = setup(['a', 'b']);
  for (const namespace of ['a', 'b', 'c']) server.create(ConfigMaps, { metadata: { name: 'x', namespace } });
  const reflector = manager.reflector(ConfigMaps, { indexes: { name: ({ metadata }) => [metadata.name] } });
  const changes: string[] = [];
  reflector.onChange(({ type, key }) => changes.push(`${type} ${key}`));
  const run = manager.run(stop.signal);
  await clock.advance(1000);
  assert.ok(reflector.hasSynced);
  assert.deepEqual([...reflector.store.keys()].toSorted(), ['a/x', 'b/x']);
  assert.equal(reflector.store.get('b/x')?.metadata.namespace, 'b');
  assert.equal(reflector.store.get('c/x'), undefined);
  assert.deepEqual(
    reflector.store.byIndex('name', 'x').map(({ metadata }) => metadata.namespace),
    ['a', 'b'],
  );
  server.create(ConfigMaps, { metadata: { name: 'y', namespace: 'b' } });
  server.create(ConfigMaps, { metadata: { name: 'y', namespace: 'c' } });
  await clock.advance(1000);
  assert.equal(reflector.store.size, 3);
  assert.deepEqual(changes, ['added a/x', 'added b/x', 'added b/y']);
  stop.abort(new Error('over'));
  await clock.advance(60_000);
  await run;
});

test('namespaces are got by name, and their labels seen after half a minute at most', async () => {
  const { clock, server, manager, stop } = setup(['a', 'b']);
  server.create(Namespaces, { metadata: { name: 'a' } });
  const reflector = manager.reflector(Namespaces, { metadataOnly: true });
  const changes: string[] = [];
  reflector.onChange(({ type, key }) => changes.push(`${type} ${key}`));
  const run = manager.run(stop.signal);
  await clock.advance(1000);
  assert.deepEqual([...reflector.store.keys()], ['a']);
  server.create(Namespaces, { metadata: { name: 'b', labels: { team: 'b' } } });
  await clock.advance(LOOK_MS + 1000);
  assert.deepEqual(reflector.store.get('b')?.metadata.labels, { team: 'b' });
  await clock.advance(10 * LOOK_MS);
  assert.deepEqual(changes, ['added a', 'added b'], 'what did not change is not told again');
  server.delete(Namespaces, { name: 'b' });
  await clock.advance(LOOK_MS + 1000);
  assert.equal(reflector.store.get('b'), undefined);
  assert.deepEqual(changes.slice(2), ['deleted b']);
  stop.abort(new Error('over'));
  await clock.advance(60_000);
  await settle();
  await run;
});
