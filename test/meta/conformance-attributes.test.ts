/** Attributes and extended attributes of nodes, over every engine: who may change them, and what changes with them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ino, ROOT_INO } from '../../src/lib/int64.ts';
import { type Context, type Meta, NodeFlag, NodeType } from '../../src/meta/types.ts';
import { type Database, describeEngines } from './engines.ts';
import { fails, name, openVolume, ROOT_USER as root, user } from './volume.ts';

const owner = user(1000, 100);
const member = user(1000, 100, [100, 200]);
const stranger = user(2000);

describeEngines('attributes', (database: Database) => {
  const volume = (t: Parameters<typeof openVolume>[0]) => openVolume(t, database.newUrl());
  const make = (meta: Meta, mode: number, ctx: Context = { ...owner, checkPermission: false }, text = 'f') =>
    meta.mknod(ctx, ROOT_INO, name(text), NodeType.File, mode, 0, 0);

  test('a change of mode, owner or time sets ctime, and nothing else does', async (t) => {
    const { meta, clock } = await volume(t);
    const { ino, attr } = await make(meta, 0o644);
    clock.advance(1234);
    const now = { sec: Number(clock.ns / 1_000_000_000n), nsec: Number(clock.ns % 1_000_000_000n) };
    const changed = await meta.setattr(root, ino, { mode: 0o600 });
    assert.deepEqual(changed, { ...attr, mode: 0o600, ctime: now.sec, ctimensec: now.nsec });
    assert.deepEqual(await meta.getattr(root, ino), changed);
    const times = await meta.setattr(root, ino, { atime: { sec: 1, nsec: 2 }, mtime: { sec: 4_102_444_800, nsec: 999_999_999 } });
    assert.deepEqual(times, { ...changed, atime: 1, atimensec: 2, mtime: 4_102_444_800, mtimensec: 999_999_999 });
    const present = await meta.setattr(root, ino, { atime: 'now', mtime: 'now' });
    assert.deepEqual([present.atime, present.mtimensec], [now.sec, now.nsec]);
    assert.deepEqual(await meta.setattr(root, ino, { uid: 7, gid: 8 }), { ...present, uid: 7, gid: 8 });
    assert.equal((await meta.setattr(root, ino, { flags: NodeFlag.SkipTrash })).flags, NodeFlag.SkipTrash);
    await fails('ENOENT', meta.setattr(root, 4711 as typeof ino, { mode: 0 }));
  });

  test('a time before 1970 is taken as now, as JuiceFS does', async (t) => {
    const { meta, clock } = await volume(t);
    const { ino } = await make(meta, 0o644);
    const attr = await meta.setattr(root, ino, { mtime: { sec: -5, nsec: 0 } });
    assert.equal(attr.mtime, Number(clock.ns / 1_000_000_000n));
  });

  test('only the owner and root change the mode', async (t) => {
    const { meta } = await volume(t);
    const { ino } = await make(meta, 0o644);
    await fails('EPERM', meta.setattr(stranger, ino, { mode: 0o777 }));
    assert.equal((await meta.setattr(owner, ino, { mode: 0o4700 })).mode, 0o4700);
    assert.equal((await meta.setattr(owner, ino, { mode: 0o2750 })).mode, 0o2750, 'the file is of a group of the owner');
    await meta.setattr(root, ino, { gid: 300 });
    assert.equal((await meta.setattr(owner, ino, { mode: 0o2750 })).mode & 0o2000, 0, 'no setgid for a group one is not in');
  });

  test('only root gives files away; the owner may choose among the own groups', async (t) => {
    const { meta } = await volume(t);
    const { ino } = await make(meta, 0o644);
    await fails('EPERM', meta.setattr(owner, ino, { uid: 2000 }));
    await fails('EPERM', meta.setattr(owner, ino, { gid: 200 }));
    await fails('EPERM', meta.setattr(stranger, ino, { gid: 2000 }));
    assert.equal((await meta.setattr(member, ino, { gid: 200 })).gid, 200);
    const given = await meta.setattr(root, ino, { uid: 2000, gid: 2001 });
    assert.deepEqual([given.uid, given.gid], [2000, 2001]);
  });

  test('a new owner takes the special bits from files, and leaves them to directories', async (t) => {
    const { meta } = await volume(t);
    const file = await make(meta, 0o6755);
    assert.equal((await meta.setattr(root, file.ino, { uid: 5 })).mode, 0o755);
    const locking = await make(meta, 0o6745, undefined, 'locking');
    assert.equal((await meta.setattr(root, locking.ino, { uid: 5 })).mode, 0o2745, 'setgid without group execute means locking');
    const own = await make(meta, 0o6755, undefined, 'own');
    assert.equal((await meta.setattr(member, own.ino, { gid: 200 })).mode, 0o755);
    const directory = await meta.mkdir({ ...root, uid: 1000 }, ROOT_INO, name('d'), 0o6755, 0);
    assert.equal((await meta.setattr(root, directory.ino, { uid: 5 })).mode, 0o6755);
  });

  test('times are set by the owner, and to now by whoever may write', async (t) => {
    const { meta } = await volume(t);
    const { ino } = await make(meta, 0o646);
    await meta.setattr(owner, ino, { mtime: { sec: 5, nsec: 0 } });
    await meta.setattr(stranger, ino, { mtime: 'now', atime: 'now' });
    await meta.setattr(root, ino, { mode: 0o644 });
    await fails('EACCES', meta.setattr(stranger, ino, { mtime: 'now' }));
    const roots = await make(meta, 0o666, root, 'roots');
    await fails('EPERM', meta.setattr(stranger, roots.ino, { mtime: { sec: 5, nsec: 0 } }));
  });

  test('an open asks for the permission that its flags need', async (t) => {
    const { meta } = await volume(t);
    const [rdonly, wronly, rdwr, append, truncate] = [0, 1, 2, 0o2000, 0o1000];
    const { ino } = await make(meta, 0o604);
    await meta.open(stranger, ino, rdonly);
    await fails('EACCES', meta.open(stranger, ino, wronly));
    await fails('EACCES', meta.open(stranger, ino, rdwr));
    await fails('EACCES', meta.open(user(3000, 100), ino, rdonly));
    await meta.setattr(root, ino, { flags: NodeFlag.Append });
    await fails('EPERM', meta.open(root, ino, wronly));
    await fails('EPERM', meta.open(root, ino, wronly | append | truncate));
    await meta.open(root, ino, wronly | append);
    await meta.setattr(root, ino, { flags: NodeFlag.Immutable });
    await fails('EPERM', meta.open(root, ino, rdwr));
    await meta.open(root, ino, rdonly);
  });

  test('extended attributes hold any bytes, and keep to create and replace', async (t) => {
    const { meta } = await volume(t);
    const { ino, attr } = await make(meta, 0o644);
    const values: readonly (readonly [string, Buffer])[] = [
      ['user.binary', Buffer.from([0, 255, 1, 10])],
      ['user.empty', Buffer.alloc(0)],
      ['user.käse', Buffer.from('x')],
      ['security.capability', Buffer.alloc(database.largestValue, 7)],
    ];
    for (const [key, value] of values) await meta.setxattr(root, ino, key, value, {});
    for (const [key, value] of values) assert.deepEqual(await meta.getxattr(root, ino, key), value);
    assert.deepEqual([...(await meta.listxattr(root, ino))].toSorted(), values.map(([key]) => key).toSorted());
    await fails('EEXIST', meta.setxattr(root, ino, 'user.empty', Buffer.from('y'), { create: true }));
    await fails('ENODATA', meta.setxattr(root, ino, 'user.none', Buffer.from('y'), { replace: true }));
    await meta.setxattr(root, ino, 'user.empty', Buffer.from('y'), { replace: true });
    assert.deepEqual(await meta.getxattr(root, ino, 'user.empty'), Buffer.from('y'));
    await meta.removexattr(root, ino, 'user.empty');
    await fails('ENODATA', meta.removexattr(root, ino, 'user.empty'));
    await fails('ENODATA', meta.getxattr(root, ino, 'user.empty'));
    await fails('E2BIG', meta.setxattr(root, ino, 'user.big', Buffer.alloc(65_537), {}));
    await fails('ERANGE', meta.setxattr(root, ino, `user.${'x'.repeat(251)}`, Buffer.alloc(1), {}));
    assert.deepEqual(await meta.getattr(root, ino), attr, 'no time of the node changes');
  });

  test('extended attributes go with the node, and are refused without permission', async (t) => {
    const { meta, engine } = await volume(t);
    const { ino: file } = await make(meta, 0o640);
    await meta.setxattr(owner, file, 'user.a', Buffer.from('1'), {});
    await fails('EACCES', meta.setxattr(stranger, file, 'user.b', Buffer.from('1'), {}));
    await fails('EACCES', meta.getxattr(stranger, file, 'user.a'));
    await fails('EACCES', meta.removexattr(stranger, file, 'user.a'));
    await fails('ENOENT', meta.setxattr(root, ino(4711), 'user.a', Buffer.from('1'), {}));
    await meta.unlink(root, ROOT_INO, name('f'));
    assert.deepEqual(await engine.read([{ kind: 'xattrNames', ino: file }]), [[]]);
  });
});
