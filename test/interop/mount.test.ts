/**
 * Both clients have one volume mounted, at once: what one has closed, the other sees, byte for byte and fact for fact, whichever
 * made the volume. Afterwards the official checks have nothing to say. Takes the official client from JUICEFS_BIN.
 */
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { cannotInteroperate, fsck, gc } from './official.ts';
import { type ClientName, type Compression, type EngineName, openPair, otherClient, type PairOptions } from './pair.ts';
import { compressible, incompressible, largeFile, ofBlocks, PATCHED, sameTrees, scenarios } from './scenarios.ts';

/**
 * The official client from 1.3.0 to 1.4.1 decompresses zstd past the end of what was asked for, over other slices of the same read
 * (zstd keeps literals there), and its compaction stores what it read: files of several slices are not safe with it. Data that does
 * not compress has no literals to be put there.
 */
const ZSTD_FAULT = 'the official client up to 1.4.1 reads such files wrongly where zstd compressed them';

const engines: readonly EngineName[] = ['redis', 'sqlite'];
const compressions: readonly Compression[] = ['none', 'lz4', 'zstd'];
const clients: readonly ClientName[] = ['official', 'ours'];

const key = (form: string): string => join(import.meta.dirname, '../golden/keys', `rsa-${form}.pem`);
process.env['JFS_RSA_PASSPHRASE'] = 'golden-pass';

const pairs: readonly PairOptions[] = [
  ...engines.flatMap((engine) =>
    compressions.flatMap((compression) => clients.map((formattedBy) => ({ engine, compression, formattedBy }))),
  ),
  // What a block is does not depend on the database.
  { engine: 'postgres', compression: 'none', formattedBy: 'ours' },
  { engine: 'postgres', compression: 'lz4', formattedBy: 'official' },
  { engine: 'mysql', compression: 'none', formattedBy: 'official' },
  { engine: 'mysql', compression: 'lz4', formattedBy: 'ours' },
  { engine: 'redis', compression: 'none', formattedBy: 'ours', storage: 's3' },
  { engine: 'sqlite', compression: 'lz4', formattedBy: 'official', storage: 's3', blockSize: 256, hashPrefix: true },
  {
    engine: 'redis',
    compression: 'none',
    formattedBy: 'ours',
    encryption: { algorithm: 'aes256gcm-rsa', key: key('pkcs8-aes256') },
  },
  {
    engine: 'sqlite',
    compression: 'lz4',
    formattedBy: 'official',
    storage: 's3',
    encryption: { algorithm: 'chacha20-rsa', key: key('pkcs1-aes256') },
  },
  {
    engine: 'redis',
    compression: 'zstd',
    formattedBy: 'official',
    blockSize: 256,
    encryption: { algorithm: 'aes256gcm-rsa', key: key('pkcs1') },
  },
];

describe('a volume mounted by both clients', { skip: cannotInteroperate }, () => {
  for (const options of pairs) {
    const { engine, compression = 'none', formattedBy = 'ours', storage = 'file', encryption } = options;
    const how = `compression ${compression}${encryption ? `, ${encryption.algorithm}` : ''}`;
    test(`in ${engine} and ${storage}, ${how}, formatted by ${formattedBy}`, async (t) => {
      await using pair = await openPair(options);
      const bytes = compression === 'zstd' ? incompressible : compressible;
      // What is the database's alone is tried once for each database and each client that formats.
      const plain = compression === 'none' && storage === 'file' && !encryption;
      const whole = plain || engine === 'postgres' || engine === 'mysql';
      // Each scenario goes both ways in each engine and compression: one way here, the other on the volume that the other client made.
      for (const [at, [title, scenario]] of Object.entries(scenarios).entries()) {
        if (!whole && !ofBlocks.has(title)) continue;
        const by = at % 2 === 0 ? formattedBy : otherClient(formattedBy);
        await t.test(`${title}: ${by} first`, { skip: compression === 'zstd' && title === PATCHED && ZSTD_FAULT }, async () => {
          const folder = `${at}`;
          await mkdir(`${pair.folder(by)}/${folder}`);
          await scenario({
            writer: `${pair.folder(by)}/${folder}`,
            reader: `${pair.folder(otherClient(by))}/${folder}`,
            bytes,
            // PostgreSQL and MySQL have them in 31 bits.
            largest: engine === 'postgres' || engine === 'mysql' ? 2 ** 31 - 1 : 2 ** 32 - 1,
          });
        });
      }
      const large = engine === 'redis' && plain ? [otherClient(formattedBy)] : [];
      for (const by of large)
        await t.test(`a file of several chunks: ${by} first`, () =>
          largeFile({ writer: pair.folder(by), reader: pair.folder(otherClient(by)) }),
        );
      await t.test('seen anew by either, it is one tree', () => sameTrees({ writer: pair.official, reader: pair.ours }));
      await t.test('the official checks find nothing', async () => {
        await pair.unmount('ours');
        await pair.unmount('official');
        await fsck(pair.url);
        const { valid, scanned, skipped } = await gc(pair.url);
        assert.deepEqual({ valid, skipped }, { valid: scanned, skipped: 0 });
        assert.ok(valid > 0);
      });
    });
  }
});
