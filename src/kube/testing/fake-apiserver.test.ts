/** What the common suite (test/kube/client.test.ts) cannot ask a real API server alone: controllers' work, and faults. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createClient } from '../client.ts';
import { controllerRef } from '../owner.ts';
import { ConfigMaps, Secrets } from '../resources.ts';
import type { WatchEvent } from '../types.ts';
import { FakeApiServer } from './fake-apiserver.ts';
import { selector } from './fake-selectors.ts';
import { FakeFrontend } from './fake-transport.ts';

const metadata = (name: string, more: Readonly<Record<string, unknown>> = {}) => ({ name, namespace: 'x', ...more });

test('children go with their last owner, held ones when they are let go', () => {
  const server = new FakeApiServer();
  const one = server.create(ConfigMaps, { metadata: metadata('one') });
  const two = server.create(ConfigMaps, { metadata: metadata('two') });
  const owned = (name: string, owners: readonly (typeof one)[], more = {}): void =>
    void server.create(Secrets, {
      metadata: metadata(name, { ownerReferences: owners.map((owner) => controllerRef(owner, ConfigMaps)), ...more }),
    });
  owned('child', [one]);
  owned('shared', [one, two]);
  owned('held', [one], { finalizers: ['example.com/hold'] });
  server.delete(ConfigMaps, { namespace: 'x', name: 'one' });
  assert.deepEqual(
    server.objects(Secrets).map((each) => each.metadata.name),
    ['held', 'shared'],
  );
  assert.ok(server.peek(Secrets, { namespace: 'x', name: 'held' })?.metadata.deletionTimestamp);
  server.patch(Secrets, { namespace: 'x', name: 'held' }, [{ op: 'remove', path: '/metadata/finalizers/0' }]);
  server.delete(ConfigMaps, { namespace: 'x', name: 'two' });
  assert.deepEqual(server.objects(Secrets), []);
});

test('a consumer that does not keep up is cut off', async () => {
  const server = new FakeApiServer();
  const frontend = new FakeFrontend(server);
  const client = createClient(frontend.transport()).resource(ConfigMaps);
  const { resourceVersion } = await client.list();
  const watch = client.watch({ resourceVersion })[Symbol.asyncIterator]();
  server.create(ConfigMaps, { metadata: metadata('a') });
  const first = (await watch.next()).value as WatchEvent<never>;
  assert.equal(first.type, 'ADDED');
  for (let index = 0; index < 600; index++) server.create(ConfigMaps, { metadata: metadata(`b${index}`) });
  let received = 0;
  await assert.rejects(async () => {
    while (!(await watch.next()).done) received++;
  }, /broken off/);
  assert.ok(received > 0 && received < 600);
  assert.equal(server.storage.watchers.size, 0);
});

test('selectors choose by labels and fields as kubectl writes them', () => {
  const object = (name: string, labels: Readonly<Record<string, string>>) => ({
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name, labels },
    spec: { on: true },
  });
  const all = [object('a', { env: 'prod', tier: 'web' }), object('b', { env: 'test' }), object('c', {})];
  const chosen = (labels: string, fields = ''): string =>
    all
      .filter(selector(labels, fields))
      .map((each) => each.metadata.name)
      .join('');
  assert.equal(chosen('env=prod'), 'a');
  assert.equal(chosen('env!=prod'), 'bc');
  assert.equal(chosen('env in (prod, test),tier notin (db)'), 'ab');
  assert.equal(chosen('env'), 'ab');
  assert.equal(chosen('!env'), 'c');
  assert.equal(chosen('', 'metadata.name!=a,spec.on=true'), 'bc');
});
