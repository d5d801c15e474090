/**
 * What a changed plan means for a client that runs by the former one. The client and the roll-out must be of one mind about it, so
 * it is said here once. No imports but the plan's: the client loads this.
 */
import type { Plan } from './plan.ts';

/** The part of a plan that may change in a pod that runs: all but what is mounted where. */
export type PlanOptions = Omit<Plan, 'version' | 'policy' | 'mounts'>;

/**
 * `live`: taken up at once. `restart`: the client leaves its mounts to a next one, which begins with it. `never`: pods get it when
 * they are made, or not at all.
 */
export type PlanChange = 'none' | 'live' | 'restart' | 'never';

const LIVE = new Set(['uploadLimit', 'downloadLimit', 'maxMetadataOps', 'logLevel']);

const same = (before: unknown, after: unknown): boolean => JSON.stringify(before) === JSON.stringify(after);

export function planChange(before: Plan, after: Plan): PlanChange {
  const moved = before.cache && after.cache && before.cache.directory !== after.cache.directory;
  if (!same(before.mounts, after.mounts) || before.journal !== after.journal || moved) return 'never';
  const names = new Set([...Object.keys(before), ...Object.keys(after)] as (keyof Plan)[]);
  names.delete('policy');
  const changed = [...names].filter((name) => !same(before[name], after[name]));
  if (changed.length === 0) return 'none';
  // A client without a limit of operations has nothing in their way that could be told of one.
  const begins = before.maxMetadataOps === undefined && after.maxMetadataOps !== undefined;
  return !begins && changed.every((name) => LIVE.has(name)) ? 'live' : 'restart';
}

/** Write-back ends with this change: what is staged must be stored before, for the next client may not look there. */
export const endsWriteback = (before: Plan, after: Plan): boolean =>
  before.writeback !== undefined && (after.writeback === undefined || after.cache === undefined);
