/** A JuiceVolume as it becomes ready: formatted, adopted or refused, over real databases and stores. */
import { JuiceCachePolicies, JuiceVolumes } from '../../src/api/kinds.ts';
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import type { Redis } from 'ioredis';
import { withFaults } from '../../src/object/faults.ts';
import { openObjectStore } from '../../src/object/open.ts';
import { freePort, startRedis } from '../servers.ts';
import { createHarness } from './harness.ts';
import { mountConfig, place, redis, settingOf } from './place.ts';

describe('a new volume', () => {
  test('is formatted, marked, reported and gets its mount Secret', async (t) => {
    const { spec, folder, database } = place(t);
    const harness = createHarness();
    await harness.createVolume({ ...spec, format: { blockSize: '1Mi', compression: 'LZ4', trashRetention: '48h' } });
    await harness.reconcile();
    const format = await settingOf(database);
    assert.deepEqual(
      [format.name, format.blockSize, format.compression, format.trashDays, format.storage, format.bucket],
      ['datasets', 1024, 'lz4', 2, 'file', `${folder}/`],
    );
    assert.equal(readFileSync(join(folder, 'datasets', 'juicefs_uuid'), 'utf8'), format.uuid);
    assert.deepEqual((await database.keys('*')).filter((key) => !key.startsWith('z')).toSorted(), [
      'i1',
      'i9223372032828243968',
      'setting',
    ]);
    const volume = harness.volume();
    assert.equal(volume?.status?.uuid, format.uuid);
    assert.equal(volume?.status?.observedGeneration, volume?.metadata.generation);
    assert.deepEqual(volume?.metadata.finalizers, ['juicepod.io/volume']);
    assert.deepEqual(
      volume?.status?.conditions?.map(({ type, status }) => `${type}=${status}`),
      [
        'Ready=True',
        'SecretsResolved=True',
        'MetadataReachable=True',
        'MetadataDurable=True',
        'StorageReachable=True',
        'Formatted=True',
        'CredentialsCurrent=True',
      ],
    );
    assert.deepEqual([volume?.status?.usage?.bytes, volume?.status?.usage?.inodes, volume?.status?.sessions?.active], [0, 0, 0]);
    const [secret] = harness.secrets();
    assert.equal(secret?.metadata.name, 'juicepod-mount-datasets');
    assert.equal(secret?.metadata.ownerReferences?.[0]?.uid, volume?.metadata.uid);
    const url = `redis://127.0.0.1:${redis.port}/${database.options.db}`;
    assert.deepEqual(mountConfig(harness), { name: 'datasets', uuid: format.uuid, metaUrl: url, generation: '1' });
    assert.deepEqual(
      harness.events.map(({ type, reason }) => `${type} ${reason}`),
      ['Normal Formatted', 'Normal Configured', 'Normal Succeeded'],
    );
  });

  test('is left alone when nothing changed: the second reconcile writes nothing', async (t) => {
    const { spec } = place(t);
    const harness = createHarness();
    await harness.createVolume(spec);
    await harness.reconcile();
    harness.writes();
    await harness.reconcile();
    assert.deepEqual(harness.writes(), []);
  });

  test('waits for a Secret that is not there yet, names it, and goes on when it comes', async (t) => {
    const locked = await startRedis(['--requirepass', 'p@ss/wörd']);
    t.after(() => locked.stop());
    const { spec } = place(t);
    const harness = createHarness();
    const metadata = { redis: { addresses: [`127.0.0.1:${locked.port}`], authSecretRef: { name: 'redis-auth' } } };
    await harness.createVolume({ ...spec, metadata });
    await harness.reconcile();
    assert.equal(harness.condition('Ready'), 'False SecretNotFound');
    assert.match(harness.message('SecretsResolved'), /Secret redis-auth does not exist .* with the key password/);
    assert.equal(harness.condition('Reconciling'), 'True SecretNotFound');
    await harness.createSecret('redis-auth', { username: 'default' });
    await harness.reconcile();
    assert.equal(harness.condition('Ready'), 'False SecretKeyMissing');
    assert.match(harness.message('SecretsResolved'), /redis-auth has no value under the key password; its keys are username/);
    await harness.createSecret('redis-auth', { username: 'default', password: 'wrong' });
    await harness.reconcile();
    assert.equal(harness.condition('Ready'), 'False MetadataDenied');
    assert.match(
      harness.message('Ready'),
      /check username and password in the Secret redis-auth \(spec\.metadata\.redis\.authSecretRef\)$/,
    );
    assert.doesNotMatch(harness.message('Ready'), /META_PASSWORD/);
    assert.doesNotMatch(JSON.stringify(harness.volume()), /wrong|w%C3/);
    await harness.createSecret('redis-auth', { username: 'default', password: 'p@ss/wörd' });
    await harness.reconcile();
    assert.equal(harness.condition('Ready'), 'True Succeeded');
    assert.equal(harness.condition('Reconciling'), undefined);
    assert.match(mountConfig(harness).metaUrl, /^redis:\/\/default:p%40ss%2Fw%C3%B6rd@127/);
  });

  test('waits for a database that does not answer, and heals', async (t) => {
    const { spec } = place(t);
    const port = await freePort();
    const harness = createHarness();
    await harness.createVolume({ ...spec, metadata: { redis: { addresses: [`127.0.0.1:${port}`] } } });
    const result = await harness.reconcile();
    assert.equal(harness.condition('Ready'), 'False MetadataUnreachable');
    assert.equal(harness.condition('Formatted'), 'Unknown NotChecked');
    assert.ok((result?.requeueAfterMs ?? 0) < 15_000);
    await harness.changeVolume((old) => ({ ...old, metadata: spec['metadata'] }));
    await harness.reconcile();
    assert.equal(harness.condition('Ready'), 'True Succeeded');
  });

  test('is not formatted where objects of that name lie already', async (t) => {
    const { spec, folder, database } = place(t);
    mkdirSync(join(folder, 'datasets', 'chunks'), { recursive: true });
    writeFileSync(join(folder, 'datasets', 'chunks', 'x'), 'somebody’s');
    const harness = createHarness();
    await harness.createVolume(spec);
    await harness.reconcile();
    assert.equal(harness.condition('Stalled'), 'True StorageNotEmpty');
    assert.match(harness.message('Ready'), /chunks\/x/);
    assert.equal(await database.dbsize(), 0);
    assert.deepEqual(harness.secrets(), []);
  });

  test('is not formatted over a store that answers with other bytes than were written', async (t) => {
    const { spec, database } = place(t);
    const harness = createHarness({
      backends: {
        openStore: ({ bucket, name }) =>
          withFaults(openObjectStore({ storage: 'file', bucket, name }), (operation, key) =>
            operation === 'get' && key.startsWith('testing/') ? { kind: 'flip', at: 7 } : undefined,
          ),
      },
    });
    await harness.createVolume(spec);
    await harness.reconcile();
    assert.equal(harness.condition('Ready'), 'False StorageInvalid');
    assert.match(harness.message('StorageReachable'), /other bytes than were written to testing\//);
    assert.equal(await database.dbsize(), 0);
  });

  test('with SQLite and a directory is formatted too', async (t) => {
    const { folder } = place(t);
    const harness = createHarness();
    await harness.createVolume({
      metadata: { sqlite: { path: join(folder, 'meta.db') } },
      storage: { file: { path: join(folder, 'blocks') } },
    });
    await harness.reconcile();
    assert.equal(harness.condition('Ready'), 'True Succeeded', harness.message('Ready'));
    assert.equal(mountConfig(harness).metaUrl, `sqlite3://${folder}/meta.db`);
    assert.ok(existsSync(join(folder, 'blocks', 'datasets', 'juicefs_uuid')));
    harness.writes();
    await harness.reconcile();
    assert.deepEqual(harness.writes(), []);
  });
});

test('what another controller writes into the status is neither taken over nor taken away', async (t) => {
  const { spec } = place(t);
  const harness = createHarness();
  await harness.createVolume(spec);
  await harness.reconcile();
  const volumes = harness.client.resource(JuiceVolumes);
  const condition = {
    type: 'SomethingElse',
    status: 'True',
    reason: 'Theirs',
    message: 'x',
    lastTransitionTime: '2026-01-01T00:00:00Z',
  };
  const metadata = { name: 'datasets', namespace: 'data' };
  const apply = (status: object) => volumes.applyStatus({ metadata, status }, { fieldManager: 'another' });
  await apply({ theirs: { pods: 3 }, conditions: [condition] });
  harness.writes();
  await harness.reconcile();
  assert.deepEqual(harness.writes(), []);
  // Neither does a failure or a suspension, which keep what was there, make it ours.
  await harness.changeVolume((old) => ({ ...old, suspend: true, quota: { inodes: 5 } }));
  await harness.reconcile();
  await harness.changeVolume((old) => ({ ...old, suspend: false }));
  await harness.reconcile();
  assert.equal(harness.condition('QuotasApplied'), 'True Succeeded');
  const status = () => harness.volume()?.status as { theirs?: unknown } | undefined;
  assert.deepEqual(status()?.theirs, { pods: 3 });
  assert.equal(harness.condition('SomethingElse'), 'True Theirs');
  await apply({});
  assert.equal(status()?.theirs, undefined);
  assert.equal(harness.condition('SomethingElse'), undefined);
});

describe('a volume that is there already', () => {
  async function formatted(
    t: TestContext,
  ): Promise<{ spec: Record<string, unknown>; folder: string; database: Redis; uuid: string }> {
    const { spec, folder, database } = place(t);
    const first = createHarness();
    await first.createVolume(spec);
    await first.reconcile();
    return { spec, folder, database, uuid: first.volume()?.status?.uuid ?? '' };
  }

  test('is adopted when its format agrees', async (t) => {
    const { spec, database, uuid } = await formatted(t);
    const before = await database.get('setting');
    const harness = createHarness();
    await harness.createVolume(spec);
    await harness.reconcile();
    assert.equal(harness.condition('Ready'), 'True Succeeded');
    assert.equal(harness.volume()?.status?.uuid, uuid);
    assert.equal(await database.get('setting'), before);
  });

  test('is refused when its format differs, naming each field, wanted and found', async (t) => {
    const { spec, database, folder } = await formatted(t);
    const before = await database.get('setting');
    const harness = createHarness();
    await harness.createVolume({
      ...spec,
      format: { blockSize: '1Mi', compression: 'Zstd' },
      storage: { file: { path: `${folder}2` } },
    });
    await harness.reconcile();
    assert.equal(harness.condition('Stalled'), 'True FormatMismatch');
    assert.match(
      harness.message('Ready'),
      /BlockSize: wanted 1024, found 4096; Compression: wanted "zstd", found "none"; Bucket: wanted ".*2\/", found/,
    );
    assert.equal(await database.get('setting'), before);
    assert.deepEqual(harness.secrets(), []);
    assert.equal(existsSync(`${folder}2`), false);
  });

  test('is refused under another name', async (t) => {
    const { spec } = await formatted(t);
    const harness = createHarness();
    await harness.createVolume({ ...spec, volumeName: 'other' });
    await harness.reconcile();
    assert.match(harness.message('Stalled'), /Name: wanted "other", found "datasets"/);
  });

  test('made by a newer client is refused', async (t) => {
    const { spec, database } = await formatted(t);
    await database.set('setting', ((await database.get('setting')) ?? '').replace('"MetaVersion": 1', '"MetaVersion": 9'));
    const harness = createHarness();
    await harness.createVolume(spec);
    await harness.reconcile();
    assert.equal(harness.condition('Stalled'), 'True NewerFormat');
  });

  test('is never formatted again: neither when the database was emptied nor when it holds another one', async (t) => {
    const { spec, database, folder } = await formatted(t);
    const harness = createHarness();
    await harness.createVolume(spec);
    await harness.reconcile();
    const setting = (await database.get('setting')) ?? '';
    await database.flushdb();
    await harness.reconcile();
    assert.equal(harness.condition('Stalled'), 'True VolumeLost');
    assert.equal(await database.dbsize(), 0);
    assert.ok(existsSync(join(folder, 'datasets', 'juicefs_uuid')));
    const uuid = harness.volume()?.status?.uuid ?? '';
    await database.set('setting', setting.replace(uuid, '00000000-0000-4000-8000-000000000000'));
    await harness.reconcile();
    assert.equal(harness.condition('Stalled'), 'True VolumeReplaced');
    assert.equal(harness.volume()?.status?.uuid, uuid);
    await database.set('setting', setting);
    await harness.reconcile();
    assert.equal(harness.condition('Ready'), 'True Succeeded');
  });

  test('follows the spec in what may change, and makes the trash when it is switched on', async (t) => {
    const { spec, database } = place(t);
    const harness = createHarness();
    await harness.createVolume({ ...spec, format: { trashRetention: '0h' } });
    await harness.reconcile();
    assert.equal(await database.exists('i9223372032828243968'), 0);
    await harness.changeVolume((old) => ({ ...old, format: { ...(old['format'] as object), trashRetention: '72h' } }));
    await harness.reconcile();
    assert.equal((await settingOf(database)).trashDays, 3);
    assert.equal((await database.getBuffer('i9223372032828243968'))?.length, 72);
    assert.equal(harness.condition('Ready'), 'True Succeeded');
  });

  test('keeps a change log where the spec says so, and leaves that of others alone where it says nothing', async (t) => {
    const { spec, database } = place(t);
    const harness = createHarness();
    const logged = async (changeLog: object | undefined): Promise<unknown> => {
      await harness.changeVolume(({ format: old, ...rest }) => {
        const { changeLog: _before, ...format } = old as { readonly changeLog?: object };
        return { ...rest, format: { ...format, ...(changeLog ? { changeLog } : {}) } };
      });
      await harness.reconcile();
      assert.equal(harness.condition('Ready'), 'True Succeeded');
      const setting = await settingOf(database);
      return [setting.changeLog, setting.changeLogMaxAge, setting.changeLogMaxLines, harness.volume()?.status?.changeLog];
    };
    await harness.createVolume(spec);
    await harness.reconcile();
    assert.deepEqual(await logged(undefined), [false, 0, 0, undefined]);
    assert.deepEqual(await logged({ enabled: true }), [true, 7200, 0, { maxAgeSeconds: 7200 }]);
    assert.deepEqual(await logged({ enabled: true, maxAge: '0s', maxEntries: 50 }), [true, 0, 50, { maxEntries: 50 }]);
    assert.deepEqual(await logged(undefined), [true, 0, 50, { maxEntries: 50 }]);
    assert.deepEqual(await logged({ enabled: false }), [false, 0, 50, undefined]);
    assert.ok((await database.lrange('txnLog', 0, -1)).every((entry) => /^\d+\.\d{9}\|/.test(entry)));
  });
});

describe('two volumes', () => {
  test('on one database: the older one keeps it, the other is refused and touches nothing', async (t) => {
    const { spec } = place(t);
    const other = place(t);
    const harness = createHarness();
    await harness.createVolume(spec);
    await harness.reconcile();
    await harness.createVolume({ ...spec, storage: other.spec['storage'] }, { name: 'second' });
    await harness.reconcile('second');
    assert.equal(harness.condition('Stalled', 'second'), 'True Conflict');
    assert.match(harness.message('Ready', 'second'), /JuiceVolume data\/datasets already uses redis:\/\/127\.0\.0\.1:\d+\/\d+/);
    assert.deepEqual(readdirSync(other.folder), []);
    assert.equal(harness.volume('second')?.metadata.finalizers, undefined);
    await harness.reconcile();
    assert.equal(harness.condition('Ready'), 'True Succeeded');
  });

  test('on one bucket and name are refused, on one bucket and two names are not', async (t) => {
    const [one, two, three] = [place(t), place(t), place(t)];
    const harness = createHarness();
    await harness.createVolume(one.spec);
    await harness.reconcile();
    await harness.createVolume({ ...two.spec, storage: one.spec['storage'], volumeName: 'datasets' }, { name: 'same' });
    await harness.reconcile('same');
    assert.equal(harness.condition('Ready', 'same'), 'False Conflict');
    await harness.createVolume({ ...three.spec, storage: one.spec['storage'] }, { name: 'different' });
    await harness.reconcile('different');
    assert.equal(harness.condition('Ready', 'different'), 'True Succeeded');
  });

  test('that reach one database by two names are told apart by the UUID', async (t) => {
    const { spec } = place(t);
    const harness = createHarness();
    await harness.createVolume(spec);
    await harness.reconcile();
    const database = (spec['metadata'] as { redis: { database: number } }).redis.database;
    const folder = place(t).folder;
    const metadata = { redis: { addresses: [`localhost:${redis.port}`], database } };
    await harness.createVolume(
      { ...spec, metadata, storage: { file: { path: folder } }, volumeName: 'datasets' },
      { name: 'alias' },
    );
    await harness.reconcile('alias');
    assert.equal(harness.condition('Stalled', 'alias'), 'True Conflict');
    assert.match(harness.message('Ready', 'alias'), /data\/datasets already stands for the volume with UUID/);
  });
});

test('a Redis that persists nothing is a warning, not a refusal', async (t) => {
  const careless = await startRedis();
  t.after(() => careless.stop());
  const { spec } = place(t);
  const harness = createHarness();
  await harness.createVolume({ ...spec, metadata: { redis: { addresses: [`127.0.0.1:${careless.port}`] } } });
  await harness.reconcile();
  assert.equal(harness.condition('Ready'), 'True Succeeded');
  assert.equal(harness.condition('MetadataDurable'), 'False NotDurable');
  assert.match(harness.message('MetadataDurable'), /appendonly/);
  assert.ok(harness.events.some(({ type, reason }) => type === 'Warning' && reason === 'NotDurable'));
});

test('a cache policy is accepted, counted, and refused when its sizes do not fit', async (t) => {
  const { spec } = place(t);
  const harness = createHarness();
  await harness.createPolicy('fast', {});
  await harness.createVolume({ ...spec, cachePolicyRef: { name: 'fast' } });
  await harness.reconcilePolicy('fast');
  const status = (name: string) =>
    (
      harness.server.peek(JuiceCachePolicies, { namespace: 'data', name }) as {
        status?: { usedBy?: number; conditions?: { type: string; reason: string }[] };
      }
    ).status;
  assert.equal(status('fast')?.usedBy, 1);
  assert.deepEqual(
    status('fast')?.conditions?.map(({ type, reason }) => `${type} ${reason}`),
    ['Ready Accepted'],
  );
  harness.writes();
  await harness.reconcilePolicy('fast');
  assert.deepEqual(harness.writes(), []);
  await harness.createPolicy('odd', { readahead: { max: '1Gi' }, buffer: { size: '64Mi' } });
  await harness.reconcilePolicy('odd');
  assert.deepEqual(
    status('odd')?.conditions?.map(({ type, reason }) => `${type} ${reason}`),
    ['Ready PolicyInvalid', 'Stalled PolicyInvalid'],
  );
});
