/**
 * Directories whose attributes were fetched a moment ago. After each create, unlink or rename the kernel forgets the attributes
 * of the directory and asks again before the next call; within the lifetime it was given for them anyway (`--attr-cache`) it may
 * be told what this client last saw, its own changes included, which saves a round trip per call. Bounded.
 */
import type { Clock } from '../lib/clock.ts';
import type { Ino } from '../lib/int64.ts';

const LIMIT = 4096;

export class FreshDirectories {
  readonly #clock: Clock;
  readonly #lifetimeMs: number;
  readonly #until = new Map<Ino, number>();

  /** `lifetime` in seconds; 0 turns it off. */
  constructor(clock: Clock, lifetime: number) {
    this.#clock = clock;
    this.#lifetimeMs = lifetime * 1000;
  }

  /** Its attributes have come from the database just now. */
  fetched(ino: Ino): void {
    if (this.#lifetimeMs === 0) return;
    if (this.#until.size >= LIMIT) this.#until.clear();
    this.#until.set(ino, this.#clock.monotonic() + this.#lifetimeMs);
  }

  /** For how long its attributes may still be told from memory, seconds; 0 where they may not. */
  remaining(ino: Ino): number {
    const until = this.#until.get(ino);
    return until === undefined ? 0 : Math.max(0, until - this.#clock.monotonic()) / 1000;
  }
}
