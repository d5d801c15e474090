import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type LabelSelector, matchesSelector } from './selector.ts';

const labels = { team: 'vision', tier: '' };

test('selectors match as in Kubernetes', () => {
  const matching: readonly LabelSelector[] = [
    {},
    { matchLabels: { team: 'vision' } },
    { matchExpressions: [{ key: 'team', operator: 'In', values: ['audio', 'vision'] }] },
    { matchExpressions: [{ key: 'team', operator: 'NotIn', values: ['audio'] }] },
    // A label that is not there is not in any list.
    { matchExpressions: [{ key: 'zone', operator: 'NotIn', values: ['a'] }] },
    { matchExpressions: [{ key: 'tier', operator: 'Exists' }] },
    { matchExpressions: [{ key: 'zone', operator: 'DoesNotExist' }] },
  ];
  for (const selector of matching) assert.ok(matchesSelector(selector, labels), JSON.stringify(selector));
  const others: readonly LabelSelector[] = [
    { matchLabels: { team: 'audio' } },
    { matchLabels: { team: 'vision', zone: '' } },
    { matchExpressions: [{ key: 'zone', operator: 'In', values: [''] }] },
    { matchExpressions: [{ key: 'team', operator: 'NotIn', values: ['vision'] }] },
    { matchExpressions: [{ key: 'constructor', operator: 'Exists' }] },
    { matchExpressions: [{ key: 'team', operator: 'DoesNotExist' }] },
  ];
  for (const selector of others) assert.ok(!matchesSelector(selector, labels), JSON.stringify(selector));
});
