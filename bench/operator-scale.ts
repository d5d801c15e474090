/**
 * The operator at the size of a large cluster: a real kube-apiserver with etcd, filled with JuiceVolumes, their mount Secrets
 * and pods (objects only: no kubelet runs them), and `juicepod operator` as a process of its own.
 *
 * Prints memory (resident, and its peak), requests to the API server, and times: from start until it leads with its caches
 * filled, until every live volume is Ready, and again from a restart, after SIGTERM (the lease is released) and after SIGKILL
 * (it must run out). Of the volumes `--live` are reconciled in full over real Redis databases; the others are suspended, and
 * have been given the status and the mount Secret of a volume that is Ready, so that they weigh as much.
 */
import { JuiceVolumes } from '../src/api/kinds.ts';
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { annotations, labels, MANAGED_BY, MOUNT_SECRET_KEY, MOUNT_SECRET_TYPE } from '../src/api/group.ts';
import type { JuiceVolume } from '../src/api/volume.ts';
import { connect } from '../src/kube/client.ts';
import { Namespaces, Pods, Secrets } from '../src/kube/resources.ts';
import type { Condition, Intent, KubeClient } from '../src/kube/types.ts';
import { startApiServer } from '../test/cluster/api-server.ts';
import { freePort, startRedis } from '../test/servers.ts';

const { values } = parseArgs({
  options: {
    small: { type: 'boolean', default: false },
    volumes: { type: 'string' },
    pods: { type: 'string' },
    live: { type: 'string' },
    steady: { type: 'string', default: '60' },
    // Appended to the operator's node, for profiles: --node-option=--cpu-prof
    'node-option': { type: 'string', multiple: true, default: [] },
    // Ends with the first start; for profiles.
    once: { type: 'boolean', default: false },
  },
});
const VOLUMES = Number(values.volumes ?? (values.small ? 200 : 10_000));
const PODS = Number(values.pods ?? (values.small ? 1000 : 50_000));
const LIVE = Math.min(VOLUMES, Number(values.live ?? (values.small ? 200 : 1000)));
const STEADY_S = Number(values.steady);
/** Of the pods have a volume. */
const ANNOTATED = 10;
const NAMESPACES = Math.max(4, Math.round(VOLUMES / 100));
/** Redis has 16 databases if not told otherwise, the spec allows 256. */
const DATABASES = 256;
const PARALLEL = 24;
const LIMIT_MIB = 200;
const LIMIT_S = 30;

const root = resolve(import.meta.dirname, '..');
const sleep = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));
const seconds = (since: number): string => `${((performance.now() - since) / 1000).toFixed(1)} s`;

/** Calls `make` for 0 … count-1, some at a time. */
async function each(count: number, make: (index: number) => Promise<unknown>): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count) await make(next++);
  };
  await Promise.all(Array.from({ length: PARALLEL }, worker));
}

const namespaceOf = (index: number): string => `team-${index % NAMESPACES}`;
const volumeName = (index: number): string => `volume-${index}`;

/** A pod as a Deployment makes it and the webhook leaves it. */
function pod(index: number): Intent {
  const asks = index % ANNOTATED === 0;
  const volume = volumeName(index % VOLUMES);
  const sidecar = (name: string) => ({ name, image: 'registry.example/juicepod:1', restartPolicy: 'Always' });
  const plan = { version: 1, mounts: [{ id: volume, volume, container: 'main', path: '/data', options: 'x'.repeat(200) }] };
  return {
    metadata: {
      name: `web-frontend-7d9c5b8f6d-${index.toString(36).padStart(5, '0')}`,
      namespace: namespaceOf(index),
      labels: { app: 'web-frontend', 'pod-template-hash': '7d9c5b8f6d', 'app.kubernetes.io/part-of': 'shop' },
      annotations: {
        'kubernetes.io/limit-ranger': 'LimitRanger plugin set: cpu, memory request for container main',
        'prometheus.io/scrape': 'true',
        ...(asks ? { [annotations.volumes]: `${volume}=/data`, [annotations.plan]: JSON.stringify(plan) } : {}),
      },
    },
    spec: {
      ...(asks ? { initContainers: [sidecar('juicepod-holder'), sidecar('juicepod-client')] } : {}),
      containers: [
        {
          name: 'main',
          image: 'registry.example/web:1',
          env: Array.from({ length: 8 }, (_, each) => ({ name: `SETTING_${each}`, value: `value ${each}` })),
          resources: { requests: { cpu: '100m', memory: '128Mi' } },
        },
      ],
    },
  };
}

