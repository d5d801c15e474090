/**
 * `juicepod operator`: the process that keeps JuiceVolumes and JuiceCachePolicies true. Two replicas or more, one of them at
 * work (a Lease); the others keep their caches warm.
 */
import { JuiceCachePolicies, JuiceVolumes } from '../api/kinds.ts';
import { randomUUID } from 'node:crypto';
import { Registry } from 'prom-client';
import type { JuiceCachePolicy } from '../api/cachepolicy.ts';
import { annotations, labels, MANAGED_BY, MOUNT_SECRET_TYPE } from '../api/group.ts';
import type { JuiceVolume } from '../api/volume.ts';
import { connect } from '../kube/client.ts';
import { findCondition } from '../kube/conditions.ts';
import { serveHealth } from '../kube/health.ts';
import { createManager } from '../kube/manager.ts';
import { withoutManagedFields } from '../kube/reflector.ts';
import { keyOf, Namespaces, Secrets } from '../kube/resources.ts';
import { annotationsChanged, anyOf, forKind, generationChanged, labelsChanged, watches } from '../kube/source.ts';
import type { KubeClient, KubeObject, Manager, Predicate, Store } from '../kube/types.ts';
import { type Clock, systemClock } from '../lib/clock.ts';
import type { Logger } from '../lib/log.ts';
import { createLogger } from '../lib/winston.ts';
import { type Random, systemRandom } from '../lib/random.ts';
import { cachePolicyReconciler } from './cachepolicy/reconcile.ts';
import { rolloutReconciler } from './rollout/reconcile.ts';
import { type Backends, realBackends } from './volume/backends.ts';
import { addSweep } from './sweep/reconcile.ts';
import { policyKeys, volumeIndexes, YES } from './volume/indexes.ts';
import { volumeMetrics } from './volume/metrics.ts';
import { volumeReconciler } from './volume/reconcile.ts';
import type { SecretObject } from './volume/secrets.ts';

export interface OperatorOptions {
  /** @default the cluster this process runs in, else the kubeconfig */
  readonly client?: KubeClient;
  /** Namespace of the Lease. @default the client's own */
  readonly namespace?: string;
  /** Volumes, Secrets and pods of these namespaces only. @default all */
  readonly namespaces?: readonly string[];
  /** False: no Lease; for tests, and where there is one replica by construction. @default true */
  readonly leaderElection?: boolean;
  /** Port of /livez, /readyz and /metrics; 0 for any free one, undefined for none. */
  readonly port?: number;
  readonly log?: Logger;
  /** Where everything is counted; the client's requests too where it was made with it. @default an own one */
  readonly metrics?: Registry;
  readonly backends?: Backends;
  /** The image that the webhook gives to clients, for roll-outs where a volume names none. */
  readonly clientImage?: string;
  /** Prefixes of images that a volume may choose for pods of other namespaces. @default none */
  readonly allowedImages?: readonly string[];
  readonly clock?: Clock;
  readonly random?: Random;
  /** Ends the operator: reconciles are finished, the Lease is released. */
  readonly signal: AbortSignal;
}

const LEASE = 'juicepod-operator';

/** Adds the controllers to a manager. Answers the volumes that they see. */
function addControllers(
  manager: Manager,
  options: Pick<OperatorOptions, 'namespaces' | 'clientImage' | 'allowedImages'> & {
    readonly backends: Backends;
    readonly clock: Clock;
    readonly random: Random;
  },
): Store<JuiceVolume> {
  const { backends, clock, random } = options;
  const volumes = manager.reflector<JuiceVolume>(JuiceVolumes, { indexes: volumeIndexes, transform: slim });
  const policies = manager.reflector<JuiceCachePolicy>(JuiceCachePolicies);
  const namespaces = manager.reflector(Namespaces, { metadataOnly: true });
  // Names only: what is in the Secrets of others is read live, when it is needed, and not kept.
  // Releases of Helm are many, and no credentials; our own Secrets are seen below.
  const secrets = manager.reflector(Secrets, {
    metadataOnly: true,
    fieldSelector: `type!=${MOUNT_SECRET_TYPE},type!=helm.sh/release.v1`,
    transform: bare,
  });
  // The label is on mount Secrets alone: keys and passphrases that the operator made are not kept in memory either.
  const mountSecrets = manager.reflector<SecretObject>(Secrets, {
    labelSelector: `${labels.managedBy}=${MANAGED_BY},${labels.volumeUid}`,
    indexes: { volumeUid: ({ metadata }) => [metadata.labels?.[labels.volumeUid] ?? ''] },
  });
  const byIndex = (index: keyof typeof volumeIndexes, value: string): string[] => volumes.store.byIndex(index, value).map(keyOf);
  // Status alone does not count, or every write of ours would bring the next reconcile.
  const meant = anyOf(generationChanged, annotationsChanged);

  manager.controller({
    name: 'juicevolume',
    // Databases that are away take a worker for seconds each.
    concurrency: 8,
    reconcile: volumeReconciler({
      client: manager.client,
      volumes: volumes.store,
      policies: policies.store,
      namespaces: namespaces.store,
      ...(options.namespaces ? { watched: options.namespaces } : {}),
      mountSecrets: mountSecrets.store,
      events: manager.events('juicepod.io/volume'),
      backends,
      prove: () => manager.assertLeading(),
      clock,
      random,
    }),
    sources: [
      forKind(volumes, meant),
      // A volume that goes away, or gets its UUID, may end somebody's conflict.
      watches(volumes, (gone) => (gone.metadata.deletionTimestamp === undefined ? [] : byIndex('conflict', YES)), meant),
      watches(secrets, (secret) => byIndex('secret', keyOf(secret))),
      watches(mountSecrets, ({ metadata }) => {
        const key = metadata.annotations?.[annotations.volume];
        const volume = key === undefined ? undefined : volumes.store.get(key);
        return volume && volume.metadata.uid === metadata.labels?.[labels.volumeUid] ? [keyOf(volume)] : [];
      }),
      watches(namespaces, () => byIndex('granting', YES), labelsChanged),
      watches(policies, (policy) => byIndex('policy', keyOf(policy)), existenceChanged),
    ],
  });
  manager.controller({
    name: 'juicecachepolicy',
    reconcile: cachePolicyReconciler({
      client: manager.client,
      policies: policies.store,
      volumes: volumes.store,
      events: manager.events('juicepod.io/cache-policy'),
      clock,
    }),
    sources: [forKind(policies, generationChanged), watches(volumes, policyKeys, generationChanged)],
  });
  manager.controller({
    name: 'rollout',
    concurrency: 2,
    reconcile: rolloutReconciler({
      client: manager.client,
      resource: JuiceVolumes,
      volumes: volumes.store,
      policies: policies.store,
      events: manager.events('juicepod.io/rollout'),
      standardImage: options.clientImage,
      allowedImages: options.allowedImages ?? [],
      clock,
      random,
    }),
    sources: [
      forKind(volumes, meant),
      watches(
        policies,
        (policy) => [...volumes.store.values()].filter((volume) => mayFollow(volume, policy)).map(keyOf),
        generationChanged,
      ),
    ],
  });
  addSweep(manager, namespaces, clock, volumes);
  return volumes.store;
}

