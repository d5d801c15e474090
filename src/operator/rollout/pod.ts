/**
 * A pod as the roll-out sees it: which image and options its client shall have, has, and how an earlier step went. Pure. What was
 * done to a pod is written in its annotation, with the same patch that does it, so that any operator can go on at any point.
 */
import { createHash } from 'node:crypto';
import { annotations, sidecars } from '../../api/group.ts';
import { parsePlan, type Plan } from '../../api/plan.ts';
import type { JuiceVolume } from '../../api/volume.ts';
import type { JsonPatchOperation, KubeObject } from '../../kube/types.ts';

interface ContainerStatus {
  readonly name: string;
  readonly ready?: boolean;
  readonly started?: boolean;
  readonly restartCount?: number;
  readonly state?: { readonly waiting?: { readonly reason?: string; readonly message?: string } };
}

export interface PodObject extends KubeObject {
  readonly spec: {
    readonly initContainers?: readonly {
      readonly name: string;
      readonly image?: string;
      readonly resources?: { readonly limits?: Readonly<Record<string, string | number>> };
    }[];
    readonly volumes?: readonly {
      readonly name: string;
      readonly emptyDir?: { readonly medium?: string; readonly sizeLimit?: string | number };
    }[];
    readonly terminationGracePeriodSeconds?: number;
  };
  readonly status?: { readonly phase?: string; readonly initContainerStatuses?: readonly ContainerStatus[] };
}

/** The annotation: the last thing the roll-out did to this pod. */
export interface RolloutRecord {
  /** The image it was given, and the one it had. */
  readonly image: string;
  readonly from: string;
  /** Names the plan that it was to have (`digestOf`); absent where only images were rolled out. */
  readonly plan?: string;
  /** The plan that it had, where that was changed. */
  readonly fromPlan?: string;
  /** The client took it up without being restarted, so nothing is to be waited for. */
  readonly live?: boolean;
  /** When, milliseconds since the epoch, by the clock of who did it. */
  readonly at: number;
  /** How often its client had been restarted then. */
  readonly restarts: number;
  /** Why it was given the former image back. */
  readonly failed?: string;
}

export interface RolloutPod {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  /** Position of the client among the init containers. */
  readonly index: number;
  readonly image: string;
  /** The text of its plan. */
  readonly plan: string;
  /** The plan that it shall have; the same text where it has it. */
  readonly wantedPlan: string;
  /** Its containers run; a pod that waits, ends or has ended is left alone. */
  readonly running: boolean;
  /** The client serves every mount, as its probe says. */
  readonly serves: boolean;
  readonly restarts: number;
  /** Why the client does not run, as the kubelet says it. */
  readonly waiting: { readonly reason: string; readonly message: string } | undefined;
  readonly record: RolloutRecord | undefined;
}

/** The volumes of a pod by its plan, `namespace/name`, in order; none where it has no client of ours. */
export function volumesOf(pod: KubeObject): readonly string[] {
  const text = pod.metadata.annotations?.[annotations.plan];
  if (text === undefined) return [];
  let plan: Plan;
  try {
    plan = parsePlan(text);
  } catch {
    return [];
  }
  return plan.mounts.map(({ volume }) => volume);
}

/**
 * Which volume decides about the client of a pod, and the image it wants: the first of its volumes that names one, as the
 * webhook chooses; where none does, the first, and the cluster's image (undefined where that is not known).
 */
export function chooseImage(
  volumes: readonly string[],
  find: (key: string) => JuiceVolume | undefined,
  standard: string | undefined,
): { readonly volume: string; readonly image: string | undefined } | undefined {
  const [first] = volumes;
  if (first === undefined) return undefined;
  for (const volume of volumes) {
    const image = find(volume)?.spec.client.image;
    if (image !== undefined) return { volume, image };
  }
  return { volume: first, image: standard };
}

/** A short name of a plan. */
export const digestOf = (plan: string): string => createHash('sha256').update(plan).digest('hex').slice(0, 12);

function recordOf(text: string | undefined): RolloutRecord | undefined {
  if (text === undefined) return undefined;
  try {
    const found = JSON.parse(text) as Partial<RolloutRecord> | null;
    const { image, from, at, restarts, failed, plan, fromPlan, live } = found ?? {};
    if (typeof image !== 'string' || typeof from !== 'string' || typeof at !== 'number' || typeof restarts !== 'number')
      return undefined;
    return {
      image,
      from,
      ...(typeof plan === 'string' ? { plan } : {}),
      ...(typeof fromPlan === 'string' ? { fromPlan } : {}),
      ...(live === true ? { live } : {}),
      at,
      restarts,
      ...(typeof failed === 'string' ? { failed } : {}),
    };
  } catch {
    return undefined;
  }
}

/** Undefined for a pod without a client. `wantedPlan`: undefined leaves its options alone. */
export function observePod(pod: PodObject, wantedPlan?: string): RolloutPod | undefined {
  const containers = pod.spec.initContainers ?? [];
  const index = containers.findIndex(({ name }) => name === sidecars.client);
  const image = containers[index]?.image;
  if (image === undefined) return undefined;
  const status = pod.status?.initContainerStatuses?.find(({ name }) => name === sidecars.client);
  const waiting = status?.state?.waiting;
  const { namespace = 'default', name, uid = '', deletionTimestamp } = pod.metadata;
  const plan = pod.metadata.annotations?.[annotations.plan] ?? '';
  return {
    namespace,
    name,
    uid,
    index,
    image,
    plan,
    wantedPlan: wantedPlan ?? plan,
    running: pod.status?.phase === 'Running' && deletionTimestamp === undefined,
    serves: status?.started === true && status.ready === true,
    restarts: status?.restartCount ?? 0,
    waiting: waiting && { reason: waiting.reason ?? '', message: waiting.message ?? '' },
    record: recordOf(pod.metadata.annotations?.[annotations.rollout]),
  };
}

/**
 * Gives the client of a pod another image, another plan, or both, and writes down that it was done. Refused by the API server (422)
 * where the pod is another one by now, or its client has others than were seen.
 */
export function clientPatch(
  pod: RolloutPod,
  { image, plan }: { readonly image: string; readonly plan: string },
  record: RolloutRecord,
): readonly JsonPatchOperation[] {
  const container = `/spec/initContainers/${pod.index}`;
  const annotation = (name: string): string => `/metadata/annotations/${name.replace('/', '~1')}`;
  return [
    { op: 'test', path: '/metadata/uid', value: pod.uid },
    { op: 'test', path: `${container}/name`, value: sidecars.client },
    { op: 'test', path: `${container}/image`, value: pod.image },
    { op: 'test', path: annotation(annotations.plan), value: pod.plan },
    ...(image === pod.image ? [] : [{ op: 'replace' as const, path: `${container}/image`, value: image }]),
    ...(plan === pod.plan ? [] : [{ op: 'replace' as const, path: annotation(annotations.plan), value: plan }]),
    { op: 'add', path: annotation(annotations.rollout), value: JSON.stringify(record) },
  ];
}
