import assert from 'node:assert/strict';
import { test } from 'node:test';
import { header, line, plain, SCHEMA_LETTERS, sectionsOf, values } from './stats-table.ts';

test('header and figures stand below each other, and look as those of the official tool', () => {
  const sections = sectionsOf('ufmco', false);
  assert.equal(
    header(sections, plain),
    [
      '------usage------ ----------fuse--------- ----meta--- -blockcache ---object--',
      ' cpu   mem   buf | ops   lat   read write| ops   lat | read write| get   put ',
    ].join('\n'),
  );
  for (const verbose of [false, true]) {
    const all = sectionsOf(SCHEMA_LETTERS.join(''), verbose);
    const [, nicks = ''] = header(all, plain).split('\n');
    const figures = line(all, new Map(), new Map(), 1, '11-21 10:00:00', plain);
    assert.equal(figures.length, nicks.length);
    assert.deepEqual(
      [...figures.matchAll(/\|/g)].map(({ index }) => index),
      [...nicks.matchAll(/\|/g)].map(({ index }) => index),
    );
  }
});

test('figures are differences, per second, in units that fit', () => {
  const before = new Map([
    ['juicefs_cpu_usage', 1],
    ['juicefs_fuse_ops_durations_histogram_seconds_total', 10],
    ['juicefs_fuse_ops_durations_histogram_seconds_sum', 1],
    ['juicefs_fuse_read_size_bytes_sum', 0],
  ]);
  const now = new Map([
    ['juicefs_cpu_usage', 4],
    ['juicefs_memory', 133 * 2 ** 20],
    ['juicefs_fuse_ops_durations_histogram_seconds_total', 30],
    ['juicefs_fuse_ops_durations_histogram_seconds_sum', 1.5],
    ['juicefs_fuse_read_size_bytes_sum', 50_000 * 2 ** 20],
    ['juicefs_fuse_written_size_bytes_sum', 2000],
  ]);
  const sections = sectionsOf('uf', false);
  assert.equal(line(sections, before, now, 2, '', plain), ' 150%  133M    0 |  10  25.0    24G 1000B');
  assert.deepEqual(values(sections, before, now, 2), {
    usage: { cpu: 1.5, mem: 133 * 2 ** 20, buf: 0 },
    fuse: { ops: 10, ops_latency: 0.025, read: 25_000 * 2 ** 20, write: 1000 },
  });
});

test('a client of Go and one of Node both have a heap', () => {
  const sections = sectionsOf('g', false);
  const of = (name: string): unknown => values(sections, new Map(), new Map([[name, 5]]), 1)['heap']?.['alloc'];
  assert.equal(of('juicefs_go_memstats_alloc_bytes'), 5);
  assert.equal(of('juicefs_nodejs_heap_size_used_bytes'), 5);
});
