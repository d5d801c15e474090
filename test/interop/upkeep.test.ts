/**
 * Looking after one volume with both clients' commands: both find the same garbage and the same damage, and neither finds any after the
 * other has cleaned up. Damage is made at random: blocks lost and added, lists of slices lost, link counts and statistics wrong.
 * Takes the official client from JUICEFS_BIN.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { blockKey } from '../../src/chunk/key.ts';
import { formatIno, type Ino, ROOT_INO, TRASH_INO } from '../../src/lib/int64.ts';
import { destroyVolume } from '../../src/maintenance/destroy.ts';
import { restoreHour } from '../../src/meta/maintenance/restore.ts';
import { hourName } from '../../src/meta/trash.ts';
import { NodeType } from '../../src/meta/types.ts';
import { openWorld, root, settle, type World } from '../maintenance/world.ts';
import { startDatabase } from '../servers.ts';
import { cannotInteroperate, gc, run } from './official.ts';
import type { EngineName } from './pair.ts';

const engines: readonly EngineName[] = ['redis', 'sqlite', 'postgres', 'mysql'];

/** The same numbers every time. */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => (state = (state * 48_271) % 2_147_483_647) % below;
}

/** What the official check says is broken: inodes, or undefined where all is well. */
async function officialFsck(
  url: string,
  ...options: readonly string[]
): Promise<{ readonly ok: boolean; readonly inodes: readonly string[] }> {
  try {
    await run(['fsck', url, ...options]);
    return { ok: true, inodes: [] };
  } catch (error) {
    const inodes = [...String(error).matchAll(/^ *(\d+): \//gm)].map(([, inode = '']) => inode);
    return { ok: false, inodes: inodes.toSorted() };
  }
}

/** Paths below a directory, with the lengths of files. */
async function paths(world: World, directory: Ino = ROOT_INO, above = ''): Promise<string[]> {
  const found: string[] = [];
  for await (const batch of world.engine.scanEntries(directory, 100))
    for (const { name, ino, type } of batch) {
      const path = `${above}/${name.toString('latin1')}`;
      const [attr] = await world.engine.nodes([ino]);
      found.push(`${path} ${attr?.type} ${attr?.length} ${attr?.nlink}`);
      if (type === NodeType.Directory) found.push(...(await paths(world, ino, path)));
    }
  return found.toSorted();
}

for (const name of engines)
  describe(`a volume in ${name} that both look after`, { skip: cannotInteroperate }, () => {
    let folder = '';
    let database: Awaited<ReturnType<typeof startDatabase>> | undefined;
    let used = 0;
    before(async () => {
      folder = mkdtempSync(join(tmpdir(), 'juicepod-upkeep-'));
      database = await startDatabase(name, folder);
    });
    after(async () => {
      await database?.[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true, force: true });
    });
    const newUrl = (): string => {
      const url = database?.url ?? '';
      used++;
      if (name === 'redis') return url.replace(/\d+$/, String(used));
      if (name === 'sqlite') return url.replace('meta.db', `meta${used}.db`);
      return `${url}?table_prefix=u${used}`;
    };

    /** Some directories and files, some overwritten, some removed. */
    async function filled(t: Parameters<typeof openWorld>[0], trashDays: number, seed: number) {
      const world = await openWorld(t, newUrl(), { format: { trashDays } });
      const random = numbers(seed);
      const directories: Ino[] = [ROOT_INO];
      const files: Ino[] = [];
      for (let at = 0; at < 6; at++)
        directories.push(await world.mkdir(directories[random(directories.length)] ?? ROOT_INO, `d${at}`));
      for (let at = 0; at < 14; at++) {
        const parent = directories[random(directories.length)] ?? ROOT_INO;
        const file = await world.file(parent, `f${at}`, random(200_000));
        files.push(file);
        if (at % 3 === 0)
          for (let more = 0; more < 4; more++) await world.write(file, random(10_000), Buffer.alloc(1 + random(5000), more));
        if (at % 5 === 4) await world.meta.unlink(root, parent, Buffer.from(`f${at}`));
      }
      await world.gc({ compact: true });
      await settle(world);
      return { world, random, directories, files };
    }

    for (const trashDays of [0, 1])
      test(`both count the same objects, leaked ones too, and what one deletes the other misses no more (trash: ${trashDays})`, async (t) => {
        const { world, random } = await filled(t, trashDays, 7 + trashDays);
        const { url, objects } = world;
        const compare = async (): Promise<void> => {
          const ours = await world.gc();
          const theirs = await gc(url);
          assert.deepEqual(
            {
              scanned: ours.scanned,
              valid: ours.valid.objects,
              pending: ours.pendingDelete.objects,
              compacted: ours.compacted.objects,
              leaked: ours.leaked.objects,
              skipped: ours.skipped.objects,
            },
            {
              scanned: theirs.scanned,
              valid: theirs.valid,
              pending: theirs.pending,
              compacted: theirs.compacted,
              leaked: theirs.leaked,
              skipped: theirs.skipped,
            },
          );
        };
        await compare();
        const leak = async (): Promise<void> => {
          for (let at = 0; at < 10; at++)
            await objects.put(blockKey(1 + random(2_000_000), random(3), 1 + random(65_536), false), Buffer.alloc(9));
          // Slices of a file whose list is lost.
          for await (const { ino, index } of world.engine.scanAllChunks()) {
            await world.engine.commit({ checks: [], writes: [{ kind: 'removeChunk', ino, index }] });
            break;
          }
        };
        await leak();
        await compare();
        await world.gc({ delete: true });
        const clean = await gc(url);
        assert.deepEqual([clean.leaked, clean.pending, clean.delfiles], [0, 0, 0]);
        await leak();
        await gc(url, '--delete');
        const report = await world.gc();
        assert.deepEqual(
          [report.leaked.objects, report.pendingDelete.objects, report.deletedFiles, report.strayChunks],
          [0, 0, 0, 0],
        );
        assert.equal((await officialFsck(url)).ok, true);
        assert.equal((await world.fsck()).lostBlocks, 0);
      });

    test('both name the same files where blocks are lost', async (t) => {
      for (const seed of [3, 4]) {
        const { world, random } = await filled(t, 0, seed);
        const { url, objects } = world;
        assert.deepEqual(await officialFsck(url), { ok: true, inodes: [] });
        assert.equal((await world.fsck()).brokenFiles, 0);
        for (const key of await world.keys()) if (random(4) === 0) await objects.delete(key);
        const ours = await world.fsck();
        assert.ok(ours.lostBlocks > 0);
        const theirs = await officialFsck(url);
        assert.deepEqual(theirs, { ok: false, inodes: ours.broken.map(({ ino }) => formatIno(ino)).toSorted() });
        // By way of the tree, too: what has no name is not in it.
        const tree = await world.tree();
        const named = (await officialFsck(url, '--path', '/', '-r')).inodes;
        assert.deepEqual(tree.blocks.broken.map(({ ino }) => formatIno(ino)).toSorted(), named);
      }
    });

    test('both find the same directories damaged, and what one mends is whole to the other', async (t) => {
      const { world, random, directories } = await filled(t, 0, 11);
      const { url, engine } = world;
      const check = ['--path', '/', '-r', '--sync-dir-stat'];
      const damage = async (losesNodes: boolean): Promise<void> => {
        for (const ino of directories.slice(1)) {
          const [attr] = await engine.nodes([ino]);
          if (!attr) continue;
          const kind = random(4);
          if (kind === 0)
            await engine.commit({ checks: [], writes: [{ kind: 'putNode', ino, attr: { ...attr, nlink: attr.nlink + 1 } }] });
          if (kind === 1)
            await engine.commit({
              checks: [],
              writes: [{ kind: 'addDirStat', ino, delta: { length: 1, space: 4096, inodes: 1 } }],
            });
          if (kind === 2 && losesNodes) await engine.commit({ checks: [], writes: [{ kind: 'removeNode', ino }] });
        }
        await engine.commit({ checks: [], writes: [{ kind: 'addCounter', name: 'usedSpace', delta: 4096 }] });
      };
      const sound = async (): Promise<void> => {
        assert.deepEqual((await world.tree()).tree.problems, []);
        assert.equal((await officialFsck(url, ...check)).ok, true);
      };
      await sound();
      await damage(true);
      assert.equal((await officialFsck(url, ...check)).ok, false);
      const { tree } = await world.tree({ repair: true });
      assert.ok(tree.found > 1 && tree.found === tree.repaired);
      await sound();
      // Its repair of statistics goes on in a transaction that PostgreSQL has ended, and fails there (1.4.1).
      if (name === 'postgres') return;
      // Over SQL it lists no names whose nodes are lost, so it does not find them either.
      await damage(name === 'redis');
      assert.ok((await world.tree()).tree.found > 1);
      await run(['fsck', url, '--repair', ...check]);
      await sound();
    });

    test('the trash of one is restored by the other as by itself', async (t) => {
      const results: string[][] = [];
      for (const by of ['official', 'ours'] as const) {
        const { world, directories } = await filled(t, 1, 21);
        const other = await import('../../src/meta/open.ts').then(({ openMeta }) => openMeta(world.url, { clock: world.clock }));
        await other.newSession('/mnt');
        const removeAll = async (directory: Ino): Promise<void> => {
          for await (const batch of other.readdir(root, directory, false))
            for (const { name: entry, ino, type } of batch) {
              if (type === NodeType.Directory) {
                await removeAll(ino);
                await other.rmdir(root, directory, entry);
              } else await other.unlink(root, directory, entry);
            }
        };
        await removeAll(directories[1] ?? ROOT_INO);
        await removeAll(ROOT_INO);
        await other.close();
        const hour = hourName(world.clock.now());
        const steps: string[][] = [];
        for (const putBack of [false, true]) {
          if (by === 'official') await run(['restore', world.url, hour, ...(putBack ? ['--put-back'] : [])]);
          else await restoreHour(hour, { volume: world.volume(), putBack, signal: new AbortController().signal });
          const below = await paths(world, TRASH_INO);
          steps.push([...(await paths(world)), ...below.map((path) => path.replace(/^\/[-\d]+/, ''))].toSorted());
        }
        results.push(steps.flat());
      }
      assert.deepEqual(results[1], results[0]);
      assert.ok((results[0]?.length ?? 0) > 20);
    });

    test('what one destroys is gone for the other, which may format there again', async (t) => {
      const { world } = await filled(t, 0, 31);
      const { url, engine, objects, format } = world;
      await destroyVolume({ engine, objects, force: false, signal: new AbortController().signal });
      await assert.rejects(run(['status', url]));
      await run(['format', url, format.name, '--storage', 'file', '--bucket', format.bucket, '--trash-days', '0']);
      const { stdout } = await run(['status', url]);
      const { UUID } = (JSON.parse(stdout) as { Setting: { UUID: string } }).Setting;
      await run(['destroy', url, UUID, '--yes']);
      assert.equal(await engine.readSetting().catch(() => undefined), undefined);
    });
  });
