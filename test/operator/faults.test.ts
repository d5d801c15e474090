/**
 * The whole operator (caches, watches, queue, reconcilers) against an API server that fails: answers of 409, 429 and 500, broken
 * connections, watches that are reset or too old, requests that are never answered. It must end where an operator with a good
 * server ends, by its watches, not by waiting for the next poll.
 */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { ApiError, NotLeadingError } from '../../src/kube/errors.ts';
import type { Fault } from '../../src/kube/testing/fake-transport.ts';
import { nullLogger } from '../../src/lib/log.ts';
import { runOperator } from '../../src/operator/index.ts';
import { createHarness, type Harness } from './harness.ts';
import { mountConfig, place } from './place.ts';
import { startRedis } from '../servers.ts';
import { until } from '../until.ts';

/** The operator over the harness's server, until the test is over. */
function operate(t: TestContext, harness: Harness): void {
  const stop = new AbortController();
  const running = runOperator({ client: harness.client, leaderElection: false, log: nullLogger, signal: stop.signal });
  t.after(async () => {
    harness.frontend.fault = undefined;
    stop.abort(new Error('the test is over'));
    await running.catch(() => {});
  });
}

const error = (code: number, reason: string): ApiError => new ApiError(code, `injected ${code}`, { reason });

/** Each thirteenth request fails, with one kind of failure after the other. (The transport of a real client tries reads again.) */
function unreliable(): (method: string, path: string) => Fault | undefined {
  const faults: readonly Fault[] = [
    error(500, 'InternalError'),
    error(409, 'Conflict'),
    'reset',
    error(429, 'TooManyRequests'),
    error(410, 'Expired'),
    error(503, 'ServiceUnavailable'),
  ];
  let count = 0;
  return () => (++count % 13 === 0 ? faults[(count / 13) % faults.length] : undefined);
}

test('a volume becomes ready, follows its Secret and is released, while each thirteenth request fails', async (t) => {
  const server = await startRedis(['--requirepass', 'right']);
  t.after(() => server.stop());
  const { spec } = place(t);
  const harness = createHarness();
  await harness.createNamespace('data');
  await harness.createNamespace('training');
  harness.frontend.fault = unreliable();
  operate(t, harness);
  const quietly = async (work: () => Promise<void>): Promise<void> => {
    const { fault } = harness.frontend;
    harness.frontend.fault = undefined;
    await work();
    harness.frontend.fault = fault;
  };
  await quietly(() =>
    harness.createVolume({
      ...spec,
      metadata: { redis: { addresses: [`127.0.0.1:${server.port}`], authSecretRef: { name: 'late' } } },
      encryption: { algorithm: 'AES256GCM' },
      access: { allowedNamespaces: { from: 'All' } },
      quota: { capacity: '1Gi', users: [{ uid: 9, inodes: 9 }] },
    }),
  );
  await until('told that the Secret is missing', () => harness.condition('Ready') === 'False SecretNotFound');
  await quietly(() => harness.createSecret('late', { password: 'wrong' }));
  await until('told that the password is wrong', () => harness.condition('Ready') === 'False MetadataDenied');
  await quietly(() => harness.createSecret('late', { password: 'right' }));
  await until('ready', () => harness.condition('Ready') === 'True Succeeded' && harness.secrets().length === 2);
  await until('limits set', () => harness.condition('QuotasApplied') === 'True Succeeded');
  const { uuid } = harness.volume()?.status ?? {};
  assert.equal(uuid, harness.volume()?.metadata.uid);
  await quietly(() => harness.deleteVolume());
  await until('released', () => harness.volume() === undefined);
  assert.deepEqual(harness.secrets(), []);
});

for (const how of ['reset', 'gone', 'end'] as const)
  test(`what happens while watches are broken (${how}) is seen when they are back`, async (t) => {
    const { spec } = place(t);
    const harness = createHarness();
    await harness.createNamespace('data');
    operate(t, harness);
    await harness.createVolume({ ...spec, encryption: { algorithm: 'AES256GCM', passphraseSecretRef: { name: 'late' } } });
    await until('told that the Secret is missing', () => harness.condition('Ready') === 'False SecretNotFound');
    // Nobody is served meanwhile, so that the change is not seen by the watch that is broken.
    harness.frontend.fault = () => 'reset';
    harness.frontend.breakWatches(how);
    harness.frontend.fault = undefined;
    await harness.createSecret('late', { passphrase: 'words' });
    await until('ready', () => harness.condition('Ready') === 'True Succeeded');
    harness.frontend.breakWatches(how);
    await harness.changeVolume((old) => ({ ...old, format: { ...(old['format'] as object), trashRetention: '48h' } }));
    await until('followed', () => harness.volume()?.status?.observedGeneration === harness.volume()?.metadata.generation);
    await harness.createSecret('late', { passphrase: 'other words' });
    await until('both passphrases', () => mountConfig(harness).encryption?.previous === 'words');
  });

test('an operator that does not lead any more writes to no database and no store', async (t) => {
  const { spec, database, folder } = place(t);
  const { readdirSync } = await import('node:fs');
  let leading = true;
  const prove = (): void => {
    if (!leading) throw new NotLeadingError('somebody else leads');
  };
  const harness = createHarness({ prove });
  await harness.createVolume({ ...spec, quota: { capacity: '1Gi' } });
  leading = false;
  await harness.reconcile();
  assert.equal(await database.dbsize(), 0);
  assert.deepEqual(readdirSync(folder), []);
  leading = true;
  await harness.reconcile();
  assert.equal(harness.condition('Ready'), 'True Succeeded');
  const before = await database.get('setting');
  leading = false;
  await harness.changeVolume((old) => ({ ...old, quota: { capacity: '2Gi', users: [{ uid: 5, inodes: 5 }] } }));
  await harness.reconcile();
  assert.equal(await database.get('setting'), before);
  assert.equal(await database.exists('userQuota'), 0);
});

test('what the API server forbids is said in a condition and an event, and whoever can mount the volume still can', async (t) => {
  const { spec } = place(t);
  const harness = createHarness();
  await harness.createNamespace('data');
  await harness.createNamespace('training');
  await harness.createVolume(spec);
  await harness.reconcile();
  const before = mountConfig(harness);
  await harness.changeVolume((old) => ({ ...old, access: { allowedNamespaces: { from: 'All' }, readOnly: true } }));
  let forbidden = /secrets/;
  harness.frontend.fault = (method, path) =>
    method !== 'GET' && forbidden.test(path) ? new ApiError(403, `cannot patch ${path}`, { reason: 'Forbidden' }) : undefined;
  await assert.rejects(harness.reconcile(), /cannot patch/);
  assert.equal(harness.condition('Ready'), 'True Succeeded');
  assert.equal(harness.condition('Reconciling'), 'True ApiForbidden');
  assert.match(harness.message('Reconciling'), /cannot patch .*secrets/);
  assert.ok(harness.events.some(({ type, reason }) => type === 'Warning' && reason === 'ApiForbidden'));
  assert.deepEqual(mountConfig(harness), before);
  // Where the status is what it may not write, the event is left.
  harness.events.splice(0);
  forbidden = /secrets|status/;
  await assert.rejects(harness.reconcile(), /cannot patch .*secrets/);
  assert.deepEqual(
    harness.events.map(({ reason }) => reason),
    ['ApiForbidden'],
  );
  harness.frontend.fault = undefined;
  await harness.reconcile();
  assert.equal(harness.condition('Reconciling'), undefined);
  const { generation, readOnly } = mountConfig(harness, 'training');
  assert.deepEqual([generation, readOnly], [before.generation, true], 'what is no credential is given, and not counted');
});
