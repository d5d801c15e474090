import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { crc32cPieces } from '../lib/crc32c.ts';
import { UserError } from '../lib/errors.ts';
import { encrypted } from './encrypt.ts';
import { encryptionAlgorithms, Envelope, openEnvelope } from './envelope.ts';
import { MemoryObjectStore } from './memory.ts';
import { CHECKSUM_PIECE, ObjectError, type ObjectStore } from './store.ts';

const golden = join(import.meta.dirname, '../../test/golden');
const key = readFileSync(join(golden, 'keys/rsa-pkcs1.pem'), 'utf8');
const envelopes = encryptionAlgorithms.map((algorithm) => openEnvelope({ key, passphrase: undefined, algorithm }));
const { privateKey: other } = generateKeyPairSync('rsa', { modulusLength: 2048 });

const open = async (envelope: Envelope, sealed: Buffer): Promise<Buffer> =>
  envelope.open(sealed, Buffer.alloc(envelope.lengthOf(sealed)));

test('an object of the official client is opened', async () => {
  for (const [volume, envelope] of [
    ['none-aes-flat', envelopes[0]],
    ['none-chacha-flat', envelopes[1]],
  ] as const) {
    assert.ok(envelope);
    const uuid = await open(envelope, readFileSync(join(golden, 'matrix', volume, 'store', volume, 'juicefs_uuid')));
    const line = readFileSync(join(golden, 'matrix', volume, 'redis.jsonl'), 'utf8')
      .split('\n')
      .find((each) => each.includes('"setting"'));
    assert.match(uuid.toString(), /^[0-9a-f-]{36}$/);
    assert.ok(line?.includes(uuid.toString()), volume);
  }
});

test('an envelope has the layout of JuiceFS, a new key and nonce each time, and gives back what was put in', async () => {
  for (const envelope of envelopes)
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(fc.nat(2000), fc.constantFrom(0, 1, 16, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 700_001)),
        async (length) => {
          const plain = Buffer.alloc(length, 'some bytes ');
          const [one, two] = [0, 1].map(() => envelope.seal(plain, Buffer.alloc(length + envelope.overhead)));
          assert.ok(one && two);
          assert.equal(one.length, length + 3 + 256 + 12 + 16);
          assert.deepEqual([...one.subarray(0, 3)], [1, 0, 12]);
          assert.notDeepEqual(one.subarray(3, 259), two.subarray(3, 259));
          assert.notDeepEqual(one.subarray(259, 271), two.subarray(259, 271));
          for (const sealed of [one, two]) assert.ok((await open(envelope, sealed)).equals(plain));
        },
      ),
      { numRuns: 40 },
    );
});

test('an object that was changed, cut, or sealed otherwise gives an error and no byte', async () => {
  for (const envelope of envelopes) {
    const objects = new MemoryObjectStore();
    const store = encrypted(objects, envelope);
    const plain = Buffer.alloc(5000, 'plain text ');
    await store.put('a', plain);
    const sealed = await objects.get('a');
    const refuses = async (bytes: Buffer, what: string): Promise<void> => {
      await objects.put('a', bytes);
      const into = Buffer.alloc(6000, 0xee);
      await assert.rejects(
        store.get('a', { into }),
        (error) => error instanceof ObjectError && error.code === 'Corrupt' && error.retryable && !/plain/.test(error.message),
        what,
      );
      assert.ok(!into.includes('plain'), `${what}: nothing that was not verified is left in the buffer`);
      await assert.rejects(store.get('a'), ObjectError, what);
      await assert.rejects(store.get('a', { offset: 10, length: 20 }), ObjectError, what);
    };
    for (let at = 0; at < sealed.length; at += at < 300 || at > sealed.length - 20 ? 1 : 97) {
      const changed = Buffer.from(sealed);
      changed[at]! ^= 1 << (at % 8);
      await refuses(changed, `byte ${at}`);
    }
    for (const length of [0, 1, 2, 3, 258, 259, 271, 286, 287, sealed.length - 1])
      await refuses(sealed.subarray(0, length), `cut to ${length}`);
    await refuses(Buffer.concat([sealed, Buffer.alloc(1)]), 'one byte more');
    await refuses(plain, 'not encrypted');
    const foreign = new Envelope(other, envelope.algorithm);
    await refuses(foreign.seal(plain, Buffer.alloc(6000)), 'another key');
    for (const algorithm of envelopes.filter((each) => each !== envelope))
      await refuses(algorithm.seal(plain, Buffer.alloc(6000)), 'another algorithm');
    await objects.put('a', sealed);
    assert.ok((await store.get('a')).equals(plain), 'and the right bytes are still right');
  }
});

test('what is stored tells nothing of what was written', async () => {
  for (const envelope of envelopes) {
    const objects = new MemoryObjectStore();
    await encrypted(objects, envelope).put('a', Buffer.alloc(100_000, 'tell-tale '));
    assert.ok(!(await objects.get('a')).includes('tell'));
  }
});

test('checksums of what is stored are not given out as those of what was written', async () => {
  for (const envelope of envelopes) {
    const objects = new MemoryObjectStore();
    const summing: ObjectStore = {
      description: 'sums',
      create: () => objects.create(),
      put: (name, body) => objects.put(name, body),
      async get(name, options = {}) {
        const body = await objects.get(name, options);
        options.onSums?.(crc32cPieces(body, CHECKSUM_PIECE));
        return body;
      },
      head: (name) => objects.head(name),
      delete: (name) => objects.delete(name),
      list: (prefix) => objects.list(prefix),
      close: () => objects.close(),
    };
    const store = encrypted(summing, envelope);
    const plain = Buffer.alloc(100_000, 'sum ');
    await store.put('a', plain);
    const sums: Uint32Array[] = [];
    for (const options of [{}, { into: Buffer.alloc(100_000) }, { offset: 1 }])
      await store.get('a', { ...options, onSums: (each) => sums.push(each) });
    for (const each of sums) assert.deepEqual(each, crc32cPieces(plain, CHECKSUM_PIECE));
  }
});

test('many objects at once, of all sizes, do not get into each other', async () => {
  for (const envelope of envelopes) {
    const store = encrypted(new MemoryObjectStore(), envelope);
    const lengths = Array.from({ length: 60 }, (_, i) => (i * 37_501) % 300_000);
    const body = (i: number): Buffer => Buffer.alloc(lengths[i] ?? 0, `${i};`);
    for (let round = 0; round < 3; round++) {
      await Promise.all(lengths.map((_, i) => store.put(`k${i}`, body(i))));
      const found = await Promise.all(lengths.map((length, i) => store.get(`k${i}`, { into: Buffer.alloc(length + (i % 3)) })));
      for (const [i, bytes] of found.entries()) assert.ok(bytes.equals(body(i)), `object ${i}`);
    }
  }
});

test('an algorithm that is not known is refused by name, and none means the default of JuiceFS', () => {
  assert.equal(openEnvelope({ key, passphrase: undefined, algorithm: '' }).algorithm, 'aes256gcm-rsa');
  for (const algorithm of ['sm4gcm', 'rot13'])
    assert.throws(
      () => openEnvelope({ key, passphrase: undefined, algorithm }),
      (error) => error instanceof UserError && error.code === 'UnsupportedEncryption' && error.message.includes(algorithm),
    );
});
