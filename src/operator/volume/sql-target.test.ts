import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { parseJuiceVolume } from '../../api/kinds.ts';
import type { VolumeSpec } from '../../api/volume.ts';
import { parseMetaUrl } from '../../meta/url.ts';
import { resolveSecrets, type SecretObject, secretNames } from './secrets.ts';
import { metadataIdentity, metaUrl, targetOf } from './target.ts';

const volume = (metadata: object) =>
  parseJuiceVolume({
    apiVersion: 'juicepod.io/v1alpha1',
    kind: 'JuiceVolume',
    metadata: { name: 'datasets', namespace: 'data' },
    spec: { metadata, storage: { file: { path: '/blocks' } } },
  });
const specOf = (metadata: object): VolumeSpec => volume(metadata).spec;
const server = { host: 'db', database: 'meta', authSecretRef: { name: 'auth' } };
const kinds = ['postgres', 'mysql'] as const;

for (const kind of kinds)
  test(`any user and password survive the way through the metadata URL of ${kind}`, () => {
    const text = fc.string({ minLength: 1, unit: 'grapheme' });
    fc.assert(
      fc.property(text, text, (sqlUsername, sqlPassword) => {
        const parsed = parseMetaUrl(metaUrl(specOf({ [kind]: server }), { sqlUsername, sqlPassword }));
        assert.ok(parsed.kind === kind);
        assert.deepEqual([parsed.username, parsed.password, parsed.database], [sqlUsername, sqlPassword, 'meta']);
        assert.deepEqual([parsed.host, parsed.port], ['db', kind === 'postgres' ? 5432 : 3306]);
      }),
    );
  });

test('everything that is said of a server gets into its metadata URL', () => {
  const secrets = { sqlUsername: 'u', ca: 'CA', clientCert: 'CERT', clientKey: 'KEY' };
  const tls = { mode: 'VerifyCA', caSecretRef: { name: 'ca' }, clientCertSecretRef: { name: 'c' } };
  const more = { ...server, host: 'fd00::1', port: 7000, tablePrefix: 'p', maxConnections: 3, tls };
  for (const [spec, schema] of [
    [specOf({ postgres: { ...more, schema: 'volumes' } }), 'volumes'],
    [specOf({ mysql: more }), undefined],
  ] as const) {
    const url = parseMetaUrl(metaUrl(spec, secrets, { ca: '/a b/ca', cert: '/c', key: '/k' }));
    assert.ok(url.kind === 'postgres' || url.kind === 'mysql');
    assert.deepEqual(
      [url.host, url.port, url.schema, url.tablePrefix, url.maxConnections, url.password],
      ['fd00::1', 7000, schema, 'jfs_p_', 3, undefined],
    );
    assert.deepEqual(url.tls, { mode: 'required', verify: 'authority', caFile: '/a b/ca', certFile: '/c', keyFile: '/k' });
  }
});

test('each mode of TLS is the one of the driver', () => {
  const expected = {
    Disable: ['off', 'nothing'],
    Prefer: ['preferred', 'nothing'],
    Require: ['required', 'nothing'],
    VerifyCA: ['required', 'authority'],
    VerifyFull: ['required', 'name'],
  };
  for (const kind of kinds)
    for (const [mode, tls] of Object.entries(expected)) {
      const url = parseMetaUrl(metaUrl(specOf({ [kind]: { ...server, tls: { mode } } }), { sqlUsername: 'u' }));
      assert.ok(url.kind !== 'redis' && url.kind !== 'sqlite');
      assert.deepEqual([url.tls.mode, url.tls.verify], tls);
    }
});

test('two sets of tables are the same place only where server, database, schema and prefix are', () => {
  const places = [
    { postgres: server },
    { mysql: server },
    { postgres: { ...server, port: 1 } },
    { postgres: { ...server, database: 'other' } },
    { postgres: { ...server, schema: 'a' } },
    { postgres: { ...server, tablePrefix: 'a' } },
    { postgres: { ...server, tablePrefix: 'a', schema: 'a' } },
  ];
  const of = (metadata: object): string => metadataIdentity(specOf(metadata));
  assert.equal(new Set(places.map(of)).size, places.length);
  assert.equal(of({ postgres: { ...server, host: 'DB', authSecretRef: { name: 'other' } } }), of({ postgres: server }));
  assert.equal(targetOf(volume({ postgres: server }), {}).metadata, 'postgres://db:5432/meta');
});

test('the Secrets of a server are read, and a password only where there is no client certificate', async () => {
  const object = (values: Readonly<Record<string, string>>): SecretObject => ({
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: 'x' },
    data: Object.fromEntries(Object.entries(values).map(([key, value]) => [key, Buffer.from(value).toString('base64')])),
  });
  const tls = { mode: 'VerifyFull', caSecretRef: { name: 'ca' }, clientCertSecretRef: { name: 'client' } };
  const there: Readonly<Record<string, SecretObject>> = {
    auth: object({ username: 'u' }),
    ca: object({ 'ca.crt': 'CA' }),
    client: object({ 'tls.crt': 'CERT', 'tls.key': 'KEY' }),
  };
  const read = async (name: string): Promise<SecretObject | undefined> => there[name];
  for (const kind of kinds) {
    const withCertificate = volume({ [kind]: { ...server, tls } });
    assert.deepEqual([...secretNames(withCertificate)].toSorted(), ['auth', 'ca', 'client']);
    assert.deepEqual(await resolveSecrets(withCertificate.spec, read), {
      ok: true,
      secrets: { sqlUsername: 'u', ca: 'CA', clientCert: 'CERT', clientKey: 'KEY' },
    });
    const without = await resolveSecrets(specOf({ [kind]: server }), read);
    assert.ok(!without.ok);
    assert.deepEqual([without.reason, /key password/.test(without.message)], ['SecretKeyMissing', true]);
  }
});
