/** The check of the tree of names and its repair, over every engine: damage of each kind, and none where there is none. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Ino, ino, ROOT_INO } from '../../src/lib/int64.ts';
import type { Write } from '../../src/meta/engine.ts';
import type { TreeReport } from '../../src/meta/maintenance/tree-report.ts';
import { NodeType } from '../../src/meta/types.ts';
import { type Database, describeEngines } from '../meta/engines.ts';
import { openWorld, root, settle, type World } from './world.ts';

/** Problems by path, in no order. */
const told = ({ problems }: TreeReport): ReadonlySet<string> =>
  new Set(
    problems.map(({ kind, path, repaired }) => `${path?.toString('latin1') ?? 'volume'}: ${kind}${repaired ? ', repaired' : ''}`),
  );

const nothing: ReadonlySet<string> = new Set();

interface Tree {
  readonly world: World;
  readonly a: Ino;
  readonly b: Ino;
  readonly c: Ino;
  readonly file: Ino;
  readonly linked: Ino;
}

describeEngines('the tree of names', (database: Database) => {
  /** `/a/b/c`, a file in each, one of them with a name in two, something in the trash; all clients gone. */
  async function tree(t: Parameters<typeof openWorld>[0]): Promise<Tree> {
    const world = await openWorld(t, database.newUrl(), { format: { trashDays: 1 } });
    const a = await world.mkdir(ROOT_INO, 'a');
    const b = await world.mkdir(a, 'b');
    const c = await world.mkdir(b, 'c\xff');
    await world.mkdir(a, 'empty');
    const file = await world.file(a, 'file', 5000);
    await world.file(b, 'file', 70_000);
    const linked = await world.file(c, 'linked', 10);
    await world.meta.link(root, linked, a, Buffer.from('again'));
    await world.file(b, 'removed', 10_000);
    await world.meta.unlink(root, b, Buffer.from('removed'));
    await world.meta.symlink(root, a, Buffer.from('link'), Buffer.from('file'));
    await settle(world);
    return { world, a, b, c, file, linked };
  }
  const write = async ({ world }: Tree, writes: readonly Write[]): Promise<void> =>
    assert.ok((await world.engine.commit({ checks: [], writes })).ok);
  const nodeOf = async ({ world }: Tree, node: Ino) => {
    const [attr] = await world.engine.nodes([node]);
    assert.ok(attr);
    return attr;
  };

  test('of a sound tree nothing is told, and a repair leaves it as it is', async (t) => {
    const made = await tree(t);
    const { world } = made;
    const counters = () =>
      world.engine.read([
        { kind: 'counter', name: 'usedSpace' },
        { kind: 'counter', name: 'totalInodes' },
        { kind: 'node', ino: made.a },
        { kind: 'dirStat', ino: made.a },
      ]);
    const before = await counters();
    for (const repair of [false, true]) {
      const report = await world.tree({ repair });
      assert.deepEqual(told(report.tree), nothing);
      assert.deepEqual([report.tree.directories, report.tree.files, report.blocks.lostBlocks], [5, 4, 0]);
    }
    assert.deepEqual(await counters(), before);
  });

  test('lost attributes, link counts, parents, types and statistics are told of, and mended', async (t) => {
    const made = await tree(t);
    const { world, a, b, c, file } = made;
    const [attrA, attrFile] = [await nodeOf(made, a), await nodeOf(made, file)];
    await write(made, [
      { kind: 'putNode', ino: a, attr: { ...attrA, nlink: 7 } },
      { kind: 'removeNode', ino: b },
      { kind: 'removeDirStat', ino: a },
      { kind: 'addDirStat', ino: c, delta: { length: 0, space: 4096, inodes: 1 } },
      { kind: 'putNode', ino: file, attr: { ...attrFile, parent: b } },
      { kind: 'putEntry', parent: a, name: Buffer.from('link'), value: { type: NodeType.Fifo, ino: ino(0) } },
    ]);
    // The entry of the link names it again, as something else.
    const found = await linkOf(made);
    await write(made, [{ kind: 'putEntry', parent: a, name: Buffer.from('link'), value: { type: NodeType.Fifo, ino: found } }]);
    await write(made, [{ kind: 'addCounter', name: 'usedSpace', delta: 12_288 }]);
    const wanted = [
      '/a: wrong link count',
      '/a: missing statistics',
      '/a/b: missing attributes',
      '/a/b/c\xff: wrong statistics',
      '/a/file: wrong parent',
      '/a/link: wrong type',
    ];
    // Of what has no attributes nothing is charged.
    assert.deepEqual(told((await world.tree()).tree), new Set([...wanted, 'volume: wrong usage']));
    assert.deepEqual(told((await world.tree()).tree), new Set([...wanted, 'volume: wrong usage']), 'nothing was changed');
    const { tree: repaired } = await world.tree({ repair: true, dirMode: 0o750 });
    assert.deepEqual(told(repaired), new Set([...wanted, 'volume: wrong usage'].map((each) => `${each}, repaired`)));
    assert.equal(repaired.repaired, repaired.found);
    const { tree: after } = await world.tree();
    assert.deepEqual(told(after), nothing);
    const [newA, newB, newFile] = [await nodeOf(made, a), await nodeOf(made, b), await nodeOf(made, file)];
    assert.deepEqual(newA, attrA);
    assert.deepEqual([newB.type, newB.mode, newB.nlink, newB.parent], [NodeType.Directory, 0o750, 3, a]);
    assert.deepEqual(newFile, attrFile);
  });

  async function linkOf({ world, a }: Tree): Promise<Ino> {
    // The inode behind the last one that was made.
    for (let number = 2; number < 5000; number++) {
      const [attr] = await world.engine.nodes([ino(number)]);
      if (attr?.type === NodeType.Symlink && attr.parent === a) return ino(number);
    }
    throw new Error('there is no symbolic link');
  }

  test('a file whose attributes are lost is told of and left, a loop is not walked for ever', async (t) => {
    const made = await tree(t);
    const { world, a, b, c, file } = made;
    await write(made, [
      { kind: 'removeNode', ino: file },
      { kind: 'putEntry', parent: c, name: Buffer.from('up'), value: { type: NodeType.Directory, ino: a } },
    ]);
    const { tree: report } = await world.tree({ syncDirStat: false });
    assert.deepEqual(
      told(report),
      new Set([
        '/a/file: missing attributes',
        '/a/b/c\xff/up: loop',
        '/a/b/c\xff/up: second name',
        '/a/b/c\xff: wrong link count',
      ]),
    );
    await world.tree({ syncDirStat: false, repair: true });
    assert.equal((await nodeOf(made, a)).parent, ROOT_INO);
    assert.equal((await nodeOf(made, b)).parent, a);
  });

  test('links of a file that are miscounted are told of, and mended', async (t) => {
    const made = await tree(t);
    const { world, linked } = made;
    const attr = await nodeOf(made, linked);
    assert.deepEqual([attr.nlink, attr.parent], [2, 0]);
    await write(made, [{ kind: 'putNode', ino: linked, attr: { ...attr, nlink: 5 } }]);
    assert.deepEqual(
      told((await world.tree()).tree),
      new Set(['/a/b/c\xff/linked: wrong link count', '/a/again: wrong link count']),
    );
    await world.tree({ repair: true });
    assert.deepEqual(told((await world.tree()).tree), nothing);
    assert.deepEqual(await nodeOf(made, linked), attr);
  });

  test('a directory that changes while it is looked at is not called broken', async (t) => {
    const world = await openWorld(t, database.newUrl());
    const busy = await world.mkdir(ROOT_INO, 'busy');
    const state = { stop: false };
    const writer = (async () => {
      for (let at = 0; !state.stop; at++) {
        const name = Buffer.from(`d${at % 5}`);
        world.clock.advance(1);
        await world.meta.mkdir(root, busy, name, 0o755, 0);
        await world.meta.rmdir(root, busy, name);
      }
    })();
    for (let round = 0; round < 10; round++) {
      const { tree: report } = await world.tree({ syncDirStat: false, activeSessions: true });
      assert.deepEqual(told(report), nothing);
    }
    state.stop = true;
    await writer;
  });
});
