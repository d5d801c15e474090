/** Encrypted volumes as the operator makes them: keys and passphrases made, kept apart, changed without touching data, never lost. */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import type { Redis } from 'ioredis';
import { Secrets } from '../../src/kube/resources.ts';
import type { SecretObject } from '../../src/operator/volume/secrets.ts';
import { generateEncryptionKey, openEncryptionKey, rewrapEncryptionKey } from '../../src/object/rsa-key.ts';
import { createHarness, type Harness } from './harness.ts';
import { mountConfig, place, settingOf } from './place.ts';

const PASSPHRASE = 'juicepod-passphrase-datasets';
const KEY = 'juicepod-key-datasets';
const AES = { algorithm: 'AES256GCM' };

function secretOf(harness: Harness, name: string): SecretObject | undefined {
  return harness.server.peek(Secrets, { namespace: 'data', name });
}

function value(harness: Harness, name: string, key: string): string {
  return Buffer.from(secretOf(harness, name)?.data?.[key] ?? '', 'base64').toString();
}

async function encrypted(
  t: TestContext,
  encryption: Record<string, unknown> = AES,
  prepare: (harness: Harness) => Promise<void> = async () => {},
): Promise<{ harness: Harness; database: Redis; spec: Record<string, unknown> }> {
  const { spec, database } = place(t);
  const harness = createHarness();
  await prepare(harness);
  await harness.createVolume({ ...spec, encryption });
  await harness.reconcile();
  assert.equal(harness.condition('Ready'), 'True Succeeded', harness.message('Ready'));
  return { harness, database, spec };
}

/** Until nothing is changing any more. */
async function settled(harness: Harness): Promise<void> {
  for (let round = 0; round < 6; round++) {
    harness.writes();
    await harness.reconcile();
    if (harness.writes().length === 0) return;
  }
  assert.fail('the volume does not come to rest');
}

const bump = (harness: Harness, passphraseGeneration: number) =>
  harness.changeVolume((old) => ({ ...old, encryption: { ...(old['encryption'] as object), passphraseGeneration } }));

describe('an encrypted volume', () => {
  test('gets a key and a passphrase in two Secrets, and clients get the passphrase alone', async (t) => {
    const { harness, database } = await encrypted(t);
    const format = await settingOf(database);
    assert.equal(format.encryptAlgo, 'aes256gcm-rsa');
    const passphrase = value(harness, PASSPHRASE, 'passphrase');
    assert.ok(passphrase.length >= 40);
    assert.equal(value(harness, KEY, 'key.pem'), format.encryptKey);
    openEncryptionKey(format.encryptKey, passphrase);
    assert.throws(() => openEncryptionKey(format.encryptKey, 'another'), /does not open/);
    assert.deepEqual(Object.keys(secretOf(harness, KEY)?.data ?? {}), ['key.pem']);
    assert.equal(secretOf(harness, PASSPHRASE)?.data?.['key.pem'], undefined);
    assert.deepEqual(mountConfig(harness).encryption, { passphrase });
    // The garbage collector would take them with the object, and the data could never be read again.
    for (const name of [PASSPHRASE, KEY]) assert.equal(secretOf(harness, name)?.metadata.ownerReferences, undefined);
    const { encryption } = harness.volume()?.status ?? {};
    assert.deepEqual(
      [encryption?.algorithm, encryption?.passphraseGeneration, encryption?.passphraseSecret, encryption?.keySecret],
      ['aes256gcm-rsa', 1, PASSPHRASE, KEY],
    );
    assert.match(encryption?.keyFingerprint ?? '', /^[0-9a-f]{64}$/);
    assert.equal(harness.condition('EncryptionReady'), 'True Succeeded');
    const shown = JSON.stringify([harness.volume(), harness.events]);
    assert.ok(!shown.includes(passphrase) && !shown.includes('PRIVATE KEY'));
    await settled(harness);
  });

  test('with the other cipher, and a key and passphrase of the user, uses exactly these', async (t) => {
    const pem = await generateEncryptionKey('my words');
    const { harness, database } = await encrypted(
      t,
      { algorithm: 'ChaCha20Poly1305', keySecretRef: { name: 'mine', key: 'rsa' }, passphraseSecretRef: { name: 'words' } },
      async (of) => {
        await of.createSecret('mine', { rsa: pem });
        // As kubectl makes it of a file that ends with a line break.
        await of.createSecret('words', { passphrase: 'my words\n' });
      },
    );
    const format = await settingOf(database);
    assert.deepEqual([format.encryptAlgo, format.encryptKey], ['chacha20-rsa', pem]);
    assert.deepEqual(mountConfig(harness).encryption, { passphrase: 'my words' });
    assert.equal(secretOf(harness, KEY), undefined);
    assert.equal(secretOf(harness, PASSPHRASE), undefined);
    // Once formatted, the key lies in the volume; its Secret may go.
    await harness.client.resource(Secrets).delete({ namespace: 'data', name: 'mine' });
    await harness.reconcile();
    assert.equal(harness.condition('Ready'), 'True Succeeded', harness.message('Ready'));
  });

  test('is not formatted with a key that the passphrase does not open, and heals when it does', async (t) => {
    const { spec, database } = place(t);
    const harness = createHarness();
    const pem = await generateEncryptionKey('right');
    await harness.createSecret('words', { passphrase: 'wrong' });
    await harness.createVolume({
      ...spec,
      encryption: { ...AES, keySecretRef: { name: 'mine' }, passphraseSecretRef: { name: 'words' } },
    });
    await harness.reconcile();
    assert.equal(harness.condition('Ready'), 'False SecretNotFound');
    assert.match(harness.message('EncryptionReady'), /Secret mine .* key\.pem/);
    await harness.createSecret('mine', { 'key.pem': pem });
    await harness.reconcile();
    assert.equal(harness.condition('Stalled'), 'True KeyInvalid', harness.message('Ready'));
    assert.equal(await database.dbsize(), 0);
    await harness.createSecret('words', { passphrase: 'right' });
    await harness.reconcile();
    assert.equal(harness.condition('Ready'), 'True Succeeded', harness.message('Ready'));
  });
});

