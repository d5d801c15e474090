/** JuiceVolumes over other stores than Amazon's, on real servers: their keys, wrong, changed and right, and what clients make of them. */
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test, type TestContext } from 'node:test';
import { PROVIDERS } from '../../src/api/volume-storage.ts';
import { parseMountConfig, storageChangeOf } from '../../src/api/mount.ts';
import { Renewal } from '../../src/client/renewal.ts';
import { openStore } from '../../src/client/volume-blocks.ts';
import { systemClock } from '../../src/lib/clock.ts';
import { nullLogger } from '../../src/lib/log.ts';
import { systemRandom } from '../../src/lib/random.ts';
import { openEngine } from '../../src/meta/open.ts';
import { namedStorages } from '../../src/object/s3-names.ts';
import { withRetry } from '../../src/object/retry.ts';
import { SwitchableStore } from '../../src/object/switch.ts';
import { startAzurite, startWebdav } from '../object-servers.ts';
import { startS3 } from '../servers.ts';
import { azurite, cannotHave, ensureDebian } from '../tools.ts';
import { createHarness, type Harness } from './harness.ts';
import { mountConfig, place, settingOf } from './place.ts';

interface Place {
  /** `spec.storage`, with keys from the Secret `keys`. */
  readonly storage: object;
  /** What the Secret has to hold. */
  readonly keys: Readonly<Record<string, string>>;
  /** The same with keys that the server does not take. */
  readonly wrong: Readonly<Record<string, string>>;
  /** What `setting` then says: kind, bucket. */
  readonly written: readonly [storage: string, bucket: string];
  /** Other keys for the same place that are right, too, and how they are named in the spec. */
  readonly others?: { readonly storage: object; readonly keys: Readonly<Record<string, string>> };
  readonly stop: () => Promise<void>;
}

const secretRef = { name: 'keys' };

/** A shared access signature for all of an account's blobs. Source: Azure Storage documentation, "Create an account SAS". */
function signatureOf(account: string, key: string): string {
  const given = { sv: '2019-12-12', ss: 'b', srt: 'sco', sp: 'rwdlac', se: '2099-01-01T00:00:00Z' };
  const text = [account, given.sp, given.ss, given.srt, '', given.se, '', '', given.sv, ''].join('\n');
  const sig = createHmac('sha256', Buffer.from(key, 'base64')).update(text, 'utf8').digest('base64');
  return new URLSearchParams({ ...given, sig }).toString();
}

const kinds: Readonly<Record<string, { readonly missing: string | false; readonly start: () => Promise<Place> }>> = {
  'Azure Blob Storage': {
    missing: await cannotHave(azurite),
    async start() {
      const server = await startAzurite();
      const field = (name: string): string => new RegExp(`${name}=([^;]*)`).exec(server.connection)?.[1] ?? '';
      const account = field('AccountName');
      const accountKey = field('AccountKey');
      const cloud = `http://blob.localhost:${server.port}`;
      const azure = { account, container: 'blocks', endpoint: cloud, credentials: { secretRef } };
      return {
        storage: { azure },
        keys: { accountKey },
        wrong: { accountKey: Buffer.from('hunter2hunter2').toString('base64') },
        written: ['wasb', `http://blocks.blob.localhost:${server.port}`],
        others: {
          storage: { azure: { ...azure, credentials: { secretRef: { ...secretRef, sasTokenKey: 'sas' } } } },
          keys: { sas: signatureOf(account, accountKey) },
        },
        stop: () => server.stop(),
      };
    },
  },
  WebDAV: {
    missing: await cannotHave(() => Promise.resolve(ensureDebian('rclone'))),
    async start() {
      const server = await startWebdav();
      const { accessKey: username, secretKey: password, endpoint } = server;
      return {
        storage: { webdav: { endpoint, path: '/blocks', credentials: { secretRef } } },
        keys: { username, password },
        wrong: { username, password: 'hunter2hunter2' },
        written: ['webdav', `${endpoint}/blocks/`],
        stop: () => server.stop(),
      };
    },
  },
  'a provider that JuiceFS knows by name': {
    missing: await cannotHave(async () => (await startS3()).stop()),
    async start() {
      const server = await startS3();
      const endpoint = `http://localhost:${server.port}`;
      return {
        storage: { provider: { name: 'eos', bucket: 'blocks', endpoint, credentials: { secretRef } } },
        keys: { accessKeyId: server.accessKey, secretAccessKey: server.secretKey },
        wrong: { accessKeyId: server.accessKey, secretAccessKey: 'hunter2hunter2' },
        written: ['eos', `http://blocks.localhost:${server.port}`],
        stop: () => server.stop(),
      };
    },
  },
  'Google Cloud Storage': {
    missing: await cannotHave(async () => (await startS3()).stop()),
    async start() {
      const server = await startS3(undefined, ['--region', 'auto']);
      const endpoint = `http://localhost:${server.port}`;
      return {
        storage: { gs: { bucket: 'blocks', endpoint, credentials: { secretRef } } },
        keys: { accessKeyId: server.accessKey, secretAccessKey: server.secretKey },
        wrong: { accessKeyId: server.accessKey, secretAccessKey: 'hunter2hunter2' },
        written: ['gs', `http://blocks.localhost:${server.port}`],
        stop: () => server.stop(),
      };
    },
  },
};

/** The volume's marker, read as a client in a pod reads it: with what its mount Secret and the settings say. */
async function markerFor(harness: Harness, database: ReturnType<typeof place>['database']): Promise<string> {
  const config = parseMountConfig(JSON.stringify(mountConfig(harness)));
  const store = withRetry(openStore(await settingOf(database), storageChangeOf(config.storage)));
  try {
    return (await store.get('juicefs_uuid')).toString();
  } finally {
    await store.close();
  }
}

