/** The volume as a whole: how full it is, and every slice its files refer to. */
import type { Ino } from '../lib/int64.ts';
import type { Account } from './accounts.ts';
import { decodeSlices } from './records.ts';
import type { StatFs } from './types.ts';
import type { Volume } from './volume.ts';

const PIB = 2 ** 50;
const MANY_INODES = 10 * 2 ** 20;

/** Room and use. Without a limit the volume seems to be 1 PiB, doubled until a fifth of it is free. */
export function fullness(used: { readonly space: number; readonly inodes: number }, capacity: number, inodes: number): StatFs {
  let totalBytes = capacity;
  if (totalBytes === 0) for (totalBytes = PIB; totalBytes * 0.8 < used.space; totalBytes *= 2);
  let availableInodes = inodes - used.inodes;
  if (inodes === 0) for (availableInodes = MANY_INODES; used.inodes > availableInodes * 4; availableInodes *= 2);
  return {
    totalBytes: Math.max(totalBytes, used.space),
    availableBytes: Math.max(0, totalBytes - used.space),
    usedInodes: used.inodes,
    availableInodes: Math.max(0, availableInodes),
  };
}

/**
 * Narrows the view of the volume to the quotas that something lies under, nearest first: what is used is the nearest one's, what
 * is available the least that any of them leaves.
 */
function narrowed(volume: StatFs, accounts: readonly Pick<Account, 'limits' | 'used' | 'space' | 'inodes'>[]): StatFs {
  let { availableBytes, availableInodes } = volume;
  const uses = accounts.map((account) => ({
    space: Math.max(0, account.used.space + account.space),
    inodes: Math.max(0, account.used.inodes + account.inodes),
  }));
  const [nearest] = uses;
  if (!nearest) return volume;
  for (const [at, { limits }] of accounts.entries()) {
    const use = uses[at] ?? nearest;
    if (limits.space > 0) availableBytes = Math.min(availableBytes, Math.max(0, limits.space - use.space));
    if (limits.inodes > 0) availableInodes = Math.min(availableInodes, Math.max(0, limits.inodes - use.inodes));
  }
  return { totalBytes: nearest.space + availableBytes, availableBytes, usedInodes: nearest.inodes, availableInodes };
}

export async function statfs(volume: Volume, ino: Ino): Promise<StatFs> {
  const { capacity, inodes } = volume.format;
  const whole = fullness(volume.options.fastStatfs ? volume.stats.known : await volume.stats.used(), capacity, inodes);
  return narrowed(whole, await volume.limits.above(ino));
}

/** Every slice in a chunk's list, once per record. */
export async function* allSlices(
  volume: Volume,
): AsyncIterable<{ readonly ino: Ino; readonly id: number; readonly size: number }> {
  for await (const { ino, records } of volume.engine.scanAllChunks())
    for (const { id, size } of decodeSlices(records)) if (id > 0) yield { ino, id, size };
}
