import assert from 'node:assert/strict';
import { test } from 'node:test';
import { needsTouch } from './atime.ts';

const at = (atime: number, mtime: number, ctime = mtime) => ({
  atime,
  atimensec: 500,
  mtime,
  mtimensec: 500,
  ctime,
  ctimensec: 500,
});
const now = (sec: number, nsec = 500) => ({ sec, nsec });

test('noatime never touches, relatime after a change or a day, strictatime after a second', () => {
  for (const [name, attr, time, relatime, strictatime] of [
    ['read a moment ago', at(1000, 900), now(1000, 900), false, false],
    ['read a second ago', at(1000, 900), now(1001), false, false],
    ['read more than a second ago', at(1000, 900), now(1001, 501), false, true],
    ['changed since', at(1000, 1001), now(1001), true, true],
    ['changed since, by nanoseconds', { ...at(1000, 1000), mtimensec: 501 }, now(1000, 501), true, true],
    ['attributes changed since', at(1000, 900, 1001), now(1001), true, true],
    ['just made', at(1000, 1000), now(1000), false, false],
    ['a day ago', at(1000, 900), now(1000 + 86_400), false, true],
    ['more than a day ago', at(1000, 900), now(1001 + 86_400), true, true],
    ['in the future', at(9000, 900), now(1000), false, false],
  ] as const) {
    assert.equal(needsTouch('noatime', attr, time), false, name);
    assert.equal(needsTouch('relatime', attr, time), relatime, name);
    assert.equal(needsTouch('strictatime', attr, time), strictatime, name);
  }
});
