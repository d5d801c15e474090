/**
 * How much of the pod's disk our emptyDirs may take, and what is asked for. Pure.
 *
 * In fuse mode the cache and the journal of written data share one emptyDir; in sync mode each volume has its own. Both are
 * bounded by `local.size` of the cache policy. Where platform or LimitRange leave less, the cache shrinks, down to none; the
 * journal does not. What is used is requested as ephemeral-storage, else the kubelet evicts the pod first when the disk is full.
 */
import type { CachePolicySpec } from '../api/cachepolicy.ts';
import { cacheIn, LEAST_CACHE_MIB, OWN_MIB, roomFor } from '../api/plan-room.ts';
import { parseQuantity } from '../api/units.ts';
import type { LimitRange } from './limits.ts';
import { isLimited, largestAllowed, sumOfOthers } from './limits.ts';
import type { Platform } from './platforms/index.ts';
import type { Container } from './pod.ts';
import type { Violation } from './violation.ts';
import { binaryQuantity } from './resources.ts';

const MIB = 2 ** 20;
const STORAGE = 'ephemeral-storage';
/** For logs and what containers write outside of volumes, where the pod's sum of limits counts. */
const SLACK_MIB = 1024;
/** The holder's share of it. */
const HOLDER_MIB = 64;

export interface DiskInput {
  readonly policy: CachePolicySpec;
  /** What lies beside the cache: written data, and what waits for its upload. */
  readonly bufferMiB: number;
  readonly hasFuse: boolean;
  /** How many volumes are in sync mode. */
  readonly syncs: number;
  readonly platform: Platform;
  readonly others: readonly Container[];
  readonly ranges: readonly LimitRange[];
}

export interface Disk {
  /** Undefined: no cache. */
  readonly cacheMiB: number | undefined;
  /** For each volume in sync mode. */
  readonly syncMiB: number;
  /** Bytes of disk that the client's emptyDir may take, and those of the sync sidecar. */
  readonly client: number;
  readonly sync: number;
  /** True where a limit must be named too: others of the pod are limited, and the sum counts. */
  readonly limited: boolean;
  readonly annotation: readonly [string, string] | undefined;
  readonly warnings: readonly string[];
}

/** The share of a limit for one container. */
export const limitFor = (bytes: number): number => bytes + SLACK_MIB * MIB;

export function sizeDisk(input: DiskInput): Disk | Violation {
  const { policy, bufferMiB, hasFuse, syncs, platform, others, ranges } = input;
  const { medium, size } = policy.local;
  const wanted = Math.max(1, Math.floor(parseQuantity(size) / MIB));
  const onDisk = medium !== 'Memory';
  const taken = sumOfOthers(others, 'requests', STORAGE);
  const limited = isLimited(STORAGE, others, ranges);
  const slack = limited ? SLACK_MIB + HOLDER_MIB : 0;
  const roomMiB = Math.floor(
    Math.min(largestAllowed(STORAGE, others, ranges), (platform.disk?.max ?? Infinity) - taken) / MIB - slack,
  );
  const warnings: string[] = [];
  const tooSmall = (need: number): Violation => ({
    reason: 'EphemeralStorage',
    message: `the pod has ${binaryQuantity(Math.max(0, roomMiB) * MIB)} of disk left for Juicepod (${platform.title}, LimitRanges, requests of the other containers), and ${binaryQuantity(need * MIB)} are needed; ask for less in the other containers, or lower buffer.size and local.size of the cache policy`,
  });

  const journal = hasFuse && onDisk ? bufferMiB + OWN_MIB : 0;
  let syncMiB = syncs === 0 ? 0 : Math.max(LEAST_CACHE_MIB, Math.floor(wanted / syncs));
  const left = roomMiB - journal;
  if (syncs > 0 && syncs * roomFor(syncMiB) > left) {
    syncMiB = cacheIn(left / syncs);
    if (syncMiB < LEAST_CACHE_MIB) return tooSmall(journal + syncs * roomFor(LEAST_CACHE_MIB));
    warnings.push(
      `each volume in sync mode may take ${syncMiB} MiB instead of what local.size says: the pod has no more disk (${platform.title})`,
    );
  } else if (left < 0) return tooSmall(journal);
  const syncRoom = syncs * (syncs === 0 ? 0 : roomFor(syncMiB));

  let cacheMiB = hasFuse && medium !== 'None' ? wanted : undefined;
  if (cacheMiB !== undefined && onDisk && roomFor(cacheMiB, bufferMiB) + syncRoom > roomMiB) {
    const fitting = cacheIn(roomMiB - syncRoom, bufferMiB);
    cacheMiB = fitting < LEAST_CACHE_MIB ? undefined : fitting;
    warnings.push(
      `the cache is ${cacheMiB === undefined ? 'left out' : `${cacheMiB} MiB`} instead of ${String(size)}: the pod has no more disk (${platform.title})`,
    );
  }
  const client = hasFuse && onDisk ? roomFor(cacheMiB ?? 0, bufferMiB) * MIB : 0;
  const sync = syncRoom * MIB;
  const all = taken + client + sync;
  const { disk } = platform;
  return {
    cacheMiB,
    syncMiB,
    client,
    sync,
    limited,
    annotation: disk?.annotation && all > disk.included ? [disk.annotation.name, disk.annotation.value(all)] : undefined,
    warnings,
  };
}
