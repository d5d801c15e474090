/**
 * Brings the mount Secrets of a volume in line with what clients need: its own namespace first, which is where the next reconcile
 * finds the generation, then those that are granted the volume. Credentials that were not proved never get into one.
 */
import { fieldManagers } from '../../api/group.ts';
import type { MountConfig, TlsFiles } from '../../api/mount.ts';
import type { JuiceVolume } from '../../api/volume.ts';
import { ApiError, isNotFound } from '../../kube/errors.ts';
import { refOf } from '../../kube/resources.ts';
import type { ReconcileContext, ResourceClient } from '../../kube/types.ts';
import { messageOf } from '../../lib/errors.ts';
import { generationOf, mountSecret, planSecrets } from './mountsecret.ts';
import type { SecretObject } from './secrets.ts';

export interface MountSync {
  readonly volume: JuiceVolume;
  /** What clients need; undefined where it is not certain: then what is there stays, where it is still allowed. */
  readonly config: MountConfig | undefined;
  /** PEM texts. */
  readonly tls: TlsFiles;
  /** Namespaces that may use the volume. */
  readonly allowed: readonly string[];
  /** Mount Secrets of this volume that there are. */
  readonly found: readonly SecretObject[];
  readonly secrets: ResourceClient<SecretObject>;
  /** Tells of a Secret of somebody else in another namespace. */
  readonly warn: (message: string) => void;
  readonly context: ReconcileContext;
}

export interface MountSyncResult {
  /** How many namespaces have one. */
  readonly namespaces: number;
  /** Why the one of the volume's own namespace could not be written. */
  readonly refused: string | undefined;
  /** Of what they hold; undefined where nothing is certain. */
  readonly generation: string | undefined;
}

export async function removeSecret(
  secrets: ResourceClient<SecretObject>,
  secret: SecretObject,
  signal: AbortSignal,
): Promise<void> {
  await secrets.delete(refOf(secret), { uid: secret.metadata.uid, signal });
}

/** The Secrets as they shall be, the own namespace's first. */
function intents({ volume, allowed, tls }: MountSync, config: MountConfig, own: SecretObject | undefined) {
  const generation = generationOf(config, tls, own, volume.status?.credentials?.generation);
  const home = volume.metadata.namespace ?? 'default';
  const ordered = allowed.toSorted((a, b) => Number(b === home) - Number(a === home));
  return { generation, wanted: ordered.map((namespace) => mountSecret(volume, namespace, { ...config, generation }, tls)) };
}

export async function syncMountSecrets(sync: MountSync): Promise<MountSyncResult> {
  const { volume, config, allowed, found, secrets, warn, context } = sync;
  const { signal, log } = context;
  const home = volume.metadata.namespace ?? 'default';
  if (!config) {
    // What may no longer be used goes at once; what is still allowed stays as it is until more is known.
    const stale = found.filter(({ metadata }) => !allowed.includes(metadata.namespace ?? ''));
    for (const secret of stale) await removeSecret(secrets, secret, signal);
    return { namespaces: found.length - stale.length, refused: undefined, generation: undefined };
  }
  let next = intents(
    sync,
    config,
    found.find(({ metadata }) => metadata.namespace === home),
  );
  let plan = planSecrets(next.wanted, found);
  const first = next.wanted[0];
  if (plan.apply.length > 0 && first) {
    // The generation must not be counted from a cache that lags behind.
    next = intents(sync, config, await secrets.find({ namespace: home, name: first.metadata.name }, signal));
    plan = planSecrets(next.wanted, found);
  }
  let refused: string | undefined;
  let missing = 0;
  for (const secret of plan.remove) await removeSecret(secrets, secret, signal);
  for (const intent of plan.apply) {
    const { namespace, name, labels: own } = intent.metadata;
    try {
      const existing = await secrets.find({ namespace, name }, signal);
      if (existing && Object.entries(own).some(([label, value]) => existing.metadata.labels?.[label] !== value)) {
        const message = `Secret ${namespace}/${name} exists and was not made for this volume; delete or rename it`;
        missing++;
        if (namespace === home) refused = message;
        else warn(message);
        continue;
      }
      await secrets.apply(intent, { fieldManager: fieldManagers.volume, signal });
    } catch (error) {
      // A namespace that is ending takes nothing new; it must not stop the others.
      if (namespace === home || !(error instanceof ApiError) || !(isNotFound(error) || error.code === 403)) throw error;
      missing++;
      log.warn('mount Secret not written', { namespace, problem: messageOf(error) });
    }
  }
  return { namespaces: allowed.length - missing, refused, generation: next.generation };
}
