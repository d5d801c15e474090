/** Limits as a JuiceVolume declares them: in the volume, followed when they change, and those of others left alone. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ROOT_INO } from '../../src/lib/int64.ts';
import { openEngine, openMeta } from '../../src/meta/open.ts';
import { listQuotas, setQuota } from '../../src/meta/quotas.ts';
import { NodeType } from '../../src/meta/types.ts';
import { createHarness, type Harness } from './harness.ts';
import { mountConfig, place, settingOf } from './place.ts';

const root = { uid: 0, gid: 0, pid: 1 };
const GIB = 2 ** 30;

/** Makes a directory with some files of user 1000 in it. */
async function directory(harness: Harness, name: string, files: number): Promise<void> {
  const meta = await openMeta(mountConfig(harness).metaUrl, { backgroundJobs: false });
  await meta.newSession('/test');
  const { ino } = await meta.mkdir(root, ROOT_INO, Buffer.from(name), 0o777, 0);
  for (let index = 0; index < files; index++)
    await meta.mknod({ uid: 1000, gid: 7, pid: 1 }, ino, Buffer.from(`file-${index}`), NodeType.File, 0o644, 0, 0);
  await meta.close();
}

/** What an administrator would be shown: `kind name capacity/inodes used inodes`. */
async function inVolume(harness: Harness): Promise<readonly string[]> {
  const engine = await openEngine(mountConfig(harness).metaUrl, { existing: true });
  const quotas = await listQuotas(engine);
  await engine.close();
  return quotas.map(({ owner, capacity, inodes, usedInodes }) => {
    const name = owner.kind === 'directory' ? owner.path : owner.kind === 'user' ? owner.uid : owner.gid;
    return `${owner.kind} ${name} ${capacity}/${inodes} ${usedInodes}`;
  });
}

const inStatus = (harness: Harness): readonly string[] =>
  (harness.volume()?.status?.quotas ?? []).map(
    ({ kind, name, managed, state, capacityBytes = 0, inodes = 0, usedInodes = '-' }) =>
      `${kind} ${name} ${capacityBytes}/${inodes} ${usedInodes} ${managed ? 'ours' : 'theirs'} ${state}`,
  );

const limits = (harness: Harness, quota: Record<string, unknown> | undefined) =>
  harness.changeVolume(({ quota: _old, ...spec }) => ({ ...spec, ...(quota ? { quota } : {}) }));

async function settled(harness: Harness): Promise<void> {
  harness.writes();
  await harness.reconcile();
  assert.deepEqual(harness.writes(), []);
}

describe('limits of a volume', () => {
  test('are in its settings from the start, follow the spec, and go with it', async (t) => {
    const { spec, database } = place(t);
    const harness = createHarness();
    await harness.createVolume({ ...spec, quota: { capacity: '10Gi', inodes: 1000 } });
    await harness.reconcile();
    const set = async () => {
      const { capacity, inodes } = await settingOf(database);
      return [capacity, inodes];
    };
    assert.deepEqual(await set(), [10 * GIB, 1000]);
    assert.deepEqual(harness.volume()?.status?.capacity, {
      size: '10Gi',
      bytes: 10 * GIB,
      inodes: 1000,
      managed: ['capacity', 'inodes'],
    });
    assert.equal(harness.condition('QuotasApplied'), 'True Succeeded');
    await settled(harness);
    await limits(harness, { capacity: '20Gi' });
    await harness.reconcile();
    assert.deepEqual(await set(), [20 * GIB, 0]);
    await limits(harness, undefined);
    await harness.reconcile();
    assert.deepEqual(await set(), [0, 0]);
    assert.equal(harness.volume()?.status?.capacity, undefined);
    await settled(harness);
  });

  test('that an adopted volume has stay, where the spec says nothing of them', async (t) => {
    const { spec, database } = place(t);
    const first = createHarness();
    await first.createVolume({ ...spec, quota: { capacity: '10Gi' } });
    await first.reconcile();
    const harness = createHarness();
    await harness.createVolume(spec);
    await harness.reconcile();
    assert.equal((await settingOf(database)).capacity, 10 * GIB);
    assert.deepEqual(harness.volume()?.status?.capacity, { size: '10Gi', bytes: 10 * GIB });
  });

  test('that are used up are said, and the volume can still be mounted', async (t) => {
    const { spec } = place(t);
    const harness = createHarness();
    await harness.createVolume(spec);
    await harness.reconcile();
    await directory(harness, 'a', 99);
    await limits(harness, { inodes: 100 });
    await harness.reconcile();
    assert.equal(harness.condition('QuotaExceeded'), 'True LimitReached');
    assert.match(harness.message('QuotaExceeded'), /the volume uses 100 of 100 inodes/);
    assert.equal(harness.condition('Ready'), 'True Succeeded');
    assert.ok(harness.events.some(({ type, reason }) => type === 'Warning' && reason === 'LimitReached'));
    await limits(harness, { inodes: 200 });
    await harness.reconcile();
    assert.equal(harness.condition('QuotaExceeded'), undefined);
  });
});

