import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ino, ROOT_INO } from '../lib/int64.ts';
import { isDots, isTrashName, requireNewName } from './names.ts';

test('names of 1 to 255 bytes without slash and NUL are taken, whatever else is in them', () => {
  for (const name of [Buffer.from('a'), Buffer.alloc(255, 0xff), Buffer.from('...'), Buffer.from('..a'), Buffer.from(' \n')])
    requireNewName(name);
});

test('what cannot be a name is refused with the errno that tells why', () => {
  const refused = { ENAMETOOLONG: Buffer.alloc(256, 'a'), EINVAL: Buffer.alloc(0), EEXIST: Buffer.from('..') };
  for (const [code, name] of Object.entries(refused)) assert.throws(() => requireNewName(name), { code });
  for (const name of ['a/b', 'a\0b']) assert.throws(() => requireNewName(Buffer.from(name)), { code: 'EINVAL' });
  assert.throws(() => requireNewName(Buffer.from('.')), { code: 'EEXIST' });
});

test('the trash has its name in the root only', () => {
  assert.ok(isTrashName(ROOT_INO, Buffer.from('.trash')));
  assert.ok(!isTrashName(ino(2), Buffer.from('.trash')));
  assert.ok(isDots(Buffer.from('..')) && isDots(Buffer.from('.')) && !isDots(Buffer.from('.a')));
});
