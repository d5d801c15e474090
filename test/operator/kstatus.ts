/**
 * What Flux, kpt and `cli-utils` make of any object, written anew from the rules of kstatus for kinds that it does not know:
 * the generic part, then the condition Ready. Source: sigs.k8s.io/cli-utils pkg/kstatus/status (generic.go, status.go).
 */

export type KStatus = 'Current' | 'InProgress' | 'Failed' | 'Terminating';

export interface Judged {
  readonly metadata: { readonly generation?: number; readonly deletionTimestamp?: string };
  readonly status?: {
    readonly observedGeneration?: number;
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
  };
}

export function kstatus({ metadata, status }: Judged): KStatus {
  if (metadata.deletionTimestamp !== undefined) return 'Terminating';
  const { observedGeneration, conditions = [] } = status ?? {};
  if (observedGeneration !== undefined && observedGeneration !== metadata.generation) return 'InProgress';
  for (const { type, status: is } of conditions) {
    if (type === 'Reconciling' && is === 'True') return 'InProgress';
    if (type === 'Stalled' && is === 'True') return 'Failed';
  }
  const ready = conditions.find(({ type }) => type === 'Ready');
  return ready === undefined || ready.status === 'True' ? 'Current' : 'InProgress';
}
