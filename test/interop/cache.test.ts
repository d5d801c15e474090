/**
 * The block cache on disk: both clients write the same files there, and either serves what the other has left. Takes the official client
 * from JUICEFS_BIN.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { cannotInteroperate } from './official.ts';
import { type ClientName, openPair, otherClient } from './pair.ts';
import { compressible } from './scenarios.ts';

const clients: readonly ClientName[] = ['official', 'ours'];
const BLOCK = 1 << 20;
/** Four blocks, the last one not whole. */
const contents = compressible(3 * BLOCK + 70_001, 1);

/** Blocks in a cache folder (that of the one volume that uses it), by path. */
function blocks(folder: string): Map<string, Buffer> {
  const found = new Map<string, Buffer>();
  const [uuid] = readdirSync(folder);
  const root = join(folder, uuid ?? '', 'raw');
  for (const entry of readdirSync(root, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isFile() && /^\d+_\d+_\d+$/.test(entry.name)) found.set(path.slice(root.length), readFileSync(path));
  }
  return found;
}

/** Blocks are put into the cache beside the reads that brought them. */
async function untilCached(folder: string): Promise<Map<string, Buffer>> {
  for (let attempt = 0; ; attempt++) {
    try {
      const found = blocks(folder);
      if (found.size === 4) return found;
    } catch {
      // Not there yet.
    }
    assert.ok(attempt < 3600, `four blocks in ${folder}`);
    await new Promise((done) => setTimeout(done, 25));
  }
}

describe('the cache on disk', { skip: cannotInteroperate }, () => {
  for (const compression of ['none', 'lz4'] as const)
    test(`holds the same files whichever client reads (compression ${compression})`, async () => {
      await using pair = await openPair({ engine: 'sqlite', compression, blockSize: BLOCK / 1024 });
      await writeFile(`${pair.ours}/file`, contents);
      for (const client of clients) await pair.unmount(client);
      for (const client of clients) rmSync(pair.cache(client), { recursive: true, force: true });
      for (const client of clients) await pair.mount(client);
      for (const client of clients) assert.ok((await readFile(`${pair.folder(client)}/file`)).equals(contents), client);
      const [theirs, mine] = [await untilCached(pair.cache('official')), await untilCached(pair.cache('ours'))];
      assert.deepEqual([...mine.keys()].toSorted(), [...theirs.keys()].toSorted());
      for (const [path, block] of theirs) assert.ok(mine.get(path)?.equals(block), path);
    });

  for (const by of clients)
    test(`filled by ${by}, serves the other when the object store has nothing`, async () => {
      await using pair = await openPair({ engine: 'redis', sharedCache: true, blockSize: BLOCK / 1024 });
      const other = otherClient(by);
      await writeFile(`${pair.folder(other)}/file`, contents);
      for (const client of clients) await pair.unmount(client);
      rmSync(pair.cache(by), { recursive: true, force: true });
      await pair.mount(by);
      assert.ok((await readFile(`${pair.folder(by)}/file`)).equals(contents));
      await untilCached(pair.cache(by));
      rmSync(join(pair.objects, 'chunks'), { recursive: true });
      await pair.mount(other);
      assert.ok((await readFile(`${pair.folder(other)}/file`)).equals(contents));
    });
});
