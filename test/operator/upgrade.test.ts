/**
 * A running installation is brought to this release: what a former one left (test/golden/upgrade, by former/freeze.ts) on a real API
 * server, its databases and stores; then the new definitions, the new operator with the former rights, and the new rights. Way back: with
 * JUICEPOD_FORMER, a checkout of the release that `previous` is of, its operator runs on what this one wrote.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test, type TestContext } from 'node:test';
import { JuiceVolumes } from '../../src/api/kinds.ts';
import { parseMountConfig } from '../../src/api/mount.ts';
import type { JuiceVolume } from '../../src/api/volume.ts';
import { connect } from '../../src/kube/client.ts';
import { createReflector } from '../../src/kube/reflector.ts';
import { nullLogger } from '../../src/lib/log.ts';
import { openEngine } from '../../src/meta/open.ts';
import { runOperator } from '../../src/operator/index.ts';
import { type ApiServer, startApiServer } from '../cluster/api-server.ts';
import { startRedis } from '../servers.ts';
import { ToolMissing } from '../tools.ts';
import { until } from '../until.ts';
import { thaw, type Thawed } from './former/thaw.ts';
import { operatorKubeconfig } from './service-account.ts';

const root = resolve(import.meta.dirname, '..', '..');

/** What kubectl lists of a kind. */
async function list<T>(api: ApiServer, kind: string): Promise<readonly T[]> {
  return (JSON.parse(await api.kubectl(['get', kind, '--all-namespaces', '--output=json'])) as { items: T[] }).items;
}

interface Secret {
  readonly metadata: { readonly name: string; readonly namespace: string };
  readonly type: string;
  readonly data: Readonly<Record<string, string>>;
}

const nameOf = ({ metadata }: { readonly metadata: { readonly name: string } }): string => metadata.name;

/** What clients are given, by namespace/name of the Secret. */
async function given(api: ApiServer) {
  const secrets = (await list<Secret>(api, 'secrets')).filter(({ type }) => type === 'juicepod.io/mount');
  return Object.fromEntries(
    secrets.map(({ metadata, data }) => [
      `${metadata.namespace}/${metadata.name}`,
      parseMountConfig(Buffer.from(data['volume.json'] ?? '', 'base64').toString()),
    ]),
  );
}

/** The kubelet’s word that the sidecars serve, and the client’s own in the database. */
async function serve(api: ApiServer, { frozen }: Thawed): Promise<void> {
  const configs = await given(api);
  for (const pod of frozen.pods) {
    const { name, namespace = '' } = pod.metadata;
    const { initContainers } = pod['spec'] as {
      readonly initContainers: readonly { readonly name: string; readonly image: string }[];
    };
    const initContainerStatuses = initContainers.map((each) => ({
      name: each.name,
      image: each.image,
      imageID: '',
      ready: true,
      started: true,
      restartCount: 0,
      state: { running: {} },
    }));
    const status = JSON.stringify({ status: { phase: 'Running', initContainerStatuses } });
    await api.kubectl(['patch', 'pod', name, `--namespace=${namespace}`, '--subresource=status', '--type=merge', '-p', status]);
    const volume = name === 'elsewhere' ? 'shared' : name;
    const config = configs[`data/juicepod-mount-${volume}`];
    assert.ok(config, `a mount Secret of ${volume}`);
    const engine = await openEngine(config.metaUrl, { existing: true });
    const info = {
      Version: '1.4.1',
      HostName: name,
      MountPoint: '/juicepod/mnt/0',
      MountTime: '2026-01-01T00:00:00Z',
      ProcessID: 1,
      ...(config.generation === undefined ? {} : { CredentialsGeneration: config.generation }),
    };
    await engine.putSession(name.length, Math.floor(Date.now() / 1000) + 3600, JSON.stringify(info));
    await engine.close();
  }
}

/** Everything that must be as it was: of the databases, the stores, and what people are told. */
async function lasting(api: ApiServer, { frozen, database }: Thawed, folder: string): Promise<object> {
  const databases = await Promise.all(
    Object.keys(frozen.databases).map(async (index) => {
      const client = database(Number(index));
      const found = [await client.get('setting'), await client.getBuffer('i1')];
      client.disconnect();
      return found;
    }),
  );
  const volumes = (await list<JuiceVolume>(api, 'jv')).map(({ metadata, status }) => {
    const ready = status?.conditions?.find(({ type }) => type === 'Ready');
    return [metadata.name, status?.uuid, ready?.status, ready?.lastTransitionTime];
  });
  const pods = (await list<{ metadata: { name: string; annotations: object }; spec: object }>(api, 'pods')).map(
    ({ metadata, spec }) => [metadata.name, metadata.annotations, spec],
  );
  return { databases, volumes, pods, files: Object.keys(frozen.files).map((file) => readFileSync(join(folder, file), 'utf8')) };
}

/** Waits until the operator that runs has looked at every volume once more. */
async function lookedAt(api: ApiServer, word: string): Promise<void> {
  await api.kubectl(['annotate', 'jv', '--all', '--namespace=data', '--overwrite', `juicepod.io/reconcile-at=${word}`]);
  const wait = ['wait', `--for=jsonpath={.status.lastHandledReconcileAt}=${word}`, 'jv', '--all', '--namespace=data'];
  await api.kubectl([...wait, '--timeout=60s']);
}

