/** The Helm chart installs what the kustomize overlays do, each value has its effect, and a value that is none is refused. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, test, type TestContext } from 'node:test';
import { parse } from 'yaml';
import { ToolMissing } from '../tools.ts';
import { chart, idOf, kustomize, type Manifest, runHelm, template } from './manifests.ts';

let missing: string | undefined;
before(async () => {
  try {
    await runHelm(['version']);
  } catch (error) {
    if (!(error instanceof ToolMissing)) throw error;
    missing = error.message;
  }
});

/** A test that needs helm. */
const withHelm = (name: string, body: (context: TestContext) => Promise<void>): void =>
  void test(name, async (context) => (missing === undefined ? body(context) : context.skip(missing)));

const LABELS = ['app.kubernetes.io/instance', 'app.kubernetes.io/managed-by', 'helm.sh/chart'];
const KEEP = 'helm.sh/resource-policy';

/** Without what tells that Helm installed it. */
function plain(object: Manifest): Manifest {
  const { labels = {}, annotations = {}, ...metadata } = object.metadata;
  const left = (map: Readonly<Record<string, string>>, names: readonly string[]) =>
    Object.fromEntries(Object.entries(map).filter(([name]) => !names.includes(name)));
  const kept = { labels: left(labels, LABELS), annotations: left(annotations, [KEEP]) };
  return {
    ...object,
    metadata: {
      ...metadata,
      ...Object.fromEntries(Object.entries(kept).filter(([, map]) => Object.keys(map).length > 0)),
    },
  };
}

function byId(objects: readonly Manifest[]): Record<string, Manifest> {
  const ids = objects.map(idOf);
  assert.equal(new Set(ids).size, ids.length, 'an object is there twice');
  return Object.fromEntries(objects.map((object) => [idOf(object), plain(object)]));
}

for (const [overlay, values] of [
  ['default', {}],
  ['high-availability', { highAvailability: true }],
  ['namespaced', { watchNamespaces: ['team-a', 'team-b'] }],
  ['cert-manager', { certificates: { source: 'cert-manager' } }],
] as const)
  withHelm(`the chart with ${JSON.stringify(values)} installs what config/${overlay} does`, async () => {
    // Helm makes the namespace itself (--create-namespace).
    const expected = byId((await kustomize(join('config', overlay))).filter(({ kind }) => kind !== 'Namespace'));
    const found = byId(await template(values));
    assert.deepEqual(Object.keys(found).toSorted(), Object.keys(expected).toSorted());
    for (const [id, object] of Object.entries(expected)) assert.deepEqual(found[id], object, id);
  });

withHelm('with monitoring it installs what config/monitoring does, too, with the labels that are wanted', async () => {
  const labels = { release: 'kube-prometheus-stack' };
  const found = byId(await template({ monitoring: { enabled: true, labels } }));
  const expected = byId(await kustomize('config/monitoring'));
  assert.equal(Object.keys(expected).length, 4);
  for (const [id, object] of Object.entries(expected)) {
    const wanted = object.kind === 'PodMonitor' ? { ...object.metadata.labels, ...labels } : object.metadata.labels;
    assert.deepEqual(found[id], { ...object, metadata: { ...object.metadata, labels: wanted } }, id);
  }
  assert.equal(Object.keys(found).length, Object.keys(byId(await template())).length + 4);
});

withHelm('everything lies in the namespace of the release, and nothing names another', async () => {
  const text = JSON.stringify(
    await template({ certificates: { source: 'cert-manager' }, watchNamespaces: ['team-a'] }, 'elsewhere'),
  );
  assert.doesNotMatch(text, /juicepod-system/);
  assert.match(text, /"values":\["kube-system","kube-node-lease","elsewhere"\]/);
  assert.match(text, /elsewhere\/juicepod-webhook-tls/);
  assert.match(text, /juicepod-webhook\.elsewhere\.svc/);
});

