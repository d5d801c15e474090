/**
 * Two limiters: a token bucket for a whole queue or connection, and a growing delay for one item that keeps failing.
 * Both are driven by the monotonic clock, so that a set wall clock neither floods nor stalls.
 */
import type { Clock } from '../lib/clock.ts';
import type { Random } from '../lib/random.ts';

/** Hands out `perSecond` permits on average, `burst` at once. Permits are reserved in order of asking. */
export class TokenBucket {
  readonly #clock: Clock;
  readonly #perMs: number;
  readonly #burst: number;
  #tokens: number;
  #last: number;

  constructor(clock: Clock, perSecond: number, burst: number) {
    if (!(perSecond > 0) || !(burst >= 1))
      throw new RangeError(`a token bucket needs a rate above 0 and a burst of at least 1: found ${perSecond}/s, burst ${burst}`);
    this.#clock = clock;
    this.#perMs = perSecond / 1000;
    this.#burst = burst;
    this.#tokens = burst;
    this.#last = clock.monotonic();
  }

  #refill(): void {
    const now = this.#clock.monotonic();
    this.#tokens = Math.min(this.#burst, this.#tokens + (now - this.#last) * this.#perMs);
    this.#last = now;
  }

  /** Takes a permit now or in the future; answers how many milliseconds to wait for it. */
  reserve(): number {
    this.#refill();
    this.#tokens -= 1;
    return this.#tokens >= 0 ? 0 : -this.#tokens / this.#perMs;
  }

  /** Takes a permit if there is one now. */
  tryTake(): boolean {
    this.#refill();
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }

  /** Waits for a permit; answers the milliseconds waited. An aborted wait gives its permit back. */
  async take(signal?: AbortSignal): Promise<number> {
    const wait = this.reserve();
    if (wait <= 0) return 0;
    try {
      await this.#clock.sleep(wait, signal);
    } catch (error) {
      this.#tokens += 1;
      throw error;
    }
    return wait;
  }
}

export interface BackoffOptions {
  /** First delay, milliseconds. */
  readonly baseMs: number;
  /** Largest delay before jitter, milliseconds. */
  readonly maxMs: number;
  /** Added share at most, 0 to 1. */
  readonly jitter: number;
}

/** The delay after `failures` failures (0 for the first): base·2^failures, capped, plus up to `jitter` of it. Pure. */
export function backoffDelay(options: BackoffOptions, failures: number, random: Random): number {
  const delay = Math.min(options.maxMs, options.baseMs * 2 ** Math.min(failures, 52));
  return delay * (1 + options.jitter * random.float());
}
