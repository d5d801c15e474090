/**
 * Random AdmissionReviews, and what must hold of the answer to each: for the unit tests (ten thousand) and the benchmark (a
 * million). The reviews ask for every feature, from pods of every platform and with the sidecars of others; then some are damaged
 * anywhere, so that nothing about their shape can be taken for granted.
 */
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import * as fc from 'fast-check';
import { applyPatch } from 'rfc6902';
import { parsePlan } from '../../api/plan.ts';
import type { LimitRange } from '../limits.ts';
import { isOurContainer } from '../names.ts';
import type { Operation } from '../patch.ts';
import { platformNames } from '../platforms/index.ts';
import { type Json, listOf, mapOf, textOf } from '../../lib/json.ts';
import { viewPod } from '../pod.ts';
import { quantityOf } from '../resources.ts';
import { review } from '../review.ts';
import { type Cluster, defaultSettings, type Settings } from '../settings.ts';
import { cluster, pod, policy, volume } from './fixtures.ts';

// ------------------------------------------------------------------------------------------------------------ the world

const volumes = [
  volume('datasets'),
  volume('checkpoints', { cachePolicyRef: { name: 'small' } }),
  volume('fast', { cachePolicyRef: { name: 'ram' }, client: { resources: { limits: { memory: '4Gi', cpu: '2' } } } }),
  volume('base', { access: { allowedNamespaces: { from: 'All' }, readOnly: true } }, 'shared'),
];
const policies = [
  policy('small', { local: { size: '512Mi' }, buffer: { size: '64Mi' } }),
  policy('ram', { local: { medium: 'Memory', size: '1Gi' } }),
  policy('none', { local: { medium: 'None' } }),
];
const ENFORCE = 'pod-security.kubernetes.io/enforce';
const ranges: readonly LimitRange[] = [
  { name: 'bounds', limits: [{ type: 'Container', default: { memory: '256Mi' }, max: { memory: '8Gi', cpu: '4' } }] },
  { name: 'disk', limits: [{ type: 'Pod', max: { 'ephemeral-storage': '20Gi' } }] },
];
const world = (labels: Readonly<Record<string, string>> = {}, limits: readonly LimitRange[] = []): Cluster =>
  cluster(volumes, policies, { default: labels }, limits);

/** Namespaces of all sorts. */
export const worlds: readonly Cluster[] = [
  world(),
  world({ [ENFORCE]: 'restricted' }),
  world({ 'juicepod.io/platform': 'eks-fargate' }, ranges),
  world({}, ranges),
  world({ 'juicepod.io/injection': 'disabled' }),
];

// ---------------------------------------------------------------------------------------------------------- the reviews

const name = fc.stringMatching(/^[a-z]{1,6}$/);
const scalar = fc.oneof(fc.string({ maxLength: 8 }), fc.integer(), fc.boolean(), fc.constant(null));
const unknownFields = fc.dictionary(
  fc.constantFrom('newField', 'restartPolicyRules', 'x~y/z', 'appArmorProfile', 'constructor'),
  fc.oneof(scalar, fc.array(scalar, { maxLength: 3 }), fc.dictionary(name, scalar, { maxKeys: 3 })),
  { maxKeys: 2 },
);
const mount = fc.record({
  name: fc.constantFrom('scratch', 'config', 'kube-api-access-x'),
  mountPath: fc.constantFrom('/data', '/data/', '/ckpt', '/data/inner', '/tmp', '/var/log'),
});
const amounts = fc.record(
  {
    cpu: fc.constantFrom('100m', '1', 2),
    memory: fc.constantFrom('64Mi', '1Gi', '1e9'),
    'ephemeral-storage': fc.constantFrom('1Gi', '15Gi'),
  },
  { requiredKeys: [] },
);

