/**
 * The webhook with a real API server: installed from `webhook/` and `crds/`, running as its own service account, so that roles,
 * match conditions, patches, defaults and reinvocation are the real ones. Only the address it is called by differs.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test, type TestContext } from 'node:test';
import { parseAllDocuments } from 'yaml';
import { runWebhook } from '../../src/admission/index.ts';
import { injectFile } from '../../src/admission/inject.ts';
import { createAuthority, readBundle, signLeaf } from '../../src/admission/x509.ts';
import { connect } from '../../src/kube/client.ts';
import { nullLogger } from '../../src/lib/log.ts';
import { type ApiServer, startApiServer } from '../cluster/api-server.ts';
import { freePort } from '../servers.ts';
import { ToolMissing } from '../tools.ts';
import { until } from '../until.ts';

type Json = Record<string, unknown>;

const root = join(import.meta.dirname, '..', '..');
const golden = join(root, 'test', 'golden', 'admission');
const folder = mkdtempSync(join(tmpdir(), 'juicepod-admission-'));
const stop = new AbortController();
let api: ApiServer | undefined;
let missing: string | undefined;
let webhook: Promise<void> = Promise.resolve();
let port = 0;

function server(context: TestContext): ApiServer | undefined {
  if (missing !== undefined) context.skip(missing);
  return api;
}

/** Runs kubectl; answers what it prints on failure instead of throwing. */
async function attempt(on: ApiServer, args: readonly string[], input?: string): Promise<{ ok: boolean; output: string }> {
  try {
    return { ok: true, output: await on.kubectl(args, input) };
  } catch (error) {
    return { ok: false, output: (error as { stderr?: string }).stderr ?? String(error) };
  }
}

const pod = (name: string, volumes?: string, fields: Json = {}, spec: Json = {}): string =>
  JSON.stringify({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, ...(volumes === undefined ? {} : { annotations: { 'juicepod.io/volumes': volumes } }), ...fields },
    spec: { containers: [{ name: 'main', image: 'busybox' }], ...spec },
  });

/** Creates a pod for a moment; answers it as the API server keeps it. */
async function created(on: ApiServer, manifest: string): Promise<Json> {
  const answer = JSON.parse(await on.kubectl(['create', '-f', '-', '-o', 'json'], manifest)) as Json;
  const { name, namespace } = answer['metadata'] as { name: string; namespace: string };
  await on.kubectl(['delete', 'pod', name, '-n', namespace, '--grace-period=0', '--force']);
  return answer;
}

/** Without what differs from one creation to the next. */
function settled(object: Json): Json {
  const metadata = { ...(object['metadata'] as Json) };
  for (const key of ['uid', 'resourceVersion', 'creationTimestamp', 'managedFields']) delete metadata[key];
  return { ...object, metadata };
}

const initNames = (object: Json): string[] =>
  ((object['spec'] as Json)['initContainers'] as { name: string }[]).map(({ name }) => name);

/** The webhook's manifests; the configuration calls this process. */
async function manifests(on: ApiServer): Promise<readonly Json[]> {
  const documents = parseAllDocuments(await on.kubectl(['kustomize', join(root, 'webhook')]));
  const objects = (Array.isArray(documents) ? documents : []).map((document) => document.toJS() as Json);
  for (const object of objects) {
    if (object['kind'] !== 'MutatingWebhookConfiguration') continue;
    for (const one of object['webhooks'] as { clientConfig: Json }[])
      one.clientConfig = { url: `https://127.0.0.1:${port}/mutate` };
  }
  return objects;
}

const asText = (objects: readonly Json[]): string => objects.map((object) => JSON.stringify(object)).join('\n---\n');
const install = async (on: ApiServer): Promise<string> =>
  on.kubectl(['apply', '--server-side', '-f', '-'], asText(await manifests(on)));

async function startWebhook(on: ApiServer): Promise<void> {
  const token = (await on.kubectl(['create', 'token', 'juicepod-webhook', '-n', 'juicepod-system'])).trim();
  const kubeconfig = join(folder, 'kubeconfig');
  writeFileSync(
    kubeconfig,
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'c', cluster: { server: on.url, 'certificate-authority': join(on.folder, 'ca.crt') } }],
      users: [{ name: 'u', user: { token } }],
      contexts: [{ name: 'c', context: { cluster: 'c', user: 'u', namespace: 'juicepod-system' } }],
      'current-context': 'c',
    }),
  );
  const client = connect({ kubeconfig });
  webhook = runWebhook(
    { client, log: nullLogger, port, host: '127.0.0.1', names: ['127.0.0.1'], settings: { image: 'juicepod:test' }, drainMs: 10 },
    stop.signal,
  ).finally(() => void client.close());
  webhook.catch(() => {});
}

