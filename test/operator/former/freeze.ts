/**
 * Keeps an installation as a release left it, for upgrade.test.ts: `node test/operator/former/freeze.ts CHECKOUT FILE`, with a checkout of
 * that release (and its node_modules). Its definitions and rights are applied to an API server of the tests, its operator makes the
 * volumes, its `inject` the pods; then all there is, the databases and the stores too, goes into one file of JSON.
 */
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { Redis } from 'ioredis';
import { startApiServer } from '../../cluster/api-server.ts';
import { startRedis } from '../../servers.ts';
import { operatorKubeconfig } from '../service-account.ts';
import type { Frozen, FrozenObject, FrozenSecret } from './thaw.ts';

const [checkout = '', file = ''] = process.argv.slice(2);
if (checkout === '' || file === '') throw new Error('wanted: freeze.ts CHECKOUT FILE');

await using api = await startApiServer();
await using redis = await startRedis(['--appendonly', 'yes', '--requirepass', 'secret']);
const folder = mkdtempSync(join(tmpdir(), 'juicepod-former-'));

const kustomize = async (path: string): Promise<string> => api.kubectl(['kustomize', join(checkout, path)]);
/** Descriptions are most of a definition, and change nothing. */
function withoutDescriptions(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutDescriptions);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([name, inner]) => name !== 'description' || typeof inner !== 'string')
      .map(([name, inner]) => [name, withoutDescriptions(inner)]),
  );
}
const objectsIn = (yaml: string): FrozenObject[] =>
  parseAllDocuments(yaml).map((each) => withoutDescriptions(each.toJSON()) as FrozenObject);
const apply = (...objects: readonly object[]): Promise<string> =>
  api.kubectl(
    ['apply', '--server-side', '--force-conflicts', '-f', '-'],
    JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects }),
  );

const crds = objectsIn(await kustomize('crds'));
const rights = objectsIn(await kustomize('config/rbac'));
await apply(...objectsIn(await kustomize('config/namespace')), ...crds, ...rights);
await api.kubectl(['wait', '--for=condition=Established', 'crd/juicevolumes.juicepod.io', 'crd/juicecachepolicies.juicepod.io']);
for (const name of ['data', 'training']) await api.kubectl(['create', 'namespace', name]);

const knows = (field: string): boolean => JSON.stringify(crds).includes(`"${field}"`);
const names = ['plain', 'shared', ...(knows('passphraseGeneration') ? ['encrypted'] : [])];
const volumes = names.map((name, index) => ({
  apiVersion: 'juicepod.io/v1alpha1',
  kind: 'JuiceVolume',
  metadata: { name, namespace: 'data' },
  spec: {
    metadata: { redis: { addresses: [`127.0.0.1:${redis.port}`], database: index, authSecretRef: { name: 'redis' } } },
    storage: { file: { path: join(folder, 'blocks') } },
    ...(name === 'shared' ? { access: { allowedNamespaces: { from: 'All' } }, cachePolicyRef: { name: 'small' } } : {}),
    ...(name === 'plain' && knows('quota') ? { quota: { capacity: '1Gi' } } : {}),
    ...(name === 'encrypted' ? { encryption: { algorithm: 'AES256GCM' } } : {}),
  },
}));
const policy = {
  apiVersion: 'juicepod.io/v1alpha1',
  kind: 'JuiceCachePolicy',
  metadata: { name: 'small', namespace: 'data' },
  spec: { local: { size: '1Gi' } },
};
const pods = [...names.map((name) => ['data', name, name]), ['training', 'elsewhere', 'data/shared']].map(
  ([namespace, name, volume]) => ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace, annotations: { 'juicepod.io/volumes': `${volume}=/data` } },
    spec: { containers: [{ name: 'app', image: 'example.com/app:1' }] },
  }),
);
const redisSecret = {
  apiVersion: 'v1',
  kind: 'Secret',
  metadata: { name: 'redis', namespace: 'data' },
  stringData: { password: 'secret' },
};
await apply(redisSecret, policy, ...volumes);
const program = join(checkout, 'src/main.ts');
const child = spawn(
  process.execPath,
  [program, 'operator', `--kubeconfig=${operatorKubeconfig(api)}`, '--metrics-port=0', '--log-level=warn'],
  { stdio: ['ignore', 'inherit', 'inherit'] },
);
const ended = new Promise((done) => child.once('exit', done));
await api.kubectl(['wait', '--for=condition=Ready', 'jv', '--all', '--namespace=data', '--timeout=60s']);
await api.kubectl(['wait', '--for=jsonpath={.status.usedBy}=1', 'jcp/small', '--namespace=data', '--timeout=60s']);
child.kill('SIGTERM');
await ended;
const manifests = join(folder, 'pods.yaml');
writeFileSync(manifests, [policy, ...volumes, ...pods].map((each) => JSON.stringify(each)).join('\n---\n'));
const injected = execFileSync(process.execPath, [program, 'inject', '-f', manifests], { encoding: 'utf8' });
await apply(...objectsIn(injected).filter(({ kind }) => kind === 'Pod'));

const list = async (kind: string): Promise<readonly FrozenObject[]> => {
  const text = await api.kubectl(['get', kind, '--all-namespaces', '--output=json']);
  return (JSON.parse(text) as { items: FrozenObject[] }).items.map((item) => {
    const { creationTimestamp: _made, resourceVersion: _version, generation: _generation, ...metadata } = item.metadata;
    return { ...item, metadata };
  });
};
const secrets = (await list('secrets')).map((each): FrozenSecret => {
  const { data = {}, ...rest } = each as FrozenObject & { data?: Record<string, string> };
  const stringData = Object.fromEntries(
    Object.entries(data).map(([name, value]) => [name, Buffer.from(value, 'base64').toString()]),
  );
  return { ...rest, stringData };
});
const databases: Record<string, (readonly [string, string])[]> = {};
for (const index of names.keys()) {
  const database = new Redis(redis.url(index).replace('redis://', 'redis://:secret@'));
  const keys = (await database.keys('*')).toSorted();
  databases[index] = await Promise.all(
    keys.map(async (key) =>
      key === 'setting'
        ? ([key, (await database.get(key)) ?? ''] as const)
        : ([key, (await database.dumpBuffer(key))?.toString('base64') ?? ''] as const),
    ),
  );
  database.disconnect();
}
const blocks = join(folder, 'blocks');
const files = Object.fromEntries(
  readdirSync(blocks, { recursive: true, withFileTypes: true })
    .filter((each) => each.isFile())
    .map((each) => join(each.parentPath, each.name))
    .map((path) => [relative(folder, path), readFileSync(path, 'base64')]),
);
const frozen: Frozen = {
  crds,
  rights,
  secrets,
  policies: await list('jcp'),
  volumes: await list('jv'),
  pods: await list('pods'),
  databases,
  files,
};
const text = JSON.stringify(frozen).replaceAll(`127.0.0.1:${redis.port}`, '127.0.0.1:@PORT@').replaceAll(folder, '@FOLDER@');
// One object a line, so that a difference can be read.
writeFileSync(file, `${text.replaceAll('{"apiVersion"', '\n{"apiVersion"')}\n`);
rmSync(folder, { recursive: true, force: true });
