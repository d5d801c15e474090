/** Volumes whose names are in PostgreSQL or MySQL, from an empty database to their end; on servers that ask for TLS and a password. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test, type TestContext } from 'node:test';
import { parseMountConfig } from '../../src/api/mount.ts';
import type { Format } from '../../src/meta/format.ts';
import { openEngine, readFormat } from '../../src/meta/open.ts';
import { parseMetaUrl } from '../../src/meta/url.ts';
import { makeUser, type SecureServer, setPassword, sqlKinds, startSecure } from '../sql-servers.ts';
import { createHarness, type Harness } from './harness.ts';
import { mountConfig } from './place.ts';

for (const [name, kind] of sqlKinds)
  describe(`a volume in ${name}`, () => {
    let server: SecureServer;
    before(async () => {
      server = await startSecure(kind);
      await makeUser(kind, server.port, 'secure', 'first', 'SSL');
    });
    after(() => server.stop());
    let used = 0;

    function place(t: TestContext) {
      const folder = mkdtempSync(join(tmpdir(), 'juicepod-operator-'));
      t.after(() => rmSync(folder, { recursive: true, force: true }));
      const database = {
        host: 'localhost',
        port: server.port,
        database: kind === 'postgres' ? 'postgres' : 'juicefs',
        tablePrefix: `t${++used}`,
        authSecretRef: { name: 'auth' },
        tls: { mode: 'VerifyFull', caSecretRef: { name: 'ca' } },
      };
      const specOf = (more: object = {}) => ({
        metadata: { [kind]: { ...database, ...more } },
        storage: { file: { path: folder } },
      });
      return { folder, specOf, spec: specOf() };
    }

    async function harnessOf(password = 'first'): Promise<Harness> {
      const harness = createHarness();
      await harness.createSecret('auth', { username: 'secure', password });
      await harness.createSecret('ca', { 'ca.crt': readFileSync(server.files.ca, 'utf8') });
      return harness;
    }

    /** The metadata URL as a client finds it beside the files of its mount Secret. */
    function clientUrl(t: TestContext, harness: Harness): string {
      const folder = mkdtempSync(join(tmpdir(), 'juicepod-client-'));
      t.after(() => rmSync(folder, { recursive: true, force: true }));
      const [secret] = harness.secrets();
      for (const [file, value] of Object.entries(secret?.data ?? {}))
        writeFileSync(join(folder, file), Buffer.from(value, 'base64'));
      return parseMountConfig(readFileSync(join(folder, 'volume.json'), 'utf8'), folder).metaUrl;
    }

    async function formatOf(url: string): Promise<Format | undefined> {
      const engine = await openEngine(url, { environment: {}, readOnly: true });
      try {
        return await readFormat(engine);
      } finally {
        await engine.close();
      }
    }

    test('is formatted with access control lists and limits, and clients get what they need', async (t) => {
      const { spec, folder } = place(t);
      const harness = await harnessOf();
      await harness.createVolume({ ...spec, format: { enableACL: true }, quota: { inodes: 1000 } });
      await harness.reconcile();
      assert.equal(harness.condition('Ready'), 'True Succeeded', harness.message('Ready'));
      assert.equal(harness.condition('QuotasApplied'), 'True Succeeded');
      // The servers of the tests write nothing to a disk before they answer.
      assert.equal(harness.condition('MetadataDurable'), 'False NotDurable');
      assert.match(harness.message('MetadataDurable'), kind === 'postgres' ? /fsync is off/ : /innodb_flush_log_at_trx_commit/);
      const status = harness.volume()?.status;
      assert.equal(
        status?.metadata,
        kind === 'postgres' ? `postgres://localhost:${server.port}/postgres` : `mysql://(localhost:${server.port})/juicefs`,
      );
      assert.doesNotMatch(JSON.stringify([harness.volume(), harness.events]), /first/);
      const { metaUrl } = mountConfig(harness);
      const parsed = parseMetaUrl(metaUrl);
      assert.ok(parsed.kind === kind);
      assert.deepEqual(
        [parsed.username, parsed.password, parsed.tls.caFile, parsed.tls.verify, parsed.tablePrefix],
        ['secure', 'first', 'ca.crt', 'name', `jfs_t${used}_`],
      );
      const format = await formatOf(clientUrl(t, harness));
      assert.deepEqual(
        [format?.uuid, format?.enableAcl, format?.minClientVersion, format?.inodes],
        [status?.uuid, true, '1.2.0-A', 1000],
      );
      assert.equal(readFileSync(join(folder, 'datasets', 'juicefs_uuid'), 'utf8').trim(), status?.uuid);
      harness.writes();
      await harness.reconcile();
      assert.deepEqual(harness.writes(), []);
    });

    test('gets access control lists later, and keeps them where the spec does not ask for them', async (t) => {
      const { spec } = place(t);
      const harness = await harnessOf();
      await harness.createVolume(spec);
      await harness.reconcile();
      const url = clientUrl(t, harness);
      assert.equal((await formatOf(url))?.enableAcl, false);
      await harness.changeVolume((old) => ({ ...old, format: { enableACL: true } }));
      await harness.reconcile();
      assert.deepEqual([(await formatOf(url))?.enableAcl, (await formatOf(url))?.minClientVersion], [true, '1.2.0-A']);
      const uuid = harness.volume()?.status?.uuid ?? '';
      const adopting = await harnessOf();
      await adopting.createVolume({ ...spec, adopt: { uuid } });
      await adopting.reconcile();
      assert.equal(adopting.condition('Ready'), 'True Succeeded', adopting.message('Ready'));
      assert.equal((await formatOf(url))?.enableAcl, true);
    });

    test('is told by its tables from others in the same database, and two cannot have the same', async (t) => {
      const one = place(t);
      const two = place(t);
      const harness = await harnessOf();
      await harness.createVolume(one.spec);
      await harness.createVolume(two.spec, { name: 'second' });
      await harness.createVolume({ ...one.spec, storage: { file: { path: '/elsewhere' } } }, { name: 'third' });
      for (const volume of ['datasets', 'second', 'third']) await harness.reconcile(volume);
      assert.deepEqual(
        ['datasets', 'second', 'third'].map((volume) => harness.condition('Ready', volume)),
        ['True Succeeded', 'True Succeeded', 'False Conflict'],
      );
      // By another name of the server, too.
      await harness.createVolume(
        { ...one.specOf({ host: '127.0.0.1', tls: { mode: 'Require' } }), storage: { file: { path: '/elsewhere' } } },
        { name: 'fourth' },
      );
      await harness.reconcile('fourth');
      assert.equal(harness.condition('Ready', 'fourth'), 'False Conflict');
    });

    test('gets another password when that works and not before, and says who uses which', async (t) => {
      const { spec } = place(t);
      const harness = await harnessOf();
      await harness.createVolume(spec);
      await harness.reconcile();
      const url = clientUrl(t, harness);
      const engine = await openEngine(url, { environment: {} });
      const info = {
        Version: '1.4.1',
        HostName: 'trainer-0',
        MountPoint: '/juicepod/mnt/0',
        ProcessID: 1,
        CredentialsGeneration: '1',
      };
      await engine.putSession(4, Math.floor(Date.now() / 1000) + 600, JSON.stringify(info));
      await harness.reconcile();
      assert.equal(harness.condition('CredentialsCurrent'), 'True Succeeded');
      await harness.createSecret('auth', { username: 'secure', password: 'second' });
      await harness.reconcile();
      assert.equal(harness.condition('Ready'), 'False MetadataDenied');
      assert.equal(mountConfig(harness).generation, '1');
      await setPassword(kind, server.port, 'secure', 'second');
      await harness.reconcile();
      assert.equal(harness.condition('Ready'), 'True Succeeded', harness.message('Ready'));
      assert.equal(mountConfig(harness).generation, '2');
      assert.equal(harness.condition('CredentialsCurrent'), 'False ClientsOutdated');
      // A client with the old ones goes over.
      const take = await engine.renew?.(clientUrl(t, harness), { writing: true, environment: {} });
      await take?.();
      await engine.removeSession(4);
      await engine.close();
      await setPassword(kind, server.port, 'secure', 'first');
    });

    test('is deleted with its data where that was asked for, and nothing of another goes', async (t) => {
      const one = place(t);
      const two = place(t);
      const harness = await harnessOf();
      await harness.createVolume({ ...one.spec, reclaimPolicy: 'Delete' });
      await harness.createVolume(two.spec, { name: 'second' });
      await harness.reconcile();
      await harness.reconcile('second');
      const url = clientUrl(t, harness);
      await harness.annotate({ 'juicepod.io/confirm-delete': 'datasets' });
      await harness.deleteVolume();
      await harness.reconcile();
      assert.equal(harness.volume(), undefined);
      assert.equal(await formatOf(url), undefined);
      assert.equal(existsSync(join(one.folder, 'datasets', 'juicefs_uuid')), false);
      await harness.reconcile('second');
      assert.equal(harness.condition('Ready', 'second'), 'True Succeeded');
    });

    test('on a server that is another than its certificate says waits, and says so', async (t) => {
      const { specOf } = place(t);
      const harness = await harnessOf();
      await harness.createVolume(specOf({ host: '127.0.0.1' }));
      await harness.reconcile();
      assert.equal(harness.condition('Ready'), 'False MetadataUnreachable');
      assert.match(harness.message('Ready'), /127\.0\.0\.1.*(altnames|does not match|not in the cert)/i);
      assert.deepEqual(harness.secrets(), []);
    });
  });
