import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { fitResources, type LimitRange, sumOfOthers } from './limits.ts';
import { isOurContainer } from './names.ts';
import { type Json, listOf, mapOf } from '../lib/json.ts';
import { type Container, viewPod } from './pod.ts';
import { quantityOf } from './resources.ts';
import { admit, cluster, pod, policy, volume } from './testing/fixtures.ts';

const range = (name: string, ...limits: readonly Json[]): LimitRange => ({ name, limits });
const fitOne = (resources: Json, needs: Readonly<Record<string, number>>, ...ranges: readonly LimitRange[]) => {
  const fitted = fitResources([{ name: 'client', resources, needs }], [], ranges);
  return 'reason' in fitted ? `${fitted.reason}: ${fitted.message}` : fitted[0]?.resources;
};
const MIB = 2 ** 20;

test('without a LimitRange nothing changes', () => {
  const resources = { requests: { cpu: '100m', memory: '256Mi' } };
  assert.deepEqual(fitOne(resources, { memory: 300 * MIB }), resources);
});

test('a default limit below what the client needs is not left to the API server', () => {
  const limits = range('small', { type: 'Container', default: { memory: '128Mi', cpu: '500m' }, defaultRequest: { cpu: '50m' } });
  assert.deepEqual(fitOne({ requests: { cpu: '100m', memory: '256Mi' } }, { memory: 300 * MIB }, limits), {
    requests: { cpu: '100m', memory: '256Mi' },
    limits: { memory: '300Mi', cpu: '500m' },
  });
});

test('where a maximum is set a limit is named, and what is too much is cut', () => {
  const limits = range('max', { type: 'Container', max: { memory: '512Mi', cpu: '1' } });
  assert.deepEqual(fitOne({ requests: { cpu: '2', memory: '256Mi' }, limits: { cpu: '4' } }, { memory: 300 * MIB }, limits), {
    requests: { cpu: '1000m', memory: '256Mi' },
    limits: { cpu: '1000m', memory: '512Mi' },
  });
});

test('less than what is needed is refused, with the LimitRange and what to change', () => {
  const limits = range('tiny', { type: 'Container', max: { memory: '128Mi' } });
  assert.match(
    JSON.stringify(fitOne({}, { memory: 300 * MIB }, limits)),
    /^"LimitRange: LimitRange \\"tiny\\" leaves 128Mi of memory to client, which needs 300Mi .*lower those, or raise the LimitRange"$/,
  );
});

test('a minimum and a ratio raise the request', () => {
  const limits = range('strict', { type: 'Container', min: { cpu: '250m' }, maxLimitRequestRatio: { memory: '2' } });
  assert.deepEqual(fitOne({ requests: { cpu: '100m', memory: '100Mi' }, limits: { memory: '1Gi' } }, { memory: 0 }, limits), {
    requests: { cpu: '250m', memory: '512Mi' },
    limits: { memory: '1Gi' },
  });
});

test('the sum of a pod counts sidecars, and only the largest of the other init containers', () => {
  const memory = (name: string, amount: string, rest: Json = {}): Json => ({
    name,
    resources: { limits: { memory: amount } },
    ...rest,
  });
  const { initContainers, containers } = viewPod({
    spec: {
      initContainers: [memory('log', '1Gi', { restartPolicy: 'Always' }), memory('fetch', '5Gi'), memory('check', '2Gi')],
      containers: [memory('main', '3Gi'), memory('side', '1Gi')],
    },
  });
  assert.equal(sumOfOthers([...initContainers, ...containers], 'limits', 'memory'), 6 * 2 ** 30);
});

// --------------------------------------------------------------------------------- a model of the API server's LimitRanger

/** A container as the API server fills it in: an absent request is the written limit, the rest comes from the LimitRanges. */
function withDefaults(container: Json, ranges: readonly LimitRange[]): Json {
  const { requests: r, limits: l } = mapOf(container['resources']);
  const [requests, limits]: [Record<string, unknown>, Record<string, unknown>] = [{ ...mapOf(l), ...mapOf(r) }, { ...mapOf(l) }];
  for (const item of ranges.flatMap((one) => one.limits.map(mapOf)).filter(({ type }) => type === 'Container')) {
    for (const [name, amount] of Object.entries(mapOf(item['default']))) limits[name] ??= amount;
    for (const [name, amount] of Object.entries(mapOf(item['defaultRequest']))) requests[name] ??= amount;
  }
  return { ...container, resources: { requests, limits } };
}

