/**
 * How long the pod gets to end. What was written must be stored before the sidecars are killed; so the time is raised to a floor,
 * and above it to what the buffer takes at a slow store. Pods that only read keep theirs.
 */
import { ORIGINAL_GRACE } from './names.ts';
import { type Pod, textOf } from './pod.ts';

/** What Kubernetes gives a pod that says nothing, seconds. */
const DEFAULT_SECONDS = 30;
/** A store slower than this is not waited for, MiB per second. */
const SLOW_MIBPS = 10;
/** Stopping the application, and metadata. */
const MARGIN_SECONDS = 15;
const MOST_SECONDS = 900;

export interface Grace {
  /** Undefined: the pod's own is long enough. */
  readonly raised: number | undefined;
  /** What holds in the end. */
  readonly seconds: number;
  /** What it was before anything was raised, as text. */
  readonly original: string;
}

export function graceOf(
  pod: Pod,
  { floor, bufferMiB }: { readonly floor: number; readonly bufferMiB: number },
  writes: boolean,
): Grace {
  const found = pod.spec['terminationGracePeriodSeconds'];
  const own = typeof found === 'number' ? found : DEFAULT_SECONDS;
  const needed = writes ? Math.max(floor, Math.min(MOST_SECONDS, Math.ceil(bufferMiB / SLOW_MIBPS) + MARGIN_SECONDS)) : 0;
  return {
    raised: own < needed ? needed : undefined,
    seconds: Math.max(own, needed),
    original: textOf(pod.annotations[ORIGINAL_GRACE]) ?? String(own),
  };
}