describe('a passphrase', () => {
  test('is renewed when a higher generation is asked for: same key, both known meanwhile, the old one forgotten at the end', async (t) => {
    const { harness, database } = await encrypted(t);
    const before = await settingOf(database);
    const old = value(harness, PASSPHRASE, 'passphrase');
    const fingerprint = harness.volume()?.status?.encryption?.keyFingerprint;
    await bump(harness, 2);
    await harness.reconcile();
    // Clients that start now are given both, and the key is still under the old one.
    const fresh = value(harness, PASSPHRASE, 'passphrase');
    assert.notEqual(fresh, old);
    assert.deepEqual(mountConfig(harness).encryption, { passphrase: fresh, previous: old });
    assert.equal((await settingOf(database)).encryptKey, before.encryptKey);
    assert.equal(harness.condition('Ready'), 'True Succeeded');
    assert.equal(harness.condition('Reconciling'), 'True Rotating');
    assert.ok(harness.volume()?.status?.encryption?.rotatingSince);
    await settled(harness);
    const after = await settingOf(database);
    openEncryptionKey(after.encryptKey, fresh);
    assert.throws(() => openEncryptionKey(after.encryptKey, old));
    assert.equal(value(harness, KEY, 'key.pem'), after.encryptKey);
    assert.equal(value(harness, PASSPHRASE, 'previous'), '');
    assert.deepEqual(mountConfig(harness).encryption, { passphrase: fresh });
    const { encryption } = harness.volume()?.status ?? {};
    assert.deepEqual(
      [encryption?.passphraseGeneration, encryption?.keyFingerprint, encryption?.rotatingSince],
      [2, fingerprint, undefined],
    );
    assert.deepEqual({ ...after, encryptKey: '' }, { ...before, encryptKey: '' });
    assert.equal(harness.condition('Reconciling'), undefined);
  });

  test('waits before the key is put under it, so that every pod has got both', async (t) => {
    const { spec, database } = place(t);
    const harness = createHarness({ rotationPauseMs: 3_600_000 });
    await harness.createVolume({ ...spec, encryption: AES });
    await harness.reconcile();
    const before = (await settingOf(database)).encryptKey;
    await bump(harness, 2);
    for (let round = 0; round < 3; round++) await harness.reconcile();
    assert.equal((await settingOf(database)).encryptKey, before);
    assert.equal(harness.condition('EncryptionReady'), 'True Rotating');
  });

  test('of the user is followed when the Secret changes', async (t) => {
    const { harness, database } = await encrypted(t, { ...AES, passphraseSecretRef: { name: 'words' } }, (of) =>
      of.createSecret('words', { passphrase: 'one' }),
    );
    openEncryptionKey((await settingOf(database)).encryptKey, 'one');
    await harness.createSecret('words', { passphrase: 'two' });
    await harness.reconcile();
    assert.deepEqual(mountConfig(harness).encryption, { passphrase: 'two', previous: 'one' });
    // Changed once more before the first change was through.
    await harness.createSecret('words', { passphrase: 'three' });
    await harness.reconcile();
    assert.deepEqual(mountConfig(harness).encryption, { passphrase: 'three', previous: 'one' });
    await settled(harness);
    openEncryptionKey((await settingOf(database)).encryptKey, 'three');
    assert.deepEqual(mountConfig(harness).encryption, { passphrase: 'three' });
  });

  test('that opens nothing stops what is new and takes nothing away', async (t) => {
    const { harness, database } = await encrypted(t, { ...AES, passphraseSecretRef: { name: 'words' } }, (of) =>
      of.createSecret('words', { passphrase: 'one' }),
    );
    const pem = await rewrapEncryptionKey((await settingOf(database)).encryptKey, 'one', 'somebody else’s');
    const setting = (await database.get('setting')) ?? '';
    const stored = JSON.parse(setting) as Record<string, unknown>;
    await database.set('setting', JSON.stringify({ ...stored, EncryptKey: pem, KeyEncrypted: false }, undefined, ''));
    await harness.reconcile();
    assert.equal(harness.condition('Ready'), 'False PassphraseWrong');
    assert.deepEqual(mountConfig(harness).encryption, { passphrase: 'one' });
    await database.set('setting', setting);
    await harness.reconcile();
    assert.equal(harness.condition('Ready'), 'True Succeeded');
  });

  test('that was lost with its Secret is put back from what clients use, and so is the copy of the key', async (t) => {
    const { harness, database } = await encrypted(t);
    const passphrase = value(harness, PASSPHRASE, 'passphrase');
    const before = await database.get('setting');
    for (const name of [PASSPHRASE, KEY]) await harness.client.resource(Secrets).delete({ namespace: 'data', name });
    await harness.reconcile();
    assert.equal(value(harness, PASSPHRASE, 'passphrase'), passphrase);
    assert.equal(value(harness, KEY, 'key.pem'), (await settingOf(database)).encryptKey);
    assert.equal(await database.get('setting'), before);
    assert.equal(harness.condition('Ready'), 'True Succeeded');
  });

  test('whose Secret somebody else made is not touched', async (t) => {
    const { spec, database } = place(t);
    const harness = createHarness();
    await harness.createSecret(PASSPHRASE, { passphrase: 'theirs' });
    await harness.createVolume({ ...spec, encryption: AES });
    await harness.reconcile();
    assert.equal(harness.condition('Ready'), 'False SecretRefused');
    assert.equal(value(harness, PASSPHRASE, 'passphrase'), 'theirs');
    assert.equal(await database.dbsize(), 0);
  });
});

