import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { nullLogger } from '../lib/log.ts';
import { createClient } from './client.ts';
import { ApiError } from './errors.ts';
import { createReflector, withoutManagedFields } from './reflector.ts';
import { ConfigMaps, keyOf } from './resources.ts';
import { FakeApiServer } from './testing/fake-apiserver.ts';
import { FakeClock, seededRandom, settle } from './testing/fake-clock.ts';
import { FakeFrontend } from './testing/fake-transport.ts';
import type { KubeObject, StoreChange } from './types.ts';

interface Setup {
  readonly clock: FakeClock;
  readonly server: FakeApiServer;
  readonly frontend: FakeFrontend;
}

function setup(): Setup {
  const clock = new FakeClock();
  const server = new FakeApiServer({ clock });
  return { clock, server, frontend: new FakeFrontend(server) };
}

function start({ clock, frontend }: Setup, options: { readonly labelSelector?: string; readonly seed?: number } = {}) {
  const { labelSelector, seed = 1 } = options;
  const client = createClient(frontend.transport());
  const reflector = createReflector(
    {
      client: client.resource<KubeObject & { readonly data?: Record<string, string> }>(ConfigMaps),
      labelSelector,
      indexes: { color: (object) => (object.data?.['color'] ? [object.data['color']] : []) },
    },
    { clock, random: seededRandom(seed), log: nullLogger },
  );
  const changes: StoreChange<KubeObject>[] = [];
  reflector.onChange((change) => void changes.push(change));
  const stop = new AbortController();
  const ended = reflector.run(stop.signal);
  return { reflector, changes, stop: () => (stop.abort(new Error('test over')), ended) };
}

const config = (name: string, data: Record<string, string>, labels?: Record<string, string>): Record<string, unknown> => ({
  metadata: { name, namespace: 'default', ...(labels ? { labels } : {}) },
  data,
});

const versions = (objects: Iterable<KubeObject>): Record<string, string> =>
  Object.fromEntries([...objects].map((each) => [keyOf(each), `${each.metadata.uid}@${each.metadata.resourceVersion}`]));

type Step =
  | { readonly do: 'put'; readonly name: string; readonly value: number; readonly label: boolean }
  | { readonly do: 'remove'; readonly name: string }
  | { readonly do: 'recreate'; readonly name: string }
  | { readonly do: 'break'; readonly how: 'reset' | 'end' | 'mute' | 'gone' }
  | { readonly do: 'compact'; readonly early: boolean }
  | { readonly do: 'bookmark' }
  | { readonly do: 'fail'; readonly times: number; readonly code: number }
  | { readonly do: 'pass'; readonly ms: number };

const name = fc.constantFrom('a', 'b', 'c', 'd', 'e');
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('put' as const), name, value: fc.nat(3), label: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('remove' as const), name }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('recreate' as const), name }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('break' as const), how: fc.constantFrom('reset', 'end', 'mute', 'gone') }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('compact' as const), early: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('bookmark' as const) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('fail' as const),
      times: fc.integer({ min: 1, max: 4 }),
      code: fc.constantFrom(0, 403, 429, 500, 503, 410, 504),
    }),
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('pass' as const), ms: fc.constantFrom(0, 10, 1000, 40_000, 200_000) }) },
);

function perform({ server, frontend }: Setup, each: Exclude<Step, { do: 'pass' }>): void {
  const ref = { namespace: 'default', name: 'name' in each ? each.name : '' };
  const live = server.peek(ConfigMaps, ref);
  switch (each.do) {
    case 'put': {
      const object = config(each.name, { color: `c${each.value}` }, each.label ? { seen: 'yes' } : undefined);
      if (live) server.replace(ConfigMaps, object);
      else server.create(ConfigMaps, object);
      break;
    }
    case 'remove':
      if (live) server.delete(ConfigMaps, ref);
      break;
    case 'recreate':
      if (live) server.delete(ConfigMaps, ref);
      server.create(ConfigMaps, config(each.name, { color: 'new' }, { seen: 'yes' }));
      break;
    case 'break':
      frontend.breakWatches(each.how);
      break;
    case 'compact':
      frontend.goneEarly = each.early;
      server.storage.compact();
      break;
    case 'bookmark':
      frontend.bookmark();
      break;
    case 'fail': {
      let left = each.times;
      frontend.fault = () => {
        if (left-- <= 0) return undefined;
        if (each.code === 0) return 'reset';
        const causes = each.code === 504 ? { causes: [{ reason: 'ResourceVersionTooLarge' }] } : {};
        return new ApiError(each.code, 'fault of the test', { reason: each.code === 410 ? 'Expired' : 'Fault', details: causes });
      };
      break;
    }
  }
}

