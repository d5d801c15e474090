import assert from 'node:assert/strict';
import { test } from 'node:test';
import { slotOf } from './slot.ts';

test('slots are those of the specification, and a hash tag decides alone', () => {
  // The check value of CRC-16/XMODEM.
  assert.equal(slotOf('123456789'), 0x31c3 & 0x3fff);
  assert.equal(slotOf('foo'), 12_182);
  assert.equal(slotOf('{1}setting'), slotOf('1'));
  assert.equal(slotOf('{1}i1'), slotOf('{1}d{2}'));
  assert.equal(slotOf('{}x'), slotOf('{}x'));
  assert.notEqual(slotOf('{}x'), slotOf('{}y'));
});
