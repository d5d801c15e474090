import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { Agent, request } from 'node:https';
import { connect, type TLSSocket } from 'node:tls';
import { after, before, test } from 'node:test';
import { Registry } from 'prom-client';
import { applyPatch } from 'rfc6902';
import { createHealth } from '../kube/health.ts';
import { nullLogger } from '../lib/log.ts';
import type { Operation } from './patch.ts';
import { mapOf, type Json } from '../lib/json.ts';
import { startServer, type WebhookServer } from './server.ts';
import { defaultSettings } from './settings.ts';
import { admit, cluster, pod, volume } from './testing/fixtures.ts';
import { createAuthority, type Pair, signLeaf } from './x509.ts';

const home = cluster([volume('datasets')]);
const metrics = new Registry();
const health = createHealth();
let isReady = true;
let authority: Pair;
let server: WebhookServer;
let agent: Agent;

async function leaf(): Promise<{ cert: string; key: string }> {
  const pair = await signLeaf(authority, ['127.0.0.1'], Date.now());
  return { cert: pair.certificate.pem, key: pair.key };
}

before(async () => {
  authority = await createAuthority(Date.now());
  agent = new Agent({ ca: authority.certificate.pem, keepAlive: true });
  health.addReady('caches', () => (isReady ? undefined : 'not synced: juicevolumes'));
  const options = { cluster: home, settings: defaultSettings, health, metrics, log: nullLogger, isReady: () => isReady };
  server = await startServer({ ...options, keys: await leaf() }, 0, '127.0.0.1');
});

after(async () => {
  agent.destroy();
  await server.close();
});

interface Answer {
  readonly code: number;
  readonly text: string;
}

function call(method: string, path: string, body?: string, type = 'application/json'): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const headers = body === undefined ? {} : { 'content-type': type, 'content-length': Buffer.byteLength(body) };
    const sent = request({ host: '127.0.0.1', port: server.port, agent, method, path, headers }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (part: string) => (text += part));
      response.on('end', () => resolve({ code: response.statusCode ?? 0, text }));
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

const reviewOf = (object: unknown, fields: Json = {}): Json => ({
  apiVersion: 'admission.k8s.io/v1',
  kind: 'AdmissionReview',
  request: {
    uid: '705ab4f5-6393-11e8-b7cc-42010a800002',
    kind: { group: '', version: 'v1', kind: 'Pod' },
    resource: { group: '', version: 'v1', resource: 'pods' },
    operation: 'CREATE',
    namespace: 'default',
    dryRun: false,
    object,
    ...fields,
  },
});

async function mutate(body: unknown): Promise<Json> {
  const { code, text } = await call('POST', '/mutate', JSON.stringify(body));
  assert.equal(code, 200, text);
  const answer = JSON.parse(text) as Json;
  assert.equal(answer['apiVersion'], 'admission.k8s.io/v1');
  const response = mapOf(answer['response']);
  assert.equal(response['uid'], '705ab4f5-6393-11e8-b7cc-42010a800002');
  return response;
}

test('the patch of an annotated pod is answered over TLS, and is the one that was decided', async () => {
  const object = pod('datasets=/data');
  const response = await mutate(reviewOf(object));
  assert.equal(response['allowed'], true);
  assert.equal(response['patchType'], 'JSONPatch');
  const operations = JSON.parse(Buffer.from(String(response['patch']), 'base64').toString()) as Operation[];
  const result = structuredClone(object);
  assert.ok(applyPatch(result, operations).every((error) => error === null));
  assert.deepEqual(result, admit(object, home).result);
  assert.deepEqual(response['auditAnnotations'], {
    decision: 'inject',
    volumes: 'default/datasets',
    image: defaultSettings.image,
    platform: 'generic',
    mode: 'fuse',
  });
  const again = await mutate(reviewOf(result));
  assert.deepEqual([again['allowed'], again['patch']], [true, undefined]);
});

test('a pod without the annotation gets no patch', async () => {
  const response = await mutate(reviewOf(pod(undefined)));
  assert.deepEqual([response['allowed'], response['patch']], [true, undefined]);
});

test('the namespace of the request counts where the pod has none', async () => {
  const object = pod('datasets=/data', {}, { namespace: undefined, name: undefined, generateName: 'app-' });
  assert.equal((await mutate(reviewOf(object)))['allowed'], true);
  const elsewhere = await mutate(reviewOf(object, { namespace: 'other' }));
  assert.deepEqual(mapOf(elsewhere['status'])['reason'], 'VolumeNotFound');
});

test('a dry run is answered like any other', async () => {
  const [wet, dry] = [
    await mutate(reviewOf(pod('datasets=/data'))),
    await mutate(reviewOf(pod('datasets=/data'), { dryRun: true })),
  ];
  assert.deepEqual(dry, wet);
});

test('a refusal has reason, message and status', async () => {
  const response = await mutate(reviewOf(pod('datasets=data')));
  assert.equal(response['allowed'], false);
  const status = mapOf(response['status']);
  assert.deepEqual([status['status'], status['code'], status['reason']], ['Failure', 400, 'AnnotationInvalid']);
  assert.match(String(status['message']), /the mount path "data" is not absolute/);
});

