import assert from 'node:assert/strict';
import { test } from 'node:test';
import { UserError } from '../lib/errors.ts';
import type { ServerUrl } from './url-server.ts';
import { describeMetaUrl, parseMetaUrl, redactUrl } from './url.ts';

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
