import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { UserError } from '../lib/errors.ts';
import { describeMetaUrl, parseMetaUrl, type RedisUrl } from './url.ts';

const redis = (url: string, environment = {}): RedisUrl => {
  const parsed = parseMetaUrl(url, environment);
  assert.equal(parsed.kind, 'redis');
  return parsed;
};

const times = { readTimeout: 30_000, writeTimeout: 5000, minRetryBackoff: 20, maxRetryBackoff: 10_000 };

test('a Redis address is taken apart as JuiceFS does it', () => {
  assert.deepEqual(redis('redis://h'), { kind: 'redis', host: 'h', port: 6379, database: 0, ...times });
  assert.deepEqual(redis('127.0.0.1:6380/2'), { kind: 'redis', host: '127.0.0.1', port: 6380, database: 2, ...times });
  assert.deepEqual(redis('redis://:6380'), { kind: 'redis', host: 'localhost', port: 6380, database: 0, ...times });
  assert.deepEqual(redis('redis://me:p%40ss@[::1]:1/3?read-timeout=1m30s&write_timeout=7&client-cache=false'), {
    kind: 'redis',
    host: '::1',
    port: 1,
    database: 3,
    username: 'me',
    password: 'p@ss',
    ...times,
    readTimeout: 90_000,
    writeTimeout: 7000,
  });
  assert.deepEqual(redis('unix://:pw@/run/redis.sock?db=4'), {
    kind: 'redis',
    host: '',
    port: 0,
    socket: '/run/redis.sock',
    database: 4,
    password: 'pw',
    ...times,
  });
});

test('TLS is on with rediss:// only, and its files go with it', () => {
  assert.equal(redis('redis://h?insecure-skip-verify=1').tls, undefined);
  assert.deepEqual(redis('rediss://h').tls, { insecureSkipVerify: false });
  assert.deepEqual(
    redis('rediss://h?insecure-skip-verify=1&tls-cert-file=/c&tls-key-file=/k&tls-ca-cert-file=/ca&tls-server-name=n').tls,
    { insecureSkipVerify: true, serverName: 'n', certFile: '/c', keyFile: '/k', caFile: '/ca' },
  );
  assert.throws(() => redis('rediss://h?tls-cert-file=/c'), /go together/);
});

test('a password with separators in it is read as it is meant', () => {
  assert.deepEqual(
    [redis('redis://:a@b:c/d?e@h:1/2')].map(({ password, host, port, database }) => [password, host, port, database]),
    [['a@b:c/d?e', 'h', 1, 2]],
  );
});

