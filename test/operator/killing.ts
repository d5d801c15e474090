/**
 * An operator that is killed at each of its writes, one after the other: to the API server, the database and the store. Another
 * one takes over, and ends where one that was not killed ends. At no moment between is a volume formatted twice, a key lost, or a
 * client left without what opens its volume.
 *
 * Over any API server: it is reached by a `Transport`, whose connection breaks for good where the operator dies. Each operator
 * begins with empty hands, and sees at each reconcile what the server has.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import type { JuiceCachePolicy } from '../../src/api/cachepolicy.ts';
import { JuiceCachePolicies, JuiceVolumes, parseJuiceVolume } from '../../src/api/kinds.ts';
import type { JuiceVolume } from '../../src/api/volume.ts';
import { createClient } from '../../src/kube/client.ts';
import { ApiError } from '../../src/kube/errors.ts';
import { keyOf, Namespaces, Secrets } from '../../src/kube/resources.ts';
import type { IndexFunction, KubeClient, KubeObject, Store, Transport } from '../../src/kube/types.ts';
import { systemClock } from '../../src/lib/clock.ts';
import { ROOT_INO } from '../../src/lib/int64.ts';
import { nullLogger } from '../../src/lib/log.ts';
import { systemRandom } from '../../src/lib/random.ts';
import { parseFormat } from '../../src/meta/format.ts';
import { decryptSecrets } from '../../src/meta/format-secrets.ts';
import { openEngine, openMeta } from '../../src/meta/open.ts';
import { listQuotas } from '../../src/meta/quotas.ts';
import { NodeType } from '../../src/meta/types.ts';
import { openEncryptionKey } from '../../src/object/rsa-key.ts';
import { realBackends } from '../../src/operator/volume/backends.ts';
import { volumeIndexes } from '../../src/operator/volume/indexes.ts';
import { configOf } from '../../src/operator/volume/mountsecret.ts';
import { volumeReconciler } from '../../src/operator/volume/reconcile.ts';
import type { SecretObject } from '../../src/operator/volume/secrets.ts';
import { startRedis } from '../servers.ts';
import { removeFolder } from '../remove-folder.ts';

type RedisServer = Awaited<ReturnType<typeof startRedis>>;

const NAME = 'datasets';
const PASSPHRASE = `juicepod-passphrase-${NAME}`;
/** On the namespaces that may use the volume. */
const GRANT = 'juicepod-test/kill';

/** A connection of one operator. It counts writes, to anything, and breaks for good before write number `killAt`. */
class Mortal implements Transport {
  readonly server: string;
  readonly #inner: Transport;
  readonly #killAt: number;
  writes = 0;
  /** Those to the API server. */
  requests = 0;
  dead = false;

  constructor(inner: Transport, killAt = Number.POSITIVE_INFINITY) {
    this.server = inner.server;
    this.#inner = inner;
    this.#killAt = killAt;
  }

  /** Throws where the operator is dead, or is killed before this write. */
  write(what: string): void {
    this.dead ||= this.writes++ === this.#killAt;
    if (this.dead) throw new ApiError(0, `killed before ${what}`, { reason: 'Unreachable' });
  }

  async request(request: Parameters<Transport['request']>[0]): Promise<unknown> {
    if (request.method !== 'GET') {
      this.write(`${request.method} ${request.path}`);
      this.requests++;
    } else if (this.dead) throw new ApiError(0, 'killed before', { reason: 'Unreachable' });
    return await this.#inner.request(request);
  }

  stream(request: Parameters<Transport['stream']>[0]): ReturnType<Transport['stream']> {
    return this.#inner.stream(request);
  }

  /** What is below is shared. */
  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** A store that shows these objects. */
function storeOf<T extends KubeObject>(
  objects: readonly T[],
  indexes: Readonly<Record<string, IndexFunction<T>>> = {},
): Store<T> {
  const all = new Map(objects.map((object) => [keyOf(object), object]));
  return {
    size: all.size,
    get: (key) => all.get(key),
    keys: () => all.keys(),
    values: () => all.values(),
    byIndex: (name, value) => objects.filter((object) => indexes[name]?.(object).includes(value)),
  };
}

const byText = (a: string, b: string): number => (a < b ? -1 : Number(a > b));

const textOf = (secret: SecretObject | undefined, key: string): string | undefined => {
  const value = secret?.data?.[key];
  return value === undefined ? undefined : Buffer.from(value, 'base64').toString();
};

/** Where operators are killed: namespaces of an API server, a database and a folder. Everything in them is ours. */
export class Ground implements AsyncDisposable {
  readonly #transport: Transport;
  readonly #client: KubeClient;
  readonly #namespaces: readonly [string, ...string[]];
  readonly #redis: RedisServer;
  readonly #database: Redis;
  readonly #folder: string;

  private constructor(transport: Transport, namespaces: readonly [string, ...string[]], redis: RedisServer) {
    this.#transport = transport;
    this.#client = createClient(transport);
    this.#namespaces = namespaces;
    this.#redis = redis;
    this.#database = new Redis(redis.url(0));
    this.#folder = mkdtempSync(join(tmpdir(), 'juicepod-operator-kill-'));
  }

