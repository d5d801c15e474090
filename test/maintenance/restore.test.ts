/** What lies in the trash comes back, and a volume is destroyed, over every engine. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Ino, formatIno, ROOT_INO, TRASH_INO } from '../../src/lib/int64.ts';
import { activeSessions, destroyVolume } from '../../src/maintenance/destroy.ts';
import { parseTrashName, type RestoreReport, restoreHour, trashHours } from '../../src/meta/maintenance/restore.ts';
import { trashName } from '../../src/meta/records.ts';
import { hourName } from '../../src/meta/trash.ts';
import { NodeType } from '../../src/meta/types.ts';
import type { ObjectStore } from '../../src/object/store.ts';
import { ObjectError } from '../../src/object/store.ts';
import { type Database, describeEngines } from '../meta/engines.ts';
import { openWorld, root, settle, type World } from './world.ts';

const signal = new AbortController().signal;
const bytes = (text: string): Buffer => Buffer.from(text, 'latin1');

/** Paths below a directory, with the lengths of files. */
async function paths(world: World, directory: Ino = ROOT_INO, above = ''): Promise<string[]> {
  const found: string[] = [];
  for await (const batch of world.engine.scanEntries(directory, 100))
    for (const { name, ino, type } of batch) {
      const path = `${above}/${name.toString('latin1')}`;
      const [attr] = await world.engine.nodes([ino]);
      found.push(type === NodeType.Directory ? `${path}/` : `${path} ${attr?.length}`);
      if (type === NodeType.Directory) found.push(...(await paths(world, ino, path)));
    }
  return found.toSorted();
}

/** Removes a tree as a mount would, name by name. */
async function removeTree(world: World, parent: Ino, name: string): Promise<void> {
  const { ino, attr } = await world.meta.lookup(root, parent, bytes(name));
  if (attr.type !== NodeType.Directory) return world.meta.unlink(root, parent, bytes(name));
  const names: string[] = [];
  for await (const batch of world.meta.readdir(root, ino, false))
    for (const entry of batch) names.push(entry.name.toString('latin1'));
  for (const each of names) await removeTree(world, ino, each);
  return world.meta.rmdir(root, parent, bytes(name));
}

const figures = ({ restored, needPutBack, conflicts, failed }: RestoreReport) => ({ restored, needPutBack, conflicts, failed });

