/** What a run is asked for, and what it tells. */
import type { TokenBucket } from '../lib/token-bucket.ts';
import type { Policy } from './plan.ts';
import type { ProgressState } from './progress.ts';
import type { Rules } from './rules.ts';

export interface Filters {
  readonly rules: Rules;
  /** Bytes; of files alone. */
  readonly minSize: number;
  readonly maxSize: number;
  /** Milliseconds since the epoch; only files modified between the two, which count as outside. */
  readonly modifiedAfter: number;
  readonly modifiedBefore: number;
}

export interface RunOptions extends Policy {
  readonly filters: Filters;
  /** First and last key; empty for no bound. */
  readonly start: string;
  readonly end: string;
  /** Only these, and what lies below those of them that are directories (files-from.ts). */
  readonly keys?: AsyncIterable<string>;
  /** Objects that are looked at; Infinity is no limit. */
  readonly limit: number;
  /** Objects, and 8 MiB parts of objects, at the same time. */
  readonly threads: number;
  /** Directories that are listed at the same time, down to this depth. */
  readonly listThreads: number;
  readonly listDepth: number;
  readonly checkNew: boolean;
  readonly checkChange: boolean;
  /** Removes each object from the source that was copied. */
  readonly deleteSrcAfter: boolean;
  /** Failures after which the run ends; Infinity is no limit. */
  readonly maxFailures: number;
  /** Nothing is changed. */
  readonly dry: boolean;
  readonly bandwidth?: TokenBucket;
  /** Where an earlier run of the same options had come to. */
  readonly resume?: ProgressState;
  /** A key that is no object: of the file that says how far the run has come. */
  readonly ownKey?: string;
  readonly signal: AbortSignal;
  /** Told of each object that failed. */
  readonly onFailure: (key: string, error: unknown) => void;
  /** Told of each of `keys` that the source has not. */
  readonly onMissing: (key: string) => void;
}

/** Counted while it runs. */
export interface Tally {
  found: number;
  handled: number;
  excluded: number;
  excludedBytes: number;
  skipped: number;
  skippedBytes: number;
  copied: number;
  copiedBytes: number;
  extra: number;
  extraBytes: number;
  checked: number;
  checkedBytes: number;
  deleted: number;
  failed: number;
  /** Of --files-from, what is not there. */
  missing: number;
}

export const newTally = (): Tally => ({
  found: 0,
  handled: 0,
  excluded: 0,
  excludedBytes: 0,
  skipped: 0,
  skippedBytes: 0,
  copied: 0,
  copiedBytes: 0,
  extra: 0,
  extraBytes: 0,
  checked: 0,
  checkedBytes: 0,
  deleted: 0,
  failed: 0,
  missing: 0,
});
