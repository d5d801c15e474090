/**
 * The operator is killed at each write of its work, one after the other: to the API server, the database and the store. Another
 * one takes over, and ends where one that was not killed ends. At no moment between is a volume formatted twice, a key lost, or a
 * client left without what opens its volume.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Redis } from 'ioredis';
import { ROOT_INO } from '../../src/lib/int64.ts';
import { Secrets } from '../../src/kube/resources.ts';
import { parseFormat } from '../../src/meta/format.ts';
import { decryptSecrets } from '../../src/meta/format-secrets.ts';
import { openEngine, openMeta } from '../../src/meta/open.ts';
import { listQuotas } from '../../src/meta/quotas.ts';
import { NodeType } from '../../src/meta/types.ts';
import { openEncryptionKey } from '../../src/object/rsa-key.ts';
import { configOf } from '../../src/operator/volume/mountsecret.ts';
import type { SecretObject } from '../../src/operator/volume/secrets.ts';
import { type Server, startRedis } from '../servers.ts';
import { createHarness, type Harness } from './harness.ts';

let redis: Server & { url(db?: number): string };
let database: Redis;
const folder = mkdtempSync(join(tmpdir(), 'juicepod-operator-kill-'));
const blocks = join(folder, 'blocks');
before(async () => {
  redis = await startRedis(['--appendonly', 'yes']);
  database = new Redis(redis.url(0));
});
after(async () => {
  database.disconnect();
  await redis.stop();
  rmSync(folder, { recursive: true, force: true });
});

const PASSPHRASE = 'juicepod-passphrase-datasets';

const spec = () => ({
  metadata: { redis: { addresses: [`127.0.0.1:${redis.port}`] } },
  storage: { file: { path: blocks } },
});

/** Makes a directory that everybody may write to, and a file of user 1000 and group 7 in it, as a client does. */
async function fill(): Promise<void> {
  const meta = await openMeta(redis.url(0), { backgroundJobs: false });
  await meta.newSession('/test');
  const caller = (uid: number, gid: number) => ({ uid, gid, gids: [gid], pid: 1 });
  const { ino } = await meta.mkdir(caller(0, 0), ROOT_INO, Buffer.from('a'), 0o777, 0);
  await meta.mknod(caller(1000, 7), ino, Buffer.from('file'), NodeType.File, 0o644, 0, 0);
  await meta.close();
}

const byText = (a: string, b: string): number => (a < b ? -1 : Number(a > b));

const data = (secret: SecretObject | undefined, key: string): string | undefined => {
  const value = secret?.data?.[key];
  return value === undefined ? undefined : Buffer.from(value, 'base64').toString();
};

/** What must hold whenever anybody looks. */
async function invariants(harness: Harness, uuids: Set<string>): Promise<void> {
  const text = await database.get('setting');
  if (text === null) return;
  const format = decryptSecrets(parseFormat(text));
  uuids.add(format.uuid);
  assert.ok(uuids.size <= 1, `formatted more than once: ${[...uuids].join(', ')}`);
  if (format.encryptKey === '') return;
  const opens = (passphrases: readonly (string | undefined)[]): boolean =>
    passphrases.some((passphrase) => {
      try {
        openEncryptionKey(format.encryptKey, passphrase);
        return true;
      } catch {
        return false;
      }
    });
  const kept = harness.server.peek(Secrets, { namespace: 'data', name: PASSPHRASE });
  if (harness.volume()) assert.ok(opens([data(kept, 'passphrase'), data(kept, 'previous')]), 'the passphrase of the key is lost');
  for (const secret of harness.secrets()) {
    const { encryption } = configOf(secret) ?? {};
    assert.ok(
      opens([encryption?.passphrase, encryption?.previous]),
      `a client in ${secret.metadata.namespace} cannot open its volume`,
    );
  }
}

/** The world as it came out, without what differs from run to run. */
async function outcome(harness: Harness): Promise<unknown> {
  const volume = harness.volume();
  const text = await database.get('setting');
  const format = text === null ? undefined : decryptSecrets(parseFormat(text));
  const engine = format && (await openEngine(redis.url(0), { existing: true }));
  const quotas = engine && (await listQuotas(engine));
  await engine?.close();
  const secrets = (harness.server.objects(Secrets) as SecretObject[]).map(({ metadata, data: held }) => [
    metadata.namespace,
    metadata.name,
    Object.keys(held ?? {}).toSorted(byText),
    data({ metadata, data: held } as SecretObject, 'generation'),
  ]);
  const { status } = volume ?? {};
  const world = {
    finalizers: volume?.metadata.finalizers,
    status: status && {
      ...status,
      conditions: status.conditions?.map(({ type, status: is, reason }) => `${type} ${is} ${reason}`).toSorted(byText),
      usage: [status.usage?.bytes, status.usage?.inodes],
      credentials: undefined,
      leaks: undefined,
      encryption: status.encryption && { ...status.encryption, keyFingerprint: '' },
    },
    format: format && { ...format, encryptKey: format.encryptKey === '' ? '' : 'key' },
    quotas,
    secrets: secrets.toSorted((a, b) => byText(JSON.stringify(a), JSON.stringify(b))),
    objects: readdirSync(folder, { recursive: true, encoding: 'utf8' }).toSorted(byText),
  };
  return JSON.parse(JSON.stringify(world).replaceAll(volume?.metadata.uid ?? format?.uuid ?? 'no uid', 'UID')) as unknown;
}

