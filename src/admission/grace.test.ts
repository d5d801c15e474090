import assert from 'node:assert/strict';
import { test } from 'node:test';
import { admit, cluster, pod, policy, volume } from './testing/fixtures.ts';

const ORIGINAL = 'juicepod.io/original-termination-grace-period-seconds';

function given(annotation: string, seconds?: number, buffer = '300Mi', more: object = {}): readonly unknown[] {
  const home = cluster([volume('a', { cachePolicyRef: { name: 'p' } })], [policy('p', { buffer: { size: buffer }, ...more })]);
  const { decision } = admit(pod(annotation, seconds === undefined ? {} : { terminationGracePeriodSeconds: seconds }), home);
  assert.ok(decision.action === 'inject');
  return [decision.injection.terminationGracePeriodSeconds, decision.injection.annotations[ORIGINAL]];
}

test('the grace period is raised to the floor and the original remembered', () => {
  assert.deepEqual(given('a=/a'), [60, '30']);
  assert.deepEqual(given('a=/a', 0), [60, '0']);
  assert.deepEqual(given('a=/a', 60), [undefined, undefined]);
  assert.deepEqual(given('a=/a', 900), [undefined, undefined]);
});

test('a large buffer is given the time to be written to a slow store, up to a quarter of an hour', () => {
  assert.deepEqual(given('a=/a', 60, '2Gi'), [220, '60']);
  assert.deepEqual(given('a=/a', 60, '64Gi'), [900, '60']);
  assert.deepEqual(given('a=/a', 1200, '64Gi'), [undefined, undefined]);
});

test('an upload limit and write-back count too', () => {
  assert.deepEqual(given('a=/a', 60, '300Mi', { io: { uploadLimit: '1Mi' } }), [315, '60']);
  assert.deepEqual(given('a=/a', 60, '300Mi', { writeback: { enabled: true, drainTimeout: '45s' } }), [105, '60']);
});

test('a pod that only reads keeps its grace period', () => {
  assert.deepEqual(given('a=/a:ro', 1), [undefined, undefined]);
});

test('what was remembered at the first call stays at the second', () => {
  const home = cluster([volume('a')]);
  const first = admit(pod('a=/a', { terminationGracePeriodSeconds: 5 }), home);
  const second = admit(first.result, home);
  assert.deepEqual(second.operations, []);
  assert.equal((second.result['metadata'] as { annotations: Record<string, string> }).annotations[ORIGINAL], '5');
});
