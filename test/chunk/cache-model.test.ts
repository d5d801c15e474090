/**
 * Any sequence of writes, uses, removals, staging and restarts of a cache on disk: it stays within its bounds, what was just written is
 * there, what is read is what was written, and what is staged is never dropped.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import * as fc from 'fast-check';
import { writeBlock } from '../../src/chunk/block-file.ts';
import { evictions } from '../../src/chunk/cache-index.ts';
import { blockFiles } from '../../src/chunk/disk-files.ts';
import { DiskCaches } from '../../src/chunk/disks.ts';
import { blockKey, BlockGeometry } from '../../src/chunk/key.ts';
import { Block } from '../../src/chunk/pool.ts';
import { pattern, UUID } from './tools.ts';

const root = mkdtempSync(join(tmpdir(), 'juicepod-cache-model-'));
after(() => rmSync(root, { recursive: true, force: true }));

const geometry = new BlockGeometry(64 * 1024);
const step = fc.record({
  kind: fc.constantFrom('write', 'write', 'write', 'read', 'remove', 'evict', 'stage', 'unstage', 'restart'),
  id: fc.integer({ min: 1, max: 30 }),
  index: fc.nat(2),
});
/** Of a block, always the same. */
const lengthOf = (number: number): number => 1 + ((number * 2_654_435) % 20_000);

function filesIn(folders: readonly string[], below: string): string[] {
  return folders.flatMap((folder) => {
    const path = join(folder, UUID, below);
    return existsSync(path)
      ? readdirSync(path, { recursive: true, encoding: 'utf8' }).filter((name) => /\d+_\d+_\d+$/.test(name))
      : [];
  });
}

for (const eviction of evictions)
  for (const count of [1, 3])
    test(`${eviction}, ${count} directories: bounds are kept, and nothing is lost that must not be`, async () => {
      let run = 0;
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 80 }), fc.boolean(), async (steps, byBytes) => {
          const folders = Array.from({ length: count }, (_, at) => join(root, `${eviction}-${count}-${run}-${at}`));
          run++;
          const [maxBytes, maxItems] = byBytes ? [count * 60_000, 1000] : [1e9, count * 4];
          const start = async (): Promise<DiskCaches> => {
            const opened = new DiskCaches({
              folder: folders,
              uuid: UUID,
              geometry,
              hashPrefix: false,
              freeRatio: 0,
              eviction,
              maxBytes,
              maxItems,
            });
            await opened.settled();
            return opened;
          };
          let cache = await start();
          const staged = new Set<number>();
          const stagedAt = (number: number) => {
            const disk = cache.ownerOf(number, lengthOf(number));
            assert.ok(disk);
            const key = blockKey(geometry.id(number), geometry.index(number), lengthOf(number), false);
            return { disk, path: join(disk.folder, 'rawstaging', key) };
          };
          for (const { kind, id, index } of steps) {
            const number = geometry.number(id, index);
            const length = lengthOf(number);
            const data = pattern(length, number);
            if (kind === 'write') {
              const kept = await cache.keep(number, new Block(Buffer.from(data), length));
              assert.ok(kept || eviction === 'none', 'what was just written is there');
            } else if (kind === 'read') {
              const known = cache.has(number);
              const target = Buffer.alloc(length);
              const found = await cache.read(number, length, 0, target);
              assert.equal(found, known);
              if (found) assert.ok(target.equals(data), 'what is read is what was written');
            } else if (kind === 'remove' && !staged.has(number)) {
              cache.remove(number, length);
              await cache.settled();
              assert.equal(cache.has(number), false);
            } else if (kind === 'evict') {
              cache.evict(number, length);
              assert.equal(cache.has(number), staged.has(number));
            } else if (kind === 'stage' && !staged.has(number)) {
              const { disk, path } = stagedAt(number);
              const block = new Block(Buffer.from(data), length);
              await writeBlock(path, block, { root: disk.folder, mode: 0o600, level: 'extend', files: blockFiles });
              disk.stage(number, length);
              staged.add(number);
            } else if (kind === 'unstage' && staged.delete(number)) {
              const { disk, path } = stagedAt(number);
              disk.unstage(number, length, false);
              await blockFiles.unlink(path);
            } else if (kind === 'restart') {
              await cache.close();
              cache = await start();
              for (const each of staged) stagedAt(each).disk.stage(each, lengthOf(each));
            }
            await cache.settled();
            assert.ok(cache.bytes <= maxBytes && cache.blocks <= maxItems, `${cache.blocks} blocks, ${cache.bytes} bytes`);
            for (const each of staged) {
              const target = Buffer.alloc(lengthOf(each));
              assert.ok(await cache.read(each, lengthOf(each), 0, target), 'what is staged is there');
              assert.ok(target.equals(pattern(lengthOf(each), each)));
            }
          }
          await cache.close();
          assert.equal(filesIn(folders, 'rawstaging').length, staged.size);
          assert.ok(filesIn(folders, 'raw').length <= maxItems + staged.size, 'the files are those that are counted');
          for (const folder of folders) rmSync(folder, { recursive: true, force: true });
        }),
        { numRuns: 25, endOnFailure: true },
      );
    });
