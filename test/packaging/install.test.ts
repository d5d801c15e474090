/** What is installed, on a real API server: it is accepted where Pod Security is `restricted`, and as a release of Helm. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { bundlePublisher } from '../../src/admission/cluster.ts';
import { createAuthority } from '../../src/admission/x509.ts';
import { connect } from '../../src/kube/client.ts';
import { startApiServer, type ApiServer } from '../cluster/api-server.ts';
import { ToolMissing } from '../tools.ts';
import { callHere, install, type Installed, system } from './installed.ts';
import { until } from '../until.ts';
import { chart, kustomize, type Manifest, root, runHelm } from './manifests.ts';

interface PodTemplate {
  readonly metadata: { readonly labels: Readonly<Record<string, string>> };
  readonly spec: { readonly containers: readonly Record<string, unknown>[]; readonly [field: string]: unknown };
}

const templates = (objects: readonly Manifest[]): readonly (readonly [string, PodTemplate])[] =>
  objects
    .filter(({ kind }) => kind === 'Deployment')
    .map(({ metadata, ...rest }) => [metadata.name, (rest['spec'] as { template: PodTemplate }).template]);

test('each overlay is accepted, and its pods are, where Pod Security is restricted', async (t) => {
  let installed: Installed;
  try {
    installed = await install('default', { namespaces: ['team-a', 'team-b'] });
  } catch (error) {
    if (error instanceof ToolMissing) return t.skip(error.message);
    throw error;
  }
  await using _ = installed;
  const { api, attempt, port } = installed;
  const label = await api.kubectl(['get', 'namespace', system, '-o', 'jsonpath={.metadata.labels}']);
  assert.match(label, /"pod-security.kubernetes.io\/enforce":"restricted"/);
  for (const overlay of ['default', 'high-availability', 'namespaced', 'cert-manager']) {
    const manifests = (await kustomize(join('config', overlay))).filter(
      ({ apiVersion }) => !apiVersion.startsWith('cert-manager'),
    );
    const items = manifests.map((object) => callHere(object, port));
    const list = JSON.stringify({ apiVersion: 'v1', kind: 'List', items });
    const applied = await attempt(['apply', '--server-side', '--force-conflicts', '-f', '-'], list);
    assert.ok(applied.ok, applied.output);
    const found = templates(manifests);
    assert.deepEqual(found.map(([name]) => name).toSorted(), ['juicepod-operator', 'juicepod-webhook']);
    for (const [name, { metadata, spec }] of found) {
      const create = (more: object): ReturnType<typeof attempt> => {
        const pod = {
          apiVersion: 'v1',
          kind: 'Pod',
          metadata: { ...metadata, name, namespace: system },
          spec: { ...spec, ...more },
        };
        return attempt(['create', '--dry-run=server', '-f', '-'], JSON.stringify(pod));
      };
      const { ok, output } = await create({});
      assert.ok(ok, `${overlay}: ${output}`);
      // The check does check: without any one of these it is refused.
      const containers = spec.containers.map(({ securityContext: _context, ...rest }) => rest);
      for (const [what, more] of [
        ['seccompProfile|runAsNonRoot', { securityContext: {} }],
        ['allowPrivilegeEscalation|capabilities', { containers }],
      ] as const) {
        const refusal = await create(more);
        assert.ok(!refusal.ok);
        assert.match(refusal.output, new RegExp(`violates PodSecurity "restricted.*(${what})`));
      }
      assert.equal(spec['hostNetwork'], undefined);
      for (const { securityContext } of spec.containers)
        assert.equal((securityContext as Record<string, unknown>)['readOnlyRootFilesystem'], true);
    }
  }
  // Resource definitions are upgraded by applying them again, and one version alone is stored.
  const { ok, output } = await attempt(['apply', '--server-side', '-k', join(root, 'crds')]);
  assert.ok(ok, output);
  for (const { metadata } of await kustomize('crds'))
    assert.equal(await api.kubectl(['get', 'crd', metadata.name, '-o', 'jsonpath={.status.storedVersions}']), '["v1alpha1"]');
});

async function crds(api: ApiServer): Promise<string> {
  return await api.kubectl(['get', 'crd', '-o', 'name']);
}

test('a release of the chart is installed, upgraded and removed; volumes outlive it, and caBundle an upgrade', async (t) => {
  let api: ApiServer;
  try {
    await runHelm(['version']);
    api = await startApiServer();
  } catch (error) {
    if (error instanceof ToolMissing) return t.skip(error.message);
    throw error;
  }
  await using _ = api;
  await until('there are namespaces', async () => (await api.kubectl(['get', 'namespace', '-o', 'name'])).includes('default'));
  const helm = async (...args: readonly string[]): Promise<string> => {
    const { status, stdout, stderr } = await runHelm([...args, '--kubeconfig', api.kubeconfig, '--namespace', system]);
    assert.equal(status, 0, `helm ${args.join(' ')}: ${stderr}`);
    return stdout;
  };
  const told = await helm('install', 'juicepod', chart, '--create-namespace');
  assert.match(told, /juicepod-system/);
  assert.match(told, /juicepod analyze POD/);
  await api.kubectl(['wait', '--for=condition=Established', 'crd', '--all', '--timeout=30s']);
  const volume = {
    apiVersion: 'juicepod.io/v1alpha1',
    kind: 'JuiceVolume',
    metadata: { name: 'datasets', namespace: 'default' },
    spec: { metadata: { redis: { addresses: ['redis:6379'] } }, storage: { s3: { bucket: 'bytes' } } },
  };
  await api.kubectl(['apply', '-f', '-'], JSON.stringify(volume));
  // As the webhook does it, with a field manager of its own.
  const authority = await createAuthority(Date.now());
  const client = connect({ kubeconfig: api.kubeconfig });
  const publisher = bundlePublisher(client, 'juicepod-webhook');
  const published = await publisher.read(AbortSignal.timeout(10_000));
  assert.ok(await publisher.publish(authority.certificate.pem, published?.version ?? '', AbortSignal.timeout(10_000)));
  await client.close();
  const bundle = (): Promise<string> =>
    api.kubectl([
      'get',
      'mutatingwebhookconfiguration',
      'juicepod-webhook',
      '-o',
      'jsonpath={.webhooks[0].clientConfig.caBundle}',
    ]);
  const before = await bundle();
  assert.equal(Buffer.from(before, 'base64').toString(), authority.certificate.pem);
  await helm('upgrade', 'juicepod', chart, '--set', 'webhook.replicas=4,webhook.timeoutSeconds=4');
  assert.equal(await bundle(), before);
  assert.equal(
    await api.kubectl(['-n', system, 'get', 'deployment', 'juicepod-webhook', '-o', 'jsonpath={.spec.replicas}']),
    '4',
  );
  await helm('uninstall', 'juicepod');
  assert.equal(await api.kubectl(['-n', system, 'get', 'deployments', '-o', 'name']), '');
  assert.match(await crds(api), /juicevolumes\.juicepod\.io/);
  assert.match(await api.kubectl(['get', 'jv', 'datasets', '-o', 'name']), /datasets/);
  // A release that follows takes the definitions over again.
  await helm('install', 'juicepod', chart);
});