const container = fc
  .record(
    {
      name: fc.oneof(
        { arbitrary: name, weight: 12 },
        {
          arbitrary: fc.constantFrom('istio-proxy', 'istio-init', 'linkerd-proxy', 'vault-agent', 'vault-agent-init'),
          weight: 3,
        },
        { arbitrary: fc.constantFrom('juicepod-holder', 'juicepod-client', 'juicepod-sync'), weight: 1 },
      ),
      image: fc.constant('busybox'),
      args: fc.constantFrom(['hold'], ['mount'], ['sync-sidecar'], ['sleep', '1']),
      restartPolicy: fc.constant('Always'),
      volumeMounts: fc.array(mount, { maxLength: 2 }),
      resources: fc.record({ requests: amounts }, { requiredKeys: [] }),
      securityContext: fc.record({ runAsUser: fc.constantFrom(0, 1000), runAsNonRoot: fc.boolean() }, { requiredKeys: [] }),
      extra: unknownFields,
    },
    { requiredKeys: ['name'] },
  )
  .map(({ extra, ...rest }) => ({ ...extra, ...rest }));

const annotation = fc.constantFrom(
  'datasets=/data',
  'datasets=/data:ro,checkpoints=/ckpt',
  'checkpoints=/data:sync,datasets=/ckpt',
  'datasets=/data:fuse',
  'fast=/fast:sync:ro',
  'shared/base=/base:ro,datasets=/deep/er',
  '[{name: datasets, mountPath: /data, containers: [main]}]',
  '[{name: datasets, mountPath: /data, subPath: a/b, mode: sync}, {name: datasets, mountPath: /other, readOnly: true}]',
  '[{name: checkpoints, mountPath: /ckpt, cachePolicy: none}]',
  'nope=/data',
  'datasets',
);

const placement = fc.constantFrom<Json[]>(
  {},
  { schedulerName: 'fargate-scheduler' },
  { nodeSelector: { 'cloud.google.com/compute-class': 'autopilot' } },
  { nodeSelector: { virtualization: 'virtualnode2' } },
  { nodeSelector: { 'node.kubernetes.io/instance-type': 'eklet' } },
  { tolerations: [{ key: 'virtual-kubelet.io/provider', value: 'alibabacloud' }] },
  { hostUsers: false },
  { hostNetwork: true },
  { os: { name: 'windows' } },
);

const whole = fc
  .record(
    {
      annotation: fc.option(annotation, { nil: undefined, freq: 14 }),
      platform: fc.option(fc.constantFrom(...platformNames, 'moon'), { freq: 2, nil: undefined }),
      containers: fc.uniqueArray(container, { minLength: 0, maxLength: 2, selector: (one) => one.name }),
      initContainers: fc.uniqueArray(container, { maxLength: 3, selector: (one) => one.name }),
      volumes: fc.uniqueArray(
        fc.record({ name: fc.constantFrom('scratch', 'config', 'juicepod-mnt', 'juicepod-x'), emptyDir: fc.constant({}) }),
        { maxLength: 2, selector: (one) => one.name },
      ),
      grace: fc.option(fc.integer({ min: 0, max: 120 }), { nil: undefined }),
      securityContext: fc.record(
        { fsGroup: fc.constant(2000), runAsUser: fc.constant(1000), runAsNonRoot: fc.boolean() },
        { requiredKeys: [] },
      ),
      placement,
      labels: fc.option(
        fc.dictionary(fc.oneof(name, fc.constant('alibabacloud.com/eci')), fc.constantFrom('true', 'x'), { maxKeys: 2 }),
        {
          nil: undefined,
        },
      ),
      extra: unknownFields,
    },
    { requiredKeys: ['annotation', 'containers', 'placement'] },
  )
  .map(({ annotation: asked, platform, grace, labels, placement: where, extra, containers, ...spec }) =>
    pod(
      undefined,
      {
        ...extra,
        ...spec,
        ...where,
        containers: [{ name: 'main', image: 'busybox' }, ...containers.filter((one) => one.name !== 'main')],
        ...(grace === undefined ? {} : { terminationGracePeriodSeconds: grace }),
      },
      {
        ...(labels ? { labels } : {}),
        annotations: {
          ...(asked === undefined ? {} : { 'juicepod.io/volumes': asked }),
          ...(platform === undefined ? {} : { 'juicepod.io/platform': platform }),
        },
      },
    ),
  );

/** What is here comes from JSON and goes there; this takes a third of the time of structuredClone. */
const copyOf = <T>(value: T): T => JSON.parse(JSON.stringify(value)) as T;

