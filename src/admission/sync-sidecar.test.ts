import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Plan } from '../api/plan.ts';
import { parsePlan } from '../api/plan.ts';
import { type Json, mapOf } from '../lib/json.ts';
import { viewPod } from './pod.ts';
import { defaultSettings } from './settings.ts';
import { syncApplicationMount, syncContainer, syncIdentity, type SyncSidecarInput, syncVolumes } from './sync-sidecar.ts';

const plan: Plan = parsePlan(
  JSON.stringify({
    version: 1,
    mounts: [
      { id: '0', volume: 'a/b', config: '/etc/juicepod/volumes/0/volume.json', target: '/juicepod/mnt/0' },
      {
        id: '1',
        volume: 'a/c',
        config: '/etc/juicepod/volumes/1/volume.json',
        target: '/juicepod/sync/1/tree',
        mode: 'sync',
        sync: { limitMiB: 1000 },
      },
    ],
  }),
);

function input(pod: Json): SyncSidecarInput {
  const view = viewPod(pod);
  return {
    settings: defaultSettings,
    image: 'image',
    plan,
    secrets: ['first', 'second'],
    resources: {},
    identity: syncIdentity(view, view.containers),
  };
}

const podOf = (pod: Json, ...containers: readonly Json[]): Json => ({
  spec: {
    securityContext: pod,
    containers: containers.map((securityContext, index) => ({ name: `c${index}`, securityContext })),
  },
});

test('the container is what Pod Security restricted admits', () => {
  const context = mapOf(syncContainer(input(podOf({ runAsNonRoot: true, runAsUser: 1000 }, {})))['securityContext']);
  assert.deepEqual(context, {
    allowPrivilegeEscalation: false,
    capabilities: { drop: ['ALL'] },
    privileged: false,
    readOnlyRootFilesystem: true,
    runAsNonRoot: true,
    runAsUser: 1000,
    seccompProfile: { type: 'RuntimeDefault' },
  });
});

test('only the mounts of sync mode get a volume, with room for what the sidecar keeps', () => {
  const made = input(podOf({}, {}));
  const volumes = syncVolumes(made);
  assert.deepEqual(
    volumes.map((volume) => volume['name']),
    ['juicepod-sync-1', 'juicepod-run', 'juicepod-plan', 'juicepod-secret-0', 'juicepod-secret-1'],
  );
  assert.deepEqual(volumes[0]?.['emptyDir'], { sizeLimit: '1228Mi' });
  const names = (syncContainer(made)['volumeMounts'] as readonly Json[]).map((mount) => mount['mountPath']);
  assert.deepEqual(names, [
    '/juicepod/sync/1',
    '/juicepod/run',
    '/etc/juicepod/pod',
    '/etc/juicepod/volumes/0',
    '/etc/juicepod/volumes/1',
  ]);
  assert.deepEqual(syncApplicationMount('1', '/data', true), {
    name: 'juicepod-sync-1',
    mountPath: '/data',
    subPath: 'tree',
    readOnly: true,
  });
});

test('the sidecar runs as the application does, and opens the files up where it cannot know its user', () => {
  const who = (pod: Json, ...containers: readonly Json[]): unknown => {
    const view = viewPod(podOf(pod, ...containers));
    const { runAsUser, share } = syncIdentity(view, view.containers);
    return [runAsUser, share];
  };
  assert.deepEqual(who({ runAsUser: 7 }, {}, {}), [7, 'none']);
  assert.deepEqual(who({ runAsUser: 7 }, { runAsUser: 8 }), [8, 'none']);
  assert.deepEqual(who({ runAsUser: 7 }, { runAsUser: 8 }, {}), [65_532, 'all']);
  assert.deepEqual(who({ runAsNonRoot: true }, {}), [65_532, 'all']);
  assert.deepEqual(who({ runAsNonRoot: true, fsGroup: 5 }, {}), [65_532, 'group']);
  assert.deepEqual(who({}, {}), [0, 'all']);
});

test('a user that is not root can read the Secrets', () => {
  const mode = (pod: Json): unknown => mapOf(syncVolumes(input(podOf(pod, {}))).at(-1)?.['secret'])['defaultMode'];
  assert.equal(mode({ runAsUser: 7 }), 0o444);
  assert.equal(mode({ runAsUser: 7, fsGroup: 9 }), 0o440);
});
