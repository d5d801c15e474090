/**
 * Brings image and options of a volume's client into running pods, one after the other, where `spec.client.rollout` asks for that. Works
 * from what the pods say, so it may be stopped anywhere; while nothing is to be done it only looks now and then.
 */
import type { JuiceCachePolicy } from '../../api/cachepolicy.ts';
import { fieldManagers } from '../../api/group.ts';
import { parseDuration } from '../../api/units.ts';
import type { JuiceVolume, VolumeStatus } from '../../api/volume.ts';
import { MOST_NAMED } from '../../api/volume-rollout.ts';
import { isForbidden, isInvalid } from '../../kube/errors.ts';
import type { EventRecorder, KubeClient, Reconcile, Resource, Store } from '../../kube/types.ts';
import type { Clock } from '../../lib/clock.ts';
import { messageOf } from '../../lib/errors.ts';
import type { Random } from '../../lib/random.ts';
import { apply, observe } from './apply.ts';
import { decide } from './decide.ts';

export interface RolloutReconcilerOptions {
  readonly client: KubeClient;
  readonly resource: Resource;
  readonly volumes: Store<JuiceVolume>;
  readonly policies: Store<JuiceCachePolicy>;
  readonly events: EventRecorder;
  /** The image that the webhook gives where no volume names one; undefined: such pods are left alone. */
  readonly standardImage: string | undefined;
  readonly allowedImages: readonly string[];
  readonly clock: Clock;
  readonly random: Random;
}

/** Milliseconds until the pods are looked at again, ± 20 %. */
const MOVING_MS = 2000;
const STOPPED_MS = 60_000;
/** New pods have the image from the webhook; this finds those that did not. */
const COMPLETE_MS = 3_600_000;

type Rollout = NonNullable<VolumeStatus['rollout']>;

const same = (a: Rollout | undefined, b: Rollout | undefined): boolean => JSON.stringify(a) === JSON.stringify(b);

export function rolloutReconciler(options: RolloutReconcilerOptions): Reconcile {
  const { client, volumes, policies, events, clock, random } = options;
  const resource = client.resource<JuiceVolume>(options.resource);
  const after = (ms: number) => ({ requeueAfterMs: Math.round(ms * (0.8 + random.float() * 0.4)) });

  async function write(volume: JuiceVolume, rollout: Rollout | undefined, signal: AbortSignal): Promise<void> {
    if (same(volume.status?.rollout, rollout)) return;
    const { name, namespace = 'default', uid } = volume.metadata;
    const metadata = { name, namespace, ...(uid === undefined ? {} : { uid }) };
    // Nothing else of the status is this manager's.
    const status = rollout ? { rollout } : {};
    await resource.applyStatus({ metadata, status }, { fieldManager: fieldManagers.rollout, signal });
    const before = volume.status?.rollout?.state;
    if (!rollout || rollout.state === before) return;
    const note = { regarding: volume, action: 'RollOut', note: rollout.message };
    if (rollout.state === 'Failed') events.record({ ...note, type: 'Warning', reason: 'RolloutFailed' });
    else if (rollout.state === 'Complete' && before !== undefined)
      events.record({ ...note, type: 'Normal', reason: 'RolloutComplete' });
  }

  const nothing = (state: 'Blocked', message: string, image?: string): Rollout => ({
    state,
    ...(image === undefined ? {} : { image }),
    total: 0,
    updated: 0,
    failed: [],
    message,
  });

  return async (key, { signal, log }) => {
    const volume = volumes.get(key);
    if (!volume || volume.metadata.deletionTimestamp !== undefined || volume.spec.suspend) return;
    const { rollout, image = options.standardImage } = volume.spec.client;
    if (rollout.strategy !== 'PodByPod') return write(volume, undefined, signal);
    if (image === undefined)
      return write(
        volume,
        nothing('Blocked', 'no image is known: set spec.client.image, or the operator’s --client-image'),
        signal,
      );
    try {
      const find = (other: string): JuiceVolume | undefined => volumes.get(other);
      const { standardImage, allowedImages } = options;
      const sources = { volume: find, policy: (name: string) => policies.get(name) };
      const seen = await observe({ client, volume, find, standardImage, image, allowedImages, sources, signal });
      const { pods, refused, fitted, options: wish } = seen;
      const { maxUnavailable, paused } = rollout;
      const timeoutMs = parseDuration(rollout.timeout);
      const before = volume.status?.rollout;
      const stopped = before?.state === 'Failed' && before.image === image && before.options === wish ? before : undefined;
      const { steps, report } = decide({
        image,
        pods,
        maxUnavailable,
        paused,
        timeoutMs,
        stopped: stopped?.message,
        now: clock.now(),
      });
      for (const step of steps)
        log.info('roll-out', { volume: key, step: step.do, pod: `${step.pod.namespace}/${step.pod.name}`, image });
      await apply(client, steps, image, clock.now(), signal);
      const { state, total, updated, failed, message } = report;
      const left =
        refused === 0
          ? ''
          : `; ${refused} pods of other namespaces are left alone, for which this image is not allowed (--allow-image)`;
      const named = failed.length === 0 && state === 'Failed' ? (stopped?.failed ?? []) : failed.slice(0, MOST_NAMED);
      const less =
        fitted === 0 ? '' : `; ${fitted} have less than the cache policy says: what they were given when they were made`;
      // What stopped it says all this already.
      const told = message.endsWith(`${less}${left}`) ? message : `${message}${less}${left}`;
      const about = { state, image, ...(wish === undefined ? {} : { options: wish }), total, updated };
      await write(volume, { ...about, failed: named, message: told }, signal);
      return after(
        state === 'Complete'
          ? COMPLETE_MS
          : state === 'Progressing' || steps.length + report.updating.length > 0
            ? MOVING_MS
            : STOPPED_MS,
      );
    } catch (error) {
      if (!isForbidden(error) && !isInvalid(error)) throw error;
      const why = isForbidden(error)
        ? 'the operator may not list and patch pods: apply config/rbac/rollout.yaml'
        : `a pod cannot be changed; is config/policies/rollout.yaml that of this version? ${messageOf(error).slice(0, 1000)}`;
      await write(volume, nothing('Blocked', why, image), signal);
      return after(STOPPED_MS);
    }
  };
}
