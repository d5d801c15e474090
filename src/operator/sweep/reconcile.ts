/**
 * Looks once at each pod that asks for volumes, and says where it did not get them: an event on the pod, the condition `PodsServed` of the
 * volume (served.ts), and the gauge `juicepod_pods_without_volume` by namespace and reason. It changes nothing else.
 *
 * Only metadata of pods is watched, and nothing is kept of pods without the annotation; a pod with it is read whole when
 * it is first seen, for its init containers cannot change later. Bound: a name for each such pod, an entry for each finding.
 */
import { Gauge } from 'prom-client';
import { annotations, labels } from '../../api/group.ts';
import type { JuiceVolume } from '../../api/volume.ts';
import { Pods, refFromKey } from '../../kube/resources.ts';
import { watches } from '../../kube/source.ts';
import type { KubeObject, Manager, Reflector } from '../../kube/types.ts';
import { type Clock, systemClock } from '../../lib/clock.ts';
import { asksForVolumes, type Finding, inspectPod } from './inspect.ts';
import { askedBy, Ledger } from './ledger.ts';
import { addSyncOutcomes } from './outcomes.ts';
import { addRefusals } from './refusals.ts';
import { addServed } from './served.ts';

/** How often a pod with a finding is looked at again. */
const AGAIN_MS = 600_000;

interface Found {
  readonly uid: string | undefined;
  readonly namespace: string;
  readonly finding: Finding;
}

const ledgerKey = (key: string): string => `Pod/${key}`;

/** What is kept of a pod that asks for volumes: that it does, and what tells it from a later one of its name. Of others nothing. */
function bare(pod: KubeObject): KubeObject | undefined {
  if (!asksForVolumes(pod.metadata)) return undefined;
  const { name, namespace, uid, resourceVersion } = pod.metadata;
  const kept = {
    name,
    ...(namespace ? { namespace } : {}),
    ...(uid ? { uid } : {}),
    ...(resourceVersion ? { resourceVersion } : {}),
    annotations: { [annotations.volumes]: '' },
  };
  return { apiVersion: pod.apiVersion, kind: pod.kind, metadata: kept };
}

/** Adds the sweep to a manager that was not run yet. `namespaces`: their labels, for those that opted out. */
export function addSweep(
  manager: Manager,
  namespaces: Reflector,
  clock: Clock = systemClock,
  volumes?: Reflector<JuiceVolume>,
): void {
  addSyncOutcomes(manager, clock);
  const ledger = new Ledger();
  addRefusals(manager, ledger, clock);
  if (volumes) addServed(manager, ledger, volumes, namespaces, clock);
  const pods = manager.reflector(Pods, { metadataOnly: true, optional: true, transform: bare });
  const client = manager.client.resource(Pods);
  const events = manager.events('juicepod.io/sweep');
  const found = new Map<string, Found>();
  const forget = (key: string): void => {
    found.delete(key);
    ledger.set(ledgerKey(key), undefined);
  };
  const labelNames = ['namespace', 'reason'] as const;
  void new Gauge({
    name: 'juicepod_pods_without_volume',
    help: 'Pods that ask for volumes and run without what serves them',
    labelNames,
    registers: [manager.metrics],
    collect() {
      this.reset();
      for (const { namespace, finding } of found.values()) this.inc({ namespace, reason: finding.reason });
    },
  });
  manager.controller({
    name: 'podsweep',
    concurrency: 2,
    sources: [
      // An update counts only where a pod of the same name is another one, or has begun to ask.
      watches(
        pods,
        (pod) => (asksForVolumes(pod.metadata) ? [`${pod.metadata.namespace}/${pod.metadata.name}`] : []),
        (change) => change.type !== 'updated' || asksForVolumes(change.object.metadata) !== asksForVolumes(change.old.metadata),
      ),
    ],
    reconcile: async (key, { signal }) => {
      const seen = pods.store.get(key);
      const { namespace = '' } = refFromKey(key);
      const isOut = namespaces.store.get(namespace)?.metadata.labels?.[labels.injection] === 'disabled';
      if (!seen || isOut || !asksForVolumes(seen.metadata)) {
        forget(key);
        return {};
      }
      const pod = await client.find(refFromKey(key), signal);
      const finding = inspectPod(pod);
      if (!pod || !finding) {
        forget(key);
        return {};
      }
      const { uid } = pod.metadata;
      const before = found.get(key);
      found.set(key, { uid, namespace, finding });
      if (before?.uid !== uid || before?.finding.reason !== finding.reason) {
        ledger.set(ledgerKey(key), {
          who: `pod ${key}`,
          namespace,
          runs: true,
          why: finding.reason,
          volumes: askedBy(pod.metadata, namespace),
        });
        events.record({ regarding: pod, type: 'Warning', reason: finding.reason, action: 'Sweep', note: finding.message });
      }
      // That it has ended is in no metadata.
      return { requeueAfterMs: AGAIN_MS };
    },
  });
}
