/**
 * The reflector and the leader on a real kube-apiserver that is restarted, whose etcd forgets, over a line that is cut, and for a
 * reader that is too slow: the store ends equal to what is there, each change is told once, and all objects are listed anew
 * only where that must be.
 */
import assert from 'node:assert/strict';
import { after, before, test, type TestContext } from 'node:test';
import { connect } from '../../src/kube/client.ts';
import { createLeader } from '../../src/kube/leader.ts';
import { createReflector } from '../../src/kube/reflector.ts';
import { ConfigMaps, keyOf, Leases } from '../../src/kube/resources.ts';
import type { KubeClient, KubeObject, ListOptions, Reflector, StoreChange, WatchOptions } from '../../src/kube/types.ts';
import { type ApiServer, startApiServer } from '../cluster/api-server.ts';
import { ToolMissing } from '../tools.ts';
import { eventually } from './backends.ts';
import type { Line } from '../line.ts';
import { lineTo } from './line.ts';

interface World {
  readonly api: ApiServer;
  readonly direct: KubeClient;
}

let world: World | undefined;
let missing = '';
const fast = { requestsPerSecond: 1000, burst: 1000 } as const;

before(async () => {
  try {
    const api = await startApiServer();
    world = { api, direct: connect({ kubeconfig: api.kubeconfig, ...fast }) };
  } catch (error) {
    if (!(error instanceof ToolMissing)) throw error;
    missing = error.message;
  }
});
after(async () => {
  await world?.direct.close();
  await world?.api.stop();
});

function worldOf(context: TestContext): World | undefined {
  if (!world) context.skip(missing);
  return world;
}

interface Following extends AsyncDisposable {
  readonly line: Line;
  readonly reflector: Reflector;
  readonly changes: StoreChange<KubeObject>[];
  /** How the server was asked: a stream of all objects, or a watch from a version on. */
  readonly asked: string[];
  /** Waits until the store is what the server has. */
  isEqual(): Promise<void>;
}

/** A reflector of the ConfigMaps with the label `of`, over a line; what they hold is not kept. */
async function follow({ api, direct }: World, of: string): Promise<Following> {
  const { line, kubeconfig } = await lineTo(api);
  const client = connect({ kubeconfig, ...fast });
  const maps = client.resource(ConfigMaps);
  const asked: string[] = [];
  const changes: StoreChange<KubeObject>[] = [];
  const stop = new AbortController();
  const watched = {
    resource: ConfigMaps,
    streamsLists: true,
    pages(options?: ListOptions) {
      asked.push('list');
      return maps.pages(options);
    },
    watch(options: WatchOptions) {
      asked.push(options.initialEvents ? 'stream' : 'watch');
      return maps.watch(options);
    },
  };
  const labelSelector = `of=${of}`;
  const transform = ({ apiVersion, kind, metadata }: KubeObject): KubeObject => ({ apiVersion, kind, metadata });
  const reflector = createReflector<KubeObject>({ client: watched, labelSelector, transform });
  reflector.onChange((change) => changes.push(change));
  const running = reflector.run(stop.signal);
  const versions = (objects: Iterable<KubeObject>): string =>
    [...objects]
      .map((each) => `${keyOf(each)} ${each.metadata.resourceVersion}`)
      .toSorted()
      .join('\n');
  const following: Following = {
    line,
    reflector,
    changes,
    asked,
    async isEqual() {
      const there = versions((await direct.resource(ConfigMaps).list({ labelSelector })).items);
      await eventually('the store is what the server has', () => versions(reflector.store.values()) === there);
    },
    async [Symbol.asyncDispose]() {
      stop.abort(new Error('the test is over'));
      await line.mend();
      line.flow();
      await running;
      await client.close();
      await line[Symbol.asyncDispose]();
    },
  };
  await reflector.synced();
  return following;
}

/** Ways to change the ConfigMaps of a test, past the line. */
function writer({ direct }: World, of: string) {
  const maps = direct.resource(ConfigMaps);
  const ref = (name: string) => ({ namespace: 'default', name: `${of}-${name}` });
  const put = async (name: string, text: string): Promise<void> =>
    void (await maps.apply({ metadata: { ...ref(name), labels: { of } }, data: { text } }));
  return { put, drop: (name: string) => maps.delete(ref(name)) };
}

const told = (changes: readonly StoreChange<KubeObject>[]): string[] =>
  changes.map(({ type, key }) => `${type} ${key.slice(key.lastIndexOf('-') + 1)}`).toSorted();

