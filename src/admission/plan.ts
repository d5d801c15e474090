/**
 * The decision about one pod: leave it alone, refuse it with a reason, or inject. Pure: pod, volumes, policies, namespace and
 * settings in, decision out; nothing is read from anywhere else and nothing is changed.
 *
 * Reinvocation: planning an injected pod gives the same injection again (patch.ts then finds nothing to do, or repairs).
 */
import { type CachePolicySpec, defaultCachePolicy } from '../api/cachepolicy.ts';
import { annotations } from '../api/group.ts';
import { mountSecretName } from '../api/names.ts';
import { formatPlan, type Plan, type PlanMount } from '../api/plan.ts';
import { parseDuration, parseQuantity } from '../api/units.ts';
import type { JuiceVolume } from '../api/volume.ts';
import { AnnotationError, parseVolumes, quote, type VolumeRequest } from './annotation.ts';
import { CACHE_ROOT, CLIENT, isOurContainer, MOUNT_ROOT, MOUNT_VOLUME, ORIGINAL_GRACE, secretRoot } from './names.ts';
import { type Container, type Json, mapOf, type Pod, textOf, viewPod } from './pod.ts';
import {
  firstViolation,
  leaveAlone,
  nested,
  refuseClient,
  refusePod,
  refuseRequest,
  type RequestInput,
  type Violation,
} from './policies.ts';
import { mergeResources, type Resources } from './resources.ts';
import type { Cluster, Settings } from './settings.ts';
import { applicationMount, clientContainer, holderContainer, podVolumes } from './sidecar.ts';

const MIB = 2 ** 20;
/** What Kubernetes gives a pod that says nothing, seconds. */
const DEFAULT_GRACE = 30;

/** A mount that an application container is to have. */
export interface WantedMount {
  readonly list: Container['list'];
  readonly index: number;
  readonly mount: Json;
}

/** All that a pod is to have when it is admitted. */
export interface Injection {
  readonly plan: Plan;
  readonly holder: Json;
  readonly client: Json;
  readonly volumes: readonly Json[];
  readonly mounts: readonly WantedMount[];
  readonly annotations: Readonly<Record<string, string>>;
  /** Undefined: the pod's own is long enough. */
  readonly terminationGracePeriodSeconds: number | undefined;
}

export type Decision =
  | ({ readonly action: 'ignore' } & Violation)
  | ({ readonly action: 'refuse' } & Violation)
  | { readonly action: 'inject'; readonly pod: Pod; readonly injection: Injection; readonly warnings: readonly string[] };

export interface PlanInput {
  /** A pod or a pod template, raw. */
  readonly pod: unknown;
  /** Where the pod is created; the object itself may not say it. */
  readonly namespace: string;
  readonly cluster: Cluster;
  readonly settings: Settings;
}

const refuse = (reason: string, message: string): Decision => ({ action: 'refuse', reason, message });

/** Containers of the application that are to see a volume. Those before our client run while nothing is mounted yet. */
function targetsOf(pod: Pod, request: VolumeRequest): readonly Container[] {
  const last = pod.initContainers.findLastIndex((container) => isOurContainer(container.name));
  return [...pod.initContainers.slice(last + 1), ...pod.containers].filter(
    (container) =>
      !isOurContainer(container.name) && (request.containers === undefined || request.containers.includes(container.name)),
  );
}

/** What stands in the pod under our volume's name but is not asked for; it would show an empty directory. */
function strayMount(pod: Pod, wanted: readonly WantedMount[]): Violation | undefined {
  for (const container of [...pod.initContainers, ...pod.containers]) {
    if (isOurContainer(container.name)) continue;
    for (const mount of container.mounts) {
      if (mount.volume !== MOUNT_VOLUME) continue;
      const known = wanted.some(
        (one) => one.list === container.list && one.index === container.index && one.mount['mountPath'] === mount.path,
      );
      if (!known)
        return {
          reason: 'StrayMount',
          message: `container ${quote(container.name)} mounts ${quote(MOUNT_VOLUME)} on ${quote(mount.path)}, where the annotation ${annotations.volumes} puts no volume, or before ${CLIENT} has started; remove what Juicepod added to the pod and create it again`,
        };
    }
  }
  return undefined;
}

/** A volume of the user's own under one of our names, told by its source. */
function takenVolume(pod: Pod, wanted: readonly Json[]): Violation | undefined {
  const source = (volume: Json): string | undefined => Object.keys(volume).find((key) => key !== 'name');
  const taken = pod.volumes.find(({ name, raw }) => {
    const ours = wanted.find((volume) => volume['name'] === name);
    return ours !== undefined && source(raw) !== source(ours);
  });
  if (!taken) return undefined;
  return {
    reason: 'VolumeNameTaken',
    message: `the pod has a volume of its own named ${quote(taken.name)}; that name is Juicepod's, rename it`,
  };
}

