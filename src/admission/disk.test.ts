import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseQuantity } from '../api/units.ts';
import { platforms } from './platforms/index.ts';
import { type Json, listOf, mapOf } from '../lib/json.ts';
import { admit, cluster, pod, policy, volume } from './testing/fixtures.ts';

const home = (size: string, local: Json = {}) =>
  cluster([volume('a', { cachePolicyRef: { name: 'p' } }), volume('b')], [policy('p', { local: { size, ...local } })]);

function given(annotation: string, size: string, options: { platform?: string; main?: Json; local?: Json } = {}) {
  const annotations = {
    'juicepod.io/volumes': annotation,
    ...(options.platform ? { 'juicepod.io/platform': options.platform } : {}),
  };
  const object = pod(undefined, { containers: [{ name: 'main', ...options.main }] }, { annotations });
  const { decision, result } = admit(object, home(size, options.local));
  if (decision.action !== 'inject') return { refusal: `${decision.action}: ${'reason' in decision ? decision.reason : ''}` };
  const spec = mapOf(result['spec']);
  const last = mapOf(listOf(spec['initContainers']).at(-1));
  return {
    cacheMiB: decision.injection.plan.cache?.sizeMiB,
    syncMiB: decision.injection.plan.mounts.map(({ sync }) => sync?.limitMiB),
    resources: last['resources'] as { requests: Json; limits?: Json },
    limit: mapOf(mapOf(listOf(spec['volumes']).find((one) => mapOf(one)['name'] === 'juicepod-cache'))['emptyDir'])['sizeLimit'],
    annotations: mapOf(mapOf(result['metadata'])['annotations']),
    warnings: decision.warnings.join('\n'),
  };
}

const disk = (amounts: Json | undefined): unknown => amounts?.['ephemeral-storage'];

test('what the cache and the journal may take is requested, and is the limit of the emptyDir', () => {
  const { resources, limit, cacheMiB } = given('a=/a', '10Gi');
  assert.equal(cacheMiB, 10_240);
  assert.equal(disk(resources?.requests), '11692Mi');
  assert.equal(limit, '11692Mi');
  assert.equal(resources?.limits, undefined);
});

test('a cache in memory takes no disk', () => {
  const { resources, limit } = given('a=/a', '1Gi', { local: { medium: 'Memory' } });
  assert.equal(disk(resources?.requests), undefined);
  assert.equal(limit, '1555Mi');
});

test('where another container is limited ours must be too: the kubelet evicts by the sum', () => {
  const { resources } = given('a=/a', '1Gi', { main: { resources: { limits: { 'ephemeral-storage': '1Gi' } } } });
  assert.equal(disk(resources?.requests), '1555Mi');
  assert.equal(disk(resources?.limits), '2579Mi');
});

test('on a platform with little disk the cache shrinks, with a warning, and at last the pod is refused', () => {
  const main = (amount: string): Json => ({ resources: { requests: { 'ephemeral-storage': amount } } });
  const autopilot = given('a=/a:fuse', '10Gi', { platform: 'gke-autopilot' });
  assert.equal(autopilot.cacheMiB, 8920);
  assert.equal(disk(autopilot.resources?.requests), '10Gi');
  assert.match(autopilot.warnings ?? '', /the cache is 8920 MiB instead of 10Gi: the pod has no more disk \(GKE Autopilot\)/);
  const none = given('a=/a:fuse', '10Gi', { platform: 'gke-autopilot', main: main('9760Mi') });
  assert.equal(none.cacheMiB, undefined);
  assert.equal(disk(none.resources?.requests), '428Mi');
  assert.equal(given('a=/a:fuse', '10Gi', { platform: 'gke-autopilot', main: main('10Gi') }).refusal, 'refuse: EphemeralStorage');
});

test('in sync mode the volumes share what the policy gives, and what the platform has', () => {
  assert.deepEqual(given('a=/a:sync,b=/b:sync', '10Gi').syncMiB, [5120, 5120]);
  const autopilot = given('a=/a', '100Gi', { platform: 'gke-autopilot' });
  assert.deepEqual(autopilot.syncMiB, [9192]);
  assert.equal(disk(autopilot.resources?.requests), '10Gi');
  const fargate = given('a=/a', '100Gi', { platform: 'eks-fargate' });
  assert.deepEqual(fargate.syncMiB, [102_400]);
  assert.equal(disk(fargate.resources?.requests), '112769Mi');
});

test('Fargate gets requests that are limits', () => {
  const { resources } = given('a=/a', '1Gi', { platform: 'eks-fargate' });
  assert.deepEqual(resources, {
    requests: { cpu: '100m', memory: '428Mi', 'ephemeral-storage': '1255Mi' },
    limits: { cpu: '100m', memory: '428Mi' },
  });
});

test('platforms that give more disk on demand are asked for it by their annotation', () => {
  const tencent = given('a=/a', '40Gi', { platform: 'tencent-tke' });
  assert.equal(tencent.annotations?.['eks.tke.cloud.tencent.com/root-cbs-size'], '45');
  assert.equal(
    given('a=/a', '1Gi', { platform: 'tencent-tke' }).annotations?.['eks.tke.cloud.tencent.com/root-cbs-size'],
    undefined,
  );
  const alibaba = given('a=/a', '40Gi', { platform: 'alibaba-eci' });
  assert.equal(alibaba.annotations?.['k8s.aliyun.com/eci-extra-ephemeral-storage'], '15Gi');
});

test('without a cache policy a pod fits every platform as it is: no cache shrinks, none needs more than is included, with write-back too', () => {
  const defaults = cluster(
    [volume('a'), volume('b'), volume('late', { cachePolicyRef: { name: 'writeback' } })],
    [policy('writeback', { writeback: { enabled: true } })],
  );
  const requested: number[] = [];
  for (const platform of platforms.filter(({ nativeSidecars, subPath }) => nativeSidecars && subPath !== false))
    for (const annotation of [
      'a=/a',
      'a=/a,b=/b',
      ...(platform.fuse === 'no' ? [] : ['a=/a:fuse', 'late=/a:fuse', 'a=/a:fuse,b=/b:sync']),
    ]) {
      const annotations = { 'juicepod.io/volumes': annotation, 'juicepod.io/platform': platform.name };
      const { decision, result } = admit(pod(undefined, { containers: [{ name: 'main' }] }, { annotations }), defaults);
      const what = `${platform.name} ${annotation}`;
      assert.equal(decision.action, 'inject', what);
      assert.doesNotMatch(decision.warnings.join('\n'), /more disk/, what);
      const requests = listOf(mapOf(result['spec'])['initContainers']).map((one) =>
        parseQuantity((disk(mapOf(mapOf(mapOf(one)['resources'])['requests'])) as string | undefined) ?? '0'),
      );
      const sum = requests.reduce((all, each) => all + each, 0);
      const { max = Infinity, included = Infinity } = platform.disk ?? {};
      // Autopilot includes what is requested; the others give more than this without asking.
      assert.ok(sum <= (platform.name === 'gke-autopilot' ? max : included), `${what}: ${sum}`);
      requested.push(sum);
    }
  // A node of 20 GiB, as managed clusters make them, has some 17 for pods: three such pods, not one.
  assert.ok((requested[0] ?? Infinity) < 5.1 * 2 ** 30);
});
