/** A JuiceVolume on S3: buckets, wrong, rotated and missing keys, a store that is away. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { freePort, type S3Server, startS3 } from '../servers.ts';
import { ToolMissing } from '../tools.ts';
import { createHarness } from './harness.ts';
import { place, settingOf } from './place.ts';

describe('an S3 store', () => {
  let s3: S3Server | undefined;
  let missing = '';
  before(async () => {
    try {
      s3 = await startS3();
    } catch (error) {
      if (!(error instanceof ToolMissing)) throw error;
      missing = error.message;
    }
  });
  after(() => s3?.stop());

  const keys = (server: S3Server, secretKey = server.secretKey) => ({
    accessKeyId: server.accessKey,
    secretAccessKey: secretKey,
  });
  const storage = (server: S3Server, bucket: string) => ({
    s3: { bucket, endpoint: server.endpoint, credentials: { secretRef: { name: 's3-keys' } } },
  });

  test('gets its bucket and its marker; wrong keys are told as such and never reach the settings', async (t) => {
    if (!s3) return t.skip(missing);
    const { spec, database } = place(t);
    const harness = createHarness();
    await harness.createSecret('s3-keys', keys(s3, 'wrong-secret'));
    await harness.createVolume({ ...spec, storage: storage(s3, 'bucket-one') });
    await harness.reconcile();
    assert.equal(harness.condition('Ready'), 'False StorageDenied', harness.message('Ready'));
    assert.match(
      harness.message('Ready'),
      /; check \w+ and \w+ in the Secret s3-keys \(spec\.storage\.s3\.credentials\.secretRef\)/,
    );
    assert.equal(await database.dbsize(), 0);
    await harness.createSecret('s3-keys', keys(s3));
    await harness.reconcile();
    assert.equal(harness.condition('Ready'), 'True Succeeded', harness.message('Ready'));
    const format = await settingOf(database);
    assert.deepEqual([format.storage, format.bucket, format.secretKey], ['s3', `${s3.endpoint}/bucket-one`, s3.secretKey]);
    assert.doesNotMatch((await database.get('setting')) ?? '', new RegExp(s3.secretKey));
    assert.equal(readFileSync(join(s3.folder, 'bucket-one', 'datasets', 'juicefs_uuid'), 'utf8'), format.uuid);
    harness.writes();
    await harness.reconcile();
    assert.deepEqual(harness.writes(), []);

    await harness.createSecret('s3-keys', keys(s3, 'wrong-again'));
    await harness.reconcile();
    assert.equal(harness.condition('Ready'), 'False StorageDenied');
    assert.equal((await settingOf(database)).secretKey, s3.secretKey);
    assert.doesNotMatch(JSON.stringify([harness.volume(), harness.events]), /wrong-again|testsecretkey/);
  });

  test('rotated keys are written to the settings when they work', async (t) => {
    if (!s3) return t.skip(missing);
    const { spec, database } = place(t);
    const harness = createHarness();
    await harness.createSecret('s3-keys', keys(s3));
    await harness.createVolume({ ...spec, storage: storage(s3, 'bucket-two') });
    await harness.reconcile();
    // As if the settings still held the keys before the rotation.
    const { serialiseFormat } = await import('../../src/meta/format.ts');
    await database.set('setting', serialiseFormat({ ...(await settingOf(database)), accessKey: 'old', secretKey: 'old' }));
    await harness.reconcile();
    const format = await settingOf(database);
    assert.deepEqual([format.accessKey, format.secretKey], [s3.accessKey, s3.secretKey]);
    assert.equal(harness.condition('Ready'), 'True Succeeded');
  });

  test('that is away is told as such, and the volume is ready again when it is back', async (t) => {
    if (!s3) return t.skip(missing);
    const { spec } = place(t);
    const harness = createHarness();
    await harness.createSecret('s3-keys', keys(s3));
    await harness.createVolume({ ...spec, storage: storage(s3, 'bucket-three') });
    await harness.reconcile();
    const port = await freePort();
    const endpoint = (url: string) => (old: Record<string, unknown>) => {
      const { s3: former } = old['storage'] as { s3: object };
      return { ...old, storage: { s3: { ...former, endpoint: url } } };
    };
    await harness.changeVolume(endpoint(`http://127.0.0.1:${port}`));
    await harness.reconcile();
    assert.equal(harness.condition('Ready'), 'False StorageUnreachable');
    assert.equal(harness.condition('Formatted'), 'True Succeeded');
    assert.equal(harness.secrets().length, 1);
    await harness.changeVolume(endpoint(s3.endpoint));
    await harness.reconcile();
    assert.equal(harness.condition('Ready'), 'True Succeeded');
  });
});
