/** Every object store keeps the same promises: memory, directory, S3 (a real server that checks signatures), sharded. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { crc32cPieces } from '../../src/lib/crc32c.ts';
import { encrypted } from '../../src/object/encrypt.ts';
import { openEnvelope } from '../../src/object/envelope.ts';
import { FileObjectStore } from '../../src/object/file.ts';
import { MemoryObjectStore } from '../../src/object/memory.ts';
import { openObjectStore } from '../../src/object/open.ts';
import { withPrefix } from '../../src/object/prefix.ts';
import { parseBucketUrl } from '../../src/object/s3-url.ts';
import { S3ObjectStore } from '../../src/object/s3.ts';
import { sharded } from '../../src/object/shard.ts';
import { CHECKSUM_PIECE, ObjectError, type ObjectStore } from '../../src/object/store.ts';
import { type S3Server, startS3 } from '../servers.ts';
import { conformance, keys } from './conformance.ts';

const folder = mkdtempSync(join(tmpdir(), 'juicepod-store-'));
/** What stands behind the bucket where it is in the host name. */
const DOMAIN = 's3.localhost';
let server: S3Server | undefined;
before(async () => {
  server = await startS3('127.0.0.1', ['--virtual-domain', DOMAIN]);
});
after(async () => {
  await server?.stop();
  rmSync(folder, { recursive: true, force: true });
});

function s3(bucket: string, options: { pageSize?: number; secretKey?: string } = {}): S3ObjectStore {
  assert.ok(server);
  return new S3ObjectStore({
    address: parseBucketUrl(`${server.endpoint}/${bucket}`, 's3', {}),
    accessKey: server.accessKey,
    secretKey: server.secretKey,
    ...options,
  });
}

const key = readFileSync(join(import.meta.dirname, '../golden/keys/rsa-pkcs1.pem'), 'utf8');
const envelope = openEnvelope({ key, passphrase: undefined, algorithm: 'aes256gcm-rsa' });
const chacha = openEnvelope({ key, passphrase: undefined, algorithm: 'chacha20-rsa' });

const kinds: Readonly<Record<string, () => ObjectStore>> = {
  memory: () => new MemoryObjectStore(),
  file: () => new FileObjectStore(join(folder, 'file')),
  S3: () => s3('conformance', { pageSize: 7 }),
  'S3, the bucket in the host name': () => {
    assert.ok(server);
    return new S3ObjectStore({
      address: parseBucketUrl(`http://in-host.${DOMAIN}:${server.port}`, 's3', { JFS_S3_VHOST_STYLE: '1' }),
      accessKey: server.accessKey,
      secretKey: server.secretKey,
      pageSize: 7,
    });
  },
  'memory under a prefix': () => withPrefix(new MemoryObjectStore(), 'vol/'),
  'S3 under a prefix': () => withPrefix(s3('prefixed', { pageSize: 7 }), 'vol/'),
  'three directories, sharded': () => sharded([0, 1, 2].map((index) => new FileObjectStore(join(folder, `shard-${index}`)))),
  'directory, encrypted': () => encrypted(new FileObjectStore(join(folder, 'encrypted')), chacha),
  'S3 under a prefix, encrypted': () => encrypted(withPrefix(s3('encrypted', { pageSize: 7 }), 'vol/'), envelope),
};

for (const [kind, make] of Object.entries(kinds)) {
  const encrypts = kind.includes('encrypted');
  conformance(kind, { make, more: encrypts ? envelope.overhead : 0, parts: kind.includes('S3') && !encrypts });
}

test('a directory shows only whole objects: temporary files are not listed, and none are left behind', async () => {
  const root = join(folder, 'temporary');
  const store = new FileObjectStore(root);
  await store.create();
  await store.put('chunks/0/0/1_0_5', Buffer.from('hello'));
  writeFileSync(join(root, 'chunks/0/0/.jfs.1_1_5.tmp.12345'), 'torn');
  assert.deepEqual(await keys(store, ''), ['chunks/0/0/1_0_5']);
  const umask = process.umask();
  assert.equal(statSync(join(root, 'chunks/0/0/1_0_5')).mode & 0o777, 0o666 & ~umask);
  assert.deepEqual(readdirSync(join(root, 'chunks/0/0')).toSorted(), ['.jfs.1_1_5.tmp.12345', '1_0_5']);
});