describe('limits of directories, users and groups', () => {
  test('are set, counted over what is there, changed and removed', async (t) => {
    const { spec } = place(t);
    const harness = createHarness();
    await harness.createVolume(spec);
    await harness.reconcile();
    await directory(harness, 'a', 3);
    await limits(harness, {
      directories: [{ path: '/a', capacity: '1Gi' }],
      users: [{ uid: 1000, inodes: 10 }],
      groups: [{ gid: 7, capacity: '1Mi', inodes: 20 }],
    });
    await harness.reconcile();
    assert.deepEqual(await inVolume(harness), [`directory /a ${GIB}/0 3`, 'user 1000 0/10 3', `group 7 ${2 ** 20}/20 3`]);
    assert.deepEqual(inStatus(harness), [
      `Directory /a ${GIB}/0 3 ours Applied`,
      'User 1000 0/10 3 ours Applied',
      `Group 7 ${2 ** 20}/20 3 ours Applied`,
    ]);
    await settled(harness);
    await limits(harness, { directories: [{ path: '/a', inodes: 5 }] });
    await harness.reconcile();
    assert.deepEqual(await inVolume(harness), ['directory /a 0/5 3']);
    assert.deepEqual(inStatus(harness), ['Directory /a 0/5 3 ours Applied']);
    await limits(harness, undefined);
    await harness.reconcile();
    assert.deepEqual(await inVolume(harness), []);
    assert.deepEqual(inStatus(harness), []);
    assert.equal(harness.condition('QuotasApplied'), undefined);
    await settled(harness);
  });

  test('of a directory that is not there wait for it, and keep nothing else waiting', async (t) => {
    const { spec } = place(t);
    const harness = createHarness();
    await harness.createVolume({ ...spec, quota: { directories: [{ path: '/a', inodes: 5 }], users: [{ uid: 5, inodes: 1 }] } });
    await harness.reconcile();
    assert.equal(harness.condition('Ready'), 'True Succeeded');
    assert.equal(harness.condition('QuotasApplied'), 'False QuotaPending');
    assert.match(harness.message('QuotasApplied'), /Directory \/a/);
    assert.deepEqual(await inVolume(harness), ['user 5 0/1 0']);
    assert.deepEqual(inStatus(harness), ['Directory /a 0/5 - ours Pending', 'User 5 0/1 0 ours Applied']);
    await directory(harness, 'a', 2);
    await harness.reconcile();
    assert.equal(harness.condition('QuotasApplied'), 'True Succeeded');
    assert.equal(harness.condition('Reconciling'), undefined);
    assert.deepEqual(inStatus(harness), ['Directory /a 0/5 2 ours Applied', 'User 5 0/1 0 ours Applied']);
  });

  test('that others set are shown and left alone, until the spec names them', async (t) => {
    const { spec } = place(t);
    const first = createHarness();
    await first.createVolume(spec);
    await first.reconcile();
    await directory(first, 'theirs', 1);
    const engine = await openEngine(mountConfig(first).metaUrl, { existing: true });
    await setQuota(engine, { kind: 'directory', path: '/theirs' }, { inodes: 50 });
    await engine.close();
    const harness = createHarness();
    await harness.createVolume({ ...spec, quota: { users: [{ uid: 5, inodes: 1 }] } });
    await harness.reconcile();
    assert.deepEqual(inStatus(harness), ['User 5 0/1 0 ours Applied', 'Directory /theirs 0/50 1 theirs Applied']);
    await limits(harness, { directories: [{ path: '/theirs', inodes: 60 }] });
    await harness.reconcile();
    assert.deepEqual(inStatus(harness), ['Directory /theirs 0/60 1 ours Applied']);
    assert.deepEqual(await inVolume(harness), ['directory /theirs 0/60 1']);
  });
});
