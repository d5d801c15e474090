/**
 * A cache in three directories that both clients use one after the other: what one has cached in them the other reads without the store,
 * and finds in the directory where it would have put it. Takes the official client from JUICEFS_BIN.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { HashRing } from '../../src/chunk/hash-ring.ts';
import { cannotInteroperate } from './official.ts';
import { openPair, otherClient } from './pair.ts';

const BLOCK = 1 << 20;
const BLOCKS = 24;

/** Keys of cached blocks below a cache directory of a volume. */
function keysIn(folder: string): string[] {
  const raw = join(folder, 'raw');
  if (!existsSync(raw)) return [];
  return readdirSync(raw, { recursive: true, encoding: 'utf8' }).filter((name) => /\d+_\d+_\d+$/.test(name));
}

async function eventually(state: () => boolean, what: string): Promise<void> {
  for (let tried = 0; tried < 3000 && !state(); tried++) await new Promise((done) => setTimeout(done, 20));
  assert.ok(state(), what);
}

describe('a cache in three directories', { skip: cannotInteroperate }, () => {
  for (const by of ['official', 'ours'] as const)
    test(`that ${by} has filled serves the other one, block for block`, async () => {
      const other = otherClient(by);
      await using pair = await openPair({ engine: 'sqlite', sharedCache: true, cacheDirectories: 3, blockSize: BLOCK / 1024 });
      const directories = ['1', '2', '3'].map((name) => join(pair.cache('ours'), name));
      for (const client of ['official', 'ours'] as const) await pair.unmount(client);
      const data = randomBytes(BLOCKS * BLOCK);
      await pair.mount(by);
      await writeFile(`${pair.folder(by)}/file`, data, { flush: true });
      await pair.unmount(by);
      // Another time, so that all is read from the store.
      await pair.mount(by);
      assert.ok((await readFile(`${pair.folder(by)}/file`)).equals(data));
      const [uuid = ''] = readdirSync(directories[0] ?? '').filter((name) => /^[0-9a-f-]{36}$/.test(name));
      const folders = directories.map((directory) => join(directory, uuid));
      await eventually(() => folders.flatMap(keysIn).length === BLOCKS, 'all blocks are cached');
      await pair.unmount(by);
      const ring = new HashRing(folders.map((folder) => readFileSync(join(folder, '.lock'), 'utf8')));
      for (const [at, folder] of folders.entries()) for (const key of keysIn(folder)) assert.equal(ring.owner(key), at, key);
      assert.ok(folders.filter((folder) => keysIn(folder).length > 0).length > 1, 'in more than one directory');
      // Without its objects only the cache can serve.
      const [chunks, away] = [join(pair.objects, 'chunks'), join(pair.objects, 'away')];
      renameSync(chunks, away);
      await pair.mount(other);
      assert.ok((await readFile(`${pair.folder(other)}/file`)).equals(data), `what ${by} has cached, read by ${other}`);
      await pair.unmount(other);
      renameSync(away, chunks);
    });
});
