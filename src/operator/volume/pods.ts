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

/**
 * Keys of the pods, `namespace/name`. `watched`: the namespaces that the operator may look into, where that is not all. Elsewhere,
 * where not all pods may be listed: those of the volume's namespace; else none.
 */
export async function podsOf(
  client: KubeClient,
  volume: JuiceVolume,
  watched: readonly string[] | undefined,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const key = keyOf(volume);
  const own = volume.metadata.namespace;
  const pods = client.resource(Pods).metadataOnly();
  const list = async (namespace: string | undefined): Promise<readonly string[]> => {
    const found: string[] = [];
    const options = { ...(namespace === undefined ? {} : { namespace }), fieldSelector: ALIVE, limit: PAGE, signal };
    for await (const { items } of pods.pages(options))
      found.push(...items.filter((pod) => volumesOf(pod).includes(key)).map(keyOf));
    return found;
  };
  const attempt = async (namespace: string | undefined): Promise<readonly string[] | undefined> => {
    try {
      return await list(namespace);
    } catch (error) {
      if (!isForbidden(error)) throw error;
      return undefined;
    }
  };
  // Narrower where no others can have it: that is cheaper.
  if (volume.spec.access.allowedNamespaces.from === 'Same') return (await attempt(own)) ?? [];
  if (!watched) return (await attempt(undefined)) ?? (await attempt(own)) ?? [];
  const found: string[] = [];
  for (const namespace of watched) found.push(...((await attempt(namespace)) ?? []));
  return found;
}
