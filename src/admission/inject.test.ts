import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { applyPatch } from 'rfc6902';
import { parseAllDocuments } from 'yaml';
import { UserError } from '../lib/errors.ts';
import { injectFile } from './inject.ts';
import type { Operation } from './patch.ts';
import { patchPod } from './patch.ts';
import { planPod } from './plan.ts';
import { cluster, pod, volume } from './testing/fixtures.ts';
import { defaultSettings } from './settings.ts';

const volumes = `apiVersion: juicepod.io/v1alpha1
kind: JuiceVolume
metadata: {name: datasets}
spec:
  metadata: {sqlite: {path: /tmp/datasets.db}}
  storage: {file: {path: /tmp/datasets}}
`;

const podText = `apiVersion: v1
kind: Pod
metadata:
  name: app # the name
  annotations: {juicepod.io/volumes: datasets=/data}
spec:
  containers:
  - name: main
    image: busybox
    # said by a person
    command: [ls, /data]
`;

test('what is injected into a file is what the webhook would answer', () => {
  const object = pod('datasets=/data');
  const inside = cluster([volume('datasets')]);
  const decision = planPod({ pod: object, namespace: 'default', cluster: inside, settings: defaultSettings });
  assert.ok(decision.action === 'inject');
  const expected = structuredClone(object);
  applyPatch(expected, patchPod(decision.pod, decision.injection) as Operation[]);
  const { documents } = injectFile(JSON.stringify(object), { volumes: [volume('datasets')] });
  assert.deepEqual(documents, [expected]);
});

