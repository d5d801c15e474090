/** Roll-outs of the client's image and options on a cluster in memory, with a kubelet that restarts what is changed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { annotations, sidecars } from '../../src/api/group.ts';
import { CLIENT } from '../../src/admission/names.ts';
import { formatPlan, parsePlan, type Plan } from '../../src/api/plan.ts';
import { planChange } from '../../src/api/plan-change.ts';
import { injectFile } from '../../src/admission/inject.ts';
import type { JuiceCachePolicy } from '../../src/api/cachepolicy.ts';
import { JuiceVolumes, parseJuiceCachePolicy, parseJuiceVolume } from '../../src/api/kinds.ts';
import type { JuiceVolume } from '../../src/api/volume.ts';
import { createClient } from '../../src/kube/client.ts';
import { ApiError } from '../../src/kube/errors.ts';
import { keyOf, Pods } from '../../src/kube/resources.ts';
import { FakeApiServer } from '../../src/kube/testing/fake-apiserver.ts';
import { FakeFrontend } from '../../src/kube/testing/fake-transport.ts';
import type { EventInput, KubeObject, Store } from '../../src/kube/types.ts';
import { systemClock } from '../../src/lib/clock.ts';
import { nullLogger } from '../../src/lib/log.ts';
import { systemRandom } from '../../src/lib/random.ts';
import type { PodObject } from '../../src/operator/rollout/pod.ts';
import { rolloutReconciler } from '../../src/operator/rollout/reconcile.ts';

const [OLD, NEW] = ['ghcr.io/x/juicepod:1', 'ghcr.io/x/juicepod:2'];

function createWorld(options: { readonly standardImage?: string; readonly allowedImages?: readonly string[] } = {}) {
  const server = new FakeApiServer({ resources: [JuiceVolumes] });
  const frontend = new FakeFrontend(server);
  const client = createClient(frontend.transport());
  const events: EventInput[] = [];
  const policies = new Map<string, JuiceCachePolicy>();
  /** The plans by which clients run. */
  const running = new Map<string, string>();
  const find = (key: string): JuiceVolume | undefined =>
    (server.objects(JuiceVolumes) as unknown as JuiceVolume[]).find((each) => keyOf(each as unknown as KubeObject) === key);
  const reconcile = rolloutReconciler({
    client,
    resource: JuiceVolumes,
    volumes: { get: find } as unknown as Store<JuiceVolume>,
    policies: policies as unknown as Store<JuiceCachePolicy>,
    events: { record: (event) => void events.push(event), close: async () => {} },
    standardImage: options.standardImage,
    allowedImages: options.allowedImages ?? [],
    clock: systemClock,
    random: systemRandom,
  });
  const pod = (namespace: string, name: string): PodObject => server.get(Pods, { namespace, name }) as unknown as PodObject;
  return {
    server,
    frontend,
    events,
    pod,
    volume: (name = 'datasets') => find(`data/${name}`),
    async createVolume(client_: object, name = 'datasets', more: object = {}): Promise<void> {
      const object = parseJuiceVolume({
        apiVersion: 'juicepod.io/v1alpha1',
        kind: 'JuiceVolume',
        metadata: { name, namespace: 'data' },
        spec: {
          metadata: { redis: { addresses: ['redis:6379'] } },
          storage: { file: { path: '/blocks' } },
          client: client_,
          ...more,
        },
      });
      await client.resource(JuiceVolumes).create(object as never);
    },
    async changeVolume(more: object, name = 'datasets'): Promise<void> {
      const { spec } = parseJuiceVolume({ ...find(`data/${name}`), spec: { ...find(`data/${name}`)?.spec, ...more } });
      await client.resource(JuiceVolumes).patch({ namespace: 'data', name }, [{ op: 'replace', path: '/spec', value: spec }]);
    },
    async changeClient(client_: object, name = 'datasets'): Promise<void> {
      const { spec } = parseJuiceVolume({ ...find(`data/${name}`), spec: { ...find(`data/${name}`)?.spec, client: client_ } });
      await client.resource(JuiceVolumes).patch({ namespace: 'data', name }, [{ op: 'replace', path: '/spec', value: spec }]);
    },
    setPolicy(name: string, spec: object): void {
      const metadata = { name, namespace: 'data' };
      const kind = { apiVersion: 'juicepod.io/v1alpha1', kind: 'JuiceCachePolicy' };
      policies.set(`data/${name}`, parseJuiceCachePolicy({ ...kind, metadata, spec }));
    },
    /** A pod as the webhook makes it. */
    createInjected(name: string): void {
      const volume = { ...find('data/datasets'), status: undefined };
      const app = {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name, namespace: 'data', annotations: { [annotations.volumes]: 'datasets=/data' } },
        spec: { containers: [{ name: 'app', image: 'app' }] },
      };
      const { documents, reasons } = injectFile(
        [volume, ...policies.values(), app].map((one) => JSON.stringify(one)).join('\n---\n'),
      );
      assert.equal(reasons.at(-1)?.action, 'inject', JSON.stringify(reasons));
      const { metadata, spec } = documents.at(-1) as unknown as PodObject;
      server.create(Pods, { apiVersion: 'v1', kind: 'Pod', metadata, spec });
      const status = {
        phase: 'Running',
        initContainerStatuses: [
          { name: sidecars.client, ready: true, started: true, restartCount: 0, image: spec.initContainers?.[1]?.image },
        ],
      };
      server.patch(Pods, { namespace: 'data', name }, [{ op: 'add', path: '/status', value: status }], {
        fieldManager: 'kubelet',
        subresource: 'status',
      });
    },
    /** The plan of each pod. */
    plans: (): Record<string, Plan> =>
      Object.fromEntries(
        (server.objects(Pods) as unknown as PodObject[]).map(({ metadata }) => [
          metadata.name,
          parsePlan(metadata.annotations?.[annotations.plan] ?? ''),
        ]),
      ),
    createPod(name: string, volumes: readonly string[] = ['data/datasets'], namespace = 'data'): void {
      const mounts = volumes.map((volume, index) => ({
        id: String(index),
        volume,
        config: `/etc/juicepod/volumes/${index}/volume.json`,
        target: `/juicepod/mnt/${index}`,
      }));
      const plan = formatPlan(parsePlan(JSON.stringify({ version: 1, mounts })));
      server.create(Pods, {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { namespace, name, annotations: { [annotations.plan]: plan } },
        spec: {
          initContainers: [
            { name: 'juicepod-holder', image: OLD },
            { name: sidecars.client, image: OLD },
          ],
          containers: [{ name: 'app', image: 'app' }],
        },
      });
      const status = {
        phase: 'Running',
        initContainerStatuses: [{ name: sidecars.client, ready: true, started: true, restartCount: 0, image: OLD }],
      };
      server.patch(Pods, { namespace, name }, [{ op: 'add', path: '/status', value: status }], {
        fieldManager: 'kubelet',
        subresource: 'status',
      });
    },
    /** Restarts each client whose image or plan is not the one it runs by; `broken` images cannot be had. */
    kubelet(broken: readonly string[] = []): void {
      for (const each of server.objects(Pods) as unknown as (PodObject & {
        status: { initContainerStatuses: { image: string; restartCount: number }[] };
      })[]) {
        const image = each.spec.initContainers?.[1]?.image ?? '';
        const before = each.status.initContainerStatuses[0];
        const plan = each.metadata.annotations?.[annotations.plan] ?? '';
        const ran = running.get(each.metadata.name) ?? plan;
        const change = planChange(parsePlan(ran), parsePlan(plan));
        running.set(each.metadata.name, plan);
        if (!before || (before.image === image && change !== 'restart')) continue;
        const bad = broken.includes(image);
        const status = {
          name: sidecars.client,
          image: bad ? before.image : image,
          ready: !bad,
          started: !bad,
          restartCount: before.restartCount + (bad ? 0 : 1),
          state: bad ? { waiting: { reason: 'ErrImageNeverPull', message: 'there is none' } } : { running: {} },
        };
        const ref = { namespace: each.metadata.namespace, name: each.metadata.name };
        server.patch(Pods, ref, [{ op: 'replace', path: '/status/initContainerStatuses/0', value: status }], {
          fieldManager: 'kubelet',
          subresource: 'status',
        });
      }
    },
    reconcile: (name = 'datasets') =>
      reconcile(`data/${name}`, { signal: AbortSignal.timeout(10_000), log: nullLogger, reconcileID: 'test' }),
    /** The client's image of each pod. */
    images: (): Record<string, string> =>
      Object.fromEntries(
        (server.objects(Pods) as unknown as PodObject[]).map((each) => [
          each.metadata.name,
          each.spec.initContainers?.[1]?.image ?? '',
        ]),
      ),
  };
}

