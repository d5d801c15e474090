/** Roll-outs of the client's image on a cluster in memory, with a kubelet that restarts what is changed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { annotations, CLIENT_CONTAINER } from '../../src/api/group.ts';
import { CLIENT } from '../../src/admission/names.ts';
import { formatPlan, parsePlan } from '../../src/api/plan.ts';
import { parseJuiceVolume } from '../../src/api/kinds.ts';
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
import { JuiceVolumes } from '../../src/operator/volume/reconcile.ts';

const [OLD, NEW] = ['ghcr.io/x/juicepod:1', 'ghcr.io/x/juicepod:2'];

function createWorld(options: { readonly standardImage?: string; readonly allowedImages?: readonly string[] } = {}) {
  const server = new FakeApiServer({ resources: [JuiceVolumes] });
  const frontend = new FakeFrontend(server);
  const client = createClient(frontend.transport());
  const events: EventInput[] = [];
  const find = (key: string): JuiceVolume | undefined =>
    (server.objects(JuiceVolumes) as unknown as JuiceVolume[]).find((each) => keyOf(each as unknown as KubeObject) === key);
  const reconcile = rolloutReconciler({
    client,
    resource: JuiceVolumes,
    volumes: { get: find } as unknown as Store<JuiceVolume>,
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
    async changeClient(client_: object, name = 'datasets'): Promise<void> {
      const { spec } = parseJuiceVolume({ ...find(`data/${name}`), spec: { ...find(`data/${name}`)?.spec, client: client_ } });
      await client.resource(JuiceVolumes).patch({ namespace: 'data', name }, [{ op: 'replace', path: '/spec', value: spec }]);
    },
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
            { name: CLIENT_CONTAINER, image: OLD },
          ],
          containers: [{ name: 'app', image: 'app' }],
        },
      });
      const status = {
        phase: 'Running',
        initContainerStatuses: [{ name: CLIENT_CONTAINER, ready: true, started: true, restartCount: 0, image: OLD }],
      };
      server.patch(Pods, { namespace, name }, [{ op: 'add', path: '/status', value: status }], {
        fieldManager: 'kubelet',
        subresource: 'status',
      });
    },
    /** Restarts each client whose image is not the one it runs; `broken` images cannot be had. */
    kubelet(broken: readonly string[] = []): void {
      for (const each of server.objects(Pods) as unknown as (PodObject & {
        status: { initContainerStatuses: { image: string; restartCount: number }[] };
      })[]) {
        const image = each.spec.initContainers?.[1]?.image ?? '';
        const before = each.status.initContainerStatuses[0];
        if (!before || before.image === image) continue;
        const bad = broken.includes(image);
        const status = {
          name: CLIENT_CONTAINER,
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

test('the name of the client’s container is the one that the webhook gives', () => assert.equal(CLIENT_CONTAINER, CLIENT));

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
