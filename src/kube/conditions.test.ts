import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isTrue, removeCondition, setCondition, setConditions, timestamp } from './conditions.ts';

const ready = {
  type: 'Ready',
  status: 'True',
  reason: 'Formatted',
  message: 'the volume is ready',
  observedGeneration: 1,
} as const;
const at = Date.UTC(2026, 0, 1);

test('a condition keeps its transition time until its status changes', () => {
  const first = setCondition([], ready, at);
  assert.equal(first[0]?.lastTransitionTime, '2026-01-01T00:00:00Z');
  const reworded = setCondition(first, { ...ready, message: 'still ready', observedGeneration: 2 }, at + 60_000);
  assert.equal(reworded[0]?.lastTransitionTime, '2026-01-01T00:00:00Z');
  assert.equal(reworded[0]?.message, 'still ready');
  const failed = setCondition(reworded, { ...ready, status: 'False', reason: 'Unreachable' }, at + 60_000);
  assert.equal(failed[0]?.lastTransitionTime, '2026-01-01T00:01:00Z');
});

test('setting what is so already answers the same list, so that nothing is written', () => {
  const first = setConditions([], [ready, { ...ready, type: 'Other' }], at);
  assert.equal(setConditions(first, [ready, { ...ready, type: 'Other' }], at + 5000), first);
  assert.equal(removeCondition(first, 'Missing'), first);
});

test('conditions keep their order and are removed by type', () => {
  const list = setConditions([], [ready, { ...ready, type: 'B' }, { ...ready, type: 'C', status: 'False' }], at);
  const changed = setCondition(list, { ...ready, type: 'B', status: 'Unknown' }, at);
  assert.deepEqual(
    changed.map((each) => `${each.type} ${each.status}`),
    ['Ready True', 'B Unknown', 'C False'],
  );
  assert.deepEqual(
    removeCondition(changed, 'B').map((each) => each.type),
    ['Ready', 'C'],
  );
  assert.equal(isTrue(changed, 'Ready'), true);
  assert.equal(isTrue(changed, 'C'), false);
  assert.equal(isTrue(undefined, 'Ready'), false);
});

test('a message too long for the API is cut, times have whole seconds', () => {
  assert.equal(setCondition([], { ...ready, message: 'm'.repeat(40_000) }, at)[0]?.message.length, 32_768);
  assert.equal(timestamp(at + 999), '2026-01-01T00:00:00Z');
});
