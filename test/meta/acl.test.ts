/** Access control lists over every engine: what they make of modes and new nodes, who may do what, and how they are stored. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { type Ino, ROOT_INO } from '../../src/lib/int64.ts';
import { type AclRule, decodeRule, ruleFromXattr, ruleToXattr, UNSET } from '../../src/meta/acl-rule.ts';
import { ACL_ACCESS, ACL_DEFAULT } from '../../src/meta/acl-xattrs.ts';
import { type Meta, NodeType } from '../../src/meta/types.ts';
import { describeEngines } from './engines.ts';
import { fails, name, openVolume, ROOT_USER as ctx, type TestVolume, user } from './volume.ts';

const named: AclRule = { owner: 7, group: 5, mask: 7, other: 0, users: [{ id: 1001, permissions: 6 }], groups: [] };
const minimal: AclRule = { owner: 6, group: 4, mask: UNSET, other: 0, users: [], groups: [] };

const set = (meta: Meta, ino: Ino, rule: AclRule, which = ACL_ACCESS, as = ctx): Promise<void> =>
  meta.setxattr(as, ino, which, ruleToXattr(rule), {});
const get = async (meta: Meta, ino: Ino, which = ACL_ACCESS): Promise<AclRule> =>
  ruleFromXattr(await meta.getxattr(ctx, ino, which));
const mode = async (meta: Meta, ino: Ino): Promise<string> => (await meta.getattr(ctx, ino)).mode.toString(8);

describeEngines('access control lists', (database) => {
  const open = (t: TestContext, enableAcl = true): Promise<TestVolume> => openVolume(t, database.newUrl(), { enableAcl });
  const make = async ({ meta }: TestVolume, text = 'file'): Promise<Ino> =>
    (await meta.mknod({ ...ctx, uid: 1000, gid: 2000 }, ROOT_INO, name(text), NodeType.File, 0o644, 0, 0)).ino;

  test('a list is set, read by every client, changed by chmod, and removed', async (t) => {
    const volume = await open(t);
    const ino = await make(volume);
    const other = await volume.another();
    await fails('ENODATA', volume.meta.getxattr(ctx, ino, ACL_ACCESS));
    await set(volume.meta, ino, named);
    assert.equal(await mode(other, ino), '770');
    assert.deepEqual(await get(other, ino), named);
    assert.deepEqual(await other.listxattr(ctx, ino), [ACL_ACCESS]);
    await other.setattr(ctx, ino, { mode: 0o4751 });
    assert.equal(await mode(volume.meta, ino), '4751');
    assert.deepEqual(await get(volume.meta, ino), { ...named, mask: 5, other: 1 });
    await volume.meta.setattr(ctx, ino, { uid: 7 });
    assert.deepEqual(await get(volume.meta, ino), { ...named, mask: 5, other: 1 }, 'another owner changes nothing of it');
    await volume.meta.removexattr(ctx, ino, ACL_ACCESS);
    await fails('ENODATA', volume.meta.getxattr(ctx, ino, ACL_ACCESS));
    assert.deepEqual(await volume.meta.listxattr(ctx, ino), []);
  });

  test('a list that says no more than a mode becomes the mode', async (t) => {
    const volume = await open(t);
    const ino = await make(volume);
    await set(volume.meta, ino, named);
    await set(volume.meta, ino, minimal);
    assert.equal(await mode(volume.meta, ino), '640');
    assert.equal((await volume.meta.getattr(ctx, ino)).accessAcl, 0);
  });

  test('what is made in a directory with a default list gets it, instead of the umask', async (t) => {
    const volume = await open(t);
    const { meta } = volume;
    const { ino: parent } = await meta.mkdir(ctx, ROOT_INO, name('d'), 0o755, 0);
    const rule = { ...named, mask: 6, groups: [{ id: 5, permissions: 3 }] };
    await set(meta, parent, rule, ACL_DEFAULT);
    assert.equal(await mode(meta, parent), '755', 'the directory itself is as it was');
    const file = await meta.create(ctx, parent, name('f'), 0o664, 0o077, true);
    assert.equal(await mode(meta, file.ino), '660');
    assert.deepEqual(await get(meta, file.ino), { ...rule, owner: 6, mask: 6, other: 0 });
    await fails('ENODATA', meta.getxattr(ctx, file.ino, ACL_DEFAULT));
    const below = await meta.mkdir(ctx, parent, name('e'), 0o700, 0o077);
    assert.equal(await mode(meta, below.ino), '700');
    assert.deepEqual(await get(meta, below.ino, ACL_DEFAULT), rule);
    assert.deepEqual([...(await meta.listxattr(ctx, below.ino))].toSorted(), [ACL_ACCESS, ACL_DEFAULT]);
    const link = await meta.symlink(ctx, parent, name('s'), name('t'));
    assert.equal((await meta.getattr(ctx, link.ino)).accessAcl, 0);
    await set(meta, parent, { ...minimal, other: 7 }, ACL_DEFAULT);
    const plain = await meta.create(ctx, parent, name('g'), 0o666, 0o077, true);
    assert.equal(await mode(meta, plain.ino), '646');
    assert.equal((await meta.getattr(ctx, plain.ino)).accessAcl, 0);
  });

  test('lists decide where permissions are checked here, also those that this client has not read yet', async (t) => {
    const volume = await open(t);
    const ino = await make(volume);
    const fresh = await volume.another();
    await set(volume.meta, ino, { ...named, groups: [{ id: 2002, permissions: 4 }], other: 0 });
    for (const meta of [fresh, volume.meta]) {
      await meta.access(user(1001, 9), ino, 6);
      await fails('EACCES', meta.access(user(1001, 9), ino, 1));
      await meta.access(user(1002, 9, [9, 2002]), ino, 4);
      await fails('EACCES', meta.access(user(1002, 9, [9, 2002]), ino, 2));
      await fails('EACCES', meta.access(user(1003, 9), ino, 4));
      await meta.open(user(1001, 9), ino, 2);
      await fails('EACCES', meta.open(user(1002, 2002), ino, 2));
    }
    const { ino: parent } = await volume.meta.mkdir(ctx, ROOT_INO, name('d'), 0o700, 0);
    await set(volume.meta, parent, { ...named, users: [{ id: 1001, permissions: 7 }] });
    const later = await volume.another();
    await later.mknod(user(1001, 9), parent, name('x'), NodeType.File, 0o644, 0, 0);
    await fails('EACCES', later.mknod(user(1002, 9), parent, name('y'), NodeType.File, 0o644, 0, 0));
    const names: string[] = [];
    for await (const batch of later.readdir(user(1001, 9), parent, true))
      names.push(...batch.map((entry) => entry.name.toString()));
    assert.deepEqual(names, ['x']);
  });

  test('only owner and root set lists, on what can have them', async (t) => {
    const volume = await open(t);
    const ino = await make(volume);
    await fails('EPERM', set(volume.meta, ino, named, ACL_ACCESS, user(1001)));
    await set(volume.meta, ino, named, ACL_ACCESS, user(1000, 2000));
    await fails('EACCES', set(volume.meta, ino, named, ACL_DEFAULT));
    await volume.meta.removexattr(ctx, ino, ACL_DEFAULT);
    await volume.meta.setattr(ctx, ino, { mode: 0o2770 });
    await set(volume.meta, ino, { ...named, mask: 5 }, ACL_ACCESS, user(1000, 7));
    assert.equal(await mode(volume.meta, ino), '750', 'who is not of the group takes its bit away');
    await volume.meta.setattr(ctx, ino, { flags: 1 });
    await fails('EPERM', set(volume.meta, ino, minimal));
    await fails('EINVAL', volume.meta.setxattr(ctx, ino, ACL_ACCESS, Buffer.from('x'), {}));
  });

  test('one rule has one number, for access and default, and for every client that knows it', async (t) => {
    const volume = await open(t);
    const ino = await make(volume);
    const { ino: parent } = await volume.meta.mkdir(ctx, ROOT_INO, name('d'), 0o755, 0);
    await set(volume.meta, ino, named);
    await set(volume.meta, parent, named, ACL_DEFAULT);
    const other = await volume.another();
    await set(other, parent, named);
    const stored = await volume.engine.acls(10);
    assert.deepEqual(
      stored.map(({ id, rule }) => [id, decodeRule(rule)]),
      [[1, named]],
    );
    const attr = await other.getattr(ctx, parent);
    assert.deepEqual([attr.accessAcl, attr.defaultAcl, (await other.getattr(ctx, ino)).accessAcl], [1, 1, 1]);
    await set(other, ino, { ...named, other: 1 });
    assert.deepEqual(await get(volume.meta, ino), { ...named, other: 1 }, 'a rule that another client made');
    assert.deepEqual(await volume.engine.acls(1), stored);
  });

  test('a volume without lists keeps none', async (t) => {
    const volume = await open(t, false);
    const ino = await make(volume);
    await fails('ENOTSUP', set(volume.meta, ino, named));
    await fails('ENOTSUP', volume.meta.removexattr(ctx, ino, ACL_DEFAULT));
    await fails('ENODATA', volume.meta.getxattr(ctx, ino, ACL_ACCESS));
  });
});