async function upgrade(t: TestContext, name: string): Promise<void> {
  let server: ApiServer;
  try {
    server = await startApiServer();
  } catch (error) {
    if (!(error instanceof ToolMissing)) throw error;
    return t.skip(error.message);
  }
  await using api = server;
  await using redis = await startRedis(['--appendonly', 'yes', '--requirepass', 'secret']);
  const folder = mkdtempSync(join(tmpdir(), 'juicepod-upgrade-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const world = await thaw(name, api, redis, folder);
  await serve(api, world);
  const [before, configs] = [await lasting(api, world, folder), await given(api)];
  const specs = new Map((await list<JuiceVolume>(api, 'jv')).map((each) => [nameOf(each), each.spec]));

  // Every state that a volume passes through from here on.
  const client = connect({ kubeconfig: api.kubeconfig });
  const watching = createReflector<JuiceVolume>({ client: client.resource<JuiceVolume>(JuiceVolumes) });
  const notReady: string[] = [];
  watching.onChange(({ object, type }) => {
    const ready = object.status?.conditions?.find((each) => each.type === 'Ready');
    if (type === 'deleted' || ready?.status !== 'True') notReady.push(`${nameOf(object)}: ${type}, ${ready?.reason}`);
  });
  const ending = new AbortController();
  const watched = watching.run(ending.signal);
  t.after(async () => {
    ending.abort(new Error('the test is over'));
    await watched;
    await client.close();
  });
  await watching.synced();

  await api.kubectl(['apply', '--server-side', '--force-conflicts', '-k', join(root, 'crds')]);
  for (const { metadata, spec } of await list<JuiceVolume>(api, 'jv'))
    assert.partialDeepStrictEqual(spec, specs.get(metadata.name), 'new fields come with defaults, the others stay');

  process.env['POD_NAME'] = 'juicepod-operator-0';
  t.after(() => delete process.env['POD_NAME']);
  const stop = new AbortController();
  const operator = runOperator({
    client: connect({ kubeconfig: operatorKubeconfig(api) }),
    namespace: 'juicepod-system',
    log: nullLogger,
    signal: stop.signal,
  });
  try {
    // The rights are still the former ones.
    await lookedAt(api, 'image-first');
    const told = (): Promise<string> =>
      api.kubectl(['get', 'events', '--namespace=juicepod-system', '--output=jsonpath={.items[*].message}']);
    await until('the right that is missing is named in an event', async () =>
      /cannot (list|watch) resource "events"/.test(await told()),
    );
    await api.kubectl(['apply', '--server-side', '--force-conflicts', '-k', join(root, 'config/rbac')]);
    await lookedAt(api, 'rights-then');
    // What had waited for its right works: a pod that slipped past the webhook is found, those of the former release are not complained of.
    const stray = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'stray', namespace: 'data', annotations: { 'juicepod.io/volumes': 'plain=/data' } },
      spec: { containers: [{ name: 'app', image: 'example.com/app:1' }] },
    };
    await api.kubectl(['create', '-f', '-'], JSON.stringify(stray));
    await api.kubectl(['wait', '--for=condition=PodsServed=False', 'jv/plain', '--namespace=data', '--timeout=60s']);
    const complaint = await api.kubectl([
      'get',
      'jv',
      '--namespace=data',
      '--output=jsonpath={.items[*].status.conditions[?(@.type=="PodsServed")].message}',
    ]);
    assert.match(complaint, /^1 pod\(s\) run without the volume: pod data\/stray /);
    await api.kubectl(['delete', 'pod', 'stray', '--namespace=data', '--force', '--grace-period=0']);
    await check();
  } finally {
    stop.abort(new Error('the test is over'));
    await operator;
  }
  const former = process.env['JUICEPOD_FORMER'];
  if (name === 'previous' && former !== undefined) await goBack(former);

  /** Nothing is formatted or raised without cause, nobody is told to change anything, nothing was ever not ready. */
  async function check(): Promise<void> {
    assert.deepEqual(await lasting(api, world, folder), before);
    assert.deepEqual(notReady, []);
    for (const [secret, config] of Object.entries(await given(api))) {
      const { generation = '1', ...credentials } = configs[secret] ?? assert.fail(`${secret} is new`);
      assert.partialDeepStrictEqual(config, { ...credentials, generation }, secret);
    }
    const volumes = await list<JuiceVolume>(api, 'jv');
    for (const { metadata, status } of volumes) {
      const bad = status?.conditions?.filter(({ type }) => ['Reconciling', 'Stalled'].includes(type));
      assert.deepEqual(bad, [], metadata.name);
      assert.equal(status?.sessions?.active, metadata.name === 'shared' ? 2 : 1, metadata.name);
      assert.equal(status.credentials?.outdated, 0, metadata.name);
      assert.equal(status.observedGeneration, metadata.generation, metadata.name);
    }
    const reasons = await api.kubectl(['get', 'events', '--namespace=data', '--output=jsonpath={.items[*].reason}']);
    assert.doesNotMatch(reasons, /Formatted|Configured/);
  }

  async function goBack(checkout: string): Promise<void> {
    const program = join(checkout, 'src/main.ts');
    const args = [program, 'operator', `--kubeconfig=${operatorKubeconfig(api)}`, '--metrics-port=0', '--log-level=error'];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'inherit', 'inherit'] });
    const ended = new Promise((done) => child.once('exit', done));
    try {
      await lookedAt(api, 'back');
      assert.deepEqual(await lasting(api, world, folder), before);
      assert.deepEqual(notReady, []);
    } finally {
      child.kill('SIGTERM');
      await ended;
    }
  }
}

for (const name of ['previous', 'first'])
  test(`what the ${name} release left goes on under the new operator, before its rights have come and after: ready, unformatted, no credentials raised`, (t) =>
    upgrade(t, name));
