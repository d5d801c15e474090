/**
 * The operator on a real API server: what kubectl and Git tools see, and that the rights of config/rbac are enough (the operator's
 * client is its ServiceAccount, by a certificate). What the schemas accept and refuse is in schema.test.ts.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, test, type TestContext } from 'node:test';
import { connect } from '../../src/kube/client.ts';
import { nullLogger } from '../../src/lib/log.ts';
import { runOperator } from '../../src/operator/index.ts';
import { type ApiServer, startApiServer } from '../cluster/api-server.ts';
import { freePort, type Server, startRedis } from '../servers.ts';
import { ToolMissing } from '../tools.ts';
import { installResources } from './installed.ts';
import { operatorKubeconfig } from './service-account.ts';
import { until } from '../until.ts';

const root = resolve(import.meta.dirname, '..', '..');
const namespace = 'data';
let api: ApiServer | undefined;
let redis: (Server & { url(db?: number): string }) | undefined;
let missing = '';
const folder = mkdtempSync(join(tmpdir(), 'juicepod-operator-api-'));
const stop = new AbortController();
let operator: Promise<void> | undefined;
let port = 0;

/** How often the operator has worked on a volume, by its own metrics. */
async function reconciles(): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  const counts = text.matchAll(/^controller_runtime_reconcile_total\{[^}]*controller="juicevolume"[^}]*\} (\d+)$/gm);
  return [...counts].reduce((sum, [, count]) => sum + Number(count), 0);
}

