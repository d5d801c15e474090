import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { decide, podKey, type RolloutInput, type Step } from './decide.ts';
import { digestOf, type RolloutPod, type RolloutRecord } from './pod.ts';

const [OLD, NEW] = ['juicepod:1', 'juicepod:2'];
const NOW = 1_000_000;

const pod = (name: string, more: Partial<RolloutPod> = {}): RolloutPod => ({
  namespace: 'apps',
  name,
  uid: `uid-${name}`,
  index: 1,
  image: OLD,
  plan: 'plan 1',
  wantedPlan: 'plan 1',
  running: true,
  serves: true,
  restarts: 0,
  waiting: undefined,
  record: undefined,
  ...more,
});
const record = (more: Partial<RolloutRecord> = {}): RolloutRecord => ({
  image: NEW,
  from: OLD,
  at: NOW - 5000,
  restarts: 0,
  ...more,
});
const begun = (name: string, more: Partial<RolloutPod> = {}): RolloutPod =>
  pod(name, { image: NEW, serves: false, record: record(), ...more });
const updated = (name: string): RolloutPod => begun(name, { serves: true, restarts: 1 });
const failed = (name: string): RolloutPod => pod(name, { restarts: 2, record: record({ failed: 'no such image' }) });

/** Was given other options, and is to be restarted for them. */
const told = (name: string, more: Partial<RolloutPod> = {}): RolloutPod =>
  pod(name, {
    image: NEW,
    plan: 'plan 2',
    wantedPlan: 'plan 2',
    record: record({ from: NEW, plan: digestOf('plan 2'), fromPlan: 'plan 1' }),
    ...more,
  });

const input = (pods: readonly RolloutPod[], more: Partial<RolloutInput> = {}): RolloutInput => ({
  image: NEW,
  pods,
  maxUnavailable: 1,
  timeoutMs: 60_000,
  paused: false,
  now: NOW,
  ...more,
});
const steps = (all: readonly Step[]): string[] => all.map((step) => `${step.do} ${step.pod.name}`);

const cases: readonly {
  readonly name: string;
  readonly input: RolloutInput;
  readonly steps: readonly string[];
  readonly state: string;
  readonly counts?: string;
  readonly message?: RegExp;
}[] = [
  { name: 'no pod', input: input([]), steps: [], state: 'Complete', counts: '0/0' },
  {
    name: 'the first pod, by name',
    input: input([pod('b'), pod('a')]),
    steps: ['update a'],
    state: 'Progressing',
    counts: '0/2',
  },
  { name: 'a pod that restarts holds up the next', input: input([begun('a'), pod('b')]), steps: [], state: 'Progressing' },
  {
    name: 'the next where it serves again',
    input: input([updated('a'), pod('b')]),
    steps: ['update b'],
    state: 'Progressing',
    counts: '1/2',
  },
  {
    name: 'as many at once as may be unavailable',
    input: input([begun('a'), pod('b'), pod('c'), pod('d')], { maxUnavailable: 3 }),
    steps: ['update b', 'update c'],
    state: 'Progressing',
  },
  {
    name: 'a status from before the change proves nothing',
    input: input([begun('a', { serves: true, restarts: 0 })]),
    steps: [],
    state: 'Progressing',
    counts: '0/1',
  },
  { name: 'all done', input: input([updated('a'), pod('b', { image: NEW })]), steps: [], state: 'Complete', counts: '2/2' },
  {
    name: 'pods that wait or end are left alone',
    input: input([pod('a', { running: false }), updated('b')]),
    steps: [],
    state: 'Complete',
    counts: '1/1',
  },
  {
    name: 'a client that does not come back in time gets its former image, and nothing else is begun',
    input: input([begun('a', { record: record({ at: NOW - 61_000 }) }), pod('b')]),
    steps: ['revert a'],
    state: 'Failed',
    message: /pod apps\/a.*within 60 s/,
  },
  {
    name: 'an image that cannot be had is no reason to wait',
    input: input([begun('a', { waiting: { reason: 'ImagePullBackOff', message: 'not found' } }), pod('b')]),
    steps: ['revert a'],
    state: 'Failed',
    message: /ImagePullBackOff: not found/,
  },
  {
    name: 'a pull that may still succeed is waited for',
    input: input([begun('a', { waiting: { reason: 'ErrImagePull', message: '' } })]),
    steps: [],
    state: 'Progressing',
  },
  {
    name: 'a pod that failed stops the others',
    input: input([failed('a'), pod('b')]),
    steps: [],
    state: 'Failed',
    message: /no such image/,
  },
  {
    name: 'it stays stopped where the pod that failed is gone',
    input: input([pod('b')], { stopped: 'pod a failed' }),
    steps: [],
    state: 'Failed',
    message: /pod a failed/,
  },
  {
    name: 'nothing left to do is no failure',
    input: input([updated('b')], { stopped: 'pod a failed' }),
    steps: [],
    state: 'Complete',
  },
  {
    name: 'another image begins anew',
    input: input([failed('a'), pod('b')], { image: 'juicepod:3' }),
    steps: ['update a'],
    state: 'Progressing',
  },
  {
    name: 'a failed pod is begun with again where that is asked for',
    input: input([failed('a')], { retry: true }),
    steps: ['update a'],
    state: 'Progressing',
  },
  {
    name: 'paused: nothing is begun',
    input: input([updated('a'), pod('b')], { paused: true }),
    steps: [],
    state: 'Paused',
    counts: '1/2',
  },
  {
    name: 'paused: what was begun and failed is put right all the same',
    input: input([begun('a', { record: record({ at: 0 }) })], { paused: true }),
    steps: ['revert a'],
    state: 'Failed',
  },
  {
    name: 'going back to the former image is a roll-out like any',
    input: input([updated('a')], { image: OLD }),
    steps: ['update a'],
    state: 'Progressing',
  },
  {
    name: 'other options are a roll-out like another image',
    input: input([pod('a', { image: NEW, wantedPlan: 'plan 2' }), pod('b', { image: NEW })]),
    steps: ['update a'],
    state: 'Progressing',
    counts: '1/2',
  },
  {
    name: 'a client that was told of other options and still serves by the former ones is waited for',
    input: input([told('a'), pod('b', { image: NEW, wantedPlan: 'plan 2' })]),
    steps: [],
    state: 'Progressing',
  },
  {
    name: 'a client that was restarted for other options has them',
    input: input([told('a', { restarts: 1 }), pod('b', { image: NEW, wantedPlan: 'plan 2' })]),
    steps: ['update b'],
    state: 'Progressing',
    counts: '1/2',
  },
  {
    name: 'a client that takes options up as it runs is not waited for',
    input: input([
      told('a', { record: record({ from: NEW, plan: digestOf('plan 2'), fromPlan: 'plan 1', live: true }) }),
      pod('b', { image: NEW, wantedPlan: 'plan 2' }),
    ]),
    steps: ['update b'],
    state: 'Progressing',
    counts: '1/2',
  },
  {
    name: 'a client that does not follow its plan gets the former one, and nothing else is begun',
    input: input([
      told('a', { record: record({ from: NEW, plan: digestOf('plan 2'), fromPlan: 'plan 1', at: NOW - 61_000 }) }),
      pod('b', { image: NEW, wantedPlan: 'plan 2' }),
    ]),
    steps: ['revert a'],
    state: 'Failed',
    message: /did not take up the new options within 60 s/,
  },
  {
    name: 'a pod that failed over options stops the others',
    input: input([
      told('a', { plan: 'plan 1', record: record({ from: NEW, plan: digestOf('plan 2'), failed: 'it did not come back' }) }),
      pod('b', { image: NEW, wantedPlan: 'plan 2' }),
    ]),
    steps: [],
    state: 'Failed',
    message: /it did not come back/,
  },
  {
    name: 'where other options are wanted it begins anew',
    input: input([
      told('a', {
        plan: 'plan 1',
        wantedPlan: 'plan 3',
        record: record({ from: NEW, plan: digestOf('plan 2'), failed: 'it did not come back' }),
      }),
    ]),
    steps: ['update a'],
    state: 'Progressing',
  },
  {
    name: 'a record of a version that knew images alone counts for its image',
    input: input([updated('a'), begun('b')]),
    steps: [],
    state: 'Progressing',
    counts: '1/2',
  },
];

