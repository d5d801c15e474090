import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createClient } from '../../kube/client.ts';
import { createManager } from '../../kube/manager.ts';
import { Events, Namespaces, Pods } from '../../kube/resources.ts';
import { FakeApiServer } from '../../kube/testing/fake-apiserver.ts';
import { FakeClock } from '../../kube/testing/fake-clock.ts';
import { FakeFrontend } from '../../kube/testing/fake-transport.ts';
import { nullLogger } from '../../lib/log.ts';
import { addSweep } from './reconcile.ts';

type Json = Record<string, unknown>;

async function swept(change: (server: FakeApiServer) => void, later: (server: FakeApiServer) => void = () => {}) {
  const clock = new FakeClock();
  const server = new FakeApiServer({ clock });
  const frontend = new FakeFrontend(server);
  const manager = createManager({ client: createClient(frontend.transport()), log: nullLogger, clock });
  addSweep(manager, manager.reflector(Namespaces, { metadataOnly: true }));
  change(server);
  const stop = new AbortController();
  const run = manager.run(stop.signal);
  run.catch(() => {});
  await clock.advance(5000);
  later(server);
  await clock.advance(20_000);
  const metrics = await manager.metrics.getSingleMetricAsString('juicepod_pods_without_volume');
  stop.abort(new Error('the test is over'));
  await clock.advance(10_000);
  await run.catch(() => {});
  const events = server.objects(Events).map((event) => {
    const { reason, regarding, type } = event as unknown as { reason: string; type: string; regarding: { name: string } };
    return `${type} ${regarding.name} ${reason}`;
  });
  const read = frontend.requests.filter((line) => /^GET \/api\/v1\/namespaces\/[^/]+\/pods\/[^?]+/.test(line)).length;
  return { events: events.toSorted((a, b) => a.localeCompare(b)), metrics, read };
}

const pod = (name: string, annotations: Json, initContainers: readonly Json[] = [], namespace = 'apps'): Json => ({
  metadata: { name, namespace, annotations },
  spec: { initContainers, containers: [{ name: 'main' }] },
});
const asks = { 'juicepod.io/volumes': 'a=/a' };
const always = { restartPolicy: 'Always' };

test('pods that slipped through get an event each and are counted; the others are not even read', async () => {
  const { events, metrics, read } = await swept((server) => {
    server.create(Namespaces, { metadata: { name: 'out', labels: { 'juicepod.io/injection': 'disabled' } } });
    server.create(Pods, pod('plain', {}));
    server.create(Pods, pod('slipped', asks));
    server.create(Pods, pod('left-out', asks, [], 'out'));
    server.create(
      Pods,
      pod('whole', { ...asks, 'juicepod.io/plan': '{}' }, [
        { name: 'juicepod-holder', ...always },
        { name: 'juicepod-client', ...always },
      ]),
    );
    server.create(
      Pods,
      pod('damaged', { ...asks, 'juicepod.io/plan': '{}' }, [
        { name: 'juicepod-holder' },
        { name: 'juicepod-client', ...always },
      ]),
    );
  });
  assert.deepEqual(events, ['Warning damaged SidecarNotRestarted', 'Warning slipped NotInjected']);
  assert.match(metrics, /juicepod_pods_without_volume\{namespace="apps",reason="NotInjected"\} 1/);
  assert.match(metrics, /juicepod_pods_without_volume\{namespace="apps",reason="SidecarNotRestarted"\} 1/);
  assert.equal(read, 3);
});

test('a pod that is created while the operator runs is seen, and one that goes is no longer counted', async () => {
  const { events, metrics } = await swept(
    (server) => void server.create(Pods, pod('first', asks)),
    (server) => {
      server.delete(Pods, { namespace: 'apps', name: 'first' });
      server.create(Pods, pod('second', asks));
    },
  );
  assert.deepEqual(events, ['Warning first NotInjected', 'Warning second NotInjected']);
  assert.match(metrics, /reason="NotInjected"\} 1$/m);
});
