import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { Clock } from '../lib/clock.ts';
import { Heartbeat, listen } from './heartbeat.ts';

const folder = mkdtempSync(join(tmpdir(), 'juicepod-heartbeat-'));
after(() => rmSync(folder, { recursive: true, force: true }));

/** A clock whose timers run when the test says so; the machine's time since boot is the test's, too. */
function world() {
  const timers: { at: number; callback: () => void }[] = [];
  const now = { seconds: 1000 };
  const clock = {
    timer(ms: number, callback: () => void) {
      const timer = { at: now.seconds + ms / 1000, callback };
      timers.push(timer);
      return () => void timers.splice(timers.indexOf(timer), timers.includes(timer) ? 1 : 0);
    },
  } as unknown as Clock;
  /** So many seconds pass, and every timer comes on time. */
  const pass = (seconds: number): void => {
    for (const end = now.seconds + seconds; ;) {
      const next = timers.toSorted((a, b) => a.at - b.at)[0];
      if (!next || next.at > end) return void (now.seconds = end);
      now.seconds = Math.max(now.seconds, next.at);
      timers.splice(timers.indexOf(next), 1);
      next.callback();
    }
  };
  return { clock, now, pass, uptime: () => now.seconds };
}

test('a client that turns its loop is not silent, however long it runs; one that stops is, once, after a while', () => {
  const { clock, pass, uptime } = world();
  const path = join(folder, 'one');
  const heard: number[] = [];
  writeFileSync(path, '');
  const heartbeat = new Heartbeat(path, clock, uptime);
  const deafen = listen({ path, clock, uptime, onSilence: (seconds) => void heard.push(seconds) });
  pass(3600);
  assert.deepEqual(heard, []);
  const last = readFileSync(path, 'latin1');
  assert.match(last, /^4600 {8}\n$/);
  heartbeat[Symbol.dispose]();
  assert.equal(existsSync(path), false);
  // It hangs: what it wrote last stays.
  writeFileSync(path, last);
  pass(40);
  assert.deepEqual(heard, []);
  pass(100);
  assert.equal(heard.length, 1);
  assert.ok((heard[0] ?? 0) <= 70);
  deafen();
});

test('a machine that has slept is no silent client', () => {
  const { clock, now, pass, uptime } = world();
  const path = join(folder, 'two');
  const heard: number[] = [];
  using _heartbeat = new Heartbeat(path, clock, uptime);
  const deafen = listen({ path, clock, uptime, onSilence: (seconds) => void heard.push(seconds) });
  for (let night = 0; night < 5; night++) {
    pass(33);
    now.seconds += 30_000;
  }
  pass(100);
  assert.deepEqual(heard, []);
  deafen();
});

test('a client that leaves no heartbeat is never taken for silent', () => {
  const { clock, pass, uptime } = world();
  const path = join(folder, 'three');
  writeFileSync(path, '');
  const deafen = listen({ path, clock, uptime, onSilence: () => assert.fail('heard nothing') });
  pass(10_000);
  deafen();
});
