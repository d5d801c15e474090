import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { JuiceVolume } from '../../api/volume.ts';
import { volumeMetrics } from './metrics.ts';

test('each volume that there is has its values, and one that is gone has none', () => {
  const of = (name: string, status: object): JuiceVolume =>
    ({ metadata: { name, namespace: 'data' }, status }) as unknown as JuiceVolume;
  const ready = { type: 'Ready', status: 'True' };
  let volumes = [of('a', { conditions: [ready], usage: { bytes: 5, inodes: 2 }, sessions: { active: 3 } }), of('b', {})];
  const lines = () =>
    [...volumeMetrics(() => volumes)]
      .join('')
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'));
  assert.deepEqual(lines(), [
    'juicepod_volume_ready{namespace="data",name="a"} 1',
    'juicepod_volume_ready{namespace="data",name="b"} 0',
    'juicepod_volume_used_bytes{namespace="data",name="a"} 5',
    'juicepod_volume_used_inodes{namespace="data",name="a"} 2',
    'juicepod_volume_sessions{namespace="data",name="a"} 3',
  ]);
  volumes = volumes.slice(1);
  assert.deepEqual(lines(), ['juicepod_volume_ready{namespace="data",name="b"} 0']);
});

test('with very many volumes the text comes in small pieces of whole lines, and nothing is left out', () => {
  const volumes = Array.from(
    { length: 5000 },
    (_, index) =>
      ({
        metadata: { name: `volume-${index}`, namespace: 'data' },
        status: { usage: { bytes: index, inodes: 1 } },
      }) as JuiceVolume,
  );
  const pieces = [...volumeMetrics(() => volumes)];
  assert.ok(pieces.every((piece) => piece.endsWith('\n') && piece.length < 17 << 10));
  const values = pieces
    .join('')
    .split('\n')
    .filter((line) => line.startsWith('juicepod_volume_used_bytes{'));
  assert.deepEqual(
    values.map((line) => Number(line.split(' ')[1])),
    volumes.map((_, index) => index),
  );
});
