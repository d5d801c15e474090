/**
 * Keeps the status of a JuiceCachePolicy: whether it can be used, and by how many volumes it is. The schema has checked each
 * field; what is left are sizes that only make sense together.
 */
import { JuiceCachePolicies } from '../../api/kinds.ts';
import { fieldManagers } from '../../api/group.ts';
import type { CachePolicySpec, CachePolicyStatus, JuiceCachePolicy } from '../../api/cachepolicy.ts';
import { parseQuantity } from '../../api/units.ts';
import type { JuiceVolume } from '../../api/volume.ts';
import { refFromKey } from '../../kube/resources.ts';
import type { EventRecorder, KubeClient, Reconcile, Store } from '../../kube/types.ts';
import type { Clock } from '../../lib/clock.ts';
import { summary } from '../volume/decide.ts';
import type { Verdict } from '../volume/verdict.ts';
import { nextConditions, sameStatus, transitions } from '../volume/status.ts';

export interface CachePolicyReconcilerOptions {
  readonly client: KubeClient;
  readonly policies: Store<JuiceCachePolicy>;
  /** Indexed by `volumeIndexes`. */
  readonly volumes: Store<JuiceVolume>;
  readonly events: EventRecorder;
  readonly clock: Clock;
}

/** Whether the sizes of a policy fit together. Pure. */
export function accept(spec: CachePolicySpec): Verdict {
  const buffer = parseQuantity(spec.buffer.size);
  const readahead = parseQuantity(spec.readahead.max);
  if (readahead > buffer)
    return {
      status: 'False',
      reason: 'PolicyInvalid',
      message: `readahead.max (${spec.readahead.max}) must not be more than buffer.size (${spec.buffer.size}), out of which it is served`,
    };
  return { status: 'True', reason: 'Accepted', message: 'the policy can be used' };
}

export function cachePolicyReconciler(options: CachePolicyReconcilerOptions): Reconcile {
  const client = options.client.resource<JuiceCachePolicy>(JuiceCachePolicies);
  return async (key, { signal }) => {
    const policy = options.policies.get(key);
    if (!policy || policy.metadata.deletionTimestamp !== undefined) return;
    const usedBy = options.volumes.byIndex('policy', key).length;
    const { generation, uid } = policy.metadata;
    const conditions = nextConditions(policy, summary(accept(policy.spec)), options.clock.now());
    const status: CachePolicyStatus = {
      ...(generation === undefined ? {} : { observedGeneration: generation }),
      conditions,
      usedBy,
    };
    if (sameStatus(policy.status, status)) return;
    const metadata = { ...refFromKey(key), ...(uid === undefined ? {} : { uid }) } as { name: string };
    await client.applyStatus({ metadata, status }, { fieldManager: fieldManagers.cachePolicy, signal });
    for (const { type, reason, note } of transitions(policy.status?.conditions, conditions))
      options.events.record({ regarding: policy, type, reason, action: 'Reconcile', note });
  };
}