  /** @param namespaces they are made where they are missing; the volume is in the first, and the others may use it. */
  static async open(transport: Transport, namespaces: readonly [string, ...string[]]): Promise<Ground> {
    const ground = new Ground(transport, namespaces, await startRedis(['--appendonly', 'yes']));
    const client = ground.#client.resource(Namespaces);
    for (const name of namespaces)
      if (!(await client.find({ name }))) await client.create({ metadata: { name, labels: { [GRANT]: 'yes' } } });
    return ground;
  }

  get #home(): string {
    return this.#namespaces[0];
  }

  get spec(): Record<string, unknown> {
    return {
      metadata: { redis: { addresses: [`127.0.0.1:${this.#redis.port}`] } },
      storage: { file: { path: join(this.#folder, 'blocks') } },
    };
  }

  async volume(): Promise<JuiceVolume | undefined> {
    return await this.#client.resource<JuiceVolume>(JuiceVolumes).find({ namespace: this.#home, name: NAME });
  }

  async secrets(): Promise<readonly SecretObject[]> {
    const lists = this.#namespaces.map((namespace) => this.#client.resource<SecretObject>(Secrets).list({ namespace }));
    return (await Promise.all(lists)).flatMap(({ items }) => items);
  }

  /** Creates the volume; defaults are filled in as the API server would. */
  async create(spec: Record<string, unknown>): Promise<void> {
    const object = {
      apiVersion: 'juicepod.io/v1alpha1',
      kind: 'JuiceVolume',
      metadata: { name: NAME, namespace: this.#home },
      spec,
    };
    await this.#client.resource(JuiceVolumes).create(parseJuiceVolume(object) as never);
  }

  async change(change: (spec: Record<string, unknown>) => Record<string, unknown>): Promise<void> {
    const object = await this.volume();
    assert.ok(object);
    const { spec } = parseJuiceVolume({ ...object, spec: change(structuredClone(object.spec)) });
    await this.#patch([{ op: 'replace', path: '/spec', value: spec }]);
  }

  annotate(annotations: Readonly<Record<string, string>>): Promise<void> {
    return this.#patch([{ op: 'add', path: '/metadata/annotations', value: annotations }]);
  }

  delete(): Promise<void> {
    return this.#client.resource(JuiceVolumes).delete({ namespace: this.#home, name: NAME });
  }

  async #patch(operations: Parameters<ReturnType<KubeClient['resource']>['patch']>[1]): Promise<void> {
    await this.#client.resource(JuiceVolumes).patch({ namespace: this.#home, name: NAME }, operations);
  }

  /** Makes a directory that everybody may write to, and a file of user 1000 and group 7 in it, as a client does. */
  async fill(): Promise<void> {
    const meta = await openMeta(this.#redis.url(0), { backgroundJobs: false });
    await meta.newSession('/test');
    const caller = (uid: number, gid: number) => ({ uid, gid, gids: [gid], pid: 1 });
    const { ino } = await meta.mkdir(caller(0, 0), ROOT_INO, Buffer.from('a'), 0o777, 0);
    await meta.mknod(caller(1000, 7), ino, Buffer.from('file'), NodeType.File, 0o644, 0, 0);
    await meta.close();
  }

  /** As it was before anything. */
  async clear(): Promise<void> {
    if (await this.volume()) {
      await this.#patch([{ op: 'add', path: '/metadata/finalizers', value: [] }]);
      await this.delete();
    }
    for (const { metadata } of await this.secrets())
      await this.#client.resource(Secrets).delete({ namespace: metadata.namespace, name: metadata.name });
    await this.#database.flushdb();
    removeFolder(join(this.#folder, 'blocks'));
  }

  /** Lets an operator work until nothing is left to do. Resolves with how much it wrote; rejects where it dies. */
  async operate(killAt?: number): Promise<Mortal> {
    const mortal = new Mortal(this.#transport, killAt);
    const client = createClient(mortal);
    for (let round = 0; round < 12 && !mortal.dead; round++) {
      const before = mortal.requests;
      try {
        await this.#reconcile(client, (what) => mortal.write(what));
      } catch (error) {
        if (!mortal.dead) throw error;
      }
      if (mortal.dead || mortal.requests === before) return mortal;
    }
    assert.fail(`the volume does not come to rest: ${JSON.stringify((await this.volume())?.status?.conditions)}`);
  }

  async #reconcile(client: KubeClient, prove: (what: string) => void): Promise<void> {
    const [volumes, policies, namespaces, secrets] = await Promise.all([
      client.resource<JuiceVolume>(JuiceVolumes).list({ namespace: this.#home }),
      client.resource<JuiceCachePolicy>(JuiceCachePolicies).list({ namespace: this.#home }),
      client.resource(Namespaces).list({ labelSelector: `${GRANT}=yes` }),
      this.secrets(),
    ]);
    const reconcile = volumeReconciler({
      client,
      volumes: storeOf(volumes.items, volumeIndexes),
      policies: storeOf(policies.items),
      namespaces: storeOf(namespaces.items),
      mountSecrets: storeOf(secrets, { volumeUid: ({ metadata }) => [metadata.labels?.['juicepod.io/volume-uid'] ?? ''] }),
      events: { record: () => {}, close: () => Promise.resolve() },
      backends: realBackends({ clock: systemClock, logger: nullLogger, patience: 400 }),
      prove,
      rotationPauseMs: 0,
      clock: systemClock,
      random: systemRandom,
    });
    const context = { signal: AbortSignal.timeout(60_000), log: nullLogger, reconcileID: 'test' };
    await reconcile(`${this.#home}/${NAME}`, context);
  }

  /** What must hold whenever anybody looks. `uuids` are those of all volumes that were ever seen. */
  async check(uuids: Set<string>): Promise<void> {
    const text = await this.#database.get('setting');
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
    const secrets = await this.secrets();
    const kept = secrets.find(({ metadata }) => metadata.namespace === this.#home && metadata.name === PASSPHRASE);
    if (await this.volume())
      assert.ok(opens([textOf(kept, 'passphrase'), textOf(kept, 'previous')]), 'the passphrase of the key is lost');
    for (const secret of secrets.filter(({ type }) => type === 'juicepod.io/mount')) {
      const { encryption } = configOf(secret) ?? {};
      assert.ok(
        opens([encryption?.passphrase, encryption?.previous]),
        `a client in ${secret.metadata.namespace} cannot open its volume`,
      );
    }
  }

  /** The world as it came out, without what differs from run to run. */
  async outcome(): Promise<unknown> {
    const volume = await this.volume();
    const text = await this.#database.get('setting');
    const format = text === null ? undefined : decryptSecrets(parseFormat(text));
    const engine = format && (await openEngine(this.#redis.url(0), { existing: true }));
    const quotas = engine && (await listQuotas(engine));
    await engine?.close();
    const secrets = (await this.secrets()).map((secret) => [
      secret.metadata.namespace,
      secret.metadata.name,
      Object.keys(secret.data ?? {}).toSorted(byText),
      textOf(secret, 'generation'),
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
      objects: readdirSync(this.#folder, { recursive: true, encoding: 'utf8' }).toSorted(byText),
    };
    return JSON.parse(JSON.stringify(world).replaceAll(volume?.metadata.uid ?? format?.uuid ?? 'no uid', 'UID')) as unknown;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#database.disconnect();
    await this.#redis.stop();
    removeFolder(this.#folder);
  }
}

interface Work {
  /** With an operator that nobody kills. */
  readonly prepare: (ground: Ground) => Promise<void>;
  /** What the operator then has to do, and dies of. */
  readonly change: (ground: Ground) => Promise<void>;
}

const made = async (ground: Ground): Promise<void> =>
  ground.create({
    ...ground.spec,
    encryption: { algorithm: 'AES256GCM' },
    access: { allowedNamespaces: { from: 'Selector', selector: { matchLabels: { [GRANT]: 'yes' } } } },
    quota: { capacity: '1Gi', users: [{ uid: 1000, inodes: 100 }], groups: [{ gid: 7, capacity: '1Mi' }] },
  });

/** What an operator is killed at. */
export const works: Readonly<Record<string, Work>> = {
  'a new encrypted volume with limits, for three namespaces': { prepare: async () => {}, change: made },
  'a change of settings, limits and passphrase': {
    async prepare(ground) {
      await made(ground);
      await ground.operate();
      await ground.fill();
    },
    change: (ground) =>
      ground.change((old) => ({
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
        access: { allowedNamespaces: { from: 'Same' } },
      })),
  },
  'the deletion of a volume with its data': {
    async prepare(ground) {
      await made(ground);
      await ground.change((old) => ({ ...old, reclaimPolicy: 'Delete' }));
      await ground.annotate({ 'juicepod.io/confirm-delete': NAME });
    },
    change: (ground) => ground.delete(),
  },
};

/** One run; the operator dies at its write number `killAt`. Answers how it came out, and how many writes there were. */
async function run(ground: Ground, work: Work, killAt?: number): Promise<{ readonly end: unknown; readonly writes: number }> {
  await ground.clear();
  await work.prepare(ground);
  await ground.operate();
  await work.change(ground);
  const uuids = new Set<string>();
  await ground.check(uuids);
  const { writes, dead } = await ground.operate(killAt);
  await ground.check(uuids);
  if (dead) await ground.operate();
  await ground.check(uuids);
  return { end: await ground.outcome(), writes };
}

/** Kills an operator at each of its writes. Resolves with how many there were. */
export async function killAtEachWrite(ground: Ground, work: Work): Promise<number> {
  const whole = await run(ground, work);
  assert.ok(whole.writes > 5, `only ${whole.writes} writes`);
  for (let index = 0; index < whole.writes; index++) {
    const { end } = await run(ground, work, index);
    assert.deepEqual(end, whole.end, `killed at write ${index + 1} of ${whole.writes}`);
  }
  await ground.clear();
  return whole.writes;
}
