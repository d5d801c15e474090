import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ino, ROOT_INO } from '../../lib/int64.ts';
import type { Check, Read, Write } from '../engine.ts';
import { NodeType } from '../types.ts';
import { mysqlDialect } from './dialect.ts';
import { readsOf } from './together.ts';
import { readingOf, textsOf, writingOf } from './transaction.ts';

const texts = textsOf(mysqlDialect('jfs_'));
const name = (at: number): Buffer => Buffer.from(`name ${at}`);
const numbers = (count: number): number[] => Array.from({ length: count }, (_, at) => at + 100);
const none = { rows: [], changed: 0 };

test('many checks of entries of one directory are one statement, and each comes out by itself', () => {
  const expect = (at: number) => ({ type: NodeType.File, ino: ino(at) });
  const checks: readonly Check[] = [
    ...numbers(50).map((at) => ({ kind: 'entry', parent: ROOT_INO, name: name(at), expect: expect(at) }) as const),
    { kind: 'entry', parent: ino(9), name: name(1), expect: expect(1) },
    { kind: 'emptyDirectory', ino: ino(9) },
  ];
  const reading = readingOf(texts, { checks, writes: [] });
  assert.equal(reading.statements.length, 3);
  const rows = numbers(50)
    .filter((at) => at !== 110)
    .map((at) => [NodeType.File, at === 120 ? 7 : at, name(at)]);
  const { checked } = reading.decide([{ rows, changed: 0 }, { rows: [[NodeType.File, 1]], changed: 0 }, none]);
  const failed = checked.flatMap(({ holds }, at) => (holds ? [] : [at]));
  assert.deepEqual(failed, [10, 20]);
  assert.deepEqual([checked[10]?.current, checked[20]?.current], [undefined, expect(7)]);
});

test('removals of a kind that stand together are one statement; the others keep their place and their answers', () => {
  const writes: readonly Write[] = [
    { kind: 'addCounter', name: 'a', delta: 1 },
    ...numbers(50).map((at) => ({ kind: 'removeEntry', parent: ROOT_INO, name: name(at) }) as const),
    { kind: 'removeEntry', parent: ino(9), name: name(1) },
    ...numbers(50).map((at) => ({ kind: 'removeNode', ino: ino(at) }) as const),
    { kind: 'addCounter', name: 'b', delta: 1 },
  ];
  const writing = writingOf(texts, writes, new Set());
  assert.deepEqual(
    writing.statements.map(({ text }) => /counter|edge|node/.exec(text)?.[0]),
    ['counter', 'edge', 'edge', 'node', 'counter'],
  );
  assert.deepEqual(writing.statements[3]?.values, [numbers(50)]);
  const results = writing.resultsOf([{ rows: [[5]], changed: 1 }, none, none, none, { rows: [[6]], changed: 1 }]);
  assert.deepEqual([results[0], results.at(-1), results.length], [5, 6, writes.length]);
  assert.ok(results.slice(1, -1).every((result) => result === 0));
});

test('the lists of many files are read with one statement, in the order they were asked for', () => {
  const list = (at: number): Buffer => Buffer.alloc(24, at);
  const reads: readonly Read[] = [
    { kind: 'counter', name: 'a' },
    ...numbers(50).map((at) => ({ kind: 'chunk', ino: ino(at), index: 0 }) as const),
    { kind: 'chunk', ino: ino(5), index: 3 },
  ];
  const { statements, valuesOf } = readsOf(texts.sql, reads);
  assert.equal(statements.length, 3);
  const rows = numbers(50)
    .filter((at) => at % 2 === 0)
    .toReversed()
    .map((at) => [at, list(at)]);
  const values = valuesOf([
    { rows, changed: 0 },
    { rows: [[8]], changed: 0 },
    { rows: [[list(1)]], changed: 0 },
  ]);
  assert.deepEqual(values, [8, ...numbers(50).map((at) => (at % 2 === 0 ? list(at) : Buffer.alloc(0))), list(1)]);
});