test('the text says the same as the documents, keeps comments and style, and the diff only adds', () => {
  const { documents, text, diff, reasons } = injectFile(`${volumes}---\n${podText}`, { fileName: 'pod.yaml' });
  const read = parseAllDocuments(text).map((document) => document.toJS() as unknown);
  assert.deepEqual(read, documents);
  assert.match(text, /name: app # the name/);
  assert.match(text, / {4}# said by a person\n {4}command: \[ls, \/data\]/);
  const lines = diff.split('\n').slice(2);
  assert.deepEqual(
    lines.filter((line) => line.startsWith('-')),
    // The annotations stood on one line, which got longer.
    ['-  annotations: {juicepod.io/volumes: datasets=/data}'],
  );
  assert.ok(lines.some((line) => line === '+    - name: juicepod-mnt' || line === '+  - name: juicepod-mnt'));
  assert.match(diff, /^--- pod\.yaml\n\+\+\+ pod\.yaml \(injected\)\n@@ /);
  assert.deepEqual(
    reasons.map(({ kind, name, action, reason }) => [kind, name, action, reason]),
    [['Pod', 'app', 'inject', 'Injected']],
  );
});

test('a text in which nothing changes comes back as it was', () => {
  const odd = '# nothing here\n---\napiVersion: v1\nkind:   ConfigMap\ndata: {a:   "b"}\n';
  assert.deepEqual(injectFile(odd), {
    documents: [{ apiVersion: 'v1', kind: 'ConfigMap', data: { a: 'b' } }],
    text: odd,
    diff: '',
    reasons: [],
  });
});

test('an octal mode and other words that YAML 1.1 reads in its own way survive', () => {
  const { text } = injectFile(
    `${volumes}---\n${podText}  volumes:\n  - name: x\n    secret: {secretName: y, defaultMode: 0400}\n  terminationGracePeriodSeconds: 90\n  hostNetwork: yes\n`,
  );
  assert.match(text, /defaultMode: 0400\}/);
  assert.match(text, /hostNetwork: yes\n/);
});

test('a pod written with anchors and merge keys is injected', () => {
  const anchored = podText.replace('  - name: main', '  - &main\n    name: main') + '  - <<: *main\n    name: side\n';
  const { documents } = injectFile(`${volumes}---\n${anchored}`);
  const { containers } = (documents[1] as { spec: { containers: { name: string; image: string; volumeMounts: unknown[] }[] } })
    .spec;
  assert.deepEqual(
    containers.map(({ name, image, volumeMounts }) => [name, image, volumeMounts.length]),
    [
      ['main', 'busybox', 1],
      ['side', 'busybox', 1],
    ],
  );
});

test('JSON stays JSON, and a List is opened', () => {
  const list = { apiVersion: 'v1', kind: 'List', items: [pod('datasets=/data'), { kind: 'ConfigMap' }, pod(undefined)] };
  const { text, documents, reasons } = injectFile(JSON.stringify(list), { volumes: [volume('datasets')] });
  assert.deepEqual(JSON.parse(text), documents[0]);
  assert.deepEqual(
    reasons.map(({ action }) => action),
    ['inject', 'ignore'],
  );
});

test('each kind of workload is injected where its pods are described', () => {
  const template = {
    metadata: { annotations: { 'juicepod.io/volumes': 'datasets=/data' } },
    spec: { containers: [{ name: 'main' }] },
  };
  for (const kind of ['Deployment', 'StatefulSet', 'DaemonSet', 'ReplicaSet', 'Job', 'CronJob']) {
    const spec = kind === 'CronJob' ? { jobTemplate: { spec: { template } } } : { template };
    const { reasons, text } = injectFile(JSON.stringify({ kind, metadata: { name: 'w' }, spec }), {
      volumes: [volume('datasets')],
    });
    assert.deepEqual(
      reasons.map((reason) => [reason.kind, reason.action]),
      [[kind, 'inject']],
    );
    assert.match(text, /juicepod-client/);
  }
});

test('namespaces of the text are heeded, and the namespace option is that of what names none', () => {
  const strict = `apiVersion: v1\nkind: Namespace\nmetadata: {name: apps, labels: {pod-security.kubernetes.io/enforce: baseline}}\n`;
  const asked = podText.replace('datasets=/data', 'datasets=/data:fuse');
  const { reasons } = injectFile([strict, volumes, asked].join('---\n'), { namespace: 'apps' });
  assert.deepEqual(
    reasons.map(({ namespace, reason }) => [namespace, reason]),
    [['apps', 'PodSecurity']],
  );
});

test('text that cannot be read, and volumes that cannot be, are refused in one line that names the file', () => {
  const cases: readonly (readonly [string, RegExp])[] = [
    ['a: [', /^pod\.yaml: .*line 1/],
    ['a: 1\n---\nb: {', /^pod\.yaml: /],
    ['a: 1\na: 2', /^pod\.yaml: Map keys must be unique/],
    ['['.repeat(50_000), /^pod\.yaml: .*nested too deeply/],
    [volumes.replace('sqlite', 'sqlight'), /^JuiceVolume datasets: .*sqlight/],
  ];
  for (const [text, expected] of cases)
    assert.throws(
      () => injectFile(text, { fileName: 'pod.yaml' }),
      (error: Error) => expected.test(error.message) && !error.message.includes('\n') && error.name === 'UserError',
      text,
    );
});

test('any damaged text is injected or refused, never more', () => {
  const whole = `${volumes}---\n${podText}`;
  const edit = fc.tuple(
    fc.nat(whole.length),
    fc.nat(12),
    fc.oneof(fc.string({ maxLength: 6 }), fc.constantFrom('- ', '\n', '{', '*a', '&a ', '---\n')),
  );
  fc.assert(
    fc.property(fc.array(edit, { minLength: 1, maxLength: 6 }), (edits) => {
      const text = edits.reduce((now, [at, cut, put]) => now.slice(0, at) + put + now.slice(at + cut), whole);
      try {
        const { reasons } = injectFile(text);
        assert.ok(reasons.every(({ message }) => message.length > 0));
      } catch (error) {
        assert.ok(error instanceof UserError, `${String(error)} for ${JSON.stringify(text)}`);
      }
    }),
    { numRuns: 2000 },
  );
});
