import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { listOf, mapOf, type Json } from '../lib/json.ts';
import { admit, cluster, pod, volume } from './testing/fixtures.ts';

const home = cluster([
  volume('datasets'),
  volume('checkpoints'),
  volume('base', { access: { allowedNamespaces: { from: 'All' } } }, 'shared'),
]);

const get = (object: unknown, ...path: readonly (string | number)[]): unknown =>
  path.reduce<unknown>((at, key) => (typeof key === 'number' ? listOf(at)[key] : mapOf(at)[key]), object);

function patched(object: Json): Json {
  const { decision, result } = admit(object, home);
  assert.equal(decision.action, 'inject', JSON.stringify(decision));
  return result;
}

/** What the API server fills in between two webhooks, as far as it touches what was added. */
function withDefaults(object: Json): Json {
  const copy = structuredClone(object) as { spec: Record<string, Record<string, unknown>[]> };
  for (const list of ['containers', 'initContainers'])
    for (const container of copy.spec[list] ?? []) {
      container['terminationMessagePath'] ??= '/dev/termination-log';
      container['resources'] ??= {};
      const readiness = container['readinessProbe'] as Record<string, unknown> | undefined;
      if (readiness) readiness['successThreshold'] ??= 1;
      const liveness = container['livenessProbe'] as Record<string, unknown> | undefined;
      if (liveness) liveness['successThreshold'] ??= 1;
      (container['volumeMounts'] as Json[] | undefined)?.push({
        name: 'kube-api-access-x',
        mountPath: '/var/run/secrets/kubernetes.io/serviceaccount',
        readOnly: true,
      });
    }
  for (const one of copy.spec['volumes'] ?? []) {
    const limit = mapOf(one['emptyDir'])['sizeLimit'];
    if (limit === '16Mi') (one['emptyDir'] as Record<string, unknown>)['sizeLimit'] = '16384Ki';
    if ('downwardAPI' in one) (one['downwardAPI'] as Record<string, unknown>)['defaultMode'] = 420;
  }
  copy.spec['tolerations'] = [{ key: 'node.kubernetes.io/not-ready', operator: 'Exists' }];
  return copy;
}

test('the pod gets the pull secrets that it lacks, each once, and a second call adds none', () => {
  const settings = { imagePullSecrets: ['regcred', 'mirror'] };
  for (const [found, expected] of [
    [undefined, ['regcred', 'mirror']],
    [null, ['regcred', 'mirror']],
    [[], ['regcred', 'mirror']],
    [
      [{ name: 'own' }, { name: 'regcred' }],
      ['own', 'regcred', 'mirror'],
    ],
  ] as const) {
    const { result } = admit(pod('datasets=/data', { imagePullSecrets: found }), home, { settings });
    assert.deepEqual(
      listOf(get(result, 'spec', 'imagePullSecrets')).map((one) => mapOf(one)['name']),
      expected,
    );
    assert.deepEqual(admit(withDefaults(result), home, { settings }).operations, []);
  }
  assert.equal(get(patched(pod('datasets=/data')), 'spec', 'imagePullSecrets'), undefined);
});

test('absent, null and empty lists all get what they need', () => {
  for (const empty of [() => undefined, () => null, () => []]) {
    const lists = { volumes: empty(), initContainers: empty() };
    const main = { name: 'main', volumeMounts: empty() };
    const result = patched(pod('datasets=/data', { ...lists, containers: [main] }));
    assert.deepEqual(
      listOf(get(result, 'spec', 'initContainers')).map((one) => mapOf(one)['name']),
      ['juicepod-holder', 'juicepod-client'],
    );
    assert.deepEqual(get(result, 'spec', 'containers', 0, 'volumeMounts'), [
      { name: 'juicepod-mnt', mountPath: '/data', subPath: '0', mountPropagation: 'HostToContainer' },
    ]);
    assert.equal(listOf(get(result, 'spec', 'volumes')).length, 5);
  }
});

test('our init containers come first, and the init containers of the application see the volume', () => {
  const result = patched(
    pod('datasets=/data:ro', { initContainers: [{ name: 'fetch' }, { name: 'log', restartPolicy: 'Always' }] }),
  );
  assert.deepEqual(
    listOf(get(result, 'spec', 'initContainers')).map((one) => mapOf(one)['name']),
    ['juicepod-holder', 'juicepod-client', 'fetch', 'log'],
  );
  for (const index of [2, 3]) assert.deepEqual(get(result, 'spec', 'initContainers', index, 'volumeMounts', 0, 'readOnly'), true);
});

test('only named containers see a volume', () => {
  const two = { containers: [{ name: 'main' }, { name: 'side' }] };
  const result = patched(pod('[{name: datasets, mountPath: /data, containers: [side]}]', two));
  assert.equal(get(result, 'spec', 'containers', 0, 'volumeMounts'), undefined);
  assert.equal(get(result, 'spec', 'containers', 1, 'volumeMounts', 0, 'mountPath'), '/data');
});

test('an injected pod that the API server has filled in gets no patch', () => {
  const filled = withDefaults(patched(pod('datasets=/data,checkpoints=/ckpt:ro')));
  const { decision, operations } = admit(filled, home);
  assert.equal(decision.action, 'inject');
  assert.deepEqual(operations, []);
});

