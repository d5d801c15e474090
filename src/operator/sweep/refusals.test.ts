import assert from 'node:assert/strict';
import { test } from 'node:test';
import { JuiceCachePolicies, JuiceVolumes, parseJuiceVolume } from '../../api/kinds.ts';
import type { JuiceVolume } from '../../api/volume.ts';
import { createClient } from '../../kube/client.ts';
import { createManager } from '../../kube/manager.ts';
import { CoreEvents, Events, Namespaces, Pods, ReplicaSets } from '../../kube/resources.ts';
import { FakeApiServer } from '../../kube/testing/fake-apiserver.ts';
import { FakeClock } from '../../kube/testing/fake-clock.ts';
import { FakeFrontend } from '../../kube/testing/fake-transport.ts';
import { nullLogger } from '../../lib/log.ts';
import { addSweep } from './reconcile.ts';
import { hasItsPods, refusalOf } from './refusals.ts';
import { servedVerdict } from './served.ts';

type Json = Record<string, unknown>;

const denied = 'admission webhook "pods.juicepod.io" denied the request: volume "datasets" is not ready: Conflict';
const asks = { 'juicepod.io/volumes': 'team-a/datasets=/data' };

const volume = (from: string): Json =>
  parseJuiceVolume({
    apiVersion: 'juicepod.io/v1alpha1',
    kind: 'JuiceVolume',
    metadata: { name: 'datasets', namespace: 'team-a' },
    spec: {
      metadata: { redis: { addresses: ['redis:6379'] } },
      storage: { s3: { bucket: 'bucket' } },
      access: { allowedNamespaces: { from } },
    },
  }) as unknown as Json;

/** A ReplicaSet of the Deployment `train` that wants one pod. */
const replicaSet = (namespace: string, name: string, template: Json): Json => ({
  metadata: {
    name,
    namespace,
    ownerReferences: [{ apiVersion: 'apps/v1', kind: 'Deployment', name: 'train', uid: 'uid-train', controller: true }],
  },
  spec: { replicas: 1, template: { metadata: { annotations: template } } },
  status: { replicas: 0 },
});

function failedCreate(server: FakeApiServer, name: string, message: string, namespace = 'team-a'): void {
  const about = server.objects(ReplicaSets).find((each) => each.metadata.name === name);
  server.create(CoreEvents, {
    metadata: { name: `${name}.1`, namespace },
    reason: 'FailedCreate',
    type: 'Warning',
    message,
    lastTimestamp: new Date(server.clock.now()).toISOString(),
    involvedObject: { apiVersion: 'apps/v1', kind: 'ReplicaSet', namespace, name, uid: about?.metadata.uid },
  });
}

/** The operator's sweep on a server. */
async function world(from = 'Same') {
  const clock = new FakeClock();
  const server = new FakeApiServer({ clock, resources: [JuiceVolumes, JuiceCachePolicies] });
  for (const name of ['team-a', 'team-b']) server.create(Namespaces, { metadata: { name } });
  server.create(JuiceVolumes, volume(from));
  let end: () => Promise<void> = async () => {};
  const start = async (): Promise<() => Promise<string>> => {
    const manager = createManager({ client: createClient(new FakeFrontend(server).transport()), log: nullLogger, clock });
    addSweep(manager, manager.reflector(Namespaces, { metadataOnly: true }), clock, manager.reflector(JuiceVolumes));
    const stop = new AbortController();
    const run = manager.run(stop.signal);
    run.catch(() => {});
    end = async () => {
      stop.abort(new Error('the test is over'));
      await clock.advance(10_000);
      await run.catch(() => {});
    };
    await clock.advance(5000);
    return () => manager.metrics.getSingleMetricAsString('juicepod_workloads_refused');
  };
  return {
    clock,
    server,
    start,
    stop: () => end(),
    served: () => {
      const [found] = server.objects(JuiceVolumes) as unknown as readonly JuiceVolume[];
      return found?.status?.conditions?.find(({ type }) => type === 'PodsServed');
    },
    events: () =>
      server.objects(Events).map((event) => {
        const { reason, regarding, note } = event as unknown as {
          reason: string;
          note: string;
          regarding: { kind: string; name: string };
        };
        return `${regarding.kind} ${regarding.name} ${reason}: ${note}`;
      }),
  };
}

