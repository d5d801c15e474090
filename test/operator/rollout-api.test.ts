/**
 * Roll-outs on a real API server, with the rights of config/rbac, the policies of config/policies and a stand-in for the kubelet: what the operator may change in a
 * pod and what not, and the command that does the same by hand.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test, type TestContext } from 'node:test';
import { annotations } from '../../src/api/group.ts';
import { formatPlan, parsePlan, type Plan } from '../../src/api/plan.ts';
import { connect } from '../../src/kube/client.ts';
import { Pods } from '../../src/kube/resources.ts';
import type { KubeClient } from '../../src/kube/types.ts';
import { nullLogger } from '../../src/lib/log.ts';
import { runOperator } from '../../src/operator/index.ts';
import type { PodObject } from '../../src/operator/rollout/pod.ts';
import { run } from '../cli/command.ts';
import { type ApiServer, startApiServer } from '../cluster/api-server.ts';
import { ToolMissing } from '../tools.ts';
import { installResources } from './installed.ts';
import { operatorKubeconfig } from './service-account.ts';
import { until } from '../until.ts';

const [OLD, NEW, NEXT] = ['example.com/juicepod:1', 'example.com/juicepod:2', 'example.com/juicepod:3'];

let api: ApiServer | undefined;
let client: KubeClient | undefined;
let missing = '';
const stop = new AbortController();
let operator: Promise<void> | undefined;
let kubelet: NodeJS.Timeout | undefined;
/** Images that cannot be had. */
const broken = new Set<string>();

const volume = (name: string, clientSpec: object): object => ({
  apiVersion: 'juicepod.io/v1alpha1',
  kind: 'JuiceVolume',
  metadata: { name, namespace: 'data' },
  spec: {
    metadata: { redis: { addresses: ['127.0.0.1:1'] } },
    storage: { file: { path: '/nowhere' } },
    client: clientSpec,
    suspend: false,
  },
});

const pod = (name: string, of: string): object => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: {
    name,
    namespace: 'data',
    labels: { app: name },
    annotations: {
      [annotations.plan]: formatPlan(
        parsePlan(
          JSON.stringify({
            version: 1,
            mounts: [{ id: '0', volume: `data/${of}`, config: '/etc/juicepod/volumes/0/volume.json', target: '/juicepod/mnt/0' }],
          }),
        ),
      ),
    },
  },
  spec: {
    initContainers: ['juicepod-holder', 'juicepod-client'].map((each) => ({ name: each, image: OLD, restartPolicy: 'Always' })),
    containers: [{ name: 'app', image: 'example.com/app:1' }],
  },
});

/** Plans by which clients run. */
const running = new Map<string, string>();

/** Restarts the clients whose image or plan was changed, as a kubelet does. */
async function actAsKubelet(): Promise<void> {
  if (!client) return;
  const pods = client.resource<PodObject>(Pods);
  for (const each of (await pods.list({ namespace: 'data' })).items) {
    const image = each.spec.initContainers?.[1]?.image ?? '';
    const before = each.status?.initContainerStatuses?.[0] as { image: string; restartCount: number } | undefined;
    const plan = each.metadata.annotations?.[annotations.plan] ?? '';
    const ran = running.get(each.metadata.name);
    running.set(each.metadata.name, plan);
    if (before?.image === image && ran === plan) continue;
    const bad = broken.has(image);
    const status = {
      name: 'juicepod-client',
      image: bad ? (before?.image ?? '') : image,
      imageID: '',
      ready: !bad,
      started: !bad,
      restartCount: before ? before.restartCount + (bad ? 0 : 1) : 0,
      state: bad ? { waiting: { reason: 'ErrImageNeverPull', message: 'there is none' } } : { running: {} },
    };
    await pods.patch(
      { namespace: 'data', name: each.metadata.name },
      [
        { op: 'add', path: '/status/phase', value: 'Running' },
        { op: 'add', path: '/status/initContainerStatuses', value: [status] },
      ],
      { subresource: 'status' },
    );
  }
}