describe('key and data', () => {
  test('stay together: kept with Retain, and found again by an object of the same name', async (t) => {
    const { harness, database, spec } = await encrypted(t);
    const passphrase = value(harness, PASSPHRASE, 'passphrase');
    const before = await database.get('setting');
    await harness.deleteVolume();
    await harness.reconcile();
    assert.equal(harness.volume(), undefined);
    assert.equal(value(harness, PASSPHRASE, 'passphrase'), passphrase);
    assert.ok(
      harness.events.some(({ reason, note }) => reason === 'Released' && note.includes(PASSPHRASE) && note.includes(KEY)),
    );
    await harness.createVolume({ ...spec, encryption: AES });
    await harness.reconcile();
    assert.equal(harness.condition('Ready'), 'True Succeeded', harness.message('Ready'));
    assert.equal(await database.get('setting'), before);
    assert.deepEqual(mountConfig(harness).encryption, { passphrase });
  });

  test('go together with Delete', async (t) => {
    const { harness, database } = await encrypted(t);
    await harness.changeVolume((old) => ({ ...old, reclaimPolicy: 'Delete' }));
    await harness.annotate({ 'juicepod.io/confirm-delete': 'datasets' });
    await harness.deleteVolume();
    await harness.reconcile();
    assert.equal(await database.dbsize(), 0);
    assert.equal(secretOf(harness, PASSPHRASE), undefined);
    assert.equal(secretOf(harness, KEY), undefined);
  });

  test('do not fit where the spec wants no encryption, another cipher, or the volume has none', async (t) => {
    const { harness, database, spec } = await encrypted(t);
    const before = await database.get('setting');
    await harness.deleteVolume();
    await harness.reconcile();
    for (const [encryption, message] of [
      [undefined, /Encryption: wanted none, found aes256gcm-rsa/],
      [{ algorithm: 'ChaCha20Poly1305' }, /Encryption: wanted chacha20-rsa, found aes256gcm-rsa/],
    ] as const) {
      await harness.createVolume({ ...spec, ...(encryption ? { encryption } : {}) });
      await harness.reconcile();
      assert.equal(harness.condition('Stalled'), 'True FormatMismatch');
      assert.match(harness.message('Ready'), message);
      await harness.deleteVolume();
      await harness.reconcile();
    }
    assert.equal(await database.get('setting'), before);
  });
});