test('a connection that is reset in the middle of a watch costs no new list, and nothing is missed or told twice', async (context) => {
  const on = worldOf(context);
  if (!on) return;
  const { put, drop } = writer(on, 'reset');
  for (const name of ['a', 'b', 'c']) await put(name, '1');
  await using following = await follow(on, 'reset');
  for (let round = 0; round < 2; round++) {
    await following.isEqual();
    following.changes.length = 0;
    await following.line.cut();
    await put('a', `round ${round}`);
    await (round % 2 === 0 ? drop('b') : put('b', 'again'));
    await put(`d${round}`, 'new');
    await following.line.mend();
    await following.isEqual();
    assert.deepEqual(
      told(following.changes),
      ['updated a', round % 2 === 0 ? 'deleted b' : 'added b', `added d${round}`].toSorted(),
    );
  }
  assert.deepEqual([...new Set(following.asked.slice(1))], ['watch'], 'all objects were read once');
});

test('an API server that is killed and starts anew with a compacted etcd: what happened meanwhile is told once', async (context) => {
  const on = worldOf(context);
  if (!on) return;
  const { put, drop } = writer(on, 'restart');
  for (const name of ['a', 'b', 'c']) await put(name, '1');
  await using following = await follow(on, 'restart');
  await following.isEqual();
  following.changes.length = 0;
  await following.line.cut();
  await put('a', '2');
  await drop('b');
  await put('d', 'new');
  await on.api.compact();
  await on.api.restart();
  await following.line.mend();
  await following.isEqual();
  assert.deepEqual(told(following.changes), ['added d', 'deleted b', 'updated a']);
  assert.ok(following.asked.lastIndexOf('stream') > 0, 'the version to watch from was gone, and all objects were read anew');
  // And it follows what comes next.
  await put('e', 'later');
  await following.isEqual();
});

/** Whose readers were too slow, by the API server's own count. */
async function cutOff({ api }: World): Promise<number> {
  const metrics = await api.kubectl(['get', '--raw', '/metrics']);
  const found = metrics.match(/^apiserver_terminated_watchers_total\{[^}]*resource="configmaps"[^}]*\} (\d+)$/m);
  return Number(found?.[1] ?? 0);
}

test('a reader that is too slow is cut off by the API server, goes on where it was and misses nothing', async (context) => {
  const on = worldOf(context);
  if (!on) return;
  const { put } = writer(on, 'slow');
  await put('a', '1');
  await using following = await follow(on, 'slow');
  await following.isEqual();
  const before = await cutOff(on);
  following.line.stall();
  const large = 'x'.repeat(900 << 10);
  // Buffers of the kernel and of the line take some MiB, then the server waits for 50 ms at most for each event.
  for (let count = 0; count < 400 && (await cutOff(on)) === before; count++) await put(`n${count % 20}`, `${count} ${large}`);
  assert.ok((await cutOff(on)) > before, 'the API server gave up waiting');
  following.line.flow();
  await following.isEqual();
  assert.deepEqual([...new Set(following.asked.slice(1))], ['watch'], 'all objects were read once');
});

interface Lease extends KubeObject {
  readonly spec?: { readonly holderIdentity?: string; readonly renewTime?: string; readonly leaseTransitions?: number };
}

test('a leader whose API server is killed and starts anew within its deadline goes on leading', async (context) => {
  const on = worldOf(context);
  if (!on) return;
  const client = connect({ kubeconfig: on.api.kubeconfig, ...fast });
  const durations = { leaseDurationMs: 180_000, renewDeadlineMs: 120_000, retryPeriodMs: 200 };
  const leader = createLeader({ client, namespace: 'default', name: 'restarted', identity: 'a', ...durations });
  const stop = new AbortController();
  let ended = false;
  const running = leader.run(
    (signal) =>
      new Promise((resolve) => {
        signal.addEventListener('abort', () => {
          ended = true;
          resolve();
        });
      }),
    stop.signal,
  );
  const leases = on.direct.resource<Lease>(Leases);
  const read = async () => (await leases.find({ namespace: 'default', name: 'restarted' }))?.spec;
  try {
    await eventually('it leads', () => leader.isLeading);
    await on.api.restart();
    const before = (await read())?.renewTime;
    await eventually('it renews its lease', async () => (await read())?.renewTime !== before);
    leader.assertLeading();
    assert.equal(ended, false, 'its work was never told to end');
    assert.equal((await read())?.leaseTransitions, 0);
  } finally {
    stop.abort(new Error('the test is over'));
    assert.equal(await running, 'released');
    await client.close();
  }
  assert.equal((await read())?.holderIdentity ?? '', '');
});
