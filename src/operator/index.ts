/**
 * `juicepod operator`: the process that keeps JuiceVolumes and JuiceCachePolicies true. Two replicas or more, one of them at
 * work (a Lease); the others keep their caches warm.
 */
import { randomUUID } from 'node:crypto';
import { Gauge, Registry } from 'prom-client';
import type { JuiceCachePolicy } from '../api/cachepolicy.ts';
import { labels, MANAGED_BY, MOUNT_SECRET_TYPE } from '../api/group.ts';
import type { JuiceVolume } from '../api/volume.ts';
import { connect } from '../kube/client.ts';
import { findCondition } from '../kube/conditions.ts';
import { serveHealth } from '../kube/health.ts';
import { createManager } from '../kube/manager.ts';
import { keyOf, Namespaces, Secrets } from '../kube/resources.ts';
import { annotationsChanged, anyOf, forKind, generationChanged, labelsChanged, watches } from '../kube/source.ts';
import type { KubeClient, KubeObject, Manager } from '../kube/types.ts';
import { type Clock, systemClock } from '../lib/clock.ts';
import type { Logger } from '../lib/log.ts';
import { createLogger } from '../lib/winston.ts';
import { type Random, systemRandom } from '../lib/random.ts';
import { cachePolicyReconciler, JuiceCachePolicies, policyKeys } from './cachepolicy/reconcile.ts';
import { type Backends, realBackends } from './volume/backends.ts';
import { JuiceVolumes, volumeReconciler } from './volume/reconcile.ts';
import { type SecretObject, secretNames } from './volume/secrets.ts';

export interface OperatorOptions {
  /** @default the cluster this process runs in, else the kubeconfig */
  readonly client?: KubeClient;
  /** Namespace of the Lease. @default the client's own */
  readonly namespace?: string;
  /** False: no Lease; for tests, and where there is one replica by construction. @default true */
  readonly leaderElection?: boolean;
  /** Port of /livez, /readyz and /metrics; 0 for any free one, undefined for none. */
  readonly port?: number;
  readonly log?: Logger;
  /** Where everything is counted; the client's requests too where it was made with it. @default an own one */
  readonly metrics?: Registry;
  readonly backends?: Backends;
  readonly clock?: Clock;
  readonly random?: Random;
  /** Ends the operator: reconciles are finished, the Lease is released. */
  readonly signal: AbortSignal;
}

const LEASE = 'juicepod-operator';

function volumeMetrics(registry: Registry, volumes: () => Iterable<JuiceVolume>): void {
  const labelNames = ['namespace', 'name'] as const;
  const gauge = (name: string, help: string, value: (volume: JuiceVolume) => number | undefined): void =>
    void new Gauge({
      name,
      help,
      labelNames,
      registers: [registry],
      collect() {
        this.reset();
        for (const volume of volumes()) {
          const { namespace = '', name: object } = volume.metadata;
          const measured = value(volume);
          if (measured !== undefined) this.set({ namespace, name: object }, measured);
        }
      },
    });
  gauge('juicepod_volume_ready', '1 where the condition Ready is True', (volume) =>
    Number(findCondition(volume.status?.conditions, 'Ready')?.status === 'True'),
  );
  gauge('juicepod_volume_used_bytes', 'Bytes in the volume', (volume) => volume.status?.usage?.bytes);
  gauge('juicepod_volume_used_inodes', 'Inodes in the volume', (volume) => volume.status?.usage?.inodes);
  gauge('juicepod_volume_sessions', 'Clients that have the volume mounted', (volume) => volume.status?.sessions?.active);
}

/** Adds both controllers to a manager. */
export function addControllers(
  manager: Manager,
  { backends, clock, random }: { readonly backends: Backends; readonly clock: Clock; readonly random: Random },
): void {
  const volumes = manager.reflector<JuiceVolume>(JuiceVolumes);
  const policies = manager.reflector<JuiceCachePolicy>(JuiceCachePolicies);
  const namespaces = manager.reflector(Namespaces, { metadataOnly: true });
  // Names only: what is in the Secrets of others is read live, when it is needed, and not kept.
  // Releases of Helm are many, and no credentials; our own Secrets are seen below.
  const secrets = manager.reflector(Secrets, {
    metadataOnly: true,
    fieldSelector: `type!=${MOUNT_SECRET_TYPE},type!=helm.sh/release.v1`,
    transform: bare,
  });
  const mountSecrets = manager.reflector<SecretObject>(Secrets, {
    labelSelector: `${labels.managedBy}=${MANAGED_BY}`,
    indexes: { volumeUid: ({ metadata }) => [metadata.labels?.[labels.volumeUid] ?? ''] },
  });
  const volumeKeys = (matches: (volume: JuiceVolume) => boolean): string[] =>
    [...volumes.store.values()].filter(matches).map(keyOf);
  // Status alone does not count, or every write of ours would bring the next reconcile.
  const meant = anyOf(generationChanged, annotationsChanged);

  manager.controller({
    name: 'juicevolume',
    reconcile: volumeReconciler({
      client: manager.client,
      volumes: volumes.store,
      namespaces: namespaces.store,
      mountSecrets: mountSecrets.store,
      events: manager.events('juicepod.io/volume'),
      backends,
      clock,
      random,
    }),
    sources: [
      forKind(volumes, meant),
      // A volume that goes away, or gets its UUID, may end somebody's conflict.
      watches(
        volumes,
        (gone) => (gone.metadata.deletionTimestamp === undefined ? [] : volumeKeys(({ status }) => isConflict(status))),
        meant,
      ),
      watches(secrets, ({ metadata }) =>
        volumeKeys((volume) => volume.metadata.namespace === metadata.namespace && secretNames(volume.spec).has(metadata.name)),
      ),
      watches(mountSecrets, ({ metadata }) =>
        volumeKeys((volume) => volume.metadata.uid === metadata.labels?.[labels.volumeUid]),
      ),
      watches(namespaces, () => volumeKeys(({ spec }) => spec.access.allowedNamespaces.from !== 'Same'), labelsChanged),
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
  volumeMetrics(manager.metrics, () => volumes.store.values());
}

function isConflict(status: JuiceVolume['status']): boolean {
  return findCondition(status?.conditions, 'Ready')?.reason === 'Conflict';
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
    ...(options.leaderElection === false ? {} : { leader: { namespace, name: LEASE, identity } }),
  });
  addControllers(manager, { backends: options.backends ?? realBackends({ clock, logger: log }), clock, random });
  const server =
    options.port === undefined ? undefined : await serveHealth({ health: manager.health, metrics, port: options.port });
  log.info('operator starts', { server: client.server, namespace, identity });
  try {
    await manager.run(options.signal);
  } finally {
    server?.closeAllConnections();
    server?.close();
    await client.close();
  }
}
