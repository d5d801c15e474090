import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MOUNT_ROOT } from './names.ts';
import { clientContainer, holderContainer } from './sidecar.ts';
import { containerInput } from './testing/fixtures.ts';

test('no probe and no hook goes through a mount: where that waits for a client that was killed, its container could not end', () => {
  const mounts = ['0', '1'].map((id) => ({ id, volume: 'ns/v', target: `${MOUNT_ROOT}/${id}`, config: '/etc/volume.json' }));
  const input = containerInput(mounts);
  for (const container of [clientContainer(input), holderContainer(input)]) {
    const { startupProbe, livenessProbe, readinessProbe, lifecycle } = container;
    assert.ok(!JSON.stringify({ startupProbe, livenessProbe, readinessProbe, lifecycle }).includes(MOUNT_ROOT));
  }
});