let plainBefore: Json = {};
/** What the API server said while nobody answered at the webhook's address. */
let away: { readonly annotated: string; readonly plain: boolean } | undefined;

before(async () => {
  try {
    api = await startApiServer();
  } catch (error) {
    if (!(error instanceof ToolMissing)) throw error;
    missing = error.message;
    return;
  }
  await until('the namespace is there', async () => (await attempt(api as ApiServer, ['get', 'namespace', 'default'])).ok);
  plainBefore = settled(await created(api, pod('plain')));
  port = await freePort();
  await api.kubectl(['apply', '--server-side', '-k', join(root, 'crds')]);
  await api.kubectl(['create', 'namespace', 'juicepod-system']);
  await install(api);
  await until('the configuration of the webhook is heeded', async () => {
    const dry = ['create', '--dry-run=server', '-f', '-'];
    const annotated = await attempt(api as ApiServer, dry, pod('away', 'datasets=/data'));
    const plain = await attempt(api as ApiServer, dry, pod('away'));
    away = { annotated: annotated.output, plain: plain.ok };
    return !annotated.ok;
  });
  await startWebhook(api);
  await api.kubectl(['create', 'namespace', 'shared']);
  await api.kubectl(['apply', '-f', join(golden, 'volumes.yaml')]);
  const ready = { type: 'Ready', status: 'True', reason: 'Succeeded', message: '', lastTransitionTime: '2026-01-01T00:00:00Z' };
  for (const [namespace, name] of [
    ['default', 'datasets'],
    ['default', 'checkpoints'],
    ['shared', 'base'],
  ] as const)
    await api.kubectl(
      ['patch', 'juicevolume', name, '-n', namespace, '--subresource=status', '--type=merge', '-p'].concat(
        JSON.stringify({ status: { conditions: [ready] } }),
      ),
    );
  const on = api;
  await until(
    'annotated pods are admitted',
    async () => (await attempt(on, ['create', '--dry-run=server', '-f', '-'], pod('probe', 'datasets=/data'))).ok,
  );
});

after(async () => {
  stop.abort(new Error('the test is over'));
  await webhook;
  await api?.stop();
  rmSync(folder, { recursive: true, force: true });
});

test('an annotated pod is injected and accepted, and is what inject makes of it on files', async (context) => {
  const on = server(context);
  if (!on) return;
  const answer = await created(on, pod('app', 'datasets=/data:ro,shared/base=/base:ro'));
  assert.deepEqual(initNames(answer), ['juicepod-holder', 'juicepod-client']);
  const volumes = readFileSync(join(golden, 'volumes.yaml'), 'utf8');
  const { documents } = injectFile(`${volumes}---\n${pod('app', 'datasets=/data:ro,shared/base=/base:ro')}`, {
    settings: { image: 'juicepod:test' },
  });
  const injected = documents.at(-1) as Json;
  const expected = await created(on, JSON.stringify(injected));
  assert.deepEqual(settled(answer), settled(expected));
});

test('a pod without the annotation is byte for byte what it was before the webhook was installed', async (context) => {
  const on = server(context);
  if (!on) return;
  assert.equal(JSON.stringify(settled(await created(on, pod('plain')))), JSON.stringify(plainBefore));
});

test('while the webhook is away, pods with the annotation are refused and all others are created', (context) => {
  if (!server(context)) return;
  assert.match(away?.annotated ?? '', /failed calling webhook "pods\.juicepod\.io"/);
  assert.equal(away?.plain, true);
});

test('all golden pods are accepted as they were injected', async (context) => {
  const on = server(context);
  if (!on) return;
  // Not those that bring their namespace along, or are refused.
  const names = readdirSync(golden)
    .filter((name) => name.endsWith('.injected.yaml') && !/^(refused|restricted|limitrange|.*-(addon|cci))\./.test(name))
    .map((name) => name.slice(0, -'.injected.yaml'.length));
  assert.ok(names.length > 15);
  for (const name of names) {
    const { ok, output } = await attempt(on, ['create', '--dry-run=server', '-f', join(golden, `${name}.injected.yaml`)]);
    assert.ok(ok, `${name}: ${output}`);
  }
});

