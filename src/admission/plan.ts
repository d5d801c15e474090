/**
 * The decision about one pod: leave it alone, refuse it with a reason, or inject. Pure: pod, volumes, policies, namespace and
 * settings in, decision out; nothing is read from anywhere else and nothing is changed.
 *
 * Reinvocation: planning an injected pod gives the same injection again (patch.ts then finds nothing to do, or repairs).
 */
import { annotations, labels } from '../api/group.ts';
import { formatPlan, type Plan } from '../api/plan.ts';
import { bufferOf, stagingOf } from '../api/plan-options.ts';
import { parseDuration, parseQuantity } from '../api/units.ts';
import { AnnotationError, parseVolumes, quote, referenceOf, type VolumeRequest } from '../api/annotation.ts';
import { sizeDisk } from './disk.ts';
import { graceOf } from './grace.ts';
import { chooseImage, choosePolicy, layOut, planOf, type Resolved, resourcesOf, type WantedMount } from './layout.ts';
import { containersOf } from './limits.ts';
import { chooseMode, enforcedLevel } from './mode.ts';
import { CLIENT, isOurContainer, isOurVolume, MODE_REASON, ORIGINAL_GRACE } from './names.ts';
import { isNeighbour, placeOfOurs, type Reorder, reorderOf, surroundings } from './neighbours.ts';
import { findPlatform, platformNames } from './platforms/index.ts';
import { type Json, mapOf, textOf } from '../lib/json.ts';
import { type Container, type Pod, viewPod } from './pod.ts';
import { leaveAlone, modeChanged, nested, refuseClient, refusePod, refuseRequest, type RequestInput } from './policies.ts';
import type { Cluster, Settings } from './settings.ts';
import { buildSidecars } from './sidecars.ts';
import { firstViolation, type Violation } from './violation.ts';

/** All that a pod is to have when it is admitted. */
export interface Injection {
  readonly plan: Plan;
  /** Our containers, in the order in which they start. */
  readonly sidecars: readonly Json[];
  /** Where in `initContainers` they go where none is there yet. */
  readonly place: number;
  /** Where they are moved, because a proxy was put behind them. */
  readonly reorder: Reorder | undefined;
  readonly volumes: readonly Json[];
  readonly mounts: readonly WantedMount[];
  readonly annotations: Readonly<Record<string, string>>;
  readonly labels: Readonly<Record<string, string>>;
  /** Secrets for the registry of our images. */
  readonly pullSecrets: readonly string[];
  /** Undefined: the pod's own is long enough. */
  readonly terminationGracePeriodSeconds: number | undefined;
}

/** On which platform the pod runs and how it gets each volume, for people. */
export interface Explanation {
  readonly platform: string;
  readonly by: string;
  readonly volumes: readonly { readonly volume: string; readonly mode: 'fuse' | 'sync'; readonly why: string }[];
}

export type Decision =
  | ({ readonly action: 'ignore' } & Violation)
  | ({ readonly action: 'refuse' } & Violation)
  | {
      readonly action: 'inject';
      readonly pod: Pod;
      readonly injection: Injection;
      readonly explanation: Explanation;
      readonly warnings: readonly string[];
    };

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
function targetsOf(pod: Pod, start: number, request: VolumeRequest): readonly Container[] {
  return [...pod.initContainers.slice(start), ...pod.containers].filter(
    (container) =>
      !isOurContainer(container.name) &&
      (request.containers === undefined ? !isNeighbour(container) : request.containers.includes(container.name)),
  );
}

