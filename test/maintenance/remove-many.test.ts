/** Directories of many files that are removed in batches, over every engine: what is gone, what stays, and that all counts agree then. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FsError } from '../../src/lib/errors.ts';
import { type Ino, ROOT_INO } from '../../src/lib/int64.ts';
import type { MetaEngine } from '../../src/meta/engine.ts';
import { removeTree } from '../../src/meta/remove-tree.ts';
import { type As, NodeFlag, NodeType, SYSTEM } from '../../src/meta/types.ts';
import type { Volume } from '../../src/meta/volume.ts';
import { type Database, describeEngines } from '../meta/engines.ts';
import { openWorld, root, type World } from './world.ts';

const as: As = (operation) => operation(SYSTEM);
const bytes = (text: string): Buffer => Buffer.from(text);
const DIRECTORY = bytes('many');

/** Empty files in a directory. */
async function touch(world: World, parent: Ino, count: number, prefix: string): Promise<void> {
  for (let from = 0; from < count; from += 50)
    await Promise.all(
      Array.from({ length: Math.min(50, count - from) }, (_, at) =>
        world.meta.mknod(root, parent, bytes(`${prefix}${from + at}`), NodeType.File, 0o644, 0, 0),
      ),
    );
}

/** Writes what is counted late, and checks that names, statistics, usage and blocks agree. */
async function sound(world: World, ...volumes: readonly Volume[]): Promise<void> {
  for (const volume of volumes) {
    await volume.deletions.settled();
    await volume.stats.flushAll();
  }
  await world.meta.close();
  const { tree, blocks } = await world.tree();
  assert.deepEqual([tree.found, blocks.lostBlocks], [0, 0]);
}

/** The volume, with the commits of its engine counted. */
function counting(volume: Volume): { readonly volume: Volume; readonly commits: () => number } {
  let commits = 0;
  const engine = new Proxy(volume.engine, {
    get(target, name) {
      const value = Reflect.get(target, name) as unknown;
      if (typeof value !== 'function') return value;
      const bound = value.bind(target) as (...args: unknown[]) => unknown;
      if (name !== 'commit') return bound;
      return (...args: Parameters<MetaEngine['commit']>) => {
        commits++;
        return bound(...args);
      };
    },
  });
  return { volume: Object.defineProperty(volume, 'engine', { value: engine }), commits: () => commits };
}

describeEngines('many names at once', (database: Database) => {
  test('all kinds of names go, and what has another name stays', async (t) => {
    const world = await openWorld(t, database.newUrl());
    const { meta, engine } = world;
    const many = await world.mkdir(ROOT_INO, 'many');
    await touch(world, many, 200, 'empty ');
    for (let at = 0; at < 5; at++) await world.file(many, `data ${at}`, 100_000);
    const linked = await world.file(many, 'linked', 10);
    await meta.link(root, linked, many, bytes('linked twice'));
    const elsewhere = await world.file(many, 'elsewhere', 10);
    await meta.link(root, elsewhere, ROOT_INO, bytes('stays'));
    for (let at = 0; at < 6; at++) await meta.symlink(root, many, bytes(`link ${at}`), bytes('target'));
    const below = await world.mkdir(many, 'below');
    await touch(world, below, 10, 'deep ');
    const volume = world.volume();
    let removed = 0;
    await removeTree(volume, as, ROOT_INO, DIRECTORY, { skipTrash: true, onRemoved: () => removed++ });
    assert.equal(removed, 200 + 5 + 2 + 1 + 6 + 1 + 10 + 1);
    assert.equal(await engine.lookup(ROOT_INO, DIRECTORY), undefined);
    assert.deepEqual(await world.read(elsewhere, 0, 10), Buffer.alloc(10, 'elsewhere'));
    const [kept] = await engine.nodes([elsewhere]);
    assert.equal(kept?.nlink, 1);
    await sound(world, volume);
    assert.equal((await world.keys()).length, 1, 'the block of the file that has another name');
    assert.deepEqual(await engine.scanDelfiles(2 ** 40, 10), []);
  });

  test('a thousand names take some ten transactions', async (t) => {
    const world = await openWorld(t, database.newUrl());
    const many = await world.mkdir(ROOT_INO, 'many');
    await touch(world, many, 1000, 'empty ');
    const { volume, commits } = counting(world.volume());
    await removeTree(volume, as, ROOT_INO, DIRECTORY, { skipTrash: true });
    await volume.deletions.settled();
    // For names and directory, for the notes of removed files, and what is counted late.
    assert.ok(commits() < 40, `${commits()} transactions`);
    await sound(world, volume);
  });

  test('names go to the trash in batches, too, and come out of it', async (t) => {
    const world = await openWorld(t, database.newUrl(), { format: { trashDays: 1 } });
    const many = await world.mkdir(ROOT_INO, 'many');
    await touch(world, many, 150, 'empty ');
    await world.file(many, 'data', 1000);
    const volume = world.volume();
    await removeTree(volume, as, ROOT_INO, DIRECTORY);
    assert.equal(await world.engine.lookup(ROOT_INO, DIRECTORY), undefined);
    assert.equal((await world.keys()).length, 1);
    await volume.stats.flushAll();
    world.clock.advance(3 * 86_400_000);
    const report = await world.gc({ delete: true });
    assert.equal(report.cleaned.trash, 152);
    assert.deepEqual(await world.keys(), []);
    await sound(world, volume);
  });

  test('two clients remove the same directory while a third one takes names out of it', async (t) => {
    const world = await openWorld(t, database.newUrl());
    const { meta } = world;
    const many = await world.mkdir(ROOT_INO, 'many');
    await touch(world, many, 600, 'empty ');
    const volumes = [world.volume(), world.volume()];
    const gone = (error: unknown): void => {
      if (!(error instanceof FsError) || error.code !== 'ENOENT') throw error;
    };
    const taken: string[] = [];
    const take = async (): Promise<void> => {
      for (let at = 0; at < 600; at += 7) {
        const name = `empty ${at}`;
        await meta.rename(root, many, bytes(name), ROOT_INO, bytes(name), 0).then(() => taken.push(name), gone);
      }
    };
    await Promise.all([
      take(),
      ...volumes.map((volume) => removeTree(volume, as, ROOT_INO, DIRECTORY, { skipTrash: true }).catch(gone)),
    ]);
    assert.equal(await world.engine.lookup(ROOT_INO, DIRECTORY), undefined);
    const left: string[] = [];
    for await (const batch of world.engine.scanEntries(ROOT_INO, 1000)) left.push(...batch.map(({ name }) => name.toString()));
    assert.deepEqual(left.toSorted(), taken.toSorted());
    await sound(world, ...volumes);
  });

  test('what must not be removed stops it, and everything else it has come to is gone', async (t) => {
    const world = await openWorld(t, database.newUrl());
    const many = await world.mkdir(ROOT_INO, 'many');
    await touch(world, many, 20, 'empty ');
    const found = await world.engine.lookup(many, bytes('empty 7'));
    assert.ok(found?.attr);
    const { ino } = found.value;
    await world.engine.commit({
      checks: [],
      writes: [{ kind: 'putNode', ino, attr: { ...found.attr, flags: NodeFlag.Immutable } }],
    });
    const volume = world.volume();
    await assert.rejects(removeTree(volume, as, ROOT_INO, DIRECTORY, { skipTrash: true }), { code: 'EPERM' });
    const left: string[] = [];
    for await (const batch of world.engine.scanEntries(many, 100)) left.push(...batch.map(({ name }) => name.toString()));
    assert.deepEqual(left, ['empty 7']);
    await sound(world, volume);
  });
});