test('a pod that cannot get its volume is refused with the reason, on a dry run too', async (context) => {
  const on = server(context);
  if (!on) return;
  const cases: readonly (readonly [string, RegExp, Json?])[] = [
    ['datasets', /\(AnnotationInvalid\).*pods\.juicepod\.io.*denied the request: .*"datasets" has no "="/],
    ['nope=/data', /\(VolumeNotFound\).*there is no volume "nope" in namespace "default" \(there: .*datasets/],
    ['shared/base=/base', /\(VolumeReadOnly\)/],
    ['datasets=/var/run', /is reserved/],
    ['x'.repeat(1 << 20), /\(AnnotationInvalid\).*longer than 64 KiB \(1048576 bytes\)/],
  ];
  for (const [volumes, expected] of cases)
    for (const dry of [[], ['--dry-run=server']]) {
      const { ok, output } = await attempt(on, ['create', ...dry, '-f', '-'], pod('bad', volumes));
      assert.ok(!ok);
      assert.match(output, expected);
    }
});

test('a namespace that Pod Security restricts, and pods and namespaces that opted out', async (context) => {
  const on = server(context);
  if (!on) return;
  const namespace = (name: string, labels: Json): string =>
    JSON.stringify({ apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } });
  await on.kubectl(['create', '-f', '-'], namespace('strict', { 'pod-security.kubernetes.io/enforce': 'restricted' }));
  await on.kubectl(['create', '-f', '-'], namespace('out', { 'juicepod.io/injection': 'disabled' }));
  await until('the webhook knows the namespace', async () => {
    const { output } = await attempt(on, ['create', '-f', '-'], pod('bad', 'shared/base=/base:ro:fuse', { namespace: 'strict' }));
    return /\(PodSecurity\).*enforce=restricted, which forbids the privileged container/.test(output);
  });
  for (const fields of [{ namespace: 'out' }, { labels: { 'juicepod.io/inject': 'false' } }]) {
    const answer = await created(on, pod('left-alone', 'nope=/data', fields));
    assert.equal((answer['spec'] as Json)['initContainers'], undefined);
  }
});

test('only a privileged container may pass a mount on: no capability is enough for the API server', async (context) => {
  const on = server(context);
  if (!on) return;
  const mounter = (securityContext: Json): string =>
    pod(
      'mounter',
      undefined,
      {},
      {
        volumes: [{ name: 'm', emptyDir: {} }],
        containers: [
          {
            name: 'main',
            image: 'busybox',
            securityContext,
            volumeMounts: [{ name: 'm', mountPath: '/m', mountPropagation: 'Bidirectional' }],
          },
        ],
      },
    );
  const dry = ['create', '--dry-run=server', '-f', '-'];
  const refused = await attempt(on, dry, mounter({ capabilities: { add: ['SYS_ADMIN'] } }));
  assert.match(refused.output, /Bidirectional mount propagation is available only to privileged containers/);
  assert.ok((await attempt(on, dry, mounter({ privileged: true }))).ok);
});

test('a webhook that runs after ours and strips restartPolicy is made good by reinvocation', async (context) => {
  const on = server(context);
  if (!on) return;
  const authority = await createAuthority(Date.now());
  const leaf = await signLeaf(authority, ['127.0.0.1'], Date.now());
  let calls = 0;
  const stripper: Server = createServer({ cert: leaf.certificate.pem, key: leaf.key }, (request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      calls++;
      const { request: review } = JSON.parse(Buffer.concat(parts).toString()) as { request: { uid: string; object: Json } };
      const operations = initNames(review.object).map((_, index) => ({
        op: 'remove',
        path: `/spec/initContainers/${index}/restartPolicy`,
      }));
      // Probes of init containers are valid only with restartPolicy, so such a webhook would be noticed at once without it.
      const patch = Buffer.from(JSON.stringify(operations)).toString('base64');
      response.setHeader('content-type', 'application/json');
      response.end(
        JSON.stringify({
          apiVersion: 'admission.k8s.io/v1',
          kind: 'AdmissionReview',
          response: { uid: review.uid, allowed: true, patchType: 'JSONPatch', patch },
        }),
      );
    });
  });
  await new Promise<void>((resolve) => stripper.listen(0, '127.0.0.1', resolve));
  context.after(() => stripper.close());
  const address = stripper.address();
  const configuration = {
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'MutatingWebhookConfiguration',
    metadata: { name: 'zz-stripper' },
    webhooks: [
      {
        name: 'strip.example.test',
        admissionReviewVersions: ['v1'],
        sideEffects: 'None',
        objectSelector: { matchLabels: { strip: 'yes' } },
        clientConfig: {
          url: `https://127.0.0.1:${typeof address === 'object' && address ? address.port : 0}/`,
          caBundle: Buffer.from(authority.certificate.pem).toString('base64'),
        },
        rules: [{ apiGroups: [''], apiVersions: ['v1'], operations: ['CREATE'], resources: ['pods'] }],
      },
    ],
  };
  await on.kubectl(['create', '-f', '-'], JSON.stringify(configuration));
  context.after(() => on.kubectl(['delete', 'mutatingwebhookconfiguration', 'zz-stripper']));
  await until('the other webhook is called', async () => {
    const { ok, output } = await attempt(
      on,
      ['create', '-f', '-', '-o', 'json'],
      pod('stripped', 'datasets=/data', { labels: { strip: 'yes' } }),
    );
    assert.ok(ok, output);
    await on.kubectl(['delete', 'pod', 'stripped', '--grace-period=0', '--force']);
    const policies = ((JSON.parse(output) as Json)['spec'] as { initContainers: Json[] }).initContainers.map(
      (one) => one['restartPolicy'],
    );
    assert.deepEqual(policies, ['Always', 'Always']);
    return calls > 0;
  });
});

