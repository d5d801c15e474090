/**
 * Volumes in stores other than the usual, written by one client and read by the other (JUICEFS_BIN names the official one). It is built
 * without WebDAV and Azure here: what we wrote by WebDAV it reads from the server's folder.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { inScratch, succeeds } from '../cli/command.ts';
import { startAzurite, startMinio, startWebdav } from '../object-servers.ts';
import { juicefs } from '../tools.ts';
import { run as official } from './official.ts';

const skip = juicefs() ? false : 'JUICEFS_BIN names no official client';

/** A folder to copy, with a file of several blocks. */
function plant(folder: string): string {
  const from = join(folder, 'from');
  mkdirSync(join(from, 'sub'), { recursive: true });
  writeFileSync(join(from, 'small'), 'small');
  writeFileSync(join(from, 'sub/large'), Buffer.alloc(9 * 1024 * 1024 + 5, 'large file '));
  return from;
}

const same = (a: string, b: string): void => void execFileSync('diff', ['-r', a, b]);

test('a volume in MinIO: what each client writes, the other reads, and the official fsck finds nothing', { skip }, async () => {
  await using server = await startMinio();
  await inScratch(async (folder) => {
    const from = plant(folder);
    for (const [made, other] of [
      ['ours', 'theirs'],
      ['theirs', 'ours'],
    ] as const) {
      const url = `sqlite3://${join(folder, `${made}.db`)}`;
      const env = { vol: url };
      const keys = ['--access-key', server.accessKey, '--secret-key', server.secretKey];
      const format = ['format', url, `vol-${made}`, '--storage', 'minio', '--bucket', `${server.endpoint}/bucket`, ...keys];
      const copy = async (who: 'ours' | 'theirs', a: string, b: string): Promise<void> =>
        void (await (who === 'ours' ? succeeds(['sync', a, b], { env }) : official(['sync', a, b], env)));
      await (made === 'ours' ? succeeds(format) : official(format));
      await copy(made, `${from}/`, 'jfs://vol/one/');
      await copy(other, 'jfs://vol/one/', `${folder}/out-${made}/`);
      same(from, `${folder}/out-${made}`);
      await copy(other, `${from}/`, 'jfs://vol/two/');
      await copy(made, 'jfs://vol/two/', `${folder}/back-${made}/`);
      same(from, `${folder}/back-${made}`);
      assert.doesNotMatch((await official(['fsck', url])).stderr, /missing|lost|broken/i);
    }
  });
});

test('a volume by WebDAV has its blocks where the official client has them in a folder', { skip }, async () => {
  await using server = await startWebdav();
  await inScratch(async (folder) => {
    const from = plant(folder);
    const url = `sqlite3://${join(folder, 'meta.db')}`;
    const keys = ['--access-key', server.accessKey, '--secret-key', server.secretKey];
    await succeeds(['format', url, 'testvol', '--storage', 'webdav', '--bucket', `${server.endpoint}/in/here`, ...keys]);
    await succeeds(['sync', `${from}/`, 'jfs://vol/'], { env: { vol: url } });
    await succeeds(['sync', 'jfs://vol/', `${folder}/ours/`], { env: { vol: url } });
    same(from, `${folder}/ours`);
    await official(['config', url, '--yes', '--storage', 'file', '--bucket', join(server.folder, 'data/in/here/')]);
    await official(['sync', 'jfs://vol/', `${folder}/theirs/`], { vol: url });
    same(from, `${folder}/theirs`);
  });
});

test('a volume in Azure Blob keeps what is written to it, blocks encrypted and compressed too', async () => {
  await using server = await startAzurite();
  await inScratch(async (folder) => {
    const from = plant(folder);
    const key = join(import.meta.dirname, '../golden/keys/rsa-pkcs1.pem');
    for (const [name, more] of [
      ['plain', []],
      ['secret', ['--encrypt-rsa-key', key, '--compress', 'zstd']],
    ] as const) {
      const url = `sqlite3://${join(folder, `${name}.db`)}`;
      const env = { AZURE_STORAGE_CONNECTION_STRING: server.connection, vol: url };
      await succeeds(['format', url, `vol-${name}`, '--storage', 'wasb', '--bucket', 'https://container', ...more], { env });
      await succeeds(['sync', '--check-new', `${from}/`, 'jfs://vol/'], { env });
      await succeeds(['sync', 'jfs://vol/', `${folder}/${name}/`], { env });
      same(from, `${folder}/${name}`);
    }
  });
});
