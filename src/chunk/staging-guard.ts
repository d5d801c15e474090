/**
 * Whether blocks may be staged on a disk now: not while it is full, nor for a minute after it failed three times within a minute
 * or did not answer. Source of the shares: JuiceFS, pkg/chunk/disk_cache.go (isFull: half of --free-space-ratio for staging).
 */
import type { Clock } from '../lib/clock.ts';
import { messageOf } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import type { BlockFiles } from './disk-files.ts';

export interface StagingGuardOptions {
  /** A folder on the disk. */
  readonly root: string;
  /** The part of the disk that is to stay free. */
  readonly freeRatio: number;
  readonly files: BlockFiles;
  readonly clock: Clock;
  readonly logger: Logger;
}

const STATFS_INTERVAL_MS = 1000;
const FULL_PAUSE_MS = 1000;
const MAX_FAILURES = 3;
const FAILURE_WINDOW_MS = 60_000;

export class StagingGuard {
  readonly #options: StagingGuardOptions;
  #low = false;
  #room: Promise<boolean> = Promise.resolve(true);
  #lookedAt = -Infinity;
  #closedUntil = -Infinity;
  #failures: readonly number[] = [];

  constructor(options: StagingGuardOptions) {
    this.#options = options;
  }

  /** False for a while after failures. */
  get open(): boolean {
    return this.#options.clock.monotonic() >= this.#closedUntil;
  }

  /** Less than the share is free: what is staged had better go. */
  get low(): boolean {
    return this.#low;
  }

  /** Whether half of the share is free, looked at once a second. Rejects where the disk does not say. */
  hasRoom(): Promise<boolean> {
    const now = this.#options.clock.monotonic();
    if (now - this.#lookedAt >= STATFS_INTERVAL_MS) {
      this.#lookedAt = now;
      this.#room = this.#look();
    }
    return this.#room;
  }

  /** A block could not be written. */
  failed(error: unknown): void {
    const now = this.#options.clock.monotonic();
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOSPC' || code === 'EDQUOT') {
      this.#low = true;
      this.#closedUntil = now + FULL_PAUSE_MS;
      return;
    }
    this.#failures = [...this.#failures.filter((at) => now - at < FAILURE_WINDOW_MS), now];
    if (this.#failures.length >= MAX_FAILURES) this.#close(messageOf(error));
  }

  /** A block was not written in time. */
  hung(): void {
    this.#close('it does not answer');
  }

  #close(reason: string): void {
    const { clock, logger, root } = this.#options;
    this.#failures = [];
    this.#closedUntil = clock.monotonic() + FAILURE_WINDOW_MS;
    logger.warn('blocks cannot be staged; they are uploaded directly for a minute', { root, reason });
  }

  async #look(): Promise<boolean> {
    const { root, freeRatio, files } = this.#options;
    const info = await files.space(root);
    const free = Math.min(info.bavail / info.blocks, info.files > 0 ? info.ffree / info.files : 1);
    this.#low = free < freeRatio;
    return free >= freeRatio / 2;
  }
}
