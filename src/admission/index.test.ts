/** The whole process against an API server in memory: two replicas, a cluster that changes, a graceful end. */
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { request } from 'node:https';
import { after, before, test } from 'node:test';
import { GROUP, VERSION } from '../api/group.ts';
import { createClient } from '../kube/client.ts';
import { MutatingWebhookConfigurations, Namespaces, Secrets } from '../kube/resources.ts';
import { FakeApiServer } from '../kube/testing/fake-apiserver.ts';
import { FakeFrontend } from '../kube/testing/fake-transport.ts';
import type { Resource } from '../kube/types.ts';
import { type Clock, systemClock } from '../lib/clock.ts';
import { nullLogger } from '../lib/log.ts';
import { runWebhook } from './index.ts';
import { type Json, listOf, mapOf } from '../lib/json.ts';
import { pod, volume } from './testing/fixtures.ts';

const resource = (plural: string, kind: string): Resource => ({ group: GROUP, version: VERSION, plural, kind, namespaced: true });
const Volumes = resource('juicevolumes', 'JuiceVolume');
const Policies = resource('juicecachepolicies', 'JuiceCachePolicy');

const api = new FakeApiServer({ resources: [Volumes, Policies] });
const frontend = new FakeFrontend(api);

interface Replica {
  readonly port: number;
  readonly stop: AbortController;
  readonly ended: Promise<void>;
}
const replicas: Replica[] = [];

/** Drains until the test says that the time is over. */
const DRAIN_MS = 123_456;
const drained: (() => void)[] = [];
const clock: Clock = {
  ...systemClock,
  timer: (ms, callback) => {
    if (ms !== DRAIN_MS) return systemClock.timer(ms, callback);
    drained.push(callback);
    return () => {};
  },
};

function start(): Promise<Replica> {
  const stop = new AbortController();
  const client = createClient(frontend.transport(), { namespace: 'juicepod-system' });
  return new Promise((resolve, reject) => {
    const ended = runWebhook(
      {
        client,
        log: nullLogger,
        port: 0,
        host: '127.0.0.1',
        drainMs: DRAIN_MS,
        clock,
        onListening: (port) => resolve({ port, stop, ended }),
      },
      stop.signal,
    );
    ended.catch(reject);
  });
}

function bundle(): string {
  const configuration = api.get(MutatingWebhookConfigurations, { name: 'juicepod-webhook' }) as unknown as Json;
  return Buffer.from(String(mapOf(mapOf(listOf(configuration['webhooks'])[0])['clientConfig'])['caBundle']), 'base64').toString();
}

/** A call as the API server makes it: by the name of the Service, trusting caBundle alone. */
function call(
  port: number,
  method: string,
  path: string,
  body?: unknown,
): Promise<{ readonly code: number; readonly text: string }> {
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        host: '127.0.0.1',
        port,
        method,
        path,
        ca: bundle(),
        servername: 'juicepod-webhook.juicepod-system.svc',
        agent: false,
        headers: body === undefined ? {} : { 'content-type': 'application/json' },
      },
      (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (part: string) => (text += part));
        response.on('end', () => resolve({ code: response.statusCode ?? 0, text }));
      },
    );
    sent.on('error', reject);
    sent.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

/** 'Injected', or the reason of a refusal. */
async function review(port: number, volumes: string, namespace = 'default'): Promise<string> {
  const { code, text } = await call(port, 'POST', '/mutate', {
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    request: {
      uid: 'u',
      resource: { group: '', version: 'v1', resource: 'pods' },
      operation: 'CREATE',
      namespace,
      object: pod(volumes),
    },
  });
  assert.equal(code, 200, text);
  const response = mapOf((JSON.parse(text) as Json)['response']);
  return response['allowed'] === true ? 'Injected' : String(mapOf(response['status'])['reason']);
}