const podByPod = { image: NEW, rollout: { strategy: 'PodByPod' } };

test('the name of the client’s container is the one that the webhook gives', () => assert.equal(sidecars.client, CLIENT));

test('a new image goes from pod to pod, and the status says how far it is', async () => {
  const world = createWorld();
  await world.createVolume(podByPod);
  for (const name of ['a', 'b', 'c']) world.createPod(name);
  const seen: string[] = [];
  for (let round = 0; round < 8; round++) {
    await world.reconcile();
    const { state = '', updated, total } = world.volume()?.status?.rollout ?? {};
    seen.push(`${state} ${updated}/${total}`);
    const changed = Object.values(world.images()).filter((image) => image === NEW).length;
    assert.ok(changed - (updated ?? 0) <= 1, 'more than one client is restarting');
    world.kubelet();
  }
  assert.deepEqual([...new Set(seen)], ['Progressing 0/3', 'Progressing 1/3', 'Progressing 2/3', 'Complete 3/3']);
  assert.deepEqual(world.images(), { a: NEW, b: NEW, c: NEW });
  assert.equal(world.pod('data', 'a').spec.initContainers?.[0]?.image, OLD, 'the holder is not touched');
  assert.deepEqual(
    world.events.map(({ reason }) => reason),
    ['RolloutComplete'],
  );
});

