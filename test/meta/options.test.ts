/** What a client does beyond the default where its mount was asked for it, over every engine; files without a name. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ROOT_INO } from '../../src/lib/int64.ts';
import { NodeFlag, NodeType, RenameFlag } from '../../src/meta/types.ts';
import { describeEngines } from './engines.ts';
import { dirStatAfterClose, fails, name, openVolume, ROOT_USER as root, TestClock } from './volume.ts';

describeEngines('options of a client', (database) => {
  test('reading changes access times as the client was asked to, and nothing else of the node', async (t) => {
    const volume = await openVolume(t, database.newUrl());
    const relatime = await volume.another({ atimeMode: 'relatime' });
    const strictatime = await volume.another({ atimeMode: 'strictatime' });
    const { ino } = await volume.meta.mknod(root, ROOT_INO, name('f'), NodeType.File, 0o644, 0, 0);
    const link = await volume.meta.symlink(root, ROOT_INO, name('l'), name('f'));
    const before = await volume.meta.setattr(root, ino, { atime: { sec: 5, nsec: 6 } });
    volume.clock.advance(10_000);
    await volume.meta.open(root, ino, 0);
    assert.deepEqual(await volume.meta.getattr(root, ino), before);
    const read = async (meta: typeof relatime): Promise<number> => {
      await meta.open(root, ino, 0);
      await meta.release(ino);
      await meta.readlink(root, link.ino);
      for await (const batch of meta.readdir(root, ROOT_INO, false)) assert.ok(batch.length > 0);
      await new Promise((done) => setTimeout(done, 50));
      return (await volume.meta.getattr(root, ino)).atime;
    };
    const first = await read(relatime);
    assert.equal(first, before.ctime + 10);
    const { atime, atimensec, ...rest } = await volume.meta.getattr(root, ino);
    const { atime: oldAtime, atimensec: oldAtimensec, ...others } = before;
    assert.ok(atime !== oldAtime && atimensec !== oldAtimensec);
    assert.deepEqual(rest, others);
    assert.equal((await volume.meta.getattr(root, link.ino)).atime, link.attr.atime);
    volume.clock.advance(10_000);
    assert.equal(await read(relatime), first);
    assert.equal(await read(strictatime), first + 10);
    for (const each of [link.ino, ROOT_INO]) assert.equal((await volume.meta.getattr(root, each)).atime, link.attr.atime + 20);
  });

  test('with a cache of open files others’ changes are seen when its time is over, own ones at once', async (t) => {
    const volume = await openVolume(t, database.newUrl());
    // A clock that goes only when it is told to: how fast this machine is does not count.
    const clock = Object.assign(new TestClock(volume.clock.ns), { at: 0, monotonic: () => clock.at });
    const cached = await volume.another({ openCacheMs: 600, clock });
    const { ino } = await volume.meta.mknod(root, ROOT_INO, name('f'), NodeType.File, 0o644, 0, 0);
    const length = async (): Promise<number> => {
      const attr = await cached.open(root, ino, 0);
      await cached.release(ino);
      return attr.length;
    };
    assert.equal(await length(), 0);
    await volume.meta.truncate(root, ino, 5);
    assert.equal(await length(), 0, 'what was seen a moment ago');
    await cached.truncate(root, ino, 9);
    assert.equal(await length(), 9);
    await volume.meta.truncate(root, ino, 7);
    clock.at += 601;
    assert.equal(await length(), 7);
  });

  test('small changes of a directory’s times are left out where the client was asked to, changes of links never', async (t) => {
    const volume = await openVolume(t, database.newUrl());
    const lazy = await volume.another({ skipDirMtimeMs: 100 });
    const { ino, attr } = await lazy.mkdir(root, ROOT_INO, name('d'), 0o755, 0);
    const make = async (text: string, ms: number): Promise<number> => {
      volume.clock.advance(ms);
      await lazy.mknod(root, ino, name(text), NodeType.File, 0o644, 0, 0);
      const { mtime, mtimensec } = await volume.meta.getattr(root, ino);
      return Math.round((mtime - attr.mtime) * 1000 + (mtimensec - attr.mtimensec) / 1e6);
    };
    assert.equal(await make('a', 50), 0);
    assert.equal(await make('b', 60), 110);
    volume.clock.advance(10);
    await lazy.unlink(root, ino, name('a'));
    await lazy.rename(root, ino, name('b'), ino, name('c'), 0);
    assert.equal(await make('e', 0), 110);
    await lazy.mkdir(root, ino, name('sub'), 0o755, 0);
    const after = await volume.meta.getattr(root, ino);
    assert.deepEqual([after.nlink, after.mtimensec === attr.mtimensec], [3, false]);
  });

  test('room is told as it was last seen where the client was asked to', async (t) => {
    const volume = await openVolume(t, database.newUrl());
    const fast = await volume.another({ fastStatfs: true });
    assert.equal((await fast.statfs(root, ROOT_INO)).usedInodes, 0);
    await volume.meta.mkdir(root, ROOT_INO, name('d'), 0o755, 0);
    await volume.meta.close();
    assert.equal((await fast.statfs(root, ROOT_INO)).usedInodes, 0, 'not asked for');
    await fast.mkdir(root, ROOT_INO, name('e'), 0o755, 0);
    assert.equal((await fast.statfs(root, ROOT_INO)).usedInodes, 1, 'its own');
    assert.equal((await fast.usage()).inodes >= 1, true);
  });

  test('names come in their order where the client was asked to', async (t) => {
    const volume = await openVolume(t, database.newUrl());
    const sorted = await volume.another({ sortDir: true });
    const wanted = Array.from({ length: 600 }, (_, at) => `${(at * 7919) % 600}`);
    for (const text of wanted) await volume.meta.mknod(root, ROOT_INO, name(text), NodeType.File, 0o644, 0, 0);
    for (const attributes of [false, true]) {
      const found: string[] = [];
      for await (const batch of sorted.readdir(root, ROOT_INO, attributes)) {
        found.push(...batch.map((entry) => entry.name.toString()));
        assert.ok(batch.every(({ attr }) => (attr !== undefined) === attributes));
      }
      assert.deepEqual(found, wanted.toSorted());
    }
  });

  test('a file without a name is counted, kept while it is open, and lies in a directory once it has a name', async (t) => {
    const volume = await openVolume(t, database.newUrl());
    const { meta, engine } = volume;
    const other = await volume.another();
    const { ino: d } = await meta.mkdir(root, ROOT_INO, name('d'), 0o2755, 0);
    const before = await meta.getattr(root, d);
    const { ino, attr } = await meta.tmpfile(root, d, 0o666, 0o022);
    assert.deepEqual([attr.nlink, attr.mode, attr.parent], [0, 0o644, d]);
    assert.deepEqual(await meta.getattr(root, d), before, 'the directory knows nothing of it');
    assert.deepEqual(await meta.usage(), { bytes: 8192, inodes: 2 });
    await fails('ENOENT', other.link(root, ino, d, name('theirs')));
    await meta.truncate(root, ino, 10_000);
    volume.clock.advance(1000);
    assert.deepEqual([(await meta.link(root, ino, d, name('named'))).nlink, (await meta.getattr(root, ino)).parent], [1, d]);
    const batches = [];
    for await (const batch of engine.scanSustained()) batches.push(...batch);
    assert.deepEqual(batches, []);
    await meta.link(root, ino, ROOT_INO, name('second'));
    const [parents] = await engine.read([{ kind: 'parents', ino }]);
    assert.deepEqual(
      parents,
      new Map([
        [d, 1],
        [ROOT_INO, 1],
      ]),
    );
    await meta.release(ino);
    assert.equal((await other.getattr(root, ino)).nlink, 2);
    const gone = await meta.tmpfile(root, d, 0o600, 0);
    await meta.release(gone.ino);
    await fails('ENOENT', meta.getattr(root, gone.ino));
    await meta.setattr(root, d, { flags: NodeFlag.Immutable });
    await fails('EPERM', meta.tmpfile(root, d, 0o600, 0));
    assert.deepEqual(await meta.usage(), { bytes: 4096 + 12_288, inodes: 2 });
    assert.deepEqual(await dirStatAfterClose(volume, d), { length: 10_000, space: 12_288, inodes: 1 });
  });

  test('a rename can leave a whiteout where the node was', async (t) => {
    const volume = await openVolume(t, database.newUrl());
    const { meta } = volume;
    const { ino: d } = await meta.mkdir(root, ROOT_INO, name('d'), 0o755, 0);
    const { ino } = await meta.mknod(root, d, name('a'), NodeType.File, 0o644, 0, 0);
    await meta.rename(root, d, name('a'), ROOT_INO, name('b'), RenameFlag.Whiteout);
    assert.equal((await meta.lookup(root, ROOT_INO, name('b'))).ino, ino);
    const { attr } = await meta.lookup(root, d, name('a'));
    assert.deepEqual([attr.type, attr.rdev, attr.mode, attr.nlink, attr.parent], [NodeType.CharDevice, 0, 0, 1, d]);
    await fails('EEXIST', meta.rename(root, d, name('a'), ROOT_INO, name('b'), RenameFlag.Whiteout | RenameFlag.NoReplace));
    await fails('EINVAL', meta.rename(root, d, name('a'), ROOT_INO, name('b'), RenameFlag.Whiteout | RenameFlag.Exchange));
    // Of a directory, too, and in its own place.
    await meta.mkdir(root, d, name('sub'), 0o755, 0);
    await meta.rename(root, d, name('sub'), d, name('moved'), RenameFlag.Whiteout | RenameFlag.NoReplace);
    assert.equal((await meta.lookup(root, d, name('sub'))).attr.type, NodeType.CharDevice);
    assert.equal((await meta.getattr(root, d)).nlink, 3);
    assert.deepEqual(await meta.usage(), { bytes: 5 * 4096, inodes: 5 });
    assert.deepEqual(await dirStatAfterClose(volume, d), { length: 0, space: 3 * 4096, inodes: 3 });
  });
});
