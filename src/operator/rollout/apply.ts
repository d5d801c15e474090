/**
 * The pods of a roll-out, read when they are needed, and its steps, carried out. Pods are listed with metadata only, page by page,
 * and those whose plan names the volume are read whole; nothing is watched or kept, so pods that no roll-out is about cost nothing.
 */
import { parsePlan } from '../../api/plan.ts';
import { planChange } from '../../api/plan-change.ts';
import type { JuiceVolume } from '../../api/volume.ts';
import { isInvalid, isNotFound } from '../../kube/errors.ts';
import { keyOf, Pods, refOf } from '../../kube/resources.ts';
import type { JsonPatchOperation, KubeClient } from '../../kube/types.ts';
import type { Step } from './decide.ts';
import { withPull } from './pulls.ts';
import { type OptionSources, wantedOptions } from './options.ts';
import { chooseImage, clientPatch, digestOf, observePod, type PodObject, type RolloutPod, volumesOf } from './pod.ts';

/** Steps under way at once. */
const PARALLEL = 8;

export interface RolloutPods {
  readonly pods: readonly RolloutPod[];
  /** Pods of other namespaces that must not be given this image. */
  readonly refused: number;
  /** Pods that were given too little room for all that the options say. */
  readonly fitted: number;
  /** Names the options that are wished for; undefined where options are left alone. */
  readonly options: string | undefined;
}

export interface ObserveOptions {
  readonly client: KubeClient;
  readonly volume: JuiceVolume;
  readonly find: (key: string) => JuiceVolume | undefined;
  /** The image that the cluster's webhook gives where no volume names one. */
  readonly standardImage: string | undefined;
  /** The image wanted. */
  readonly image: string;
  /**
   * Images that a volume may choose for pods of other namespaces begin with one of these: whoever may edit a volume could else run
   * a privileged image of their choice in somebody else's pods. As the webhook's `--allow-image`.
   */
  readonly allowedImages: readonly string[];
  /** Absent: options are left alone. */
  readonly sources?: OptionSources;
  readonly signal: AbortSignal;
}

/** The pods whose client `volume` decides about. */
export async function observe(options: ObserveOptions): Promise<RolloutPods> {
  const { client, volume, find, standardImage, image, allowedImages, sources, signal } = options;
  const key = keyOf(volume);
  const home = volume.metadata.namespace;
  const everywhere = volume.spec.access.allowedNamespaces.from !== 'Same';
  const allowed = image === standardImage || allowedImages.some((prefix) => image.startsWith(prefix));
  const all = client.resource<PodObject>(Pods);
  const pods: RolloutPod[] = [];
  const wishes = new Set<string>();
  let [refused, fitted] = [0, 0];
  const list = { ...(everywhere ? {} : { namespace: home }), resourceVersion: '', signal };
  for await (const page of all.metadataOnly().pages(list)) {
    const candidates = page.items.filter((pod) => chooseImage(volumesOf(pod), find, standardImage)?.volume === key);
    for (let from = 0; from < candidates.length; from += PARALLEL) {
      const found = await Promise.all(
        candidates.slice(from, from + PARALLEL).map((candidate) => all.find(refOf(candidate), signal)),
      );
      for (const each of found) {
        const wanted = each && sources && wantedOptions(each, sources);
        const pod = each && observePod(each, wanted?.plan);
        if (!pod) continue;
        if (pod.namespace !== home && !allowed) {
          refused++;
          continue;
        }
        if (wanted?.fitted) fitted++;
        if (wanted && pod.running) wishes.add(wanted.wish);
        pods.push(await withPull(client, pod, signal));
      }
    }
  }
  return { pods, refused, fitted, options: wishes.size === 0 ? undefined : digestOf([...wishes].toSorted().join('\n')) };
}

function updatePatch(pod: RolloutPod, image: string, now: number): readonly JsonPatchOperation[] {
  const { plan, wantedPlan, restarts } = pod;
  const isChanged = plan !== wantedPlan;
  const live = isChanged && image === pod.image && planChange(parsePlan(plan), parsePlan(wantedPlan)) === 'live';
  const record = {
    image,
    from: pod.image,
    plan: digestOf(wantedPlan),
    ...(isChanged ? { fromPlan: plan } : {}),
    ...(live ? { live } : {}),
    at: now,
    restarts,
  };
  return clientPatch(pod, { image, plan: wantedPlan }, record);
}

function revertPatch(pod: RolloutPod, image: string, { to, why }: Step & { do: 'revert' }, now: number) {
  const record = { image, from: to.image, plan: digestOf(pod.wantedPlan), at: now, restarts: pod.restarts, failed: why };
  return clientPatch(pod, to, record);
}

/**
 * Carries steps out. A pod that is gone or was changed meanwhile is looked at again the next time. Throws ApiError (Invalid) where a
 * pod that is as it was seen cannot be changed: by a policy, say.
 */
export async function apply(
  client: KubeClient,
  steps: readonly Step[],
  image: string,
  now: number,
  signal?: AbortSignal,
): Promise<void> {
  const pods = client.resource<PodObject>(Pods);
  for (const step of steps) {
    const { pod } = step;
    const { namespace, name } = pod;
    const patch = step.do === 'update' ? updatePatch(pod, image, now) : revertPatch(pod, image, step, now);
    try {
      await pods.patch({ namespace, name }, patch, { signal });
    } catch (error) {
      if (isNotFound(error)) continue;
      if (!isInvalid(error)) throw error;
      const found = await pods.find({ namespace, name }, signal);
      const now = found && observePod(found);
      if (now?.uid === pod.uid && now.image === pod.image && now.plan === pod.plan) throw error;
    }
  }
}
