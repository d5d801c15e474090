/** `juicepod migrate`, on what people have of JuiceFS's CSI driver: static and dynamic volumes, and what cannot be brought over. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { parseAllDocuments } from 'yaml';
import { parseVolumes } from '../../src/api/annotation.ts';
import { defaultCachePolicy } from '../../src/api/cachepolicy.ts';
import { parseJuiceCachePolicy, parseJuiceVolume } from '../../src/api/kinds.ts';
import { volumeSpec } from '../../src/api/volume.ts';
import { parseQuantity } from '../../src/api/units.ts';
import { planMigration, type Migration } from '../../src/cli/migrate/plan.ts';
import { fileSystemOf } from '../../src/cli/migrate/filesystem.ts';
import { limitOf } from '../../src/cli/migrate/limits.ts';
import { mapMountOptions } from '../../src/cli/migrate/options.ts';
import { sortSources } from '../../src/cli/migrate/sources.ts';
import { type ApiServer, startApiServer } from '../cluster/api-server.ts';
import { ToolMissing } from '../tools.ts';
import { inScratch, refuses, run, succeeds } from './command.ts';

type Json = Readonly<Record<string, unknown>>;

const file = resolve(import.meta.dirname, '../golden/migrate/csi.yaml');

function read(text: string): Json[] {
  const documents = parseAllDocuments(text);
  return (Array.isArray(documents) ? documents : []).map((document) => document.toJS() as Json);
}

const plan = (objects: readonly Json[], values = true): Migration => planMigration(sortSources(objects), { values });
const golden = plan(read(readFileSync(file, 'utf8')));

const named = (migration: Migration, kind: string, name: string): Json => {
  const found = migration.objects.find((object) => object['kind'] === kind && (object['metadata'] as Json)['name'] === name);
  assert.ok(found, `${kind} ${name} is missing`);
  return found;
};

test('a file system becomes one volume, with its database, its bucket, and credentials in Secrets of their own', () => {
  const volume = parseJuiceVolume(named(golden, 'JuiceVolume', 'analytics'));
  assert.deepEqual(volume.spec.metadata.redis?.addresses, ['redis.storage:6380']);
  assert.equal(volume.spec.metadata.redis?.database, 3);
  assert.deepEqual(volume.spec.storage.s3?.bucket, 'juice-bytes');
  assert.equal(volume.spec.storage.s3?.region, 'eu-central-1');
  assert.equal(volume.spec.format.blockSize, '8192Ki');
  assert.equal(volume.spec.format.trashRetention, '72h');
  assert.equal(volume.spec.format.compression, 'Zstd');
  assert.equal(volume.spec.reclaimPolicy, 'Retain');
  assert.deepEqual(named(golden, 'Secret', 'analytics-redis')['stringData'], { username: 'juice', password: 'p@ss/word' });
  assert.deepEqual(named(golden, 'Secret', 'analytics-s3')['stringData'], { accessKeyId: 'AKIA', secretAccessKey: 'sk' });
  // Two classes, three PersistentVolumes and two copies of its Secret name it.
  assert.equal(golden.objects.filter((object) => object['kind'] === 'JuiceVolume').length, 3);
});

test('a volume that several namespaces use lies where its Secret is, and allows the others', () => {
  const volume = parseJuiceVolume(named(golden, 'JuiceVolume', 'analytics'));
  assert.equal(volume.metadata.namespace, 'storage');
  assert.deepEqual(volume.spec.access.allowedNamespaces, {
    from: 'Selector',
    selector: { matchExpressions: [{ key: 'kubernetes.io/metadata.name', operator: 'In', values: ['ml', 'web'] }] },
  });
  // One that a single namespace uses lies there.
  assert.equal(parseJuiceVolume(named(golden, 'JuiceVolume', 'scratch')).metadata.namespace, 'ml');
});

test('workloads get an annotation that the webhook reads, with the directory of a dynamic volume and what containers mount', () => {
  const byName = new Map(golden.workloads.map((each) => [each.name, each]));
  const train = parseVolumes(byName.get('train')?.annotation ?? '');
  assert.deepEqual(
    train.map(({ namespace, name, mountPath, subPath, readOnly, containers }) => ({
      namespace,
      name,
      mountPath,
      subPath,
      readOnly,
      containers,
    })),
    [
      {
        namespace: 'storage',
        name: 'analytics',
        mountPath: '/data',
        subPath: 'pvc-1111/sets',
        readOnly: true,
        containers: ['main'],
      },
      { namespace: undefined, name: 'scratch', mountPath: '/scratch', subPath: '', readOnly: false, containers: undefined },
    ],
  );
  const [site] = parseVolumes(byName.get('site')?.annotation ?? '');
  assert.deepEqual([site?.name, site?.mountPath, site?.subPath, site?.readOnly], ['analytics', '/srv', 'public/html', true]);
});

test('options become a cache policy, and each that has no counterpart is named', () => {
  const policy = parseJuiceCachePolicy(named(golden, 'JuiceCachePolicy', 'analytics-sets'));
  assert.equal(policy.metadata.namespace, 'ml');
  assert.equal(policy.spec.local.size, '20480Mi');
  assert.equal(policy.spec.buffer.size, '1024Mi');
  assert.equal(policy.spec.metadata.attrTTL, '2s');
  assert.deepEqual(
    golden.unsupported.map(({ where, option }) => `${where}: ${option}`),
    [
      'PersistentVolume pvc-1111: open-cache=7200',
      'PersistentVolume static-site: enable-xattr',
      'PersistentVolume sealed: cache-dir=/var/jfsCache',
      'PersistentVolume sealed: upload-hours=23-6',
      'PersistentVolume sealed: juicefs/mount-image=registry/mount:ce-v1.3.0',
    ],
  );
});

test('write-back, bandwidth, encryption, limits and resources become fields', () => {
  const policy = parseJuiceCachePolicy(named(golden, 'JuiceCachePolicy', 'sealed')).spec;
  assert.deepEqual(policy.writeback, { ...defaultCachePolicy.writeback, enabled: true, uploadDelay: '60s' });
  assert.deepEqual([policy.local.medium, policy.local.size], ['EphemeralDisk', '2048Mi']);
  // 200 Mbit/s and 1 Gbit/s, in bytes.
  assert.deepEqual([policy.io.uploadLimit, policy.io.downloadLimit], ['25000k', '125000k']);
  assert.equal(parseQuantity(policy.io.uploadLimit ?? 0), 25e6);
  const { spec } = parseJuiceVolume(named(golden, 'JuiceVolume', 'sealed'));
  assert.deepEqual(spec.encryption, {
    algorithm: 'ChaCha20Poly1305',
    passphraseSecretRef: { name: 'sealed-passphrase', key: 'passphrase' },
    passphraseGeneration: 1,
  });
  assert.deepEqual(named(golden, 'Secret', 'sealed-passphrase')['stringData'], { passphrase: 'hunter2 words' });
  assert.equal(spec.format.trashRetention, '0h');
  assert.deepEqual(spec.quota, { capacity: '1500Gi', inodes: 2_000_000 });
  assert.deepEqual(spec.client.resources, { limits: { cpu: '2', memory: '2Gi' }, requests: { memory: '1Gi' } });
  const told = golden.todos.join('\n');
  assert.match(told, /volume sealed: `envs` of Secret ml\/sealed sets GOMAXPROCS for the mount pods/);
  assert.match(told, /volume sealed: format option hash-prefix: it is a property of the volume and stays as it is/);
  assert.doesNotMatch(told, /hunter2|PASSPHRASE/);
  // Directories of dynamic volumes have the limits of their claims.
  assert.deepEqual(parseJuiceVolume(named(golden, 'JuiceVolume', 'analytics')).spec.quota, {
    directories: [
      { path: '/pvc-1111', capacity: '10Gi' },
      { path: '/pvc-db-0', capacity: '1Gi' },
    ],
  });
});

test('an encrypted volume whose passphrase is nowhere leaves a place for it, and says so', () => {
  const damaged = read(readFileSync(file, 'utf8')).map((object) => {
    const { name } = object['metadata'] as { name: string };
    if (object['kind'] !== 'Secret' || name !== 'sealed') return object;
    return { ...object, stringData: { ...(object['stringData'] as Json), envs: '[not a map' } };
  });
  const migration = plan(damaged);
  assert.deepEqual(named(migration, 'Secret', 'sealed-passphrase')['stringData'], { passphrase: 'FILL-IN' });
  assert.match(migration.todos.join('\n'), /passphrase is not among what was read: put it into Secret sealed-passphrase/);
  assert.match(migration.todos.join('\n'), /\(which cannot be read\)/);
});

test('limits are spelled as the API server takes them, never less than what was wanted', () => {
  const GIB = 2 ** 30;
  for (const [bytes, wanted] of [
    [10 * GIB, '10Gi'],
    [1.5 * GIB, '1536Mi'],
    [1, '1Mi'],
    [2 ** 40, '1Ti'],
    [1e12, '953675Mi'],
    [1e15 + 1, '931323Gi'],
    [0, undefined],
    [2 ** 53, undefined],
    [Number.NaN, undefined],
  ] as const)
    assert.equal(limitOf(bytes), wanted, String(bytes));
});

test('a person is told what to do: keep the data of claims that would take it along, pods that cannot be changed, claims of a StatefulSet', () => {
  const told = golden.todos.join('\n');
  assert.match(told, /kubectl patch pv pvc-1111 -p .*"Retain"/);
  assert.match(told, /Pod ml\/lonely cannot be changed while it is there.*juicepod\.io\/volumes: scratch=\/s/);
  assert.match(told, /StatefulSet ml\/db makes a claim for each pod \(volumeClaimTemplates data\)/);
  assert.match(told, /StorageClass juicefs makes a directory for each new claim/);
  assert.ok(!told.includes('p@ss'), 'a password was told');
});

test('what cannot be brought over is told with the reason, and the rest is done all the same', () => {
  assert.deepEqual(
    golden.obstacles.map((each) => each.replace(/ \(.*/, '')),
    ['file system cloud', 'file system old'],
  );
  assert.match(golden.obstacles.join('\n'), /Enterprise or Cloud Service/);
  assert.match(golden.obstacles.join('\n'), /its names are in tikv \(tikv:\/\/user:\*\*\*\*@/);
});

