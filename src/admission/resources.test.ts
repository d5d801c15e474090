import assert from 'node:assert/strict';
import { test } from 'node:test';
import { binaryQuantity, mergeResources, quantityOf, sameQuantity } from './resources.ts';

test('quantities are read with every suffix of Kubernetes', () => {
  for (const [text, value] of [
    ['1', 1],
    ['100m', 0.1],
    ['.5', 0.5],
    ['1.5Gi', 1.5 * 2 ** 30],
    ['2e3', 2000],
    ['-1k', -1000],
    ['1E', 1e18],
    ['3Ki', 3072],
    [7, 7],
  ] as const)
    assert.equal(quantityOf(text), value, String(text));
  for (const text of ['', 'x', '1 Gi', '1KiB', 'Gi', null, {}]) assert.equal(quantityOf(text), undefined, JSON.stringify(text));
});

test('the same amount is the same in any spelling', () => {
  assert.ok(sameQuantity('1024Mi', '1Gi') && sameQuantity('0.1', '100m') && sameQuantity(1, '1'));
  assert.ok(!sameQuantity('1G', '1Gi') && !sameQuantity('x', 'x'));
});

test('bytes are written as the API server writes them', () => {
  assert.deepEqual([0, 1, 1024, 1536, 2 ** 30, 1.5 * 2 ** 30].map(binaryQuantity), ['0', '1', '1Ki', '1536', '1Gi', '1536Mi']);
});

test('of several resources the larger amounts are taken, and no request exceeds its limit', () => {
  assert.deepEqual(
    mergeResources([
      { requests: { cpu: '1', memory: '1Gi' }, limits: { memory: '2Gi' } },
      { requests: { cpu: '200m', memory: '3Gi' } },
      {},
    ]),
    { requests: { cpu: '1', memory: '2Gi' }, limits: { memory: '2Gi' } },
  );
  assert.deepEqual(mergeResources([]), {});
});
