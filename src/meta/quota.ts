/**
 * Quotas as they are stored: what a directory (with everything below it, itself excluded), a user or a group may hold, and
 * what it holds. Files are charged as everywhere (stats.ts); a file with several names counts in each directory that
 * names it, and once for its owner.
 *
 * Source: the JuiceFS format, usage and quota; quota record.
 */
import type { Ino } from '../lib/int64.ts';

/** Whose quota: a directory's inode, a user's or a group's number. */
export type QuotaKey =
  | { readonly kind: 'directory'; readonly id: Ino }
  | { readonly kind: 'user'; readonly id: number }
  | { readonly kind: 'group'; readonly id: number };

/** Bytes and inodes; where not above 0 (JuiceFS writes -1 for what was never set) there is no limit. */
export interface QuotaLimits {
  readonly space: number;
  readonly inodes: number;
}

/** Bytes and inodes. May be negative in a volume that lost count. */
export interface QuotaUsage {
  readonly space: number;
  readonly inodes: number;
}

export interface QuotaRecord {
  readonly quota: QuotaKey;
  readonly limits: QuotaLimits;
  readonly used: QuotaUsage;
}

export const NO_LIMITS: QuotaLimits = { space: -1, inodes: -1 };

/** JuiceFS's number for a kind. */
export const quotaTypes: Readonly<Record<QuotaKey['kind'], number>> = { directory: 0, user: 1, group: 2 };
