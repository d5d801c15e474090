import assert from 'node:assert/strict';
import { test } from 'node:test';
import { conflictName, shown } from './names.ts';
import { selectionOf } from './selection.ts';

const b = (text: string): Buffer => Buffer.from(text);

test('globs select what a shell would', () => {
  const wants = (glob: string, path: string): boolean => selectionOf([glob]).wants(b(path));
  for (const [glob, path, expected] of [
    ['*.txt', 'a.txt', true],
    ['*.txt', 'a/b.txt', false],
    ['**/*.txt', 'a.txt', true],
    ['**/*.txt', 'a/b/c.txt', true],
    ['a/**', 'a/b/c', true],
    ['a/**/c', 'a/c', true],
    ['a/**/c', 'a/x/y/c', true],
    ['a/**/c', 'b/c', false],
    ['a', 'a/b/c', true],
    ['a/', 'a/b', true],
    ['a?c', 'abc', true],
    ['a?c', 'a/c', false],
    ['[a-c]x', 'bx', true],
    ['[!a-c]x', 'bx', false],
    ['[!a-c]x', 'dx', true],
    ['{a,b/c}/d', 'b/c/d', true],
    ['{a,b/c}/d', 'c/d', false],
    ['a.b', 'aXb', false],
    ['tränen/*', 'tränen/x', true],
  ] as const)
    assert.equal(wants(glob, path), expected, `${glob} and ${path}`);
});

test('a directory is descended into exactly where something below it can be wanted', () => {
  const may = (glob: string, path: string): boolean => selectionOf([glob]).mayContain(b(path));
  for (const [glob, path, expected] of [
    ['a/b/*.txt', 'a', true],
    ['a/b/*.txt', 'a/b', true],
    ['a/b/*.txt', 'a/c', false],
    ['a/b/*.txt', 'b', false],
    ['a/b/*.txt', '', true],
    ['a/**/c', 'a/x/y', true],
    ['a/**/c', 'b', false],
    ['**/c', 'x/y', true],
    ['a', 'a/b', true],
  ] as const)
    assert.equal(may(glob, path), expected, `${glob} and ${path}`);
});

test('what is excluded is not wanted, nor what lies below it', () => {
  const selection = selectionOf(undefined, ['**/.git', 'tmp']);
  assert.equal(selection.all, false);
  assert.equal(selection.wants(b('a/.git/config')), false);
  assert.equal(selection.mayContain(b('tmp')), false);
  assert.equal(selection.wants(b('a/git')), true);
  assert.equal(selectionOf().all, true);
});

test('names that are not UTF-8 are selected by their bytes', () => {
  assert.equal(selectionOf(['a?b']).wants(Buffer.from([0x61, 0xff, 0x62])), true);
  assert.equal(selectionOf(['*']).wants(Buffer.from([0xff])), true);
});

test('the name of a conflict follows from file and pod alone, fits, and keeps characters whole', () => {
  const name = conflictName(b('report.txt'), 'pod-1', 1_700_000_000_123_456_789n);
  assert.equal(name.toString(), 'report.txt.juicepod-conflict-pod-1-20231114T221320Z');
  const long = conflictName(b('ä'.repeat(127)), 'pod-1', 0n, 2);
  assert.ok(long.length <= 255);
  assert.equal(Buffer.from(long.toString()).equals(long), true);
  assert.match(long.toString(), /^ä+\.juicepod-conflict-pod-1-19700101T000000Z-2$/);
});

test('a path that is not UTF-8 is shown with its bytes', () => {
  assert.equal(shown(Buffer.from([0x61, 0xff, 0x62])), 'a\\xffb');
  assert.equal(shown(b('ä/b')), 'ä/b');
  assert.equal(shown(b('')), '.');
});