test('a key that leaves the directory is refused', async () => {
  const store = new FileObjectStore(join(folder, 'file'));
  for (const key of ['../x', 'a/../../x', '', 'a//b', '/etc/passwd'])
    await assert.rejects(store.put(key, Buffer.alloc(1)), { code: 'Invalid' }, key);
});

test('keys with characters that need encoding are the same object in every call', async () => {
  const store = s3('conformance');
  for (const key of ['odd/a b', 'odd/a+b', 'odd/a&b=c', "odd/(a)'!*", 'odd/100%']) {
    await store.put(key, Buffer.from(key));
    assert.equal((await store.get(key)).toString(), key);
    assert.equal((await store.head(key))?.key, key);
    assert.ok((await keys(store, 'odd/')).includes(key), key);
  }
  await store.close();
});

test("the checksum of an object is JuiceFS's, and its parts are told to who asks", async () => {
  const store = s3('conformance');
  await store.put('sum', Buffer.from('hello'));
  let sums: Uint32Array | undefined;
  await store.get('sum', { onSums: (told) => (sums = told) });
  assert.deepEqual(sums && [...sums], [2591144780]);
  const body = Buffer.alloc(100_000, 'abc');
  await store.put('sums', body);
  await store.get('sums', { onSums: (told) => (sums = told) });
  assert.deepEqual(sums, crc32cPieces(body, CHECKSUM_PIECE));
  sums = undefined;
  await store.get('sums', { offset: 1, length: 10, onSums: (told) => (sums = told) });
  assert.equal(sums, undefined);
  await store.close();
});

test('wrong credentials are AccessDenied, said without the secret', async () => {
  const store = s3('conformance', { secretKey: 'wrong-secret-hunter2' });
  await assert.rejects(store.get('sizes/1'), (error) => {
    assert.ok(error instanceof ObjectError);
    assert.equal(error.code, 'AccessDenied');
    assert.equal(error.status, 403);
    assert.match(error.message, /could not read sizes\/1 \(s3:\/\/conformance at http/);
    assert.doesNotMatch(error.message, /hunter2/);
    return true;
  });
  await store.close();
});

test('a bucket that is not there is NoSuchBucket until it is made', async () => {
  const store = s3('made-later');
  await assert.rejects(store.put('a', Buffer.from('a')), { code: 'NoSuchBucket' });
  await store.create();
  await store.put('a', Buffer.from('a'));
  await store.close();
});

test('a volume is opened from the words of its format', async () => {
  assert.ok(server);
  const common = { name: 'vol', accessKey: server.accessKey, secretKey: server.secretKey };
  const path = `${server.endpoint}/by-format`;
  const store = openObjectStore({ ...common, storage: 's3', bucket: path });
  await store.create();
  await store.put('chunks/0/0/1_0_2', Buffer.from('hi'));
  const raw = s3('by-format');
  assert.equal((await raw.get('vol/chunks/0/0/1_0_2')).toString(), 'hi');
  await raw.close();
  await store.close();
  const many = openObjectStore({ ...common, storage: 'file', bucket: join(folder, 'many-%d'), shards: 4 });
  await many.create();
  await many.put('chunks/0/0/1_0_65536', Buffer.from('x'));
  assert.equal((await many.get('chunks/0/0/1_0_65536')).toString(), 'x');
  for (const bad of [
    { storage: 'ceph', bucket: 'x' },
    { storage: 'file', bucket: 'relative' },
    { storage: 'file', bucket: '/x', shards: 3 },
    { storage: 's3', bucket: 'http://h/bucket', secretKey: '' },
  ])
    assert.throws(() => openObjectStore({ ...common, ...bad }), { code: 'Invalid' }, JSON.stringify(bad));
});
