import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defaultCachePolicy } from './cachepolicy.ts';
import { parseJuiceCachePolicy, parseJuiceVolume } from './kinds.ts';
import { volumeNameOf } from './volume.ts';

const redis = { redis: { addresses: ['redis:6379'] } };
const file = { file: { path: '/data' } };

function volume(spec: Record<string, unknown>, name = 'datasets'): unknown {
  return {
    apiVersion: 'juicepod.io/v1alpha1',
    kind: 'JuiceVolume',
    metadata: { name },
    spec: { metadata: redis, storage: file, ...spec },
  };
}

test('parseJuiceVolume() fills in every default', () => {
  const parsed = parseJuiceVolume(volume({}));
  assert.deepEqual(parsed.spec, {
    metadata: { redis: { addresses: ['redis:6379'], database: 0, tls: { enabled: false } } },
    storage: file,
    format: { blockSize: '4Mi', compression: 'None', trashRetention: '24h', enableACL: false },
    access: { allowedNamespaces: { from: 'Same' }, readOnly: false },
    client: { logLevel: 'info', rollout: { strategy: 'OnNewPods', maxUnavailable: 1, timeout: '5m', paused: false } },
    reclaimPolicy: 'Retain',
    suspend: false,
  });
  assert.equal(volumeNameOf(parsed), 'datasets');
});

test('parseJuiceVolume() keeps metadata as it is', () => {
  const parsed = parseJuiceVolume({ ...(volume({}) as object), metadata: { name: 'datasets', labels: { a: 'b' }, other: 1 } });
  assert.deepEqual(parsed.metadata, { name: 'datasets', labels: { a: 'b' }, other: 1 });
});

const refused: readonly [string, unknown, RegExp][] = [
  [
    'two databases',
    volume({ metadata: { ...redis, sqlite: { path: '/x.db' } } }),
    /spec\.metadata: exactly one of redis, postgres, mysql, sqlite/,
  ],
  ['no database', volume({ metadata: {} }), /spec\.metadata: exactly one of redis, postgres, mysql, sqlite/],
  ['no store', volume({ storage: {} }), /spec\.storage: exactly one of s3, provider, gs, azure, webdav, file/],
  ['a field that does not exist', volume({ storag: {} }), /spec: .*storag/],
  ['the same address twice', volume({ metadata: { redis: { addresses: ['r:1', 'r:1'] } } }), /each address can stand there once/],
  [
    'Sentinels without the name of the master',
    volume({ metadata: { redis: { addresses: ['s:26379'], sentinel: {} } } }),
    /spec\.metadata\.redis\.sentinel\.masterName/,
  ],
  [
    'more replicas than are waited for',
    volume({ metadata: { redis: { addresses: ['r:1'], waitForReplicas: 9 } } }),
    /spec\.metadata\.redis\.waitForReplicas/,
  ],
  ['an address without a port', volume({ metadata: { redis: { addresses: ['redis'] } } }), /spec\.metadata\.redis\.addresses\.0/],
  ['a relative path', volume({ storage: { file: { path: 'data' } } }), /spec\.storage\.file\.path/],
  ['a block size that is no power of two', volume({ format: { blockSize: '3Mi' } }), /blockSize must be a power of two/],
  ['a block size out of range', volume({ format: { blockSize: '32Mi' } }), /between 64Ki and 16Mi/],
  ['a retention of half a day', volume({ format: { trashRetention: '12h' } }), /whole days/],
  ['a selector that nothing asks for', volume({ access: { allowedNamespaces: { selector: {} } } }), /from: Selector/],
  ['no selector', volume({ access: { allowedNamespaces: { from: 'Selector' } } }), /from: Selector/],
  [
    'an authority without TLS',
    volume({ metadata: { redis: { addresses: ['r:1'], tls: { caSecretRef: { name: 'ca' } } } } }),
    /enabled: true/,
  ],
  [
    'an endpoint with a password',
    volume({ storage: { s3: { bucket: 'abc', endpoint: 'http://u:p@h' } } }),
    /spec\.storage\.s3\.endpoint/,
  ],
  ['a name that JuiceFS does not take', volume({}, 'a.b.c'), /without spec\.volumeName/],
  ['another kind', { apiVersion: 'juicepod.io/v1alpha1', kind: 'Pod', metadata: { name: 'x' } }, /kind/],
  ['nothing', null, /JuiceVolume \(without a name\)/],
];
for (const [what, value, message] of refused)
  test(`parseJuiceVolume() refuses ${what} and says where`, () => {
    assert.throws(() => parseJuiceVolume(value), { name: 'UserError', message });
  });

test('the same block size in another spelling is accepted', () => {
  assert.equal(parseJuiceVolume(volume({ format: { blockSize: '4096Ki' } })).spec.format.blockSize, '4096Ki');
  assert.equal(parseJuiceVolume(volume({ format: { blockSize: 65536 } })).spec.format.blockSize, 65536);
});

test('parseJuiceCachePolicy() fills in the defaults that pods without a policy get', () => {
  const parsed = parseJuiceCachePolicy({
    apiVersion: 'juicepod.io/v1alpha1',
    kind: 'JuiceCachePolicy',
    metadata: { name: 'p' },
    spec: {},
  });
  assert.deepEqual(parsed.spec, defaultCachePolicy);
  assert.deepEqual(parsed.spec.writeback, { enabled: false, maxStaging: '4Gi', uploadDelay: '0s', drainTimeout: '60s' });
  assert.deepEqual(parsed.spec.io, { maxUploads: 20, maxDownloads: 200 });
  assert.deepEqual(parsed.spec.local, {
    medium: 'EphemeralDisk',
    size: '4Gi',
    freeSpacePercent: 10,
    eviction: '2-random',
    expire: '0s',
    verifyChecksum: 'extend',
  });
});

test('parseJuiceCachePolicy() refuses write-back where nothing outlives the client, and limits that nobody could work with', () => {
  const parse = (spec: unknown) =>
    parseJuiceCachePolicy({ apiVersion: 'juicepod.io/v1alpha1', kind: 'JuiceCachePolicy', metadata: { name: 'p' }, spec });
  for (const medium of ['Memory', 'None']) {
    assert.throws(
      () => parse({ local: { medium }, writeback: { enabled: true } }),
      /writeback needs local\.medium: EphemeralDisk/,
    );
    assert.equal(parse({ local: { medium } }).spec.writeback.enabled, false);
  }
  assert.equal(parse({ writeback: { enabled: true } }).spec.writeback.enabled, true);
  assert.throws(() => parse({ writeback: { enabled: true, drainTimeout: '2h' } }), /drainTimeout.*at most 1h/s);
  assert.throws(() => parse({ io: { uploadLimit: '1Ki' } }), /uploadLimit.*between 64Ki and 1Ti/s);
  assert.throws(() => parse({ metadata: { maxOpsPerSecond: 0 } }), /maxOpsPerSecond/);
});
