/**
 * Encrypted volumes: those of the official client are read whole, from their metadata to the last byte, and a store that was tampered
 * with gives an error to who reads a file, never other bytes. Golden data: test/golden/matrix.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import * as fc from 'fast-check';
import { openChunkStore } from '../../src/chunk/store.ts';
import type { ChunkStore } from '../../src/chunk/types.ts';
import { UserError } from '../../src/lib/errors.ts';
import { envelopeOf } from '../../src/meta/encryption.ts';
import { parseFormat, serialiseFormat } from '../../src/meta/format.ts';
import { openEngine, openMeta } from '../../src/meta/open.ts';
import { type Meta, NodeType, SYSTEM } from '../../src/meta/types.ts';
import { ROOT_INO } from '../../src/lib/int64.ts';
import { encryptionAlgorithms, openEnvelope } from '../../src/object/envelope.ts';
import type { Fault } from '../../src/object/faults.ts';
import { measured, RequestFigures } from '../../src/object/measured.ts';
import { MemoryObjectStore } from '../../src/object/memory.ts';
import { openObjectStore } from '../../src/object/open.ts';
import { goldenRoot, loadRedis, readManifest } from '../meta/golden-volume.ts';
import { startRedis } from '../servers.ts';
import { BLOCK, is, keysOf, open, pattern, UUID, write } from './tools.ts';

const volumes = [
  ...['none', 'lz4', 'zstd'].flatMap((compression) => [`${compression}-aes-flat`, `${compression}-chacha-flat`]),
  'lz4-aes-pkcs1-passphrase',
  'zstd-chacha-pkcs8-passphrase',
];

let redis: Awaited<ReturnType<typeof startRedis>> | undefined;
before(async () => {
  redis = await startRedis();
});
after(() => redis?.stop());

function storeOf(volume: string, { format }: Meta, passphrase: string | undefined): ChunkStore {
  const objects = openObjectStore({
    storage: 'file',
    bucket: join(goldenRoot, 'matrix', volume, 'store'),
    name: format.name,
    encryption: envelopeOf(format, passphrase),
  });
  const { compression, hashPrefix, blockSize } = format;
  return openChunkStore({ objects, compression, hashPrefix, blockSize: blockSize * 1024, uuid: UUID });
}

for (const [index, volume] of volumes.entries())
  test(`the encrypted volume ${volume} of the official client is read whole`, async () => {
    const url = redis?.url(index) ?? '';
    await loadRedis(`matrix/${volume}`, url);
    const engine = await openEngine(url);
    const setting = (await engine.readSetting()) ?? '';
    await engine.close();
    assert.equal(serialiseFormat(parseFormat(setting)), setting);
    await using stack = new AsyncDisposableStack();
    const meta = stack.adopt(await openMeta(url, { readOnly: true }), (each) => each.close());
    const guarded = volume.endsWith('passphrase');
    if (guarded)
      for (const [passphrase, code] of [
        [undefined, 'PassphraseMissing'],
        ['golden-puss', 'PassphraseWrong'],
      ] as const)
        assert.throws(
          () => envelopeOf(meta.format, passphrase),
          (error) => error instanceof UserError && error.code === code,
        );
    const store = stack.adopt(storeOf(volume, meta, guarded ? 'golden-pass' : undefined), (each) => each.close());
    const manifest = readManifest(`matrix/${volume}`);
    let files = 0;
    for await (const batch of meta.readdir(SYSTEM, ROOT_INO, true))
      for (const { name, ino, attr } of batch) {
        if (attr?.type !== NodeType.File) continue;
        const content = Buffer.alloc(attr.length);
        for (const { id, size, pos, off, len } of await meta.readChunk(ino, 0))
          await store.read({ id, size }, off, content.subarray(pos, pos + len));
        const wanted = manifest.get(`/${name.toString()}`)?.sha256;
        assert.equal(createHash('sha256').update(content).digest('hex'), wanted, name.toString());
        files++;
      }
    assert.equal(files, 3);
  });

for (const algorithm of encryptionAlgorithms)
  for (const compression of ['none', 'lz4', 'zstd'])
    test(`a store that was tampered with gives EIO and never other bytes (${algorithm}, ${compression})`, async () => {
      const key = readFileSync(join(goldenRoot, 'keys/rsa-pkcs8.pem'), 'utf8');
      const encryption = openEnvelope({ key, passphrase: undefined, algorithm });
      const objects = new MemoryObjectStore();
      const writer = open(objects, { compression }, undefined, encryption);
      const data = pattern(2 * BLOCK + 5000, 1);
      const slice = await write(writer, 1, data);
      await writer.close();
      assert.equal((await keysOf(objects)).length, 3);
      await fc.assert(
        fc.asyncProperty(fc.nat(), fc.nat(), fc.nat(), fc.boolean(), async (at, from, length, cut) => {
          const fault: Fault = cut ? { kind: 'truncate', length: at % 5000 } : { kind: 'flip', at };
          const store = open(
            objects,
            { compression, corruptRetries: 1 },
            (operation) => (operation === 'get' ? fault : undefined),
            encryption,
          );
          const offset = from % data.length;
          const target = Buffer.alloc(1 + (length % Math.min(2 * BLOCK, data.length - offset)));
          await assert.rejects(store.read(slice, offset, target), is('EIO'));
          await assert.rejects(store.read(slice, offset, target), is('EIO'), 'nor does it come from a cache afterwards');
          assert.ok(
            target.every((byte) => byte === 0),
            'and nothing was given out',
          );
          await store.close();
        }),
        { numRuns: 25 },
      );
    });

test('a small read fetches an encrypted block whole, and those after it need no request', async () => {
  const key = readFileSync(join(goldenRoot, 'keys/rsa-pkcs8.pem'), 'utf8');
  const encryption = openEnvelope({ key, passphrase: undefined, algorithm: 'aes256gcm-rsa' });
  const objects = new MemoryObjectStore();
  const writer = open(objects, {}, undefined, encryption);
  const data = pattern(BLOCK, 2);
  const slice = await write(writer, 1, data);
  await writer.close();
  const requests = new RequestFigures('');
  const reader = open(measured(objects, requests), {}, undefined, encryption);
  for (const offset of [1000, 5000, 60_000, 0]) {
    const target = Buffer.alloc(100);
    await reader.read(slice, offset, target);
    assert.ok(target.equals(data.subarray(offset, offset + 100)));
  }
  await reader.close();
  assert.equal(requests.count('GET'), 1);
});
