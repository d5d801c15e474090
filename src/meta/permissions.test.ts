import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ino, TRASH_INO } from '../lib/int64.ts';
import {
  grants,
  inTrash,
  MAY_EXECUTE,
  MAY_READ,
  MAY_WRITE,
  requireAccess,
  requireAdd,
  requireMovable,
  requireRemove,
  requireSticky,
  requireStickyMove,
} from './permissions.ts';
import { plainFile } from './testing/sample.ts';
import { type Attr, type Context, NodeFlag, NodeType } from './types.ts';

const directory: Attr = { ...plainFile, type: NodeType.Directory, mode: 0o755, uid: 10, gid: 20, nlink: 2, length: 4096 };
const user = (uid: number, ...gids: number[]): Context => ({ uid, gid: gids[0] ?? uid, gids, pid: 1, checkPermission: true });
const root = user(0);

test('owner, group and others each have their own bits, and only these', () => {
  const attr = { ...directory, mode: 0o731 };
  assert.ok(grants(user(10), attr, MAY_READ | MAY_WRITE | MAY_EXECUTE));
  assert.ok(grants(user(11, 20), attr, MAY_WRITE | MAY_EXECUTE));
  assert.ok(!grants(user(11, 20), attr, MAY_READ));
  assert.ok(grants(user(11, 5, 20), attr, MAY_WRITE));
  assert.ok(grants(user(11, 5), attr, MAY_EXECUTE));
  assert.ok(!grants(user(11, 5), attr, MAY_WRITE));
  assert.ok(!grants(user(10), { ...attr, mode: 0o077 }, MAY_READ));
  assert.ok(grants(root, { ...attr, mode: 0 }, MAY_READ));
});

test('modes are left to the kernel where it has checked them', () => {
  const attr = { ...directory, mode: 0 };
  assert.throws(() => requireAccess(user(11), attr, MAY_READ), { code: 'EACCES' });
  requireAccess({ ...user(11), checkPermission: false }, attr, MAY_READ);
});

test('a directory takes names only where it may: not when immutable, not in the trash, not when it is no directory', () => {
  requireAdd(root, directory);
  requireAdd(root, { ...directory, flags: NodeFlag.Append });
  assert.throws(() => requireAdd(root, undefined), { code: 'ENOENT' });
  assert.throws(() => requireAdd(root, { ...directory, type: NodeType.File }), { code: 'ENOTDIR' });
  assert.throws(() => requireAdd(root, { ...directory, flags: NodeFlag.Immutable }), { code: 'EPERM' });
  assert.throws(() => requireAdd(root, { ...directory, parent: ino(TRASH_INO + 1) }), { code: 'ENOENT' });
  assert.throws(() => requireAdd(user(11), directory), { code: 'EACCES' });
  assert.ok(!inTrash({ ...directory, parent: TRASH_INO }));
});

test('names are not taken from an append-only or immutable directory, nor from a node of that kind', () => {
  requireRemove(root, directory);
  for (const flags of [NodeFlag.Append, NodeFlag.Immutable]) {
    assert.throws(() => requireRemove(root, { ...directory, flags }), { code: 'EPERM' });
    assert.throws(() => requireMovable({ ...directory, flags }), { code: 'EPERM' });
  }
});

test('in a sticky directory only root and the two owners take a name away', () => {
  const sticky = { ...directory, mode: 0o1777 };
  const file = { ...directory, type: NodeType.File, uid: 30 };
  for (const ctx of [root, user(10), user(30)]) requireSticky(ctx, sticky, file);
  assert.throws(() => requireSticky(user(40), sticky, file), { code: 'EACCES' });
  requireSticky(user(40), directory, file);
});

test('a directory leaves a sticky directory only with its own owner, a file also with that of the directory', () => {
  const sticky = { ...directory, mode: 0o1777 };
  const inner = { ...directory, uid: 30 };
  requireStickyMove(user(30), sticky, inner);
  requireStickyMove(root, sticky, inner);
  assert.throws(() => requireStickyMove(user(10), sticky, inner), { code: 'EACCES' });
  requireStickyMove(user(10), sticky, { ...inner, type: NodeType.File });
});
