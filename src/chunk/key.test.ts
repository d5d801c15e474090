import assert from 'node:assert/strict';
import { test } from 'node:test';
import { blockKey, BlockGeometry, parseBlockName } from './key.ts';

const MIB = 1024 * 1024;

test('blocks are named as JuiceFS names them', () => {
  assert.equal(blockKey(123456789, 2, MIB, false), 'chunks/123/123456/123456789_2_1048576');
  assert.equal(blockKey(1, 0, 65536, false), 'chunks/0/0/1_0_65536');
  assert.equal(blockKey(1, 0, 65536, true), 'chunks/01/0/1_0_65536');
  assert.equal(blockKey(1_000_255, 0, 1, true), `chunks/${(1_000_255 % 256).toString(16).toUpperCase()}/1/1000255_0_1`);
});

test('a slice is cut into blocks of which only the last is shorter', () => {
  const geometry = new BlockGeometry(4 * MIB);
  assert.equal(geometry.count(9 * MIB), 3);
  assert.deepEqual(
    [0, 1, 2].map((index) => geometry.length(9 * MIB, index)),
    [4 * MIB, 4 * MIB, MIB],
  );
  assert.equal(geometry.count(8 * MIB), 2);
  assert.equal(geometry.count(1), 1);
  assert.equal(geometry.count(0), 0);
});

test('a block is one number, and back', () => {
  const geometry = new BlockGeometry(64 * 1024);
  for (const [id, index] of [
    [1, 0],
    [1, 1023],
    [2 ** 42, 7],
  ] as const) {
    const number = geometry.number(id, index);
    assert.deepEqual([geometry.id(number), geometry.index(number)], [id, index]);
  }
  assert.throws(() => geometry.number(2 ** 44, 1), RangeError);
});

test('only block sizes that JuiceFS makes are taken', () => {
  for (const size of [0, 1000, 32 * 1024, 3 * MIB, 32 * MIB, Number.NaN])
    assert.throws(() => new BlockGeometry(size), RangeError);
});

test('names of blocks are read, others are not', () => {
  assert.deepEqual(parseBlockName('12_3_4464'), { id: 12, index: 3, length: 4464 });
  for (const name of ['12_3', '12_3_0', '0_3_1', '12_3_4464.tmp', '012_3_1', 'x', '12_3_4464_1', ''])
    assert.equal(parseBlockName(name), undefined, name);
});
