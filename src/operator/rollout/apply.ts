/**
 * The pods of a roll-out, read when they are needed, and its steps, carried out. Pods are listed with metadata only, page by page,
 * and those whose plan names the volume are read whole; nothing is watched or kept, so pods that no roll-out is about cost nothing.
 */
import type { JuiceVolume } from '../../api/volume.ts';
import { isInvalid, isNotFound } from '../../kube/errors.ts';
import { keyOf, Pods, refOf } from '../../kube/resources.ts';
import type { KubeClient } from '../../kube/types.ts';
import type { Step } from './decide.ts';
import { withPull } from './pulls.ts';
import { chooseImage, imagePatch, observePod, type PodObject, type RolloutPod, volumesOf } from './pod.ts';

/** Steps under way at once. */
const PARALLEL = 8;

export interface RolloutPods {
  readonly pods: readonly RolloutPod[];
  /** Pods of other namespaces that must not be given this image. */
  readonly refused: number;
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
  readonly signal: AbortSignal;
}

/** The pods whose client `volume` decides about. */
export async function observe(options: ObserveOptions): Promise<RolloutPods> {
  const { client, volume, find, standardImage, image, allowedImages, signal } = options;
  const key = keyOf(volume);
  const home = volume.metadata.namespace;
  const everywhere = volume.spec.access.allowedNamespaces.from !== 'Same';
  const allowed = image === standardImage || allowedImages.some((prefix) => image.startsWith(prefix));
  const all = client.resource<PodObject>(Pods);
  const pods: RolloutPod[] = [];
  let refused = 0;
  const list = { ...(everywhere ? {} : { namespace: home }), resourceVersion: '', signal };
  for await (const page of all.metadataOnly().pages(list)) {
    const candidates = page.items.filter((pod) => chooseImage(volumesOf(pod), find, standardImage)?.volume === key);
    for (let from = 0; from < candidates.length; from += PARALLEL) {
      const found = await Promise.all(
        candidates.slice(from, from + PARALLEL).map((candidate) => all.find(refOf(candidate), signal)),
      );
      for (const pod of found.map((each) => each && observePod(each))) {
        if (!pod) continue;
        if (pod.namespace === home || allowed) pods.push(await withPull(client, pod, signal));
        else refused++;
      }
    }
  }
  return { pods, refused };
}

/** Carries steps out. A pod that is gone or was changed meanwhile is looked at again the next time. */
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
    const { namespace, name, restarts } = pod;
    const patch =
      step.do === 'update'
        ? imagePatch(pod, image, { image, from: pod.image, at: now, restarts })
        : imagePatch(pod, step.to, { image, from: step.to, at: now, restarts, failed: step.why });
    try {
      await pods.patch({ namespace, name }, patch, { signal });
    } catch (error) {
      if (!isNotFound(error) && !isInvalid(error)) throw error;
    }
  }
}