/** As the status of a volume that is Ready. */
function readyStatus(index: number): Record<string, unknown> {
  const condition = (type: string, message: string): Condition => ({
    type,
    status: 'True',
    reason: 'Succeeded',
    message,
    lastTransitionTime: '2026-01-01T00:00:00Z',
    observedGeneration: 1,
  });
  return {
    observedGeneration: 1,
    volumeName: volumeName(index),
    uuid: `00000000-0000-4000-8000-${String(index).padStart(12, '0')}`,
    storage: `file:///blocks/${volumeName(index)}/`,
    usage: { bytes: index * 4096, inodes: index, size: `${index * 4} KiB`, observedAt: '2026-01-01T00:00:00Z' },
    sessions: { active: 0 },
    mountSecrets: { namespaces: 1 },
    conditions: [
      condition('Ready', `${volumeName(index)} can be mounted`),
      condition('SecretsResolved', 'every Secret is there'),
      condition('MetadataReachable', 'the database answers'),
      condition('MetadataDurable', 'nothing is evicted, every write is logged'),
      condition('StorageReachable', 'the object store answers'),
      condition('Formatted', `the volume ${volumeName(index)} has UUID 00000000-0000-4000-8000-000000000000`),
    ],
  };
}

async function loadVolume(client: KubeClient, index: number, database: string, blocks: string): Promise<void> {
  const volumes = client.resource<JuiceVolume>(JuiceVolumes);
  const [namespace, name] = [namespaceOf(index), volumeName(index)];
  const live = index < LIVE;
  const made = await volumes.create({
    metadata: { name, namespace },
    spec: {
      metadata: { redis: { addresses: [database], database: index % DATABASES } },
      storage: { file: { path: live ? blocks : '/blocks' } },
      suspend: !live,
    },
  });
  if (live) return;
  await volumes.applyStatus({ metadata: { name, namespace }, status: readyStatus(index) }, { fieldManager: 'juicepod-volume' });
  const { uid = '' } = made.metadata;
  const owner = { apiVersion: made.apiVersion, kind: 'JuiceVolume', name, uid, controller: true, blockOwnerDeletion: true };
  await client.resource(Secrets).create({
    metadata: {
      name: `juicepod-mount-${name}`,
      namespace,
      labels: { [labels.managedBy]: MANAGED_BY, [labels.partOf]: 'juicepod', [labels.volumeUid]: uid },
      annotations: { [annotations.volume]: `${namespace}/${name}` },
      ownerReferences: [owner],
    },
    type: MOUNT_SECRET_TYPE,
    data: {
      [MOUNT_SECRET_KEY]: Buffer.from(JSON.stringify({ name, metaUrl: database, storage: {}, more: 'x'.repeat(300) })).toString(
        'base64',
      ),
    },
  });
}

interface Sample {
  readonly rssMiB: number;
  readonly peakMiB: number;
  /** Processor seconds since its start. */
  readonly cpu: number;
}

/** What the kernel says of a process. */
function sample(pid: number): Sample {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const field = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0) / 1024;
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ') ?? [];
  return { rssMiB: field('VmRSS'), peakMiB: field('VmHWM'), cpu: (Number(stat[11]) + Number(stat[12])) / 100 };
}

const show = ({ rssMiB, peakMiB, cpu }: Sample): string =>
  `resident ${rssMiB.toFixed(0)} MiB, peak ${peakMiB.toFixed(0)} MiB, processor ${cpu.toFixed(1)} s`;

interface Operator {
  readonly pid: number;
  /** Milliseconds, as performance.now. */
  readonly started: number;
  /** Sum of the samples of a metric whose labels match. */
  metric(name: string, matching?: RegExp): Promise<number>;
  end(signal: NodeJS.Signals): Promise<void>;
}

