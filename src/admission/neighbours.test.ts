import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Json, listOf, mapOf } from '../lib/json.ts';
import { viewPod } from './pod.ts';
import { admit, cluster, pod, volume } from './testing/fixtures.ts';

const home = cluster([volume('datasets')]);
const native = (name: string): Json => ({ name, restartPolicy: 'Always' });

function injected(
  initContainers: readonly Json[],
  containers: readonly Json[] = [{ name: 'main' }],
  annotation = 'datasets=/data',
) {
  const { decision, result, operations } = admit(pod(annotation, { initContainers, containers }), home);
  assert.ok(decision.action === 'inject', JSON.stringify(decision));
  assert.deepEqual(admit(result, home).operations, [], 'a second call changes something');
  return { ...viewPod(result), warnings: decision.warnings.join('\n'), operations };
}

const names = ({ initContainers }: { readonly initContainers: readonly { readonly name: string }[] }): string[] =>
  initContainers.map(({ name }) => name);

test('the sidecars start after the native proxy of a mesh, and so end before it', () => {
  assert.deepEqual(names(injected([{ name: 'istio-init' }, native('istio-proxy'), { name: 'fetch' }])), [
    'istio-init',
    'istio-proxy',
    'juicepod-holder',
    'juicepod-client',
    'fetch',
  ]);
  assert.deepEqual(names(injected([{ name: 'fetch' }, { name: 'linkerd-init' }, native('linkerd-proxy')])), [
    'fetch',
    'linkerd-init',
    'linkerd-proxy',
    'juicepod-holder',
    'juicepod-client',
  ]);
});

test('an init container that comes before the mesh sees no volume, and the user is told', () => {
  const { initContainers, warnings } = injected([{ name: 'fetch' }, native('linkerd-proxy')]);
  assert.deepEqual(initContainers[0]?.mounts, []);
  assert.match(warnings, /init container "fetch" runs before the volumes are mounted/);
  const named = admit(
    pod('[{name: datasets, mountPath: /data, containers: [fetch]}]', {
      initContainers: [{ name: 'fetch' }, native('linkerd-proxy')],
    }),
    home,
  );
  assert.match(JSON.stringify(named.decision), /OrderChanged.*\\"fetch\\" stands before Juicepod's sidecars/);
});

test('an Istio proxy that is an ordinary container is gone past: the client runs in the group that is not redirected', () => {
  const { initContainers, warnings } = injected([{ name: 'istio-init' }], [{ name: 'istio-proxy' }, { name: 'main' }]);
  assert.deepEqual(
    initContainers.map(({ name, raw }) => [name, mapOf(raw['securityContext'])['runAsGroup']]),
    [
      ['juicepod-holder', 0],
      ['juicepod-client', 1337],
      ['istio-init', undefined],
    ],
  );
  assert.match(warnings, /"istio-proxy" of Istio is an ordinary container, so Juicepod's traffic goes past it \(group 1337\)/);
});

test('other proxies that are ordinary containers earn a warning that says what to do', () => {
  const { warnings } = injected([{ name: 'linkerd-init' }], [{ name: 'linkerd-proxy' }, { name: 'main' }]);
  assert.match(warnings, /"linkerd-proxy" of Linkerd .* ends before .*config\.linkerd\.io\/proxy-enable-native-sidecar/);
});

test('a proxy that another webhook puts behind ours gets before them at the next call', () => {
  const first = admit(pod('datasets=/data'), home).result as { spec: { initContainers: Json[] } };
  first.spec.initContainers.push({ name: 'linkerd-init' }, native('linkerd-proxy'), { name: 'last' });
  const { decision, operations, result } = admit(first, home);
  assert.ok(decision.action === 'inject');
  assert.deepEqual(names(viewPod(result)), ['linkerd-init', 'linkerd-proxy', 'juicepod-holder', 'juicepod-client', 'last']);
  assert.deepEqual(
    operations.filter(({ op }) => op === 'move').map(({ path }) => path),
    ['/spec/initContainers/3', '/spec/initContainers/3'],
  );
  assert.deepEqual(decision.warnings, []);
  assert.deepEqual(admit(result, home).operations, []);
});

test('where an init container in between has the volume already nothing is moved, and the user is told', () => {
  const first = admit(pod('datasets=/data', { initContainers: [{ name: 'fetch' }] }), home).result as {
    spec: { initContainers: Json[] };
  };
  first.spec.initContainers.push({ name: 'linkerd-init' }, native('linkerd-proxy'));
  const { decision, operations } = admit(first, home);
  assert.ok(decision.action === 'inject');
  assert.deepEqual(operations, []);
  assert.match(decision.warnings.join('\n'), /"linkerd-proxy" of Linkerd was put behind Juicepod's sidecars/);
});

test('what injectors added sees a volume only where it is named', () => {
  const vault = [{ name: 'vault-agent-init' }];
  const containers = [{ name: 'main' }, { name: 'vault-agent' }];
  const mounts = (annotation: string): string[] => {
    const view = injected(vault, containers, annotation);
    return [...view.initContainers, ...view.containers]
      .filter(({ name, raw }) => !name.startsWith('juicepod-') && listOf(raw['volumeMounts']).length > 0)
      .map(({ name }) => name);
  };
  assert.deepEqual(mounts('datasets=/data'), ['main']);
  assert.deepEqual(mounts('[{name: datasets, mountPath: /data, containers: [main, vault-agent, vault-agent-init]}]'), [
    'vault-agent-init',
    'main',
    'vault-agent',
  ]);
});

test('the result does not depend on which webhook came first, where the other one adds ordinary containers', () => {
  const before = admit(pod('datasets=/data', { containers: [{ name: 'main' }, { name: 'vault-agent' }] }), home).result;
  const alone = admit(pod('datasets=/data'), home).result as { spec: { containers: Json[] } };
  alone.spec.containers.push({ name: 'vault-agent' });
  assert.deepEqual(
    (admit(alone, home).result['spec'] as Json)['containers'],
    // The image of the fixture's own container.
    listOf((before['spec'] as Json)['containers']).map((one, index) => (index === 0 ? { ...mapOf(one), image: 'busybox' } : one)),
  );
});
