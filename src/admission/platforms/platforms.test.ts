import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Json } from '../../lib/json.ts';
import { viewPod } from '../pod.ts';
import { findPlatform, platformNames, platforms } from './index.ts';

function found(pod: Json, labels: Json = {}, fallback?: string): string {
  const answer = findPlatform(viewPod(pod), labels, fallback);
  return 'unknown' in answer ? `? ${answer.unknown} in ${answer.where}` : answer.platform.name;
}

const metadata = (kind: 'labels' | 'annotations', key: string, value: string): Json => ({
  metadata: { [kind]: { [key]: value } },
});
const node = (labels: Json): Json => ({ spec: { nodeSelector: labels } });
const tolerates = (key: string, value?: string): Json => ({
  spec: { tolerations: [value === undefined ? { key, operator: 'Exists' } : { key, operator: 'Equal', value }] },
});
const affine = (key: string, ...values: string[]): Json => ({
  spec: {
    affinity: {
      nodeAffinity: {
        requiredDuringSchedulingIgnoredDuringExecution: {
          nodeSelectorTerms: [{ matchExpressions: [{ key, operator: 'In', values }] }],
        },
      },
    },
  },
});

test('each platform is recognised by what its documents tell users to write', () => {
  const cases: readonly (readonly [string, Json, Json?])[] = [
    ['eks-fargate', metadata('labels', 'eks.amazonaws.com/fargate-profile', 'batch')],
    ['eks-fargate', { spec: { schedulerName: 'fargate-scheduler' } }],
    ['eks-fargate', node({ 'eks.amazonaws.com/compute-type': 'fargate' })],
    ['eks-fargate', affine('eks.amazonaws.com/compute-type', 'fargate')],
    ['eks-fargate', tolerates('eks.amazonaws.com/compute-type', 'fargate')],
    ['gke-autopilot', node({ 'cloud.google.com/compute-class': 'autopilot' })],
    ['gke-autopilot', metadata('annotations', 'autopilot.gke.io/resource-adjustment', '{}')],
    [
      'azure-virtual-nodes',
      {
        spec: {
          ...(node({ virtualization: 'virtualnode2' })['spec'] as Json),
          ...(tolerates('virtual-kubelet.io/provider')['spec'] as Json),
        },
      },
    ],
    ['azure-virtual-nodes-addon', tolerates('azure.com/aci')],
    ['azure-virtual-nodes-addon', node({ 'kubernetes.io/role': 'agent', type: 'virtual-kubelet' })],
    ['alibaba-eci', metadata('labels', 'alibabacloud.com/eci', 'true')],
    ['alibaba-eci', metadata('labels', 'alibabacloud.com/acs', 'true')],
    ['alibaba-eci', {}, { 'alibabacloud.com/eci': 'true' }],
    ['alibaba-eci', tolerates('virtual-kubelet.io/provider', 'alibabacloud')],
    ['huawei-cci', metadata('labels', 'virtual-kubelet.io/burst-to-cci', 'enforce')],
    ['volcengine-vci', metadata('annotations', 'vke.volcengine.com/burst-to-vci', 'enforce')],
    ['tencent-tke', node({ 'node.kubernetes.io/instance-type': 'eklet' })],
    ['tencent-tke', tolerates('eks.tke.cloud.tencent.com/eklet')],
    ['virtual-node', node({ type: 'virtual-kubelet' })],
    ['virtual-node', tolerates('virtual-kubelet.io/provider')],
    ['generic', {}],
  ];
  for (const [name, pod, labels] of cases) assert.equal(found(pod, labels), name, JSON.stringify(pod));
  assert.deepEqual([...new Set(cases.map(([name]) => name))].toSorted(), platformNames.toSorted());
});

test('what only looks alike is no sign', () => {
  const cases: readonly Json[] = [
    metadata('labels', 'alibabacloud.com/eci', 'false'),
    metadata('labels', 'virtual-kubelet.io/burst-to-cci', 'off'),
    metadata('annotations', 'vke.volcengine.com/burst-to-vci', 'disable'),
    node({ 'eks.amazonaws.com/compute-type': 'ec2' }),
    // The pod may as well run on a node.
    affine('eks.amazonaws.com/compute-type', 'fargate', 'ec2'),
    { spec: { tolerations: [{ operator: 'Exists' }] } },
    {
      spec: { tolerations: 'x', nodeSelector: [], affinity: { nodeAffinity: null } },
      metadata: { labels: 7, annotations: null },
    },
    metadata('labels', 'constructor', 'x'),
  ];
  for (const pod of cases) assert.equal(found(pod), 'generic', JSON.stringify(pod));
});

test('what somebody said counts before the signs: the pod, then the namespace, then the flag', () => {
  const key = 'juicepod.io/platform';
  const fargate = { ...node({ 'eks.amazonaws.com/compute-type': 'fargate' }) };
  const said = { ...fargate, ...metadata('annotations', key, 'gke-autopilot') };
  assert.equal(found(said, { [key]: 'tencent-tke' }, 'generic'), 'gke-autopilot');
  assert.equal(found(fargate, { [key]: 'tencent-tke' }, 'generic'), 'tencent-tke');
  assert.equal(found(fargate, {}, 'generic'), 'generic');
  assert.equal(found(fargate), 'eks-fargate');
  assert.equal(found(metadata('annotations', key, 'moon')), `? moon in the annotation ${key}`);
  assert.equal(found({}, { [key]: 'moon' }), `? moon in the label ${key} of the namespace`);
  assert.equal(found({}, {}, 'moon'), '? moon in the flag --platform');
});

test('every fact of a platform names its source, and names are words', () => {
  for (const { name, title, signs, facts, why, fuse } of platforms) {
    assert.match(name, /^[a-z][a-z-]+$/);
    assert.ok(title.length > 0 && facts.length > 0, name);
    assert.ok(name === 'generic' || signs.length > 0, name);
    assert.equal(why === '', fuse === 'yes', name);
    for (const { fact, source } of facts) {
      assert.ok(fact.length > 10, name);
      assert.match(source, /https:\/\/|^juicedata\//, name);
    }
  }
});
