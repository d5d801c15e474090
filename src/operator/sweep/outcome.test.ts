import assert from 'node:assert/strict';
import { test } from 'node:test';
import { outcomesOf } from './outcome.ts';

type Json = Readonly<Record<string, unknown>>;

const plan = (readOnly = false): string => JSON.stringify({ version: 1, mounts: [{ id: '0', mode: 'sync', readOnly }] });

function pod(sidecar: Json, rest: { readonly metadata?: Json; readonly status?: Json } = {}): Json {
  return {
    metadata: {
      name: 'p',
      deletionTimestamp: '2026-01-02T03:00:00Z',
      annotations: { 'juicepod.io/plan': plan() },
      ...rest.metadata,
    },
    status: {
      phase: 'Running',
      initContainerStatuses: [{ name: 'juicepod-sync', ...sidecar }],
      containerStatuses: [{ name: 'main', state: { terminated: { exitCode: 0 } } }],
      ...rest.status,
    },
  };
}
const ended = (exitCode: number, message?: string, rest: Json = {}): Json => ({
  terminated: { exitCode, finishedAt: '2026-01-02T03:04:05Z', ...(message === undefined ? {} : { message }), ...rest },
});
const unsent = 'NotFlushed: default/out: 3 changes were not written back (a, b, c)';

test('what a sidecar said at its end is told with advice, one outcome a reason', () => {
  const message = `${unsent}\nNotFlushed: default/two: 1 changes were not written back (d)\nConflictKept: default/out: 1 file (x)\nsomething else`;
  const found = outcomesOf(pod({ state: ended(1, message) }));
  assert.deepEqual(
    found.map(({ reason, at }) => [reason, at]),
    [
      ['NotFlushed', Date.parse('2026-01-02T03:04:05Z')],
      ['ConflictKept', Date.parse('2026-01-02T03:04:05Z')],
    ],
  );
  assert.match(found[0]?.message ?? '', /3 changes.*\(a, b, c\); default\/two: 1 changes.*terminationGracePeriodSeconds/);
  assert.match(found[1]?.message ?? '', /1 file \(x\)\. Compare/);
});

test('a sidecar that was killed is told as one of which nobody knows, if there was anything to write back', () => {
  const killed = { state: ended(137, undefined, { reason: 'OOMKilled' }) };
  assert.match(outcomesOf(pod(killed))[0]?.message ?? '', /killed \(OOMKilled, exit code 137\) before/);
  assert.deepEqual(outcomesOf(pod(killed, { metadata: { annotations: { 'juicepod.io/plan': plan(true) } } })), []);
  const waiting = { status: { containerStatuses: [{ name: 'main', state: { waiting: { reason: 'PodInitializing' } } }] } };
  assert.deepEqual(outcomesOf(pod(killed, { status: { ...(pod(killed)['status'] as Json), ...waiting.status } })), []);
});

test('a later try counts: what was not written back by a sidecar that was started again is no outcome', () => {
  const before = { lastState: ended(1, unsent) };
  assert.deepEqual(outcomesOf(pod({ ...before, state: ended(0) })), []);
  assert.equal(outcomesOf(pod({ ...before, state: ended(1, 'the volume could not be opened') }))[0]?.reason, 'NotFlushed');
});

test('nothing is told of a pod that goes on, that wrote back everything, or that is none', () => {
  const metadata = { deletionTimestamp: undefined };
  const quiet: readonly unknown[] = [
    pod({ state: ended(1, unsent) }, { metadata }),
    pod({ state: { running: {} } }),
    pod({ state: ended(0) }),
    pod({ state: ended(1, 'default/big needs 3 GiB on the pod’s disk') }),
    { metadata: { deletionTimestamp: 'x' }, status: { initContainerStatuses: 'none' } },
    undefined,
    7,
  ];
  for (const one of quiet) assert.deepEqual(outcomesOf(one), [], JSON.stringify(one));
  for (const phase of ['Succeeded', 'Failed']) {
    const status = { ...(pod({ state: ended(1, unsent) })['status'] as Json), phase };
    assert.equal(
      outcomesOf(pod({}, { metadata, status })).length,
      1,
      'a pod that has ended is told of before anybody deletes it',
    );
  }
});