before(async () => {
  try {
    api = await startApiServer();
  } catch (error) {
    if (!(error instanceof ToolMissing)) throw error;
    missing = error.message;
    return;
  }
  await installResources(api, 'config/policies');
  await api.kubectl(['create', 'namespace', 'data']);
  client = connect({ kubeconfig: api.kubeconfig });
  const turn = (): void => {
    kubelet = setTimeout(
      () =>
        void actAsKubelet()
          .catch(() => {})
          .finally(turn),
      100,
    );
  };
  turn();
  operator = runOperator({ client: connect({ kubeconfig: operatorKubeconfig(api) }), log: nullLogger, signal: stop.signal });
});
after(async () => {
  clearTimeout(kubelet);
  stop.abort(new Error('the tests are over'));
  await operator;
  await client?.close();
  await api?.stop();
});

function cluster(t: TestContext): { readonly api: ApiServer; readonly client: KubeClient } | undefined {
  if (api && client) return { api, client };
  t.skip(missing);
  return undefined;
}

/** With the members where a plan has them. */
const ordered = ({ version, mounts, cache, writeback, logLevel, ...rest }: Plan): object => ({
  version,
  mounts,
  ...(cache ? { cache } : {}),
  ...(writeback ? { writeback } : {}),
  ...rest,
  logLevel,
});

const apply = (server: ApiServer, ...objects: readonly object[]): Promise<string> =>
  server.kubectl(
    ['apply', '--server-side', '--force-conflicts', '-f', '-'],
    JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects }),
  );

const read = async (server: ApiServer, kind: string, name: string, path: string): Promise<string> =>
  server.kubectl(['get', kind, name, '--namespace=data', `--output=jsonpath=${path}`]);

const imageOf = (server: ApiServer, name: string): Promise<string> =>
  read(server, 'pod', name, '{.spec.initContainers[1].image}');

