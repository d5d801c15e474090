/**
 * The webhook and the roll-out are of one mind: what the one writes into a pod's plan, the other finds right as long as nothing is
 * changed. Else an operator that starts would restart every client of a cluster.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { injectFile } from '../../src/admission/inject.ts';
import type { JuiceCachePolicy } from '../../src/api/cachepolicy.ts';
import { annotations, CACHE_VOLUME } from '../../src/api/group.ts';
import { parseJuiceCachePolicy, parseJuiceVolume } from '../../src/api/kinds.ts';
import { parsePlan } from '../../src/api/plan.ts';
import { roomFor } from '../../src/api/plan-room.ts';
import { parseQuantity } from '../../src/api/units.ts';
import type { JuiceVolume } from '../../src/api/volume.ts';
import { wantedOptions } from '../../src/operator/rollout/options.ts';
import type { PodObject } from '../../src/operator/rollout/pod.ts';

const MIB = 2 ** 20;
const apiVersion = 'juicepod.io/v1alpha1';

const policyArbitrary = fc
  .record({
    medium: fc.constantFrom('EphemeralDisk', 'Memory', 'None'),
    sizeMiB: fc.oneof(fc.integer({ min: 64, max: 70 }), fc.integer({ min: 64, max: 100_000 })),
    bufferMiB: fc.integer({ min: 32, max: 4096 }),
    attr: fc.integer({ min: 0, max: 60 }),
    readahead: fc.integer({ min: 0, max: 1024 }),
    upload: fc.option(fc.integer({ min: 65_536, max: 1e9 })),
    ops: fc.option(fc.integer({ min: 1, max: 1000 })),
    writeback: fc.boolean(),
    stagingMiB: fc.integer({ min: 64, max: 20_000 }),
    drain: fc.integer({ min: 0, max: 600 }),
  })
  .map(({ medium, sizeMiB, bufferMiB, attr, readahead, upload, ops, writeback, stagingMiB, drain }) => ({
    local: { medium, size: `${sizeMiB}Mi` },
    buffer: { size: `${bufferMiB}Mi` },
    readahead: { max: `${readahead}Mi` },
    metadata: { attrTTL: `${attr}s`, ...(ops === null ? {} : { maxOpsPerSecond: ops }) },
    io: upload === null ? {} : { uploadLimit: upload },
    writeback: {
      enabled: writeback && medium === 'EphemeralDisk',
      maxStaging: `${stagingMiB}Mi`,
      drainTimeout: `${drain}s`,
    },
  }));

interface World {
  readonly policy: object;
  readonly own: boolean;
  readonly platform: string;
  readonly level: string;
  readonly readOnly: boolean;
}
const worldArbitrary: fc.Arbitrary<World> = fc.record({
  policy: policyArbitrary,
  own: fc.boolean(),
  platform: fc.constantFrom('generic', 'alibaba-eci', 'tencent-tke', 'azure-virtual-nodes', 'gke-autopilot'),
  level: fc.constantFrom('debug', 'info', 'warn', 'error'),
  readOnly: fc.boolean(),
});

const policyOf = (spec: object, name = 'cache'): JuiceCachePolicy =>
  parseJuiceCachePolicy({ apiVersion, kind: 'JuiceCachePolicy', metadata: { name, namespace: 'data' }, spec });

/** A pod as the webhook makes it; undefined where it refuses. */
function made({ policy, own, platform, level, readOnly }: World) {
  const volume = parseJuiceVolume({
    apiVersion,
    kind: 'JuiceVolume',
    metadata: { name: 'datasets', namespace: 'data' },
    spec: {
      metadata: { redis: { addresses: ['redis:6379'] } },
      storage: { file: { path: '/blocks' } },
      client: { logLevel: level, resources: { limits: { memory: '200Gi' } } },
      ...(own ? {} : { cachePolicyRef: { name: 'cache' } }),
    },
  });
  const entry = { name: 'datasets', mountPath: '/data', readOnly, ...(own ? { cachePolicy: 'cache' } : {}) };
  const pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: 'app',
      namespace: 'data',
      annotations: { [annotations.volumes]: JSON.stringify([entry]), 'juicepod.io/platform': platform },
    },
    spec: { containers: [{ name: 'app', image: 'app' }] },
  };
  const policyObject = policyOf(policy);
  const text = [volume, policyObject, pod].map((one) => JSON.stringify(one)).join('\n---\n');
  const { documents, reasons } = injectFile(text);
  return reasons.at(-1)?.action === 'inject'
    ? { pod: documents.at(-1) as unknown as PodObject, volume, policy: policyObject }
    : undefined;
}

