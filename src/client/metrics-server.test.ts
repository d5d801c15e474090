import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { nullLogger } from '../lib/log.ts';
import { single } from '../lib/metrics.ts';
import { type MetricsAddress, MetricsServer } from './metrics-server.ts';

const LOCAL = '127.0.0.1';

async function started(address: MetricsAddress, customLabels = {}): Promise<MetricsServer & { readonly url: string }> {
  const server = new MetricsServer({ address, customLabels, logger: nullLogger });
  while (server.address === undefined) await new Promise((done) => setTimeout(done, 1));
  return Object.assign(server, { url: `http://${server.address}` });
}

const figure = (value: number) => () => [single('gauge', 'used_space', 'bytes', () => value)];

test('all mounts of a client are in one answer, each with its labels, until they end', async () => {
  using server = await started({ host: LOCAL, port: 0 }, { team: 'a', instance: 'own' });
  const forget = server.add({ volume: 'one', mountPoint: '/x', families: figure(1) });
  server.add({ volume: 'two', mountPoint: '/y', families: figure(2) });
  const lines = async (): Promise<string[]> => {
    const response = await fetch(`${server.url}/metrics`);
    assert.equal(response.status, 200);
    assert.match(response.headers.get('content-type') ?? '', /^text\/plain; version=0\.0\.4/);
    return (await response.text()).split('\n').map((line) => line.replace(/juicefs_version="[^"]+"/, 'V'));
  };
  assert.deepEqual(await lines(), [
    '# HELP juicefs_used_space bytes',
    '# TYPE juicefs_used_space gauge',
    'juicefs_used_space{instance="own",V,mp="/x",team="a",vol_name="one"} 1',
    'juicefs_used_space{instance="own",V,mp="/y",team="a",vol_name="two"} 2',
    '',
  ]);
  forget();
  assert.equal((await lines()).filter((line) => line.startsWith('juicefs_')).length, 1);
  assert.equal((await fetch(`${server.url}/else`)).status, 404);
  assert.equal((await fetch(`${server.url}/metrics`, { method: 'POST' })).status, 405);
});

test('where the usual port is taken another one is, and a named one is waited for', async () => {
  const other = createServer();
  await new Promise<void>((done) => other.listen(0, LOCAL, done));
  const { port } = other.address() as AddressInfo;
  using elsewhere = await started({ host: LOCAL, port, otherwiseAny: true });
  assert.notEqual(elsewhere.address, `${LOCAL}:${port}`);
  const retries: (() => void)[] = [];
  const clock = {
    now: Date.now,
    nowNs: () => 0n,
    monotonic: () => performance.now(),
    sleep: () => Promise.resolve(),
    timer: (_ms: number, callback: () => void) => {
      retries.push(callback);
      return () => {};
    },
  };
  using waiting = new MetricsServer({ address: { host: LOCAL, port }, logger: nullLogger, clock });
  while (retries.length === 0) await new Promise((done) => setTimeout(done, 1));
  assert.equal(waiting.address, undefined);
  await new Promise((done) => other.close(done));
  retries[0]?.();
  while (waiting.address === undefined) await new Promise((done) => setTimeout(done, 1));
  assert.equal(waiting.address, `${LOCAL}:${port}`);
});

test('a profile and the state of the heap are there for who is on the machine, one profile at a time', async () => {
  using server = await started({ host: LOCAL, port: 0 });
  const heap = (await (await fetch(`${server.url}/debug/heap`)).json()) as { used_heap_size: number; spaces: unknown[] };
  assert.ok(heap.used_heap_size > 0 && heap.spaces.length > 0);
  const profile = fetch(`${server.url}/debug/cpu-profile?seconds=0.5`);
  let refused = 0;
  const ended = new AbortController();
  void profile.finally(() => ended.abort());
  while (!ended.signal.aborted && refused === 0)
    if ((await fetch(`${server.url}/debug/cpu-profile?seconds=0.001`)).status === 409) refused++;
  assert.equal(refused, 1);
  const { nodes, samples } = (await (await profile).json()) as { nodes: unknown[]; samples: unknown[] };
  assert.ok(nodes.length > 0 && Array.isArray(samples));
  assert.equal((await fetch(`${server.url}/debug/cpu-profile?seconds=0`)).status, 400);
  assert.equal((await fetch(`${server.url}/debug/cpu-profile?seconds=1e9`)).status, 400);
});
