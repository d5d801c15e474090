import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Clock, systemClock } from '../lib/clock.ts';
import { nullLogger } from '../lib/log.ts';
import { Rhythm } from './rhythm.ts';

/** Timers that go off when told to. */
class ManualTimers {
  pending: { readonly ms: number; readonly callback: () => void } | undefined;
  readonly clock: Clock = {
    ...systemClock,
    timer: (ms, callback) => {
      this.pending = { ms, callback };
      return () => (this.pending = undefined);
    },
  };

  fire(): void {
    const { pending } = this;
    this.pending = undefined;
    pending?.callback();
  }
}

const random = { float: () => 0.5, bytes: (length: number) => Buffer.alloc(length), uuid: () => '' };

test('it runs after a pause, again and again, also after a failure, and not while it runs', async () => {
  const timers = new ManualTimers();
  let runs = 0;
  let finish = (): void => {};
  const run = (): Promise<void> => {
    runs++;
    if (runs === 1) return Promise.reject(new Error('once'));
    return new Promise((resolve) => (finish = resolve));
  };
  const rhythm = new Rhythm({ clock: timers.clock, random, logger: nullLogger, name: 'test', pause: 100, first: 10, run });
  assert.equal(timers.pending?.ms, 10.5);
  timers.fire();
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(timers.pending?.ms, 105);
  timers.fire();
  assert.equal(timers.pending, undefined);
  assert.equal(runs, 2);
  let stopped = false;
  const stopping = rhythm.stop().then(() => (stopped = true));
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(stopped, false);
  finish();
  await stopping;
  assert.equal(timers.pending, undefined);
});
