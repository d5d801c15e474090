import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { geometricMean, median, ratio, type Row, show, summarize, table, words } from './table.ts';

const row = (name: string, ours: readonly number[], theirs: readonly number[], more: Partial<Row> = {}): Row => ({
  name,
  unit: 'MiB/s',
  better: 'more',
  values: { juicepod: ours, juicefs: theirs },
  ...more,
});

test('the median has as many numbers below it as above it', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 1000 }), { minLength: 1 }), (numbers) => {
      const middle = median(numbers);
      assert.equal(
        numbers.filter((each) => each < middle).length <= numbers.length / 2 &&
          numbers.filter((each) => each > middle).length <= numbers.length / 2,
        true,
      );
    }),
  );
});

test('a ratio says how many times better ours are, whichever way is better', () => {
  assert.equal(ratio(row('read', [10, 30, 20], [10]), 'juicepod', 'juicefs'), 2);
  assert.equal(ratio(row('start', [10], [30], { better: 'less' }), 'juicepod', 'juicefs'), 3);
  assert.equal(ratio(row('alone', [10], []), 'juicepod', 'juicefs'), undefined);
});

test('the mean leaves out what is no speed, and what misses its goal is named, the worst first', () => {
  const rows = [
    row('good', [80], [10]),
    row('bad', [9], [10]),
    row('overwrite', [20], [10], { goal: 10 }),
    row('memory', [2], [1], { better: 'less', aside: true }),
  ];
  const { mean, misses } = summarize(rows);
  assert.ok(Math.abs((mean ?? 0) - geometricMean([8, 0.9, 2])) < 1e-9);
  assert.deepEqual(
    misses.map(({ name }) => name),
    ['overwrite', 'memory', 'bad'],
  );
  assert.match(words({ mean, misses }), /overwrite 2\.00 of 10; memory 0\.50; bad 0\.90/);
});

test('without the official client the table has gaps in its columns and no mean', () => {
  const rows = [row('read', [1234.5], [])];
  assert.match(table(rows), /\| read, MiB\/s \| 1235 \| – \| – \| – \| – \|/);
  assert.equal(summarize(rows).mean, undefined);
});

test('numbers are shown with three digits and never with an exponent', () => {
  assert.deepEqual([0, 0.1234, 12.34, 999.6, 123456].map(show), ['0', '0.123', '12.3', '1000', '123456']);
});
