/** The ValidatingAdmissionPolicies of config/policies on a real API server: what they refuse, and what they leave alone. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test, type TestContext } from 'node:test';
import { promisify } from 'node:util';
import { parseAllDocuments } from 'yaml';
import { type ApiServer, startApiServer } from '../cluster/api-server.ts';
import { ensureKubernetes } from '../cluster/build.ts';
import { ToolMissing } from '../tools.ts';
import { until } from '../until.ts';

type Json = Record<string, unknown>;

const root = join(import.meta.dirname, '..', '..');
const golden = join(root, 'test', 'golden', 'admission');
let api: ApiServer | undefined;
let missing: string | undefined;

function server(context: TestContext): ApiServer | undefined {
  if (missing !== undefined) context.skip(missing);
  return api;
}

async function attempt(on: ApiServer, args: readonly string[], input?: string): Promise<{ ok: boolean; output: string }> {
  try {
    return { ok: true, output: await on.kubectl(args, input) };
  } catch (error) {
    return { ok: false, output: (error as { stderr?: string }).stderr ?? String(error) };
  }
}

/** An injected pod of the golden files, in the form in which the webhook leaves it. */
const injected = (
  file: string,
): { metadata: Json & { annotations: Record<string, string> }; spec: Json & { initContainers: Json[] } } => {
  const documents = parseAllDocuments(readFileSync(join(golden, `${file}.injected.yaml`), 'utf8'));
  return (Array.isArray(documents) ? documents : []).at(-1)?.toJS() as ReturnType<typeof injected>;
};

const create = (on: ApiServer, pod: unknown, ...args: readonly string[]) =>
  attempt(on, ['create', ...args, '-f', '-'], JSON.stringify(pod));

/** Both what kubectl says and what it warns of. */
async function dryRun(on: ApiServer, object: unknown): Promise<{ readonly stdout: string; readonly stderr: string }> {
  const file = join(on.folder, 'object.json');
  writeFileSync(file, JSON.stringify(object));
  return await promisify(execFile)(join(await ensureKubernetes(), 'kubectl'), [
    `--kubeconfig=${on.kubeconfig}`,
    'create',
    '--dry-run=server',
    '-f',
    file,
  ]);
}

before(async () => {
  try {
    api = await startApiServer();
  } catch (error) {
    if (!(error instanceof ToolMissing)) throw error;
    missing = error.message;
    return;
  }
  const on = api;
  await until('the namespace is there', async () => (await attempt(on, ['get', 'namespace', 'default'])).ok);
  await on.kubectl(['apply', '--server-side', '-k', join(root, 'config', 'policies')]);
  const bare = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'bare', annotations: { 'juicepod.io/volumes': 'a=/a' } } };
  const spec = { containers: [{ name: 'main', image: 'busybox' }] };
  await until('the policies are in force', async () => !(await create(on, { ...bare, spec }, '--dry-run=server')).ok);
});

after(async () => await api?.stop());

test('pods as the webhook leaves them are admitted, in both modes and beside a mesh', async (context) => {
  const on = server(context);
  if (!on) return;
  for (const file of ['plain', 'linkerd', 'platform-eks-fargate', 'fsgroup']) {
    const { ok, output } = await create(on, injected(file), '--dry-run=server');
    assert.ok(ok, `${file}: ${output}`);
  }
});

test('a pod that asks for volumes and has not what serves them is refused, with the cause', async (context) => {
  const on = server(context);
  if (!on) return;
  const pod = injected('fsgroup');
  const [holder, client] = pod.spec.initContainers;
  const withInit = (...initContainers: readonly unknown[]): Json => ({ ...pod, spec: { ...pod.spec, initContainers } });
  const { 'juicepod.io/plan': _plan, ...annotations } = pod.metadata.annotations;
  const without = (container: Json | undefined): Json => {
    // What Kubernetes allows to containers that go on only.
    const only = new Set(['restartPolicy', 'readinessProbe', 'livenessProbe', 'lifecycle']);
    return Object.fromEntries(Object.entries(container ?? {}).filter(([name]) => !only.has(name)));
  };
  const cases: readonly (readonly [unknown, RegExp])[] = [
    [withInit(), /has not what serves them: the webhook of Juicepod was not called/],
    [withInit(client), /has not what serves them/],
    [{ ...pod, metadata: { ...pod.metadata, annotations } }, /has not what serves them/],
    [withInit(holder, without(client)), /removed restartPolicy: Always from a sidecar of Juicepod/],
    [
      {
        ...pod,
        metadata: { ...pod.metadata, annotations: { ...pod.metadata.annotations, 'juicepod.io/volumes': 'x'.repeat(65_537) } },
      },
      /longer than 64 KiB \(65537\)/,
    ],
  ];
  for (const [bad, expected] of cases) {
    const { ok, output } = await create(on, bad, '--dry-run=server');
    assert.ok(!ok, `accepted, though ${expected.source}`);
    assert.match(output, expected);
  }
});