before(async () => {
  try {
    api = await startApiServer();
  } catch (error) {
    if (!(error instanceof ToolMissing)) throw error;
    missing = error.message;
    return;
  }
  redis = await startRedis(['--appendonly', 'yes', '--requirepass', 'secret']);
  await installResources(api);
  await api.kubectl(['create', 'namespace', namespace]);
  await api.kubectl(['create', 'secret', 'generic', 'redis', `--namespace=${namespace}`, '--from-literal=password=secret']);
  port = await freePort();
  operator = runOperator({
    client: connect({ kubeconfig: operatorKubeconfig(api) }),
    log: nullLogger,
    port,
    signal: stop.signal,
  });
});
after(async () => {
  stop.abort(new Error('the tests are over'));
  await operator;
  await redis?.stop();
  await api?.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** The API server, or a reason to skip. */
function server(t: TestContext): ApiServer | undefined {
  if (!api) t.skip(missing);
  return api;
}

function volume(name: string, spec: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    apiVersion: 'juicepod.io/v1alpha1',
    kind: 'JuiceVolume',
    metadata: { name, namespace },
    spec: {
      metadata: { redis: { addresses: [`127.0.0.1:${redis?.port}`], authSecretRef: { name: 'redis' } } },
      storage: { file: { path: join(folder, 'blocks') } },
      ...spec,
    },
  };
}

const access = (allowedNamespaces: Record<string, unknown>): Record<string, unknown> => ({ access: { allowedNamespaces } });
const encrypted = (more: Record<string, unknown>): Record<string, unknown> => ({
  encryption: { algorithm: 'AES256GCM', ...more },
});

test('a volume becomes ready with the rights of config/rbac alone, follows its Secret, and is shown by kubectl', async (t) => {
  const cluster = server(t);
  if (!cluster) return;
  const kubectl = (...args: readonly string[]) => cluster.kubectl(['--namespace', namespace, ...args]);
  await cluster.kubectl(['create', 'namespace', 'training']);
  await cluster.kubectl(['label', 'namespace', 'training', 'team=ml']);
  const spec = {
    ...access({ from: 'Selector', selector: { matchLabels: { team: 'ml' } } }),
    ...encrypted({ passphraseGeneration: 2 }),
    quota: { capacity: '10Gi', users: [{ uid: 1000, inodes: 10 }] },
  };
  await cluster.kubectl(['apply', '-f', '-'], JSON.stringify(volume('datasets', spec)));
  await kubectl('wait', '--for=condition=Ready', 'jv/datasets', '--timeout=30s');

  const [header = '', row = ''] = (await kubectl('get', 'jv')).split('\n');
  assert.deepEqual(header.split(/\s+/).filter(Boolean), ['NAME', 'READY', 'USED', 'QUOTA', 'SESSIONS', 'AGE']);
  assert.deepEqual(row.split(/\s+/).slice(0, 5), ['datasets', 'True', '0', '10Gi', '0']);
  const wide = (await kubectl('get', 'juice', '-o', 'wide')).split('\n')[1] ?? '';
  assert.match(wide, /Succeeded +.*blocks\/datasets +aes256gcm-rsa +0/);
  const explained = await kubectl('explain', 'jv.spec.reclaimPolicy');
  assert.match(explained, /What becomes of the data/);
  assert.match(await kubectl('describe', 'jv', 'datasets'), /Normal +Formatted/);

  for (const where of [`${namespace}/juicepod-mount-datasets`, 'training/juicepod-mount.data.datasets']) {
    const [space = '', name = ''] = where.split('/');
    const type = await cluster.kubectl(['--namespace', space, 'get', 'secret', name, '-o', 'jsonpath={.type}']);
    assert.equal(type, 'juicepod.io/mount', where);
  }

  const version = () => kubectl('get', 'jv', 'datasets', '-o', 'jsonpath={.metadata.resourceVersion}');
  await kubectl('annotate', 'jv', 'datasets', 'juicepod.io/reconcile-at=now');
  await kubectl('wait', '--for=jsonpath={.status.lastHandledReconcileAt}=now', 'jv/datasets', '--timeout=30s');
  await kubectl('patch', 'secret', 'redis', '--type=merge', '-p', JSON.stringify({ stringData: { password: 'wrong' } }));
  await kubectl('wait', '--for=condition=Ready=False', 'jv/datasets', '--timeout=30s');
  assert.equal(
    await kubectl('get', 'jv', 'datasets', '-o', 'jsonpath={.status.conditions[?(@.type=="Ready")].reason}'),
    'MetadataDenied',
  );
  assert.match(await kubectl('get', 'jv', 'datasets', '-o', 'jsonpath={.status.conditions[*].type}'), /Reconciling/);
  await kubectl('patch', 'secret', 'redis', '--type=merge', '-p', JSON.stringify({ stringData: { password: 'secret' } }));
  await kubectl('wait', '--for=condition=Ready', 'jv/datasets', '--timeout=30s');
  assert.doesNotMatch(
    await kubectl('get', 'jv', 'datasets', '-o', 'jsonpath={.status.conditions[*].type}'),
    /Reconciling|Stalled/,
  );
  // A Secret that it rests on changes in nothing that counts: looked at again, nothing written.
  const healed = await version();
  const seen = await reconciles();
  await kubectl('patch', 'secret', 'redis', '--type=merge', '-p', JSON.stringify({ stringData: { other: 'x' } }));
  await until('it is reconciled once more', async () => (await reconciles()) > seen);
  assert.equal(await version(), healed);

  await cluster.kubectl(['label', 'namespace', 'training', 'team-']);
  await cluster.kubectl([
    '--namespace',
    'training',
    'wait',
    '--for=delete',
    'secret/juicepod-mount.data.datasets',
    '--timeout=30s',
  ]);
  await kubectl('delete', 'jv', 'datasets', '--timeout=30s');
  await assert.rejects(kubectl('get', 'secret', 'juicepod-mount-datasets'), /NotFound/);
});

test('a Git tool sees no drift: applied again, nothing changes, and a comparison shows nothing', async (t) => {
  const cluster = server(t);
  if (!cluster) return;
  const kubectl = (...args: readonly string[]) => cluster.kubectl(['--namespace', namespace, ...args]);
  const manifest = JSON.stringify({
    ...volume('tracked', {
      metadata: { sqlite: { path: join(folder, 'tracked.db') } },
      ...encrypted({}),
      format: { blockSize: 1_048_576, trashRetention: '48h' },
      quota: {
        capacity: '2Gi',
        groups: [
          { gid: 9, capacity: '1Gi' },
          { gid: 8, inodes: 100 },
        ],
      },
      access: { allowedNamespaces: { from: 'All' } },
    }),
    metadata: { name: 'tracked', namespace, labels: { 'app.kubernetes.io/instance': 'volumes' } },
  });
  const apply = async (): Promise<string> => {
    await cluster.kubectl(['apply', '--server-side', '--field-manager=argocd-controller', '-f', '-'], manifest);
    return kubectl('get', 'jv', 'tracked', '-o', 'jsonpath={.metadata.resourceVersion} {.metadata.generation}');
  };
  await apply();
  await kubectl('wait', '--for=condition=Ready', 'jv/tracked', '--timeout=30s');
  await kubectl('wait', '--for=condition=QuotasApplied', 'jv/tracked', '--timeout=30s');
  const settled = await kubectl('get', 'jv', 'tracked', '-o', 'jsonpath={.metadata.resourceVersion} {.metadata.generation}');
  assert.match(settled, / 1$/);
  for (let round = 0; round < 2; round++) {
    assert.equal(await apply(), settled);
    // Ends with 1, and so throws, where there is a difference.
    await cluster.kubectl(['diff', '--server-side', '--field-manager=argocd-controller', '-f', '-'], manifest);
  }
  // The operator owns nothing of what Git declares.
  const managers = JSON.parse(await kubectl('get', 'jv', 'tracked', '-o', 'json', '--show-managed-fields')) as {
    metadata: { managedFields: { manager: string; subresource?: string; fieldsV1: object }[] };
  };
  for (const { manager, fieldsV1 } of managers.metadata.managedFields)
    if (manager !== 'argocd-controller') assert.ok(!Object.hasOwn(fieldsV1, 'f:spec'), `${manager} owns fields of the spec`);
  await kubectl('delete', 'jv', 'tracked', '--timeout=30s');
});

test('a policy that comes after the volume that names it is noticed', async (t) => {
  const cluster = server(t);
  if (!cluster) return;
  const kubectl = (...args: readonly string[]) => cluster.kubectl(['--namespace', namespace, ...args]);
  const spec = { metadata: { sqlite: { path: join(folder, 'early.db') } }, cachePolicyRef: { name: 'late' } };
  await cluster.kubectl(['apply', '-f', '-'], JSON.stringify(volume('early', spec)));
  await kubectl('wait', '--for=condition=CachePolicyResolved=False', 'jv/early', '--timeout=30s');
  assert.equal(await kubectl('get', 'jv', 'early', '-o', 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'), 'True');
  const policy = {
    apiVersion: 'juicepod.io/v1alpha1',
    kind: 'JuiceCachePolicy',
    metadata: { name: 'late', namespace },
    spec: {},
  };
  await cluster.kubectl(['apply', '-f', '-'], JSON.stringify(policy));
  // Well before the next poll, which comes after 48 s at the earliest.
  await kubectl('wait', '--for=condition=CachePolicyResolved', 'jv/early', '--timeout=20s');
  await kubectl('wait', '--for=jsonpath={.status.usedBy}=1', 'jcp/late', '--timeout=20s');
  const [header = '', row = ''] = (await kubectl('get', 'jcp')).split('\n');
  assert.deepEqual(header.split(/\s+/).filter(Boolean), ['NAME', 'READY', 'MEDIUM', 'SIZE', 'WRITEBACK', 'USED-BY', 'AGE']);
  assert.deepEqual(row.split(/\s+/).slice(0, 6), ['late', 'True', 'EphemeralDisk', '4Gi', 'false', '1']);
  assert.match(await kubectl('get', 'jcp', '-o', 'wide'), /Accepted +300Mi/);
  await kubectl('delete', 'jv/early', 'jcp/late', '--timeout=30s');
});

test('everything of config/default and config/samples is accepted by the API server', async (t) => {
  const cluster = server(t);
  if (!cluster) return;
  if (!existsSync(join(root, 'webhook', 'kustomization.yaml'))) return t.skip('webhook/ is not there');
  const manifests = await cluster.kubectl(['kustomize', join(root, 'config', 'default')]);
  await cluster.kubectl(['apply', '--server-side', '--force-conflicts', '--dry-run=server', '-f', '-'], manifests);
  for (const kind of ['operator', 'webhook']) assert.match(manifests, new RegExp(`name: juicepod-${kind}$`, 'm'));
  for (const folder of ['samples', 'samples/features', 'samples/platforms']) {
    const samples = await cluster.kubectl(['kustomize', join(root, 'config', folder)]);
    await cluster.kubectl(['apply', '--server-side', '--dry-run=server', '-f', '-'], samples);
  }
});
