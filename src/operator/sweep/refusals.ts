/**
 * Workloads whose pods are refused because of a volume. The API server tells that only to the controller that wanted the pod, which
 * writes it into an event of its own (`FailedCreate`), for a Deployment of a ReplicaSet that nobody looks at. Here it becomes an
 * event on the workload that a person made, an entry for the volume's status, and the gauge `juicepod_workloads_refused`.
 *
 * Events are watched with a field selector, and of those only ours are kept: refusals of the webhook, of config/policies, and of Pod
 * Security for our containers. Bounds: what the API server keeps of such events (an hour), an entry for each workload.
 */
import { Gauge } from 'prom-client';
import { cutBytes } from '../../kube/events.ts';
import { controllerOf } from '../../kube/owner.ts';
import { CoreEvents, DaemonSets, Jobs, ReplicaSets, StatefulSets } from '../../kube/resources.ts';
import type { KubeObject, Manager, Resource, Source } from '../../kube/types.ts';
import type { Clock } from '../../lib/clock.ts';
import { mapOf, textOf } from '../../lib/json.ts';
import { askedBy, type Ledger } from './ledger.ts';

/** What makes pods, and may be refused. A Deployment makes them by a ReplicaSet, a CronJob by a Job. */
const makers: Readonly<Record<string, Resource>> = {
  ReplicaSet: ReplicaSets,
  StatefulSet: StatefulSets,
  DaemonSet: DaemonSets,
  Job: Jobs,
};
/** Controllers try again after 17 minutes at most: silence for longer means that nothing is wanted any more. */
const SILENT_MS = 30 * 60_000;
const AGAIN_MS = 60_000;
const MAX_WHY = 800;

const WEBHOOK = 'admission webhook "pods.juicepod.io" denied the request: ';
const marks = [WEBHOOK, "ValidatingAdmissionPolicy 'juicepod-pods'", '"juicepod-client"', '"juicepod-holder"', '"juicepod-sync"'];

/** An event as it is kept. */
export interface Refusal extends KubeObject {
  /** `Kind/namespace/name` of what wanted the pod. */
  readonly about: string;
  readonly uid: string;
  readonly why: string;
  /** When it was last seen, milliseconds since the epoch. */
  readonly at: number;
}

/** An event of a refusal that is about a volume; undefined for any other. Pure. */
export function refusalOf(event: KubeObject): Refusal | undefined {
  const { involvedObject, message, lastTimestamp, eventTime, series } = event as unknown as Readonly<Record<string, unknown>>;
  const { kind, namespace, name, uid } = mapOf(involvedObject);
  if (typeof message !== 'string' || typeof kind !== 'string' || !Object.hasOwn(makers, kind)) return undefined;
  if (!marks.some((mark) => message.includes(mark))) return undefined;
  const times = [lastTimestamp, mapOf(series)['lastObservedTime'], eventTime, event.metadata.creationTimestamp];
  const at = Math.max(...times.map((time) => (typeof time === 'string' ? Date.parse(time) || 0 : 0)));
  const { name: own, namespace: home, uid: ownUid, resourceVersion } = event.metadata;
  const start = message.indexOf(WEBHOOK);
  const why = start < 0 ? message : message.slice(start + WEBHOOK.length);
  return {
    apiVersion: event.apiVersion,
    kind: event.kind,
    metadata: {
      name: own,
      ...(home ? { namespace: home } : {}),
      ...(ownUid ? { uid: ownUid } : {}),
      ...(resourceVersion ? { resourceVersion } : {}),
    },
    about: `${kind}/${textOf(namespace) ?? 'default'}/${textOf(name) ?? ''}`,
    uid: textOf(uid) ?? '',
    why: cutBytes(why, MAX_WHY),
    at,
  };
}

/** Whether a workload has the pods that it wants, so that what was refused once is over. Pure. */
export function hasItsPods(object: KubeObject): boolean {
  const { spec, status } = object as unknown as Readonly<Record<string, unknown>>;
  const count = (of: unknown, name: string, otherwise = 0): number => {
    const value = mapOf(of)[name];
    return typeof value === 'number' ? value : otherwise;
  };
  switch (object.kind) {
    case 'Job':
      return count(status, 'active') + count(status, 'succeeded') + count(status, 'failed') > 0;
    case 'DaemonSet':
      return count(status, 'currentNumberScheduled') >= count(status, 'desiredNumberScheduled');
    default:
      return count(status, 'replicas') >= count(spec, 'replicas', 1);
  }
}

/** Adds it to a manager that was not run yet. */
export function addRefusals(manager: Manager, ledger: Ledger, clock: Clock): void {
  const seen = manager.reflector<Refusal>(CoreEvents, {
    fieldSelector: 'reason=FailedCreate',
    optional: true,
    transform: (event) => refusalOf(event),
    indexes: { about: (refusal) => [refusal.about] },
  });
  const events = manager.events('juicepod.io/refusals');
  const source: Source = { reflector: seen, connect: (add) => seen.onChange(({ object }) => add(object.about)) };
  void new Gauge({
    name: 'juicepod_workloads_refused',
    help: 'Workloads that ask for volumes and whose pods are refused',
    labelNames: ['namespace'] as const,
    registers: [manager.metrics],
    collect() {
      this.reset();
      for (const { namespace, runs } of ledger.values()) if (!runs) this.inc({ namespace });
    },
  });
  manager.controller({
    name: 'refusals',
    sources: [source],
    reconcile: async (key, { signal }) => {
      const last = seen.store.byIndex('about', key).reduce<Refusal | undefined>((a, b) => (a && a.at > b.at ? a : b), undefined);
      const [kind = '', namespace = '', name = ''] = key.split('/');
      const resource = makers[kind];
      const found =
        last && resource && clock.now() - last.at < SILENT_MS
          ? await manager.client.resource(resource).find({ namespace, name }, signal)
          : undefined;
      if (!last || !resource || !found || found.metadata.uid !== last.uid || hasItsPods({ ...found, kind })) {
        ledger.set(key, undefined);
        return {};
      }
      const owner = controllerOf(found);
      const template = mapOf(mapOf((found as unknown as Readonly<Record<string, unknown>>)['spec'])['template']);
      const before = ledger.get(key);
      ledger.set(key, {
        who: `${owner?.kind ?? kind} ${namespace}/${owner?.name ?? name}`,
        namespace,
        runs: false,
        why: last.why,
        volumes: askedBy(template['metadata'], namespace),
      });
      // What wanted the pod has the event of its controller already.
      if (owner && before?.why !== last.why) {
        const { apiVersion, kind: ownerKind, name: ownerName, uid } = owner;
        events.record({
          regarding: { apiVersion, kind: ownerKind, metadata: { name: ownerName, namespace, uid } },
          type: 'Warning',
          reason: 'PodsRefused',
          action: 'Sweep',
          note: `no pod is created (${kind} ${name}): ${last.why}`,
        });
      }
      return { requeueAfterMs: AGAIN_MS };
    },
  });
}
