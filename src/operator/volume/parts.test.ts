/** The small pure parts of the volume controller: URLs, conflicts, namespaces, Secrets, durability, keys. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { parseJuiceVolume } from '../../api/kinds.ts';
import type { JuiceVolume } from '../../api/volume.ts';
import { parseMetaUrl } from '../../meta/url.ts';
import { parseBucketUrl } from '../../object/s3-url.ts';
import { durabilityOf } from './backends.ts';
import { deepLookIsDue } from './clients.ts';
import { findConflict } from './conflict.ts';
import { isVolumeKey } from '../../meta/redis/keys.ts';
import { allowedNamespaces, matchesSelector } from './namespaces.ts';
import { metaUrl, targetOf } from './target.ts';

function volume(spec: Record<string, unknown> = {}, metadata: Record<string, unknown> = {}, uuid?: string): JuiceVolume {
  const parsed = parseJuiceVolume({
    apiVersion: 'juicepod.io/v1alpha1',
    kind: 'JuiceVolume',
    metadata: { name: 'datasets', namespace: 'data', ...metadata },
    spec: { metadata: { redis: { addresses: ['redis:6379'] } }, storage: { file: { path: '/blocks' } }, ...spec },
  });
  return uuid === undefined ? parsed : { ...parsed, status: { uuid } };
}

test('any password survives the way through the metadata URL', () => {
  fc.assert(
    fc.property(fc.string({ minLength: 1, unit: 'binary' }), fc.string({ unit: 'grapheme' }), (redisPassword, redisUsername) => {
      const parsed = parseMetaUrl(metaUrl(volume().spec, { redisPassword, redisUsername }));
      assert.ok(parsed.kind === 'redis');
      assert.equal(parsed.password, redisPassword);
      assert.equal(parsed.username ?? '', redisUsername);
      assert.deepEqual([parsed.host, parsed.port, parsed.database], ['redis', 6379, 0]);
    }),
  );
});

test('TLS goes into the metadata URL with the authority’s file', () => {
  const tls = { enabled: true, caSecretRef: { name: 'ca' }, serverName: 'redis.example' };
  const { spec } = volume({ metadata: { redis: { addresses: ['[fd00::1]:6380'], database: 3, tls } } });
  const parsed = parseMetaUrl(metaUrl(spec, { ca: 'PEM' }, { ca: '/tmp/a b.crt' }));
  assert.ok(parsed.kind === 'redis');
  assert.deepEqual(parsed.tls, { insecureSkipVerify: false, serverName: 'redis.example', caFile: '/tmp/a b.crt' });
  assert.deepEqual([parsed.host, parsed.port, parsed.database], ['fd00::1', 6380, 3]);
});

test('a bucket is spelled as JuiceFS reads it, wherever it is', () => {
  const cases: readonly [Record<string, unknown>, string, Record<string, string>][] = [
    [{}, 'https://data.s3.us-east-1.amazonaws.com', {}],
    [{ region: 'eu-central-1' }, 'https://data.s3.eu-central-1.amazonaws.com', {}],
    [{ region: 'cn-north-1' }, 'https://data.s3.cn-north-1.amazonaws.com.cn', {}],
    [{ region: 'eu-central-1', forcePathStyle: true }, 'https://s3.eu-central-1.amazonaws.com/data', {}],
    [{ endpoint: 'http://10.0.0.1:9000' }, 'http://10.0.0.1:9000/data', {}],
    [{ endpoint: 'https://s3.example/', region: 'here' }, 'https://s3.example/data', { region: 'here' }],
    [{ endpoint: 'https://s3.example', forcePathStyle: false }, 'https://data.s3.example', { virtualHost: 'true' }],
  ];
  for (const [s3, bucket, override] of cases) {
    const target = targetOf(volume({ storage: { s3: { bucket: 'data', ...s3 } } }), {});
    assert.equal(target.input.bucket, bucket);
    assert.deepEqual(target.override, override);
    assert.equal(parseBucketUrl(bucket, 's3', {}).bucket, 'data');
  }
});

test('of any volumes in one place exactly one has the right to it', () => {
  const some = fc.uniqueArray(
    fc.record({
      name: fc.constantFrom('aaa', 'bbb', 'ccc', 'ddd'),
      created: fc.constantFrom('2026-01-01T00:00:00Z', '2026-01-02T00:00:00Z'),
      uuid: fc.option(fc.constant('x'), { nil: undefined }),
      database: fc.nat(2),
    }),
    { selector: ({ name }) => name, minLength: 1 },
  );
  fc.assert(
    fc.property(some, (list) => {
      const volumes = list.map(({ name, created, uuid, database }) =>
        volume({ metadata: { redis: { addresses: ['redis:6379'], database } } }, { name, creationTimestamp: created }, uuid),
      );
      for (let database = 0; database <= 2; database++) {
        const there = volumes.filter(({ spec }) => spec.metadata.redis?.database === database);
        const winners = there.filter((each) => !findConflict(each, volumes));
        assert.equal(winners.length, Math.min(1, there.length));
        if (there.some(({ status }) => status?.uuid)) assert.ok(winners[0]?.status?.uuid);
      }
    }),
  );
});

test('selectors match as Kubernetes matches', () => {
  const labels = { team: 'ml', stage: 'prod' };
  const matches = (selector: Parameters<typeof matchesSelector>[0]): boolean => matchesSelector(selector, labels);
  assert.ok(matches({}));
  assert.ok(matches({ matchLabels: { team: 'ml' } }));
  assert.ok(!matches({ matchLabels: { team: 'ml', stage: 'test' } }));
  assert.ok(matches({ matchExpressions: [{ key: 'team', operator: 'In', values: ['ml', 'web'] }] }));
  assert.ok(!matches({ matchExpressions: [{ key: 'none', operator: 'In', values: ['ml'] }] }));
  assert.ok(matches({ matchExpressions: [{ key: 'none', operator: 'NotIn', values: ['ml'] }] }));
  assert.ok(!matches({ matchExpressions: [{ key: 'team', operator: 'NotIn', values: ['ml'] }] }));
  assert.ok(
    matches({
      matchExpressions: [
        { key: 'team', operator: 'Exists' },
        { key: 'none', operator: 'DoesNotExist' },
      ],
    }),
  );
  assert.ok(!matches({ matchExpressions: [{ key: 'team', operator: 'DoesNotExist' }] }));
});

test('the system’s, the ending and the opted-out namespaces never get credentials', () => {
  const namespaces = [
    { metadata: { name: 'data' } },
    { metadata: { name: 'web' } },
    { metadata: { name: 'kube-system' } },
    { metadata: { name: 'going', deletionTimestamp: '2026-01-01T00:00:00Z' } },
    { metadata: { name: 'closed', labels: { 'juicepod.io/injection': 'disabled' } } },
  ];
  const allowed = (from: string) => allowedNamespaces(volume({ access: { allowedNamespaces: { from } } }), namespaces);
  assert.deepEqual(allowed('All'), ['data', 'web']);
  assert.deepEqual(allowed('Same'), ['data']);
});

test('durability is read from INFO, and what it does not tell is not known', () => {
  const info = (policy: string, aof: string): string =>
    `# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:${policy}\r\n# Persistence\r\naof_enabled:${aof}\r\n`;
  assert.equal(durabilityOf(info('noeviction', '1')).state, 'durable');
  assert.match(durabilityOf(info('allkeys-lru', '1')).message, /maxmemory-policy is allkeys-lru/);
  assert.match(durabilityOf(info('noeviction', '0')).message, /appendonly/);
  assert.equal(durabilityOf('# Memory\r\n').state, 'unknown');
});

test('the keys of a volume are known, and others’ keys are not taken for them', () => {
  for (const key of [
    'setting',
    'i1',
    'i9223372032828243968',
    'd1',
    'p7',
    'c7_0',
    's9',
    'x3',
    'lockf7',
    'lockp9',
    'locked1',
    'session1',
    'allSessions',
    'sessionInfos',
    'nextinode',
    'nextchunk',
    'nextsession',
    'nextTrash',
    'nextCleanupSlices',
    'usedSpace',
    'totalInodes',
    'lastCleanupFiles',
    'delfiles',
    'delSlices',
    'sliceRef',
    'k1_2',
    'dirUsedSpace',
    'dirUsedInodes',
    'dirDataLength',
    'dirQuota',
    'dirQuotaUsedInodes',
    'userQuotaUsedSpace',
    'groupQuota',
    'acl',
    'aclMaxId',
    'detachedNodes',
    'txnLog',
    'zcommit:a',
  ])
    assert.ok(isVolumeKey(key), key);
  for (const key of ['users', 'i', 'i1x', 'c7', 'session', 'cache:1', 'setting2', 'my:setting', 'd1_1', 'queue', 'dir'])
    assert.ok(!isVolumeKey(key), key);
});

test('what was left behind is looked for every ten minutes where somebody may leave more, hourly where nobody can', () => {
  const minute = 60_000;
  const none = { deletedFiles: 0, unreferencedSlices: 0, staleSessions: 0, observedAt: '2026-01-01T00:00:00Z' };
  const dueAfter = (status: Parameters<typeof deepLookIsDue>[0]): number => {
    const start = Date.parse(none.observedAt);
    return Array.from({ length: 200 }, (_, at) => at).findIndex((at) => deepLookIsDue(status, start + at * minute));
  };
  assert.equal(dueAfter({}), 0);
  assert.equal(dueAfter({ leaks: none }), 60);
  assert.equal(dueAfter({ leaks: none, sessions: { active: 0 } }), 60);
  assert.equal(dueAfter({ leaks: none, sessions: { active: 1 } }), 10);
  for (const left of ['deletedFiles', 'unreferencedSlices', 'staleSessions'])
    assert.equal(dueAfter({ leaks: { ...none, [left]: 1 } }), 10);
});
