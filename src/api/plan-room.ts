/**
 * How much of the pod's disk a plan takes, and how a plan is made to fit what a pod has been given. What a pod has is settled when
 * it is made (emptyDirs, limits, the time it has to end), so options that change later have to keep within it. Pure.
 */
import type { PlanOptions } from './plan-change.ts';

/** The client may overshoot while it evicts, and keeps some files of its own. */
const OVERSHOOT = 1.1;
export const OWN_MIB = 128;
/** A smaller cache is none; as in the policy's schema. */
export const LEAST_CACHE_MIB = 64;
/** The least that may be staged, and buffered; as in the policy's schema. */
const LEAST_STAGING_MIB = 64;
const LEAST_BUFFER_MIB = 32;
/** What a pod that writes needs to end besides the draining, seconds. */
const ENDING_SECONDS = 60;

/** Room in MiB that an emptyDir needs for so many MiB of files, and `fixedMib` that never are more. */
export const roomFor = (mib: number, fixedMib = 0): number => Math.ceil(mib * OVERSHOOT + fixedMib + OWN_MIB);

/** How many MiB of files have room: the most for which `roomFor` is not more. */
export function cacheIn(roomMib: number, fixedMib = 0): number {
  let most = Math.floor((roomMib - OWN_MIB - fixedMib) / OVERSHOOT) + 1;
  // Fractions are not exact.
  while (roomFor(most, fixedMib) > roomMib) most--;
  return most;
}

/** What a pod has been given. Undefined: nothing bounds it. */
export interface Room {
  /** The emptyDir of cache and journal. */
  readonly diskMiB: number | undefined;
  /** The client's limit of memory, without what an emptyDir in memory may take. */
  readonly memoryMiB: number | undefined;
  /** terminationGracePeriodSeconds */
  readonly graceSeconds: number;
}

/**
 * The options as far as they fit into a pod that runs with `current`. Buffer and time to drain that it has already are never too
 * much; done once, doing it again changes nothing.
 */
export function fitOptions(wanted: PlanOptions, current: PlanOptions, room: Room): PlanOptions {
  const { cache, writeback, ...rest } = wanted;
  const disk = room.diskMiB ?? Infinity;
  const most = Math.min((room.memoryMiB ?? Infinity) - OWN_MIB, disk - OWN_MIB);
  const bufferMiB = Math.min(wanted.bufferMiB, Math.max(LEAST_BUFFER_MIB, current.bufferMiB, Math.floor(most)));
  const staged = fitWriteback(writeback, current, room.graceSeconds, disk - OWN_MIB - bufferMiB - LEAST_CACHE_MIB * OVERSHOOT);
  const fitting = cacheIn(disk, bufferMiB + (staged?.maxStagingMiB ?? 0));
  const sizeMiB = cache && Math.min(cache.sizeMiB, fitting);
  const keeps = cache && sizeMiB !== undefined && sizeMiB >= LEAST_CACHE_MIB;
  return ordered({
    ...rest,
    bufferMiB,
    ...(keeps ? { cache: { ...cache, sizeMiB } } : {}),
    ...(keeps && staged ? { writeback: staged } : {}),
  });
}

function fitWriteback(
  wanted: PlanOptions['writeback'],
  { writeback: current }: PlanOptions,
  graceSeconds: number,
  roomMiB: number,
): PlanOptions['writeback'] {
  if (!wanted) return undefined;
  const maxStagingMiB = Math.min(wanted.maxStagingMiB, Math.floor(roomMiB + 1e-6));
  // What cannot be drained in the time that the pod has to end would be lost with it.
  const drainTimeout = Math.min(wanted.drainTimeout, Math.max(graceSeconds - ENDING_SECONDS, current?.drainTimeout ?? 0));
  const enough = drainTimeout > 0 || wanted.drainTimeout === 0;
  return maxStagingMiB >= LEAST_STAGING_MIB && enough ? { ...wanted, maxStagingMiB, drainTimeout } : undefined;
}

/** Members in the order of the plan, so that equal options are equal texts. */
function ordered(options: PlanOptions): PlanOptions {
  const { cache, writeback, journal, ...rest } = options;
  return {
    ...(cache ? { cache } : {}),
    ...(writeback ? { writeback } : {}),
    ...(journal === undefined ? {} : { journal }),
    ...rest,
  };
}