test('without --secrets nothing secret is printed, and the API server refuses what was not filled in', () => {
  const migration = plan(read(readFileSync(file, 'utf8')), false);
  const text = JSON.stringify(migration);
  for (const secret of ['p@ss', 'AKIA', '"sk"', 'hunter2']) assert.ok(!text.includes(secret), secret);
  assert.match(
    migration.todos.join('\n'),
    /fill in Secret storage\/analytics-redis \(username, password\) from Secret storage\/juicefs-secret/,
  );
});

test('a Secret without a bucket leaves a place to be filled in, which no API server takes', () => {
  const secret = {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: 's', namespace: 'n' },
    stringData: { name: 'vol', metaurl: 'redis://:x@r:6379/1' },
  };
  const csi = { driver: 'csi.juicefs.com', nodePublishSecretRef: { name: 's', namespace: 'n' } };
  const migration = plan([secret, { apiVersion: 'v1', kind: 'PersistentVolume', metadata: { name: 'p' }, spec: { csi } }]);
  assert.throws(() => parseJuiceVolume(named(migration, 'JuiceVolume', 'vol')), /bucket/);
  assert.match(migration.todos.join('\n'), /juicefs status META-URL/);
});

/** The volume of a file system with this metadata URL. */
function migrated(metaurl: string, more: Json = {}): Migration {
  const secret = {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: 's', namespace: 'n' },
    stringData: { name: 'vol', metaurl, storage: 's3', bucket: 'https://bytes.s3.eu-central-1.amazonaws.com', ...more },
  };
  const csi = { driver: 'csi.juicefs.com', nodePublishSecretRef: { name: 's', namespace: 'n' } };
  return plan([secret, { apiVersion: 'v1', kind: 'PersistentVolume', metadata: { name: 'p' }, spec: { csi } }]);
}

