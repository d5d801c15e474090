import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Clock } from '../lib/clock.ts';
import { whenIdle } from './idle.ts';

/** A process that the test gives work to, looked at when the test says so. */
function world() {
  const timers = new Set<() => void>();
  let cpuMs = 800;
  let given = 0;
  const clock = {
    timer(_ms: number, callback: () => void) {
      timers.add(callback);
      return () => void timers.delete(callback);
    },
  } as unknown as Clock;
  // What giving back takes is more than what a process that waits uses.
  const giveBack = (): void => {
    given++;
    cpuMs += 150;
  };
  const end = whenIdle({ clock, cpuMs: () => cpuMs, giveBack });
  /** How often memory was given back in so many looks with so much processor time before each. */
  const looks = (count: number, work: number): number => {
    const before = given;
    for (let index = 0; index < count; index++) {
      cpuMs += work;
      const [callback] = timers;
      if (!callback) break;
      timers.delete(callback);
      callback();
    }
    return given - before;
  };
  return { looks, end, watched: () => timers.size > 0 };
}

test('a process that has only started gives memory back at the first look that finds it waiting, and then no more', () => {
  const { looks } = world();
  assert.equal(looks(1, 600), 0);
  assert.equal(looks(1, 10), 1);
  assert.equal(looks(100, 10), 0);
});

test('after work, memory is given back when it has waited for a while, and once', () => {
  const { looks } = world();
  assert.equal(looks(1, 1), 1);
  assert.equal(looks(50, 2000), 0, 'while it works nothing is taken from it');
  assert.equal(looks(3, 5), 0);
  assert.equal(looks(1, 300), 0, 'a request in between');
  assert.equal(looks(3, 5), 0);
  assert.equal(looks(1, 5), 1);
  assert.equal(looks(50, 5), 0);
});

test('what waiting itself leaves behind is given back from time to time', () => {
  const { looks } = world();
  assert.equal(looks(1, 1), 1);
  const often = looks(1000, 20);
  assert.ok(often > 0 && often <= 10, `${often} times`);
});

test('one that ends is looked at no more', () => {
  const { end, watched } = world();
  assert.ok(watched());
  end();
  assert.ok(!watched());
});
