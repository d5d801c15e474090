/**
 * Whether the image that a pod's client was given can be had. While the kubelet tries to pull the image of a container that ran
 * before, the status of the pod says only that the former one has ended (seen on 1.36); events say why. Programs are waiting
 * meanwhile, so it counts to know at once.
 */
import { isForbidden } from '../../kube/errors.ts';
import { Events } from '../../kube/resources.ts';
import type { KubeClient, KubeObject } from '../../kube/types.ts';
import type { RolloutPod } from './pod.ts';

interface Event extends KubeObject {
  readonly reason?: string;
  readonly note?: string;
  readonly eventTime?: string | null;
  readonly deprecatedLastTimestamp?: string | null;
  readonly deprecatedCount?: number;
}

/** The node's clock may differ from ours by so much, milliseconds. */
const SKEW_MS = 10_000;
const MOST_EVENTS = 100;

/** What the events say of pulls that failed since `at`; undefined where nothing. Pure. */
export function failedPull(events: readonly Event[], image: string, at: number): string | undefined {
  const about = events.filter(({ note = '', eventTime, deprecatedLastTimestamp }) => {
    const time = Date.parse(deprecatedLastTimestamp ?? eventTime ?? '');
    return note.includes(`"${image}"`) && time >= at - SKEW_MS;
  });
  // One failure may be chance; after the second the kubelet waits longer and longer.
  const again = about.some(
    ({ reason, note = '', deprecatedCount = 1 }) =>
      (reason === 'BackOff' && note.startsWith('Back-off pulling')) || (reason === 'Failed' && deprecatedCount >= 2),
  );
  return again ? (about.find(({ reason }) => reason === 'Failed')?.note ?? `the image ${image} cannot be pulled`) : undefined;
}

/** The pod, and why its client does not start, where events say so. */
export async function withPull(client: KubeClient, pod: RolloutPod, signal: AbortSignal): Promise<RolloutPod> {
  const { record } = pod;
  if (!record || record.image !== pod.image || record.failed !== undefined || pod.serves || pod.waiting) return pod;
  const fieldSelector = `regarding.kind=Pod,regarding.name=${pod.name}`;
  try {
    const events = client.resource<Event>(Events);
    for await (const { items } of events.pages({ namespace: pod.namespace, fieldSelector, limit: MOST_EVENTS, signal })) {
      const message = failedPull(items, pod.image, record.at);
      return message === undefined ? pod : { ...pod, waiting: { reason: 'ImagePullBackOff', message } };
    }
  } catch (error) {
    // Without events the time decides.
    if (!isForbidden(error)) throw error;
  }
  return pod;
}
