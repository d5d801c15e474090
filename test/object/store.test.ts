/** Every object store keeps the same promises: memory, directory, S3 (a real server that checks signatures), sharded. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import * as fc from 'fast-check';
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

const folder = mkdtempSync(join(tmpdir(), 'juicepod-store-'));
let server: S3Server | undefined;
before(async () => {
  server = await startS3();
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
  'memory under a prefix': () => withPrefix(new MemoryObjectStore(), 'vol/'),
  'S3 under a prefix': () => withPrefix(s3('prefixed', { pageSize: 7 }), 'vol/'),
  'three directories, sharded': () => sharded([0, 1, 2].map((index) => new FileObjectStore(join(folder, `shard-${index}`)))),
  'directory, encrypted': () => encrypted(new FileObjectStore(join(folder, 'encrypted')), chacha),
  'S3 under a prefix, encrypted': () => encrypted(withPrefix(s3('encrypted', { pageSize: 7 }), 'vol/'), envelope),
};

async function keys(store: ObjectStore, prefix: string, from?: string): Promise<string[]> {
  const found: string[] = [];
  for await (const info of store.list(prefix, from === undefined ? {} : { after: from })) found.push(info.key);
  return found;
}

for (const [kind, make] of Object.entries(kinds)) {
  describe(`object store: ${kind}`, () => {
    let store: ObjectStore;
    /** What an object is longer in the store than it was when it was given. */
    const more = kind.includes('encrypted') ? envelope.overhead : 0;
    before(async () => {
      store = make();
      await store.create();
    });
    after(() => store.close());

    test('making what is there already is success', async () => {
      await store.create();
      await store.create();
    });

    test('bytes of any length come back, whole and in ranges', async () => {
      for (const size of [0, 1, 4095, 70_000, 4 * 1024 * 1024 + 1]) {
        const body = Buffer.alloc(size, 'The quick brown fox. ');
        const key = `sizes/${size}`;
        await store.put(key, body);
        assert.ok(body.equals(await store.get(key)), `${size} bytes, whole`);
        const into = Buffer.alloc(size + 10, 0xee);
        const view = await store.get(key, { into });
        assert.equal(view.buffer, into.buffer);
        assert.ok(view.equals(body), `${size} bytes, into a buffer`);
        assert.ok(into.subarray(size).equals(Buffer.alloc(10, 0xee)), 'nothing behind is touched');
        for (const [offset, length] of [
          [0, 1],
          [0, size],
          [1, 2],
          [size - 1, 10],
          [size, 1],
          [size + 5, 5],
          [2, undefined],
          [3, 0],
        ] as const) {
          if (offset < 0) continue;
          const part = await store.get(key, length === undefined ? { offset } : { offset, length });
          const expected = body.subarray(offset, length === undefined ? undefined : offset + length);
          assert.ok(expected.equals(part), `${size} bytes from ${offset}, ${length}: found ${part.length}`);
        }
      }
    });

    test('head tells size and time, and undefined for what is not there', async () => {
      const begun = Date.now();
      await store.put('heads/a', Buffer.from('abc'));
      const info = await store.head('heads/a');
      assert.equal(info?.key, 'heads/a');
      assert.equal(info.size, 3 + more);
      assert.ok(Math.abs(info.modified - begun) < 60_000);
      assert.equal(await store.head('heads/none'), undefined);
      assert.equal(await store.head('heads/a/below'), undefined);
    });

    test('reading what is not there fails with NotFound', async () => {
      for (const key of ['none', 'none/below/that', 'sizes/0/below'])
        await assert.rejects(
          store.get(key),
          (error) => error instanceof ObjectError && error.code === 'NotFound' && !error.retryable,
          key,
        );
    });

    test('an object is written again, deleted, and deleted again', async () => {
      await store.put('again', Buffer.from('one'));
      await store.put('again', Buffer.from('other'));
      assert.equal((await store.get('again')).toString(), 'other');
      await store.delete('again');
      assert.equal(await store.head('again'), undefined);
      await store.delete('again');
      await store.delete('never/was');
    });

    test('a listing is in key order, complete over many pages, and resumes after any key', async () => {
      const names = [
        'b',
        'a/1',
        'a/10',
        'a/2',
        'a-1',
        'a0',
        'a/b/c',
        'a/b-',
        'a/b0',
        ...Array.from({ length: 30 }, (_, i) => `n/${i}_0_${i}`),
      ];
      for (const name of names) await store.put(`list/${name}`, Buffer.from(name));
      const all = names.map((name) => `list/${name}`).toSorted((a, b) => (a < b ? -1 : 1));
      assert.deepEqual(await keys(store, 'list/'), all);
      for (const prefix of ['list/a', 'list/a/', 'list/a/b', 'list/n/1', 'list/zzz', 'list/b'])
        assert.deepEqual(
          await keys(store, prefix),
          all.filter((key) => key.startsWith(prefix)),
          prefix,
        );
      for (const after of [...all, 'list/a/', 'list/c', 'list/n/', 'a', 'z'])
        assert.deepEqual(
          await keys(store, 'list/', after),
          all.filter((key) => key > after),
          `after ${after}`,
        );
    });

    test('a listing tells sizes', async () => {
      await store.put('listed/x', Buffer.alloc(1234));
      for await (const info of store.list('listed/')) assert.equal(info.size, 1234 + more);
    });

    test('a buffer that is too short is an error, not a short answer', async () => {
      await store.put('long', Buffer.alloc(100));
      await assert.rejects(store.get('long', { into: Buffer.alloc(99) }), ObjectError);
    });

    test('an aborted call ends with the reason', async () => {
      const reason = new Error('enough');
      await assert.rejects(store.get('long', { signal: AbortSignal.abort(reason) }));
    });

    test('random puts, gets and deletes agree with a map', async () => {
      const model = new Map<string, Buffer>();
      const step = fc.record({
        key: fc.constantFrom('r/1', 'r/2', 'r/d/3', 'r/d/4'),
        what: fc.constantFrom('put', 'delete', 'get', 'list'),
        body: fc.uint8Array({ maxLength: 50 }),
      });
      await fc.assert(
        fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
          for (const { key, what, body } of steps) {
            if (what === 'put') {
              await store.put(key, Buffer.from(body));
              model.set(key, Buffer.from(body));
            } else if (what === 'delete') {
              await store.delete(key);
              model.delete(key);
            } else if (what === 'list') assert.deepEqual(await keys(store, 'r/'), [...model.keys()].toSorted());
            else {
              const expected = model.get(key);
              if (expected) assert.ok(expected.equals(await store.get(key)));
              else await assert.rejects(store.get(key), { code: 'NotFound' });
            }
          }
        }),
        { numRuns: 15 },
      );
    });
  });
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