for (const [name, { missing, start }] of Object.entries(kinds))
  describe(`a volume on ${name}`, { skip: missing }, () => {
    let server: Place;
    let used = 0;
    before(async () => {
      server = await start();
    });
    after(() => server?.stop());

    function begin(t: TestContext) {
      const at = place(t);
      const harness = createHarness();
      const spec = { ...at.spec, volumeName: `volume-${++used}`, storage: server.storage };
      return { ...at, ...server, harness, spec };
    }

    test('is formatted with keys that are right, and no others get anywhere', async (t) => {
      const { harness, spec, database, keys, wrong, written } = begin(t);
      await harness.createVolume(spec);
      await harness.reconcile();
      assert.equal(harness.condition('Ready'), 'False SecretNotFound');
      assert.match(harness.message('Ready'), new RegExp(Object.keys(keys).join(', ')));
      await harness.createSecret('keys', wrong);
      await harness.reconcile();
      assert.equal(harness.condition('Ready'), 'False StorageDenied', harness.message('Ready'));
      assert.equal(await database.dbsize(), 0);
      assert.deepEqual(harness.secrets(), []);
      await harness.createSecret('keys', keys);
      await harness.reconcile();
      assert.equal(harness.condition('Ready'), 'True Succeeded', harness.message('Ready'));
      const format = await settingOf(database);
      assert.deepEqual([format.storage, format.bucket], written);
      assert.equal(await markerFor(harness, database), format.uuid);
      harness.writes();
      await harness.reconcile();
      assert.deepEqual(harness.writes(), []);

      // Wrong ones later: said, and nobody gets them.
      const before = mountConfig(harness);
      await harness.createSecret('keys', wrong);
      await harness.reconcile();
      assert.equal(harness.condition('Ready'), 'False StorageDenied', harness.message('Ready'));
      assert.deepEqual(mountConfig(harness), before);
      assert.deepEqual(await settingOf(database), format);
      for (const secret of [...Object.values(wrong), ...Object.values(keys)])
        if (secret.length > 12) assert.ok(!JSON.stringify([harness.volume(), harness.events]).includes(secret), 'a key is shown');
    });

    test('that is there already is adopted, however its bucket is spelt, and deleted with its blocks', async (t) => {
      const { harness, spec, database, keys } = begin(t);
      await harness.createSecret('keys', keys);
      await harness.createVolume(spec);
      await harness.reconcile();
      const { uuid } = await settingOf(database);
      const other = createHarness();
      await other.createSecret('keys', keys);
      await other.createVolume({ ...spec, adopt: { uuid }, reclaimPolicy: 'Delete' });
      await other.reconcile();
      assert.equal(other.condition('Ready'), 'True Succeeded', other.message('Ready'));
      const config = mountConfig(other);
      await other.annotate({ 'juicepod.io/confirm-delete': 'datasets' });
      await other.deleteVolume();
      const store = withRetry(openStore(await settingOf(database), storageChangeOf(config.storage)));
      await other.reconcile();
      assert.equal(other.volume(), undefined);
      assert.equal(await database.exists('setting'), 0);
      await assert.rejects(store.get('juicefs_uuid'), { code: 'NotFound' });
      await store.close();
    });

    test('goes over to other keys while clients use it', async (t) => {
      const { harness, spec, database, keys, others } = begin(t);
      // The other servers know one pair of keys only.
      if (!others) return;
      await harness.createSecret('keys', keys);
      await harness.createVolume(spec);
      await harness.reconcile();
      const folder = mkdtempSync(join(tmpdir(), 'juicepod-client-'));
      t.after(() => rmSync(folder, { recursive: true, force: true }));
      const configFile = join(folder, 'volume.json');
      const write = (): void => writeFileSync(configFile, JSON.stringify(mountConfig(harness)));
      write();
      const config = parseMountConfig(JSON.stringify(mountConfig(harness)));
      const format = await settingOf(database);
      const engine = await openEngine(config.metaUrl, { environment: {} });
      const storage = storageChangeOf(config.storage);
      const store = new SwitchableStore(openStore(format, storage));
      const generations: (string | undefined)[] = [];
      const renewal = new Renewal({
        engine,
        store,
        openStore,
        format,
        metaUrl: config.metaUrl,
        storage,
        readOnly: false,
        configFile,
        generation: config.generation,
        onSwitch: (generation) => generations.push(generation),
        clock: systemClock,
        random: systemRandom,
        logger: nullLogger,
      });
      t.after(async () => {
        await renewal.close();
        await store.close();
        await engine.close();
      });
      await harness.createSecret('keys', others.keys);
      await harness.changeVolume((old) => ({ ...old, storage: others.storage }));
      await harness.reconcile();
      assert.equal(harness.condition('Ready'), 'True Succeeded', harness.message('Ready'));
      // The keys of before are gone everywhere: what the store takes, it takes by the new ones.
      assert.deepEqual(Object.keys(mountConfig(harness).storage ?? {}), ['accessKey', 'sessionToken']);
      assert.equal((await settingOf(database)).secretKey, '');
      write();
      await renewal.look();
      assert.deepEqual([renewal.report.Problem, generations.at(-1)], ['', '2']);
      await store.put('chunks/0/0/1_0_2', Buffer.from('hi'));
      assert.equal((await store.get('chunks/0/0/1_0_2')).toString(), 'hi');
    });
  });

test('every provider of the schema can be opened, and every one that can is in it', () => {
  assert.deepEqual([...PROVIDERS, 'gs'].toSorted(), namedStorages.toSorted());
});