test('names in PostgreSQL and MySQL come over with server, tables, TLS and credentials', () => {
  const postgres = migrated(
    'postgres://me:p%40ss@db:6432/meta?sslmode=verify-full&sslrootcert=/ca.pem&search_path=volumes&table_prefix=a&max_open_conns=4',
    { 'format-options': 'enable-acl,trash-days=2' },
  );
  const { spec } = parseJuiceVolume(named(postgres, 'JuiceVolume', 'vol'));
  const { postgres: server } = spec.metadata;
  assert.deepEqual(
    [server?.host, server?.port, server?.database, server?.schema, server?.tablePrefix, server?.maxConnections],
    ['db', 6432, 'meta', 'volumes', 'a', 4],
  );
  assert.deepEqual([server?.tls.mode, server?.authSecretRef.name], ['VerifyFull', 'vol-postgres']);
  assert.deepEqual([spec.format.enableACL, spec.format.trashRetention], [true, '48h']);
  assert.deepEqual(named(postgres, 'Secret', 'vol-postgres')['stringData'], { username: 'me', password: 'p@ss' });
  assert.match(postgres.todos.join('\n'), /authority's certificate \(\/ca\.pem\).*spec\.metadata\.postgres\.tls\.caSecretRef/);

  const mysql = migrated('mysql://me:x@y@(db:3307)/meta?tls=skip-verify');
  const other = parseJuiceVolume(named(mysql, 'JuiceVolume', 'vol')).spec.metadata.mysql;
  assert.deepEqual([other?.host, other?.port, other?.database, other?.tls.mode], ['db', 3307, 'meta', 'Require']);
  assert.deepEqual(named(mysql, 'Secret', 'vol-mysql')['stringData'], { username: 'me', password: 'x@y' });
  assert.deepEqual(mysql.obstacles, []);

  const without = migrated('postgres://me@db/meta');
  assert.deepEqual(named(without, 'Secret', 'vol-postgres')['stringData'], { username: 'me', password: 'FILL-IN' });
  assert.match(without.todos.join('\n'), /has no password: put it into Secret vol-postgres/);
  for (const [url, why] of [
    ['mysql://me:hunter2@unix(/run/mysqld.sock)/meta', /unix socket/],
    ['postgres://me:hunter2@a,b/meta', /several hosts/],
  ] as const) {
    const told = migrated(url).obstacles.join();
    assert.match(told, why);
    assert.doesNotMatch(told, /hunter2/);
  }
});

test('every mount option is mapped, dropped as meaningless, or named', () => {
  const mapped = mapMountOptions(
    [
      'cache-size=512',
      'buffer-size=1G',
      'subdir=/a/b/',
      'ro',
      'allow_other',
      'writeback',
      'max-uploads=7',
      'free-space-ratio=0.2',
      'upload-limit=0',
    ].concat([
      'attr-cache=1500ms',
      'negative-entry-cache=0',
      'buffer-size=1',
      'made-up=3',
      'cache-dir=memory',
      'constructor=1',
      'upload-delay=2d',
    ]),
  );
  assert.deepEqual(mapped.policy, {
    local: { size: '512Mi', freeSpacePercent: 20 },
    writeback: { enabled: true },
    buffer: { size: '1024Mi' },
    io: { maxUploads: 7 },
    metadata: { attrTTL: '1500ms', negativeTTL: '0ms' },
  });
  assert.equal(mapped.subdir, 'a/b');
  assert.equal(mapped.readOnly, true);
  assert.deepEqual(mapped.dropped, ['allow_other']);
  assert.deepEqual(
    mapped.unsupported.map(({ option }) => option),
    // What is staged must outlive the client, so not in memory.
    ['buffer-size=1', 'made-up=3', 'cache-dir=memory', 'constructor=1', 'upload-delay=2d'],
  );
  assert.deepEqual(mapMountOptions(['cache-dir=memory']).policy, { local: { medium: 'Memory' } });
  assert.equal(
    mapMountOptions(['cache-size=0']).policy['local'] && JSON.stringify(mapMountOptions(['cache-size=0']).policy),
    '{"local":{"medium":"None"}}',
  );
});

test('damaged and strange objects are told about, never a crash', () => {
  const bases = read(readFileSync(file, 'utf8'));
  let seed = 7;
  const random = (below: number): number => (seed = (seed * 48_271) % 2_147_483_647) % below;
  const strange: readonly unknown[] = [null, 0, '', [], {}, 'x'.repeat(300), [null], { a: null }];
  const damage = (value: unknown): unknown => {
    if (random(25) === 0) return strange[random(strange.length)];
    if (Array.isArray(value)) return value.map(damage);
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, key === 'kind' ? each : damage(each)]));
  };
  for (let count = 0; count < 500; count++) {
    const migration = plan(
      bases
        .map((object) => damage(object) as Json)
        .filter((object) => typeof object === 'object' && object !== null && !Array.isArray(object)),
    );
    assert.ok(Array.isArray(migration.todos));
  }
});

