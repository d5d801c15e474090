import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Registry } from 'prom-client';
import { UserError } from '../lib/errors.ts';
import { createClient } from './client.ts';
import { createController } from './controller.ts';
import { ApiError, NotLeadingError, TerminalError } from './errors.ts';
import { createReflector } from './reflector.ts';
import { ConfigMaps, Secrets } from './resources.ts';
import { LOW_PRIORITY, channel, forKind, generationChanged, owns, watches } from './source.ts';
import { FakeApiServer } from './testing/fake-apiserver.ts';
import { FakeClock, seededRandom, settle } from './testing/fake-clock.ts';
import { FakeFrontend } from './testing/fake-transport.ts';
import type { ControllerOptions, Reconcile } from './types.ts';

function start(reconcile: Reconcile, options: Partial<ControllerOptions> & { readonly drainMs?: number } = {}) {
  const clock = new FakeClock();
  const metrics = new Registry();
  const source = channel();
  const { drainMs, ...rest } = options;
  const controller = createController(
    { name: 'test', sources: [source], reconcile, ...rest },
    { clock, random: seededRandom(1), metrics, ...(drainMs === undefined ? {} : { drainMs }) },
  );
  const stop = new AbortController();
  const ended = controller.run(stop.signal);
  return { clock, metrics, source, controller, stop, ended };
}

const total = async (metrics: Registry, name: string, labels: string): Promise<number> => {
  const line = (await metrics.metrics()).split('\n').find((each) => each.startsWith(`${name}{${labels}}`));
  return Number(line?.split(' ')[1]);
};

test('a key whose reconcile fails comes again with growing delays, until it succeeds', async () => {
  const times: number[] = [];
  let failures = 4;
  const { clock, source, metrics, stop, ended } = start(() => {
    times.push(clock.monotonic());
    if (failures-- > 0) return Promise.reject(new UserError('Down', 'the database is down'));
    return Promise.resolve();
  });
  source.send('a');
  await clock.advance(60_000);
  assert.equal(times.length, 5);
  const gaps = times.slice(1).map((at, index) => at - (times[index] ?? 0));
  assert.ok(
    gaps.every((gap, index) => index === 0 || gap > (gaps[index - 1] ?? 0)),
    `gaps grow: ${gaps.join(', ')}`,
  );
  assert.equal(await total(metrics, 'controller_runtime_reconcile_total', 'controller="test",result="error"'), 4);
  assert.equal(await total(metrics, 'controller_runtime_reconcile_total', 'controller="test",result="success"'), 1);
  assert.equal(await total(metrics, 'controller_runtime_reconcile_panics_total', 'controller="test"'), 0);
  stop.abort(new Error('end'));
  await ended;
});

test('a terminal error is not tried again until something changes', async () => {
  let runs = 0;
  const { clock, source, metrics, stop, ended } = start(() => {
    runs++;
    return Promise.reject(new TerminalError('FormatMismatch', 'the block size differs'));
  });
  source.send('a');
  await clock.advance(3_600_000);
  assert.equal(runs, 1);
  source.send('a');
  await settle();
  assert.equal(runs, 2);
  assert.equal(await total(metrics, 'controller_runtime_terminal_reconcile_errors_total', 'controller="test"'), 2);
  stop.abort(new Error('end'));
  await ended;
});

test('a conflict is tried again without counting as an error, a defect counts as a panic', async () => {
  const errors = [new ApiError(409, 'changed', { reason: 'Conflict' }), new TypeError('x is undefined')];
  const { clock, source, metrics, stop, ended } = start(() => {
    const error = errors.shift();
    return error ? Promise.reject(error) : Promise.resolve();
  });
  source.send('a');
  await clock.advance(10_000);
  assert.equal(await total(metrics, 'controller_runtime_reconcile_total', 'controller="test",result="requeue"'), 1);
  assert.equal(await total(metrics, 'controller_runtime_reconcile_errors_total', 'controller="test"'), 1);
  assert.equal(await total(metrics, 'controller_runtime_reconcile_panics_total', 'controller="test"'), 1);
  assert.equal(await total(metrics, 'controller_runtime_reconcile_total', 'controller="test",result="success"'), 1);
  stop.abort(new Error('end'));
  await ended;
});

