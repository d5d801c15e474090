/**
 * What the webhook adds to creating a pod: on a real API server (etcd and kube-apiserver on loopback), annotated pods that the webhook
 * injects, beside the very same injected pods created with the webhook's configuration removed, in turns; and pods without the
 * annotation, which must not notice it. Prints milliseconds: median and p99. Exits with 77 where Kubernetes cannot be had. Argument: how many turns, 10 unless said.
 */
import { readFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { join } from 'node:path';
import { Registry } from 'prom-client';
import { parseAllDocuments } from 'yaml';
import { startServer } from '../src/admission/server.ts';
import { defaultSettings } from '../src/admission/settings.ts';
import { admit, cluster, pod, volume } from '../src/admission/testing/fixtures.ts';
import { createAuthority, signLeaf } from '../src/admission/x509.ts';
import { createHealth } from '../src/kube/health.ts';
import { nullLogger } from '../src/lib/log.ts';
import { startApiServer } from '../test/cluster/api-server.ts';
import { ToolMissing } from '../test/tools.ts';

const ROUNDS = Number(process.argv[2] ?? 10);
const EACH = 50;

type Json = Record<string, unknown>;

async function api() {
  try {
    return await startApiServer();
  } catch (error) {
    if (!(error instanceof ToolMissing)) throw error;
    console.error(`# skipped: ${error.message}`);
    process.exit(77);
  }
}

await using server = await api();
const inside = cluster([volume('datasets')]);
const authority = await createAuthority(Date.now());
const leaf = await signLeaf(authority, ['127.0.0.1'], Date.now());
const webhook = await startServer(
  {
    cluster: inside,
    settings: defaultSettings,
    keys: { cert: leaf.certificate.pem, key: leaf.key },
    health: createHealth(),
    metrics: new Registry(),
    log: nullLogger,
    isReady: () => true,
  },
  0,
  '127.0.0.1',
);

const manifest = readFileSync(join(import.meta.dirname, '..', 'webhook', 'mutatingwebhook.yaml'), 'utf8');
const parsed = parseAllDocuments(manifest);
const configuration = (Array.isArray(parsed) ? parsed : [])[0]?.toJS() as { webhooks: Json[] };
for (const one of configuration.webhooks)
  one['clientConfig'] = {
    url: `https://127.0.0.1:${webhook.port}/mutate`,
    caBundle: Buffer.from(authority.certificate.pem).toString('base64'),
  };

const kubeconfig = parseAllDocuments(readFileSync(server.kubeconfig, 'utf8'));
const config = (Array.isArray(kubeconfig) ? kubeconfig : [])[0]?.toJS() as {
  clusters: { cluster: Readonly<Record<string, string>> }[];
  users: { user: Readonly<Record<string, string>> }[];
};
const from = (of: Readonly<Record<string, string>> | undefined, name: string): Buffer | undefined => {
  const [data, file] = [of?.[`${name}-data`], of?.[name]];
  return data ? Buffer.from(data, 'base64') : file ? readFileSync(file) : undefined;
};
const [{ cluster: at } = { cluster: {} }] = config.clusters;
const [{ user } = { user: {} }] = config.users;
const token = user['token'];
const agent = new Agent({
  keepAlive: true,
  maxSockets: 1,
  ca: from(at, 'certificate-authority'),
  cert: from(user, 'client-certificate'),
  key: from(user, 'client-key'),
});

/** One request about the pods, on one connection, which must be answered with this status. */
async function ask(method: string, object: Json, status: number): Promise<void> {
  const body = JSON.stringify(object);
  await new Promise<void>((resolve, reject) => {
    const headers = {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
      ...(token ? { authorization: `Bearer ${token}` } : {}),
    };
    const sent = request(new URL('/api/v1/namespaces/default/pods', server.url), { agent, method, headers }, (response) => {
      let text = '';
      response.on('data', (data: Buffer) => (text += data.toString()));
      response.on('end', () => (response.statusCode === status ? resolve() : reject(new Error(text.slice(0, 500)))));
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

/** Creates a pod; resolves with the milliseconds that took. */
async function create(object: Json): Promise<number> {
  const started = performance.now();
  await ask('POST', object, 201);
  return performance.now() - started;
}

let serial = 0;
const named = (object: Json): Json => ({ ...object, metadata: { ...(object['metadata'] as Json), name: `bench-${serial++}` } });
const containers = [
  { name: 'main', image: 'busybox', env: Array.from({ length: 30 }, (_, index) => ({ name: `V${index}`, value: 'x' })) },
];
const annotated = pod('datasets=/data', { containers });
const plain = pod(undefined, { containers });
const injected = admit(annotated, inside).result;

async function install(isThere: boolean): Promise<void> {
  if (isThere) await server.kubectl(['apply', '--server-side', '-f', '-'], JSON.stringify(configuration));
  else await server.kubectl(['delete', 'mutatingwebhookconfiguration', 'juicepod-webhook', '--ignore-not-found']);
  // The API server notices within a second.
  await new Promise((resolve) => setTimeout(resolve, 2000));
}

for (let count = 0; ; count++) {
  try {
    await create(named(plain));
    break;
  } catch (error) {
    if (count > 100) throw error;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}
const times: Record<string, number[]> = {
  'injected by the webhook': [],
  'already injected, no webhook': [],
  'plain, with the webhook': [],
  'plain, no webhook': [],
};
const measure = async (what: string, object: Json): Promise<void> => {
  for (let count = -5; count < EACH; count++) {
    const took = await create(named(object));
    if (count >= 0) times[what]?.push(took);
  }
};
for (let round = 0; round < ROUNDS; round++) {
  await install(true);
  await measure('injected by the webhook', annotated);
  await measure('plain, with the webhook', plain);
  await install(false);
  await measure('already injected, no webhook', injected);
  await measure('plain, no webhook', plain);
  // In one request: kubectl deletes hundreds one by one, and looks for each until it is gone.
  await ask('DELETE', { kind: 'DeleteOptions', apiVersion: 'v1', gracePeriodSeconds: 0 }, 200);
}
const middle = (what: string, share: number): number => {
  const sorted = (times[what] ?? []).toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
};
console.log(`admission: ${ROUNDS * EACH} pods of each kind, one after the other`);
for (const what of Object.keys(times))
  console.log(`${what.padEnd(34)} median ${middle(what, 0.5).toFixed(2)} ms   p99 ${middle(what, 0.99).toFixed(2)} ms`);
const added = (one: string, other: string): string => (middle(one, 0.5) - middle(other, 0.5)).toFixed(2);
console.log(`added by the webhook (median)      ${added('injected by the webhook', 'already injected, no webhook')} ms`);
console.log(`added to pods without annotation   ${added('plain, with the webhook', 'plain, no webhook')} ms`);
agent.destroy();
await webhook.close();
