/**
 * Waiting for a lock. Who waits tries again when this client releases something in the file, when another of our clients announces
 * that it did (where the engine can, see `watchLocks`), and from time to time: the official client announces nothing.
 *
 * The time between two looks grows from FIRST_MS to at most QUIET_MS with announcements, and POLLED_MS without. One try goes on in
 * a file at a time. A database that is away does not end a wait; its signal does.
 *
 * Bound: one waiter for each thread of the programs that waits; the kernel holds those.
 */
import { setMaxListeners } from 'node:events';
import type { Clock } from '../lib/clock.ts';
import { FsError, messageOf } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import type { Random } from '../lib/random.ts';
import type { MetaEngine } from './engine.ts';
import type { LockedFile } from './types.ts';

/** First pause between two looks, ms. */
const FIRST_MS = 10;
/** Longest pause where releases are announced by those who can, ms. */
const QUIET_MS = 500;
/** Longest pause where nobody announces anything, ms. */
const POLLED_MS = 100;
const GROWTH = 1.5;

/** A name for a file and a kind of lock. */
export const fileKey = ({ of, ino }: LockedFile): string => `${of}/${ino}`;

interface Surroundings {
  readonly engine: Pick<MetaEngine, 'watchLocks'>;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

export class LockWaits {
  readonly #with: Surroundings;
  readonly #waiting = new Map<string, Set<() => void>>();
  readonly #closing = new AbortController();

  constructor(surroundings: Surroundings) {
    this.#with = surroundings;
    // Everybody who waits listens.
    setMaxListeners(0, this.#closing.signal);
  }

  /** Something in the file was released. */
  wake(file: LockedFile): void {
    for (const wake of this.#waiting.get(fileKey(file)) ?? []) wake();
  }

  /**
   * Resolves when `attempt` has answered true; rejects with what it throws (but for a database that is away), and with EINTR where the
   * signal aborts. After `close` it does neither: who asked is answered by the client that follows, or has gone.
   */
  async until(file: LockedFile, attempt: () => Promise<boolean>, signal?: AbortSignal): Promise<void> {
    const { engine, random } = this.#with;
    let woken = false;
    let wake = (): void => {};
    const hear = (): void => {
      woken = true;
      wake();
    };
    const key = fileKey(file);
    const waiting = this.#waiting.get(key) ?? new Set();
    this.#waiting.set(key, waiting.add(hear));
    const unwatch = await engine.watchLocks?.(file, hear);
    try {
      for (let pause = FIRST_MS; ; pause = woken ? FIRST_MS : Math.min(pause * GROWTH, unwatch ? QUIET_MS : POLLED_MS)) {
        woken = false;
        if (this.#closing.signal.aborted) return await new Promise(() => {});
        if (signal?.aborted) throw new FsError('EINTR', 'interrupted while waiting for a lock');
        if (await this.#patiently(attempt)) return;
        if (!woken) await this.#pause(pause * (0.75 + random.float() / 2), signal, (resume) => (wake = resume));
      }
    } finally {
      unwatch?.();
      waiting.delete(hear);
      if (waiting.size === 0 && this.#waiting.get(key) === waiting) this.#waiting.delete(key);
    }
  }

  async #patiently(attempt: () => Promise<boolean>): Promise<boolean> {
    try {
      return await attempt();
    } catch (error) {
      if (this.#closing.signal.aborted) return false;
      if (!(error instanceof FsError && error.retryable)) throw error;
      this.#with.logger.warn('waiting for a lock goes on though the database does not answer', { error: messageOf(error) });
      return false;
    }
  }

  /** Ends after `ms`, or when it is resumed, or aborted, or everything is closed. */
  async #pause(ms: number, signal: AbortSignal | undefined, onResume: (resume: () => void) => void): Promise<void> {
    const over = new AbortController();
    const end = (): void => over.abort();
    onResume(end);
    const signals = signal ? [signal, this.#closing.signal] : [this.#closing.signal];
    for (const each of signals) each.addEventListener('abort', end, { once: true });
    if (signals.some(({ aborted }) => aborted)) end();
    await this.#with.clock.sleep(ms, over.signal).catch(() => {});
    for (const each of signals) each.removeEventListener('abort', end);
  }

  /** Leaves everybody who waits unanswered. */
  close(): void {
    this.#closing.abort();
  }
}
