/** Time as a parameter, so that tests own it. */
export interface Clock {
  /** Wall clock, milliseconds since the epoch. */
  now(): number;
  /** Wall clock with all the digits the machine has, nanoseconds since the epoch. */
  nowNs(): bigint;
  /** Monotonic milliseconds, with a fraction; only differences mean anything. */
  monotonic(): number;
  /** Resolves after `ms` milliseconds; rejects with the signal's reason when aborted. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** Calls back once after `ms`; the returned function cancels. The timer does not keep the process alive. */
  timer(ms: number, callback: () => void): () => void;
}

const NS_PER_MS = 1_000_000n;
// performance.now() counts from process start with sub-microsecond digits; the wall clock may be set meanwhile, so the
// pairing of the two is renewed whenever they have drifted apart by more than 2 ms.
let wallBase = BigInt(Date.now()) * NS_PER_MS;
let monotonicBase = performance.now();

export const systemClock: Clock = {
  now: Date.now,
  nowNs() {
    const wall = Date.now();
    let ns = wallBase + BigInt(Math.round((performance.now() - monotonicBase) * 1e6));
    const drift = Number(ns / NS_PER_MS) - wall;
    if (drift > 2 || drift < -2) {
      wallBase = BigInt(wall) * NS_PER_MS;
      monotonicBase = performance.now();
      ns = wallBase;
    }
    return ns;
  },
  monotonic: () => performance.now(),
  sleep(ms, signal) {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason as Error);
      const onAbort = (): void => {
        clearTimeout(timeout);
        reject(signal?.reason as Error);
      };
      const timeout = setTimeout(() => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      }, ms);
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  },
  timer(ms, callback) {
    const timeout = setTimeout(callback, ms);
    timeout.unref();
    return () => clearTimeout(timeout);
  },
};
