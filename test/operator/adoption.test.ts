/** A volume that is there already: taken as it is, changed only where that was asked for, and never in place of another. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { Redis } from 'ioredis';
import { createHarness, type Harness } from './harness.ts';
import { place, settingOf } from './place.ts';

/** UIDs are counted in each cluster of the tests: objects of another one shall have others. */
const elsewhere = (harness: Harness): Promise<void> => harness.createNamespace('elsewhere');

async function existing(
  t: TestContext,
  more: Record<string, unknown> = {},
): Promise<{ spec: Record<string, unknown>; database: Redis; uuid: string; before: string }> {
  const { spec, database } = place(t);
  const first = createHarness();
  await elsewhere(first);
  await first.createVolume({ ...spec, ...more });
  await first.reconcile();
  const before = (await database.get('setting')) ?? '';
  return { spec, database, uuid: first.volume()?.status?.uuid ?? '', before };
}

const week = { format: { trashRetention: '168h' } };

test('settings that differ are named, and nothing is changed', async (t) => {
  const { spec, database, before, uuid } = await existing(t, { ...week, quota: { inodes: 7 } });
  const harness = createHarness();
  await harness.createVolume({ ...spec, quota: { inodes: 8 } });
  await harness.reconcile();
  assert.equal(harness.condition('Stalled'), 'True SettingsDiffer');
  const message = harness.message('Formatted');
  assert.match(message, /TrashDays: wanted 1, found 7; Inodes: wanted 8, found 7/);
  assert.ok(message.includes(`spec.adopt: {uuid: ${uuid}, settings: Overwrite}`));
  assert.equal(await database.get('setting'), before);
  assert.deepEqual(harness.secrets(), []);
});

test('settings that differ are overwritten where spec.adopt says so', async (t) => {
  const { spec, database, uuid } = await existing(t, week);
  const harness = createHarness();
  await harness.createVolume({ ...spec, adopt: { uuid, settings: 'Overwrite' } });
  await harness.reconcile();
  assert.equal(harness.condition('Ready'), 'True Succeeded', harness.message('Ready'));
  assert.equal((await settingOf(database)).trashDays, 1);
  assert.equal(harness.volume()?.status?.uuid, uuid);
});

test('settings that agree in the end need no overwriting', async (t) => {
  const { spec, database, before } = await existing(t, week);
  const harness = createHarness();
  await harness.createVolume(spec);
  await harness.reconcile();
  await harness.changeVolume((old) => ({ ...old, ...week }));
  await harness.reconcile();
  assert.equal(harness.condition('Stalled'), undefined);
  // It did not stand for the volume yet, so nothing of the first try is kept.
  assert.equal(await database.get('setting'), before);
});

test('a volume with another UUID than the one to adopt is not taken', async (t) => {
  const { spec, database, before, uuid } = await existing(t);
  const harness = createHarness();
  await harness.createVolume({
    ...spec,
    adopt: { uuid: uuid.replace(/^./, uuid.startsWith('a') ? 'b' : 'a'), settings: 'Overwrite' },
  });
  await harness.reconcile();
  assert.equal(harness.condition('Stalled'), 'True NotAdopted');
  assert.ok(harness.message('Ready').includes(uuid));
  assert.equal(await database.get('setting'), before);
});

test('nothing is formatted where a volume is to be adopted and none is there', async (t) => {
  const { spec, database } = place(t);
  const harness = createHarness();
  const adopt = { uuid: '12345678-9abc-4def-8123-456789abcdef', settings: 'Match' };
  await harness.createVolume({ ...spec, adopt, encryption: { algorithm: 'AES256GCM' } });
  await harness.reconcile();
  assert.equal(harness.condition('Stalled'), 'True NotAdopted');
  assert.equal(await database.dbsize(), 0);
  // Neither is a key made, which would be in the way of the right one.
  assert.ok(!harness.events.some(({ action }) => action.startsWith('make')));
});

test('an encrypted volume is adopted with its passphrase, and refused with a wrong one', async (t) => {
  const { spec, database } = place(t);
  const encryption = { algorithm: 'ChaCha20Poly1305', passphraseSecretRef: { name: 'words' } };
  const first = createHarness();
  await elsewhere(first);
  await first.createSecret('words', { passphrase: 'the words' });
  await first.createVolume({ ...spec, encryption });
  await first.reconcile();
  const before = await database.get('setting');
  const harness = createHarness();
  await harness.createSecret('words', { passphrase: 'other words' });
  await harness.createVolume({ ...spec, encryption });
  await harness.reconcile();
  assert.equal(harness.condition('Ready'), 'False PassphraseWrong');
  assert.deepEqual(harness.secrets(), []);
  await harness.createSecret('words', { passphrase: 'the words' });
  await harness.reconcile();
  assert.equal(harness.condition('Ready'), 'True Succeeded', harness.message('Ready'));
  assert.equal(await database.get('setting'), before);
});

test('a volume that the object itself formatted is its own, though its status was lost and the spec has changed', async (t) => {
  const { spec, database } = place(t);
  const harness = createHarness();
  await harness.createVolume(spec);
  // Stopped right after the volume was formatted.
  harness.frontend.fault = (_method, path) => (path.endsWith('/status') ? 'reset' : undefined);
  await assert.rejects(harness.reconcile());
  harness.frontend.fault = undefined;
  assert.equal(harness.volume()?.status?.uuid, undefined);
  assert.equal((await settingOf(database)).uuid, harness.volume()?.metadata.uid);
  await harness.changeVolume((old) => ({ ...old, format: { ...(old['format'] as object), trashRetention: '72h' } }));
  await harness.reconcile();
  assert.equal(harness.condition('Ready'), 'True Succeeded', harness.message('Ready'));
  assert.equal((await settingOf(database)).trashDays, 3);
});