for (const [labelSelector, streamsLists] of [
  [undefined, true],
  ['seen=yes', true],
  [undefined, false],
  ['seen=yes', false],
] as const)
  test(`after any script of faults the store equals the server (${labelSelector ?? 'no selector'}, ${streamsLists ? 'streamed' : 'in pages'})`, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 25 }), fc.nat(), async (steps, seed) => {
        const world = setup();
        world.frontend.streamsLists = streamsLists;
        const { reflector, changes, stop } = start(world, { ...(labelSelector ? { labelSelector } : {}), seed });
        for (const each of steps) {
          if (each.do === 'pass') await world.clock.advance(each.ms);
          else perform(world, each);
          if (each.do === 'break') await settle();
        }
        world.frontend.fault = undefined;
        // Silence is found after 3 minutes; waits double to at most a minute.
        await world.clock.advance(8 * 60_000);
        const wanted = world.server
          .objects(ConfigMaps)
          .filter((object) => !labelSelector || object.metadata.labels?.['seen'] === 'yes');
        assert.deepEqual(versions(reflector.store.values()), versions(wanted));
        for (const color of ['c0', 'c1', 'c2', 'c3', 'new'])
          assert.deepEqual(
            reflector.store.byIndex('color', color).map(keyOf).toSorted(),
            wanted
              .filter((object) => (object as unknown as { data: { color: string } }).data.color === color)
              .map(keyOf)
              .toSorted(),
          );
        // Handlers can rebuild the store from what they were told, and were never told of an older version.
        const rebuilt = new Map<string, KubeObject>();
        for (const change of changes) {
          const before = rebuilt.get(change.key);
          if (change.type === 'added') assert.equal(before, undefined, 'added though it was there');
          else assert.ok(before, `${change.type} though it was not there`);
          if (change.type === 'updated') {
            assert.equal(change.object.metadata.uid, before?.metadata.uid, 'another object is not an update');
            assert.ok(Number(change.object.metadata.resourceVersion) > Number(before?.metadata.resourceVersion));
          }
          if (change.type === 'deleted') rebuilt.delete(change.key);
          else rebuilt.set(change.key, change.object);
        }
        assert.deepEqual(versions(rebuilt.values()), versions(wanted));
        await stop();
        assert.equal(world.clock.pending, 0, 'timers are left');
        assert.equal(world.server.storage.watchers.size, 0, 'watches are left');
      }),
      { numRuns: 150 },
    );
  });

test('a bookmark moves the version on, so that compaction costs no new list', async () => {
  const world = setup();
  const { reflector, stop } = start(world);
  await settle();
  world.server.create(ConfigMaps, config('a', {}));
  await settle();
  for (let index = 0; index < 5; index++) world.server.storage.version++;
  world.frontend.bookmark();
  await settle();
  world.server.storage.compact(world.server.storage.version - 1);
  world.frontend.breakWatches('reset');
  await world.clock.advance(60_000);
  world.server.create(ConfigMaps, config('b', {}));
  await settle();
  assert.equal(reflector.store.size, 2);
  assert.deepEqual(world.frontend.requests, ['GET /api/v1/configmaps', 'GET /api/v1/configmaps']);
  await stop();
});

test('an object replaced by another of its name while nobody watched is a deletion and an addition', async () => {
  const world = setup();
  world.server.create(ConfigMaps, config('a', { color: 'old' }));
  const { changes, stop } = start(world);
  await settle();
  world.frontend.fault = () => 'reset';
  world.frontend.breakWatches('reset');
  await settle();
  perform({ ...world, frontend: new FakeFrontend(world.server) }, { do: 'recreate', name: 'a' });
  world.server.storage.compact();
  world.frontend.fault = undefined;
  await world.clock.advance(120_000);
  assert.deepEqual(
    changes.map((change) => `${change.type} ${change.object.metadata.uid?.slice(-1)}`),
    ['added 1', 'deleted 1', 'added 2'],
  );
  await stop();
});