interface Resolved {
  readonly request: VolumeRequest;
  readonly volume: JuiceVolume;
  readonly targets: readonly Container[];
}

const homeOf = (volume: JuiceVolume): string => volume.metadata.namespace ?? 'default';

interface Chosen {
  readonly spec: CachePolicySpec;
  readonly warning: string | undefined;
}

/** The pod's own choice, else that of its volumes; the first one where they differ. */
function choosePolicy(resolved: readonly Resolved[], namespace: string, cluster: Cluster): Chosen {
  const named = resolved.find(({ request }) => request.cachePolicy !== undefined)?.request.cachePolicy;
  if (named !== undefined) return { spec: cluster.policy(namespace, named)?.spec ?? defaultCachePolicy, warning: undefined };
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

const LEVELS = ['debug', 'info', 'warn', 'error'] as const;

function planOf(mounts: readonly PlanMount[], policy: CachePolicySpec, resolved: readonly Resolved[]): Plan {
  const mib = (size: string | number): number => Math.max(1, Math.floor(parseQuantity(size) / MIB));
  const seconds = (duration: string): number => parseDuration(duration) / 1000;
  const { local, metadata, io, buffer, readahead, writeback } = policy;
  const levels = resolved.map(({ volume }) => LEVELS.indexOf(volume.spec.client.logLevel));
  return {
    version: 1,
    mounts,
    ...(local.medium === 'None'
      ? {}
      : { cache: { directory: CACHE_ROOT, sizeMiB: mib(local.size), freeSpaceRatio: local.freeSpacePercent / 100 } }),
    ...(writeback.enabled
      ? {
          writeback: {
            maxStagingMiB: mib(writeback.maxStaging),
            uploadDelay: seconds(writeback.uploadDelay),
            drainTimeout: seconds(writeback.drainTimeout),
          },
        }
      : {}),
    journal: CACHE_ROOT,
    bufferMiB: mib(buffer.size),
    readaheadMiB: Math.floor(parseQuantity(readahead.max) / MIB),
    attrTTL: seconds(metadata.attrTTL),
    entryTTL: seconds(metadata.entryTTL),
    dirEntryTTL: seconds(metadata.dirTTL),
    negativeTTL: seconds(metadata.negativeTTL),
    maxUploads: io.maxUploads,
    maxDownloads: io.maxDownloads,
    ...(io.uploadLimit === undefined ? {} : { uploadLimit: parseQuantity(io.uploadLimit) }),
    ...(io.downloadLimit === undefined ? {} : { downloadLimit: parseQuantity(io.downloadLimit) }),
    ...(metadata.maxOpsPerSecond === undefined ? {} : { maxMetadataOps: metadata.maxOpsPerSecond }),
    logLevel: LEVELS[Math.min(...levels)] ?? 'info',
  };
}

/** Mounts of the client, shared where two entries want the same directory in the same way; secrets, one per volume. */
function layOut(resolved: readonly Resolved[], namespace: string) {
  const secrets: string[] = [];
  const secretOf = new Map<string, number>();
  const mountOf = new Map<string, PlanMount>();
  const wanted: WantedMount[] = [];
  for (const { request, volume, targets } of resolved) {
    const reference = `${homeOf(volume)}/${volume.metadata.name}`;
    let secret = secretOf.get(reference);
    if (secret === undefined) {
      secret = secrets.push(mountSecretName(homeOf(volume), volume.metadata.name, namespace)) - 1;
      secretOf.set(reference, secret);
    }
    const key = JSON.stringify([reference, request.subPath, request.readOnly]);
    let mount = mountOf.get(key);
    if (mount === undefined) {
      const id = String(mountOf.size);
      mount = {
        id,
        volume: reference,
        config: `${secretRoot(secret)}/volume.json`,
        target: `${MOUNT_ROOT}/${id}`,
        subPath: request.subPath,
        readOnly: request.readOnly,
      };
      mountOf.set(key, mount);
    }
    const { id } = mount;
    wanted.push(
      ...targets.map(({ list, index }) => ({
        list,
        index,
        mount: applicationMount(id, request.mountPath, request.readOnly),
      })),
    );
  }
  return { secrets, mounts: [...mountOf.values()], wanted };
}

function chooseImage(resolved: readonly Resolved[], settings: Settings): { image: string; warning: string | undefined } {
  const images = [...new Set(resolved.map(({ volume }) => volume.spec.client.image).filter((image) => image !== undefined))];
  return {
    image: images[0] ?? settings.image,
    warning: images.length > 1 ? `volumes ask for different client images; ${quote(images[0] ?? '', 120)} is used` : undefined,
  };
}

function resourcesOf(volume: JuiceVolume, { clientResources }: Settings): Resources {
  const own = volume.spec.client.resources;
  return {
    requests: { ...clientResources.requests, ...own?.requests },
    limits: { ...clientResources.limits, ...own?.limits },
  };
}

/** Time to end: for what was written to be uploaded, and for what was staged before, where there is write-back. */
function graceOf(
  pod: Pod,
  settings: Settings,
  plan: Plan,
): Pick<Injection, 'terminationGracePeriodSeconds'> & { original: number } {
  const found = pod.spec['terminationGracePeriodSeconds'];
  const original = typeof found === 'number' ? found : DEFAULT_GRACE;
  const least = settings.minGraceSeconds + Math.ceil(plan.writeback?.drainTimeout ?? 0);
  return { original, terminationGracePeriodSeconds: original < least ? least : undefined };
}

/** Decides about one pod. Never throws for what a pod or its annotation holds. */
export function planPod(input: PlanInput): Decision {
  const { namespace, cluster, settings } = input;
  const pod = viewPod(input.pod);
  const text = pod.annotations[annotations.volumes];
  if (typeof text !== 'string')
    return { action: 'ignore', reason: 'NotAnnotated', message: `the pod has no annotation ${annotations.volumes}` };
  const podInput = { pod, namespace, cluster, settings };
  const left = firstViolation(leaveAlone, podInput);
  if (left) return { action: 'ignore', ...left };
  let requests: readonly VolumeRequest[];
  try {
    requests = parseVolumes(text);
  } catch (error) {
    if (!(error instanceof AnnotationError)) throw error;
    return refuse(error.code, `${error.message}. ${error.hint ?? ''}`);
  }
  const refused = firstViolation(refusePod, podInput);
  if (refused) return { action: 'refuse', ...refused };

  const warnings: string[] = [];
  const resolved: Resolved[] = [];
  for (const request of requests) {
    const volume = cluster.volume(request.namespace ?? namespace, request.name);
    const requestInput: RequestInput = { ...podInput, request, volume, targets: targetsOf(pod, request) };
    const violation = firstViolation(refuseRequest, requestInput);
    if (violation) return { action: 'refuse', ...violation };
    const warning = nested(requestInput);
    if (warning) warnings.push(warning);
    if (volume) resolved.push({ request, volume, targets: requestInput.targets });
  }

  const policy = choosePolicy(resolved, namespace, cluster);
  const { image, warning } = chooseImage(resolved, settings);
  warnings.push(...[policy.warning, warning].filter((one) => one !== undefined));
  const { secrets, mounts, wanted } = layOut(resolved, namespace);
  const stray = strayMount(pod, wanted);
  if (stray) return { action: 'refuse', ...stray };
  const plan = planOf(mounts, policy.spec, resolved);
  const clientResources = mergeResources(resolved.map(({ volume }) => resourcesOf(volume, settings)));
  const memoryCache = policy.spec.local.medium === 'Memory';
  const tooMuch = firstViolation(refuseClient, {
    limits: mapOf(clientResources['limits']),
    bufferSize: policy.spec.buffer.size,
    memoryCache: memoryCache ? policy.spec.local.size : undefined,
  });
  if (tooMuch) return { action: 'refuse', ...tooMuch };

  const sidecar = { settings, image, plan, secrets, memoryCache, clientResources };
  const volumes = podVolumes(sidecar);
  const taken = takenVolume(pod, volumes);
  if (taken) return { action: 'refuse', ...taken };
  const grace = graceOf(pod, settings, plan);
  const remembered = textOf(pod.annotations[ORIGINAL_GRACE]) ?? String(grace.original);
  return {
    action: 'inject',
    pod,
    warnings,
    injection: {
      plan,
      holder: holderContainer(sidecar),
      client: clientContainer(sidecar),
      volumes,
      mounts: wanted,
      annotations: {
        [annotations.plan]: formatPlan(plan),
        ...(grace.terminationGracePeriodSeconds === undefined ? {} : { [ORIGINAL_GRACE]: remembered }),
      },
      terminationGracePeriodSeconds: grace.terminationGracePeriodSeconds,
    },
  };
}
