import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseJuiceVolume } from '../../api/kinds.ts';
import { parseMetaUrl, type RedisUrl } from '../../meta/url.ts';
import { findConflict } from './conflict.ts';
import { resolveSecrets } from './secrets.ts';
import { metaUrl } from './target.ts';

function volume(redis: Record<string, unknown>, name = 'datasets') {
  return parseJuiceVolume({
    apiVersion: 'juicepod.io/v1alpha1',
    kind: 'JuiceVolume',
    metadata: { name, namespace: 'data', uid: name, creationTimestamp: '2026-01-01T00:00:00Z' },
    spec: { metadata: { redis }, storage: { file: { path: `/blocks-${name}` } } },
  });
}

function parsed(redis: Record<string, unknown>, secrets: Parameters<typeof metaUrl>[1] = {}): RedisUrl {
  const url = parseMetaUrl(metaUrl(volume(redis).spec, secrets));
  assert.ok(url.kind === 'redis');
  return url;
}

test('Sentinels, their password and the replicas to wait for go into the metadata URL', () => {
  const redis = {
    addresses: ['s1:26379', '[fd00::1]:26380'],
    sentinel: { masterName: 'main', authSecretRef: { name: 's' } },
    database: 3,
    waitForReplicas: 2,
  };
  const url = parsed(redis, { redisPassword: 'p@', sentinelPassword: 'a&b=c' });
  assert.deepEqual(url.sentinel, {
    master: 'main',
    nodes: [
      { host: 's1', port: 26_379 },
      { host: 'fd00::1', port: 26_380 },
    ],
    password: 'a&b=c',
  });
  assert.deepEqual([url.database, url.password, url.waitReplicas, url.readReplica], [3, 'p@', 2, undefined]);
});

test('several addresses without Sentinels are the nodes of a Cluster', () => {
  const tls = { enabled: true, caSecretRef: { name: 'ca' } };
  const url = parsed({ addresses: ['a:1', 'b:2'], readFrom: 'Replica', tls }, { ca: 'PEM' });
  assert.deepEqual(url.cluster, [
    { host: 'a', port: 1 },
    { host: 'b', port: 2 },
  ]);
  assert.deepEqual([url.readReplica, url.tls?.caFile, url.sentinel], [true, 'ca.crt', undefined]);
});

test('the password of the Sentinels is read from its Secret, and asked for by name where it is missing', async () => {
  const { spec } = volume({ addresses: ['s:1'], sentinel: { masterName: 'm', authSecretRef: { name: 'watch' } } });
  const data = { sentinelPassword: Buffer.from('word').toString('base64') };
  const found = await resolveSecrets(spec, () => Promise.resolve({ metadata: { name: 'watch' }, data } as never));
  assert.deepEqual(found, { ok: true, secrets: { sentinelPassword: 'word' } });
  const missing = await resolveSecrets(spec, () => Promise.resolve(undefined));
  assert.ok(!missing.ok);
  assert.match(missing.message, /Secret watch does not exist.*sentinelPassword/);
});

test('two volumes in one database are found out, in whatever order its servers are given', () => {
  const first = volume({ addresses: ['b:1', 'a:1'] }, 'first');
  const second = volume({ addresses: ['A:1', 'b:1'] }, 'second');
  const other = volume({ addresses: ['a:1', 'b:1'], sentinel: { masterName: 'm' } }, 'other');
  assert.ok(findConflict(second, [first, second]));
  assert.equal(findConflict(other, [first, other]), undefined);
});