test('after a restore of an older state, whose versions are smaller, the store follows', async () => {
  const world = setup();
  world.server.create(ConfigMaps, config('a', {}));
  const { reflector, stop } = start(world);
  await settle();
  world.server.storage.restore(500);
  world.frontend.breakWatches('reset');
  world.server.delete(ConfigMaps, { namespace: 'default', name: 'a' });
  world.server.create(ConfigMaps, config('b', {}));
  await world.clock.advance(240_000);
  assert.deepEqual([...reflector.store.keys()], ['default/b']);
  await stop();
});

test('a silent watch is given up after three minutes and what was missed is caught up', async () => {
  const world = setup();
  const { reflector, stop } = start(world);
  await settle();
  world.frontend.breakWatches('mute');
  world.server.create(ConfigMaps, config('missed', {}));
  await world.clock.advance(179_000);
  assert.equal(reflector.store.size, 0);
  await world.clock.advance(2000);
  assert.equal(reflector.store.size, 1);
  await stop();
});

test('a handler that throws stops neither the others nor the watch', async () => {
  const world = setup();
  const { reflector, changes, stop } = start(world);
  reflector.onChange(() => {
    throw new Error('handler of the test');
  });
  await settle();
  world.server.create(ConfigMaps, config('a', {}));
  world.server.create(ConfigMaps, config('b', {}));
  await settle();
  assert.equal(changes.length, 2);
  assert.equal(reflector.store.size, 2);
  await stop();
});

test('a handler that comes late is first told of all objects as initial', async () => {
  const world = setup();
  world.server.create(ConfigMaps, config('a', {}));
  const { reflector, changes, stop } = start(world);
  await settle();
  world.server.create(ConfigMaps, config('b', {}));
  await settle();
  const late: string[] = [];
  reflector.onChange((change) => void late.push(`${change.type} ${change.key} ${'initial' in change ? change.initial : ''}`));
  assert.deepEqual(late.toSorted(), ['added default/a true', 'added default/b true']);
  assert.deepEqual(
    changes.map((change) => 'initial' in change && change.initial),
    [true, false],
  );
  await stop();
});

test('waiting for the first list ends with it, or with the signal', async () => {
  const world = setup();
  world.frontend.fault = () => 'reset';
  const { reflector, stop } = start(world);
  const controller = new AbortController();
  const given = reflector.synced(controller.signal);
  controller.abort(new Error('no more'));
  await assert.rejects(given, /no more/);
  assert.equal(reflector.hasSynced, false);
  world.frontend.fault = undefined;
  await world.clock.advance(5000);
  await reflector.synced(new AbortController().signal);
  assert.equal(reflector.hasSynced, true);
  await stop();
});

test('what is stored carries neither managed fields nor the last applied configuration, and the original is left alone', () => {
  const object = {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: {
      name: 'a',
      managedFields: [{}],
      annotations: { 'kubectl.kubernetes.io/last-applied-configuration': '{}', mine: 'yes' },
    },
    extra: { unknown: true },
  };
  const before = structuredClone(object);
  assert.deepEqual(withoutManagedFields(object), {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'a', annotations: { mine: 'yes' } },
    extra: { unknown: true },
  });
  assert.deepEqual(object, before);
});

/** Of a server with so many objects, in pages: a compaction comes after each first page, `times` times. */
async function pagedWithCompactions(times: number): Promise<{ readonly keys: number; readonly lists: readonly string[] }> {
  const world = setup();
  world.frontend.streamsLists = false;
  for (let index = 0; index < 1200; index++) world.server.create(ConfigMaps, config(`n${index}`, {}));
  let left = times;
  world.frontend.fault = () => {
    // Before the second page of a list is served.
    if (world.frontend.lists.length > 0 && world.frontend.lists.at(-1)?.includes('limit') && left > 0) {
      left--;
      world.server.storage.version++;
      world.server.storage.compact();
    }
    return undefined;
  };
  const { reflector, stop } = start(world);
  await world.clock.advance(60_000);
  const { size } = reflector.store;
  await stop();
  return { keys: size, lists: world.frontend.lists };
}

