import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from '../lib/clock.ts';
import { AccessLog, timestamp } from './accesslog.ts';

const caller = { uid: 0, gid: 0, pid: 657 };
const never = new AbortController().signal;

/** A clock whose timers fire when the test says so. */
function clock(): { readonly clock: typeof systemClock; fire(): void } {
  const timers = new Set<() => void>();
  return {
    clock: {
      ...systemClock,
      nowNs: () => 1_795_256_293_327_766_123n,
      timer: (_ms, callback) => {
        timers.add(callback);
        return () => timers.delete(callback);
      },
    },
    fire: () => {
      for (const each of timers) each();
    },
  };
}

test('a line has time, caller, operation, result, outcome and duration', async () => {
  const log = new AccessLog(clock().clock);
  const reader = log.open();
  log.write(caller, 'readdir (1,65536,0,true)', ': (12)', 'OK', 0.00062);
  assert.equal(
    (await reader.read(1000, never)).toString(),
    '2026.11.21 10:18:13.327766 [uid:0,gid:0,pid:657] readdir (1,65536,0,true): (12) - OK <0.000620>\n',
  );
  assert.equal(timestamp(0n), '1970.01.01 00:00:00.000000');
});

test('nothing is kept while nobody reads, and each reader gets what happened since it came', async () => {
  const log = new AccessLog(clock().clock);
  assert.equal(log.active, false);
  log.write(caller, 'early ()', '', 'OK', 0);
  const one = log.open();
  log.write(caller, 'both ()', '', 'OK', 0);
  const two = log.open();
  log.write(caller, 'late ()', '', 'OK', 0);
  const operations = async (reader: typeof one): Promise<string[]> =>
    (await reader.read(10_000, never)).toString().match(/\w+ \(\)/g) ?? [];
  assert.deepEqual(await operations(one), ['both ()', 'late ()']);
  assert.deepEqual(await operations(two), ['late ()']);
  one.close();
  two.close();
  assert.equal(log.active, false);
});

test('a reader who waits is told `#` after a while, gets a line when it comes, and ends when it is interrupted', async () => {
  const time = clock();
  const log = new AccessLog(time.clock);
  const reader = log.open();
  const idle = reader.read(100, never);
  time.fire();
  assert.equal((await idle).toString(), '#\n');
  const waiting = reader.read(100, never);
  log.write(caller, 'op ()', '', 'OK', 0);
  assert.match((await waiting).toString(), /op \(\)/);
  const interrupt = new AbortController();
  const ended = reader.read(100, interrupt.signal);
  interrupt.abort();
  await assert.rejects(ended, { name: 'AbortError' });
});

test('small reads cut lines without losing any of them, and a reader that does not come loses the newest', async () => {
  const log = new AccessLog(clock().clock);
  const reader = log.open();
  for (let index = 0; index < 20_000; index++) log.write(caller, `op (${index})`, '', 'OK', 0);
  let text = '';
  while (!text.includes('#\n')) {
    if (text.match(/\n/g)?.length === 10_240) break;
    text += (await reader.read(4093, never)).toString();
  }
  const numbers = [...text.matchAll(/op \((\d+)\)/g)].map((match) => Number(match[1]));
  assert.deepEqual(
    numbers,
    Array.from({ length: 10_240 }, (_, index) => index),
  );
});