withHelm('resource definitions are kept at the end of a release, and left out where that is wanted', async () => {
  const definitions = (objects: readonly Manifest[]) => objects.filter(({ kind }) => kind === 'CustomResourceDefinition');
  const installed = definitions(await template());
  assert.ok(installed.length >= 2);
  for (const { metadata } of installed) assert.equal(metadata.annotations?.[KEEP], 'keep');
  assert.deepEqual(definitions(await template({ crds: { install: false } })), []);
});

interface Pod {
  readonly containers: readonly [{ readonly image: string; readonly args: readonly string[]; readonly [field: string]: unknown }];
  readonly [field: string]: unknown;
}

async function podOf(component: string, values: object): Promise<Pod> {
  const found = (await template(values)).find(
    ({ kind, metadata }) => kind === 'Deployment' && metadata.name === `juicepod-${component}`,
  );
  assert.ok(found);
  return (found['spec'] as { template: { spec: Pod } }).template.spec;
}

withHelm('image, arguments and places of the pods are what the values say', async () => {
  const digest = `sha256:${'a'.repeat(64)}`;
  const image = { repository: 'registry.example/juicepod', tag: '9', pullPolicy: 'Always' };
  for (const component of ['operator', 'webhook']) {
    const pod = await podOf(component, {
      image,
      imagePullSecrets: [{ name: 'key' }],
      [component]: {
        logLevel: 'debug',
        extraArgs: ['--more=1'],
        nodeSelector: { disk: 'fast' },
        tolerations: [{ operator: 'Exists' }],
        affinity: { nodeAffinity: {} },
        priorityClassName: 'high',
        topologySpreadConstraints: [{ maxSkew: 5 }],
        resources: { limits: { memory: '1Gi' } },
      },
    });
    const [container] = pod.containers;
    assert.equal(container.image, 'registry.example/juicepod:9');
    assert.equal(container['imagePullPolicy'], 'Always');
    assert.deepEqual(container['resources'], {
      requests: container['resources'] && (container['resources'] as Pod)['requests'],
      limits: { memory: '1Gi' },
    });
    assert.deepEqual(container.args.slice(-2), ['--log-level=debug', '--more=1']);
    assert.deepEqual(pod['imagePullSecrets'], [{ name: 'key' }]);
    assert.deepEqual(pod['nodeSelector'], { disk: 'fast' });
    assert.deepEqual(pod['tolerations'], [{ operator: 'Exists' }]);
    assert.deepEqual(pod['affinity'], { nodeAffinity: {} });
    assert.equal(pod['priorityClassName'], 'high');
    assert.deepEqual(pod['topologySpreadConstraints'], [{ maxSkew: 5 }]);
  }
  const webhook = await podOf('webhook', {
    image: { digest },
    webhook: { allowImages: ['a/', 'b/'], sidecarPullPolicy: 'Never', sidecarPullSecrets: ['regcred'], podSecurityCheck: false },
  });
  const [{ args }] = webhook.containers;
  // The image that is added to pods is that of the webhook.
  assert.ok(args.includes(`--image=ghcr.io/juicepod/juicepod@${digest}`));
  for (const arg of [
    '--allow-image=a/',
    '--allow-image=b/',
    '--image-pull-policy=Never',
    '--image-pull-secret=regcred',
    '--no-pod-security-check',
  ])
    assert.ok(args.includes(arg), arg);
});

withHelm('a certificate from a Secret is mounted, trusted by caBundle, and needs no right to write', async () => {
  const caBundle = '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n';
  const values = { certificates: { source: 'secret', secretName: 'mine', caBundle } };
  const objects = await template(values);
  const pod = await podOf('webhook', values);
  assert.ok(pod.containers[0].args.includes('--cert-dir=/etc/juicepod/tls'));
  assert.deepEqual((pod['volumes'] as unknown[])[0], { name: 'tls', secret: { secretName: 'mine', defaultMode: 0o440 } });
  const configuration = objects.find(({ kind }) => kind === 'MutatingWebhookConfiguration');
  assert.ok(configuration);
  const [webhook] = configuration['webhooks'] as [{ clientConfig: { caBundle: string } }];
  assert.equal(Buffer.from(webhook.clientConfig.caBundle, 'base64').toString(), caBundle);
  assert.ok(!objects.some(({ metadata }) => metadata.name === 'juicepod-webhook-certificates'));
});

