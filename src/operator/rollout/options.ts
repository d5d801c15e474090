/**
 * Which options the client of a running pod should have: what the webhook would put into the plan of a new one, as far as it fits
 * what the pod was given when it was made. Pure. Where something that the plan rests on is missing (a volume, a policy), options
 * stay as they are: a reference that is broken for a moment is no reason to restart anything.
 */
import { type CachePolicySpec, defaultCachePolicy, type JuiceCachePolicy } from '../../api/cachepolicy.ts';
import { annotations, CACHE_VOLUME, sidecars } from '../../api/group.ts';
import { parsePlan, type Plan } from '../../api/plan.ts';
import { cacheOf, optionsOf, withOptions } from '../../api/plan-options.ts';
import { fitOptions, type Room } from '../../api/plan-room.ts';
import { parseQuantity } from '../../api/units.ts';
import type { JuiceVolume } from '../../api/volume.ts';
import type { PodObject } from './pod.ts';

const MIB = 2 ** 20;
/** What Kubernetes gives a pod that says nothing, seconds. */
const DEFAULT_GRACE = 30;

export interface OptionSources {
  readonly volume: (key: string) => JuiceVolume | undefined;
  readonly policy: (key: string) => JuiceCachePolicy | undefined;
}

export interface WantedOptions {
  /** The plan that the pod's annotation is to hold; the one it holds where nothing is to change. */
  readonly plan: string;
  /** Names what is wished for, before it is fitted to this pod. */
  readonly wish: string;
  /** The pod was given too little room for all of it. */
  readonly fitted: boolean;
}

/** The policy that counts, as the webhook chooses it: the pod's own, else the first that one of its volumes names. */
function policyOf(
  plan: Plan,
  text: string,
  volumes: readonly JuiceVolume[],
  sources: OptionSources,
): CachePolicySpec | undefined {
  if (plan.policy !== undefined) return sources.policy(plan.policy)?.spec;
  // Chosen by a pod whose plan does not say so yet.
  if (/\bcachePolicy\b/.test(text)) return undefined;
  const refs = volumes.flatMap(({ metadata, spec }) =>
    spec.cachePolicyRef ? [`${metadata.namespace ?? 'default'}/${spec.cachePolicyRef.name}`] : [],
  );
  const found = refs.map((key) => sources.policy(key));
  return found.includes(undefined) ? undefined : (found[0]?.spec ?? defaultCachePolicy);
}

/** MiB of a quantity in the pod's spec; undefined where there is none that can be read. */
function mibOf(quantity: unknown): number | undefined {
  if (typeof quantity !== 'string' && typeof quantity !== 'number') return undefined;
  try {
    return parseQuantity(quantity) / MIB;
  } catch {
    return undefined;
  }
}

function roomOf({ spec }: PodObject): Room {
  const cache = spec.volumes?.find(({ name }) => name === CACHE_VOLUME)?.emptyDir;
  const diskMiB = mibOf(cache?.sizeLimit);
  const limit = mibOf(spec.initContainers?.find(({ name }) => name === sidecars.client)?.resources?.limits?.['memory']);
  return {
    diskMiB,
    memoryMiB: limit === undefined ? undefined : limit - (cache?.medium === 'Memory' ? (diskMiB ?? 0) : 0),
    graceSeconds: spec.terminationGracePeriodSeconds ?? DEFAULT_GRACE,
  };
}

/** Undefined where the options of the pod are to be left alone. */
export function wantedOptions(pod: PodObject, sources: OptionSources): WantedOptions | undefined {
  const text = pod.metadata.annotations?.[annotations.plan];
  if (text === undefined) return undefined;
  let plan: Plan;
  try {
    plan = parsePlan(text);
  } catch {
    return undefined;
  }
  const { version: _version, policy: _policy, mounts, ...current } = plan;
  // Without a journal it is no client that mounts.
  const folder = plan.journal;
  const names = [...new Set(mounts.map(({ volume }) => volume))];
  const volumes = names.map((name) => sources.volume(name)).filter((volume) => volume !== undefined);
  if (folder === undefined || volumes.length < names.length) return undefined;
  const policy = policyOf(plan, pod.metadata.annotations?.[annotations.volumes] ?? '', volumes, sources);
  if (!policy) return undefined;
  const logLevels = volumes.map(({ spec }) => spec.client.logLevel);
  const wish = optionsOf({ policy, logLevels, cacheMiB: cacheOf(policy), folder, isMounted: true });
  const options = fitOptions(wish, current, roomOf(pod));
  const next = withOptions(text, options);
  return next === undefined
    ? undefined
    : { plan: next, wish: JSON.stringify(wish), fitted: JSON.stringify(wish) !== JSON.stringify(options) };
}
