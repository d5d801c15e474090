import assert from 'node:assert/strict';
import { test } from 'node:test';
import { failedPull } from './pulls.ts';

const image = 'example.com/juicepod:2';
const at = Date.parse('2026-01-02T03:04:05Z');
const event = (reason: string, note: string, seconds = 10) => ({
  apiVersion: 'events.k8s.io/v1',
  kind: 'Event',
  metadata: { name: 'x' },
  reason,
  note,
  deprecatedLastTimestamp: new Date(at + seconds * 1000).toISOString(),
});
const failure = event('Failed', `Failed to pull image "${image}": not found`);
const backOff = event('BackOff', `Back-off pulling image "${image}"`);

test('a pull that failed and is backed off from is told with its reason', () => {
  assert.equal(failedPull([failure, backOff], image, at), `Failed to pull image "${image}": not found`);
  assert.match(failedPull([backOff], image, at) ?? '', /cannot be pulled/);
  assert.match(failedPull([{ ...failure, deprecatedCount: 2 }], image, at) ?? '', /not found/);
});

test('one failure, another image, an earlier try and a container that crashes are no failed pull', () => {
  const old = (each: typeof failure) => ({ ...each, deprecatedLastTimestamp: new Date(at - 60_000).toISOString() });
  for (const events of [
    [],
    [failure],
    [event('BackOff', 'Back-off restarting failed container juicepod-client in pod x')],
    [old(failure), old(backOff)],
    [event('BackOff', 'Back-off pulling image "example.com/juicepod:22"')],
  ])
    assert.equal(failedPull(events, image, at), undefined);
});