test('refused pods are told on the workload that a person made and in the volume’s status, until it has its pods', async () => {
  const { clock, server, start, stop, served, events } = await world();
  const metric = await start();
  server.create(ReplicaSets, replicaSet('team-a', 'train-7f', asks));
  failedCreate(server, 'train-7f', `Error creating: ${denied}`);
  await clock.advance(5000);
  assert.deepEqual(events(), [
    'Deployment train PodsRefused: no pod is created (ReplicaSet train-7f): volume "datasets" is not ready: Conflict',
  ]);
  assert.equal(served()?.status, 'False');
  assert.equal(served()?.reason, 'PodsRefused');
  assert.match(
    served()?.message ?? '',
    /1 workload\(s\) are refused: Deployment team-a\/train \(volume "datasets" is not ready: Conflict\)/,
  );
  assert.match(await metric(), /juicepod_workloads_refused\{namespace="team-a"\} 1/);

  const [found] = server.objects(ReplicaSets);
  assert.ok(found);
  server.replace(ReplicaSets, { ...found, status: { replicas: 1 } }, { fieldManager: 'm', subresource: 'status' });
  await clock.advance(200_000);
  assert.equal(served(), undefined);
  assert.equal(events().length, 1);
  assert.doesNotMatch(await metric(), /juicepod_workloads_refused\{/);
  await stop();
});

test('what an earlier operator had found stays until the next one has looked; then it goes, or stays for good', async () => {
  const { clock, server, start, stop, served } = await world();
  await start();
  server.create(Pods, {
    metadata: { name: 'slipped', namespace: 'team-a', annotations: asks },
    spec: { containers: [{ name: 'c' }] },
  });
  await clock.advance(5000);
  assert.equal(served()?.reason, 'PodsWithoutVolume');
  assert.match(served()?.message ?? '', /^1 pod\(s\) run without the volume: pod team-a\/slipped \(NotInjected\)$/);
  const since = served()?.lastTransitionTime;
  await stop();
  await start();
  await clock.advance(300_000);
  assert.equal(served()?.lastTransitionTime, since, 'it went and came again');
  await stop();
  server.delete(Pods, { namespace: 'team-a', name: 'slipped' });
  await start();
  assert.equal(served()?.reason, 'PodsWithoutVolume');
  await clock.advance(300_000);
  assert.equal(served(), undefined);
  await stop();
});

test('a namespace that the volume does not allow puts nothing into its status, but hears of its own refusal', async () => {
  for (const [from, expected] of [
    ['Same', undefined],
    ['All', 'PodsRefused'],
  ] as const) {
    const { clock, server, start, stop, served, events } = await world(from);
    await start();
    server.create(ReplicaSets, replicaSet('team-b', 'train-1', asks));
    failedCreate(server, 'train-1', `Error creating: ${denied}`, 'team-b');
    await clock.advance(5000);
    assert.equal(served()?.reason, expected);
    assert.equal(events().length, 1);
    await stop();
  }
});

test('only refusals of ours are kept: of the webhook, of the policies, and of our containers', () => {
  const event = (message: string, kind = 'ReplicaSet'): Json => ({
    apiVersion: 'v1',
    kind: 'Event',
    metadata: { name: 'e' },
    message,
    involvedObject: { kind, namespace: 'a', name: 'b', uid: 'u' },
  });
  const kept = [
    `Error creating: ${denied}`,
    `pods "a" is forbidden: ValidatingAdmissionPolicy 'juicepod-pods' with binding 'juicepod-pods' denied request: the pod asks`,
    'pods "a" is forbidden: violates PodSecurity "baseline:latest": privileged (containers "juicepod-holder", "juicepod-client" must not',
  ];
  for (const message of kept) assert.equal(refusalOf(event(message) as never)?.about, 'ReplicaSet/a/b', message);
  for (const [message, kind] of [
    ['pods "a" is forbidden: exceeded quota: q', 'ReplicaSet'],
    [`Error creating: ${denied}`, 'Elsewhere'],
    [`Error creating: ${denied}`, 'constructor'],
  ] as const)
    assert.equal(refusalOf(event(message, kind) as never), undefined, message);
  assert.ok((refusalOf(event(`${denied}${'x'.repeat(9000)}`) as never)?.why.length ?? 0) <= 800);
});

test('a workload has its pods when it has made as many as it wants', () => {
  const cases: readonly (readonly [string, Json, Json, boolean])[] = [
    ['ReplicaSet', { replicas: 2 }, { replicas: 1 }, false],
    ['ReplicaSet', { replicas: 2 }, { replicas: 2 }, true],
    ['ReplicaSet', { replicas: 0 }, {}, true],
    ['StatefulSet', {}, {}, false],
    ['Job', {}, {}, false],
    ['Job', {}, { active: 1 }, true],
    ['Job', {}, { succeeded: 1 }, true],
    ['DaemonSet', {}, { desiredNumberScheduled: 3, currentNumberScheduled: 2 }, false],
  ];
  for (const [kind, spec, status, expected] of cases)
    assert.equal(hasItsPods({ apiVersion: 'x', kind, metadata: { name: 'a' }, spec, status } as never), expected, kind);
});

test('a long list of those who go without is cut, and says how many there are', () => {
  const unserved = Array.from({ length: 9 }, (_, index) => ({
    who: `pod a/${index}`,
    namespace: 'a',
    runs: index > 0,
    why: 'x'.repeat(500),
    volumes: ['a/v'],
  }));
  const verdict = servedVerdict(unserved);
  assert.equal(verdict?.reason, 'PodsWithoutVolume');
  assert.match(verdict?.message ?? '', /^8 pod\(s\) .* and 3 more; the pods of 1 workload\(s\) are refused: pod a\/0/);
  assert.ok((verdict?.message.length ?? 0) < 4000);
  assert.equal(servedVerdict([]), undefined);
});
