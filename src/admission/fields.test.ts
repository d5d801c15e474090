/** No field without effect: whatever a cache policy says is seen in what a pod gets. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cachePolicySpec } from '../api/cachepolicy.ts';
import { fields, type Schema, structuralSchema } from '../api/crd.ts';
import { admit, cluster, pod, policy, volume } from './testing/fixtures.ts';

/** Another value than the default, for fields of which not every value has an effect. */
const others: Readonly<Record<string, unknown>> = {
  'local.medium': 'None',
  'metadata.maxOpsPerSecond': 5,
  'io.uploadLimit': '1Mi',
  'io.downloadLimit': '1Mi',
  'writeback.enabled': true,
};

function other(path: string, schema: Schema): unknown {
  if (path in others) return others[path];
  const before = schema['default'];
  const choices = schema['enum'];
  if (Array.isArray(choices)) return choices.find((choice) => choice !== before);
  if (typeof before === 'number') return before + 1;
  if (typeof before === 'string')
    return before.endsWith('s') ? '7s' : before.replace(/^\d+/, (digits) => String(Number(digits) * 2));
  return assert.fail(`${path} has no default: name another value for it`);
}

const within = (path: string, value: unknown): Record<string, unknown> => {
  const [head = '', tail = ''] = path.split('.');
  return { [head]: { [tail]: value } };
};

function admitted(spec: Record<string, unknown>): string {
  const world = cluster([volume('a', { cachePolicyRef: { name: 'p' } })], [policy('p', spec)]);
  const { decision, result } = admit(pod('a=/a'), world);
  assert.equal(decision.action, 'inject');
  return JSON.stringify(result);
}

test('each field of a JuiceCachePolicy changes what a pod gets', () => {
  const leaves = [...fields(structuralSchema(cachePolicySpec))].filter(({ schema }) => schema['properties'] === undefined);
  assert.ok(leaves.length >= 18);
  for (const { path, schema } of leaves) {
    const changed = within(path, other(path, schema));
    // What write-back says counts where it is on.
    const isWriteback = path.startsWith('writeback.') && path !== 'writeback.enabled';
    const base = isWriteback ? { writeback: { enabled: true } } : {};
    const next = isWriteback ? { writeback: { enabled: true, ...(changed['writeback'] as object) } } : changed;
    assert.notEqual(admitted(next), admitted(base), `${path} has no effect`);
  }
});