test('what would have no effect is told as a warning, and nothing is refused for it', async (context) => {
  const on = server(context);
  if (!on) return;
  const asks = { 'juicepod.io/volumes': 'a=/a' };
  const spec = { containers: [{ name: 'main', image: 'busybox' }] };
  const labels = { app: 'a' };
  const workload = (kind: string, own: Json, pods: Json): Json => {
    const template = { metadata: { labels, annotations: pods }, spec };
    const ofBatch = { ...template, spec: { ...spec, restartPolicy: 'Never' } };
    return kind === 'CronJob'
      ? {
          apiVersion: 'batch/v1',
          kind,
          metadata: { name: 'a', annotations: own },
          spec: { schedule: '0 0 * * *', jobTemplate: { spec: { template: ofBatch } } },
        }
      : {
          apiVersion: 'apps/v1',
          kind,
          metadata: { name: 'a', annotations: own },
          spec: { selector: { matchLabels: labels }, template },
        };
  };
  const pod = (annotations: Json): Json => ({ apiVersion: 'v1', kind: 'Pod', metadata: { name: 'a', annotations }, spec });
  const cases: readonly (readonly [Json, RegExp | undefined])[] = [
    [
      pod({ 'juicepod.io/volume': 'a=/a' }),
      /annotation juicepod\.io\/volume has no effect: volumes are asked for by juicepod\.io\/volumes/,
    ],
    [
      workload('Deployment', asks, {}),
      /of the Deployment itself has no effect: put it on its pods, in spec\.template\.metadata\.annotations/,
    ],
    [workload('CronJob', asks, {}), /of the CronJob itself has no effect: .* spec\.jobTemplate\.spec\.template\.metadata/],
    [workload('StatefulSet', {}, { 'Juicepod.io/Volumes': 'a=/a' }), /annotation Juicepod\.io\/Volumes has no effect/],
    [workload('Deployment', asks, asks), undefined],
    [workload('CronJob', {}, { ...asks, 'juicepod.io/platform': 'generic' }), undefined],
    [pod({ 'example.com/volumes': 'a' }), undefined],
    [injected('fsgroup'), undefined],
  ];
  for (const [object, expected] of cases) {
    const { stdout, stderr } = await dryRun(on, object);
    assert.match(stdout, /created/);
    if (expected) assert.match(stderr, expected);
    else assert.equal(stderr, '', JSON.stringify(object));
  }
});

test('pods and namespaces that opted out, and pods without the annotation, are left alone', async (context) => {
  const on = server(context);
  if (!on) return;
  await on.kubectl(
    ['create', '-f', '-'],
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name: 'out', labels: { 'juicepod.io/injection': 'disabled' } },
    }),
  );
  const asks = { 'juicepod.io/volumes': 'a=/a' };
  for (const metadata of [
    { name: 'a' },
    { name: 'a', annotations: asks, labels: { 'juicepod.io/inject': 'false' } },
    { name: 'a', annotations: asks, namespace: 'out' },
    { name: 'a', annotations: asks, namespace: 'kube-system' },
  ]) {
    const pod = { apiVersion: 'v1', kind: 'Pod', metadata, spec: { containers: [{ name: 'main', image: 'busybox' }] } };
    const { ok, output } = await create(on, pod, '--dry-run=server');
    assert.ok(ok, output);
  }
});

test('the plan of a running pod is changed only by who may replan', async (context) => {
  const on = server(context);
  if (!on) return;
  const pod = injected('fsgroup');
  await on.kubectl(['create', '-f', '-'], JSON.stringify({ ...pod, metadata: { ...pod.metadata, name: 'running' } }));
  const role = (name: string, rules: readonly Json[]): string =>
    [
      { apiVersion: 'rbac.authorization.k8s.io/v1', kind: 'Role', metadata: { name, namespace: 'default' }, rules },
      {
        apiVersion: 'rbac.authorization.k8s.io/v1',
        kind: 'RoleBinding',
        metadata: { name, namespace: 'default' },
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name },
        subjects: [{ kind: 'User', apiGroup: 'rbac.authorization.k8s.io', name }],
      },
    ]
      .map((object) => JSON.stringify(object))
      .join('\n---\n');
  const pods = { apiGroups: [''], resources: ['pods'], verbs: ['get', 'patch', 'update'] };
  await on.kubectl(['create', '-f', '-'], role('developer', [pods]));
  await on.kubectl(
    ['create', '-f', '-'],
    role('planner', [pods, { apiGroups: ['juicepod.io'], resources: ['juicevolumes'], verbs: ['replan'] }]),
  );
  const annotate = (user: string, annotation: string) =>
    attempt(on, ['annotate', '--overwrite', 'pod', 'running', annotation, `--as=${user}`]);
  assert.ok((await annotate('developer', 'note=1')).ok);
  for (const annotation of ['juicepod.io/plan={}', 'juicepod.io/plan-', 'juicepod.io/volumes=b=/b']) {
    const { ok, output } = await annotate('developer', annotation);
    assert.ok(!ok, annotation);
    assert.match(output, /changed only by those who may replan juicevolumes/);
  }
  const changed = await annotate('planner', 'juicepod.io/plan={}');
  assert.ok(changed.ok, changed.output);
});
