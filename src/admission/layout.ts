/**
 * From the volumes that a pod asks for to the client's plan: which policy, image and resources count, which directories are
 * mounted, and what each container gets. Pure.
 */
import { type CachePolicySpec, defaultCachePolicy } from '../api/cachepolicy.ts';
import { mountSecretName } from '../api/names.ts';
import type { Plan, PlanMount } from '../api/plan.ts';
import { optionsOf } from '../api/plan-options.ts';
import type { JuiceVolume } from '../api/volume.ts';
import { quote, type VolumeRequest } from '../api/annotation.ts';
import type { Mode } from './mode.ts';
import { CACHE_ROOT, MOUNT_ROOT, secretRoot, syncTarget } from './names.ts';
import type { Json } from '../lib/json.ts';
import type { Container } from './pod.ts';
import type { Resources } from './resources.ts';
import type { Cluster, Settings } from './settings.ts';
import { applicationMount } from './sidecar.ts';
import { syncApplicationMount } from './sync-sidecar.ts';

/** A mount that an application container is to have. */
export interface WantedMount {
  readonly list: Container['list'];
  readonly index: number;
  readonly mount: Json;
}

/** A volume that a pod asks for and may have. */
export interface Resolved {
  readonly request: VolumeRequest;
  readonly volume: JuiceVolume;
  readonly targets: readonly Container[];
  readonly mode: Mode;
}

/** Namespace of a volume. */
export const homeOf = (volume: JuiceVolume): string => volume.metadata.namespace ?? 'default';

export interface ChosenPolicy {
  readonly spec: CachePolicySpec;
  /** `namespace/name`, where the pod chose it itself. */
  readonly named?: string;
  readonly warning: string | undefined;
}

/** The pod's own choice, else that of its volumes; the first one where they differ. */
export function choosePolicy(resolved: readonly Resolved[], namespace: string, cluster: Cluster): ChosenPolicy {
  const named = resolved.find(({ request }) => request.cachePolicy !== undefined)?.request.cachePolicy;
  if (named !== undefined) {
    const spec = cluster.policy(namespace, named)?.spec ?? defaultCachePolicy;
    return { spec, named: `${namespace}/${named}`, warning: undefined };
  }
  const choices = resolved.flatMap(({ volume }) => {
    const name = volume.spec.cachePolicyRef?.name;
    return name === undefined ? [] : [{ volume, name, policy: cluster.policy(homeOf(volume), name) }];
  });
  const found = choices.find(({ policy }) => policy !== undefined);
  const missing = choices.find(({ policy }) => policy === undefined);
  const other = choices.find(({ policy }) => policy !== undefined && policy !== found?.policy);
  let warning: string | undefined;
  if (missing)
    warning = `JuiceCachePolicy ${quote(missing.name)} of volume ${quote(missing.volume.metadata.name)} does not exist; ${found ? `that of ${quote(found.volume.metadata.name)}` : 'the default'} is used`;
  else if (found && other)
    warning = `volumes ${quote(found.volume.metadata.name)} and ${quote(other.volume.metadata.name)} have different cache policies; the pod's one client uses ${quote(found.name)}`;
  return { spec: found?.policy?.spec ?? defaultCachePolicy, warning };
}

export function planOf(
  mounts: readonly PlanMount[],
  { spec, named }: ChosenPolicy,
  resolved: readonly Resolved[],
  cacheMiB: number | undefined,
): Plan {
  return {
    version: 1,
    ...(named === undefined ? {} : { policy: named }),
    mounts,
    ...optionsOf({
      policy: spec,
      logLevels: resolved.map(({ volume }) => volume.spec.client.logLevel),
      cacheMiB,
      folder: CACHE_ROOT,
      isMounted: resolved.some(({ mode }) => mode === 'fuse'),
    }),
  };
}

/** Mounts of the client, shared where two entries want the same directory in the same way; secrets, one per volume. */
export function layOut(resolved: readonly Resolved[], namespace: string) {
  const secrets: string[] = [];
  const secretOf = new Map<string, number>();
  const mountOf = new Map<string, PlanMount>();
  const wanted: WantedMount[] = [];
  for (const { request, volume, targets, mode } of resolved) {
    const reference = `${homeOf(volume)}/${volume.metadata.name}`;
    const { include, exclude } = request;
    let secret = secretOf.get(reference);
    if (secret === undefined) {
      secret = secrets.push(mountSecretName(homeOf(volume), volume.metadata.name, namespace)) - 1;
      secretOf.set(reference, secret);
    }
    const key = JSON.stringify([
      reference,
      request.subPath,
      request.readOnly,
      request.directory,
      mode,
      ...(mode === 'sync' ? [include, exclude] : []),
    ]);
    let mount = mountOf.get(key);
    if (mount === undefined) {
      const id = String(mountOf.size);
      mount = {
        id,
        volume: reference,
        config: `${secretRoot(secret)}/volume.json`,
        target: mode === 'sync' ? syncTarget(id) : `${MOUNT_ROOT}/${id}`,
        subPath: request.subPath,
        ...(request.directory ? { directory: request.directory } : {}),
        readOnly: request.readOnly,
        ...(mode === 'sync' ? { mode, sync: { ...(include ? { include } : {}), ...(exclude ? { exclude } : {}) } } : {}),
      };
      mountOf.set(key, mount);
    }
    const { id } = mount;
    wanted.push(
      ...targets.map(({ list, index }) => ({
        list,
        index,
        mount: (mode === 'sync' ? syncApplicationMount : applicationMount)(id, request.mountPath, request.readOnly),
      })),
    );
  }
  return { secrets, mounts: [...mountOf.values()], wanted };
}

export function chooseImage(resolved: readonly Resolved[], settings: Settings): { image: string; warning: string | undefined } {
  const images = [...new Set(resolved.map(({ volume }) => volume.spec.client.image).filter((image) => image !== undefined))];
  return {
    image: images[0] ?? settings.image,
    warning: images.length > 1 ? `volumes ask for different client images; ${quote(images[0] ?? '', 120)} is used` : undefined,
  };
}

export function resourcesOf(volume: JuiceVolume, { clientResources }: Settings): Resources {
  const own = volume.spec.client.resources;
  return {
    requests: { ...clientResources.requests, ...own?.requests },
    limits: { ...clientResources.limits, ...own?.limits },
  };
}