test('caBundle is its own field, survives a new apply, and comes back after a wipe; a deleted Secret is restored', async (context) => {
  const on = server(context);
  if (!on) return;
  interface Configuration {
    webhooks: { clientConfig: { caBundle?: string } }[];
    metadata: { managedFields: { manager: string; fieldsV1: Json }[] };
  }
  const read = async (): Promise<Configuration> =>
    JSON.parse(
      await on.kubectl(['get', 'mutatingwebhookconfiguration', 'juicepod-webhook', '-o', 'json', '--show-managed-fields']),
    ) as Configuration;
  const configuration = await read();
  const bundle = Buffer.from(configuration.webhooks[0]?.clientConfig.caBundle ?? '', 'base64').toString();
  assert.equal(readBundle(bundle).length, 1);
  const ours = configuration.metadata.managedFields.find(({ manager }) => manager === 'juicepod-webhook-ca');
  assert.deepEqual(ours?.fieldsV1, {
    'f:webhooks': { 'k:{"name":"pods.juicepod.io"}': { '.': {}, 'f:clientConfig': { 'f:caBundle': {} }, 'f:name': {} } },
  });
  await install(on);
  assert.deepEqual((await read()).webhooks, configuration.webhooks);

  const secret = async (): Promise<Json> =>
    (
      JSON.parse(await on.kubectl(['get', 'secret', 'juicepod-webhook-ca', '-n', 'juicepod-system', '-o', 'json'])) as {
        data: Json;
      }
    ).data;
  const before = await secret();
  await on.kubectl(['delete', 'secret', 'juicepod-webhook-ca', '-n', 'juicepod-system']);
  await on.kubectl([
    'patch',
    'mutatingwebhookconfiguration',
    'juicepod-webhook',
    '--type=json',
    '-p',
    '[{"op":"remove","path":"/webhooks/0/clientConfig/caBundle"}]',
  ]);
  await until('both are back', async () => {
    if (!(await attempt(on, ['get', 'secret', 'juicepod-webhook-ca', '-n', 'juicepod-system'])).ok) return false;
    return (await read()).webhooks[0]?.clientConfig.caBundle === configuration.webhooks[0]?.clientConfig.caBundle;
  });
  assert.deepEqual(await secret(), before);
});

// The last one: it takes fields over from those who installed.
test('a Git tool sees no drift in what the webhook completes, by either comparison', async (context) => {
  const on = server(context);
  if (!on) return;
  const bundle = async (): Promise<string> =>
    on.kubectl(
      ['get', 'mutatingwebhookconfiguration', 'juicepod-webhook', '-o'].concat('jsonpath={.webhooks[0].clientConfig.caBundle}'),
    );
  const before = await bundle();
  assert.ok(before.length > 100);
  const declared = asText(await manifests(on));
  // `diff` ends with 1, and so throws, where there is a difference.
  const manager = '--field-manager=argocd-controller';
  await on.kubectl(['apply', '--server-side', '--force-conflicts', manager, '-f', '-'], declared);
  await on.kubectl(['diff', '--server-side', manager, '-f', '-'], declared);
  // In three ways: what was applied last, what is declared, and what is there.
  await on.kubectl(['apply', '-f', '-'], declared);
  await on.kubectl(['diff', '-f', '-'], declared);
  assert.equal(await bundle(), before);
});
