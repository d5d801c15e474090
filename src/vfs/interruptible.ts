/**
 * Waiting on behalf of a program that may be ended meanwhile. A store that is away for minutes must not keep a program from
 * being killed; but most signals (a child that ended, a timer) are no reason to fail a call that is nearly done. So,
 * as JuiceFS does, a signal ends the wait only when it has lasted for a second. What is waited for goes on by itself.
 */
import type { Clock } from '../lib/clock.ts';
import { FsError } from '../lib/errors.ts';

/** How long a wait takes no notice of signals, milliseconds. */
export const GRACE_MS = 1000;

/** Waits for `work`, or fails with EINTR. `signal` is asked for only where the wait outlasts the grace. */
export function interruptible<T>(work: Promise<T>, signal: () => AbortSignal, clock: Clock): Promise<T> {
  return new Promise((resolve, fail: (reason: unknown) => void) => {
    let forget = (): void => {};
    const cancel = clock.timer(GRACE_MS, () => {
      const aborted = signal();
      const onAbort = (): void => {
        forget();
        fail(new FsError('EINTR', 'interrupted by a signal'));
      };
      forget = () => aborted.removeEventListener('abort', onAbort);
      if (aborted.aborted) onAbort();
      else aborted.addEventListener('abort', onAbort, { once: true });
    });
    const end = (): void => {
      cancel();
      forget();
    };
    work.then(
      (value) => {
        end();
        resolve(value);
      },
      (error: unknown) => {
        end();
        fail(error);
      },
    );
  });
}