test('the command prints YAML and patches to standard output, what to do to standard error, and JSON where that is wanted', async () => {
  await inScratch(async (folder) => {
    const { code, stdout, stderr } = await run(['migrate', '-f', file, '--secrets']);
    assert.equal(code, 1, 'something cannot be brought over');
    assert.ok(read(stdout).filter(Boolean).length >= 7);
    assert.match(stdout, /^#   kubectl -n ml patch deployment train --type=strategic -p /m);
    assert.match(stderr, /^Cannot be brought over:\n {2}1\. file system cloud/m);
    assert.match(stderr, /^Mount options without counterpart:/m);
    assert.match(stderr, /^To do:/m);
    const small = join(folder, 'small.yaml');
    const kept = read(readFileSync(file, 'utf8')).filter(
      (object) => !/cloud|old/.test(String((object['metadata'] as Json)['name'])),
    );
    writeFileSync(small, kept.map((object) => JSON.stringify(object)).join('\n---\n'));
    const json = JSON.parse(await succeeds(['migrate', '-f', small, '--output', 'json'])) as Migration;
    assert.ok(json.objects.length > 5);
    writeFileSync(small, 'kind: ConfigMap\n');
    await refuses(['migrate', '-f', small], /there is no StorageClass and no PersistentVolume of csi\.juicefs\.com/);
    await refuses(['migrate', '-f', join(folder, 'nothing')], /ENOENT/);
  });
});

test('on a real API server: read from the cluster it is the same, and volumes, Secrets and patches are accepted; nothing else changed', async (context) => {
  let api: ApiServer;
  try {
    api = await startApiServer();
  } catch (error) {
    if (error instanceof ToolMissing) return context.skip(error.message);
    throw error;
  }
  await using _ = api;
  const root = resolve(import.meta.dirname, '../..');
  await api.kubectl(['apply', '--server-side', '-k', join(root, 'crds')]);
  await api.kubectl(['wait', '--for=condition=Established', 'crd', '--all', '--timeout=30s']);
  for (const namespace of ['storage', 'ml', 'web', 'vendor']) await api.kubectl(['create', 'namespace', namespace]);
  await api.kubectl(['apply', '-f', file]);
  const everything = async (): Promise<string> =>
    await api.kubectl([
      'get',
      'storageclasses,persistentvolumes,persistentvolumeclaims,secrets,deployments,statefulsets,pods',
      '-A',
      '-o',
      'name',
    ]);
  const before = await everything();
  const { stdout, stderr } = await run(['migrate', '--kubeconfig', api.kubeconfig, '--secrets', '--output', 'json']);
  assert.equal(await everything(), before);
  const found = JSON.parse(stdout) as Migration;
  const key = (object: Json): string =>
    JSON.stringify([object['kind'], object['metadata'], object['spec'], object['stringData']]);
  assert.deepEqual(found.objects.map(key).toSorted(), golden.objects.map(key).toSorted(), stderr);
  assert.deepEqual(
    found.workloads.map(({ name, annotation }) => `${name} ${annotation}`).toSorted(),
    golden.workloads.map(({ name, annotation }) => `${name} ${annotation}`).toSorted(),
  );
  await api.kubectl(
    ['apply', '--server-side', '-f', '-'],
    JSON.stringify({ apiVersion: 'v1', kind: 'List', items: found.objects }),
  );
  for (const { kind, namespace, name, annotation, patch } of found.workloads) {
    if (!patch) continue;
    await api.kubectl(['-n', namespace, 'patch', kind.toLowerCase(), name, '--type=strategic', '-p', JSON.stringify(patch)]);
    const patched = JSON.parse(await api.kubectl(['-n', namespace, 'get', kind.toLowerCase(), name, '-o', 'json'])) as {
      spec: {
        template: {
          metadata: { annotations: Record<string, string> };
          spec: { volumes?: unknown[]; containers: { volumeMounts?: unknown[] }[] };
        };
      };
    };
    const { metadata, spec } = patched.spec.template;
    assert.equal(metadata.annotations['juicepod.io/volumes'], annotation);
    assert.doesNotMatch(JSON.stringify(spec), /persistentVolumeClaim/);
    const kept = JSON.stringify(spec.containers);
    assert.equal(kept.includes('"/config"'), name === 'train', 'mounts of other volumes stay');
  }
});

test('stores of other kinds than S3 become what a JuiceVolume calls them, with the names that their Secrets want', () => {
  const secretOf = (texts: Readonly<Record<string, string>>): Json => ({
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: 'juice', namespace: 'ml' },
    stringData: { name: 'kinds', metaurl: 'redis://redis:6379/1', ...texts },
  });
  const pair = { 'access-key': 'one', 'secret-key': 'a2V5' };
  const cases: readonly (readonly [texts: Readonly<Record<string, string>>, secret: string, storage: Json, keys: Json])[] = [
    [
      { storage: 'oss', bucket: 'https://box.oss-cn-hangzhou.aliyuncs.com', ...pair },
      'kinds-oss',
      {
        provider: {
          name: 'oss',
          bucket: 'box',
          endpoint: 'https://oss-cn-hangzhou.aliyuncs.com',
          credentials: { secretRef: { name: 'kinds-oss' } },
        },
      },
      { accessKeyId: 'one', secretAccessKey: 'a2V5' },
    ],
    [
      { storage: 'gs', bucket: 'gs://box' },
      'kinds-gs',
      { gs: { bucket: 'box', credentials: { secretRef: { name: 'kinds-gs' } } } },
      { accessKeyId: 'FILL-IN', secretAccessKey: 'FILL-IN' },
    ],
    [
      { storage: 'wasb', bucket: 'https://box.core.chinacloudapi.cn', ...pair },
      'kinds-wasb',
      {
        azure: {
          account: 'one',
          container: 'box',
          endpoint: 'https://blob.core.chinacloudapi.cn',
          credentials: { secretRef: { name: 'kinds-wasb' } },
        },
      },
      { accountKey: 'a2V5' },
    ],
    [
      { storage: 'wasb', bucket: 'https://box', 'access-key': 'one', 'session-token': 'sig=x' },
      'kinds-wasb',
      {
        azure: { account: 'one', container: 'box', credentials: { secretRef: { name: 'kinds-wasb', sasTokenKey: 'sasToken' } } },
      },
      { sasToken: 'sig=x' },
    ],
    [
      { storage: 'webdav', bucket: 'http://dav/blocks/', ...pair },
      'kinds-webdav',
      { webdav: { endpoint: 'http://dav', path: '/blocks', credentials: { secretRef: { name: 'kinds-webdav' } } } },
      { username: 'one', password: 'a2V5' },
    ],
  ];
  for (const [texts, secret, storage, keys] of cases) {
    const found = fileSystemOf(secretOf(texts), 'ml/juice');
    assert.equal(found.obstacle, undefined);
    assert.deepEqual(found.spec['storage'], storage);
    assert.deepEqual(found.secrets[secret], keys);
    // It is also one that the API server would take, once it is filled in.
    assert.ok(volumeSpec.safeParse(found.spec).success, JSON.stringify(found.spec));
  }
});
