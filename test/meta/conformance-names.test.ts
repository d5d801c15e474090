/** The operations of `Meta` on names, over every engine: what they make of the tree, and what they refuse. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Ino, ino, ROOT_INO } from '../../src/lib/int64.ts';
import { type Attr, NodeFlag, NodeType, RenameFlag } from '../../src/meta/types.ts';
import { type Database, describeEngines } from './engines.ts';
import { fails, list, name, openVolume, ROOT_USER as root, user } from './volume.ts';

const times = (attr: Attr): readonly number[] => [attr.mtime, attr.mtimensec, attr.ctime, attr.ctimensec];

describeEngines('operations on names', (database: Database) => {
  const volume = (t: Parameters<typeof openVolume>[0], input = {}) => openVolume(t, database.newUrl(), input);

  test('a new node has the owner, mode, type and times of its making, and its directory the same times', async (t) => {
    const { meta, clock } = await volume(t);
    const kinds = [
      [NodeType.File, 0],
      [NodeType.Fifo, 0],
      [NodeType.BlockDevice, 1792],
      [NodeType.CharDevice, 259],
      [NodeType.Socket, 0],
    ] as const;
    for (const [type, rdev] of kinds) {
      clock.advance(10);
      const made = await meta.mknod({ ...root, uid: 5, gid: 6 }, ROOT_INO, name(`node ${type}`), type, 0o4777, 0o026, rdev);
      const { attr } = made;
      assert.deepEqual(
        [attr.type, attr.mode, attr.uid, attr.gid, attr.nlink, attr.length, attr.rdev, attr.parent],
        [type, 0o4751, 5, 6, 1, 0, rdev, 1],
      );
      assert.deepEqual(await meta.getattr(root, made.ino), attr);
      assert.deepEqual(await meta.lookup(root, ROOT_INO, name(`node ${type}`)), made);
      const now = [Number(clock.ns / 1_000_000_000n), Number(clock.ns % 1_000_000_000n)];
      assert.deepEqual(times(attr), [...now, ...now]);
      assert.deepEqual(times(await meta.getattr(root, ROOT_INO)), [...now, ...now], 'within 10 ms of the last one');
    }
    const directory = await meta.mkdir(root, ROOT_INO, name('d'), 0o777, 0o022);
    assert.deepEqual([directory.attr.mode, directory.attr.nlink, directory.attr.length], [0o755, 2, 4096]);
    assert.equal((await meta.getattr(root, ROOT_INO)).nlink, 3);
    assert.equal(directory.ino, 7, 'inodes are given out from 2');
  });

  test('names are any bytes but NUL and slash, 1 to 255 of them', async (t) => {
    const { meta } = await volume(t);
    const make = (text: string) => meta.mkdir(root, ROOT_INO, name(text), 0o755, 0);
    for (const good of ['x'.repeat(255), '\xff\xfe', ' ', '\n', '...', 'a\\b', '%', '*']) {
      const { ino } = await make(good);
      assert.deepEqual((await meta.lookup(root, ROOT_INO, name(good))).ino, ino);
    }
    await fails('ENAMETOOLONG', make('x'.repeat(256)));
    await fails('ENAMETOOLONG', meta.lookup(root, ROOT_INO, name('x'.repeat(256))));
    for (const bad of ['', 'a/b', 'a\0']) await fails('EINVAL', make(bad));
    for (const taken of ['.', '..', ' ']) await fails('EEXIST', make(taken));
    assert.equal((await list(meta, ROOT_INO)).length, 8);
  });

  test('what does not exist, or is no directory, is said to be so', async (t) => {
    const { meta } = await volume(t);
    const file = await meta.mknod(root, ROOT_INO, name('f'), NodeType.File, 0o644, 0, 0);
    await fails('ENOENT', meta.lookup(root, ROOT_INO, name('none')));
    await fails('ENOENT', meta.getattr(root, ino(4711)));
    await fails('ENOENT', meta.mkdir(root, ino(4711), name('d'), 0o755, 0));
    await fails('ENOTDIR', meta.mkdir(root, file.ino, name('d'), 0o755, 0));
    await fails('ENOENT', meta.unlink(root, ROOT_INO, name('none')));
    await fails('ENOENT', meta.rmdir(root, ROOT_INO, name('none')));
    await fails('ENOTDIR', meta.rmdir(root, ROOT_INO, name('f')));
    await fails(
      'EPERM',
      meta.mkdir(root, ROOT_INO, name('d'), 0o755, 0).then(() => meta.unlink(root, ROOT_INO, name('d'))),
    );
    await fails('ENOENT', list(meta, ino(4711)));
    await fails('ENOTDIR', list(meta, file.ino));
    await fails('EINVAL', meta.readlink(root, file.ino));
  });

  test('dot and dot-dot are looked up without being stored', async (t) => {
    const { meta } = await volume(t);
    const a = await meta.mkdir(root, ROOT_INO, name('a'), 0o755, 0);
    const b = await meta.mkdir(root, a.ino, name('b'), 0o755, 0);
    assert.equal((await meta.lookup(root, b.ino, name('.'))).ino, b.ino);
    assert.equal((await meta.lookup(root, b.ino, name('..'))).ino, a.ino);
    assert.equal((await meta.lookup(root, ROOT_INO, name('..'))).ino, ROOT_INO);
    assert.deepEqual(await list(meta, b.ino), []);
  });

  test('create opens an existing file unless it must be new', async (t) => {
    const { meta } = await volume(t);
    const first = await meta.create(root, ROOT_INO, name('f'), 0o640, 0o022, true);
    assert.equal(first.attr.mode, 0o640);
    await fails('EEXIST', meta.create(root, ROOT_INO, name('f'), 0o600, 0, true));
    assert.deepEqual((await meta.create(root, ROOT_INO, name('f'), 0o600, 0, false)).ino, first.ino);
    await meta.mkdir(root, ROOT_INO, name('d'), 0o755, 0);
    await fails('EISDIR', meta.create(root, ROOT_INO, name('d'), 0o600, 0, false));
  });

  test('a symbolic link keeps the bytes of its target', async (t) => {
    const { meta } = await volume(t);
    const target = Buffer.concat([Buffer.from('../käse\xff%'), Buffer.alloc(2000, 'x')]);
    const link = await meta.symlink({ ...root, uid: 3 }, ROOT_INO, name('l'), target);
    assert.deepEqual(
      [link.attr.type, link.attr.mode, link.attr.length, link.attr.uid],
      [NodeType.Symlink, 0o777, target.length, 3],
    );
    assert.deepEqual(await meta.readlink(root, link.ino), target);
    await fails('ENAMETOOLONG', meta.symlink(root, ROOT_INO, name('m'), Buffer.alloc(4097, 'x')));
    await meta.unlink(root, ROOT_INO, name('l'));
    await fails('ENOENT', meta.readlink(root, link.ino));
  });

  test('a file may have many names, in many directories, and lives as long as one of them', async (t) => {
    const { meta, engine } = await volume(t);
    const d = await meta.mkdir(root, ROOT_INO, name('d'), 0o755, 0);
    const file = await meta.mknod(root, ROOT_INO, name('a'), NodeType.File, 0o644, 0, 0);
    assert.equal((await meta.link(root, file.ino, ROOT_INO, name('b'))).nlink, 2);
    assert.equal((await meta.link(root, file.ino, d.ino, name('c'))).parent, 0);
    const parents = async (): Promise<ReadonlyMap<Ino, number>> => (await engine.read([{ kind: 'parents', ino: file.ino }]))[0];
    assert.deepEqual(
      await parents(),
      new Map([
        [ROOT_INO, 2],
        [d.ino, 1],
      ]),
    );
    await fails('EEXIST', meta.link(root, file.ino, ROOT_INO, name('b')));
    await fails('EPERM', meta.link(root, d.ino, ROOT_INO, name('dd')));
    await fails('ENOENT', meta.link(root, ino(4711), ROOT_INO, name('z')));
    await meta.rename(root, d.ino, name('c'), ROOT_INO, name('c'), 0);
    assert.deepEqual(await parents(), new Map([[ROOT_INO, 3]]));
    for (const [text, left] of [
      ['a', 2],
      ['c', 1],
    ] as const) {
      await meta.unlink(root, ROOT_INO, name(text));
      assert.equal((await meta.getattr(root, file.ino)).nlink, left);
    }
    await meta.unlink(root, ROOT_INO, name('b'));
    await fails('ENOENT', meta.getattr(root, file.ino));
    assert.deepEqual(await parents(), new Map());
  });

  test('only an empty directory is removed', async (t) => {
    const { meta } = await volume(t);
    const d = await meta.mkdir(root, ROOT_INO, name('d'), 0o755, 0);
    await meta.mkdir(root, d.ino, name('e'), 0o755, 0);
    await fails('ENOTEMPTY', meta.rmdir(root, ROOT_INO, name('d')));
    await meta.rmdir(root, d.ino, name('e'));
    assert.equal((await meta.getattr(root, d.ino)).nlink, 2);
    await meta.rmdir(root, ROOT_INO, name('d'));
    assert.equal((await meta.getattr(root, ROOT_INO)).nlink, 2);
    await fails('ENOENT', meta.getattr(root, d.ino));
    await fails('ENOENT', meta.mkdir(root, d.ino, name('x'), 0o755, 0));
  });

  test('a rename replaces what may be replaced, and answers both', async (t) => {
    const { meta } = await volume(t);
    const mkdir = (text: string, parent: Ino = ROOT_INO) => meta.mkdir(root, parent, name(text), 0o755, 0);
    const mkfile = (text: string, parent: Ino = ROOT_INO) => meta.mknod(root, parent, name(text), NodeType.File, 0o644, 0, 0);
    const [d, e, f, g] = [await mkdir('d'), await mkdir('e'), await mkfile('f'), await mkfile('g')];
    const move = (from: string, to: string, flags = 0, toDir: Ino = ROOT_INO) =>
      meta.rename(root, ROOT_INO, name(from), toDir, name(to), flags);
    await fails('ENOENT', move('none', 'x'));
    await fails('EISDIR', move('f', 'd'));
    await fails('ENOTDIR', move('d', 'f'));
    await fails('EEXIST', move('f', 'g', RenameFlag.NoReplace));
    await fails('ENOENT', move('f', 'none', RenameFlag.Exchange));
    await fails('EINVAL', move('f', 'x', RenameFlag.NoReplace | RenameFlag.Exchange));
    await fails('EINVAL', move('f', 'x', 64));
    const replaced = await move('f', 'g');
    assert.deepEqual([replaced.moved.ino, replaced.replaced?.ino], [f.ino, g.ino]);
    await fails('ENOENT', meta.getattr(root, g.ino));
    await mkfile('in', e.ino);
    await fails('ENOTEMPTY', move('d', 'e'));
    assert.equal((await move('g', 'g')).moved.ino, f.ino, 'onto itself');
    await meta.unlink(root, e.ino, name('in'));
    await move('d', 'e');
    assert.deepEqual([(await meta.getattr(root, ROOT_INO)).nlink, (await meta.getattr(root, d.ino)).parent], [3, ROOT_INO]);
    const sub = await mkdir('sub', d.ino);
    const subsub = await mkdir('subsub', sub.ino);
    await fails('EINVAL', move('e', 'x', 0, d.ino));
    await fails('EINVAL', move('e', 'x', 0, subsub.ino));
    await meta.rename(root, sub.ino, name('subsub'), ROOT_INO, name('top'), 0);
    assert.deepEqual((await meta.lookup(root, subsub.ino, name('..'))).ino, ROOT_INO);
    assert.deepEqual([(await meta.getattr(root, ROOT_INO)).nlink, (await meta.getattr(root, sub.ino)).nlink], [4, 2]);
  });

  test('two names of one file are not renamed onto each other', async (t) => {
    const { meta } = await volume(t);
    const file = await meta.mknod(root, ROOT_INO, name('a'), NodeType.File, 0o644, 0, 0);
    await meta.link(root, file.ino, ROOT_INO, name('b'));
    await meta.rename(root, ROOT_INO, name('a'), ROOT_INO, name('b'), 0);
    assert.deepEqual(await list(meta, ROOT_INO), [
      ['a', file.ino],
      ['b', file.ino],
    ]);
  });

  test('an exchange swaps a file and a directory between two directories', async (t) => {
    const { meta } = await volume(t);
    const [a, b] = [await meta.mkdir(root, ROOT_INO, name('a'), 0o755, 0), await meta.mkdir(root, ROOT_INO, name('b'), 0o755, 0)];
    const file = await meta.mknod(root, a.ino, name('x'), NodeType.File, 0o644, 0, 0);
    const directory = await meta.mkdir(root, b.ino, name('y'), 0o755, 0);
    const answer = await meta.rename(root, a.ino, name('x'), b.ino, name('y'), RenameFlag.Exchange);
    assert.deepEqual([answer.moved.ino, answer.replaced?.ino], [file.ino, directory.ino]);
    assert.deepEqual([await list(meta, a.ino), await list(meta, b.ino)], [[['x', directory.ino]], [['y', file.ino]]]);
    const nlinks = await Promise.all([a, b].map(async ({ ino }) => (await meta.getattr(root, ino)).nlink));
    assert.deepEqual(nlinks, [3, 2]);
    assert.deepEqual(
      [(await meta.getattr(root, file.ino)).parent, (await meta.getattr(root, directory.ino)).parent],
      [b.ino, a.ino],
    );
  });

  test('write and search permission on the directory is needed to change its names', async (t) => {
    const { meta } = await volume(t);
    const d = await meta.mkdir({ ...root, uid: 1000, gid: 100 }, ROOT_INO, name('d'), 0o755, 0);
    await meta.mknod(root, d.ino, name('f'), NodeType.File, 0o644, 0, 0);
    const stranger = user(2000);
    await fails('EACCES', meta.mkdir(stranger, d.ino, name('x'), 0o755, 0));
    await fails('EACCES', meta.unlink(stranger, d.ino, name('f')));
    await fails('EACCES', meta.rename(stranger, d.ino, name('f'), ROOT_INO, name('f'), 0));
    await meta.setattr(root, d.ino, { mode: 0o770 });
    await fails('EACCES', meta.lookup(stranger, d.ino, name('f')));
    await fails('EACCES', list(meta, d.ino, stranger));
    await fails('EACCES', meta.access(stranger, d.ino, 1));
    await meta.mkdir(user(2000, 2000, [2000, 100]), d.ino, name('by group'), 0o755, 0);
    await meta.setattr(root, d.ino, { mode: 0o070 });
    await fails('EACCES', meta.mkdir(user(1000, 100), d.ino, name('x'), 0o755, 0));
  });

  test('in a sticky directory only root and the owners take names away', async (t) => {
    const { meta } = await volume(t);
    const sticky = await meta.mkdir({ ...root, uid: 1 }, ROOT_INO, name('tmp'), 0o1777, 0);
    const make = (text: string) => meta.mknod({ ...root, uid: 1000 }, sticky.ino, name(text), NodeType.File, 0o666, 0, 0);
    for (const text of ['a', 'b', 'c', 'd']) await make(text);
    await fails('EACCES', meta.unlink(user(2000), sticky.ino, name('a')));
    await fails('EACCES', meta.rename(user(2000), sticky.ino, name('a'), sticky.ino, name('z'), 0));
    await meta.mknod({ ...root, uid: 2000 }, sticky.ino, name('mine'), NodeType.File, 0o666, 0, 0);
    await fails('EACCES', meta.rename(user(2000), sticky.ino, name('mine'), sticky.ino, name('a'), 0));
    await meta.unlink(user(1000), sticky.ino, name('a'));
    await meta.unlink(user(1), sticky.ino, name('b'));
    await meta.unlink(root, sticky.ino, name('c'));
    assert.deepEqual(
      (await list(meta, sticky.ino)).map(([text]) => text),
      ['d', 'mine'],
    );
  });

  test('under a setgid directory the group is handed on, and the bit to directories', async (t) => {
    const { meta } = await volume(t);
    const shared = await meta.mkdir({ ...root, gid: 500 }, ROOT_INO, name('shared'), 0o2777, 0);
    const made = await meta.mkdir(user(1000), shared.ino, name('d'), 0o755, 0);
    assert.deepEqual([made.attr.gid, made.attr.mode], [500, 0o2755]);
    const file = await meta.mknod(user(1000), shared.ino, name('f'), NodeType.File, 0o2755, 0, 0);
    assert.deepEqual([file.attr.gid, file.attr.mode], [500, 0o755], 'a stranger to the group makes no setgid file');
    const member = await meta.mknod(user(1000, 1000, [500]), shared.ino, name('g'), NodeType.File, 0o2755, 0, 0);
    assert.equal(member.attr.mode, 0o2755);
  });

  test('immutable and append-only things keep their names', async (t) => {
    const { meta } = await volume(t);
    const d = await meta.mkdir(root, ROOT_INO, name('d'), 0o755, 0);
    const f = await meta.mknod(root, d.ino, name('f'), NodeType.File, 0o644, 0, 0);
    for (const flags of [NodeFlag.Immutable, NodeFlag.Append]) {
      await meta.setattr(root, f.ino, { flags });
      await fails('EPERM', meta.unlink(root, d.ino, name('f')));
      await fails('EPERM', meta.rename(root, d.ino, name('f'), d.ino, name('g'), 0));
      await fails('EPERM', meta.link(root, f.ino, d.ino, name('g')));
      await fails('EPERM', meta.truncate(root, f.ino, 1));
      await meta.setattr(root, f.ino, { flags: 0 });
      await meta.setattr(root, d.ino, { flags });
      await fails('EPERM', meta.unlink(root, d.ino, name('f')));
      await fails('EPERM', meta.rename(root, d.ino, name('f'), ROOT_INO, name('f'), 0));
      if (flags === NodeFlag.Append) await meta.unlink(root, d.ino, name('new')).catch(() => {});
      else await fails('EPERM', meta.mkdir(root, d.ino, name('new'), 0o755, 0));
      await meta.setattr(root, d.ino, { flags: 0 });
    }
    await meta.setattr(root, d.ino, { flags: NodeFlag.Append });
    await meta.mkdir(root, d.ino, name('new'), 0o755, 0);
  });

  test('a large directory is listed once each name, with attributes, while it changes', async (t) => {
    const { meta } = await volume(t);
    const count = 3000;
    for (let from = 0; from < count; from += 500)
      await Promise.all(
        Array.from({ length: 500 }, (_, n) => meta.mknod(root, ROOT_INO, name(`f${from + n}`), NodeType.File, 0o644, 0, 0)),
      );
    const seen = new Set<string>();
    for await (const batch of meta.readdir(root, ROOT_INO, true)) {
      for (const entry of batch) {
        const text = entry.name.toString();
        assert.ok(!seen.has(text), `${text} came twice`);
        seen.add(text);
        assert.equal(entry.attr?.mode, 0o644);
      }
      await meta.mknod(root, ROOT_INO, name(`new ${seen.size}`), NodeType.File, 0o644, 0, 0);
    }
    for (let n = 0; n < count; n++) assert.ok(seen.has(`f${n}`));
  });

  test('a directory is read ahead as it is listed, unless it is larger, without what is learned meanwhile', async (t) => {
    const { meta } = await volume(t);
    const { ino: directory } = await meta.mkdir(root, ROOT_INO, name('d'), 0o755, 0);
    const inos: Ino[] = [];
    for (let index = 0; index < 100; index++) {
      const { ino: made } = await meta.mknod(root, directory, name(`n${index}`), NodeType.File, 0o644, 0, 0);
      inos.push(made);
    }
    const { atime, atimensec } = await meta.getattr(root, directory);
    const ahead = await meta.entriesAhead(directory, 100);
    const key = (entry: { readonly name: Buffer }): string => entry.name.toString();
    assert.equal(ahead?.length, 100);
    assert.equal(new Set(ahead.map(key)).size, 100);
    for (const entry of ahead) {
      assert.equal(entry.ino, inos[Number(key(entry).slice(1))]);
      assert.deepEqual(entry.attr, await meta.getattr(root, entry.ino));
    }
    assert.equal(await meta.entriesAhead(directory, 99), undefined);
    let answered = false;
    const change = meta.setattr(root, inos[7] as Ino, { mode: 0o600 }).then(() => (answered = true));
    const reading = await meta.entriesAhead(directory, 100);
    const seven = reading?.find((entry) => key(entry) === 'n7');
    assert.ok(!answered || seven?.attr === undefined || seven.attr.mode === 0o600, 'older than what was answered before');
    await change;
    const after = await meta.getattr(root, directory);
    assert.deepEqual([after.atime, after.atimensec], [atime, atimensec]);
  });

  test('many clients make and remove names in one directory at once, and it all adds up', async (t) => {
    const opened = await volume(t);
    const { meta, engine } = opened;
    const clients = [meta, await opened.another(), await opened.another()];
    const work = async (client: number): Promise<void> => {
      const own = clients[client]!;
      for (let n = 0; n < 20; n++) {
        await own.mkdir(root, ROOT_INO, name(`d${client}-${n}`), 0o755, 0);
        await own.mknod(root, ROOT_INO, name(`f${client}-${n}`), NodeType.File, 0o644, 0, 0);
        if (n % 2 === 0) await own.rmdir(root, ROOT_INO, name(`d${client}-${n}`));
        if (n % 3 === 0) await own.rename(root, ROOT_INO, name(`f${client}-${n}`), ROOT_INO, name(`g${client}-${n}`), 0);
      }
    };
    await Promise.all(clients.map((_client, index) => work(index)));
    const races = await Promise.allSettled(clients.map((client) => client.mkdir(root, ROOT_INO, name('same'), 0o755, 0)));
    assert.deepEqual(races.map(({ status }) => status).toSorted(), ['fulfilled', 'rejected', 'rejected']);
    assert.equal((await list(meta, ROOT_INO)).length, 3 * 30 + 1);
    assert.equal((await meta.getattr(root, ROOT_INO)).nlink, 2 + 3 * 10 + 1);
    for (const client of clients) await client.close();
    const [bytes, inodes, stat] = await engine.read([
      { kind: 'counter', name: 'usedSpace' },
      { kind: 'counter', name: 'totalInodes' },
      { kind: 'dirStat', ino: ROOT_INO },
    ]);
    assert.deepEqual([bytes, inodes], [91 * 4096, 91]);
    assert.deepEqual(stat, { length: 0, space: 91 * 4096, inodes: 91 });
  });
});
