/**
 * Tells what became of volumes in sync mode: an event on the pod for each outcome, and the counter `juicepod_sync_outcomes_total`.
 *
 * Only pods that the webhook labelled are watched, whole, and of those only the outcomes are kept: an ended pod is gone a moment after its
 * sidecar said what it has to say, so that must be in the watch (the deletion carries the pod's last state). An event has a
 * name that follows from the pod and the reason, so a second one, by whoever, is refused by the API server: once per pod, also
 * over restarts of the operator. Pods that ended longer ago than events live were told of, or nobody was there to.
 * Bound: MAX_PENDING outcomes that are not written yet, the oldest are given up; as many names of those that were.
 */
import { createHash } from 'node:crypto';
import { Counter } from 'prom-client';
import { labels } from '../../api/group.ts';
import { ApiError } from '../../kube/errors.ts';
import { cutBytes, MAX_NOTE_BYTES } from '../../kube/events.ts';
import { microTime } from '../../kube/leader.ts';
import { Events, Pods } from '../../kube/resources.ts';
import type { KubeObject, Manager, Source } from '../../kube/types.ts';
import { type Clock, systemClock } from '../../lib/clock.ts';
import { type Outcome, outcomesOf } from './outcome.ts';

const CONTROLLER = 'juicepod.io/sync';
const MAX_PENDING = 1000;
/** The API server's own --event-ttl. */
const EVENTS_LIVE_MS = 3_600_000;
const MAX_NAME = 253;

/** What is kept of a pod. */
interface SyncPod extends KubeObject {
  readonly outcomes: readonly Outcome[];
}

interface Pending {
  readonly pod: SyncPod;
  readonly outcome: Outcome;
}

function slim(pod: KubeObject): SyncPod {
  const { name, namespace, uid, resourceVersion } = pod.metadata;
  return {
    apiVersion: pod.apiVersion,
    kind: pod.kind,
    metadata: {
      name,
      ...(namespace ? { namespace } : {}),
      ...(uid ? { uid } : {}),
      ...(resourceVersion ? { resourceVersion } : {}),
    },
    outcomes: outcomesOf(pod),
  };
}

function eventName({ metadata }: SyncPod, reason: string): string {
  const hash = createHash('sha256')
    .update(`${metadata.uid ?? ''} ${reason}`)
    .digest('hex')
    .slice(0, 16);
  return `${metadata.name.slice(0, MAX_NAME - 17)}.${hash}`;
}

/** Adds it to a manager that was not run yet. */
export function addSyncOutcomes(manager: Manager, clock: Clock = systemClock): void {
  const pods = manager.reflector<SyncPod>(Pods, {
    labelSelector: `${labels.sync}=true`,
    optional: true,
    transform: (pod) => slim(pod),
  });
  const events = manager.client.resource(Events);
  const pending = new Map<string, Pending>();
  /** Spares the API server what it would refuse. */
  const written = new Set<string>();
  const told = new Counter({
    name: 'juicepod_sync_outcomes_total',
    help: 'Pods in sync mode that ended with something not written back, or with conflicts',
    labelNames: ['namespace', 'reason'] as const,
    registers: [manager.metrics],
  });
  const source: Source = {
    reflector: pods,
    connect: (add) =>
      pods.onChange(({ object }) => {
        for (const outcome of object.outcomes) {
          if (outcome.at !== undefined && clock.now() - outcome.at > EVENTS_LIVE_MS) continue;
          const { namespace = '', name, uid = '' } = object.metadata;
          const key = `${namespace}/${name}/${uid}/${outcome.reason}`;
          if (written.has(key)) continue;
          pending.set(key, { pod: object, outcome });
          if (pending.size > MAX_PENDING) pending.delete(pending.keys().next().value as string);
          add(key);
        }
      }),
  };
  manager.controller({
    name: 'syncoutcomes',
    concurrency: 2,
    sources: [source],
    reconcile: async (key) => {
      const found = pending.get(key);
      if (!found) return {};
      const { pod, outcome } = found;
      const { namespace = 'default', name, uid } = pod.metadata;
      try {
        await events.create({
          metadata: { name: eventName(pod, outcome.reason), namespace },
          eventTime: microTime(clock.now()),
          reportingController: CONTROLLER,
          reportingInstance: 'juicepod-operator',
          action: 'WriteBack',
          reason: outcome.reason,
          type: 'Warning',
          note: cutBytes(outcome.message, MAX_NOTE_BYTES),
          regarding: { apiVersion: pod.apiVersion, kind: pod.kind, name, namespace, ...(uid ? { uid } : {}) },
        });
        told.inc({ namespace, reason: outcome.reason });
      } catch (error) {
        // It is there already, or its namespace is about to go: no other try will change that.
        if (!(error instanceof ApiError) || (error.code !== 409 && error.retryable)) throw error;
      }
      pending.delete(key);
      if (written.size >= MAX_PENDING) written.clear();
      written.add(key);
      return {};
    },
  });
}
