import assert from 'node:assert/strict';
import { test } from 'node:test';
import { changedAttr } from './attributes.ts';
import { plainFile } from './testing/sample.ts';
import { type Attr, type Context, NodeType, type SetAttr } from './types.ts';

const now = { sec: 1000, nsec: 5 };
const file: Attr = { ...plainFile, uid: 10, gid: 20, atime: 1, atimensec: 1, mtime: 2, mtimensec: 2, ctime: 3, ctimensec: 3 };
const root: Context = { uid: 0, gid: 0, pid: 1, checkPermission: true };
const user = (uid: number, ...gids: number[]): Context => ({ uid, gid: gids[0] ?? uid, gids, pid: 1, checkPermission: true });
const mode = (ctx: Context, attr: Attr, set: SetAttr): string => changedAttr(ctx, attr, set, now).mode.toString(8);

test('a change moves ctime, and no change moves nothing', () => {
  assert.deepEqual(changedAttr(root, file, { mode: 0o600 }, now), { ...file, mode: 0o600, ctime: 1000, ctimensec: 5 });
  assert.equal(changedAttr(root, file, { mode: 0o644, uid: 10, gid: 20, mtime: { sec: 2, nsec: 2 } }, now), file);
});

test('only root gives a file away, and a user moves it between own groups only', () => {
  assert.equal(changedAttr(root, file, { uid: 7, gid: 8 }, now).uid, 7);
  assert.throws(() => changedAttr(user(10, 20), file, { uid: 7 }, now), { code: 'EPERM' });
  assert.equal(changedAttr(user(10, 20, 30), file, { gid: 30 }, now).gid, 30);
  assert.throws(() => changedAttr(user(10, 20), file, { gid: 31 }, now), { code: 'EPERM' });
  assert.throws(() => changedAttr(user(11, 20), file, { gid: 20 }, now), { code: 'EPERM' });
});

test('a new owner loses the special bits, except what root keeps for locking and what directories have', () => {
  const special = { ...file, mode: 0o6755 };
  assert.equal(mode(user(10, 20), special, { gid: 20 }), '755');
  assert.equal(mode(root, special, { uid: 7 }), '755');
  assert.equal(mode(root, { ...special, mode: 0o6745 }, { uid: 7 }), '2745');
  assert.equal(mode(root, { ...special, type: NodeType.Directory }, { uid: 7 }), '6755');
  assert.equal(mode(root, special, { uid: 7, mode: 0o700 }), '6700');
});

test('the mode is changed by its owner, who cannot set SGID for a group of others', () => {
  assert.equal(mode(user(10, 20), file, { mode: 0o2755 }), '2755');
  assert.equal(mode(user(10, 99), file, { mode: 0o2755 }), '755');
  assert.throws(() => mode(user(11, 20), file, { mode: 0o600 }), { code: 'EPERM' });
  assert.equal(mode(user(11, 20), { ...file, mode: 0o4644 }, { mode: 0o644 }), '644');
});

test('"now" needs write permission, any other time the owner or root', () => {
  const times = (ctx: Context, attr: Attr, set: SetAttr): number => changedAttr(ctx, attr, set, now).mtime;
  assert.equal(times(user(11, 20), { ...file, mode: 0o664 }, { mtime: 'now' }), 1000);
  assert.throws(() => times(user(11, 20), file, { mtime: 'now' }), { code: 'EACCES' });
  assert.equal(times(user(10), file, { mtime: { sec: 7, nsec: 0 } }), 7);
  assert.throws(() => times(user(11), file, { mtime: { sec: 7, nsec: 0 } }), { code: 'EACCES' });
  assert.throws(() => times(user(11), { ...file, uid: 0 }, { mtime: { sec: 7, nsec: 0 } }), { code: 'EPERM' });
});

test('a time before 1970 becomes the present, as the official client has it', () => {
  assert.equal(changedAttr(root, file, { atime: { sec: -1, nsec: 0 } }, now).atime, 1000);
});
