/**
 * How long the pod gets to end. What was written must be stored before the sidecars are killed; so the time is raised to a floor,
 * and above it to what the buffer takes at a slow store or at the policy's limit, and for write-back
 * by what its draining may take. Pods that only read keep theirs.
 */
import { ORIGINAL_GRACE } from './names.ts';
import { textOf } from '../lib/json.ts';
import { type Pod } from './pod.ts';

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

export interface Work {
  /** Pods that write get at least so many seconds. */
  readonly floor: number;
  /** What may be written and not stored. */
  readonly bufferMiB: number;
  /** Bytes per second that the cache policy allows; undefined: any. */
  readonly uploadLimit: number | undefined;
  /** What write-back may take on top, seconds. */
  readonly drainSeconds: number;
}

export function graceOf(pod: Pod, { floor, bufferMiB, uploadLimit, drainSeconds }: Work, writes: boolean): Grace {
  const found = pod.spec['terminationGracePeriodSeconds'];
  const own = typeof found === 'number' ? found : DEFAULT_SECONDS;
  const rate = Math.min(SLOW_MIBPS, (uploadLimit ?? Infinity) / 2 ** 20);
  const flush = Math.min(MOST_SECONDS, Math.ceil(bufferMiB / rate) + MARGIN_SECONDS);
  const needed = writes ? Math.max(floor, flush) + Math.ceil(drainSeconds) : 0;
  return {
    raised: own < needed ? needed : undefined,
    seconds: Math.max(own, needed),
    original: textOf(pod.annotations[ORIGINAL_GRACE]) ?? String(own),
  };
}
