/**
 * So much per second, and no more: a bucket that fills at a rate and from which whoever wants to go on takes. Who finds too little
 * in it waits; the key with the longest-waiting turn is served first, one taker of each key at a time, so that a key with very
 * many takers does not keep another from its turn.
 *
 * Over any time t no more than `burst + rate × t` is handed out; a single taking that is larger than the burst is waited for
 * until all of it has come together. Bound of the waiting: the takers before it in its key and one of each other key for every
 * one of its own, at the rate. Bound of the queue: `maxWaiting`.
 */
import type { Clock } from './clock.ts';
import { FsError } from './errors.ts';

export interface TokenBucketOptions {
  /** Per second; 0 is no limit. */
  readonly rate: number;
  /** What may be taken at once after a time of rest. */
  readonly burst: number;
  readonly clock: Clock;
  /** Takers that may wait; more fail with EAGAIN. @default unbounded: the callers are bounded themselves */
  readonly maxWaiting?: number;
}

interface Taker {
  readonly count: number;
  readonly go: () => void;
}

export class TokenBucket {
  readonly #clock: Clock;
  readonly #maxWaiting: number;
  /** By key, in the order of their turns. */
  readonly #queues = new Map<number, Taker[]>();
  #rate: number;
  #burst: number;
  #level: number;
  #filledAt: number;
  #waiting = 0;
  #sleep: AbortController | undefined;

  constructor({ rate, burst, clock, maxWaiting = Infinity }: TokenBucketOptions) {
    this.#rate = rate;
    this.#burst = burst;
    this.#level = burst;
    this.#clock = clock;
    this.#maxWaiting = maxWaiting;
    this.#filledAt = clock.monotonic();
  }

  /** Per second; 0 is no limit. */
  get rate(): number {
    return this.#rate;
  }

  /** Takers that wait. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Changes the limit; who waits goes on at the new rate. */
  setRate(rate: number, burst: number): void {
    if (rate === this.#rate && burst === this.#burst) return;
    this.#fill();
    this.#rate = rate;
    this.#burst = burst;
    this.#serve();
  }

  /**
   * Takes `count`. Undefined where that is done; else resolves when it is, or rejects with the signal's reason (then nothing
   * was taken). Throws FsError EAGAIN where too many wait.
   */
  take(count: number, key = 0, signal?: AbortSignal): Promise<void> | undefined {
    if (this.#rate === 0) return undefined;
    this.#fill();
    if (this.#waiting === 0 && this.#level >= count) {
      this.#level -= count;
      return undefined;
    }
    if (this.#waiting >= this.#maxWaiting)
      throw new FsError('EAGAIN', `${this.#waiting} callers wait for a limit of ${this.#rate} a second`);
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason as Error);
      const taker: Taker = {
        count,
        go: () => {
          signal?.removeEventListener('abort', onAbort);
          resolve();
        },
      };
      const onAbort = (): void => {
        this.#leave(key, taker);
        reject(signal?.reason as Error);
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      const queue = this.#queues.get(key);
      if (queue) queue.push(taker);
      else this.#queues.set(key, [taker]);
      this.#waiting++;
      this.#serve();
    });
  }

  /** Counts what was used without being asked for; negative gives back. Those who come later wait for it. */
  charge(count: number): void {
    if (this.#rate === 0) return;
    this.#fill();
    this.#level = Math.min(this.#burst, this.#level - count);
    if (count < 0) this.#serve();
  }

  #fill(): void {
    const now = this.#clock.monotonic();
    const most = Math.max(this.#burst, this.#first()?.count ?? 0);
    this.#level = Math.min(most, this.#level + ((now - this.#filledAt) / 1000) * this.#rate);
    this.#filledAt = now;
  }

  #first(): Taker | undefined {
    for (const [first] of this.#queues.values()) return first;
    return undefined;
  }

  #leave(key: number, taker: Taker): void {
    const queue = this.#queues.get(key);
    const at = queue?.indexOf(taker) ?? -1;
    if (!queue || at < 0) return;
    queue.splice(at, 1);
    if (queue.length === 0) this.#queues.delete(key);
    this.#waiting--;
    this.#serve();
  }

  /** Lets go whoever can, and sleeps until the next one can. */
  #serve(): void {
    this.#sleep?.abort();
    this.#sleep = undefined;
    // Fills while the one who has waited is still first: for it the bucket may be larger than the burst.
    this.#fill();
    for (const [key, queue] of this.#queues) {
      const [taker] = queue;
      if (!taker || (this.#rate > 0 && this.#level < taker.count)) break;
      if (this.#rate > 0) this.#level -= taker.count;
      queue.shift();
      this.#waiting--;
      // Its next turn comes after those of all others.
      this.#queues.delete(key);
      if (queue.length > 0) this.#queues.set(key, queue);
      taker.go();
    }
    const next = this.#first();
    if (!next) return;
    const sleep = (this.#sleep = new AbortController());
    // Rounded up: a timer that comes a moment early would come again and again.
    const pause = Math.ceil(((next.count - this.#level) / this.#rate) * 1000);
    this.#clock.sleep(Math.max(1, pause), sleep.signal).then(
      () => this.#serve(),
      () => {},
    );
  }
}