test('roll-out: what is given back is what the client had, image and options', () => {
  const lost = told('a', {
    record: record({ from: OLD, plan: digestOf('plan 2'), fromPlan: 'plan 1', at: 0 }),
  });
  const [step] = decide(input([lost])).steps;
  assert.deepEqual(step?.do === 'revert' && step.to, { image: OLD, plan: 'plan 1' });
});

for (const each of cases)
  test(`roll-out: ${each.name}`, () => {
    const { steps: found, report } = decide(each.input);
    assert.deepEqual(steps(found), each.steps);
    assert.equal(report.state, each.state);
    if (each.counts) assert.equal(`${report.updated}/${report.total}`, each.counts);
    if (each.message) assert.match(report.message, each.message);
  });

/** What the kubelet and the operator make of a pod: a client of the image `broken` never serves again. */
function act(current: RolloutPod, step: Step | undefined, image: string, broken: ReadonlySet<string>, now: number): RolloutPod {
  if (step?.do === 'update')
    return {
      ...current,
      image,
      serves: false,
      record: { image, from: current.image, at: now, restarts: current.restarts },
    };
  if (step?.do === 'revert')
    return {
      ...current,
      image: step.to.image,
      serves: false,
      record: { image, from: step.to.image, at: now, restarts: current.restarts, failed: step.why },
    };
  if (current.serves || (current.image === NEW && broken.has(current.name))) return current;
  return { ...current, serves: true, restarts: current.restarts + 1 };
}

test('whatever fails, never more clients restart than may be unavailable, and it ends: complete, or stopped with the others untouched', () => {
  const names = ['a', 'b', 'c', 'd', 'e', 'f'];
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 4 }),
      fc.subarray(names),
      fc.array(fc.boolean(), { minLength: 200, maxLength: 200 }),
      (maxUnavailable, brokenNames, luck) => {
        const broken = new Set(brokenNames);
        let pods = names.map((name) => pod(name));
        let now = NOW;
        const turns = luck[Symbol.iterator]();
        for (let round = 0; round < 60; round++) {
          const { steps: todo } = decide(input(pods, { maxUnavailable, now }));
          // The operator may die before any of its writes, and the kubelet be slow, though not as slow as the timeout.
          const done = todo.filter(() => (turns.next().value ?? true) || round % 3 === 1);
          pods = pods.map((each) => {
            const step = done.find((one) => podKey(one.pod) === podKey(each));
            return step || (turns.next().value ?? true) || round % 3 === 0 ? act(each, step, NEW, broken, now) : each;
          });
          const down = pods.filter(({ serves, record: was }) => !serves && was?.failed === undefined).length;
          assert.ok(down <= maxUnavailable, `${down} clients are down`);
          now += 10_000;
        }
        const { report } = decide(input(pods, { maxUnavailable, now }));
        assert.equal(report.state, broken.size === 0 ? 'Complete' : 'Failed');
        if (broken.size > 0) {
          assert.ok(pods.every(({ serves }) => serves));
          assert.ok(report.failed.length <= maxUnavailable);
        } else assert.ok(pods.every(({ image }) => image === NEW));
      },
    ),
  );
});
