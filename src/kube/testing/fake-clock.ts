/**
 * A clock that stands still until a test moves it. Wall and monotonic time can be moved apart, as they are on a machine that
 * sleeps or whose time is set.
 */
import type { Clock } from '../../lib/clock.ts';

interface Timer {
  readonly at: number;
  readonly sequence: number;
  readonly callback: () => void;
}

/** Lets everything run that waits on promises only. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 3; turn++) await new Promise<void>((resolve) => setImmediate(resolve));
}

export class FakeClock implements Clock {
  #wall: number;
  #monotonic = 0;
  #sequence = 0;
  readonly #timers = new Set<Timer>();

  constructor(wall: number = Date.UTC(2026, 0, 1)) {
    this.#wall = wall;
  }

  now(): number {
    return Math.floor(this.#wall);
  }

  nowNs(): bigint {
    return BigInt(this.now()) * 1_000_000n;
  }

  monotonic(): number {
    return this.#monotonic;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason as Error);
      const cancel = this.timer(ms, () => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      });
      const onAbort = (): void => {
        cancel();
        reject(signal?.reason as Error);
      };
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  timer(ms: number, callback: () => void): () => void {
    const timer: Timer = { at: this.#monotonic + Math.max(0, ms), sequence: this.#sequence++, callback };
    this.#timers.add(timer);
    return () => void this.#timers.delete(timer);
  }

  /** Timers that have not run. */
  get pending(): number {
    return this.#timers.size;
  }

  /** When the next timer runs, milliseconds from now; undefined where there is none. */
  get next(): number | undefined {
    const timer = this.#first();
    return timer && Math.max(0, timer.at - this.#monotonic);
  }

  #first(): Timer | undefined {
    let first: Timer | undefined;
    for (const timer of this.#timers)
      if (!first || timer.at < first.at || (timer.at === first.at && timer.sequence < first.sequence)) first = timer;
    return first;
  }

  #move(ms: number): void {
    this.#monotonic += ms;
    this.#wall += ms;
  }

  /** Moves time on without letting promises run between: timers run in order, at their time. */
  tick(ms: number): void {
    const end = this.#monotonic + ms;
    for (let timer = this.#first(); timer && timer.at <= end; timer = this.#first()) {
      this.#move(Math.max(0, timer.at - this.#monotonic));
      this.#timers.delete(timer);
      timer.callback();
    }
    this.#move(Math.max(0, end - this.#monotonic));
  }

  /** Moves time on; what timers set in motion runs before the next timer. */
  async advance(ms: number): Promise<void> {
    await settle();
    const end = this.#monotonic + ms;
    for (let timer = this.#first(); timer && timer.at <= end; timer = this.#first()) {
      this.#move(Math.max(0, timer.at - this.#monotonic));
      this.#timers.delete(timer);
      timer.callback();
      await settle();
    }
    this.#move(Math.max(0, end - this.#monotonic));
  }

  /** Time passes and nothing runs: a frozen process. What was due runs with the next `tick` or `advance`. */
  freeze(ms: number): void {
    this.#move(ms);
  }

  /** Sets the wall clock on or back; the monotonic one does not move. A machine that slept is `setWall` too. */
  setWall(deltaMs: number): void {
    this.#wall += deltaMs;
  }
}

/** Deterministic randomness: a 32-bit xorshift. */
export function seededRandom(seed: number): { float(): number; bytes(length: number): Buffer; uuid(): string } {
  let state = seed | 0 || 1;
  const next = (): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
  const bytes = (length: number): Buffer => Buffer.from(Array.from({ length }, () => next() & 255));
  return {
    float: () => next() / 0x1_0000_0000,
    bytes,
    uuid: () =>
      bytes(16)
        .toString('hex')
        .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5'),
  };
}