/** A place in an object, as an index into all its places, and what becomes of it. */
const damage = fc.tuple(
  fc.nat(),
  fc.constantFrom('delete', 'garbage', 'twice'),
  fc.constantFrom<unknown[]>(null, [], {}, 7, 'x', true, ['x'], { a: 1 }),
);

function places(value: unknown, found: { at: Record<string, unknown> | unknown[]; key: string }[] = []) {
  if (typeof value !== 'object' || value === null) return found;
  for (const [key, inner] of Object.entries(value)) {
    found.push({ at: value as Record<string, unknown>, key });
    places(inner, found);
  }
  return found;
}

function damaged(object: Json, hits: readonly (readonly [number, string, unknown])[]): Json {
  const copy = copyOf(object) as Record<string, unknown>;
  for (const [index, how, value] of hits) {
    const all = places(copy);
    const hit = all[index % Math.max(1, all.length)];
    if (!hit) continue;
    const { at, key } = hit;
    if (Array.isArray(at)) {
      if (how === 'delete') at.splice(Number(key), 1);
      else if (how === 'twice') at.push(copyOf(at[Number(key)]));
      else at[Number(key)] = copyOf(value);
    } else if (how === 'delete') delete at[key];
    else at[key] = copyOf(value);
  }
  return copy;
}

/** A review, the namespace it comes from, and the settings of the webhook. */
export interface Case {
  readonly body: Json;
  readonly world: number;
  readonly settings: Settings;
  readonly isDamaged: boolean;
}

export const anyCase: fc.Arbitrary<Case> = fc
  .record({
    object: whole,
    hits: fc.oneof(
      { arbitrary: fc.constant([]), weight: 2 },
      { arbitrary: fc.array(damage, { minLength: 1, maxLength: 3 }), weight: 1 },
    ),
    world: fc.nat(worlds.length - 1),
    platform: fc.option(fc.constantFrom(...platformNames), { freq: 8, nil: undefined }),
  })
  .map(({ object, hits, world: index, platform }) => {
    const body = {
      apiVersion: 'admission.k8s.io/v1',
      kind: 'AdmissionReview',
      request: {
        uid: 'u',
        resource: { group: '', version: 'v1', resource: 'pods' },
        operation: 'CREATE',
        namespace: 'default',
        object,
      },
    };
    return {
      body: hits.length === 0 ? body : damaged(body, hits),
      world: index,
      settings: { ...defaultSettings, ...(platform === undefined ? {} : { platform }) },
      isDamaged: hits.length > 0,
    };
  });

// ----------------------------------------------------------------------------------------------------- what must hold

/** What the API server would find wrong with a pod, as far as it concerns what is added. */
function defects(object: unknown): readonly string[] {
  const { volumes: all, initContainers, containers } = viewPod(object);
  const found: string[] = [];
  const unique = (what: string, values: readonly string[]): void => {
    for (const value of new Set(values.filter((one, index) => values.indexOf(one) !== index)))
      found.push(`${what} ${value} twice`);
  };
  const known = new Set(all.map((one) => one.name));
  unique(
    'volume',
    all.map((one) => one.name),
  );
  unique(
    'container',
    [...initContainers, ...containers].map((one) => one.name),
  );
  for (const { name: of, mounts, raw } of [...initContainers, ...containers]) {
    unique(
      `mount of ${of}`,
      mounts.map(({ path }) => path),
    );
    for (const { volume: one } of mounts) if (!known.has(one)) found.push(`${of} mounts ${one}, which is not there`);
    const { requests, limits } = mapOf(raw['resources']);
    for (const [resource, limit] of Object.entries(mapOf(limits)))
      if ((quantityOf(mapOf(requests)[resource]) ?? 0) > (quantityOf(limit) ?? Infinity))
        found.push(`${of} requests too much ${resource}`);
  }
  return found;
}

/** All of `part` is somewhere in `whole`: maps keep their members, lists keep their items in order. */
function keeps(found: unknown, part: unknown): boolean {
  if (Array.isArray(part)) {
    let at = 0;
    return part.every((item: unknown) => {
      const list = listOf(found);
      while (at < list.length && !keeps(list[at], item)) at++;
      return at++ < list.length;
    });
  }
  if (typeof part === 'object' && part !== null)
    return Object.entries(part).every(([key, value]) => Object.hasOwn(mapOf(found), key) && keeps(mapOf(found)[key], value));
  return Object.is(found, part);
}

