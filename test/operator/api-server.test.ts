/**
 * The resources and the operator on a real API server: what it accepts and refuses, what kubectl shows, and that the rights
 * of config/rbac are enough (the operator's client is its ServiceAccount, by a certificate).
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, test, type TestContext } from 'node:test';
import { connect } from '../../src/kube/client.ts';
import { nullLogger } from '../../src/lib/log.ts';
import { runOperator } from '../../src/operator/index.ts';
import { type ApiServer, startApiServer } from '../cluster/api-server.ts';
import { freePort, type Server, startRedis } from '../servers.ts';
import { ToolMissing } from '../tools.ts';

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

async function until(holds: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + 30_000;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error('nothing happened within 30 s');
    await new Promise((done) => setTimeout(done, 50));
  }
}

/** A kubeconfig of the operator's ServiceAccount. */
function serviceAccount(server: ApiServer): string {
  const openssl = (...args: readonly string[]): void => void execFileSync('openssl', args, { cwd: server.folder, stdio: 'pipe' });
  const subject = '/O=system:serviceaccounts/CN=system:serviceaccount:juicepod-system:juicepod-operator';
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30', '-keyout', 'operator.key'];
  openssl('req', '-x509', ...key, '-out', 'operator.crt', '-subj', subject, '-CA', 'ca.crt', '-CAkey', 'ca.key');
  const path = join(folder, 'kubeconfig');
  const at = (name: string): string => JSON.stringify(join(server.folder, name));
  writeFileSync(
    path,
    `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "${server.url}", certificate-authority: ${at('ca.crt')}}}]
users: [{name: u, user: {client-certificate: ${at('operator.crt')}, client-key: ${at('operator.key')}}}]
contexts: [{name: c, context: {cluster: c, user: u, namespace: juicepod-system}}]
current-context: c
`,
  );
  return path;
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
  for (const base of ['config/namespace', 'crds', 'config/rbac'])
    await api.kubectl(['apply', '--server-side', '-k', join(root, base)]);
  await api.kubectl([
    'wait',
    '--for=condition=Established',
    'crd/juicevolumes.juicepod.io',
    'crd/juicecachepolicies.juicepod.io',
  ]);
  await api.kubectl(['create', 'namespace', namespace]);
  await api.kubectl(['create', 'secret', 'generic', 'redis', `--namespace=${namespace}`, '--from-literal=password=secret']);
  port = await freePort();
  operator = runOperator({ client: connect({ kubeconfig: serviceAccount(api) }), log: nullLogger, port, signal: stop.signal });
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

const s3 = (more: Record<string, unknown>): Record<string, unknown> => ({ storage: { s3: { bucket: 'abc', ...more } } });
const address = { addresses: ['redis:6379'] };
const access = (allowedNamespaces: Record<string, unknown>): Record<string, unknown> => ({ access: { allowedNamespaces } });
const encrypted = (more: Record<string, unknown>): Record<string, unknown> => ({
  encryption: { algorithm: 'AES256GCM', ...more },
});
const directories = (...list: readonly Record<string, unknown>[]): Record<string, unknown> => ({ quota: { directories: list } });

const accepted: readonly [string, Record<string, unknown>][] = [
  ['generated encryption', encrypted({ passphraseGeneration: 3 })],
  ['a passphrase of the user', encrypted({ passphraseSecretRef: { name: 'p' } })],
  [
    'key and passphrase of the user',
    encrypted({ keySecretRef: { name: 'k' }, passphraseSecretRef: { name: 'p', key: 'words' }, algorithm: 'ChaCha20Poly1305' }),
  ],
  [
    'limits of everything',
    {
      quota: {
        capacity: '7999Ti',
        inodes: 1_000_000,
        directories: [
          { path: '/a', capacity: '1M' },
          { path: '/.hidden/..odd/ü b', inodes: 1, capacity: '10Gi' },
        ],
        users: [{ uid: 4_294_967_295, inodes: 10 }],
        groups: [{ gid: 0, capacity: '1Ti' }],
      },
    },
  ],
  [
    'as many limits as there may be',
    { quota: { users: Array.from({ length: 256 }, (_, uid) => ({ uid: uid + 1, inodes: 1 })) } },
  ],
  ['a volume to adopt', { adopt: { uuid: '12345678-9abc-4def-8123-456789abcdef', settings: 'Overwrite' } }],
  ['the shortest form', {}],
  ['SQLite', { metadata: { sqlite: { path: '/var/lib/meta.db' } } }],
  [
    'TLS with an authority',
    { metadata: { redis: { ...address, tls: { enabled: true, caSecretRef: { name: 'ca' }, serverName: 'redis' } } } },
  ],
  ['an IPv6 address', { metadata: { redis: { addresses: ['[fd00::1]:6379'] } } }],
  [
    'S3',
    s3({ endpoint: 'https://minio:9000/', region: 'eu-west-1', forcePathStyle: true, credentials: { secretRef: { name: 'k' } } }),
  ],
  ['a block size as a number', { format: { blockSize: 65536 } }],
  ['a block size in another spelling', { format: { blockSize: '4096Ki', compression: 'Zstd', trashRetention: '168h' } }],
  ['a selector', access({ from: 'Selector', selector: { matchLabels: { a: 'b' } } })],
  [
    'resources',
    { client: { resources: { requests: { cpu: '100m', memory: '256Mi' }, limits: { memory: '1Gi' } }, logLevel: 'debug' } },
  ],
];
const refused: readonly [string, Record<string, unknown>, RegExp][] = [
  ['two databases', { metadata: { redis: address, sqlite: { path: '/x.db' } } }, /exactly one of redis, sqlite/],
  ['no database', { metadata: {} }, /exactly one of redis, sqlite/],
  ['no store', { storage: {} }, /exactly one of s3, file/],
  ['two addresses', { metadata: { redis: { addresses: ['a:1', 'b:1'] } } }, /at most 1/],
  ['an address without a port', { metadata: { redis: { addresses: ['redis'] } } }, /addresses\[0\]/],
  ['an authority without TLS', { metadata: { redis: { ...address, tls: { caSecretRef: { name: 'ca' } } } } }, /enabled: true/],
  ['a block size that is no power of two', { format: { blockSize: '3Mi' } }, /power of two/],
  ['a block size that is too large', { format: { blockSize: '32Mi' } }, /between 64Ki and 16Mi/],
  ['a retention of half a day', { format: { trashRetention: '12h' } }, /whole days/],
  ['a selector that nothing asks for', access({ selector: {} }), /from: Selector/],
  ['no selector', access({ from: 'Selector' }), /from: Selector/],
  ['a bucket name with capitals', s3({ bucket: 'ABC' }), /storage\.s3\.bucket/],
  ['credentials in the endpoint', s3({ endpoint: 'http://u:p@host' }), /storage\.s3\.endpoint/],
  ['encryption without a cipher', { encryption: {} }, /encryption\.algorithm: Required/],
  ['an unknown cipher', { encryption: { algorithm: 'ROT13' } }, /AES256GCM.*ChaCha20Poly1305/s],
  ['a key without its passphrase', encrypted({ keySecretRef: { name: 'k' } }), /keySecretRef needs passphraseSecretRef/],
  [
    'another passphrase to be generated where it is given',
    encrypted({ passphraseSecretRef: { name: 'p' }, passphraseGeneration: 2 }),
    /change what is in the Secret instead/,
  ],
  ['a capacity without a unit', { quota: { capacity: '100' } }, /quota\.capacity/],
  ['a capacity that no number holds', { quota: { capacity: '9000Ti' } }, /quota\.capacity/],
  ['no inode at all', { quota: { inodes: 0 } }, /quota\.inodes/],
  ['a directory without a limit', directories({ path: '/a' }), /capacity, inodes or both are needed/],
  ['a directory twice', directories({ path: '/a', inodes: 1 }, { path: '/a', inodes: 2 }), /Duplicate value/],
  ['a relative directory', directories({ path: 'a', inodes: 1 }), /directories\[0\]\.path/],
  ['a directory by way of another', directories({ path: '/a/../b', inodes: 1 }), /directories\[0\]\.path/],
  ['a limit of the trash', directories({ path: '/.trash', inodes: 1 }), /the trash takes no limits/],
  ['a limit of root', { quota: { users: [{ uid: 0, inodes: 1 }] } }, /users\[0\]\.uid/],
  ['a user without a limit', { quota: { users: [{ uid: 1 }] } }, /capacity, inodes or both are needed/],
  ['a group without a limit', { quota: { groups: [{ gid: 0 }] } }, /capacity, inodes or both are needed/],
  ['a volume to adopt that has no UUID', { adopt: { uuid: 'datasets' } }, /adopt\.uuid/],
];

for (const [what, spec] of accepted)
  test(`the API server accepts a JuiceVolume with ${what}`, async (t) => {
    await server(t)?.kubectl(['create', '--dry-run=server', '-f', '-'], JSON.stringify(volume('good', spec)));
  });

for (const [what, spec, message] of refused)
  test(`the API server refuses a JuiceVolume with ${what}, and says why`, async (t) => {
    const refusal = server(t)?.kubectl(['create', '--dry-run=server', '-f', '-'], JSON.stringify(volume('bad', spec)));
    if (refusal) await assert.rejects(refusal, message);
  });

test('the API server refuses a name that JuiceFS does not take, unless volumeName is given', async (t) => {
  const create = (object: object) => server(t)?.kubectl(['create', '--dry-run=server', '-f', '-'], JSON.stringify(object));
  const refusal = create(volume('a.b'));
  if (!refusal) return;
  await assert.rejects(refusal, /without spec\.volumeName/);
  await create(volume('a.b', { volumeName: 'datasets' }));
});

test('the API server checks the sizes and times of a JuiceCachePolicy', async (t) => {
  const create = (spec: object) =>
    server(t)?.kubectl(
      ['create', '--dry-run=server', '-o', 'json', '-f', '-'],
      JSON.stringify({ apiVersion: 'juicepod.io/v1alpha1', kind: 'JuiceCachePolicy', metadata: { name: 'p', namespace }, spec }),
    );
  const filled = await create({});
  if (filled === undefined) return;
  assert.deepEqual((JSON.parse(filled) as { spec: unknown }).spec, {
    local: { medium: 'EphemeralDisk', size: '4Gi', freeSpacePercent: 10 },
    readahead: { max: '32Mi' },
    buffer: { size: '300Mi' },
    metadata: { attrTTL: '1s', entryTTL: '1s', dirTTL: '1s', negativeTTL: '0s' },
    io: { maxUploads: 20, maxDownloads: 200 },
    writeback: { enabled: false, maxStaging: '4Gi', uploadDelay: '0s', drainTimeout: '60s' },
  });
  await assert.rejects(
    create({ local: { medium: 'Memory' }, writeback: { enabled: true } }) ?? Promise.reject(new Error('no server')),
    /writeback needs local\.medium: EphemeralDisk/,
  );
  await assert.rejects(create({ buffer: { size: '16Mi' } }) ?? Promise.reject(new Error('no server')), /between 32Mi and 64Gi/);
  await assert.rejects(create({ metadata: { attrTTL: '2h' } }) ?? Promise.reject(new Error('no server')), /at most 1h/);
  await assert.rejects(create({ local: { freeSpacePercent: 95 } }) ?? Promise.reject(new Error('no server')), /freeSpacePercent/);
});

test('a volume becomes ready with the rights of config/rbac alone, is shown by kubectl, and what is fixed cannot be changed', async (t) => {
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

  const change = (patch: object) => kubectl('patch', 'jv', 'datasets', '--type=merge', '-p', JSON.stringify({ spec: patch }));
  for (const [patch, message] of [
    [{ format: { blockSize: '1Mi' } }, /blockSize.*immutable/s],
    [{ format: { compression: 'LZ4' } }, /compression.*immutable/s],
    [{ volumeName: 'other' }, /volumeName can neither be added nor removed/],
    [{ metadata: { redis: { database: 3 } } }, /database.*immutable/s],
    [{ metadata: { redis: null, sqlite: { path: '/x.db' } } }, /redis can neither be added nor removed/],
    [{ storage: { file: { path: '/elsewhere' } } }, /path.*immutable/s],
    [{ encryption: null }, /encryption can neither be added nor removed/],
    [{ encryption: { algorithm: 'ChaCha20Poly1305' } }, /algorithm.*immutable/s],
    [{ encryption: { passphraseGeneration: 1 } }, /passphraseGeneration can only grow/],
    [
      { encryption: { passphraseGeneration: 1, passphraseSecretRef: { name: 'p' } } },
      /passphraseSecretRef can neither be added nor removed/,
    ],
  ] as const)
    await assert.rejects(change(patch), message);

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
  await until(async () => (await reconciles()) > seen);
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

test('an object that nobody has looked at yet says so, or kstatus would take it for finished', async (t) => {
  const cluster = server(t);
  if (!cluster) return;
  const policy = { apiVersion: 'juicepod.io/v1alpha1', kind: 'JuiceCachePolicy', metadata: { name: 'new', namespace }, spec: {} };
  for (const object of [volume('new'), policy]) {
    const made = await cluster.kubectl(['create', '--dry-run=server', '-o', 'json', '-f', '-'], JSON.stringify(object));
    assert.deepEqual((JSON.parse(made) as { status: unknown }).status, { observedGeneration: -1 });
  }
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
  await kubectl('delete', 'jv/early', 'jcp/late', '--timeout=30s');
});

test('everything of config/default and config/samples is accepted by the API server', async (t) => {
  const cluster = server(t);
  if (!cluster) return;
  if (!existsSync(join(root, 'webhook', 'kustomization.yaml'))) return t.skip('webhook/ is not there');
  const manifests = await cluster.kubectl(['kustomize', join(root, 'config', 'default')]);
  await cluster.kubectl(['apply', '--server-side', '--force-conflicts', '--dry-run=server', '-f', '-'], manifests);
  for (const kind of ['operator', 'webhook']) assert.match(manifests, new RegExp(`name: juicepod-${kind}$`, 'm'));
  for (const folder of ['samples', 'samples/features']) {
    const samples = await cluster.kubectl(['kustomize', join(root, 'config', folder)]);
    await cluster.kubectl(['apply', '--server-side', '--dry-run=server', '-f', '-'], samples);
  }
});
