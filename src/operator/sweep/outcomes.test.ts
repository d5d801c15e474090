import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createClient } from '../../kube/client.ts';
import { createManager } from '../../kube/manager.ts';
import { Events, Pods } from '../../kube/resources.ts';
import { FakeApiServer } from '../../kube/testing/fake-apiserver.ts';
import { FakeClock } from '../../kube/testing/fake-clock.ts';
import { FakeFrontend } from '../../kube/testing/fake-transport.ts';
import { nullLogger } from '../../lib/log.ts';
import { addSyncOutcomes } from './outcomes.ts';

type Json = Record<string, unknown>;

/** An operator on a server, until `stop`. */
async function operator(server: FakeApiServer, clock: FakeClock) {
  const frontend = new FakeFrontend(server);
  const manager = createManager({ client: createClient(frontend.transport()), log: nullLogger, clock });
  addSyncOutcomes(manager, clock);
  const ending = new AbortController();
  const run = manager.run(ending.signal);
  run.catch(() => {});
  await clock.advance(5000);
  return {
    told: () => manager.metrics.getSingleMetricAsString('juicepod_sync_outcomes_total'),
    async stop() {
      ending.abort(new Error('the test is over'));
      await clock.advance(10_000);
      await run.catch(() => {});
    },
  };
}

const pod = (name: string, labels: Json = { 'juicepod.io/sync': 'true' }): Json => ({
  metadata: { name, namespace: 'apps', uid: `uid-${name}`, labels },
  spec: { containers: [{ name: 'main' }] },
  status: { phase: 'Running' },
});

const failed = (at: number, message: string): Json => ({
  phase: 'Failed',
  initContainerStatuses: [
    { name: 'juicepod-sync', state: { terminated: { exitCode: 1, message, finishedAt: new Date(at).toISOString() } } },
  ],
});

function end(server: FakeApiServer, name: string, at: number, message: string): void {
  const found = server.objects(Pods).find(({ metadata }) => metadata.name === name);
  assert.ok(found);
  server.replace(Pods, { ...found, status: failed(at, message) }, { fieldManager: 'kubelet', subresource: 'status' });
}

const eventsOf = (server: FakeApiServer): readonly string[] =>
  server
    .objects(Events)
    .map((event) => {
      const { reason, regarding, note } = event as unknown as {
        reason: string;
        note: string;
        regarding: { name: string; uid: string };
      };
      return `${regarding.name} ${regarding.uid === '' ? 'no uid' : reason}: ${note.slice(0, 40)}`;
    })
    .toSorted((a, b) => a.localeCompare(b));

test('a pod that ends with something unsent, or in conflict, gets one event of each kind, though it is gone at once', async () => {
  const clock = new FakeClock();
  const server = new FakeApiServer({ clock });
  for (const name of ['one', 'two', 'fine']) server.create(Pods, pod(name));
  server.create(Pods, pod('other', {}));
  const running = await operator(server, clock);
  const message = 'NotFlushed: default/out: 2 changes were not written back (a, b)\nConflictKept: default/out: 1 conflicts (c)';
  end(server, 'one', clock.now(), message);
  server.delete(Pods, { namespace: 'apps', name: 'one' });
  end(server, 'two', clock.now(), 'NotFlushed: default/out: 1 changes were not written back (d)');
  end(server, 'fine', clock.now(), 'all is well');
  end(server, 'other', clock.now(), message);
  await clock.advance(20_000);
  const expected = [
    'one ConflictKept: default/out: 1 conflicts (c). Compare th',
    'one NotFlushed: default/out: 2 changes were not written ',
    'two NotFlushed: default/out: 1 changes were not written ',
  ];
  assert.deepEqual(eventsOf(server), expected);
  assert.match(await running.told(), /namespace="apps",reason="NotFlushed"\} 2/);
  await running.stop();

  const next = await operator(server, clock);
  await clock.advance(20_000);
  assert.deepEqual(eventsOf(server), expected, 'an operator that begins anew tells nothing again');
  assert.doesNotMatch(await next.told(), /NotFlushed/);
  await next.stop();
});

test('a pod that ended while no operator was there is told of, unless that is longer ago than events live', async () => {
  const clock = new FakeClock();
  const server = new FakeApiServer({ clock });
  for (const name of ['new', 'old']) server.create(Pods, pod(name));
  end(server, 'old', clock.now() - 2 * 3_600_000, 'NotFlushed: default/out: 1 changes');
  end(server, 'new', clock.now() - 600_000, 'NotFlushed: default/out: 1 changes');
  const running = await operator(server, clock);
  await clock.advance(20_000);
  assert.deepEqual(
    eventsOf(server).map((line) => line.split(':')[0]),
    ['new NotFlushed'],
  );
  await running.stop();
});
