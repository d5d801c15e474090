/**
 * A real API server with the real webhook for the tests of `juicepod analyze`: volumes that are ready and one that is not, and the means to
 * put each cause there and to take it away again. Started once for the file that imports this.
 */
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { after, before, test } from 'node:test';
import { runWebhook } from '../../src/admission/index.ts';
import { createAuthority, type Pair, signLeaf } from '../../src/admission/x509.ts';
import { analyze, targetOfFile, targetOfName } from '../../src/cli/cluster/analyze.ts';
import type { Finding } from '../../src/cli/cluster/findings.ts';
import { connect } from '../../src/kube/client.ts';
import type { KubeClient } from '../../src/kube/types.ts';
import { nullLogger } from '../../src/lib/log.ts';
import { install, type Installed, system } from '../packaging/installed.ts';
import { until } from '../until.ts';
import { ToolMissing } from '../tools.ts';

export type Json = Record<string, unknown>;

export const root = resolve(import.meta.dirname, '../..');
const stop = new AbortController();
const signal = AbortSignal.timeout(600_000);
let missing: string | undefined;
export let installed: Installed;
export let client: KubeClient;
let authority: Pair;
let webhook: Promise<void> = Promise.resolve();

export const kubectl = (...args: readonly string[]): Promise<string> => installed.api.kubectl(args);
export const apply = (object: object): Promise<string> =>
  installed.api.kubectl(['apply', '--server-side', '--force-conflicts', '-f', '-'], JSON.stringify(object));
const base64 = (text: string): string => Buffer.from(text).toString('base64');

/** Changes an object by a merge patch; answers how to make it what it was. */
async function changed(kind: string, name: string, patch: Json, ...more: readonly string[]): Promise<() => Promise<void>> {
  const before = JSON.parse(await kubectl('get', kind, name, '-o', 'json', ...more)) as Json;
  const at = kind === 'mutatingwebhookconfiguration' ? [] : more;
  await kubectl('patch', kind, name, '--type=merge', '-p', JSON.stringify(patch), ...at);
  return async () => {
    const { resourceVersion: _version, managedFields: _fields, ...metadata } = before['metadata'] as Json;
    await installed.api.kubectl(['replace', '-f', '-', ...at], JSON.stringify({ ...before, metadata }));
  };
}

export const configuration = async (change: (webhook: Json) => Json): Promise<() => Promise<void>> => {
  const found = JSON.parse(await kubectl('get', 'mutatingwebhookconfiguration', 'juicepod-webhook', '-o', 'json')) as {
    webhooks: Json[];
  };
  const undo = await changed('mutatingwebhookconfiguration', 'juicepod-webhook', { webhooks: found.webhooks.map(change) });
  await settle();
  return async () => {
    await undo();
    await settle();
  };
};

/** The API server notices a changed configuration within a second. */
export const settle = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 1500));
export const withBundle =
  (pem: string) =>
  (one: Json): Json => ({ ...one, clientConfig: { ...(one['clientConfig'] as Json), caBundle: base64(pem) } });

export const pod = (name: string, volumes: string | undefined, fields: Json = {}, spec: Json = {}): Json => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: {
    name,
    namespace: 'team-a',
    ...(volumes === undefined ? {} : { annotations: { 'juicepod.io/volumes': volumes } }),
    ...fields,
  },
  spec: { containers: [{ name: 'main', image: 'busybox' }], ...spec },
});

export const findingsOf = async (object: Json, as = client): Promise<readonly Finding[]> => {
  const file = join(installed.folder, 'pod.json');
  writeFileSync(file, JSON.stringify(object));
  return await analyze(as, targetOfFile(file, 'default'), system, signal);
};
export const findingsOfPod = async (name: string): Promise<readonly Finding[]> =>
  await analyze(client, await targetOfName(client, name, 'team-a', signal), system, signal);
export const reasons = (findings: readonly Finding[]): string[] => findings.map(({ reason }) => reason);

export const volume = (name: string, spec: Json = {}): Json => ({
  apiVersion: 'juicepod.io/v1alpha1',
  kind: 'JuiceVolume',
  metadata: { name, namespace: 'team-a' },
  spec: { metadata: { redis: { addresses: ['redis:6379'] } }, storage: { s3: { bucket: 'bytes' } }, ...spec },
});

async function setReady(name: string, status: string, reason: string, message = ''): Promise<void> {
  const condition = { type: 'Ready', status, reason, message, lastTransitionTime: '2026-01-01T00:00:00Z' };
  const patch = JSON.stringify({ status: { conditions: [condition] } });
  await kubectl('patch', 'juicevolume', name, '-n', 'team-a', '--subresource=status', '--type=merge', '-p', patch);
}

export const lease = (renewed: number): Promise<string> =>
  apply({
    apiVersion: 'coordination.k8s.io/v1',
    kind: 'Lease',
    metadata: { name: 'juicepod-operator', namespace: system },
    spec: { holderIdentity: 'x', renewTime: new Date(renewed).toISOString().replace('Z', '000Z') },
  });

export const endpoints = (ready: boolean): Promise<string> =>
  apply({
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: 'juicepod-webhook-1', namespace: system, labels: { 'kubernetes.io/service-name': 'juicepod-webhook' } },
    addressType: 'IPv4',
    endpoints: [{ addresses: ['10.0.0.1'], conditions: { ready } }],
    ports: [{ name: 'https', port: 8443 }],
  });

before(async () => {
  authority = await createAuthority(Date.now());
  try {
    installed = await install('default', { namespaces: ['team-a', 'team-b'], caBundle: base64(authority.certificate.pem) });
  } catch (error) {
    if (!(error instanceof ToolMissing)) throw error;
    missing = error.message;
    return;
  }
  client = connect({ kubeconfig: installed.api.kubeconfig, requestsPerSecond: 200, burst: 200 });
  const leaf = await signLeaf(authority, ['127.0.0.1'], Date.now());
  const files = { cert: join(installed.folder, 'tls.crt'), key: join(installed.folder, 'tls.key') };
  writeFileSync(files.cert, leaf.certificate.pem);
  writeFileSync(files.key, leaf.key);
  webhook = runWebhook(
    {
      client: await installed.clientOf('juicepod-webhook'),
      namespace: system,
      log: nullLogger,
      port: installed.port,
      host: '127.0.0.1',
      // Nobody writes caBundle but the test.
      files,
      drainMs: 10,
    },
    stop.signal,
  );
  webhook.catch(() => {});
  await endpoints(true);
  await lease(Date.now() + 3_600_000);
  await apply(volume('datasets'));
  await apply(volume('broken'));
  await apply(volume('hasty', { cachePolicyRef: { name: 'nowhere' } }));
  await setReady('datasets', 'True', 'Succeeded');
  await setReady('hasty', 'True', 'Succeeded');
  await setReady('broken', 'False', 'MetadataUnreachable', 'redis:6379 does not answer');
  for (const name of ['datasets', 'hasty'])
    await apply({
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: `juicepod-mount-${name}`, namespace: 'team-a' },
      type: 'juicepod.io/mount',
    });
  await until(
    'pods are injected',
    async () =>
      (await installed.attempt(['create', '--dry-run=server', '-f', '-'], JSON.stringify(pod('x', 'datasets=/data')))).ok,
  );
});

after(async () => {
  stop.abort(new Error('the test is over'));
  await webhook.catch(() => {});
  if (missing !== undefined) return;
  await client.close();
  await installed[Symbol.asyncDispose]();
});

/** A test that needs the API server. */
export const onCluster = (name: string, body: () => Promise<void>): void =>
  void test(name, async (context) => (missing === undefined ? body() : context.skip(missing)));
