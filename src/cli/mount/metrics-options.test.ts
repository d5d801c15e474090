import assert from 'node:assert/strict';
import { test } from 'node:test';
import { customLabels, metricsAddress } from './metrics-options.ts';

test('an address is a host and a port, or a port alone', () => {
  assert.deepEqual(metricsAddress('127.0.0.1:9567'), { host: '127.0.0.1', port: 9567 });
  assert.deepEqual(metricsAddress(':0'), { host: '', port: 0 });
  assert.deepEqual(metricsAddress('[::1]:80'), { host: '::1', port: 80 });
  for (const wrong of ['', '9567', 'localhost', '::1:80', 'a:99999', 'a:b', ':-1'])
    assert.throws(() => metricsAddress(wrong), /--metrics: wanted host:port/, wrong);
});

test('custom labels are pairs, and their names such as Prometheus takes', () => {
  assert.deepEqual(customLabels('team:a;zone:b-1;'), { team: 'a', zone: 'b-1' });
  for (const wrong of ['team', 'team:a:b', '1a:b', 'te-am:x', '__name__:x', ':x'])
    assert.throws(() => customLabels(wrong), /--custom-labels: wanted/, wrong);
});
