import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Clock, systemClock } from '../lib/clock.ts';
import { FsError } from '../lib/errors.ts';
import { GRACE_MS, interruptible } from './interruptible.ts';

/** A clock whose timers are run by hand. */
function handClock(): { readonly clock: Clock; readonly ring: () => void; readonly timers: number } {
  const timers = new Map<number, () => void>();
  let next = 0;
  return {
    clock: {
      ...systemClock,
      timer(ms, callback) {
        assert.equal(ms, GRACE_MS);
        const id = next++;
        timers.set(id, callback);
        return () => void timers.delete(id);
      },
    },
    ring: () => {
      for (const [id, callback] of timers) {
        timers.delete(id);
        callback();
      }
    },
    get timers() {
      return timers.size;
    },
  };
}

const interrupted = (error: unknown): boolean => error instanceof FsError && error.code === 'EINTR';

test('a signal within the grace is heeded only when the grace is over', async () => {
  const { clock, ring } = handClock();
  const caller = new AbortController();
  const waiting = interruptible(new Promise<void>(() => {}), () => caller.signal, clock);
  caller.abort();
  let ended = false;
  waiting.catch(() => (ended = true));
  await new Promise((done) => setImmediate(done));
  assert.equal(ended, false);
  ring();
  await assert.rejects(waiting, interrupted);
});

test('a signal after the grace ends the wait at once', async () => {
  const { clock, ring } = handClock();
  const caller = new AbortController();
  const waiting = interruptible(new Promise<void>(() => {}), () => caller.signal, clock);
  ring();
  caller.abort();
  await assert.rejects(waiting, interrupted);
});

test('without a signal the work answers, whether it succeeds or fails, and no timer is left', async () => {
  const hand = handClock();
  const caller = new AbortController();
  assert.equal(await interruptible(Promise.resolve(7), () => caller.signal, hand.clock), 7);
  await assert.rejects(
    interruptible(Promise.reject(new FsError('ENOSPC')), () => caller.signal, hand.clock),
    (error) => error instanceof FsError && error.code === 'ENOSPC',
  );
  assert.equal(hand.timers, 0);
});
