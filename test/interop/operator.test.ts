/** What the operator formats the official client uses, and what that one formatted the operator adopts. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { ROOT_INO } from '../../src/lib/int64.ts';
import { openMeta } from '../../src/meta/open.ts';
import { parseMountConfig } from '../../src/api/mount.ts';
import { createHarness, type Harness } from '../operator/harness.ts';
import { type S3Server, type Server, startRedis, startS3 } from '../servers.ts';
import { juicefs, ToolMissing } from '../tools.ts';

const run = promisify(execFile);

const mountConfig = (harness: Harness) =>
  parseMountConfig(Buffer.from(harness.secrets()[0]?.data?.['volume.json'] ?? '', 'base64').toString());
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
  const callWith = async (environment: Readonly<Record<string, string>>, ...args: readonly string[]): Promise<string> => {
    const env = { ...process.env, HOME: folder, ...environment };
    const { stdout } = await run(official ?? '', [...args], { env, timeout: 60_000 });
    return stdout;
  };
  const call = (...args: readonly string[]): Promise<string> => callWith({}, ...args);
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

  test('the official client writes to and reads from an encrypted volume that we made, before and after its passphrase changed', async () => {
    const harness = createHarness();
    const place = { metadata: metadata(3), storage: { file: { path: join(folder, 'sealed') } } };
    await harness.createVolume({ ...place, encryption: { algorithm: 'ChaCha20Poly1305' } });
    await harness.reconcile();
    assert.equal(harness.condition('Ready'), 'True Succeeded', harness.message('Ready'));
    const { encryption: first } = mountConfig(harness);
    const content = Buffer.from('not to be read by everybody\n'.repeat(1000));
    mkdirSync(join(folder, 'in'));
    writeFileSync(join(folder, 'in', 'secret.txt'), content);
    const copy = (passphrase: string, from: string, to: string): Promise<string> =>
      callWith({ sealed: redis.url(3), JFS_RSA_PASSPHRASE: passphrase }, 'sync', from, to);
    await copy(first?.passphrase ?? '', `${join(folder, 'in')}/`, 'jfs://sealed/');
    for (const name of readdirSync(join(folder, 'sealed'), { recursive: true, encoding: 'utf8' })) {
      const path = join(folder, 'sealed', name);
      if (statSync(path).isFile()) assert.ok(!readFileSync(path).includes('not to be read'), `${name} is in the clear`);
    }
    await harness.changeVolume((old) => ({
      ...old,
      encryption: { ...(old['encryption'] as object), passphraseGeneration: 2 },
    }));
    for (let round = 0; round < 3; round++) await harness.reconcile();
    const { encryption: second } = mountConfig(harness);
    assert.notEqual(second?.passphrase, first?.passphrase);
    assert.equal(second?.previous, undefined);
    await assert.rejects(copy(first?.passphrase ?? '', 'jfs://sealed/', `${join(folder, 'no')}/`));
    await copy(second?.passphrase ?? '', 'jfs://sealed/', `${join(folder, 'out')}/`);
    assert.deepEqual(readFileSync(join(folder, 'out', 'secret.txt')), content);
  });

  test('juicefs quota list shows the limits of a JuiceVolume', async () => {
    const harness = createHarness();
    const place = { metadata: metadata(4), storage: { file: { path: join(folder, 'limited') } } };
    await harness.createVolume(place);
    await harness.reconcile();
    const meta = await openMeta(redis.url(4), { backgroundJobs: false });
    await meta.newSession('/test');
    await meta.mkdir({ uid: 0, gid: 0, pid: 1 }, ROOT_INO, Buffer.from('team'), 0o777, 0);
    await meta.close();
    await harness.changeVolume((old) => ({
      ...old,
      quota: {
        capacity: '10Gi',
        directories: [{ path: '/team', capacity: '3Gi', inodes: 333 }],
        users: [{ uid: 1000, capacity: '4Gi' }],
        groups: [{ gid: 77, inodes: 555 }],
      },
    }));
    await harness.reconcile();
    assert.equal(harness.condition('QuotasApplied'), 'True Succeeded', harness.message('QuotasApplied'));
    const list = await call('quota', 'list', redis.url(4));
    for (const line of [/\/team .*3\.0 GiB.* 333 /, /1000 .*4\.0 GiB/, /77 .* 555 /]) assert.match(list, line);
    const status = JSON.parse(await call('status', redis.url(4))) as { Setting: { Capacity: number } };
    assert.equal(status.Setting.Capacity, 10 * 2 ** 30);
    // What is set there is seen here, and left alone.
    await call('quota', 'set', redis.url(4), '--path', '/', '--inodes', '12345');
    const later = createHarness();
    await later.createVolume({ ...place, quota: { capacity: '10Gi' } });
    await later.reconcile();
    assert.ok(later.volume()?.status?.quotas?.some(({ name, inodes, managed }) => name === '/' && inodes === 12345 && !managed));
    assert.match(await call('quota', 'list', redis.url(4)), /12,?345/);
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
