import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseJuiceVolume } from '../../api/kinds.ts';
import type { JuiceVolume, VolumeStatus } from '../../api/volume.ts';
import type { Format } from '../../meta/format.ts';
import type { Observation } from './observation.ts';
import { nextStatus, sameStatus, transitions } from './status.ts';

const base = parseJuiceVolume({
  apiVersion: 'juicepod.io/v1alpha1',
  kind: 'JuiceVolume',
  metadata: { name: 'datasets', generation: 3, annotations: { 'juicepod.io/reconcile-at': 'noon' } },
  spec: { metadata: { redis: { addresses: ['redis:6379'] } }, storage: { file: { path: '/blocks' } } },
});
const ready = { type: 'Ready', status: 'True', reason: 'Succeeded', message: 'yes' } as const;
const start = Date.UTC(2026, 0, 1);
const MINUTE = 60_000;

function seen(bytes: number): Observation {
  const durability = { state: 'durable', message: 'x' } as const;
  const metadata = {
    state: 'volume',
    format: { capacity: 0, inodes: 0 } as Format,
    usage: { bytes, inodes: 7 },
    clients: [],
    staleSessions: 0,
    leaks: undefined,
    quotas: { own: [], others: undefined, failed: new Map(), done: new Set<string>() },
    durability,
    holder: undefined,
  } as const;
  return {
    conflict: undefined,
    secrets: undefined,
    target: undefined,
    metadata,
    storage: undefined,
    encryption: undefined,
    policyExists: undefined,
  };
}

function status(volume: JuiceVolume, bytes: number, now: number): VolumeStatus {
  return nextStatus(volume, { verdicts: [ready], uuid: 'u', seen: seen(bytes), secretNamespaces: 1 }, now);
}

test('the status says what was seen, and echoes the annotation that asked for it', () => {
  assert.deepEqual(status(base, 1536, start), {
    observedGeneration: 3,
    conditions: [{ ...ready, observedGeneration: 3, lastTransitionTime: '2026-01-01T00:00:00Z' }],
    volumeName: 'datasets',
    uuid: 'u',
    usage: { bytes: 1536, size: '1.5Ki', inodes: 7, observedAt: '2026-01-01T00:00:00Z' },
    sessions: { active: 0 },
    mountSecrets: { namespaces: 1 },
    lastHandledReconcileAt: 'noon',
  });
});

test('usage that does not change is written again only after an hour', () => {
  const first = { ...base, status: status(base, 10, start) };
  assert.ok(sameStatus(first.status, status(first, 10, start + 59 * MINUTE)));
  const later = status(first, 10, start + 60 * MINUTE);
  assert.equal(later.usage?.observedAt, '2026-01-01T01:00:00Z');
  assert.ok(!sameStatus(first.status, later));
  assert.equal(status(first, 11, start + MINUTE).usage?.observedAt, '2026-01-01T00:01:00Z');
});

test('a condition keeps its time while its status stands, and the order of conditions does not count', () => {
  const first = { ...base, status: status(base, 10, start) };
  const again = nextStatus(
    first,
    { verdicts: [{ ...ready, message: 'still' }], uuid: 'u', seen: seen(10), secretNamespaces: 1 },
    start + MINUTE,
  );
  assert.equal(again.conditions?.[0]?.lastTransitionTime, '2026-01-01T00:00:00Z');
  const two = [ready, { ...ready, type: 'Formatted' }].map((each) => ({ ...each, lastTransitionTime: 'x' }));
  assert.ok(sameStatus({ conditions: two }, { conditions: two.toReversed() }));
  assert.ok(!sameStatus({ conditions: two }, { conditions: two.slice(1) }));
});

test('what was known stays known while the database is away', () => {
  const first = { ...base, status: status(base, 10, start) };
  const away: Observation = { ...seen(0), metadata: { state: 'failed', reason: 'MetadataUnreachable', message: 'x' } };
  const next = nextStatus(first, { verdicts: [ready], uuid: 'u', seen: away, secretNamespaces: undefined }, start + 20 * MINUTE);
  assert.deepEqual(
    [next.usage, next.sessions, next.mountSecrets],
    [first.status.usage, first.status.sessions, first.status.mountSecrets],
  );
});

test('events are for what people wait for: a change of Ready, and a database that forgets', () => {
  const at = (type: string, value: 'True' | 'False', reason: string) => ({
    type,
    status: value,
    reason,
    message: `${type} is ${value}`,
    lastTransitionTime: 'x',
  });
  const good = [at('Ready', 'True', 'Succeeded'), at('MetadataDurable', 'True', 'Succeeded')];
  assert.deepEqual(transitions(good, good), []);
  assert.deepEqual(transitions(undefined, good), [{ type: 'Normal', reason: 'Succeeded', note: 'Ready is True' }]);
  assert.deepEqual(transitions(good, [at('Ready', 'False', 'InUse'), at('MetadataDurable', 'False', 'NotDurable')]), [
    { type: 'Warning', reason: 'InUse', note: 'Ready is False' },
    { type: 'Warning', reason: 'NotDurable', note: 'MetadataDurable is False' },
  ]);
  assert.deepEqual(transitions([at('MetadataDurable', 'False', 'NotDurable')], [at('MetadataDurable', 'True', 'Succeeded')]), []);
});