async function until(what: string, check: () => Promise<boolean>): Promise<void> {
  for (let count = 0; count < 2000; count++) {
    if (await check()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.fail(`gave up waiting until ${what}`);
}

/** Puts a volume there that is ready. */
function putVolume(name: string): void {
  const object = volume(name) as unknown as Record<string, unknown>;
  api.create(Volumes, object);
  const live = api.get(Volumes, { namespace: 'default', name }) as unknown as Json;
  api.replace(Volumes, { ...live, status: object['status'] }, { fieldManager: 'operator', subresource: 'status' });
}

before(async () => {
  api.create(Namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'default' } });
  api.create(MutatingWebhookConfigurations, {
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'MutatingWebhookConfiguration',
    metadata: { name: 'juicepod-webhook' },
    webhooks: [
      { name: 'pods.juicepod.io', clientConfig: { service: { name: 'juicepod-webhook', namespace: 'juicepod-system' } } },
    ],
  });
  putVolume('datasets');
  replicas.push(...(await Promise.all([start(), start()])));
  for (const { port } of replicas) await until('it is ready', async () => (await call(port, 'GET', '/readyz')).code === 200);
});

after(async () => {
  for (const { stop } of replicas) stop.abort(new Error('the test is over'));
  for (const end of drained) end();
  await Promise.all(replicas.map(({ ended }) => ended));
});

test('both replicas answer under the name of the Service, trusted by the one caBundle', async () => {
  for (const { port } of replicas) assert.equal(await review(port, 'datasets=/data'), 'Injected');
  assert.equal(api.objects(Secrets).length, 1);
});

test('caBundle is written without touching the rest of the configuration', () => {
  const configuration = api.get(MutatingWebhookConfigurations, { name: 'juicepod-webhook' }) as unknown as Json;
  const [webhook] = listOf(configuration['webhooks']);
  assert.deepEqual(mapOf(mapOf(webhook)['clientConfig'])['service'], {
    name: 'juicepod-webhook',
    namespace: 'juicepod-system',
  });
});

test('what changes in the cluster is known to both replicas, after a broken watch too', async () => {
  frontend.breakWatches('reset');
  for (const { port } of replicas) assert.equal(await review(port, 'fresh=/data'), 'VolumeNotFound');
  putVolume('fresh');
  for (const { port } of replicas)
    await until('the volume is known', async () => (await review(port, 'fresh=/data')) === 'Injected');
  api.delete(Volumes, { namespace: 'default', name: 'fresh' });
  for (const { port } of replicas)
    await until('the volume is gone', async () => (await review(port, 'fresh=/data')) === 'VolumeNotFound');
  const live = api.get(Namespaces, { name: 'default' }) as unknown as Json;
  const labels = { 'pod-security.kubernetes.io/enforce': 'baseline' };
  api.replace(Namespaces, { ...live, metadata: { ...mapOf(live['metadata']), labels } });
  for (const { port } of replicas)
    await until('the label is known', async () => (await review(port, 'datasets=/data:fuse')) === 'PodSecurity');
});

test('reviews write nothing', async () => {
  const isWrite = (line: string): boolean => !line.startsWith('GET ');
  const before = frontend.requests.filter(isWrite).length;
  for (const volumes of ['datasets=/data', 'nope=/data', 'bad']) await review(replicas[0]?.port ?? 0, volumes);
  assert.equal(frontend.requests.filter(isWrite).length, before);
});

test('after the signal a replica is not ready but answers for a while, then it is gone', async () => {
  const [replica] = replicas;
  assert.ok(replica);
  replica.stop.abort(new Error('SIGTERM'));
  const ready = await call(replica.port, 'GET', '/readyz');
  assert.deepEqual([ready.code, /shutdown: the webhook is ending/.test(ready.text)], [503, true]);
  assert.equal((await call(replica.port, 'GET', '/livez')).code, 200);
  assert.equal(await review(replica.port, 'nope=/data'), 'VolumeNotFound');
  assert.equal(drained.length, 1);
  drained[0]?.();
  await replica.ended;
  await assert.rejects(call(replica.port, 'GET', '/livez'), /ECONNREFUSED/);
});
