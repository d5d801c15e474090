/** What becomes of the data of a deleted JuiceVolume; and how defects are told. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import type { Redis } from 'ioredis';
import { Pods } from '../../src/kube/resources.ts';
import { type Clock, systemClock } from '../../src/lib/clock.ts';
import { withFaults } from '../../src/object/faults.ts';
import { openObjectStore } from '../../src/object/open.ts';
import { createHarness, type Harness } from './harness.ts';
import { place } from './place.ts';

test('a defect is told in the conditions, and the controller is told too', async (t) => {
  const { spec } = place(t);
  const clock: Clock = Object.assign(Object.create(systemClock) as Clock, {
    nowNs: () => {
      throw new TypeError('no more time');
    },
  });
  const harness = createHarness({ clock });
  await harness.createVolume(spec);
  await assert.rejects(harness.reconcile(), /no more time/);
  assert.equal(harness.condition('Reconciling'), 'True InternalError');
  assert.equal(harness.message('Reconciling'), 'no more time');
});

test('objects that the store will not delete keep the volume, and the reason is told', async (t) => {
  const { spec, folder, database } = place(t);
  let locked = true;
  const harness = createHarness({
    backends: {
      openStore: ({ bucket, name }) =>
        withFaults(openObjectStore({ storage: 'file', bucket, name }), (operation, key) =>
          locked && operation === 'delete' && key === 'chunks/locked' ? { kind: 'status', status: 403 } : undefined,
        ),
    },
  });
  await harness.createVolume({ ...spec, reclaimPolicy: 'Delete' });
  await harness.reconcile();
  mkdirSync(join(folder, 'datasets', 'chunks'));
  for (const name of ['a', 'locked', 'z']) writeFileSync(join(folder, 'datasets', 'chunks', name), 'data');
  await harness.annotate({ 'juicepod.io/confirm-delete': 'datasets' });
  await harness.deleteVolume();
  await harness.reconcile();
  assert.equal(harness.condition('Ready'), 'False StorageDenied');
  assert.equal(await database.exists('setting'), 1);
  locked = false;
  await harness.reconcile();
  assert.equal(harness.volume(), undefined);
  assert.equal(await database.dbsize(), 0);
});

describe('deletion', () => {
  async function ready(
    t: TestContext,
    more: Record<string, unknown> = {},
  ): Promise<{ harness: Harness; folder: string; database: Redis }> {
    const { spec, folder, database } = place(t);
    const harness = createHarness();
    await harness.createVolume({ ...spec, ...more });
    await harness.reconcile();
    assert.equal(harness.condition('Ready'), 'True Succeeded');
    mkdirSync(join(folder, 'datasets', 'chunks', '0', '0'), { recursive: true });
    for (let block = 0; block < 40; block++) writeFileSync(join(folder, 'datasets', 'chunks', '0', '0', `${block}_0_4`), 'data');
    mkdirSync(join(folder, 'neighbour'));
    writeFileSync(join(folder, 'neighbour', 'x'), 'kept');
    await database.set('theirs', 'kept');
    return { harness, folder, database };
  }
  const files = (folder: string): number =>
    readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).length;

  test('keeps all data by default and lets the object go', async (t) => {
    const { harness, folder, database } = await ready(t);
    await harness.deleteVolume();
    await harness.reconcile();
    assert.equal(harness.volume(), undefined);
    assert.equal(files(join(folder, 'datasets')), 41);
    assert.equal(await database.exists('setting'), 1);
    assert.deepEqual(harness.secrets(), []);
  });

  test('waits while clients have the volume mounted, whatever was confirmed', async (t) => {
    const { harness, database } = await ready(t, { reclaimPolicy: 'Delete' });
    await database.zadd('allSessions', Math.floor(Date.now() / 1000) + 300, '1');
    await harness.annotate({ 'juicepod.io/confirm-delete': 'datasets' });
    await harness.deleteVolume();
    await harness.reconcile();
    assert.equal(harness.condition('Ready'), 'False InUse');
    assert.equal(harness.condition('Formatted'), 'True Succeeded');
    assert.equal(await database.exists('setting'), 1);
    await database.zadd('allSessions', Math.floor(Date.now() / 1000) - 1, '1');
    await harness.reconcile();
    assert.equal(harness.volume(), undefined);
  });

  test('waits while a pod mounts the volume that only reads, and so has no session', async (t) => {
    const { harness, folder, database } = await ready(t, { reclaimPolicy: 'Delete' });
    const mounts = [{ id: '0', volume: 'data/datasets', config: '/c', target: '/t', readOnly: true }];
    const create = (name: string, phase: string, text: object): void => {
      const annotations = { 'juicepod.io/plan': JSON.stringify(text) };
      const spec = { containers: [] };
      harness.server.create(Pods, { apiVersion: 'v1', kind: 'Pod', metadata: { namespace: 'data', name, annotations }, spec });
      const status = [{ op: 'add' as const, path: '/status', value: { phase } }];
      harness.server.patch(Pods, { namespace: 'data', name }, status, { fieldManager: 'kubelet', subresource: 'status' });
    };
    create('reader', 'Running', { version: 1, mounts });
    create('over', 'Succeeded', { version: 1, mounts });
    create('other', 'Running', { version: 1, mounts: [{ ...mounts[0], volume: 'data/other' }] });
    await harness.annotate({ 'juicepod.io/confirm-delete': 'datasets' });
    await harness.deleteVolume();
    await harness.reconcile();
    assert.equal(harness.condition('Ready'), 'False InUse');
    assert.match(harness.message('Ready') ?? '', /^1 pod\(s\) still mount the volume \(data\/reader\)/);
    assert.equal(harness.secrets().length, 1);
    harness.server.delete(Pods, { namespace: 'data', name: 'reader' });
    await harness.reconcile();
    assert.equal(harness.volume(), undefined);
    assert.equal(files(join(folder, 'datasets')), 0);
    assert.equal(await database.exists('setting'), 0);
  });

  test('with reclaimPolicy Delete waits for the confirmation, then deletes this volume’s data and nothing else', async (t) => {
    const { harness, folder, database } = await ready(t, { reclaimPolicy: 'Delete' });
    await harness.annotate({ 'juicepod.io/confirm-delete': 'something-else' });
    await harness.deleteVolume();
    await harness.reconcile();
    assert.equal(harness.condition('DeletionUnconfirmed'), 'True Unconfirmed');
    assert.match(harness.message('Ready'), /kubectl annotate juicevolume datasets juicepod\.io\/confirm-delete=datasets/);
    assert.equal(files(join(folder, 'datasets')), 41);
    await harness.annotate({ 'juicepod.io/confirm-delete': 'datasets' });
    await harness.reconcile();
    assert.equal(harness.volume(), undefined);
    assert.equal(existsSync(join(folder, 'datasets')) ? files(join(folder, 'datasets')) : 0, 0);
    assert.deepEqual(await database.keys('*'), ['theirs']);
    assert.equal(readFileSync(join(folder, 'neighbour', 'x'), 'utf8'), 'kept');
  });

  test('deletes nothing when the database holds another volume by now', async (t) => {
    const { harness, folder, database } = await ready(t, { reclaimPolicy: 'Delete' });
    const uuid = harness.volume()?.status?.uuid ?? '';
    await database.set('setting', ((await database.get('setting')) ?? '').replace(uuid, '00000000-0000-4000-8000-000000000000'));
    await harness.annotate({ 'juicepod.io/confirm-delete': 'datasets' });
    await harness.deleteVolume();
    await harness.reconcile();
    assert.equal(harness.condition('Stalled'), 'True VolumeReplaced');
    assert.equal(files(join(folder, 'datasets')), 41);
  });

  test('goes on where it was interrupted after the database was emptied', async (t) => {
    const { harness, folder, database } = await ready(t, { reclaimPolicy: 'Delete' });
    await database.flushdb();
    await harness.annotate({ 'juicepod.io/confirm-delete': 'datasets' });
    await harness.deleteVolume();
    await harness.reconcile();
    assert.equal(harness.volume(), undefined);
    assert.equal(existsSync(join(folder, 'datasets')) ? files(join(folder, 'datasets')) : 0, 0);
  });

  test('does nothing while the volume is suspended', async (t) => {
    const { harness, folder } = await ready(t, { reclaimPolicy: 'Delete' });
    await harness.changeVolume((old) => ({ ...old, suspend: true }));
    await harness.annotate({ 'juicepod.io/confirm-delete': 'datasets' });
    await harness.deleteVolume();
    await harness.reconcile();
    assert.equal(harness.condition('Suspended'), 'True Suspended');
    assert.equal(harness.condition('Ready'), 'True Succeeded');
    assert.equal(files(join(folder, 'datasets')), 41);
    await harness.changeVolume((old) => ({ ...old, suspend: false }));
    await harness.reconcile();
    assert.equal(harness.volume(), undefined);
  });

  test('of an object that never formatted anything lets it go at once', async (t) => {
    const { spec } = place(t);
    const harness = createHarness();
    await harness.createVolume({ ...spec, metadata: { redis: { addresses: ['127.0.0.1:1'] } }, reclaimPolicy: 'Delete' });
    await harness.reconcile();
    await harness.deleteVolume();
    await harness.reconcile();
    assert.equal(harness.volume(), undefined);
  });
});