test('it stops at the first pod whose client does not come back, which gets its former image again', async () => {
  const world = createWorld();
  await world.createVolume(podByPod);
  for (const name of ['a', 'b']) world.createPod(name);
  for (let round = 0; round < 5; round++) {
    await world.reconcile();
    world.kubelet([NEW]);
  }
  assert.deepEqual(world.images(), { a: OLD, b: OLD });
  const { state, failed, message } = world.volume()?.status?.rollout ?? {};
  assert.equal(state, 'Failed');
  assert.deepEqual(failed, ['data/a']);
  assert.match(message ?? '', /ErrImageNeverPull: there is none/);
  assert.deepEqual(
    world.events.map(({ reason, type }) => `${type} ${reason}`),
    ['Warning RolloutFailed'],
  );
  // Neither that pod's end nor time make it go on to the others.
  world.server.delete(Pods, { namespace: 'data', name: 'a' });
  for (let round = 0; round < 3; round++) await world.reconcile();
  assert.deepEqual(world.images(), { b: OLD });
  assert.equal(world.volume()?.status?.rollout?.state, 'Failed');
  assert.deepEqual(world.volume()?.status?.rollout?.failed, ['data/a']);
  // Another image is another roll-out.
  await world.changeClient({ ...podByPod, image: 'ghcr.io/x/juicepod:3' });
  for (let round = 0; round < 6; round++) {
    await world.reconcile();
    world.kubelet([NEW]);
  }
  assert.equal(world.volume()?.status?.rollout?.state, 'Complete');
  assert.deepEqual(new Set(Object.values(world.images())), new Set(['ghcr.io/x/juicepod:3']));
});

test('without the strategy, suspended or paused, no pod is changed; the status of an earlier roll-out goes', async () => {
  const world = createWorld();
  await world.createVolume({ image: NEW });
  world.createPod('a');
  await world.reconcile();
  assert.equal(world.volume()?.status?.rollout, undefined);
  await world.changeClient({ image: NEW, rollout: { strategy: 'PodByPod', paused: true } });
  await world.reconcile();
  assert.equal(world.volume()?.status?.rollout?.state, 'Paused');
  assert.deepEqual(world.images(), { a: OLD });
  await world.changeClient({ image: NEW });
  await world.reconcile();
  assert.equal(world.volume()?.status?.rollout, undefined);
});

test('a pod with several volumes follows the first that names an image, and only that', async () => {
  const world = createWorld({ standardImage: 'ghcr.io/x/juicepod:standard' });
  await world.createVolume({ rollout: { strategy: 'PodByPod' } }, 'plain');
  await world.createVolume(podByPod);
  world.createPod('both', ['data/plain', 'data/datasets']);
  world.createPod('one', ['data/plain']);
  for (let round = 0; round < 3; round++) {
    for (const name of ['plain', 'datasets']) await world.reconcile(name);
    world.kubelet();
  }
  assert.deepEqual(world.images(), { both: NEW, one: 'ghcr.io/x/juicepod:standard' });
  assert.equal(world.volume('plain')?.status?.rollout?.total, 1);
});