test('a missing password comes from the environment, in the order of JuiceFS', () => {
  const folder = mkdtempSync(join(tmpdir(), 'juicepod-url-'));
  try {
    const file = join(folder, 'password');
    writeFileSync(file, ' from-file\n');
    const all = { REDIS_PASSWORD: 'r', META_PASSWORD: 'm', META_PASSWORD_FILE: file };
    assert.equal(redis('redis://:own@h', all).password, 'own');
    assert.equal(redis('redis://h', all).password, 'r');
    assert.equal(redis('redis://user@h', { ...all, REDIS_PASSWORD: '' }).password, 'm');
    assert.equal(redis('redis://h', { META_PASSWORD_FILE: file }).password, 'from-file');
    assert.equal(redis('redis://h', {}).password, undefined);
    assert.throws(
      () => redis('redis://h', { META_PASSWORD_FILE: join(folder, 'none') }),
      (error) => error instanceof UserError && error.code === 'PasswordFile' && /no such file/.test(error.message),
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('a master that Sentinels know, and the nodes of a Cluster, are told apart as JuiceFS does it', () => {
  const shape = (url: string, environment = {}): unknown => {
    const { sentinel, cluster, host, port, database, password } = redis(url, environment);
    return { ...(sentinel ? { sentinel } : { host, port }), ...(cluster ? { cluster } : {}), database, password };
  };
  assert.deepEqual(shape('redis://:pw@main,a,b:1111,c:26380/2', { SENTINEL_PASSWORD: 's', REDIS_PASSWORD: 'r' }), {
    sentinel: {
      master: 'main',
      nodes: [
        { host: 'a', port: 26_380 },
        { host: 'b', port: 1111 },
        { host: 'c', port: 26_380 },
      ],
      password: 's',
    },
    database: 2,
    password: 'pw',
  });
  assert.deepEqual(shape('redis://main,a:5,b/1'), {
    sentinel: {
      master: 'main',
      nodes: [
        { host: 'a', port: 5 },
        { host: 'b', port: 26_379 },
      ],
    },
    database: 1,
    password: undefined,
  });
  assert.equal(redis('redis://main,a:1?sentinel-password=a%26b', { SENTINEL_PASSWORD: 's' }).sentinel?.password, 'a&b');
  assert.deepEqual(shape('rediss://u:p@a:1,[::2]:3,c/7'), {
    host: 'a',
    port: 1,
    cluster: [
      { host: 'a', port: 1 },
      { host: '::2', port: 3 },
      { host: 'c', port: 6379 },
    ],
    database: 7,
    password: 'p',
  });
});

test('reading from a replica, waiting for replicas and a cache are asked for in the query', () => {
  assert.equal(redis('redis://h?route-read=replica').readReplica, true);
  assert.equal(redis('redis://h?route_read=latency').readReplica, true);
  assert.equal(redis('redis://h?route-read=master').readReplica, undefined);
  assert.equal(redis('redis://h?wait-replicas=2').waitReplicas, 2);
  assert.equal(redis('redis://h?wait-replicas=0').waitReplicas, undefined);
  assert.deepEqual(redis('redis://h?client-cache=true').clientCache, { size: 12_800, expire: 60_000 });
  assert.deepEqual(
    redis('redis://h?client-cache=1&client-cache-size=5&client-cache-expire=2s&client-cache-preload=9').clientCache,
    {
      size: 5,
      expire: 2000,
      preload: 9,
    },
  );
  assert.equal(redis('redis://h?client-cache=false&client-cache-size=5').clientCache, undefined);
});

test('what cannot be used is refused in a sentence, without the password', () => {
  const refuse = (url: string, pattern: RegExp): void => {
    assert.throws(
      () => parseMetaUrl(url),
      (error) => error instanceof UserError && pattern.test(error.message) && !error.message.includes('hunter2'),
      url,
    );
  };
  refuse('redis://:hunter2@', /names no host/);
  refuse('redis://:hunter2@h:99999', /port should be 1 … 65535/);
  refuse('redis://:hunter2@h/x', /database should be a number/);
  refuse('redis://:hunter2@a,b,c/1', /several hosts and no port.*MASTER,host1,host2:26379/);
  refuse('redis://:hunter2@main,a,,b:26379/1', /nothing between two of the commas/);
  refuse('redis://:hunter2@,a:1/1', /nothing between two of the commas/);
  refuse('redis://:hunter2@a:1,b:x/1', /"b:x" is not host:port/);
  refuse('redis://:hunter2@main,a:99999/1', /port should be 1 … 65535/);
  refuse(`redis://:hunter2@${Array.from({ length: 70 }, () => 'a:1').join(',')}/1`, /names 70 hosts; 64/);
  refuse('redis://:hunter2@h?route-read=somewhere', /route-read should be replica or master/);
  refuse('redis://:hunter2@h?wait-replicas=many', /wait-replicas should be a number from 0 to 8, it is "many"/);
  refuse('redis://:hunter2@h?client-cache=1&client-cache-size=0', /client-cache-size should be a number from 1/);
  refuse('redis://h?sentinel-password=hunter2', /names no Sentinels/);
  refuse('redis://:hunter2@h?color=red', /unknown option "color"/);
  refuse('redis://:hunter2%zz@h', /percent sign/);
  refuse('redis://h?read-timeout=soon', /duration/);
  refuse('redis://::1/0', /square brackets/);
});

test('a description names all hosts and no password', () => {
  assert.equal(describeMetaUrl(redis('redis://:p@main,a,b:26380/2')), 'redis://main,a:26380,b:26380/2');
  assert.equal(describeMetaUrl(redis('rediss://:p@a:1,[::1]:2/3')), 'rediss://a:1,[::1]:2/3');
});
