/** Removing and counting whole trees, and what is told of a node, over every engine. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { type Ino, ROOT_INO, TRASH_INO } from '../../src/lib/int64.ts';
import { type Meta, LockType, NodeType, type TreeSummary } from '../../src/meta/types.ts';
import { type Database, describeEngines } from '../meta/engines.ts';
import { fails, list, name, openVolume, ROOT_USER as root, user } from '../meta/volume.ts';
import { all, look, make, planned, type Seen } from './trees.ts';

const file = async (meta: Meta, parent: Ino, text: string, length = 0): Promise<Ino> => {
  const { ino } = await meta.mknod(root, parent, name(text), NodeType.File, 0o644, 0, 0);
  if (length > 0) await meta.truncate(root, ino, length);
  return ino;
};
const directory = async (meta: Meta, parent: Ino, text: string, mode = 0o755): Promise<Ino> =>
  (await meta.mkdir(root, parent, name(text), mode, 0)).ino;

const spaceOf = ({ attr }: Seen): number =>
  attr.type === NodeType.File && attr.length > 0 ? Math.ceil(attr.length / 4096) * 4096 : 4096;

/** What lies in a tree, by looking at it. */
function usageOf(seen: Seen): { length: number; size: number; files: number; dirs: number } {
  const usage = { length: 0, size: 0, files: 0, dirs: 0 };
  for (const [, each] of all(seen)) {
    usage.size += spaceOf(each);
    if (each.attr.type === NodeType.Directory) usage.dirs++;
    else usage.files++;
    if (each.attr.type === NodeType.File) usage.length += each.attr.length;
  }
  return usage;
}

