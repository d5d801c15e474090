import assert from 'node:assert/strict';
import { test } from 'node:test';
import { statsLines } from '../lib/metrics.ts';
import { withFaults } from './faults.ts';
import { measured, RequestFigures } from './measured.ts';
import { MemoryObjectStore } from './memory.ts';
import { withRetry } from './retry.ts';

test('each attempt counts by its method, bytes by what was moved, and failures by themselves', async () => {
  const figures = new RequestFigures('');
  const failing = new Set(['put', 'get']);
  const store = measured(
    withFaults(new MemoryObjectStore(), (operation) => (failing.delete(operation) ? { kind: 'status', status: 503 } : undefined)),
    figures,
  );
  const patient = withRetry(store, { baseMs: 1 });
  await patient.put('a', Buffer.alloc(100));
  await patient.get('a');
  await patient.get('a', { offset: 90, length: 10 });
  assert.equal((await patient.head('a'))?.size, 100);
  for await (const { key } of patient.list('')) assert.equal(key, 'a');
  await patient.delete('a');
  await assert.rejects(patient.get('a'));
  const lines = statsLines('', figures.families()).split('\n');
  assert.deepEqual(
    lines.filter((line) => line !== '' && !line.includes('_sum')),
    [
      'object_request_data_bytes_GET 110',
      // The store does not say how much of a failed upload it took.
      'object_request_data_bytes_PUT 200',
      'object_request_durations_histogram_seconds_GET_total 4',
      'object_request_durations_histogram_seconds_PUT_total 2',
      'object_request_durations_histogram_seconds_DELETE_total 1',
      'object_request_durations_histogram_seconds_HEAD_total 1',
      'object_request_durations_histogram_seconds_LIST_total 1',
      'object_request_errors 3',
    ],
  );
});

test('a request that is given up is no failure of the store', async () => {
  const figures = new RequestFigures('IA');
  const ending = new AbortController();
  const store = measured(
    withFaults(new MemoryObjectStore(), () => ({ kind: 'slow', ms: 60_000 })),
    figures,
  );
  const put = store.put('a', Buffer.alloc(1), ending.signal);
  ending.abort();
  await assert.rejects(put);
  assert.equal(figures.errors, 0);
  assert.equal(figures.count('PUT'), 1);
});
