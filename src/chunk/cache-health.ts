/**
 * Whether a cache directory is used. A disk that fails to read or write three times within a minute, takes no writes at all, or does not
 * answer in time (bounded-files.ts) is left alone and tried once a minute, until it works. `up`: read and written; `read`: what it has is served, nothing new goes there;
 * `down`: neither. Said in the log when it is left, and when it is used again, not between. Source of the counts: JuiceFS,
 * pkg/chunk/disk_cache_state.go.
 */
import type { Clock } from '../lib/clock.ts';
import { messageOf } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';

export type DiskState = 'up' | 'read' | 'down';

export interface CacheHealthOptions {
  readonly folder: string;
  /** Tries to write and to read; rejects where that fails. */
  readonly probe: () => Promise<void>;
  /** Called when the state has changed. */
  readonly onChange: (state: DiskState) => void;
  readonly clock: Clock;
  readonly logger: Logger;
}

const MOST_FAILURES = 3;
const WINDOW_MS = 60_000;
/** Codes that say that nothing can be written, whatever is tried. */
const REFUSALS = new Set(['EROFS', 'EACCES', 'EPERM', 'ENOTDIR']);

export class CacheHealth {
  readonly #options: CacheHealthOptions;
  #state: DiskState = 'up';
  #failures: readonly number[] = [];
  #closed = false;
  #cancelTimer: () => void = () => {};

  constructor(options: CacheHealthOptions) {
    this.#options = options;
  }

  get state(): DiskState {
    return this.#state;
  }

  /** Something failed: counts, and is looked at. */
  failed(kind: 'read' | 'write', error: unknown): void {
    if (this.#state === 'down' || (this.#state === 'read' && kind === 'write')) return;
    const now = this.#options.clock.monotonic();
    this.#failures = [...this.#failures.filter((at) => now - at < WINDOW_MS), now];
    const refused = kind === 'write' && REFUSALS.has((error as NodeJS.ErrnoException).code ?? '');
    if (refused || this.#failures.length >= MOST_FAILURES) this.leave(kind === 'read' ? 'down' : 'read', messageOf(error));
  }

  /** Does without the directory from now on. */
  leave(state: 'read' | 'down', reason: string): void {
    if (this.#closed || this.#state === state || this.#state === 'down') return;
    const { folder, logger } = this.#options;
    const what = state === 'down' ? 'is not used' : 'is not written to';
    logger.warn(`a cache directory fails and ${what}; it is tried again every minute`, { folder, reason });
    this.#to(state);
    this.#later();
  }

  close(): void {
    this.#closed = true;
    this.#cancelTimer();
  }

  #to(state: DiskState): void {
    this.#failures = [];
    this.#state = state;
    this.#options.onChange(state);
  }

  #later(): void {
    this.#cancelTimer();
    this.#cancelTimer = this.#options.clock.timer(WINDOW_MS, () => void this.#try());
  }

  async #try(): Promise<void> {
    const { folder, logger, probe } = this.#options;
    try {
      await probe();
    } catch {
      if (!this.#closed) this.#later();
      return;
    }
    if (this.#closed) return;
    logger.info('a cache directory works again and is used', { folder });
    this.#to('up');
  }
}
