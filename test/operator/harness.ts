/**
 * A cluster in memory with the operator's reconcilers on it, driven by hand: `reconcile` runs one until it has nothing left to
 * do at once. Stores show what the API server has, without delay, so that every test is deterministic.
 */
import { JuiceCachePolicies, JuiceVolumes, parseJuiceCachePolicy, parseJuiceVolume } from '../../src/api/kinds.ts';
import type { JuiceCachePolicy } from '../../src/api/cachepolicy.ts';
import type { JuiceVolume, VolumeStatus } from '../../src/api/volume.ts';
import { createClient } from '../../src/kube/client.ts';
import { keyOf, Namespaces, Secrets } from '../../src/kube/resources.ts';
import { FakeApiServer } from '../../src/kube/testing/fake-apiserver.ts';
import { FakeFrontend } from '../../src/kube/testing/fake-transport.ts';
import type {
  EventInput,
  IndexFunction,
  KubeClient,
  KubeObject,
  ReconcileResult,
  Resource,
  Store,
} from '../../src/kube/types.ts';
import { type Clock, systemClock } from '../../src/lib/clock.ts';
import { nullLogger } from '../../src/lib/log.ts';
import { type Random, systemRandom } from '../../src/lib/random.ts';
import { cachePolicyReconciler } from '../../src/operator/cachepolicy/reconcile.ts';
import { type Backends, realBackends } from '../../src/operator/volume/backends.ts';
import { volumeIndexes } from '../../src/operator/volume/indexes.ts';
import { volumeReconciler } from '../../src/operator/volume/reconcile.ts';
import type { SecretObject } from '../../src/operator/volume/secrets.ts';

/** Shows the objects of a server as they are now. */
function liveStore<T extends KubeObject>(
  server: FakeApiServer,
  resource: Resource,
  indexes: Readonly<Record<string, IndexFunction<T>>> = {},
): Store<T> {
  const all = (): T[] => server.objects(resource) as T[];
  return {
    get size() {
      return all().length;
    },
    get: (key) => all().find((object) => keyOf(object) === key),
    keys: () => all().map(keyOf)[Symbol.iterator](),
    values: () => all()[Symbol.iterator](),
    byIndex: (name, value) => all().filter((object) => indexes[name]?.(object).includes(value)),
  };
}

export interface Harness {
  readonly server: FakeApiServer;
  readonly frontend: FakeFrontend;
  readonly client: KubeClient;
  readonly events: EventInput[];
  /** Creates a JuiceVolume; defaults are filled in as the API server would. */
  createVolume(spec: Record<string, unknown>, metadata?: Record<string, unknown>, status?: VolumeStatus): Promise<void>;
  createPolicy(name: string, spec: Record<string, unknown>): Promise<void>;
  createSecret(name: string, data: Readonly<Record<string, string>>, namespace?: string): Promise<void>;
  createNamespace(name: string, labels?: Readonly<Record<string, string>>): Promise<void>;
  /** Changes the spec of a volume, as kubectl would. */
  changeVolume(change: (spec: Record<string, unknown>) => Record<string, unknown>, name?: string): Promise<void>;
  annotate(annotations: Readonly<Record<string, string>>, name?: string): Promise<void>;
  deleteVolume(name?: string): Promise<void>;
  volume(name?: string, namespace?: string): JuiceVolume | undefined;
  /** `status reason` of a condition, or undefined. */
  condition(type: string, name?: string): string | undefined;
  message(type: string, name?: string): string;
  secrets(): readonly SecretObject[];
  reconcile(name?: string, namespace?: string): Promise<ReconcileResult | undefined | void>;
  reconcilePolicy(name: string): Promise<void>;
  /** Requests that change something, since the last call. */
  writes(): readonly string[];
}

const NAME = 'datasets';
const NAMESPACE = 'data';

export interface HarnessOptions {
  readonly backends?: Partial<Backends>;
  readonly random?: Random;
  readonly clock?: Clock;
  readonly prove?: (what: string) => void;
  readonly rotationPauseMs?: number;
  /** The API server of another harness: another operator on the same cluster. */
  readonly cluster?: FakeApiServer;
}