test('pods of other namespaces are given only images that the administrator allows', async () => {
  const grant = { access: { allowedNamespaces: { from: 'All' } } };
  const strict = createWorld();
  await strict.createVolume(podByPod, 'datasets', grant);
  strict.createPod('guest', ['data/datasets'], 'apps');
  await strict.reconcile();
  assert.deepEqual(strict.images(), { guest: OLD });
  assert.match(strict.volume()?.status?.rollout?.message ?? '', /1 pods of other namespaces are left alone/);
  const open = createWorld({ allowedImages: ['ghcr.io/x/'] });
  await open.createVolume(podByPod, 'datasets', grant);
  open.createPod('guest', ['data/datasets'], 'apps');
  await open.reconcile();
  assert.deepEqual(open.images(), { guest: NEW });
});

test('pods of nobody, and a volume without pods, are none of its business', async () => {
  const world = createWorld();
  await world.createVolume(podByPod);
  world.createPod('other', ['data/else']);
  await world.reconcile();
  assert.deepEqual(world.images(), { other: OLD });
  assert.equal(world.volume()?.status?.rollout?.message, 'no pod runs');
});

test('an operator that may not patch pods says which permission it lacks', async () => {
  const world = createWorld();
  await world.createVolume(podByPod);
  world.createPod('a');
  world.frontend.fault = (method, path) =>
    method === 'PATCH' && path.includes('/pods/') ? new ApiError(403, 'pods is forbidden', { reason: 'Forbidden' }) : undefined;
  await world.reconcile();
  const { state, message } = world.volume()?.status?.rollout ?? {};
  assert.equal(state, 'Blocked');
  assert.match(message ?? '', /config\/rbac\/rollout\.yaml/);
});

test('where a policy keeps the operator from changing a pod, the status says so', async () => {
  const world = createWorld();
  await world.createVolume(podByPod);
  world.createPod('a');
  world.frontend.fault = (method, path) =>
    method === 'PATCH' && path.includes('/pods/')
      ? new ApiError(422, 'policy juicepod-operator-rollout denied the request', { reason: 'Invalid' })
      : undefined;
  await world.reconcile();
  const { state, message } = world.volume()?.status?.rollout ?? {};
  assert.equal(state, 'Blocked');
  assert.match(message ?? '', /config\/policies\/rollout\.yaml.*juicepod-operator-rollout denied/);
});

test('a pod that was replaced by another of its name meanwhile is not changed', async () => {
  const world = createWorld();
  await world.createVolume(podByPod);
  world.createPod('a');
  let replaced = false;
  world.frontend.fault = (method, path) => {
    if (method === 'PATCH' && path.includes('/pods/') && !replaced) {
      replaced = true;
      world.server.delete(Pods, { namespace: 'data', name: 'a' });
      world.createPod('a');
    }
    return undefined;
  };
  await world.reconcile();
  assert.equal(replaced, true);
  assert.deepEqual(world.images(), { a: OLD });
  await world.reconcile();
  assert.deepEqual(world.images(), { a: NEW });
});

const options = { rollout: { strategy: 'PodByPod' }, image: NEW };

/** A volume with a policy, and pods that were made with them. */
async function worldWithOptions(...names: readonly string[]) {
  const world = createWorld();
  world.setPolicy('cache', { local: { size: '10Gi' }, buffer: { size: '300Mi' }, metadata: { attrTTL: '1s' } });
  await world.createVolume(options, 'datasets', { cachePolicyRef: { name: 'cache' } });
  for (const name of names) world.createInjected(name);
  world.kubelet();
  await world.reconcile();
  assert.equal(world.volume()?.status?.rollout?.state, 'Complete');
  return world;
}

