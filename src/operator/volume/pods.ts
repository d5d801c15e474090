/**
 * Which pods mount a volume, by their plans. Sessions in the database tell of those that write; a pod that only reads has none, and
 * would lose its Secret, and its data, with the volume. Asked only while a volume is being deleted: metadata, page by page.
 */
import type { JuiceVolume } from '../../api/volume.ts';
import { isForbidden } from '../../kube/errors.ts';
import { keyOf, Pods } from '../../kube/resources.ts';
import type { KubeClient } from '../../kube/types.ts';
import { volumesOf } from '../rollout/pod.ts';

/** Pods that are over hold nothing. */
const ALIVE = 'status.phase!=Succeeded,status.phase!=Failed';
const PAGE = 500;

/** Keys of the pods, `namespace/name`. Where not all of them may be listed: those of the volume's namespace; else none. */
export async function podsOf(client: KubeClient, volume: JuiceVolume, signal: AbortSignal): Promise<readonly string[]> {
  const key = keyOf(volume);
  const pods = client.resource(Pods).metadataOnly();
  const list = async (namespace: string | undefined): Promise<readonly string[]> => {
    const found: string[] = [];
    const options = { ...(namespace === undefined ? {} : { namespace }), fieldSelector: ALIVE, limit: PAGE, signal };
    for await (const { items } of pods.pages(options))
      found.push(...items.filter((pod) => volumesOf(pod).includes(key)).map(keyOf));
    return found;
  };
  // Narrower where others cannot have it: cheaper, and an operator of one namespace may do no more.
  const places =
    volume.spec.access.allowedNamespaces.from === 'Same' ? [volume.metadata.namespace] : [undefined, volume.metadata.namespace];
  for (const place of places)
    try {
      return await list(place);
    } catch (error) {
      if (!isForbidden(error)) throw error;
    }
  return [];
}