/** What stands in the pod under our volumes' names but is not asked for; it would show an empty directory. */
function strayMount(pod: Pod, wanted: readonly WantedMount[]): Violation | undefined {
  for (const container of [...pod.initContainers, ...pod.containers]) {
    if (isOurContainer(container.name)) continue;
    for (const { volume, path } of container.mounts) {
      if (!isOurVolume(volume)) continue;
      const known = wanted.some(
        ({ list, index, mount }) =>
          list === container.list && index === container.index && mount['mountPath'] === path && mount['name'] === volume,
      );
      if (!known)
        return {
          reason: 'StrayMount',
          message: `container ${quote(container.name)} mounts ${quote(volume)} on ${quote(path)}, where the annotation ${annotations.volumes} puts no volume, or before ${CLIENT} has started; remove what Juicepod added to the pod and create it again`,
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

/** Init containers of the application that come too early for any volume, though they may have meant to see one. */
function earlyWarning(pod: Pod, start: number, requests: readonly VolumeRequest[]): string | undefined {
  if (requests.every(({ containers }) => containers !== undefined)) return undefined;
  const early = pod.initContainers.slice(0, start).find((one) => !isOurContainer(one.name) && !isNeighbour(one));
  return early && `init container ${quote(early.name)} runs before the volumes are mounted and sees none of them`;
}

const SYNC_GIVES_UP =
  'files are copied before the application starts and changes are written back; other pods see them later, and no lock is shared';

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
  const namespaceLabels = cluster.namespaceLabels(namespace) ?? {};
  const found = findPlatform(pod, namespaceLabels, settings.platform);
  if ('unknown' in found)
    return refuse(
      'PlatformUnknown',
      `${found.where} names the platform ${quote(found.unknown)}; known are ${platformNames.join(', ')}`,
    );

  const ours = pod.initContainers.findLastIndex(({ name }) => isOurContainer(name));
  const place = placeOfOurs(pod);
  const reorder = reorderOf(pod);
  const start = reorder ? reorder.behind + 1 : ours < 0 ? place : ours + 1;
  const around = surroundings(pod, ours);
  const warnings: string[] = [];
  const resolved: Resolved[] = [];
  const volumes: Explanation['volumes'][number][] = [];
  for (const request of requests) {
    const volume = cluster.volume(request.namespace ?? namespace, request.name);
    const requestInput: RequestInput = { ...podInput, request, volume, targets: targetsOf(pod, start, request) };
    const violation = firstViolation(refuseRequest, requestInput);
    if (violation) return { action: 'refuse', ...violation };
    const chosen = chooseMode({
      requested: request.mode,
      found,
      namespace,
      enforced: settings.checkPodSecurity ? enforcedLevel(namespaceLabels) : undefined,
      ownUsers: pod.spec['hostUsers'] === false,
    });
    if ('reason' in chosen) return { action: 'refuse', ...chosen };
    const { mode, why } = chosen;
    volumes.push({ volume: referenceOf(request), mode, why });
    if (mode === 'sync' && request.mode === 'auto')
      warnings.push(`volume ${quote(referenceOf(request))} is in sync mode: ${why}`, `sync mode: ${SYNC_GIVES_UP}`);
    const warning = nested(requestInput);
    if (warning) warnings.push(warning);
    if (volume) resolved.push({ request, volume, targets: requestInput.targets, mode });
  }
  const changed = modeChanged(pod, new Set(resolved.map(({ mode }) => mode)));
  if (changed) return { action: 'refuse', ...changed };

  const chosenPolicy = choosePolicy(resolved, namespace, cluster);
  const { spec: policy, warning: policyWarning } = chosenPolicy;
  const { image, warning: imageWarning } = chooseImage(resolved, settings);
  warnings.push(
    ...[earlyWarning(pod, start, requests), around.warning, policyWarning, imageWarning].filter((one) => one !== undefined),
  );
  const { secrets, mounts, wanted } = layOut(resolved, namespace);
  const stray = strayMount(pod, wanted);
  if (stray) return { action: 'refuse', ...stray };

  const others = containersOf(pod, isOurContainer);
  const ranges = cluster.limitRanges(namespace);
  const bufferMiB = bufferOf(policy);
  const syncs = mounts.filter(({ mode }) => mode === 'sync').length;
  const disk = sizeDisk({
    policy,
    bufferMiB: bufferMiB + stagingOf(policy),
    hasFuse: mounts.length > syncs,
    syncs,
    platform: found.platform,
    others,
    ranges,
  });
  if ('reason' in disk) return { action: 'refuse', ...disk };
  warnings.push(...disk.warnings);
  const grace = graceOf(
    pod,
    {
      floor: settings.minGraceSeconds,
      bufferMiB,
      uploadLimit: policy.io.uploadLimit === undefined ? undefined : parseQuantity(policy.io.uploadLimit),
      drainSeconds: policy.writeback.enabled ? parseDuration(policy.writeback.drainTimeout) / 1000 : 0,
    },
    resolved.some(({ request }) => !request.readOnly),
  );
  const sync = { limitMiB: disk.syncMiB, flushSeconds: Math.max(1, grace.seconds - 10) };
  const plan = planOf(
    mounts.map((mount) => (mount.mode === 'sync' ? { ...mount, sync: { ...mount.sync, ...sync } } : mount)),
    chosenPolicy,
    resolved,
    disk.cacheMiB,
  );

  const built = buildSidecars({
    pod,
    settings,
    image,
    plan,
    secrets,
    memoryCache: policy.local.medium === 'Memory',
    resources: resolved.map(({ volume }) => resourcesOf(volume, settings)),
    neededMemory: parseQuantity(policy.buffer.size) + (policy.local.medium === 'Memory' ? parseQuantity(policy.local.size) : 0),
    disk,
    platform: found.platform,
    group: around.group,
    others,
    ranges,
    syncTargets: resolved.filter(({ mode }) => mode === 'sync').flatMap(({ targets }) => targets),
  });
  if ('reason' in built) return { action: 'refuse', ...built };
  warnings.push(...built.warnings);
  const tooMuch = firstViolation(refuseClient, {
    limits: mapOf(mapOf(built.client['resources'])['limits']),
    bufferSize: policy.buffer.size,
    memoryCache: policy.local.medium === 'Memory' ? policy.local.size : undefined,
  });
  if (tooMuch) return { action: 'refuse', ...tooMuch };
  const taken = takenVolume(pod, built.volumes);
  if (taken) return { action: 'refuse', ...taken };

  const asked = disk.annotation;
  const reason = volumes.find(({ mode }) => mode === 'sync');
  return {
    action: 'inject',
    pod,
    warnings: [...new Set(warnings)],
    explanation: { platform: found.platform.name, by: found.by, volumes },
    injection: {
      plan,
      sidecars: built.sidecars,
      place,
      reorder,
      volumes: built.volumes,
      mounts: wanted,
      annotations: {
        [annotations.plan]: formatPlan(plan),
        ...(reason ? { [MODE_REASON]: `sync: ${reason.why}` } : {}),
        // What the author asked for stays.
        ...(asked && textOf(pod.annotations[asked[0]]) === undefined ? { [asked[0]]: asked[1] } : {}),
        ...(grace.raised === undefined ? {} : { [ORIGINAL_GRACE]: grace.original }),
      },
      labels: reason ? { [labels.sync]: 'true' } : {},
      pullSecrets: settings.imagePullSecrets,
      terminationGracePeriodSeconds: grace.raised,
    },
  };
}