test('other options go from pod to pod, each of which is restarted, and only the plan is changed', async () => {
  const world = await worldWithOptions('a', 'b', 'c');
  const before = world.pod('data', 'a');
  world.setPolicy('cache', { buffer: { size: '300Mi' }, metadata: { attrTTL: '5s' }, readahead: { max: '64Mi' } });
  const seen: string[] = [];
  for (let round = 0; round < 8; round++) {
    await world.reconcile();
    const { state = '', updated, total } = world.volume()?.status?.rollout ?? {};
    seen.push(`${state} ${updated}/${total}`);
    const changed = Object.values(world.plans()).filter(({ attrTTL }) => attrTTL === 5).length;
    assert.ok(changed - (updated ?? 0) <= 1, 'more than one client is restarting');
    world.kubelet();
  }
  assert.deepEqual([...new Set(seen)], ['Progressing 0/3', 'Progressing 1/3', 'Progressing 2/3', 'Complete 3/3']);
  for (const plan of Object.values(world.plans())) assert.deepEqual([plan.attrTTL, plan.readaheadMiB], [5, 64]);
  const { spec, metadata } = world.pod('data', 'a');
  assert.deepEqual(spec, before.spec);
  const { [annotations.plan]: _plan, [annotations.rollout]: _record, ...others } = metadata.annotations ?? {};
  const { [annotations.plan]: _before, ...othersBefore } = before.metadata.annotations ?? {};
  assert.deepEqual(others, othersBefore);
});

test('limits and the log level go to all pods without a restart', async () => {
  const world = await worldWithOptions('a', 'b');
  world.setPolicy('cache', { local: { size: '10Gi' }, metadata: { attrTTL: '1s' }, io: { uploadLimit: '1Mi' } });
  await world.changeClient({ ...options, logLevel: 'warn' });
  for (let round = 0; round < 3; round++) {
    await world.reconcile();
    world.kubelet();
  }
  assert.equal(world.volume()?.status?.rollout?.state, 'Complete');
  for (const name of ['a', 'b']) {
    const plan = world.plans()[name];
    assert.deepEqual([plan?.uploadLimit, plan?.logLevel], [1 << 20, 'warn']);
    assert.equal(world.pod('data', name).status?.initContainerStatuses?.[0]?.restartCount, 0);
  }
});

test('a client that does not take other options up has its former ones again, and no other pod is touched until they change', async () => {
  const world = await worldWithOptions('a', 'b');
  world.setPolicy('cache', { metadata: { attrTTL: '5s' } });
  await world.changeClient({ ...options, rollout: { strategy: 'PodByPod', timeout: '1ms' } });
  for (let round = 0; round < 4; round++) {
    await world.reconcile();
    await new Promise((done) => setTimeout(done, 5));
  }
  const ttl = (): readonly number[] => Object.values(world.plans()).map(({ attrTTL }) => attrTTL);
  assert.deepEqual(ttl(), [1, 1]);
  assert.deepEqual([world.volume()?.status?.rollout?.state, world.volume()?.status?.rollout?.failed], ['Failed', ['data/a']]);
  assert.match(world.volume()?.status?.rollout?.message ?? '', /did not take up the new options/);
  world.server.delete(Pods, { namespace: 'data', name: 'a' });
  await world.reconcile();
  assert.deepEqual(ttl(), [1]);
  world.setPolicy('cache', { metadata: { attrTTL: '6s' } });
  await world.changeClient(options);
  for (let round = 0; round < 4; round++) {
    await world.reconcile();
    world.kubelet();
  }
  assert.deepEqual(ttl(), [6]);
  assert.equal(world.volume()?.status?.rollout?.state, 'Complete');
});

test('a policy that is missing changes nothing, and one that wants more than a pod was given is fitted, and said', async () => {
  const world = await worldWithOptions('a');
  const before = world.plans();
  await world.changeVolume({ cachePolicyRef: { name: 'typo' } });
  await world.reconcile();
  assert.deepEqual(world.plans(), before);
  assert.equal(world.volume()?.status?.rollout?.state, 'Complete');
  world.setPolicy('typo', { local: { size: '100Gi' }, buffer: { size: '1Gi' } });
  for (let round = 0; round < 3; round++) {
    await world.reconcile();
    world.kubelet();
  }
  // Of the 11,392 MiB that the pod has for a cache of 10 GiB.
  const { cache, bufferMiB } = world.plans()['a'] ?? {};
  assert.equal(bufferMiB, 1024);
  assert.ok((cache?.sizeMiB ?? 0) < 10_240 && (cache?.sizeMiB ?? 0) > 9000, JSON.stringify(cache));
  assert.match(world.volume()?.status?.rollout?.message ?? '', /1 have less than the cache policy says/);
});