test('what another webhook took away or changed is put back in place, and its image is left alone', () => {
  const whole = withDefaults(patched(pod('datasets=/data')));
  const broken = structuredClone(whole) as {
    spec: { initContainers: Record<string, unknown>[]; containers: Record<string, unknown>[] };
  };
  const [holder, client] = broken.spec.initContainers;
  const [main] = broken.spec.containers;
  assert.ok(holder && client && main);
  delete holder['restartPolicy'];
  client['args'] = ['mount'];
  client['image'] = 'mirror.example/juicepod:0.1.0';
  client['readinessProbe'] = null;
  holder['securityContext'] = { privileged: false, seLinuxOptions: { level: 's0' } };
  main['volumeMounts'] = [{ name: 'juicepod-mnt', mountPath: '/data', subPath: '0' }];
  const { operations, result } = admit(broken, home);
  assert.deepEqual(
    operations.map(({ op, path }) => `${op} ${path}`),
    [
      'add /spec/containers/0/volumeMounts/0/mountPropagation',
      'add /spec/initContainers/0/restartPolicy',
      'replace /spec/initContainers/0/securityContext/privileged',
      'add /spec/initContainers/0/securityContext/runAsUser',
      'add /spec/initContainers/0/securityContext/runAsGroup',
      'add /spec/initContainers/0/securityContext/runAsNonRoot',
      'replace /spec/initContainers/1/args',
      'replace /spec/initContainers/1/readinessProbe',
    ],
  );
  assert.equal(get(result, 'spec', 'initContainers', 1, 'image'), 'mirror.example/juicepod:0.1.0');
  assert.deepEqual(get(result, 'spec', 'initContainers', 0, 'securityContext', 'seLinuxOptions'), { level: 's0' });
  assert.deepEqual(admit(result, home).operations, []);
});

test('mounts that others added to our containers survive the repair of ours', () => {
  const broken = structuredClone(withDefaults(patched(pod('datasets=/data')))) as {
    spec: { initContainers: Record<string, unknown>[] };
  };
  const holder = broken.spec.initContainers[0];
  assert.ok(holder);
  holder['volumeMounts'] = listOf(holder['volumeMounts']).filter((one) => mapOf(one)['name'] !== 'juicepod-run');
  // Without the socket's volume it is not told from a stranger's container.
  assert.equal(admit(broken, home).decision.action, 'refuse');
  holder['volumeMounts'] = [
    { name: 'juicepod-run', mountPath: '/juicepod/run' },
    { name: 'token', mountPath: '/var/run/secrets/token' },
  ];
  const mounts = listOf(get(admit(broken, home).result, 'spec', 'initContainers', 0, 'volumeMounts'));
  assert.deepEqual(
    mounts.map((one) => mapOf(one)['mountPath']),
    ['/juicepod/mnt', '/juicepod/run', '/var/run/secrets/token'],
  );
});

test('a sidecar that was removed comes back at its place', () => {
  const whole = patched(pod('datasets=/data', { initContainers: [{ name: 'fetch' }] }));
  for (const lost of ['juicepod-holder', 'juicepod-client']) {
    const broken = structuredClone(whole) as { spec: { initContainers: Json[] } };
    broken.spec.initContainers = broken.spec.initContainers.filter((one) => one['name'] !== lost);
    if (lost === 'juicepod-holder') {
      assert.deepEqual(admit(broken, home).result, whole);
      continue;
    }
    // The mount of "fetch" stands before the client's place now only as long as the client is missing.
    assert.deepEqual(admit(broken, home).result, whole);
  }
});

test('an init container that another webhook puts before ours sees no volume, and one with a mount there is refused', () => {
  const whole = patched(pod('datasets=/data', { initContainers: [{ name: 'fetch' }] })) as { spec: { initContainers: Json[] } };
  const [holder, client, fetch] = whole.spec.initContainers;
  const early = { ...whole, spec: { ...whole.spec, initContainers: [{ name: 'istio-init' }, holder, client, fetch] } };
  assert.deepEqual(admit(early, home).operations, []);
  const moved = { ...whole, spec: { ...whole.spec, initContainers: [fetch, holder, client] } };
  assert.match(JSON.stringify(admit(moved, home).decision), /StrayMount.*before juicepod-client has started/);
  const swapped = { ...whole, spec: { ...whole.spec, initContainers: [client, holder, fetch] } };
  assert.match(JSON.stringify(admit(swapped, home).decision), /OrderChanged/);
  const named = pod('[{name: datasets, mountPath: /data, containers: [late]}]', {
    initContainers: [{ name: 'late' }, holder, client],
  });
  assert.match(JSON.stringify(admit(named, home).decision), /OrderChanged/);
});

// ---------------------------------------------------------------------------------------------------------- properties

test('an injected pod that others damage is made whole by one more patch, or refused', () => {
  const whole = patched(pod('datasets=/data,checkpoints=/ckpt', { initContainers: [{ name: 'fetch' }] }));
  const paths = (value: unknown, path: readonly string[] = []): (readonly string[])[] =>
    typeof value === 'object' && value !== null
      ? [path, ...Object.entries(value).flatMap(([key, inner]) => paths(inner, [...path, key]))]
      : [path];
  const damage = fc.constantFrom(...paths(whole['spec']).filter((path) => path.length > 1));
  fc.assert(
    fc.property(fc.array(damage, { minLength: 1, maxLength: 3 }), (victims) => {
      const broken = structuredClone(whole);
      for (const victim of victims) {
        let at: unknown = broken['spec'];
        for (const key of victim.slice(0, -1)) at = typeof at === 'object' && at !== null ? (at as Json)[key] : undefined;
        const key = victim.at(-1) ?? '';
        if (Array.isArray(at)) at.splice(Number(key), 1);
        else if (typeof at === 'object' && at !== null) delete (at as Record<string, unknown>)[key];
      }
      const first = admit(broken, home);
      if (first.decision.action !== 'inject') return assert.equal(first.decision.action, 'refuse');
      assert.deepEqual(admit(first.result, home).operations, []);
    }),
    { numRuns: 3000 },
  );
});
