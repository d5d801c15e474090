/**
 * What a volume that is ready rests on goes away, one thing at a time: it is told by its reason, nothing is written to database or store
 * meanwhile, what pods were given stays, and the volume is ready again when the thing is back.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { Redis } from 'ioredis';
import { Secrets } from '../../src/kube/resources.ts';
import { UserError } from '../../src/lib/errors.ts';
import { ROOT_INO } from '../../src/lib/int64.ts';
import { openEngine, openMeta } from '../../src/meta/open.ts';
import { NodeType } from '../../src/meta/types.ts';
import { type Fault, withFaults } from '../../src/object/faults.ts';
import { openObjectStore } from '../../src/object/open.ts';
import { startRedis } from '../servers.ts';
import { createHarness, type Harness } from './harness.ts';
import { mountConfig, place } from './place.ts';
import { removeFolder } from '../remove-folder.ts';

interface World {
  readonly harness: Harness;
  readonly database: Redis;
  readonly redis: { readonly pid: number };
  readonly folder: string;
  /** What the store answers instead of doing what it is told. */
  fault: Fault | undefined;
}

const PASSWORD = 'of the database';

/** A volume that is ready, with a Redis of its own behind a password, and two namespaces that may use it. */
async function readyWorld(t: TestContext): Promise<World> {
  const redis = await startRedis(['--appendonly', 'yes', '--requirepass', PASSWORD]);
  const folder = mkdtempSync(join(tmpdir(), 'juicepod-away-'));
  const database = new Redis({ port: redis.port, password: PASSWORD });
  t.after(async () => {
    database.disconnect();
    await redis.stop();
    removeFolder(folder);
  });
  const world: { fault: Fault | undefined } = { fault: undefined };
  const harness = createHarness({
    backends: {
      openStore: ({ bucket, name }) => withFaults(openObjectStore({ storage: 'file', bucket, name }), () => world.fault),
    },
  });
  await harness.createNamespace('data');
  await harness.createNamespace('training');
  await harness.createSecret('login', { password: PASSWORD });
  await harness.createVolume({
    metadata: { redis: { addresses: [`127.0.0.1:${redis.port}`], authSecretRef: { name: 'login' } } },
    storage: { file: { path: join(folder, 'blocks') } },
    access: { allowedNamespaces: { from: 'All' } },
    encryption: { algorithm: 'AES256GCM' },
    quota: { users: [{ uid: 9, inodes: 9 }] },
  });
  await harness.reconcile();
  assert.equal(harness.condition('Ready'), 'True Succeeded', harness.message('Ready'));
  assert.equal(harness.secrets().length, 2);
  await makeFile(harness);
  await harness.reconcile();
  return Object.assign(world, { harness, database, redis, folder });
}

/** An empty file in the volume. */
async function makeFile(harness: Harness): Promise<void> {
  const meta = await openMeta(mountConfig(harness).metaUrl, { backgroundJobs: false });
  await meta.newSession('/test');
  await meta.mknod({ uid: 0, gid: 0, pid: 1 }, ROOT_INO, Buffer.from('file'), NodeType.File, 0o644, 0, 0);
  await meta.close();
}

const filesIn = (folder: string): readonly string[] => readdirSync(folder, { recursive: true, encoding: 'utf8' }).toSorted();

const deleteSecret = (name: string) => (world: World) =>
  world.harness.client.resource(Secrets).delete({ namespace: 'data', name });

interface Loss {
  readonly what: string;
  readonly reason: string;
  readonly lose: (world: World) => Promise<unknown> | void;
  readonly mend: (world: World) => Promise<unknown> | void;
  /** True where nothing but the answer of a person can help. */
  readonly stalled?: boolean;
}

const losses: readonly Loss[] = [
  {
    what: 'the Secret is deleted',
    reason: 'SecretNotFound',
    lose: deleteSecret('login'),
    mend: ({ harness }) => harness.createSecret('login', { password: PASSWORD }),
  },
  {
    what: 'the Secret loses its key',
    reason: 'SecretKeyMissing',
    lose: ({ harness }) => harness.createSecret('login', { word: PASSWORD }),
    mend: ({ harness }) => harness.createSecret('login', { password: PASSWORD }),
  },
  {
    what: 'the Secret gets a wrong password',
    reason: 'MetadataDenied',
    lose: ({ harness }) => harness.createSecret('login', { password: 'another' }),
    mend: ({ harness }) => harness.createSecret('login', { password: PASSWORD }),
  },
  {
    what: 'the database does not answer any more',
    reason: 'MetadataUnreachable',
    lose: ({ redis }) => void process.kill(redis.pid, 'SIGSTOP'),
    mend: ({ redis }) => void process.kill(redis.pid, 'SIGCONT'),
  },
  {
    what: 'the database was emptied',
    reason: 'VolumeLost',
    stalled: true,
    lose: async ({ database }) => void (await database.swapdb(0, 1)),
    mend: async ({ database }) => void (await database.swapdb(0, 1)),
  },
  {
    what: 'the store is away',
    reason: 'StorageUnreachable',
    lose: (world) => void (world.fault = { kind: 'reset' }),
    mend: (world) => void (world.fault = undefined),
  },
  {
    what: 'the store refuses',
    reason: 'StorageDenied',
    lose: (world) => void (world.fault = { kind: 'status', status: 403 }),
    mend: (world) => void (world.fault = undefined),
  },
  {
    what: 'the directory of the objects is gone',
    reason: 'StorageInvalid',
    lose: ({ folder }) => renameSync(join(folder, 'blocks'), join(folder, 'elsewhere')),
    mend: ({ folder }) => {
      removeFolder(join(folder, 'blocks'));
      renameSync(join(folder, 'elsewhere'), join(folder, 'blocks'));
    },
  },
];

