import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { listOf, mapOf, type Json, viewPod } from './pod.ts';
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
      const startup = container['startupProbe'] as Record<string, unknown> | undefined;
      if (startup) startup['successThreshold'] ??= 1;
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
  client['startupProbe'] = null;
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
      'replace /spec/initContainers/1/startupProbe',
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

const name = fc.stringMatching(/^[a-z]{1,6}$/);
const scalar = fc.oneof(fc.string({ maxLength: 8 }), fc.integer(), fc.boolean(), fc.constant(null));
const unknownFields = fc.dictionary(
  fc.constantFrom('newField', 'restartPolicyRules', 'x~y/z', 'appArmorProfile', 'constructor'),
  fc.oneof(scalar, fc.array(scalar, { maxLength: 3 }), fc.dictionary(name, scalar, { maxKeys: 3 })),
  { maxKeys: 3 },
);
const mountPath = fc.constantFrom('/data', '/data/', '/ckpt', '/data/inner', '/tmp', '/var/log');
const mount = fc.record({ name: fc.constantFrom('scratch', 'config', 'kube-api-access-x'), mountPath });
const orGarbage = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<unknown> =>
  fc.oneof<fc.MaybeWeightedArbitrary<unknown>[]>(
    { arbitrary, weight: 30 },
    { arbitrary: fc.constantFrom(null, [], {}, 7, 'x'), weight: 1 },
  );

const container = fc
  .record(
    {
      name: fc.oneof(
        { arbitrary: name, weight: 20 },
        { arbitrary: fc.constantFrom('juicepod-holder', 'juicepod-client'), weight: 1 },
      ),
      image: fc.constant('busybox'),
      args: fc.constantFrom(['hold'], ['mount'], ['sleep', '1']),
      restartPolicy: fc.constant('Always'),
      volumeMounts: orGarbage(fc.array(orGarbage(mount), { maxLength: 2 })),
      extra: unknownFields,
    },
    { requiredKeys: ['name'] },
  )
  .map(({ extra, ...rest }) => ({ ...extra, ...rest }));

const annotation = fc.constantFrom(
  'datasets=/data',
  'datasets=/data:ro,checkpoints=/ckpt',
  'shared/base=/base,datasets=/deep/er',
  '[{name: datasets, mountPath: /data, containers: [main]}]',
  '[{name: datasets, mountPath: /data, subPath: a/b}, {name: datasets, mountPath: /other, readOnly: true}]',
  'nope=/data',
  'datasets',
);

const anyPod = fc
  .record(
    {
      annotation: fc.option(annotation, { nil: undefined, freq: 12 }),
      containers: orGarbage(fc.array(orGarbage(container), { minLength: 1, maxLength: 3 })),
      initContainers: orGarbage(fc.array(orGarbage(container), { maxLength: 3 })),
      volumes: orGarbage(
        fc.array(
          orGarbage(
            fc.record({ name: fc.constantFrom('scratch', 'config', 'juicepod-mnt', 'juicepod-x'), emptyDir: fc.constant({}) }),
          ),
          {
            maxLength: 3,
          },
        ),
      ),
      grace: fc.option(fc.integer({ min: 0, max: 120 }), { nil: undefined }),
      extra: unknownFields,
      labels: orGarbage(fc.dictionary(name, name, { maxKeys: 2 })),
      hostNetwork: fc.boolean(),
    },
    { requiredKeys: ['annotation', 'containers'] },
  )
  .map(({ annotation, grace, extra, labels, ...spec }) => {
    const lists = Array.isArray(spec.containers)
      ? spec.containers.map((one: unknown, index) =>
          index === 0 && Object.keys(mapOf(one)).length > 0 ? { ...mapOf(one), name: 'main' } : one,
        )
      : spec.containers;
    return pod(
      annotation,
      {
        ...extra,
        ...spec,
        containers: lists,
        ...(grace === undefined ? {} : { terminationGracePeriodSeconds: grace }),
      },
      labels === undefined
        ? {}
        : { labels, ...(annotation === undefined ? {} : { annotations: { 'juicepod.io/volumes': annotation } }) },
    );
  });

/** All of `part` is somewhere in `whole`: maps keep their members, lists keep their items in order. */
function keeps(whole: unknown, part: unknown, path: string): void {
  if (Array.isArray(part)) {
    let at = 0;
    for (const [index, item] of part.entries()) {
      const found = listOf(whole).findIndex((one, position) => position >= at && holds(one, item));
      assert.ok(found >= 0, `${path}/${index} got lost: ${JSON.stringify(item)} in ${JSON.stringify(whole)}`);
      at = found + 1;
    }
  } else if (typeof part === 'object' && part !== null) {
    for (const [key, value] of Object.entries(part)) keeps(mapOf(whole)[key], value, `${path}/${key}`);
  } else assert.deepEqual(whole, part, path);
}

function holds(whole: unknown, part: unknown): boolean {
  try {
    keeps(whole, part, '');
    return true;
  } catch {
    return false;
  }
}

/** What the patch may replace: a list or map of the wrong type by a right one, the grace period. */
function withoutReplaced(object: Json): Json {
  const copy = structuredClone(object) as { spec: Record<string, unknown> };
  delete copy.spec['terminationGracePeriodSeconds'];
  for (const list of ['volumes', 'initContainers']) if (!Array.isArray(copy.spec[list])) delete copy.spec[list];
  for (const list of ['containers', 'initContainers'])
    for (const one of listOf(copy.spec[list]) as Record<string, unknown>[])
      if (!Array.isArray(one['volumeMounts'])) delete one['volumeMounts'];
  return copy;
}

test('ten thousand pods: nothing is removed, nothing lost, a second patch is empty, others get none', () => {
  const seen = { ignore: 0, refuse: 0, inject: 0 };
  fc.assert(
    fc.property(anyPod, (object) => {
      const before = JSON.stringify(object);
      const { decision, operations, result } = admit(object, home);
      seen[decision.action]++;
      assert.equal(JSON.stringify(object), before, 'the pod that was read is changed');
      if (decision.action !== 'inject') {
        assert.deepEqual(operations, []);
        assert.ok(decision.reason.length > 0 && decision.message.length > 0);
        if (mapOf(mapOf(object['metadata'])['annotations'])['juicepod.io/volumes'] === undefined)
          assert.equal(decision.action, 'ignore');
        return;
      }
      for (const { op } of operations) assert.ok(op === 'add' || op === 'replace');
      keeps(result, withoutReplaced(object), '');
      const again = admit(result, home);
      assert.equal(again.decision.action, 'inject', JSON.stringify(again.decision));
      assert.deepEqual(again.operations, []);
      const { initContainers } = viewPod(result);
      const ours = initContainers.map((one) => one.name).filter((one) => one.startsWith('juicepod-'));
      assert.deepEqual(ours, ['juicepod-holder', 'juicepod-client']);
    }),
    { numRuns: 10_000 },
  );
  assert.ok(seen.inject > 3000 && seen.refuse > 1000 && seen.ignore > 200, JSON.stringify(seen));
});

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
