/**
 * Keys of encrypted volumes between the two clients: one that we made and one that we put under another passphrase are opened by the
 * official client, which goes on meanwhile. What both write and read is in mount.test.ts. Takes the official client from JUICEFS_BIN.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { encryptionAlgorithms } from '../../src/object/envelope.ts';
import { generateEncryptionKey } from '../../src/object/rsa-key.ts';
import { clearMounts, juicepod, startMount } from '../mounted.ts';
import { cannotInteroperate, fsck, mountOfficial, run } from './official.ts';

const VARIABLE = 'JFS_RSA_PASSPHRASE';

describe('the key of an encrypted volume', { skip: cannotInteroperate }, () => {
  for (const algorithm of encryptionAlgorithms)
    for (const by of ['ours', 'official'] as const)
      test(`made by us and its passphrase rotated, opens for the official client (${algorithm}, formatted by ${by})`, async () => {
        const work = mkdtempSync(join(tmpdir(), 'juicepod-keys-'));
        try {
          const url = `sqlite3://${join(work, 'meta.db')}`;
          const key = join(work, 'key.pem');
          writeFileSync(key, await generateEncryptionKey('first pass, käse'));
          process.env[VARIABLE] = 'first pass, käse';
          const where = ['--storage', 'file', '--bucket', `${join(work, 'store')}/`, '--trash-days', '0'];
          const format = ['format', url, 'keys', ...where, '--encrypt-rsa-key', key, '--encrypt-algo', algorithm];
          await (by === 'ours' ? juicepod(format) : run(format));

          const folder = (name: string): string => join(work, name);
          const cached = (name: string): string[] => ['--cache-dir', folder(`cache-${name}`)];
          const content = 'written by the official client; '.repeat(100_000);
          {
            await using official = await mountOfficial(url, folder('one'), cached('one'));
            writeFileSync(`${official.folder}/theirs`, content);
            await juicepod(['rotate-passphrase', url], { JFS_RSA_NEW_PASSPHRASE: 'second' });
            // It holds the key.
            writeFileSync(`${official.folder}/after`, content);
          }
          await assert.rejects(run(['fsck', url]), /private key|incorrect|decrypt/i, 'the old passphrase is none any more');
          await assert.rejects(mountOfficial(url, folder('none'), cached('none')));

          process.env[VARIABLE] = 'second';
          {
            await using ours = await startMount(url, folder('ours'), work);
            for (const name of ['theirs', 'after']) assert.equal(readFileSync(`${ours.folder}/${name}`, 'utf8'), content);
            writeFileSync(`${ours.folder}/ours`, content);
          }
          {
            await using official = await mountOfficial(url, folder('two'), cached('two'));
            for (const name of ['theirs', 'after', 'ours'])
              assert.equal(readFileSync(`${official.folder}/${name}`, 'utf8'), content);
          }
          await fsck(url);
        } finally {
          await clearMounts(work);
          rmSync(work, { recursive: true, force: true });
        }
      });
});
