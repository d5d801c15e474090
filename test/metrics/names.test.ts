/** The page about metrics names exactly what there is, and the Grafana board asks for nothing that is not there. */
import assert from 'node:assert/strict';
import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Registry } from 'prom-client';
import { chunkFamilies } from '../../src/chunk/families.ts';
import { mountFamilies } from '../../src/client/volume-figures.ts';
import { kitMetrics } from '../../src/kube/metrics.ts';
import { type Family, Histogram } from '../../src/lib/metrics.ts';
import { Timings } from '../../src/meta/timings.ts';
import { RequestFigures } from '../../src/object/measured.ts';
import { volumeMetrics } from '../../src/operator/volume/metrics.ts';
import { OperationStats } from '../../src/vfs/observed.ts';
import { passthroughFamilies } from '../../src/vfs/passthrough-figures.ts';
import { succeeds, until } from '../cli/command.ts';
import { cannotMount, freshVolume } from '../mounted.ts';
import { type Scraped, scrape } from './scrape.ts';

const root = join(import.meta.dirname, '../..');

/** Every family that a mount may tell. */
function families(): readonly Family[] {
  const nothing = new Histogram(new Float64Array(0));
  return mountFamilies({
    parts: [
      new OperationStats(),
      new Timings(),
      { families: () => chunkFamilies({}, { reads: nothing, writes: nothing }) },
      new RequestFigures(''),
      {
        families: () =>
          passthroughFamilies({ opens: 0, files: 0, updates: 0, stores: 0, whole: 0, wholeBytes: 0, made: 0, evicted: 0 }),
      },
    ],
    fullness: { volume: { totalBytes: 0, usedBytes: 0, usedInodes: 0, availableInodes: 0 }, quotas: [] },
    subPath: '',
    openHandles: 0,
    compacted: nothing,
    switches: 0,
    refused: false,
  });
}

test('the page lists every metric with its type and its own words, and no other', () => {
  const page = readFileSync(join(root, 'docs/metrics.md'), 'utf8');
  const listed = Array.from(
    page.matchAll(/^\| `(juicefs_\w+)` \| (counter|gauge|histogram) \| .*? ?\| (.*) \|$/gm),
    ([, name, type, help]) => `${name} ${type}: ${help}`,
  );
  const there = families().map(({ name, type, help }) => `juicefs_${name} ${type}: ${help}`);
  assert.deepEqual(listed.toSorted(), there.toSorted());
  assert.equal(new Set(there.map((line) => line.split(' ')[0])).size, there.length, 'a name is there twice');
});

interface Panel {
  readonly title: string;
  readonly type: string;
  readonly targets?: readonly { readonly expr: string }[];
}
const board = JSON.parse(readFileSync(join(root, 'config/monitoring/grafana/juicepod.json'), 'utf8')) as {
  readonly panels: readonly Panel[];
  readonly templating: { readonly list: readonly { readonly query: string | { readonly query: string } }[] };
};
/** The names of metrics in everything that the board asks, by where. */
const asked = new Map(
  [
    ...board.panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => [title, expr] as const)),
    ...board.templating.list.map(({ query }) => ['a variable', typeof query === 'string' ? query : query.query] as const),
  ].flatMap(([title, expr]) =>
    Array.from(
      expr.matchAll(/\b(juicefs|juicepod|controller_runtime|workqueue)_\w+/g),
      ([name]) => [name, `${title}: ${expr}`] as const,
    ),
  ),
);

/** What a histogram's samples are called. */
const samplesOf = (name: string, type: string): readonly string[] =>
  type === 'histogram' ? ['bucket', 'sum', 'count'].map((end) => `${name}_${end}`) : [name];

test('the board asks a mount for what a scrape of it holds', { skip: cannotMount }, async () => {
  await using mounted = await freshVolume('sqlite', { mount: ['--heartbeat', '1s'] });
  await succeeds(['quota', 'set', mounted.metaUrl, '--path', '/limited', '--create', '--capacity', '1', '--inodes', '100']);
  writeFileSync(join(mounted.folder, 'file'), 'some bytes');
  assert.throws(() => statSync(join(mounted.folder, 'nothing')));
  rmSync(join(mounted.folder, 'file'));
  let found: ReadonlyMap<string, Scraped> = new Map();
  await until('the quota is known', async () => {
    found = await scrape(mounted.folder);
    return found.has('juicefs_dir_quota_max_inodes');
  });
  const there = new Set([...found].flatMap(([name, { type }]) => samplesOf(name, type)));
  // Counted when there was one.
  there.add('juicefs_transaction_restart');
  // The version is a label.
  const wanted = [...asked.keys()].filter((name) => name.startsWith('juicefs_') && name !== 'juicefs_version');
  assert.ok(wanted.length > 30);
  for (const name of wanted) assert.ok(there.has(name), `${name} in ${asked.get(name)}`);
});

test('the board asks operator and webhook for what they have', () => {
  const registry = new Registry();
  kitMetrics(registry);
  const there = new Set(registry.getMetricsAsArray().flatMap(({ name, type }) => samplesOf(name, String(type))));
  for (const piece of volumeMetrics(() => []))
    for (const [, name = ''] of piece.matchAll(/^# TYPE (\w+) gauge$/gm)) there.add(name);
  const sources = ['src/admission/server.ts', 'src/operator/sweep/reconcile.ts']
    .map((path) => readFileSync(join(root, path), 'utf8'))
    .join('\n');
  for (const [, name = ''] of sources.matchAll(/name: '(\w+)'/g)) {
    there.add(name);
    if (name.endsWith('_seconds')) there.add(`${name}_bucket`);
  }
  const wanted = [...asked.keys()].filter((name) => !name.startsWith('juicefs_'));
  assert.ok(wanted.length > 5);
  for (const name of wanted) assert.ok(there.has(name), `${name} in ${asked.get(name)}`);
});

test('operator and webhook have the names of controller-runtime and client-go', () => {
  const registry = new Registry();
  kitMetrics(registry);
  const names = registry.getMetricsAsArray().map(({ name }) => name);
  for (const name of [
    'controller_runtime_reconcile_total',
    'controller_runtime_reconcile_errors_total',
    'controller_runtime_terminal_reconcile_errors_total',
    'controller_runtime_reconcile_panics_total',
    'controller_runtime_reconcile_time_seconds',
    'controller_runtime_max_concurrent_reconciles',
    'controller_runtime_active_workers',
    'workqueue_depth',
    'workqueue_adds_total',
    'workqueue_queue_duration_seconds',
    'workqueue_work_duration_seconds',
    'workqueue_unfinished_work_seconds',
    'workqueue_longest_running_processor_seconds',
    'workqueue_retries_total',
    'rest_client_requests_total',
    'rest_client_request_duration_seconds',
    'leader_election_master_status',
  ])
    assert.ok(names.includes(name), name);
});
