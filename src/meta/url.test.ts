import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { UserError } from '../lib/errors.ts';
import type { ServerUrl } from './url-server.ts';
import { describeMetaUrl, parseMetaUrl, type RedisUrl, redactUrl } from './url.ts';

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
  assert.deepEqual(redis('redis://me:p%40ss@[::1]:1/3?read-timeout=1m30s&write_timeout=7&client-cache=true'), {
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

test('a SQLite URL is a path, and a prefix of the tables', () => {
  assert.deepEqual(parseMetaUrl('sqlite3:///var/a b.db'), { kind: 'sqlite', path: '/var/a b.db', tablePrefix: 'jfs_' });
  assert.deepEqual(parseMetaUrl('sqlite3://my.db?table_prefix=abc&_journal=WAL'), {
    kind: 'sqlite',
    path: 'my.db',
    tablePrefix: 'jfs_abc_',
  });
});

test('the URL of a PostgreSQL is taken apart', () => {
  const common = { kind: 'postgres', tablePrefix: 'jfs_', maxConnections: 16, idleTime: 300_000, connectTimeout: 10_000 };
  assert.deepEqual(parseMetaUrl('postgres://me:p%40ss@db:6432/meta?sslmode=disable&search_path=volumes'), {
    ...common,
    host: 'db',
    port: 6432,
    username: 'me',
    password: 'p@ss',
    database: 'meta',
    schema: 'volumes',
    tls: { mode: 'off', verify: 'nothing' },
  });
  assert.deepEqual(
    parseMetaUrl('postgres://me@[::1]/meta?table_prefix=a&max_open_conns=4&max_idle_time=60&connect_timeout=3', {
      META_PASSWORD: 'm',
      REDIS_PASSWORD: 'r',
    }),
    {
      ...common,
      host: '::1',
      port: 5432,
      username: 'me',
      password: 'm',
      database: 'meta',
      tls: { mode: 'preferred', verify: 'nothing' },
      tablePrefix: 'jfs_a_',
      maxConnections: 4,
      idleTime: 60_000,
      connectTimeout: 3000,
    },
  );
  assert.deepEqual(parseMetaUrl('postgres://me@/meta?host=/run/postgresql'), {
    ...common,
    host: 'localhost',
    port: 5432,
    socket: '/run/postgresql',
    username: 'me',
    database: 'meta',
    tls: { mode: 'preferred', verify: 'nothing' },
  });
  const tls = (query: string): unknown => (parseMetaUrl(`postgres://h/d?${query}`) as ServerUrl).tls;
  assert.deepEqual(tls('sslmode=require'), { mode: 'required', verify: 'nothing' });
  assert.deepEqual(tls('sslmode=require&sslrootcert=/ca'), { mode: 'required', verify: 'authority', caFile: '/ca' });
  assert.deepEqual(tls('sslmode=verify-full&sslrootcert=/ca&sslcert=/c&sslkey=/k'), {
    mode: 'required',
    verify: 'name',
    caFile: '/ca',
    certFile: '/c',
    keyFile: '/k',
  });
});

test('the URL of a MySQL is taken apart', () => {
  const server = (url: string): Partial<ServerUrl> => {
    const { kind, host, port, socket, username, password, database, tls } = parseMetaUrl(url) as ServerUrl;
    return {
      kind,
      host,
      port,
      database,
      tls,
      ...(socket ? { socket } : {}),
      ...(username ? { username } : {}),
      ...(password ? { password } : {}),
    };
  };
  const off = { mode: 'off', verify: 'nothing' } as const;
  assert.deepEqual(server('mysql://me:p@ss:50%@(db:3307)/meta'), {
    kind: 'mysql',
    host: 'db',
    port: 3307,
    username: 'me',
    password: 'p@ss:50%',
    database: 'meta',
    tls: off,
  });
  assert.deepEqual(server('mysql://root@tcp(127.0.0.1)/d?tls=skip-verify&charset=utf8mb4'), {
    kind: 'mysql',
    host: '127.0.0.1',
    port: 3306,
    username: 'root',
    database: 'd',
    tls: { mode: 'required', verify: 'nothing' },
  });
  assert.deepEqual(server('mysql://root:a%20b@unix(/run/mysqld/mysqld.sock)/d'), {
    kind: 'mysql',
    host: '',
    port: 0,
    socket: '/run/mysqld/mysqld.sock',
    username: 'root',
    password: 'a b',
    database: 'd',
    tls: off,
  });
});

test('what cannot be used is refused in a sentence, without the password', () => {
  const refuse = (url: string, pattern: RegExp): void => {
    assert.throws(
      () => parseMetaUrl(url),
      (error) => error instanceof UserError && pattern.test(error.message) && !error.message.includes('hunter2'),
      url,
    );
  };
  refuse('', /empty/);
  refuse('redis://:hunter2@', /names no host/);
  refuse('redis://:hunter2@h:99999', /port should be 1 … 65535/);
  refuse('redis://:hunter2@h/x', /database should be a number/);
  refuse('redis://:hunter2@a,b,c:26379/1', /neither Redis Sentinel nor Redis Cluster/);
  refuse('redis://:hunter2@h?color=red', /unknown option "color"/);
  refuse('redis://:hunter2%zz@h', /percent sign/);
  refuse('redis://h?read-timeout=soon', /duration/);
  refuse('redis://::1/0', /square brackets/);
  refuse('sqlite3://', /names no file/);
  refuse('sqlite://x', /sqlite3:\/\//);
  refuse('sqlite3://x.db?table_prefix=a;b', /letters, digits/);
  refuse('etcd://u:hunter2@h/d', /no metadata engine for "etcd:\/\/"/);
  refuse('postgresql://u:hunter2@h/d', /spelled postgres:\/\//);
  refuse('postgres://u:hunter2@h', /names no database/);
  refuse('mysql://u:hunter2@(h:3306)', /names no database/);
  refuse('postgres://u:hunter2@h,i/d', /several hosts/);
  refuse('postgres://u:hunter2@h/d?sslmode=maybe', /sslmode should be one of disable, /);
  refuse('postgres://u:hunter2@h/d?search_path=a,b', /one schema only/);
  refuse('postgres://u:hunter2@h/d?sslcert=/c', /go together/);
  refuse('mysql://u:hunter2@(h)/d?tls=true&tls-cert-file=/c', /go together/);
  refuse('mysql://u:hunter2@(h)/d?tls=preferred&tls-ca-cert-file=/c', /need tls=true/);
  refuse('mysql://u:hunter2@(h)/d?tls=custom', /tls should be one of false, /);
  refuse('mysql://u:hunter2@pipe(h)/d', /network should be tcp or unix/);
  refuse('mysql://u:hunter2@(h)/d?sslmode=disable', /unknown option "sslmode"/);
});

test('a redacted URL and a description hold no password', () => {
  assert.equal(redactUrl('redis://me:p@ss:word@h:1/0'), 'redis://me:****@h:1/0');
  assert.equal(redactUrl('redis://h:1/0'), 'redis://h:1/0');
  assert.equal(redactUrl('postgres://h/d?password=x&a=b'), 'postgres://h/d?password=****&a=b');
  assert.equal(redactUrl('u:secret@h'), 'u:****@h');
  assert.equal(redactUrl('sqlite3:///a/b.db'), 'sqlite3:///a/b.db');
  assert.equal(describeMetaUrl(parseMetaUrl('rediss://u:p@[::1]/1')), 'rediss://[::1]:6379/1');
  assert.equal(describeMetaUrl(parseMetaUrl('unix:///s?db=1')), 'unix:///s?db=1');
  assert.equal(describeMetaUrl(parseMetaUrl('sqlite3://a.db')), 'sqlite3://a.db');
  assert.equal(describeMetaUrl(parseMetaUrl('postgres://u:p@h/d?search_path=s')), 'postgres://h:5432/d?search_path=s');
  assert.equal(describeMetaUrl(parseMetaUrl('mysql://u:p@(h)/d')), 'mysql://(h:3306)/d');
  assert.equal(redactUrl('mysql://u:p@ss@(h:3306)/d'), 'mysql://u:****@(h:3306)/d');
});