const wantedFor = (pod: PodObject, volume: JuiceVolume, policy: JuiceCachePolicy | undefined) =>
  wantedOptions(pod, {
    volume: (key) => (key === 'data/datasets' ? volume : undefined),
    policy: (key) => (key === 'data/cache' ? policy : undefined),
  });
const planText = (pod: PodObject): string => pod.metadata.annotations?.[annotations.plan] ?? '';

test('what the webhook decided is what the roll-out wants: nothing is changed in any pod that was just made', () => {
  let mounted = 0;
  fc.assert(
    fc.property(worldArbitrary, (world) => {
      const found = made(world);
      if (!found) return;
      const wanted = wantedFor(found.pod, found.volume, found.policy);
      // Pods that only copy have no client to restart.
      if (parsePlan(planText(found.pod)).journal === undefined) return assert.equal(wanted, undefined);
      mounted++;
      assert.equal(wanted?.plan, planText(found.pod));
    }),
    { numRuns: 400 },
  );
  assert.ok(mounted > 100, `only ${mounted} pods were made`);
});

test('whatever is wanted later fits into what the pod was given: disk, memory, and the time it has to end', () => {
  fc.assert(
    fc.property(worldArbitrary, policyArbitrary, (world, later) => {
      const found = made(world);
      const wanted = found && wantedFor(found.pod, found.volume, policyOf(later));
      if (!wanted) return;
      const plan = parsePlan(wanted.plan);
      const before = parsePlan(planText(found.pod));
      assert.deepEqual(plan.mounts, before.mounts);
      assert.equal(plan.policy, before.policy);
      const { spec } = found.pod;
      const given = parseQuantity(spec.volumes?.find(({ name }) => name === CACHE_VOLUME)?.emptyDir?.sizeLimit ?? 0) / MIB;
      const taken = roomFor(plan.cache?.sizeMiB ?? 0, plan.bufferMiB + (plan.writeback?.maxStagingMiB ?? 0));
      assert.ok(taken <= given, `${taken} MiB of ${given}`);
      const grace = spec.terminationGracePeriodSeconds ?? 30;
      // A pod that only reads stages nothing.
      if (plan.writeback && !world.readOnly)
        assert.ok(plan.cache && plan.writeback.drainTimeout <= grace, `${plan.writeback.drainTimeout} s of ${grace}`);
      // Done, it is what is wanted: no second roll-out follows.
      const metadata = {
        ...found.pod.metadata,
        annotations: { ...found.pod.metadata.annotations, [annotations.plan]: wanted.plan },
      };
      assert.equal(wantedFor({ ...found.pod, metadata }, found.volume, policyOf(later))?.plan, wanted.plan);
    }),
    { numRuns: 300 },
  );
});

test('options are left alone where a policy is missing, where the plan is of a newer webhook, or a pod chose a policy before plans said so', () => {
  const world: World = { policy: {}, own: false, platform: 'generic', level: 'info', readOnly: false };
  const found = made(world);
  assert.ok(found);
  const { pod, volume, policy } = found;
  assert.equal(wantedFor(pod, volume, undefined), undefined);
  const withPlan = (plan: string, volumes = ''): PodObject => ({
    ...pod,
    metadata: { ...pod.metadata, annotations: { [annotations.plan]: plan, [annotations.volumes]: volumes } },
  });
  assert.ok(wantedFor(withPlan(planText(pod)), volume, policy));
  assert.equal(wantedFor(withPlan(planText(pod).replace(/\}$/, ',"newer":1}')), volume, policy), undefined);
  assert.equal(wantedFor(withPlan(planText(pod), '[{"name":"datasets","cachePolicy":"x"}]'), volume, policy), undefined);
  assert.equal(wantedFor(withPlan('{'), volume, policy), undefined);
});

test('a policy that a pod chose itself counts in it, also when its volume names another', () => {
  const found = made({ policy: { metadata: { attrTTL: '7s' } }, own: true, platform: 'generic', level: 'info', readOnly: false });
  assert.ok(found);
  const { pod, volume } = found;
  const referring = { ...volume, spec: { ...volume.spec, cachePolicyRef: { name: 'other' } } };
  const wanted = wantedOptions(pod, {
    volume: () => referring,
    policy: (key) => policyOf({ metadata: { attrTTL: key === 'data/cache' ? '8s' : '9s' } }),
  });
  assert.equal(parsePlan(wanted?.plan ?? '').attrTTL, 8);
});