test('a list is read in pages, and anew where they expire in the middle of it', async () => {
  const { keys, lists } = await pagedWithCompactions(1);
  assert.equal(keys, 1200);
  assert.ok(
    lists.every((query) => query.includes('limit=500')),
    lists.join(' '),
  );
  assert.deepEqual(
    lists.map((query) => query.includes('continue')),
    [false, true, false, true, true],
  );
});

test('where the pages expire again and again the list is read in one piece in the end', async () => {
  const { keys, lists } = await pagedWithCompactions(100);
  assert.equal(keys, 1200);
  assert.equal(lists.at(-1), '');
});

test('where the server streams, no list is asked for, neither first nor after the version to watch from is gone', async () => {
  const world = setup();
  world.server.create(ConfigMaps, config('a', {}));
  world.server.create(ConfigMaps, config('b', {}));
  const { reflector, changes, stop } = start(world);
  await settle();
  const kept = reflector.store.get('default/a');
  world.server.delete(ConfigMaps, { namespace: 'default', name: 'b' });
  world.frontend.breakWatches('gone');
  await world.clock.advance(60_000);
  assert.deepEqual([...reflector.store.keys()], ['default/a']);
  assert.equal(reflector.store.get('default/a'), kept, 'what did not change is the same object');
  assert.deepEqual(
    changes.map(({ type, key }) => `${type} ${key}`),
    ['added default/a', 'added default/b', 'deleted default/b'],
  );
  assert.deepEqual(world.frontend.lists, []);
  await stop();
});

test('a server that says nothing at the start of a stream is asked for lists', async () => {
  const world = setup();
  world.server.create(ConfigMaps, config('a', {}));
  world.frontend.silentStreams = true;
  const { reflector, stop } = start(world);
  await world.clock.advance(29_000);
  assert.equal(reflector.hasSynced, false);
  await world.clock.advance(2000);
  assert.deepEqual([...reflector.store.keys()], ['default/a']);
  await stop();
});

test('what the transform leaves out is not kept, and is deleted where it was kept before', async () => {
  for (const streamsLists of [true, false]) {
    const world = setup();
    world.frontend.streamsLists = streamsLists;
    const client = createClient(world.frontend.transport()).resource<KubeObject & { readonly data?: Record<string, string> }>(
      ConfigMaps,
    );
    const reflector = createReflector({ client, transform: (each) => (each.data?.['wanted'] ? each : undefined) }, world);
    const changes: string[] = [];
    reflector.onChange(({ type, key }) => void changes.push(`${type} ${key}`));
    const stop = new AbortController();
    const put = (name: string, wanted: boolean, make: 'create' | 'replace' = 'create') =>
      world.server[make](ConfigMaps, config(name, wanted ? { wanted: 'yes' } : {}));
    put('a', true);
    put('b', false);
    const ended = reflector.run(stop.signal);
    await settle();
    assert.deepEqual([...reflector.store.keys()], ['default/a']);
    put('c', false);
    put('b', true, 'replace');
    put('a', false, 'replace');
    await settle();
    assert.deepEqual([...reflector.store.keys()], ['default/b']);
    world.frontend.breakWatches('gone');
    put('b', false, 'replace');
    put('c', true, 'replace');
    world.server.delete(ConfigMaps, { namespace: 'default', name: 'a' });
    await world.clock.advance(60_000);
    assert.deepEqual([...reflector.store.keys()], ['default/c']);
    const told = ['added default/a', 'added default/b', 'deleted default/a', 'deleted default/b', 'added default/c'];
    assert.deepEqual(changes, told);
    stop.abort(new Error('test over'));
    await ended;
  }
});

test('a consumer that was too slow and was cut off goes on where its watch ended', async () => {
  const world = setup();
  const { reflector, stop } = start(world);
  await settle();
  // More than the server keeps for one watch, without a turn for the reader.
  for (let index = 0; index < 2000; index++) world.server.create(ConfigMaps, config(`n${index}`, {}));
  await world.clock.advance(60_000);
  assert.equal(reflector.store.size, 2000);
  assert.deepEqual(world.frontend.lists, []);
  assert.ok(world.frontend.requests.length > 1, 'it was cut off');
  await stop();
});