for (const { what, reason, lose, mend, stalled = false } of losses)
  test(`${what}: told as ${reason}, nothing is written, what pods have stays, and it heals`, async (t) => {
    const world = await readyWorld(t);
    const { harness, database, folder } = world;
    const given = harness.secrets().map(({ metadata, data }) => ({ namespace: metadata.namespace, data }));
    const objects = filesIn(folder);
    const setting = await database.get('setting');
    const { uuid } = harness.volume()?.status ?? {};
    await lose(world);
    for (let round = 0; round < 2; round++) {
      await harness.reconcile();
      assert.equal(harness.condition('Ready'), `False ${reason}`, harness.message('Ready'));
      assert.equal(harness.condition(stalled ? 'Stalled' : 'Reconciling'), `True ${reason}`);
    }
    assert.ok(harness.events.some((event) => event.type === 'Warning' && event.reason === reason));
    assert.doesNotMatch(JSON.stringify([harness.volume(), harness.events]), new RegExp(PASSWORD));
    assert.deepEqual(
      harness.secrets().map(({ metadata, data }) => ({ namespace: metadata.namespace, data })),
      given,
    );
    assert.equal(harness.volume()?.status?.uuid, uuid);
    await mend(world);
    assert.deepEqual(filesIn(folder), objects);
    assert.equal(await database.get('setting'), setting);
    await harness.reconcile();
    assert.equal(harness.condition('Ready'), 'True Succeeded', harness.message('Ready'));
    assert.equal(await database.get('setting'), setting);
  });

test('a database that does not let its settings be read is told as unknown, and the volume is ready', async (t) => {
  const managed = await startRedis(['--user', 'default', 'on', 'nopass', '~*', '&*', '+@all', '-info']);
  t.after(() => managed.stop());
  const { spec } = place(t);
  const harness = createHarness();
  await harness.createVolume({ ...spec, metadata: { redis: { addresses: [`127.0.0.1:${managed.port}`] } } });
  await harness.reconcile();
  assert.equal(harness.condition('MetadataDurable'), 'Unknown DurabilityUnknown');
  assert.equal(harness.condition('Ready'), 'True Succeeded');
});

test('a limit that the volume does not take is told as failed; one of what is no directory waits; the volume stays ready', async (t) => {
  const { spec } = place(t);
  let refused = false;
  const harness = createHarness({
    backends: {
      openEngine: async (url) => {
        const engine = await openEngine(url);
        const commit = engine.commit.bind(engine);
        engine.commit = (transaction, signal) =>
          refused && transaction.writes.some(({ kind }) => kind === 'putQuota')
            ? Promise.reject(new UserError('Refused', 'the database takes no change of its limits'))
            : commit(transaction, signal);
        return engine;
      },
    },
  });
  await harness.createVolume(spec);
  await harness.reconcile();
  await makeFile(harness);
  await harness.changeVolume((old) => ({
    ...old,
    quota: { directories: [{ path: '/file', inodes: 5 }], users: [{ uid: 9, inodes: 9 }] },
  }));
  await harness.reconcile();
  assert.equal(harness.condition('QuotasApplied'), 'False QuotaPending');
  assert.deepEqual(
    harness.volume()?.status?.quotas?.map(({ name, state }) => `${name} ${state}`),
    ['/file Pending', '9 Applied'],
  );
  refused = true;
  await harness.changeVolume((old) => ({ ...old, quota: { users: [{ uid: 9, inodes: 10 }] } }));
  await harness.reconcile();
  assert.equal(harness.condition('QuotasApplied'), 'False QuotaFailed');
  assert.match(harness.message('QuotasApplied'), /user 9.*no change of its limits/i);
  assert.equal(harness.condition('Ready'), 'True Succeeded');
});

test('while data is being deleted the status says so', async (t) => {
  const { spec, folder } = place(t);
  const seen: (string | undefined)[] = [];
  const harness: Harness = createHarness({
    backends: {
      openStore: ({ bucket, name }) =>
        withFaults(openObjectStore({ storage: 'file', bucket, name }), (operation) => {
          if (operation === 'delete') seen.push(harness.condition('Ready'));
          return undefined;
        }),
    },
  });
  await harness.createVolume({ ...spec, reclaimPolicy: 'Delete' });
  await harness.reconcile();
  mkdirSync(join(folder, 'datasets', 'chunks'));
  writeFileSync(join(folder, 'datasets', 'chunks', 'a'), 'data');
  await harness.annotate({ 'juicepod.io/confirm-delete': 'datasets' });
  await harness.deleteVolume();
  seen.length = 0;
  await harness.reconcile();
  assert.equal(harness.volume(), undefined);
  assert.deepEqual([...new Set(seen)], ['False Deleting']);
});