/** What the patch may replace: a list or map of the wrong type by a right one, the grace period, and what is ours. */
function withoutReplaced(object: unknown): unknown {
  const copy = copyOf(object) as Json;
  const spec = mapOf(copy['spec']) as Record<string, unknown>;
  delete spec['terminationGracePeriodSeconds'];
  for (const list of ['volumes', 'initContainers', 'containers']) {
    if (!Array.isArray(spec[list])) delete spec[list];
    else spec[list] = spec[list].filter((one: unknown) => !(textOf(mapOf(one)['name']) ?? '').startsWith('juicepod-'));
  }
  for (const list of ['containers', 'initContainers'])
    for (const one of listOf(spec[list]) as Record<string, unknown>[])
      if (!Array.isArray(one['volumeMounts'])) delete one['volumeMounts'];
  const metadata = mapOf(copy['metadata']) as Record<string, unknown>;
  for (const map of ['annotations', 'labels']) if (Object.keys(mapOf(metadata[map])).length === 0) delete metadata[map];
  if (Object.keys(metadata).length === 0) delete (copy as Record<string, unknown>)['metadata'];
  return copy;
}

const patchOf = (response: Json): readonly Operation[] =>
  response['patch'] === undefined
    ? []
    : (JSON.parse(Buffer.from(textOf(response['patch']) ?? '', 'base64').toString()) as Operation[]);

/**
 * Answers a case and checks the answer. Throws where it breaks a promise; answers what was decided: ignore, refuse, inject, or
 * malformed where there was no review to answer.
 */
export function checkCase({ body, world: index, settings, isDamaged }: Case): 'ignore' | 'refuse' | 'inject' | 'malformed' {
  const inside = worlds[index] ?? world();
  const before = JSON.stringify(body);
  const reviewed = review(body, inside, settings);
  assert.equal(JSON.stringify(body), before, 'the review that was read is changed');
  if (!reviewed.ok) {
    assert.ok(isDamaged && reviewed.error.length > 0);
    return 'malformed';
  }
  const response = mapOf(reviewed.body['response']);
  const { action, reason, message } = reviewed.outcome;
  assert.ok(/^[A-Z][A-Za-z]+$/.test(reason) && message.length > 0 && message.length < 2000, `${reason}: ${message}`);
  assert.equal(response['allowed'], action !== 'refuse');
  const operations = patchOf(response);
  if (action !== 'inject') {
    assert.deepEqual(operations, []);
    return action;
  }
  for (const { op } of operations) assert.ok(op === 'add' || op === 'replace' || op === 'move', op);
  const { request } = body as { request: Json };
  const object = request['object'];
  const result = copyOf(object);
  for (const error of applyPatch(result, copyOf(operations) as Operation[])) assert.equal(error, null);
  assert.ok(
    keeps(result, withoutReplaced(object)),
    `something got lost: ${JSON.stringify(object)} became ${JSON.stringify(result)}`,
  );
  const old = new Set(defects(object));
  assert.deepEqual(
    defects(result).filter((one) => !old.has(one)),
    [],
    'the pod is not valid',
  );
  const { initContainers, annotations } = viewPod(result);
  const plan = parsePlan(textOf(annotations['juicepod.io/plan']) ?? '');
  const modes = new Set(plan.mounts.map(({ mode }) => mode ?? 'fuse'));
  assert.deepEqual(
    initContainers.filter((one) => isOurContainer(one.name)).map((one) => [one.name, one.raw['restartPolicy']]),
    [...(modes.has('fuse') ? ['juicepod-holder', 'juicepod-client'] : []), ...(modes.has('sync') ? ['juicepod-sync'] : [])].map(
      (one) => [one, 'Always'],
    ),
  );
  const again = review({ ...body, request: { ...request, object: result } }, inside, settings);
  assert.ok(again.ok && again.outcome.action === 'inject', JSON.stringify(again));
  assert.deepEqual(patchOf(mapOf(again.body['response'])), [], 'a second call changes the pod again');
  return 'inject';
}
