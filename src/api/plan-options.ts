/**
 * From a cache policy to the options of a plan: for pods that are made (the webhook) and for pods that run (the roll-out). Pure.
 */
import type { CachePolicySpec } from './cachepolicy.ts';
import type { PlanOptions } from './plan-change.ts';
import { formatPlan, parsePlan, type Plan, type PlanCache } from './plan.ts';
import { parseDuration, parseQuantity } from './units.ts';

const MIB = 2 ** 20;

/** Memory for data on its way, MiB. */
export function bufferOf(policy: CachePolicySpec): number {
  return Math.max(1, Math.floor(parseQuantity(policy.buffer.size) / MIB));
}

/** What may wait on the disk to be uploaded, MiB; 0 without write-back. */
export function stagingOf({ writeback }: CachePolicySpec): number {
  return writeback.enabled ? Math.max(1, Math.floor(parseQuantity(writeback.maxStaging) / MIB)) : 0;
}

/** How large a cache is that has all the room it wants, MiB; undefined for none. */
export const cacheOf = ({ local }: CachePolicySpec): number | undefined =>
  local.medium === 'None' ? undefined : Math.max(1, Math.floor(parseQuantity(local.size) / MIB));

export type LogLevel = Plan['logLevel'];
const LEVELS = ['debug', 'info', 'warn', 'error'] as const satisfies readonly LogLevel[];

export interface OptionsInput {
  readonly policy: CachePolicySpec;
  /** Those of the pod's volumes; the one that says most counts. */
  readonly logLevels: readonly LogLevel[];
  /** Undefined: no cache. */
  readonly cacheMiB: number | undefined;
  /** Where cache and journal lie. */
  readonly folder: string;
  /** False where nothing is mounted, and all is copied: no journal then, and no write-back. */
  readonly isMounted: boolean;
}

/** What is as without the policy is left out, so that clients from before there was such a thing have the same plan. */
function cacheIn({ local }: CachePolicySpec, directory: string, sizeMiB: number): PlanCache {
  const { eviction, verifyChecksum: checksum } = local;
  const expire = parseDuration(local.expire) / 1000;
  return {
    directory,
    sizeMiB,
    freeSpaceRatio: local.freeSpacePercent / 100,
    ...(eviction === '2-random' ? {} : { eviction }),
    ...(expire === 0 ? {} : { expire }),
    ...(checksum === 'extend' ? {} : { checksum }),
  };
}

export function optionsOf({ policy, logLevels, cacheMiB, folder, isMounted }: OptionsInput): PlanOptions {
  const seconds = (duration: string): number => parseDuration(duration) / 1000;
  const { local, metadata, io, readahead, writeback } = policy;
  return {
    ...(cacheMiB === undefined ? {} : { cache: cacheIn(policy, folder, cacheMiB) }),
    ...(writeback.enabled && isMounted
      ? {
          writeback: {
            maxStagingMiB: stagingOf(policy),
            uploadDelay: seconds(writeback.uploadDelay),
            drainTimeout: seconds(writeback.drainTimeout),
          },
        }
      : {}),
    ...(isMounted ? { journal: folder } : {}),
    bufferMiB: bufferOf(policy),
    readaheadMiB: Math.floor(parseQuantity(readahead.max) / MIB),
    attrTTL: seconds(metadata.attrTTL),
    entryTTL: seconds(metadata.entryTTL),
    dirEntryTTL: seconds(metadata.dirTTL),
    negativeTTL: seconds(metadata.negativeTTL),
    ...(parseDuration(metadata.openCache) === 0 ? {} : { openCache: seconds(metadata.openCache) }),
    maxUploads: io.maxUploads,
    maxDownloads: io.maxDownloads,
    ...(io.uploadLimit === undefined ? {} : { uploadLimit: parseQuantity(io.uploadLimit) }),
    ...(io.downloadLimit === undefined ? {} : { downloadLimit: parseQuantity(io.downloadLimit) }),
    ...(metadata.maxOpsPerSecond === undefined ? {} : { maxMetadataOps: metadata.maxOpsPerSecond }),
    logLevel: LEVELS[Math.min(...logLevels.map((level) => LEVELS.indexOf(level)))] ?? 'info',
  };
}

/** Members of a plan that this version knows; with others it would not know what it changes. */
const KNOWN: readonly string[] = [
  'version',
  'policy',
  'mounts',
  'cache',
  'writeback',
  'journal',
  'bufferMiB',
  'readaheadMiB',
  'attrTTL',
  'entryTTL',
  'dirEntryTTL',
  'negativeTTL',
  'openCache',
  'maxUploads',
  'maxDownloads',
  'uploadLimit',
  'downloadLimit',
  'maxMetadataOps',
  'logLevel',
] satisfies readonly (keyof Plan)[];

/**
 * The text of a plan with other options; what is mounted stays byte for byte. The very text where they mean the same. Undefined for
 * a plan of a newer webhook. Throws UserError where the text is no plan.
 */
export function withOptions(text: string, options: PlanOptions): string | undefined {
  const before = parsePlan(text);
  const raw = JSON.parse(text) as Readonly<Record<string, unknown>>;
  if (Object.keys(raw).some((name) => !KNOWN.includes(name))) return undefined;
  const { version, policy, mounts } = raw;
  const next = JSON.stringify({ version, ...(policy === undefined ? {} : { policy }), mounts, ...options });
  return formatPlan(parsePlan(next)) === formatPlan(before) ? text : next;
}