test('an annotation of 1 MiB is refused', async () => {
  const response = await mutate(reviewOf(pod('x'.repeat(1 << 20))));
  assert.match(String(mapOf(response['status'])['message']), /longer than 64 KiB \(1048576 bytes\)/);
});

test('other operations and resources are allowed as they are, a missing object is refused', async () => {
  for (const fields of [
    { operation: 'UPDATE' },
    { resource: { group: 'apps', version: 'v1', resource: 'deployments' } },
    { subResource: 'ephemeralcontainers' },
  ])
    assert.deepEqual(await mutate(reviewOf(pod('datasets=/data'), fields)).then((response) => response['allowed']), true);
  for (const object of [undefined, null, [], 'x'])
    assert.equal(mapOf((await mutate(reviewOf(object)))['status'])['reason'], 'BadRequest');
});

test('while the caches fill, reviews are refused with the advice to try again', async () => {
  isReady = false;
  try {
    const response = await mutate(reviewOf(pod('datasets=/data')));
    assert.deepEqual([response['allowed'], mapOf(response['status'])['code']], [false, 503]);
    const { code, text } = await call('GET', '/readyz');
    assert.deepEqual([code, text], [503, 'caches: not synced: juicevolumes\n']);
  } finally {
    isReady = true;
  }
});

test('what is not a review gets a 4xx, and the server goes on', async () => {
  const cases: readonly (readonly [number, string, string?])[] = [
    [400, ''],
    [400, '{'],
    [400, 'null'],
    [400, '[]'],
    [400, '7'],
    [400, '{"kind":"AdmissionReview"}'],
    [400, '{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}'],
    [400, '{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":7}}'],
    [400, '{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1beta1","request":{"uid":"x"}}'],
    [400, '{"__proto__":{"kind":"AdmissionReview"}}'],
    [400, '['.repeat(100_000)],
    [413, `"${'x'.repeat(5 << 20)}"`],
    [415, 'kind: AdmissionReview', 'application/yaml'],
  ];
  for (const [expected, body, type] of cases) {
    const answer = await call('POST', '/mutate', body, type).catch((error: unknown) => error as NodeJS.ErrnoException);
    // A body that is too long may be cut off while it is still being sent.
    if ('code' in answer && typeof answer.code === 'string')
      assert.deepEqual([expected, answer.code === 'EPIPE' || answer.code === 'ECONNRESET'], [413, true]);
    else assert.equal((answer as Answer).code, expected, body.slice(0, 80));
  }
  assert.equal((await call('GET', '/mutate')).code, 404);
  assert.equal((await mutate(reviewOf(pod(undefined))))['allowed'], true);
});

test('deeply nested and hostile pods are answered', async () => {
  const deep = JSON.parse(`${'{"a":'.repeat(1500)}1${'}'.repeat(1500)}`) as unknown;
  for (const spec of [deep, { containers: deep }, { containers: [deep] }, { volumes: 'x', containers: [{ volumeMounts: 7 }] }])
    assert.equal(typeof (await mutate(reviewOf({ ...pod('datasets=/data'), spec })))['allowed'], 'boolean');
});

test('probes and metrics answer', async () => {
  for (const path of ['/livez', '/healthz', '/readyz']) assert.deepEqual(await call('GET', path), { code: 200, text: 'ok\n' });
  const { text } = await call('GET', '/metrics');
  assert.match(text, /controller_runtime_webhook_requests_total\{webhook="\/mutate",code="200"\} [1-9]/);
  assert.match(text, /controller_runtime_webhook_latency_seconds_count\{webhook="\/mutate"\} [1-9]/);
  assert.match(text, /controller_runtime_webhook_requests_in_flight\{webhook="\/mutate"\} 0/);
  assert.match(text, /juice_admission_decisions_total\{action="refuse",reason="AnnotationInvalid"\} [1-9]/);
});

function serving(): Promise<{ readonly fingerprint: string; readonly socket: TLSSocket }> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port: server.port, ca: authority.certificate.pem }, () =>
      resolve({ fingerprint: socket.getPeerCertificate().fingerprint256, socket }),
    );
    socket.on('error', reject);
  });
}

test('a new certificate serves new connections while live ones go on; a pair that does not fit changes nothing', async () => {
  const old = await serving();
  server.useKeys(await leaf());
  const fresh = await serving();
  assert.notEqual(fresh.fingerprint, old.fingerprint);
  old.socket.write('GET /livez HTTP/1.1\r\nhost: x\r\n\r\n');
  const head = await new Promise<string>((resolve) => old.socket.once('data', (part: Buffer) => resolve(part.toString())));
  assert.match(head, /^HTTP\/1\.1 200 /);
  const [one, other] = [await leaf(), await leaf()];
  assert.throws(() => server.useKeys({ cert: one.cert, key: other.key }), /key values mismatch/i);
  const still = await serving();
  assert.equal(still.fingerprint, fresh.fingerprint);
  for (const { socket } of [old, fresh, still]) socket.destroy();
});
