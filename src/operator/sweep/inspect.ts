/**
 * Whether a pod that asks for volumes has what serves them. Pure: a raw pod in, a finding or nothing out.
 *
 * A pod slips through where the webhook was not called (installed later, its configuration changed, a namespace left out): it
 * would write beside the volume. A webhook of old libraries drops the sidecars' restartPolicy, and with it the sidecars become
 * init containers that never end, or end and serve nobody. Neither can be mended on a running pod; whoever owns it must know.
 */
import { annotations, labels, sidecars } from '../../api/group.ts';
import { type Json, listOf, mapOf } from '../../lib/json.ts';

export interface Finding {
  readonly reason: 'NotInjected' | 'SidecarMissing' | 'SidecarNotRestarted';
  /** For the event: what is wrong, and what to do. */
  readonly message: string;
}

/** True where a pod asks for volumes and did not opt out; its metadata suffices. */
export function asksForVolumes(metadata: unknown): boolean {
  const { annotations: notes, labels: marks } = mapOf(metadata);
  const asked = mapOf(notes);
  return (
    typeof asked[annotations.volumes] === 'string' &&
    // The copy of a static pod, which admission cannot change.
    asked['kubernetes.io/config.mirror'] === undefined &&
    mapOf(marks)[labels.inject] !== 'false'
  );
}

/** What is wrong with a pod that asks for volumes; undefined where nothing is, or where it has ended. */
export function inspectPod(pod: unknown): Finding | undefined {
  const { metadata, spec, status } = mapOf(pod);
  const phase = mapOf(status)['phase'];
  if (!asksForVolumes(metadata) || phase === 'Succeeded' || phase === 'Failed') return undefined;
  const ours = listOf(mapOf(spec)['initContainers']).map(mapOf);
  const find = (name: string): Json | undefined => ours.find((container) => container['name'] === name);
  const [holder, client, sync] = [sidecars.holder, sidecars.client, sidecars.sync].map(find);
  if (!holder && !client && !sync)
    return {
      reason: 'NotInjected',
      message: `the annotation ${annotations.volumes} asks for volumes, but the pod was created without Juicepod's sidecars (its webhook was not called): what it writes stays in the container; delete it, so that it is created again`,
    };
  const plan = mapOf(mapOf(metadata)['annotations'])[annotations.plan];
  if (typeof plan !== 'string' || (holder === undefined) !== (client === undefined))
    return {
      reason: 'SidecarMissing',
      message: `another webhook took a part of what Juicepod had added to the pod (${typeof plan === 'string' ? 'a sidecar' : `the annotation ${annotations.plan}`}); exclude the pod from that webhook and create it again`,
    };
  const lost = [holder, client, sync].find((container) => container !== undefined && container['restartPolicy'] !== 'Always');
  return lost
    ? {
        reason: 'SidecarNotRestarted',
        message: `another webhook removed restartPolicy: Always from the sidecar ${String(lost['name'])}, which is no sidecar without it; update that webhook (libraries of Kubernetes 1.29 or newer) or exclude the pod from it`,
      }
    : undefined;
}