describeEngines('the trash and the end', (database: Database) => {
  async function withTree(t: Parameters<typeof openWorld>[0]): Promise<World> {
    const world = await openWorld(t, database.newUrl(), { format: { trashDays: 1 } });
    const a = await world.mkdir(ROOT_INO, 'a');
    const b = await world.mkdir(a, 'b\n\xff');
    await world.mkdir(b, 'empty');
    await world.file(b, 'deep-er', 10);
    const file = await world.file(a, 'file', 70_000);
    await world.file(ROOT_INO, 'top', 5);
    await world.meta.link(root, file, b, bytes('link'));
    return world;
  }
  const hourOfNow = (world: World): string => hourName(world.clock.now());

  test('a removed tree is rebuilt in the trash first, and put back to where it was; all is sound afterwards', async (t) => {
    const world = await withTree(t);
    const before = await paths(world);
    for (const name of ['a', 'top']) await removeTree(world, ROOT_INO, name);
    assert.deepEqual(await paths(world), []);
    const hour = hourOfNow(world);
    const [directory] = await trashHours(world.volume(), 10);
    assert.equal(directory, hour);
    const { value } = (await world.engine.lookup(TRASH_INO, bytes(hour))) ?? assert.fail();
    assert.equal((await paths(world, value.ino)).length, before.length, 'each node apart');

    const rebuilt = await restoreHour(hour, { volume: world.volume(), putBack: false, signal });
    assert.deepEqual(figures(rebuilt), { restored: before.length - 2, needPutBack: 2, conflicts: 0, failed: 0 });
    const inTrash = await paths(world, value.ino);
    assert.deepEqual(inTrash.map((path) => path.replace(/^\/\d+-\d+-/, '/')).toSorted(), before, 'one tree again');
    assert.deepEqual(figures(await restoreHour(hour, { volume: world.volume(), putBack: true, signal })), {
      restored: 2,
      needPutBack: 0,
      conflicts: 0,
      failed: 0,
    });
    assert.deepEqual(await paths(world), before);
    assert.deepEqual(await paths(world, value.ino), []);
    await settle(world);
    const { tree, blocks } = await world.tree({ repair: true });
    // Statistics of a directory that was removed are counted anew when it is next looked at.
    assert.deepEqual(
      tree.problems.filter(({ kind }) => !/statistics/.test(kind)),
      [],
    );
    assert.equal(blocks.lostBlocks, 0);
    assert.deepEqual((await world.tree()).tree.problems, []);
  });

  test('what is in the way stays, and so does what has no directory; both are told of', async (t) => {
    const world = await withTree(t);
    const { ino: a } = await world.meta.lookup(root, ROOT_INO, bytes('a'));
    const gone = await world.mkdir(ROOT_INO, 'gone');
    await world.file(gone, 'orphan', 3);
    await removeTree(world, gone, 'orphan');
    await removeTree(world, a, 'file');
    await world.file(a, 'file', 1);
    const { engine } = world;
    const [attr] = await engine.nodes([gone]);
    assert.ok(attr);
    await engine.commit({
      checks: [],
      writes: [
        { kind: 'removeEntry', parent: ROOT_INO, name: bytes('gone') },
        { kind: 'removeNode', ino: gone },
      ],
    });
    const report = await restoreHour(hourOfNow(world), { volume: world.volume(), putBack: true, signal });
    assert.deepEqual(figures(report), { restored: 0, needPutBack: 0, conflicts: 1, failed: 1 });
    const reasons = report.left.map(({ name, reason }) => [parseTrashName(name)?.name.toString(), reason]);
    assert.deepEqual(
      new Map(reasons as [string, string][]),
      new Map([
        ['file', 'conflict'],
        ['orphan', 'no directory'],
      ]),
    );
    assert.equal((await world.meta.lookup(root, a, bytes('file'))).attr.length, 1);

    await world.meta.unlink(root, a, bytes('file'));
    // The new one went to the trash, too: one of the two comes back, the other is in its way.
    const again = await restoreHour(hourOfNow(world), { volume: world.volume(), putBack: true, signal });
    assert.deepEqual(figures(again), { restored: 1, needPutBack: 0, conflicts: 1, failed: 1 });
  });

  test('an hour that the trash does not have is refused, with those it has', async (t) => {
    const world = await withTree(t);
    const options = { volume: world.volume(), putBack: true, signal };
    await assert.rejects(restoreHour('2001-02-03-04', options), { code: 'NoSuchHour', hint: 'It is empty.' });
    await removeTree(world, ROOT_INO, 'top');
    await assert.rejects(restoreHour('yesterday', options), (error: Error & { hint: string }) => {
      assert.match(error.hint, new RegExp(hourOfNow(world)));
      return true;
    });
  });

  test('a destroyed volume leaves nothing below its name, and everything beside it', async (t) => {
    const world = await withTree(t);
    const { engine, objects, clock } = world;
    assert.equal((await activeSessions(engine, Math.floor(clock.now() / 1000))).length, 1);
    await settle(world);
    assert.deepEqual(await activeSessions(engine, Math.floor(clock.now() / 1000)), []);
    const all = async (): Promise<number> => {
      let count = 0;
      for await (const _ of objects.list('')) count++;
      return count;
    };
    assert.equal(await all(), 5);

    // A store that refuses: the metadata is kept, and the next try finishes.
    const refusing: ObjectStore = {
      ...bound(objects),
      delete: (key) =>
        key.endsWith('_10') ? Promise.reject(new ObjectError('AccessDenied', `may not delete ${key}`)) : objects.delete(key),
    };
    await assert.rejects(destroyVolume({ engine, objects: refusing, force: false, signal }), { code: 'ObjectsLeft' });
    assert.equal(await all(), 1);
    assert.ok(await engine.readSetting());
    const stopped = AbortSignal.abort();
    await assert.rejects(destroyVolume({ engine, objects, force: false, signal: stopped }), { name: 'AbortError' });
    assert.ok(await engine.readSetting());
    const { deleted } = await destroyVolume({ engine, objects, force: false, signal });
    assert.equal(deleted, 1);
    assert.equal(await engine.readSetting().catch(() => undefined), undefined);
    assert.equal(await all(), 0);
  });

  function bound(store: ObjectStore): ObjectStore {
    return {
      description: store.description,
      create: (each) => store.create(each),
      put: (key, body) => store.put(key, body),
      get: (key) => store.get(key),
      head: (key) => store.head(key),
      delete: (key) => store.delete(key),
      list: (prefix, options) => store.list(prefix, options),
      close: () => store.close(),
    };
  }
});

test('a name in the trash says where it was, whatever the name was', () => {
  for (const text of ['a', '1-2-3', '-', 'x\n\xff', '007-']) {
    const [parent, ino] = [12 as Ino, 34 as Ino];
    assert.deepEqual(parseTrashName(trashName(parent, ino, bytes(text))), { parent, ino, name: bytes(text) });
  }
  for (const text of ['', 'abc', '1-2', '1-2-', '-1-2-x', `${formatIno(1 as Ino)}-x-y`])
    assert.equal(parseTrashName(bytes(text)), undefined, text);
});
