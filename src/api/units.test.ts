import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatBytes, parseDuration, parseQuantity } from './units.ts';

test('parseQuantity() reads binary and decimal suffixes, fractions and plain numbers', () => {
  assert.deepEqual(
    ['4Mi', '10Gi', '1k', '1.5Gi', 4096, '0', '64Ki', '2T'].map((each) => parseQuantity(each)),
    [4194304, 10737418240, 1000, 1610612736, 4096, 0, 65536, 2e12],
  );
});

test('parseQuantity() names what it cannot read', () => {
  for (const bad of ['4MB', '', '-1', '1e3', 'Mi', '4 Mi', '9999999Pi', '1.2.3'])
    assert.throws(() => parseQuantity(bad), { name: 'UserError', message: new RegExp(JSON.stringify(bad).replace('.', '\\.')) });
});

test('parseDuration() adds the parts of a Go duration', () => {
  assert.deepEqual(
    ['500ms', '1s', '1h30m', '24h', '1.5s', '0s'].map((each) => parseDuration(each)),
    [500, 1000, 5_400_000, 86_400_000, 1500, 0],
  );
});

test('parseDuration() names what it cannot read', () => {
  for (const bad of ['', '5', '1d', 's', '-1s', '1h ', '1us']) assert.throws(() => parseDuration(bad), { name: 'UserError' });
});

test('formatBytes() rounds to what a column can show', () => {
  assert.deepEqual(
    [0, 1023, 1024, 1536, 5 * 2 ** 30, 123 * 2 ** 40, 1024 ** 5 * 2000].map((each) => formatBytes(each)),
    ['0', '1023', '1Ki', '1.5Ki', '5Gi', '123Ti', '2000Pi'],
  );
});
