/** A WebDAV server (rclone's) as object store: the promises of every store, and what is its own. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { openObjectStore } from '../../src/object/open.ts';
import { WebdavObjectStore } from '../../src/object/webdav.ts';
import { type KeyedServer, startWebdav } from '../object-servers.ts';
import { conformance, keys } from './conformance.ts';

let server: KeyedServer;
before(async () => {
  server = await startWebdav();
});
after(() => server?.stop());

const open = (path: string, password = server.secretKey): WebdavObjectStore =>
  new WebdavObjectStore({ url: `${server.endpoint}/${path}`, user: server.accessKey, password });

conformance('WebDAV', { make: () => open('con formance/deep') });

test('keys with characters that need encoding are the same file in every call', async () => {
  const store = open('odd');
  for (const key of ['odd/a b', 'odd/a+b', 'odd/a&b=c', "odd/(a)'!*", 'odd/100%', 'odd/ü#?']) {
    await store.put(key, Buffer.from(key));
    assert.equal((await store.get(key)).toString(), key);
    assert.equal((await store.head(key))?.key, key);
    assert.ok((await keys(store, 'odd/')).includes(key), key);
  }
  await store.close();
});

test('a folder is no object: it is neither read nor deleted', async () => {
  const store = open('folders');
  await store.put('a/b', Buffer.from('x'));
  await assert.rejects(store.get('a'), { code: 'NotFound' });
  await store.delete('a');
  assert.equal((await store.get('a/b')).toString(), 'x');
  await store.close();
});

test('what a writer left that died is not listed, and a writer leaves nothing beside its objects', async () => {
  const store = open('temporary');
  await store.put('c/1', Buffer.from('one'));
  const folder = join(server.folder, 'data/temporary/c');
  assert.deepEqual(readdirSync(folder), ['1']);
  writeFileSync(join(folder, '.jfs.2.tmp.77'), 'torn');
  mkdirSync(join(server.folder, 'data/outside'), { recursive: true });
  assert.deepEqual(await keys(store, ''), ['c/1']);
  await assert.rejects(store.put('../outside/x', Buffer.from('x')), { code: 'Invalid' });
  assert.ok(!existsSync(join(server.folder, 'data/outside/x')));
  await store.close();
});

test('a wrong password is AccessDenied, said without it; a volume is opened from the words of its format', async () => {
  const refused = open('x', 'hunter2');
  await assert.rejects(refused.put('a', Buffer.from('a')), (error: Error & { code?: string }) => {
    assert.equal(error.code, 'AccessDenied');
    assert.doesNotMatch(error.message, /hunter2/);
    return true;
  });
  await refused.close();
  const { accessKey, secretKey, endpoint } = server;
  const store = openObjectStore({ storage: 'webdav', bucket: `${endpoint}/by-format/`, name: 'vol', accessKey, secretKey });
  await store.create();
  await store.put('chunks/0/0/1_0_2', Buffer.from('hi'));
  const raw = open('by-format');
  assert.equal((await raw.get('vol/chunks/0/0/1_0_2')).toString(), 'hi');
  await raw.close();
  await store.close();
});