/** What the plugin would say of a pod whose defaults are filled in; from plugin/pkg/admission/limitranger. */
function refusals(object: unknown, ranges: readonly LimitRange[]): readonly string[] {
  const { initContainers, containers } = viewPod(object);
  const items = ranges.flatMap(({ limits }) => limits.map(mapOf));
  const filled = [...initContainers, ...containers].map((one): Container => ({ ...one, raw: withDefaults(one.raw, ranges) }));
  const found: string[] = [];
  const check = (
    who: string,
    item: Json,
    request: (name: string) => number | undefined,
    limit: (name: string) => number | undefined,
  ) => {
    const each = (field: string, test: (name: string, bound: number) => boolean): void => {
      for (const [name, amount] of Object.entries(mapOf(item[field])))
        if (!test(name, quantityOf(amount) ?? 0)) found.push(`${who}: ${field} of ${name}`);
    };
    const slack = 1.0001;
    each('min', (name, bound) => (request(name) ?? 0) * slack >= bound && (limit(name) ?? Infinity) * slack >= bound);
    each(
      'max',
      (name, bound) => limit(name) !== undefined && (limit(name) ?? 0) <= bound * slack && (request(name) ?? 0) <= bound * slack,
    );
    each('maxLimitRequestRatio', (name, bound) => {
      const [r, l] = [request(name), limit(name)];
      return r !== undefined && l !== undefined && r > 0 && l / r <= bound * slack;
    });
  };
  for (const item of items) {
    if (item['type'] === 'Container')
      for (const { name, raw } of filled.filter((one) => isOurContainer(one.name))) {
        const { requests, limits } = mapOf(raw['resources']);
        for (const [resource, amount] of Object.entries(mapOf(limits)))
          if ((quantityOf(mapOf(requests)[resource]) ?? 0) > (quantityOf(amount) ?? 0) * 1.0001)
            found.push(`${name}: request of ${resource} above its limit`);
        check(
          name,
          item,
          (key) => quantityOf(mapOf(requests)[key]),
          (key) => quantityOf(mapOf(limits)[key]),
        );
      }
    if (item['type'] === 'Pod') {
      const sum =
        (side: 'requests' | 'limits') =>
        (key: string): number | undefined =>
          sumOfOthers(filled, side, key) || undefined;
      check('pod', { max: item['max'] }, sum('requests'), sum('limits'));
    }
  }
  return found;
}

test('whatever the LimitRanges: what is injected passes them, or the pod is refused with their name', () => {
  const memory = fc.constantFrom('64Mi', '256Mi', '512Mi', '1Gi', '4Gi', '16Gi');
  const cpu = fc.constantFrom('50m', '100m', '500m', '1', '4');
  const disk = fc.constantFrom('512Mi', '1Gi', '4Gi', '16Gi', '100Gi');
  const amounts = fc.record({ memory, cpu, 'ephemeral-storage': disk }, { requiredKeys: [] });
  const item = fc.oneof(
    fc.record(
      {
        type: fc.constant('Container'),
        max: amounts,
        default: amounts,
        defaultRequest: amounts,
        min: fc.record({ cpu: fc.constantFrom('10m', '200m'), memory: fc.constantFrom('16Mi', '128Mi') }, { requiredKeys: [] }),
      },
      { requiredKeys: ['type'] },
    ),
    fc.record({ type: fc.constant('Pod'), max: amounts }),
  );
  const resources = fc.record({ requests: amounts, limits: amounts }, { requiredKeys: [] });
  const seen = { inject: 0, refuse: 0, ignore: 0 };
  fc.assert(
    fc.property(
      fc.array(item, { minLength: 1, maxLength: 2 }),
      resources,
      fc.constantFrom('a=/a', 'a=/a:sync', 'a=/a:ro'),
      fc.constantFrom('64Mi', '1Gi', '10Gi'),
      (items, own, annotation, size) => {
        const at = (side: unknown, name: string): number | undefined => quantityOf(mapOf(side)[name]);
        // A pod that the API refuses without us.
        fc.pre(Object.keys(own.limits ?? {}).every((name) => (at(own.requests, name) ?? 0) <= (at(own.limits, name) ?? 0)));
        const ranges = [range('bounds', ...items)];
        const home = cluster(
          [volume('a', { cachePolicyRef: { name: 'p' } })],
          [policy('p', { local: { size } })],
          { default: {} },
          ranges,
        );
        // The plugin fills in before any webhook is called.
        const object = pod(annotation, { containers: [withDefaults({ name: 'main', resources: own }, ranges)] });
        const { decision, result } = admit(object, home);
        seen[decision.action]++;
        if (decision.action !== 'inject') {
          assert.ok(decision.action === 'refuse' && ['LimitRange', 'EphemeralStorage', 'MemoryLimit'].includes(decision.reason));
          return;
        }
        // What the author's own containers violate is theirs.
        const alone = new Set(refusals(object, ranges));
        const found = refusals(result, ranges).filter((one) => !alone.has(one));
        // Bounds that contradict each other cannot be met by anybody.
        const isSane = ['cpu', 'memory', 'ephemeral-storage'].every((name) => {
          const all = (field: string): number[] =>
            items.map((one) => at((one as Json)[field], name)).filter((amount) => amount !== undefined);
          const [least, most] = [Math.max(0, ...all('min'), ...all('defaultRequest')), Math.min(Infinity, ...all('max'))];
          return Math.max(least, ...all('default')) <= most && least <= Math.min(Infinity, ...all('default'));
        });
        if (isSane)
          assert.deepEqual(
            found,
            [],
            JSON.stringify(listOf(mapOf(result['spec'])['initContainers']).map((one) => mapOf(one)['resources'])),
          );
        assert.deepEqual(admit(result, home).operations, []);
      },
    ),
    { numRuns: 3000 },
  );
  assert.ok(seen.inject > 300 && seen.refuse > 100, JSON.stringify(seen));
});
