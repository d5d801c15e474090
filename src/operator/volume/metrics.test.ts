import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Registry } from 'prom-client';
import type { JuiceVolume } from '../../api/volume.ts';
import { volumeMetrics } from './metrics.ts';

test('each volume that there is has its values, and one that is gone has none', async () => {
  const registry = new Registry();
  const of = (name: string, status: object): JuiceVolume =>
    ({ metadata: { name, namespace: 'data' }, status }) as unknown as JuiceVolume;
  const ready = { type: 'Ready', status: 'True' };
  let volumes = [of('a', { conditions: [ready], usage: { bytes: 5, inodes: 2 }, sessions: { active: 3 } }), of('b', {})];
  volumeMetrics(registry, () => volumes);
  const lines = async () => (await registry.metrics()).split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  assert.deepEqual(await lines(), [
    'juicepod_volume_ready{namespace="data",name="a"} 1',
    'juicepod_volume_ready{namespace="data",name="b"} 0',
    'juicepod_volume_used_bytes{namespace="data",name="a"} 5',
    'juicepod_volume_used_inodes{namespace="data",name="a"} 2',
    'juicepod_volume_sessions{namespace="data",name="a"} 3',
  ]);
  volumes = volumes.slice(1);
  assert.deepEqual(await lines(), ['juicepod_volume_ready{namespace="data",name="b"} 0']);
});