test('a reconcile that asks for it comes again after that time', async () => {
  const times: number[] = [];
  const { clock, source, stop, ended } = start(() => {
    times.push(clock.monotonic());
    return Promise.resolve({ requeueAfterMs: 60_000 });
  });
  source.send('a');
  await clock.advance(150_000);
  assert.deepEqual(times, [0, 60_000, 120_000]);
  stop.abort(new Error('end'));
  await ended;
});

test('a reconcile that takes too long is aborted and comes again', async () => {
  let runs = 0;
  const reasons: unknown[] = [];
  const { clock, source, metrics, stop, ended } = start(
    (_key, { signal }) => {
      if (++runs > 1) return Promise.resolve();
      return new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          reasons.push((signal.reason as Error).name);
          reject(signal.reason as Error);
        });
      });
    },
    { timeoutMs: 5000 },
  );
  source.send('a');
  await clock.advance(4999);
  assert.deepEqual(reasons, []);
  await clock.advance(1000);
  assert.deepEqual(reasons, ['ReconcileTimeout']);
  assert.equal(runs, 2);
  assert.equal(await total(metrics, 'controller_runtime_reconcile_timeouts_total', 'controller="test"'), 1);
  stop.abort(new Error('end'));
  await ended;
});

test('no more than the given number of keys are worked on at a time, and no key twice', async () => {
  let now = 0;
  let most = 0;
  const working = new Set<string>();
  const { clock, source, stop, ended } = start(
    async (key) => {
      assert.ok(!working.has(key));
      working.add(key);
      most = Math.max(most, ++now);
      await clock.sleep(100);
      now--;
      working.delete(key);
    },
    { concurrency: 3 },
  );
  for (let round = 0; round < 3; round++) {
    for (let index = 0; index < 10; index++) source.send(`k${index}`);
    await clock.advance(50);
  }
  await clock.advance(5000);
  assert.equal(most, 3);
  assert.equal(working.size, 0);
  stop.abort(new Error('end'));
  await ended;
});

test('at shutdown what runs may finish, and nothing new is begun', async () => {
  const finished: string[] = [];
  const { clock, source, stop, ended } = start(
    async (key) => {
      await clock.sleep(10_000);
      finished.push(key);
    },
    { concurrency: 1, drainMs: 20_000 },
  );
  source.send('running');
  source.send('waiting');
  await settle();
  stop.abort(new Error('received SIGTERM'));
  await clock.advance(10_000);
  await ended;
  assert.deepEqual(finished, ['running']);
});

test('at shutdown what runs too long is aborted; on loss of leadership at once', async () => {
  for (const [reason, wait] of [
    [new Error('received SIGTERM'), 3000],
    [new NotLeadingError('lost'), 0],
  ] as const) {
    let abortedAt = -1;
    const { clock, source, stop, ended } = start(
      (_key, { signal }) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => {
            abortedAt = clock.monotonic();
            reject(signal.reason as Error);
          });
        }),
      { drainMs: 3000 },
    );
    source.send('a');
    await settle();
    stop.abort(reason);
    await clock.advance(10_000);
    await ended;
    assert.equal(abortedAt, wait);
  }
});

