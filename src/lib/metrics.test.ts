import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { Histogram as Reference, Registry } from 'prom-client';
import { Durations, exponential, exposition, Histogram, linear, single, statsLines } from './metrics.ts';

const bounds = exponential(0.0001, 1.5, 30);

test('a histogram tells what prom-client tells of the same observations', async () => {
  const values = fc.array(fc.oneof(fc.double({ min: 0, max: 20, noNaN: true }), fc.constantFrom(...bounds)), { maxLength: 60 });
  await fc.assert(
    fc.asyncProperty(values, async (observed) => {
      const registers = [new Registry()];
      const reference = new Reference({ name: 'a_x', help: 'of x', buckets: [...bounds], registers });
      const ours = new Histogram(bounds);
      for (const value of observed) {
        reference.observe(value);
        ours.observe(value);
      }
      const text = [...exposition('a_', [{ labels: {}, families: [single('histogram', 'x', 'of x', () => ours)] }])].join('');
      const wanted = (await registers[0]?.metrics()) ?? '';
      const lines = (from: string): string[] =>
        from
          .split('\n')
          .filter((line) => line !== '')
          .map((line) => line.replaceAll('{}', ''));
      assert.deepEqual(lines(text), lines(wanted));
      assert.equal(ours.count, observed.length);
    }),
    { numRuns: 100 },
  );
});

test('bounds are those of the Prometheus libraries', () => {
  assert.deepEqual([...linear(4096, 4096, 3)], [4096, 8192, 12288]);
  assert.deepEqual([...exponential(1024, 2, 4)], [1024, 2048, 4096, 8192]);
});

test('labels are in order and escaped, families in order of their names, and one of several groups has one head', () => {
  const family = (value: number) => [
    { name: 'b', help: 'two\nlines', type: 'gauge' as const, samples: () => [{ labels: { z: 'a"\\\n', a: '1' }, value }] },
    { name: 'never', help: 'nothing yet', type: 'counter' as const, samples: () => [] },
    single('counter', 'a', 'first', () => 0.5),
  ];
  const groups = [
    { labels: { mp: '/x' }, families: family(1) },
    { labels: { mp: '/y' }, families: family(Infinity) },
  ];
  assert.equal(
    [...exposition('p_', groups)].join(''),
    [
      '# HELP p_a first',
      '# TYPE p_a counter',
      'p_a{mp="/x"} 0.5',
      'p_a{mp="/y"} 0.5',
      '# HELP p_b two\\nlines',
      '# TYPE p_b gauge',
      'p_b{a="1",mp="/x",z="a\\"\\\\\\n"} 1',
      'p_b{a="1",mp="/y",z="a\\"\\\\\\n"} +Inf',
      '',
    ].join('\n'),
  );
});

test('the lines of .stats name methods and errors, leave out other labels, and have no exponents', () => {
  const durations = new Durations(['read', 'write', 'never'], bounds);
  durations.done(0, 0.25);
  durations.done(1, 1e-9);
  durations.done(1, 0);
  const requests = new Histogram(bounds);
  requests.observe(2);
  const lines = statsLines('juicefs_', [
    { name: 'ops', help: '', type: 'counter', samples: () => durations.samples(durations.counts, 'method') },
    { name: 'seconds', help: '', type: 'counter', samples: () => durations.samples(durations.seconds, 'method') },
    single('histogram', 'all', '', () => durations.histogram),
    {
      name: 'requests',
      help: '',
      type: 'histogram',
      samples: () => [{ labels: { storage_class: 'IA', method: 'GET' }, value: requests }],
    },
    single('gauge', 'large', '', () => 2 ** 80),
  ]);
  assert.deepEqual(lines.split('\n'), [
    'juicefs_all_total 3',
    'juicefs_all_sum 0.250000001',
    'juicefs_large 1208925819614629174706176',
    'juicefs_ops_read 1',
    'juicefs_ops_write 2',
    'juicefs_requests_GET_total 1',
    'juicefs_requests_GET_sum 2',
    'juicefs_seconds_read 0.25',
    'juicefs_seconds_write 0.000000001',
    '',
  ]);
});
