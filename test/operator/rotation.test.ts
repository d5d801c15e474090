/** Credentials that change: proved, in every mount Secret at once, counted, and said of whom they have reached. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Redis } from 'ioredis';
import { Secrets } from '../../src/kube/resources.ts';
import { openEngine } from '../../src/meta/open.ts';
import { startRedis } from '../servers.ts';
import { createHarness, type Harness } from './harness.ts';
import { mountConfig, place } from './place.ts';

/** A session as a sidecar of ours writes it, or, without a generation, the official client. */
async function session(harness: Harness, sid: number, host: string, generation?: string, expired = false): Promise<void> {
  const engine = await openEngine(mountConfig(harness).metaUrl, { existing: true });
  const info = {
    Version: '1.4.1',
    HostName: host,
    MountPoint: generation === undefined ? '/mnt/jfs' : '/juicepod/mnt/0',
    MountTime: '2026-01-01T00:00:00Z',
    ProcessID: 1,
    ...(generation === undefined ? {} : { CredentialsGeneration: generation }),
  };
  await engine.removeSession(sid);
  await engine.putSession(sid, Math.floor(Date.now() / 1000) + (expired ? -600 : 600), JSON.stringify(info));
  await engine.close();
}

describe('a password that is replaced', () => {
  test('reaches every mount Secret with the next generation, when it works and not before', async (t) => {
    const { spec } = place(t);
    const server = await startRedis(['--appendonly', 'yes']);
    t.after(() => server.stop());
    const admin = new Redis(server.url(0));
    t.after(() => admin.disconnect());
    await admin.call('ACL', 'SETUSER', 'one', 'on', '>first', '~*', '&*', '+@all');
    const harness = createHarness();
    for (const name of ['data', 'training']) await harness.createNamespace(name);
    const authSecretRef = { name: 'auth' };
    await harness.createSecret('auth', { username: 'one', password: 'first' });
    await harness.createVolume({
      ...spec,
      metadata: { redis: { addresses: [`127.0.0.1:${server.port}`], authSecretRef } },
      access: { allowedNamespaces: { from: 'All' }, readOnly: true },
    });
    await harness.reconcile();
    const seen = (namespace: string) => {
      const { metaUrl, generation, readOnly } = mountConfig(harness, namespace);
      return [new URL(metaUrl).password, generation, readOnly];
    };
    for (const namespace of ['data', 'training']) assert.deepEqual(seen(namespace), ['first', '1', true]);

    // The Secret comes before the server takes the new password.
    await harness.createSecret('auth', { username: 'one', password: 'second' });
    await harness.reconcile();
    assert.equal(harness.condition('Ready'), 'False MetadataDenied');
    for (const namespace of ['data', 'training']) assert.deepEqual(seen(namespace), ['first', '1', true]);
    await admin.call('ACL', 'SETUSER', 'one', '>second', '<first');
    await harness.reconcile();
    assert.equal(harness.condition('Ready'), 'True Succeeded');
    for (const namespace of ['data', 'training']) assert.deepEqual(seen(namespace), ['second', '2', true]);
    assert.equal(harness.volume()?.status?.credentials?.generation, '2');
    assert.doesNotMatch(JSON.stringify([harness.volume(), harness.events]), /first|second/);
  });

  test('whose mount Secrets somebody deleted is counted on, never back', async (t) => {
    const { spec } = place(t);
    const harness = createHarness();
    await harness.createVolume(spec);
    await harness.reconcile();
    const ref = { namespace: 'data', name: 'juicepod-mount-datasets' };
    for (const generation of ['2', '3']) {
      await harness.client.resource(Secrets).delete(ref);
      await harness.reconcile();
      assert.equal(mountConfig(harness).generation, generation);
    }
  });
});

describe('the status', () => {
  test('says which pods run which generation, who does not say, and who is gone', async (t) => {
    const { spec } = place(t);
    const harness = createHarness();
    await harness.createVolume(spec);
    await harness.reconcile();
    await session(harness, 4, 'trainer-0', '1');
    await session(harness, 5, 'trainer-1', '0');
    await session(harness, 6, 'a-laptop');
    await session(harness, 7, 'long-gone', '1', true);
    await harness.reconcile();
    const { sessions, credentials } = harness.volume()?.status ?? {};
    assert.equal(sessions?.active, 3);
    assert.deepEqual(
      sessions?.clients?.map(({ id, host, pod, generation }) => [id, host, pod, generation]),
      [
        [4, 'trainer-0', 'trainer-0', '1'],
        [5, 'trainer-1', 'trainer-1', '0'],
        [6, 'a-laptop', undefined, undefined],
      ],
    );
    assert.deepEqual([credentials?.current, credentials?.outdated, credentials?.unknown], [1, 1, 1]);
    assert.equal(harness.volume()?.status?.leaks?.staleSessions, 1);
    assert.equal(harness.condition('CredentialsCurrent'), 'False ClientsOutdated');
    assert.match(harness.message('CredentialsCurrent'), /1 of 3 clients .* trainer-1 \(generation 0\)/);
    assert.equal(harness.condition('Ready'), 'True Succeeded');
    await session(harness, 5, 'trainer-1', '1');
    await harness.reconcile();
    assert.equal(harness.condition('CredentialsCurrent'), 'True Succeeded');
    harness.writes();
    await harness.reconcile();
    assert.deepEqual(harness.writes(), []);
  });

  test('lists fifty sessions and counts all', async (t) => {
    const { spec } = place(t);
    const harness = createHarness();
    await harness.createVolume(spec);
    await harness.reconcile();
    for (let sid = 1; sid <= 60; sid++) await session(harness, sid, `pod-${sid}`, '1');
    await harness.reconcile();
    const { sessions, credentials } = harness.volume()?.status ?? {};
    assert.deepEqual([sessions?.active, sessions?.clients?.length, credentials?.current], [60, 50, 60]);
  });
});