/** Whether pods of a volume that is rolled out may go by a policy: their volumes', or one of their own. */
function mayFollow({ metadata, spec }: JuiceVolume, policy: KubeObject): boolean {
  if (spec.client.rollout.strategy !== 'PodByPod') return false;
  return metadata.namespace === policy.metadata.namespace || spec.access.allowedNamespaces.from !== 'Same';
}

/** Passes additions and deletions. */
const existenceChanged: Predicate<KubeObject> = ({ type }) => type !== 'updated';

/** A volume as others see it; who writes its status reads it live. Of the conditions two are kept: they are half of it. */
function slim(volume: JuiceVolume): JuiceVolume {
  const { status, ...rest } = withoutManagedFields(volume);
  if (!status) return rest;
  const conditions = ['Ready', 'PodsServed'].map((type) => findCondition(status.conditions, type));
  return { ...rest, status: { ...status, conditions: conditions.filter((each) => each !== undefined) } };
}

/** Keeps what tells that a Secret changed, and nothing else: there may be very many. */
function bare(object: KubeObject): KubeObject {
  const { name, namespace, resourceVersion, uid } = object.metadata;
  const kept = {
    name,
    ...(namespace ? { namespace } : {}),
    ...(resourceVersion ? { resourceVersion } : {}),
    ...(uid ? { uid } : {}),
  };
  return { ...object, metadata: kept };
}

/** Runs until the signal. Rejects where leadership is lost, or caches cannot be filled; the process is to exit then. */
export async function runOperator(options: OperatorOptions): Promise<void> {
  const log = options.log ?? createLogger({ json: true });
  const clock = options.clock ?? systemClock;
  const random = options.random ?? systemRandom;
  const client = options.client ?? connect({ fieldManager: 'juicepod-operator' });
  const namespace = options.namespace ?? client.namespace;
  const identity = `${process.env['POD_NAME'] ?? process.env['HOSTNAME'] ?? 'operator'}_${randomUUID()}`;
  const metrics = options.metrics ?? new Registry();
  const manager = createManager({
    client,
    log,
    clock,
    metrics,
    ...(options.namespaces ? { namespaces: options.namespaces } : {}),
    ...(options.leaderElection === false ? {} : { leader: { namespace, name: LEASE, identity } }),
    onRefusal: (refusal) => tellRefusal(refusal),
  });
  const own = manager.events('juicepod.io/operator');
  const podName = process.env['POD_NAME'];
  /** On the operator's own pod, where whoever upgrades it looks. */
  const tellRefusal = (refusal: string): void => {
    if (podName === undefined) return;
    const regarding = { apiVersion: 'v1', kind: 'Pod', metadata: { name: podName, namespace } };
    const note = `${refusal}. Apply config/rbac and crds of this version; until then the operator goes on without what it may not read, where it can.`;
    own.record({ regarding, type: 'Warning', reason: 'RightMissing', action: 'Start', note });
  };
  const volumes = addControllers(manager, {
    ...options,
    backends: options.backends ?? realBackends({ clock, logger: log }),
    clock,
    random,
  });
  const server =
    options.port === undefined
      ? undefined
      : await serveHealth({
          health: manager.health,
          metrics,
          moreMetrics: () => volumeMetrics(() => volumes.values()),
          port: options.port,
        });
  log.info('operator starts', { server: client.server, namespace, identity });
  try {
    await manager.run(options.signal);
  } finally {
    server?.closeAllConnections();
    server?.close();
    await client.close();
  }
}