test('sources turn changes of objects, children and others into keys, initial ones at low priority', async () => {
  const clock = new FakeClock();
  const server = new FakeApiServer({ clock });
  const client = createClient(new FakeFrontend(server).transport());
  const environment = { clock, random: seededRandom(1) };
  const maps = createReflector({ client: client.resource(ConfigMaps) }, environment);
  const secrets = createReflector({ client: client.resource(Secrets) }, environment);
  const owner = server.create(ConfigMaps, { metadata: { name: 'owner', namespace: 'x' } });
  const seen: string[] = [];
  const controller = createController(
    {
      name: 'test',
      resyncMs: 3_600_000,
      sources: [
        forKind(maps, generationChanged),
        owns(secrets, ConfigMaps),
        watches(secrets, (secret) => (secret.metadata.labels?.['for'] ? [`x/${secret.metadata.labels['for']}`] : [])),
      ],
      reconcile: (key) => {
        seen.push(key);
        return Promise.resolve();
      },
    },
    environment,
  );
  const priorities: (number | undefined)[] = [];
  for (const source of controller.sources) source.connect((_key, options) => void priorities.push(options?.priority));
  const stop = new AbortController();
  const runs = [maps.run(stop.signal), secrets.run(stop.signal)];
  await settle();
  runs.push(controller.run(stop.signal));
  await settle();
  assert.deepEqual(seen, ['x/owner']);
  assert.deepEqual(priorities, [LOW_PRIORITY]);
  const reference = { apiVersion: 'v1', kind: 'ConfigMap', name: 'owner', uid: owner.metadata.uid, controller: true };
  server.create(Secrets, { metadata: { name: 'child', namespace: 'x', ownerReferences: [reference] } });
  server.create(Secrets, { metadata: { name: 'other', namespace: 'x', labels: { for: 'p' } } });
  await settle();
  assert.deepEqual(seen.slice(1), ['x/owner', 'x/p']);
  server.replace(Secrets, { metadata: { name: 'other', namespace: 'x', labels: { for: 'q' } } });
  await settle();
  assert.deepEqual(seen.slice(3).toSorted(), ['x/p', 'x/q'], 'the one it left is told too');
  const before = seen.length;
  server.patch(ConfigMaps, { namespace: 'x', name: 'owner' }, [{ op: 'add', path: '/metadata/labels', value: { a: 'b' } }]);
  await settle();
  assert.equal(seen.length, before, 'labels are no new generation');
  await clock.advance(4_000_000);
  assert.ok(seen.slice(before).includes('x/owner'), 'the resync adds all of the first source');
  stop.abort(new Error('end'));
  await clock.advance(1000);
  await Promise.all(runs);
});

test('with very many keys looks are spread, what changed and what is unfinished is not behind them', async () => {
  const times = new Map<string, number[]>();
  const next = (key: string): number => (key === 'step' ? 1000 : 60_000);
  const { clock, source, stop, ended, controller } = start(
    (key) => {
      times.set(key, [...(times.get(key) ?? []), clock.monotonic()]);
      return Promise.resolve({ requeueAfterMs: next(key) });
    },
    { looksPerSecond: 1 },
  );
  for (let index = 0; index < 1000; index++) source.send(`look${index}`, { priority: LOW_PRIORITY });
  source.send('step');
  await clock.advance(3_600_000);
  const looks = [...times].filter(([key]) => key !== 'step').flatMap(([, at]) => at);
  // The burst once, then one a second.
  assert.ok(looks.length >= 3500 && looks.length <= 1000 + 100 + 3600, `${looks.length} looks`);
  assert.ok(
    [...times.values()].every((at) => at.length >= 3),
    'none is forgotten',
  );
  assert.ok((times.get('step')?.length ?? 0) >= 3500, 'steps go on at their own pace');
  assert.equal(controller.queue.length, 0);
  stop.abort(new Error('end'));
  await ended;
});

test('what changes is not behind the many that wait for something that is away', async () => {
  const done: string[] = [];
  const clock = new FakeClock();
  const source = channel();
  const controller = createController(
    {
      name: 'test',
      sources: [source],
      concurrency: 2,
      reconcile: async (key) => {
        // What is away is waited for a while.
        await clock.sleep(key === 'changed' ? 10 : 8000);
        done.push(key);
        return key === 'changed' ? {} : { requeueAfterMs: 10_000 };
      },
    },
    { clock, random: seededRandom(1) },
  );
  const stop = new AbortController();
  const ended = controller.run(stop.signal);
  for (let index = 0; index < 100; index++) source.send(`away${index}`);
  await clock.advance(600_000);
  assert.ok(controller.queue.length > 50, 'more wait than can be worked on');
  source.send('changed');
  await clock.advance(8100);
  assert.ok(done.includes('changed'));
  stop.abort(new Error('end'));
  await clock.advance(10_000);
  await ended;
});
