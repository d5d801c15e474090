/**
 * Every combination of database, compression and encryption, between the official client and us: both have the volume mounted and write at
 * the same time; what one wrote is read by the other; the official checks find nothing; each loads the dump of the other, and it is the same
 * again. Small files: what is done to larger and stranger ones is in mount.test.ts. Prints a table.
 *
 * Files are written once: the official client up to 1.4.1 reads zstd wrongly where a read covers several slices (docs/interoperability.md).
 * Takes the official client from JUICEFS_BIN.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { encryptionAlgorithms } from '../../src/object/envelope.ts';
import { contentOf, type Form } from '../dump/engines.ts';
import { juicepod } from '../mounted.ts';
import { type Databases, startDatabases } from './matrix-databases.ts';
import { cannotInteroperate, fsck, gc, run, runClean } from './official.ts';
import { type ClientName, type Compression, type EngineName, openPair, otherClient } from './pair.ts';
import { compressible, incompressible } from './scenarios.ts';

const engines: readonly EngineName[] = ['redis', 'sqlite', 'postgres', 'mysql'];
const compressions: readonly Compression[] = ['none', 'lz4', 'zstd'];
const encryptions = ['plain', ...encryptionAlgorithms] as const;
const clients: readonly ClientName[] = ['official', 'ours'];
const BLOCK_KIB = 64;
const sizes = [0, 1, 4095, 65_536, 65_537, 200_000];

const key = join(import.meta.dirname, '../golden/keys/rsa-pkcs8-aes256.pem');
process.env['JFS_RSA_PASSPHRASE'] = 'golden-pass';

/** What a client writes: the name of a file below its mount, and its bytes. */
function filesOf(client: ClientName): ReadonlyMap<string, Buffer> {
  const seed = client === 'ours' ? 1 : 2;
  return new Map(
    sizes.flatMap((size, at) => [
      [`${client}/text-${size}`, compressible(size, seed + at)] as const,
      [`${client}/deep/er/noise-${size}`, incompressible(size, seed + at)] as const,
      [`shared/${client}-${size}`, compressible(size, seed + at * 7)] as const,
    ]),
  );
}

async function write(folder: string, client: ClientName): Promise<void> {
  await mkdir(join(folder, client, 'deep', 'er'), { recursive: true });
  await mkdir(join(folder, 'shared'), { recursive: true });
  for (const [name, bytes] of filesOf(client)) await writeFile(join(folder, name), bytes);
  await symlink('text-1', join(folder, client, 'link'));
}

async function verify(folder: string, client: ClientName, by: string): Promise<void> {
  for (const [name, bytes] of filesOf(client))
    assert.ok(bytes.equals(await readFile(join(folder, name))), `${name} as read by ${by}`);
  assert.deepEqual(await readFile(join(folder, client, 'link')), filesOf(client).get(`${client}/text-1`));
}

/** A dump by a client; keys kept, for what it is loaded into shall be the same volume. */
async function dump(client: ClientName, url: string, path: string, form: Form): Promise<Buffer> {
  const args = ['dump', url, path, '--keep-secret-key', ...(form === 'binary' ? ['--binary'] : [])];
  await (client === 'ours' ? juicepod(args) : run(args));
  return readFileSync(path);
}

async function load(client: ClientName, url: string, path: string, form: Form): Promise<void> {
  const args = ['load', url, path, ...(form === 'binary' ? ['--binary'] : [])];
  await (client === 'ours' ? juicepod(args) : run(args));
}

/** What is the same again when the official client has loaded a JSON dump: it numbers sessions and free inodes anew. */
function comparable(content: unknown): unknown {
  const { Counters, ...rest } = content as { readonly Counters?: Record<string, number> };
  return Counters ? { ...rest, usedSpace: Counters['usedSpace'], usedInodes: Counters['usedInodes'] } : content;
}

/** Dumped by one, loaded by the other, dumped by that: equal, and the copy is sound. */
async function dumpLoadDump(form: Form, from: ClientName, url: string, copyUrl: string, work: string): Promise<void> {
  const path = join(work, `${from}.${form}`);
  const first = await contentOf(form, await dump(from, url, path, form));
  await load(otherClient(from), copyUrl, path, form);
  const second = await contentOf(form, await dump(otherClient(from), copyUrl, join(work, 'second'), form));
  assert.deepEqual(comparable(second), comparable(first), `${form} dumped by ${from}, loaded by the other`);
}

const results = new Map<string, string>();
const cell = (engine: string, compression: string, encryption: string): string => `${engine} ${compression} ${encryption}`;

describe('every combination beside the official client', { skip: cannotInteroperate, concurrency: 2 }, () => {
  after(() => {
    const head = ['database', ...compressions.flatMap((compression) => encryptions.map((each) => `${compression}, ${each}`))];
    const rows = engines.map((engine) => [
      engine,
      ...compressions.flatMap((compression) =>
        encryptions.map((each) => results.get(cell(engine, compression, each)) ?? 'FAILED'),
      ),
    ]);
    for (const row of [head, head.map(() => '---'), ...rows]) console.log(`| ${row.join(' | ')} |`);
  });

  for (const engine of engines)
    describe(engine, () => {
      let folder = '';
      let databases: Databases;
      before(async () => {
        folder = mkdtempSync(join(tmpdir(), 'juicepod-matrix-'));
        databases = await startDatabases(engine, folder);
      });
      after(async () => {
        await databases[Symbol.asyncDispose]();
        rmSync(folder, { recursive: true, force: true });
      });

      for (const [at, compression] of compressions.entries())
        for (const [also, encryption] of encryptions.entries())
          test(`compression ${compression}, ${encryption}`, async () => {
            const [url, spareUrl, otherUrl] = [await databases.newUrl(), await databases.newUrl(), await databases.newUrl()];
            const formattedBy = clients[(at + also) % 2] as ClientName;
            await using pair = await openPair({
              engine,
              compression,
              formattedBy,
              trashDays: 1,
              blockSize: BLOCK_KIB,
              database: { url, spareUrl },
              ...(encryption === 'plain' ? {} : { encryption: { algorithm: encryption, key } }),
            });
            await Promise.all(clients.map((client) => write(pair.folder(client), client)));
            for (const client of clients) await verify(pair.folder(otherClient(client)), client, otherClient(client));
            await Promise.all(clients.map((client) => pair.unmount(client)));
            await fsck(url);
            const { valid, leaked, pending } = await gc(url);
            assert.deepEqual({ leaked, pending, some: valid > 20 }, { leaked: 0, pending: 0, some: true });
            await dumpLoadDump('json', 'ours', url, spareUrl, pair.work);
            await dumpLoadDump('binary', 'official', url, otherUrl, pair.work);
            // The copy is the same volume: what lies in the store is what it names.
            await runClean(['fsck', otherUrl]);
            results.set(cell(engine, compression, encryption), 'equal');
          });
    });
});
