/** What the operator formats the official client uses, and what that one formatted the operator adopts. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { createHarness } from '../operator/harness.ts';
import { type S3Server, type Server, startRedis, startS3 } from '../servers.ts';
import { juicefs, ToolMissing } from '../tools.ts';

const run = promisify(execFile);
const official = juicefs();

describe('operator and official client', { skip: official ? false : 'JUICEFS_BIN does not name the official client' }, () => {
  let redis: Server & { url(db?: number): string };
  let s3: S3Server | undefined;
  let missing = '';
  const folder = mkdtempSync(join(tmpdir(), 'juicepod-operator-interop-'));
  before(async () => {
    redis = await startRedis();
    try {
      s3 = await startS3();
    } catch (error) {
      if (!(error instanceof ToolMissing)) throw error;
      missing = error.message;
    }
  });
  after(async () => {
    await redis.stop();
    await s3?.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  const call = async (...args: readonly string[]): Promise<string> => {
    const { stdout } = await run(official ?? '', [...args], { env: { ...process.env, HOME: folder }, timeout: 60_000 });
    return stdout;
  };
  const metadata = (database: number) => ({ redis: { addresses: [`127.0.0.1:${redis.port}`], database } });

  test('the official client reads the status of what we formatted, and finds no fault in it', async () => {
    const harness = createHarness();
    const spec = { metadata: metadata(0), storage: { file: { path: join(folder, 'ours') } }, format: { compression: 'LZ4' } };
    await harness.createVolume(spec);
    await harness.reconcile();
    const status = JSON.parse(await call('status', redis.url(0))) as {
      Setting: { UUID: string; Name: string; Compression: string };
    };
    assert.deepEqual(
      [status.Setting.Name, status.Setting.UUID, status.Setting.Compression],
      ['datasets', harness.volume()?.status?.uuid, 'lz4'],
    );
    await call('fsck', redis.url(0));
  });

  test('a volume that the official client formatted on S3 is adopted as it is', async (t) => {
    if (!s3) return t.skip(missing);
    s3.createBucket('theirs');
    const keys = ['--access-key', s3.accessKey, '--secret-key', s3.secretKey];
    await call(
      'format',
      '--storage',
      's3',
      '--bucket',
      `${s3.endpoint}/theirs`,
      ...keys,
      '--trash-days',
      '1',
      redis.url(1),
      'datasets',
    );
    const before = JSON.parse(await call('status', redis.url(1))) as { Setting: { UUID: string } };
    const harness = createHarness();
    await harness.createSecret('keys', { accessKeyId: s3.accessKey, secretAccessKey: s3.secretKey });
    await harness.createVolume({
      metadata: metadata(1),
      storage: { s3: { bucket: 'theirs', endpoint: s3.endpoint, credentials: { secretRef: { name: 'keys' } } } },
    });
    await harness.reconcile();
    assert.equal(harness.condition('Ready'), 'True Succeeded', harness.message('Ready'));
    assert.equal(harness.volume()?.status?.uuid, before.Setting.UUID);
    assert.deepEqual(JSON.parse(await call('status', redis.url(1))), before);
    assert.ok(!harness.events.some(({ reason }) => reason === 'Configured' || reason === 'Formatted'));
  });

  test('what the operator changed in the settings the official client accepts', async (t) => {
    if (!s3) return t.skip(missing);
    const harness = createHarness();
    await harness.createSecret('keys', { accessKeyId: s3.accessKey, secretAccessKey: s3.secretKey });
    const spec = {
      metadata: metadata(2),
      storage: { s3: { bucket: 'ours', endpoint: s3.endpoint, credentials: { secretRef: { name: 'keys' } } } },
    };
    await harness.createVolume({ ...spec, format: { trashRetention: '0h' } });
    await harness.reconcile();
    await harness.changeVolume((old) => ({ ...old, format: { ...(old['format'] as object), trashRetention: '48h' } }));
    await harness.reconcile();
    const status = JSON.parse(await call('status', redis.url(2))) as { Setting: { TrashDays: number; SecretKey: string } };
    assert.deepEqual([status.Setting.TrashDays, status.Setting.SecretKey], [2, 'removed']);
    // Opens the store with the keys in the settings.
    await call('fsck', redis.url(2));
  });
});