describeEngines('trees', (database: Database) => {
  const volume = (t: Parameters<typeof openVolume>[0], input = {}) => openVolume(t, database.newUrl(), input);

  test('a random tree is counted alike by its nodes and by what is recorded, whole and in parts', async (t) => {
    await fc.assert(
      fc.asyncProperty(planned, fc.nat(4), fc.nat(3), async (plan, depth, entries) => {
        const { meta } = await volume(t, { enableAcl: true });
        const top = await make(meta, ROOT_INO, 'top', plan);
        const seen = await look(meta, top);
        const wanted = usageOf(seen);
        for (const strict of [true, false]) {
          assert.deepEqual({ ...(await meta.usageBelow(top, { recursive: true, strict })) }, wanted, `strict ${strict}`);
          const tree = await meta.summarizeTree(top, { depth, entries, strict });
          const { length: _length, ...sizes } = wanted;
          const { children: _children, ino: _ino, path: _path, type: _type, length: _total, ...shown } = tree;
          assert.deepEqual(shown, sizes);
          assertParts(tree, seen, depth, entries);
        }
      }),
      { numRuns: Math.min(30, database.runs) },
    );
  });

  /** The largest entries are there, the others added up, and nothing below the depth. */
  function assertParts(tree: TreeSummary, seen: Seen, depth: number, entries: number): void {
    if (depth === 0 || seen.attr.type !== NodeType.Directory) return assert.equal(tree.children, undefined);
    const sizes = [...seen.children.values()].map((child) => usageOf(child).size).toSorted((a, b) => b - a);
    const shown = tree.children ?? [];
    const rest = sizes.slice(entries);
    assert.deepEqual(
      shown.map(({ size }) => size),
      [...sizes.slice(0, entries), ...(rest.length > 0 ? [rest.reduce((sum, size) => sum + size, 0)] : [])],
    );
    for (const child of shown) {
      if (child.ino === 0) continue;
      const found = [...seen.children.values()].find(({ ino }) => ino === child.ino);
      assert.ok(found);
      if (found.attr.type === NodeType.Directory) assertParts(child, found, depth - 1, entries);
    }
  }

  test('directly in a directory is less than below it; a file is counted by itself; what is not there is ENOENT', async (t) => {
    const { meta } = await volume(t);
    const top = await directory(meta, ROOT_INO, 'd');
    const sub = await directory(meta, top, 'sub');
    const one = await file(meta, sub, 'f', 5000);
    for (const strict of [true, false]) {
      assert.deepEqual(
        { ...(await meta.usageBelow(top, { recursive: false, strict })) },
        { length: 0, size: 8192, files: 0, dirs: 2 },
      );
      assert.deepEqual(
        { ...(await meta.usageBelow(one, { recursive: true, strict })) },
        { length: 5000, size: 8192, files: 1, dirs: 0 },
      );
      await fails('ENOENT', meta.usageBelow(9999 as Ino, { recursive: true, strict }));
      await fails('ENOENT', meta.summarizeTree(9999 as Ino, { depth: 1, entries: 1, strict }));
    }
  });

  test('a random tree is removed to the last name, with nothing left of its data', async (t) => {
    await fc.assert(
      fc.asyncProperty(planned, fc.constantFrom(1, 2, 50), async (plan, threads) => {
        const opened = await volume(t, { enableAcl: true });
        const { meta } = opened;
        const before = await meta.usage();
        const top = await make(meta, ROOT_INO, 'top', plan);
        const names = [...all(await look(meta, top))].length;
        let removed = 0;
        await meta.removeTree(root, ROOT_INO, name('top'), { threads, onRemoved: () => void removed++ });
        assert.equal(removed, names);
        assert.deepEqual(await list(meta, ROOT_INO), []);
        assert.equal((await meta.getattr(root, ROOT_INO)).nlink, 2);
        await fails('ENOENT', meta.getattr(root, top));
        assert.deepEqual(await meta.usage(), before);
        await meta.close();
        for await (const { ino } of opened.engine.scanAllChunks()) assert.fail(`inode ${ino} has slices left`);
      }),
      { numRuns: Math.min(25, database.runs) },
    );
  });

  test('a tree of many names is removed while others add to it and remove from it', async (t) => {
    const opened = await volume(t);
    const { meta } = opened;
    const writer = await opened.another();
    const top = await directory(meta, ROOT_INO, 'top');
    for (let at = 0; at < 6; at++) {
      const sub = await directory(meta, top, `sub${at}`);
      await Promise.all(Array.from({ length: 150 }, (_, index) => file(meta, sub, `f${index}`)));
    }
    const stop = new AbortController();
    const change = async (): Promise<void> => {
      for (let at = 0; !stop.signal.aborted; at++) {
        // SQLite answers at once: the others get their turn.
        await new Promise((done) => setImmediate(done));
        const sub = await writer.lookup(root, top, name(`sub${at % 6}`)).catch(() => undefined);
        if (!sub) continue;
        await writer.unlink(root, sub.ino, name(`f${at % 150}`)).catch(() => {});
        if (at < 200) await file(writer, sub.ino, `n${at}`).catch(() => {});
      }
    };
    const changing = change();
    await meta.removeTree(root, ROOT_INO, name('top'), { threads: 8 });
    stop.abort();
    await changing;
    assert.deepEqual(await list(meta, ROOT_INO), []);
    assert.deepEqual(await meta.usage(), { bytes: 0, inodes: 0 });
  });

  test('what is removed goes to the trash unless it is left out, and is one name there each', async (t) => {
    const { meta } = await volume(t, { trashDays: 1 });
    for (const skipTrash of [false, true]) {
      const top = await directory(meta, ROOT_INO, 'top');
      await file(meta, await directory(meta, top, 'sub'), 'f');
      await meta.removeTree(root, ROOT_INO, name('top'), { skipTrash });
      const [hour] = await list(meta, TRASH_INO);
      assert.ok(hour);
      const names = (await list(meta, hour[1])).map(([each]) => each.replace(/^\d+-\d+-/, '')).toSorted();
      assert.deepEqual(names, ['f', 'sub', 'top']);
    }
    // Of the trash itself, root alone may.
    const [hour] = await list(meta, TRASH_INO);
    await fails('EPERM', meta.removeTree(user(1000), TRASH_INO, name(hour?.[0] ?? '')));
    await meta.removeTree(root, TRASH_INO, name(hour?.[0] ?? ''));
    assert.deepEqual(await list(meta, TRASH_INO), []);
    await fails('EPERM', meta.removeTree(root, ROOT_INO, name('.trash')));
  });

  test('stopped, or refused on the way, what is left can be removed later', async (t) => {
    const { meta } = await volume(t);
    const top = await directory(meta, ROOT_INO, 'top', 0o777);
    await meta.setattr(root, top, { uid: 1000 });
    const locked = await directory(meta, top, 'locked', 0o700);
    await file(meta, locked, 'f');
    for (let at = 0; at < 50; at++) await file(meta, top, `f${at}`);
    await fails('EACCES', meta.removeTree(user(1000), ROOT_INO, name('top'), { threads: 3 }));
    assert.deepEqual(await list(meta, locked), [['f', (await list(meta, locked))[0]?.[1]]]);
    await fails('ENOENT', meta.removeTree(root, ROOT_INO, name('nothing')));
    const stop = new AbortController();
    let count = 0;
    const onRemoved = (): void => {
      if (++count === 2) stop.abort();
    };
    await file(meta, top, 'more');
    await file(meta, top, 'yet more');
    await file(meta, top, 'and more');
    await assert.rejects(meta.removeTree(root, ROOT_INO, name('top'), { threads: 1, onRemoved, signal: stop.signal }), {
      name: 'AbortError',
    });
    assert.ok((await list(meta, top)).length > 0);
    await meta.removeTree(root, ROOT_INO, name('top'));
    assert.deepEqual(await list(meta, ROOT_INO), []);
  });

  test('paths of a node are those below what is mounted, hard links included', async (t) => {
    const { meta } = await volume(t);
    const top = await directory(meta, ROOT_INO, 'top');
    const sub = await directory(meta, top, 's\xfcb');
    const one = await file(meta, sub, 'f');
    await meta.link(root, one, top, name('second'));
    await meta.link(root, one, ROOT_INO, name('outside'));
    const paths = async (ino: Ino, from: Ino): Promise<readonly string[]> =>
      (await meta.paths(ino, from)).map((path) => path.toString('latin1')).toSorted();
    assert.deepEqual(await paths(one, ROOT_INO), ['/outside', '/top/second', '/top/s\xfcb/f']);
    assert.deepEqual(await paths(one, top), ['/second', '/s\xfcb/f']);
    assert.deepEqual(await paths(sub, sub), ['/']);
    assert.deepEqual(await paths(top, sub), []);
    assert.deepEqual(await paths(TRASH_INO, ROOT_INO), ['/.trash']);
    assert.equal(await meta.liesBelow(one, sub), true);
    assert.equal(await meta.liesBelow(sub, top), true);
    assert.equal(await meta.liesBelow(top, sub), false);
    assert.equal(await meta.liesBelow(9999 as Ino, top), false);
    await fails('ENOENT', meta.paths(9999 as Ino, ROOT_INO));
  });

  test('the locks of all sessions in a file are told', async (t) => {
    const opened = await volume(t);
    const { meta } = opened;
    const other = await opened.another();
    const one = await file(meta, ROOT_INO, 'f');
    await meta.flock(root, one, 0xf000_0000_0000_0001n, LockType.Read, false);
    await other.flock(root, one, 2n, LockType.Read, false);
    await other.setlk(root, one, 3n, { type: LockType.Write, start: 5n, end: 9n, pid: 77 }, false);
    const { whole, ranges } = await meta.locks(one);
    assert.deepEqual(
      whole.toSorted((a, b) => a.sid - b.sid),
      [
        { sid: 1, owner: 0xf000_0000_0000_0001n, type: 'R' },
        { sid: 2, owner: 2n, type: 'R' },
      ],
    );
    assert.deepEqual(ranges, [{ sid: 2, owner: 3n, lock: { type: LockType.Write, start: 5n, end: 9n, pid: 77 } }]);
  });
});