export function createHarness(options: HarnessOptions = {}): Harness {
  const server = options.cluster ?? new FakeApiServer({ resources: [JuiceVolumes, JuiceCachePolicies] });
  const frontend = new FakeFrontend(server);
  const client = createClient(frontend.transport());
  const events: EventInput[] = [];
  const recorder = { record: (event: EventInput) => void events.push(event), close: () => Promise.resolve() };
  const volumes = client.resource<JuiceVolume>(JuiceVolumes);
  const backends = { ...realBackends({ clock: systemClock, logger: nullLogger, patience: 400 }), ...options.backends };
  const volumeStore = liveStore<JuiceVolume>(server, JuiceVolumes, volumeIndexes);
  const reconcileVolume = volumeReconciler({
    client,
    volumes: volumeStore,
    namespaces: liveStore(server, Namespaces),
    policies: liveStore<JuiceCachePolicy>(server, JuiceCachePolicies),
    mountSecrets: liveStore<SecretObject>(server, Secrets, {
      volumeUid: ({ metadata }) => [metadata.labels?.['juicepod.io/volume-uid'] ?? ''],
    }),
    events: recorder,
    backends,
    prove: options.prove ?? (() => {}),
    rotationPauseMs: options.rotationPauseMs ?? 0,
    clock: options.clock ?? systemClock,
    random: options.random ?? systemRandom,
  });
  const reconcilePolicy = cachePolicyReconciler({
    client,
    policies: liveStore(server, JuiceCachePolicies),
    volumes: volumeStore,
    events: recorder,
    clock: systemClock,
  });
  const context = () => ({ signal: AbortSignal.timeout(60_000), log: nullLogger, reconcileID: 'test' });
  const find = (name = NAME, namespace = NAMESPACE): JuiceVolume | undefined => volumeStore.get(`${namespace}/${name}`);
  const condition = (type: string, name?: string) => find(name)?.status?.conditions?.find((each) => each.type === type);
  let seen = 0;

  return {
    server,
    frontend,
    client,
    events,
    async createVolume(spec, metadata = {}, status) {
      const object = {
        apiVersion: 'juicepod.io/v1alpha1',
        kind: 'JuiceVolume',
        metadata: { name: NAME, namespace: NAMESPACE, ...metadata },
        spec,
      };
      const { metadata: made } = await volumes.create(
        parseJuiceVolume(object) as unknown as Parameters<typeof volumes.create>[0],
      );
      if (status) await volumes.applyStatus({ metadata: made, status });
    },
    async createPolicy(name, spec) {
      const object = {
        apiVersion: 'juicepod.io/v1alpha1',
        kind: 'JuiceCachePolicy',
        metadata: { name, namespace: NAMESPACE },
        spec,
      };
      await client
        .resource(JuiceCachePolicies)
        .create(parseJuiceCachePolicy(object) as unknown as Parameters<typeof volumes.create>[0]);
    },
    async createSecret(name, data, namespace = NAMESPACE) {
      const encoded = Object.fromEntries(
        Object.entries(data).map(([key, value]) => [key, Buffer.from(value).toString('base64')]),
      );
      const secrets = client.resource(Secrets);
      await secrets.delete({ namespace, name });
      await secrets.create({ metadata: { name, namespace }, type: 'Opaque', data: encoded });
    },
    async createNamespace(name, labels = {}) {
      await client.resource(Namespaces).create({ metadata: { name, labels } });
    },
    async changeVolume(change, name = NAME) {
      const object = find(name);
      if (!object) throw new Error(`there is no volume ${name}`);
      const { spec } = parseJuiceVolume({ ...object, spec: change(structuredClone(object.spec)) });
      await volumes.patch({ namespace: NAMESPACE, name }, [{ op: 'replace', path: '/spec', value: spec }]);
    },
    async annotate(annotations, name = NAME) {
      await volumes.patch({ namespace: NAMESPACE, name }, [{ op: 'add', path: '/metadata/annotations', value: annotations }]);
    },
    deleteVolume: (name = NAME) => volumes.delete({ namespace: NAMESPACE, name }),
    volume: find,
    condition(type, name) {
      const found = condition(type, name);
      return found && `${found.status} ${found.reason}`;
    },
    message: (type, name) => condition(type, name)?.message ?? '',
    secrets: () => (server.objects(Secrets) as SecretObject[]).filter(({ type }) => type === 'juicepod.io/mount'),
    reconcile: (name = NAME, namespace = NAMESPACE) => reconcileVolume(`${namespace}/${name}`, context()),
    async reconcilePolicy(name) {
      await reconcilePolicy(`${NAMESPACE}/${name}`, context());
    },
    writes() {
      const fresh = frontend.requests.slice(seen).filter((request) => !request.startsWith('GET '));
      seen = frontend.requests.length;
      return fresh;
    },
  };
}