withHelm('budgets and network policies can be left out or changed', async () => {
  const kinds = (await template({
    networkPolicy: { enabled: false },
    operator: { podDisruptionBudget: { enabled: false } },
    webhook: { podDisruptionBudget: { enabled: true, minAvailable: '50%' }, replicas: 5, timeoutSeconds: 3 },
  })) as unknown as readonly (Manifest & { spec: Record<string, unknown>; webhooks: { timeoutSeconds: number }[] })[];
  assert.ok(!kinds.some(({ kind }) => kind === 'NetworkPolicy'));
  const budgets = kinds.filter(({ kind }) => kind === 'PodDisruptionBudget');
  assert.deepEqual(
    budgets.map(({ metadata, spec }) => [metadata.name, spec['minAvailable']]),
    [['juicepod-webhook', '50%']],
  );
  assert.equal(
    kinds.find(({ metadata, kind }) => kind === 'Deployment' && metadata.name === 'juicepod-webhook')?.spec['replicas'],
    5,
  );
  assert.equal(kinds.find(({ kind }) => kind === 'MutatingWebhookConfiguration')?.webhooks[0]?.timeoutSeconds, 3);
});

for (const [what, values] of [
  ['a name that is none', { operator: { replica: 3 } }],
  ['a number that is text', { webhook: { replicas: 'three' } }],
  ['an unknown source of certificates', { certificates: { source: 'vault' } }],
  ['a Secret without its name', { certificates: { source: 'secret', caBundle: '-----BEGIN CERTIFICATE-----x' } }],
  ['a namespace that can be none', { watchNamespaces: ['Team A'] }],
  ['an amount that is none', { operator: { resources: { limits: { memory: '1 gigabyte' } } } }],
] as const)
  withHelm(`the chart refuses ${what}`, async () => {
    await assert.rejects(template(values), /values don't meet the specifications of the schema/);
  });

test('every value is described by the schema, and every field of the schema has a default', () => {
  const values = parse(readFileSync(join(chart, 'values.yaml'), 'utf8')) as Record<string, unknown>;
  interface Schema {
    readonly properties?: Readonly<Record<string, Schema>>;
    readonly additionalProperties?: unknown;
    readonly $ref?: string;
  }
  const schema = JSON.parse(readFileSync(join(chart, 'values.schema.json'), 'utf8')) as Schema;
  const compare = (value: unknown, of: Schema, path: string): void => {
    if (!of.properties || of.$ref) return;
    assert.equal(of.additionalProperties, false, `${path} of the schema takes anything`);
    const names = Object.keys(of.properties).filter((name) => name !== 'global');
    assert.deepEqual(Object.keys(value as object).toSorted(), names.toSorted(), path);
    for (const name of names) compare((value as Record<string, unknown>)[name], of.properties[name] ?? {}, `${path}.${name}`);
  };
  compare(values, schema, 'values');
});

withHelm('a packed chart holds all it needs, and installs the same', async (context) => {
  const folder = mkdtempSync(join(tmpdir(), 'juicepod-chart-'));
  context.after(() => rmSync(folder, { recursive: true, force: true }));
  const packed = await runHelm(['package', chart, '--destination', folder]);
  assert.equal(packed.status, 0, packed.stderr);
  const [archive = ''] = readdirSync(folder);
  assert.deepEqual(await template({}, 'juicepod-system', join(folder, archive)), await template());
});

test('the chart takes its manifests from the folders that kustomize uses', () => {
  const folder = join(chart, 'manifests');
  for (const name of readdirSync(folder)) assert.ok(statSync(join(folder, name)).isDirectory(), name);
});

withHelm('helm lint has nothing to say', async () => {
  const { status, stdout } = await runHelm(['lint', '--strict', chart]);
  assert.equal(status, 0, stdout);
});
