/** Mount Secrets: where they are, what is in them, and whose they never take. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { freePort, startRedis } from '../servers.ts';
import { ensureDebian } from '../tools.ts';
import { createHarness } from './harness.ts';
import { mountConfig, place } from './place.ts';

test('a database behind TLS is reached with the authority of a Secret, which clients get too', async (t) => {
  const { folder, spec } = place(t);
  const openssl = (...args: readonly string[]): void => void execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' });
  ensureDebian('openssl');
  const made = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
  openssl('req', '-x509', ...made, '-keyout', 'ca.key', '-out', 'ca.crt', '-subj', '/CN=authority');
  const signed = ['-CA', 'ca.crt', '-CAkey', 'ca.key', '-addext', 'subjectAltName=DNS:redis.test'];
  openssl('req', '-x509', ...made, '-keyout', 'redis.key', '-out', 'redis.crt', '-subj', '/CN=redis', ...signed);
  const port = await freePort();
  const files = ['cert', 'key', 'ca-cert'].map((name, index) => [
    `--tls-${name}-file`,
    join(folder, ['redis.crt', 'redis.key', 'ca.crt'][index] ?? ''),
  ]);
  const secure = await startRedis(['--tls-port', String(port), '--tls-auth-clients', 'no', ...files.flat()]);
  t.after(() => secure.stop());
  const harness = createHarness();
  const tls = { enabled: true, serverName: 'redis.test', caSecretRef: { name: 'ca' } };
  await harness.createVolume({
    ...spec,
    storage: { file: { path: join(folder, 'blocks') } },
    metadata: { redis: { addresses: [`127.0.0.1:${port}`], tls } },
  });
  openssl('req', '-x509', ...made, '-keyout', 'other.key', '-out', 'other.crt', '-subj', '/CN=another');
  await harness.createSecret('ca', { 'ca.crt': readFileSync(join(folder, 'other.crt'), 'utf8') });
  await harness.reconcile();
  assert.equal(harness.condition('Ready'), 'False MetadataUnreachable');
  await harness.createSecret('ca', { 'ca.crt': readFileSync(join(folder, 'ca.crt'), 'utf8') });
  await harness.reconcile();
  assert.equal(harness.condition('Ready'), 'True Succeeded', harness.message('Ready'));
  assert.equal(mountConfig(harness).metaUrl, `rediss://127.0.0.1:${port}/0?tls-server-name=redis.test&tls-ca-cert-file=ca.crt`);
  const [secret] = harness.secrets();
  assert.equal(Buffer.from(secret?.data?.['ca.crt'] ?? '', 'base64').toString(), readFileSync(join(folder, 'ca.crt'), 'utf8'));
});

describe('mount Secrets', () => {
  test('are in the allowed namespaces, follow their labels, and go when no longer allowed', async (t) => {
    const { spec } = place(t);
    const harness = createHarness();
    for (const [name, labels] of [
      ['data', {}],
      ['training', { team: 'ml' }],
      ['serving', { team: 'ml' }],
      ['web', { team: 'web' }],
      ['closed', { team: 'ml', 'juicepod.io/injection': 'disabled' }],
    ] as const)
      await harness.createNamespace(name, labels);
    const selector = { matchLabels: { team: 'ml' } };
    await harness.createVolume({ ...spec, access: { allowedNamespaces: { from: 'Selector', selector } } });
    await harness.reconcile();
    const names = (): string[] =>
      harness
        .secrets()
        .map(({ metadata }) => `${metadata.namespace}/${metadata.name}`)
        .toSorted();
    assert.deepEqual(names(), [
      'data/juicepod-mount-datasets',
      'serving/juicepod-mount.data.datasets',
      'training/juicepod-mount.data.datasets',
    ]);
    assert.deepEqual(mountConfig(harness, 'training'), mountConfig(harness, 'data'));
    assert.equal(harness.volume()?.status?.mountSecrets?.namespaces, 3);
    harness.writes();
    await harness.reconcile();
    assert.deepEqual(harness.writes(), []);
    await harness.changeVolume((old) => ({ ...old, access: { allowedNamespaces: { from: 'Same' }, readOnly: false } }));
    await harness.reconcile();
    assert.deepEqual(names(), ['data/juicepod-mount-datasets']);
  });

  test('are repaired when somebody changes or deletes them', async (t) => {
    const { spec } = place(t);
    const harness = createHarness();
    await harness.createVolume(spec);
    await harness.reconcile();
    const { generation, ...wanted } = mountConfig(harness);
    const repaired = (): unknown => {
      const { generation: now, ...config } = mountConfig(harness);
      assert.ok(Number(now) > Number(generation), 'what was repaired counts as a change');
      return config;
    };
    const { Secrets } = await import('../../src/kube/resources.ts');
    const secrets = harness.client.resource(Secrets);
    const ref = { namespace: 'data', name: 'juicepod-mount-datasets' };
    await secrets.patch(ref, [{ op: 'replace', path: '/data/volume.json', value: 'e30=' }]);
    await harness.reconcile();
    assert.deepEqual(repaired(), wanted);
    await secrets.delete(ref);
    await harness.reconcile();
    assert.deepEqual(repaired(), wanted);
  });

  test('never take over a Secret that somebody else made', async (t) => {
    const { spec } = place(t);
    const harness = createHarness();
    await harness.createSecret('juicepod-mount-datasets', { mine: 'yes' });
    await harness.createVolume(spec);
    await harness.reconcile();
    assert.equal(harness.condition('Ready'), 'False MountSecretRefused');
    assert.match(harness.message('Ready'), /data\/juicepod-mount-datasets exists/);
    assert.deepEqual(harness.secrets(), []);
  });
});