interface Scenario {
  /** With an operator that nobody kills. */
  readonly prepare: (harness: Harness) => Promise<void>;
  /** What the operator then has to do, and dies of. */
  readonly change: (harness: Harness) => Promise<void>;
}

/** Until nothing is left to do. */
async function rest(harness: Harness): Promise<void> {
  for (let round = 0; round < 12; round++) {
    harness.writes();
    await harness.reconcile();
    if (harness.writes().length === 0) return;
  }
  assert.fail(`the volume does not come to rest: ${JSON.stringify(harness.volume()?.status?.conditions)}`);
}

/** One run; the operator dies at its write number `killAt`. Answers how it came out, and how many writes there were. */
async function run(scenario: Scenario, killAt: number): Promise<{ readonly end: unknown; readonly writes: number }> {
  await database.flushdb();
  rmSync(blocks, { recursive: true, force: true });
  const healthy = createHarness();
  for (const name of ['data', 'training', 'serving']) await healthy.createNamespace(name);
  await scenario.prepare(healthy);
  await rest(healthy);
  await scenario.change(healthy);
  const uuids = new Set<string>();
  await invariants(healthy, uuids);
  let writes = 0;
  let dead = false;
  const write = (): boolean => {
    dead ||= writes++ === killAt;
    return dead;
  };
  const mortal = createHarness({
    cluster: healthy.server,
    prove: (what) => {
      if (write()) throw new Error(`killed before ${what}`);
    },
  });
  mortal.frontend.fault = (method) => (dead || (method !== 'GET' && write()) ? 'reset' : undefined);
  try {
    await rest(mortal);
  } catch (error) {
    if (!dead) throw error;
  }
  await invariants(healthy, uuids);
  if (dead) await rest(createHarness({ cluster: healthy.server }));
  await invariants(healthy, uuids);
  return { end: await outcome(healthy), writes };
}

const grants = { allowedNamespaces: { from: 'All' } };
const encryption = { algorithm: 'AES256GCM' };
const made = async (harness: Harness): Promise<void> =>
  harness.createVolume({
    ...spec(),
    encryption,
    access: grants,
    quota: { capacity: '1Gi', users: [{ uid: 1000, inodes: 100 }], groups: [{ gid: 7, capacity: '1Mi' }] },
  });

const scenarios: Readonly<Record<string, Scenario>> = {
  'a new encrypted volume with limits, for three namespaces': { prepare: async () => {}, change: made },
  'a change of settings, limits and passphrase': {
    async prepare(harness) {
      await made(harness);
      await rest(harness);
      await fill();
    },
    change: (harness) =>
      harness.changeVolume((old) => ({
        ...old,
        format: { ...(old['format'] as object), trashRetention: '72h' },
        encryption: { ...(old['encryption'] as object), passphraseGeneration: 2 },
        quota: {
          inodes: 5000,
          directories: [{ path: '/a', capacity: '64Mi' }],
          users: [
            { uid: 1000, inodes: 200 },
            { uid: 2000, inodes: 1 },
          ],
        },
        access: { ...(old['access'] as object), allowedNamespaces: { from: 'Same' } },
      })),
  },
  'the deletion of a volume with its data': {
    async prepare(harness) {
      await made(harness);
      await harness.changeVolume((old) => ({ ...old, reclaimPolicy: 'Delete' }));
      await harness.annotate({ 'juicepod.io/confirm-delete': 'datasets' });
    },
    change: (harness) => harness.deleteVolume(),
  },
};

describe('an operator that is killed at each of its writes', () => {
  for (const [what, scenario] of Object.entries(scenarios))
    test(`ends as one that is not: ${what}`, async () => {
      const whole = await run(scenario, Number.POSITIVE_INFINITY);
      assert.ok(whole.writes > 5, `only ${whole.writes} writes`);
      for (let index = 0; index < whole.writes; index++) {
        const { end } = await run(scenario, index);
        assert.deepEqual(end, whole.end, `killed at write ${index + 1} of ${whole.writes}`);
      }
    });
});