describe('roll-outs on a real API server', () => {
  test('the operator brings other options into running pods when their policy changes', async (t) => {
    const world = cluster(t);
    if (!world) return;
    const policy = (attrTTL: string): object => ({
      apiVersion: 'juicepod.io/v1alpha1',
      kind: 'JuiceCachePolicy',
      metadata: { name: 'cache', namespace: 'data' },
      spec: { metadata: { attrTTL } },
    });
    const named = volume('optional', { image: OLD, rollout: { strategy: 'PodByPod' } }) as { spec: object };
    const made = pod('with-journal', 'optional') as { metadata: { annotations: Record<string, string> } };
    const text = made.metadata.annotations[annotations.plan] ?? '';
    made.metadata.annotations[annotations.plan] = text.replace('"bufferMiB"', '"journal":"/juicepod/cache","bufferMiB"');
    await apply(world.api, policy('1s'), made);
    await until('the pod runs', async () => (await read(world.api, 'pod', 'with-journal', '{.status.phase}')) === 'Running');
    await apply(world.api, { ...named, spec: { ...named.spec, cachePolicyRef: { name: 'cache' } } });
    const rollout = (): Promise<string> => read(world.api, 'jv', 'optional', '{.status.rollout.state} {.status.rollout.updated}');
    await until('the pod is seen', async () => (await rollout()) === 'Complete 1');
    const before = await read(world.api, 'pod', 'with-journal', '{.status.initContainerStatuses[0].restartCount}');
    await apply(world.api, policy('9s'));
    await until('the plan is another', async () => {
      const found = await read(world.api, 'pod', 'with-journal', '{.metadata.annotations}');
      return (JSON.parse(found) as Record<string, string>)[annotations.plan]?.includes('"attrTTL":9');
    });
    await until('it is complete', async () => (await rollout()) === 'Complete 1');
    assert.notEqual(await read(world.api, 'pod', 'with-journal', '{.status.initContainerStatuses[0].restartCount}'), before);
  });

  test('the operator brings a new image into running pods, and its status is gone with the strategy', async (t) => {
    const world = cluster(t);
    if (!world) return;
    await apply(
      world.api,
      volume('rolling', { image: OLD, rollout: { strategy: 'PodByPod' } }),
      pod('one', 'rolling'),
      pod('two', 'rolling'),
    );
    await until('the pods run', async () => (await read(world.api, 'pod', 'two', '{.status.phase}')) === 'Running');
    await apply(world.api, volume('rolling', { image: NEW, rollout: { strategy: 'PodByPod' } }));
    await until(
      'the roll-out is complete',
      async () => (await read(world.api, 'jv', 'rolling', '{.status.rollout.state} {.status.rollout.updated}')) === 'Complete 2',
    );
    assert.deepEqual([await imageOf(world.api, 'one'), await imageOf(world.api, 'two')], [NEW, NEW]);
    await apply(world.api, volume('rolling', { image: NEXT }));
    await until('the status is gone', async () => (await read(world.api, 'jv', 'rolling', '{.status.rollout}')) === '');
    assert.equal(await imageOf(world.api, 'one'), NEW);
  });

  test('a pod whose client does not come back has its former image again, and the rest is left alone', async (t) => {
    const world = cluster(t);
    if (!world) return;
    broken.add(NEXT);
    await apply(
      world.api,
      volume('failing', { image: OLD, rollout: { strategy: 'PodByPod' } }),
      pod('three', 'failing'),
      pod('four', 'failing'),
    );
    await until('the pods run', async () => (await read(world.api, 'pod', 'three', '{.status.phase}')) === 'Running');
    await apply(world.api, volume('failing', { image: NEXT, rollout: { strategy: 'PodByPod' } }));
    await until(
      'the roll-out has failed',
      async () => (await read(world.api, 'jv', 'failing', '{.status.rollout.state}')) === 'Failed',
    );
    await until('the image is back', async () => (await imageOf(world.api, 'four')) === OLD);
    assert.match(await read(world.api, 'jv', 'failing', '{.status.rollout.message}'), /data\/four.*ErrImageNeverPull/);
    assert.equal(await imageOf(world.api, 'three'), OLD);
    broken.delete(NEXT);
  });

  test('the operator may change nothing else of a pod', async (t) => {
    const world = cluster(t);
    if (!world) return;
    await apply(world.api, pod('guarded', 'nobody'));
    const as = connect({ kubeconfig: operatorKubeconfig(world.api) });
    t.after(() => as.close());
    const pods = as.resource(Pods);
    const ref = { namespace: 'data', name: 'guarded' };
    const planPath = `/metadata/annotations/${annotations.plan.replace('/', '~1')}`;
    const current = parsePlan((await pods.get(ref)).metadata.annotations?.[annotations.plan] ?? '');
    const [mount] = current.mounts;
    assert.ok(mount);
    const refused: readonly (readonly [string, unknown])[] = [
      ['/spec/containers/0/image', NEW],
      ['/spec/initContainers/0/image', NEW],
      ['/spec/activeDeadlineSeconds', 5],
      ['/metadata/labels/app', 'other'],
      ['/metadata/annotations/some~1other', 'x'],
      [planPath, '{}'],
      ['/metadata/finalizers', ['juicepod.io/x']],
      // What is mounted where, as the client would read it.
      ...(
        [
          { mounts: [{ ...mount, config: '/proc/1/environ' }] },
          { mounts: [{ ...mount, target: '/etc' }] },
          { mounts: [{ ...mount, volume: 'other/volume' }] },
          { mounts: [{ ...mount, subPath: 'elsewhere' }] },
          { mounts: [mount, { ...mount, id: '1', target: '/juicepod/mnt/1' }] },
          { cache: { directory: '/etc', sizeMiB: 100, freeSpaceRatio: 0.1 } },
          { journal: '/etc' },
          { policy: 'data/other' },
        ] satisfies readonly Partial<Plan>[]
      ).map((change) => [planPath, formatPlan({ ...current, ...change })] as const),
      // Not what a parser takes it for: a later member of the same name counts.
      [planPath, `${formatPlan(current).slice(0, -1)},"mounts":[],"logLevel":"info"}`],
      [planPath, formatPlan(current).replace('"bufferMiB"', '"unknown":1,"bufferMiB"')],
    ];
    // A policy counts from a moment after it was made.
    await until('the policy is in force', () =>
      pods.patch(ref, [{ op: 'add', path: '/spec/containers/0/image', value: NEW }], { dryRun: true }).then(
        () => false,
        () => true,
      ),
    );
    for (const [path, value] of refused)
      await assert.rejects(pods.patch(ref, [{ op: 'add', path, value }]), /the operator changes n/, path);
    await assert.rejects(pods.delete(ref), /forbidden/);
    await pods.patch(ref, [{ op: 'replace', path: '/spec/initContainers/1/image', value: NEW }]);
    assert.equal(await imageOf(world.api, 'guarded'), NEW);
    const cache = { directory: '/juicepod/cache', sizeMiB: 100, freeSpaceRatio: 0.1 };
    const others: readonly Partial<Plan>[] = [
      { attrTTL: 0.5, bufferMiB: 64, logLevel: 'warn' },
      { cache },
      { cache, writeback: { maxStagingMiB: 64, uploadDelay: 1.5, drainTimeout: 60 }, uploadLimit: 1e6, maxMetadataOps: 7 },
    ];
    for (const options of others)
      await pods.patch(ref, [{ op: 'add', path: planPath, value: JSON.stringify(ordered({ ...current, ...options })) }]);
    const { metadata } = await pods.get(ref);
    assert.equal(parsePlan(metadata.annotations?.[annotations.plan] ?? '').maxMetadataOps, 7);
  });

  test('juicepod upgrade shows its plan, carries it out, and answers with what came of it', async (t) => {
    const world = cluster(t);
    if (!world) return;
    const upgrade = (...args: readonly string[]) =>
      run(['upgrade', ...args, '--namespace=data', `--kubeconfig=${world.api.kubeconfig}`]);
    await apply(world.api, volume('byhand', { image: NEW }), pod('five', 'byhand'), pod('six', 'byhand'));
    await until('the pods run', async () => (await read(world.api, 'pod', 'six', '{.status.phase}')) === 'Running');

    const plan = await upgrade('byhand', '--dry-run');
    assert.equal(plan.code, 0, plan.stderr);
    assert.match(plan.stdout, new RegExp(`data/five  ${OLD} → ${NEW}\n.*data/six`));
    assert.equal(await imageOf(world.api, 'five'), OLD);

    const done = await upgrade('byhand');
    assert.equal(done.code, 0, done.stderr);
    assert.match(done.stdout, /data\/five: .* → .*[^]*data\/six: [^]*all 2 clients have the image/);
    assert.deepEqual([await imageOf(world.api, 'five'), await imageOf(world.api, 'six')], [NEW, NEW]);

    broken.add(NEXT);
    const failed = await upgrade('byhand', `--image=${NEXT}`, '--output=json');
    assert.equal(failed.code, 1);
    const [result] = (JSON.parse(failed.stdout) as { volumes: { state: string; failed: string[] }[] }).volumes;
    assert.deepEqual([result?.state, result?.failed], ['Failed', ['data/five']]);
    assert.deepEqual([await imageOf(world.api, 'five'), await imageOf(world.api, 'six')], [NEW, NEW]);
    broken.delete(NEXT);
    assert.equal((await upgrade('byhand', `--image=${NEXT}`)).code, 1, 'a pod that failed is not begun with again');
    const again = await upgrade('byhand', `--image=${NEXT}`, '--retry');
    assert.equal(again.code, 0, again.stdout + again.stderr);
    assert.deepEqual([await imageOf(world.api, 'five'), await imageOf(world.api, 'six')], [NEXT, NEXT]);

    const wrong = await upgrade('nothing');
    assert.equal(wrong.code, 1);
    assert.match(wrong.stderr, /there is no JuiceVolume data\/nothing/);
  });

  test('juicepod upgrade leaves volumes to the operator that it keeps itself', async (t) => {
    const world = cluster(t);
    if (!world) return;
    await apply(world.api, volume('kept', { image: NEW, rollout: { strategy: 'PodByPod' } }));
    const ran = await run(['upgrade', 'kept', `--image=${NEXT}`, '--namespace=data', `--kubeconfig=${world.api.kubeconfig}`]);
    assert.equal(ran.code, 1);
    assert.match(ran.stderr, /would undo this\n.*kubectl patch jv kept/);
  });
});