async function startOperator(kubeconfig: string, log: string): Promise<Operator> {
  const port = await freePort();
  const output = openSync(log, 'a');
  const started = performance.now();
  const child = spawn(
    join(root, 'bin', 'juicepod'),
    ['operator', `--kubeconfig=${kubeconfig}`, '--namespace=juicepod-system', `--metrics-port=${port}`, '--log-level=warn'],
    {
      stdio: ['ignore', output, output],
      env: { ...process.env, NODE_OPTIONS: [process.env['NODE_OPTIONS'] ?? '', ...values['node-option']].join(' ') },
    },
  );
  const ended = new Promise<void>((done) => child.once('exit', () => done()));
  process.once('exit', () => child.kill('SIGKILL'));
  const { pid = 0 } = child;
  const text = async (path: string): Promise<string | undefined> => {
    if (child.exitCode !== null) throw new Error(`the operator ended: ${readFileSync(log, 'utf8').slice(-2000)}`);
    const answer = await fetch(`http://127.0.0.1:${port}${path}`).catch(() => undefined);
    const body = await answer?.text();
    return answer?.ok ? body : undefined;
  };
  const metric = async (name: string, matching = /(?:)/): Promise<number> => {
    let sum = 0;
    for (const line of (await text('/metrics'))?.split('\n') ?? [])
      if (line.startsWith(name) && matching.test(line) && /^[{ ]/.test(line.slice(name.length)))
        sum += Number(line.split(' ').at(-1));
    return sum;
  };
  // Its metrics are some MiB with very many volumes: they are not asked for more often than must be.
  while ((await text('/readyz')) === undefined) await sleep(100);
  while ((await metric('leader_election_master_status')) !== 1) await sleep(500);
  return {
    pid,
    started,
    metric,
    async end(signal) {
      child.kill(signal);
      await ended;
    },
  };
}

const requests = (operator: Operator): Promise<number> => operator.metric('rest_client_requests_total');

async function firstStart(operator: Operator): Promise<void> {
  console.log(`first start: leads, caches filled  ${seconds(operator.started)}; ${show(sample(operator.pid))}`);
  for (;;) {
    const ready = await operator.metric('juicepod_volume_ready', /1$/);
    if (ready >= VOLUMES && (await operator.metric('workqueue_depth')) === 0) break;
    // Each look makes the metrics of all volumes; Prometheus looks every 15 s.
    await sleep(VOLUMES > 1000 ? 5000 : 1000);
  }
  const count = await requests(operator);
  const time = (performance.now() - operator.started) / 1000;
  console.log(
    `all ${VOLUMES} Ready, queue empty        ${time.toFixed(1)} s; ${count} requests, ${(count / time).toFixed(1)}/s; ${show(sample(operator.pid))}`,
  );
}

/** Nothing happens but what the operator does by itself; it is scraped as Prometheus does. */
async function steady(operator: Operator): Promise<void> {
  const [before, cpu, since] = [await requests(operator), sample(operator.pid).cpu, performance.now()];
  let largest = 0;
  while (performance.now() - since < STEADY_S * 1000) {
    await sleep(Math.min(15_000, STEADY_S * 1000));
    await operator.metric('juicepod_volume_ready');
    largest = Math.max(largest, sample(operator.pid).rssMiB);
  }
  const now = sample(operator.pid);
  const time = (performance.now() - since) / 1000;
  const rate = ((await requests(operator)) - before) / time;
  console.log(
    `steady, ${time.toFixed(0)} s                       ${rate.toFixed(1)} requests/s, processor ${(((now.cpu - cpu) / time) * 100).toFixed(0)} %; ${show(now)}`,
  );
}

async function restarts(kubeconfig: string, log: string, first: Operator): Promise<number> {
  let [running, slowest] = [first, 0];
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    await running.end(signal);
    running = await startOperator(kubeconfig, log);
    const took = (performance.now() - running.started) / 1000;
    slowest = Math.max(slowest, took);
    const ready = sample(running.pid);
    await sleep(10_000);
    console.log(
      `restart after ${signal}: leads, filled  ${took.toFixed(1)} s; ${show(ready)}; 10 s later ${show(sample(running.pid))}`,
    );
  }
  await running.end('SIGTERM');
  return slowest;
}

// Servers end with this process, if it is let end.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));
const folder = mkdtempSync(join(tmpdir(), 'juicepod-scale-'));
const blocks = join(folder, 'blocks');
mkdirSync(blocks);
await using stack = new AsyncDisposableStack();
stack.defer(() => rmSync(folder, { recursive: true, force: true }));
const api = stack.use(await startApiServer({ flags: ['--max-requests-inflight=800', '--max-mutating-requests-inflight=400'] }));
const redis: { readonly port: number }[] = [];
for (let count = 0; count < Math.max(1, Math.ceil(LIVE / DATABASES)); count++)
  redis.push(stack.use(await startRedis(['--databases', String(DATABASES), '--appendonly', 'yes', '--appendfsync', 'no'])));
for (const base of ['config/namespace', 'crds']) await api.kubectl(['apply', '--server-side', '-k', join(root, base)]);
await api.kubectl(['wait', '--for=condition=Established', 'crd', '--all']);
const client = connect({ kubeconfig: api.kubeconfig, requestsPerSecond: 100_000, burst: 100_000 });
stack.defer(() => client.close());

const loading = performance.now();
await each(NAMESPACES, (index) => client.resource(Namespaces).create({ metadata: { name: namespaceOf(index) } }));
await each(VOLUMES, (index) => {
  const group = Math.floor(index / DATABASES);
  // Databases of volumes that are suspended are never connected to.
  return loadVolume(client, index, index < LIVE ? `127.0.0.1:${redis[group]?.port}` : `redis-${group}:6379`, blocks);
});
console.log(`${VOLUMES} volumes (${LIVE} live), ${NAMESPACES} namespaces loaded: ${seconds(loading)}`);
await each(PODS, (index) => client.resource(Pods).create(pod(index)));
console.log(`${PODS} pods (${Math.ceil(PODS / ANNOTATED)} with a volume) loaded: ${seconds(loading)}`);

const log = join(folder, 'operator.log');
const operator = await startOperator(api.kubeconfig, log);
stack.defer(() => operator.end('SIGKILL'));
await firstStart(operator);
await steady(operator);
const { peakMiB } = sample(operator.pid);
if (values.once) await operator.end('SIGTERM');
else {
  const slowest = await restarts(api.kubeconfig, log, operator);
  console.log(`memory: ${peakMiB.toFixed(0)} MiB of ${LIMIT_MIB}; restart to ready: ${slowest.toFixed(1)} s of ${LIMIT_S}`);
}
