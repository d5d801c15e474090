import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import { test } from 'node:test';
import { type Clock, systemClock } from '../lib/clock.ts';
import { FsError } from '../lib/errors.ts';
import { ROOT_INO } from '../lib/int64.ts';
import { nullLogger } from '../lib/log.ts';
import { systemRandom } from '../lib/random.ts';
import { LockWaits } from './lock-waits.ts';
import type { LockedFile } from './types.ts';

const file: LockedFile = { of: 'posix', ino: ROOT_INO };

/** Sleeps are noted, and end when the test says so, or when they are aborted. */
class SleepingClock implements Clock {
  readonly slept: number[] = [];
  #end = (): void => {};
  now = (): number => systemClock.now();
  nowNs = (): bigint => systemClock.nowNs();
  monotonic = (): number => systemClock.monotonic();
  timer = (ms: number, callback: () => void): (() => void) => systemClock.timer(ms, callback);

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    this.slept.push(ms);
    return new Promise((resolve, reject) => {
      if (signal?.aborted) reject(signal.reason as Error);
      signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
      this.#end = resolve;
    });
  }

  /** The sleep that goes on is over. */
  async awake(): Promise<void> {
    this.#end();
    for (let round = 0; round < 5; round++) await turn();
  }
}

function world(watched?: (woken: () => void) => void) {
  const clock = new SleepingClock();
  let watchers = 0;
  const watchLocks = (_file: LockedFile, woken: () => void): Promise<() => void> => {
    watchers++;
    watched?.(woken);
    return Promise.resolve(() => void watchers--);
  };
  const random = { ...systemRandom, float: () => 0.5 };
  const waits = new LockWaits({ engine: watched ? { watchLocks } : {}, clock, random, logger: nullLogger });
  return { waits, clock, watchers: () => watchers };
}

async function settled(): Promise<void> {
  for (let round = 0; round < 5; round++) await turn();
}

test('who waits looks less and less often, at last every 0.5 s where releases are announced, else every 0.1 s', async () => {
  for (const [announced, longest] of [
    [() => {}, 500],
    [undefined, 100],
  ] as const) {
    const { waits, clock, watchers } = world(announced);
    let tries = 0;
    const wait = waits.until(file, () => Promise.resolve(++tries > 20));
    await settled();
    for (let round = 0; round < 20; round++) await clock.awake();
    await wait;
    assert.equal(tries, 21);
    assert.equal(clock.slept[0], 10);
    for (let at = 1; at < clock.slept.length; at++) assert.ok((clock.slept[at] ?? 0) >= (clock.slept[at - 1] ?? 0));
    assert.equal(clock.slept.at(-1), longest);
    assert.equal(watchers(), 0, 'nobody listens any more');
  }
});

test('a release here or an announcement from elsewhere ends the pause, and one during a try is not missed', async () => {
  let announce = (): void => {};
  const { waits, clock } = world((woken) => (announce = woken));
  let tries = 0;
  let held = Promise.withResolvers<boolean>();
  const wait = waits.until(file, () => {
    tries++;
    return held.promise;
  });
  const answer = async (granted: boolean): Promise<void> => {
    const { resolve } = held;
    held = Promise.withResolvers();
    resolve(granted);
    await settled();
  };
  await settled();
  await answer(false);
  assert.deepEqual([tries, clock.slept.length], [1, 1]);
  waits.wake(file);
  await settled();
  assert.equal(tries, 2);
  announce();
  await answer(false);
  assert.deepEqual([tries, clock.slept.length], [3, 1], 'no pause in between');
  waits.wake({ of: 'flock', ino: ROOT_INO });
  await answer(false);
  assert.equal(tries, 3, 'another lock');
  announce();
  await settled();
  await answer(true);
  await wait;
});

test('a database that is away does not end a wait; what else goes wrong, and the signal, do', async () => {
  const { waits, clock } = world();
  let failure: FsError | undefined = new FsError('EIO', 'away', { retryable: true });
  let tries = 0;
  const attempt = (): Promise<boolean> => {
    tries++;
    return failure ? Promise.reject(failure) : Promise.resolve(tries > 3);
  };
  const wait = waits.until(file, attempt);
  await settled();
  await clock.awake();
  failure = undefined;
  await clock.awake();
  await clock.awake();
  await wait;
  failure = new FsError('ENOSPC');
  await assert.rejects(waits.until(file, attempt), { code: 'ENOSPC' });
  const interrupt = new AbortController();
  const interrupted = waits.until(file, () => Promise.resolve(false), interrupt.signal);
  await settled();
  interrupt.abort();
  await assert.rejects(interrupted, { code: 'EINTR' });
});

test('at the end of a client who waits gets no answer, whatever its last try comes to', async () => {
  const { waits } = world();
  let over = false;
  const held = Promise.withResolvers<boolean>();
  for (const attempt of [() => Promise.resolve(false), () => held.promise])
    waits.until(file, attempt).then(
      () => (over = true),
      () => (over = true),
    );
  await settled();
  waits.close();
  held.reject(new FsError('EIO', 'the connection was closed'));
  await settled();
  assert.equal(over, false);
});
