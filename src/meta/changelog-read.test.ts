import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Clock } from '../lib/clock.ts';
import { followLog } from './changelog-read.ts';
import type { LogPart } from './engine.ts';

/** Time passes only while somebody waits. */
class Waiting implements Clock {
  ms = 1_800_000_000_000;
  readonly onSleep: (() => void)[] = [];

  now(): number {
    return this.ms;
  }
  nowNs(): bigint {
    return BigInt(this.ms) * 1_000_000n;
  }
  monotonic(): number {
    return this.ms;
  }
  async sleep(ms: number): Promise<void> {
    this.ms += ms;
    this.onSleep.shift()?.();
  }
  timer(): () => void {
    throw new Error('nobody needs one');
  }
}

/** A log whose numbers are given before a change is committed. */
function logOf(clock: Waiting) {
  const entries = new Map<number, string>();
  return {
    logGaps: true,
    write: (number: number, ageMs = 0) =>
      entries.set(number, `${Math.floor((clock.ms - ageMs) / 1000)}.000000000|ACCESS(${number})|(1,${number})`),
    async readLog(from: number, limit: number): Promise<LogPart> {
      const numbers = [...entries.keys()].toSorted((a, b) => a - b);
      const found = numbers.filter((number) => number >= from).slice(0, limit);
      return {
        oldest: numbers[0] ?? 1,
        newest: numbers.at(-1) ?? 0,
        entries: found.map((number) => ({ number, text: entries.get(number) ?? '' })),
      };
    },
    trimLog: () => Promise.resolve(0),
  };
}

async function take(log: ReturnType<typeof logOf>, clock: Waiting, after: number, count: number): Promise<readonly number[]> {
  const ending = new AbortController();
  const numbers: number[] = [];
  for await (const entries of followLog(log, { after, clock, signal: ending.signal })) {
    numbers.push(...entries.map(({ number }) => number));
    if (numbers.length >= count) ending.abort();
  }
  return numbers;
}

test('an entry that comes to be seen after a later one is waited for, and read in its turn', async () => {
  const clock = new Waiting();
  const log = logOf(clock);
  for (const number of [1, 2, 4]) log.write(number);
  clock.onSleep.push(
    () => {},
    () => void log.write(3),
  );
  assert.deepEqual(await take(log, clock, 0, 4), [1, 2, 3, 4]);
});

test('an entry that never comes is waited for two seconds', async () => {
  const clock = new Waiting();
  const log = logOf(clock);
  for (const number of [1, 3, 4]) log.write(number);
  const begin = clock.ms;
  assert.deepEqual(await take(log, clock, 0, 3), [1, 3, 4]);
  assert.ok(clock.ms - begin >= 2000 && clock.ms - begin < 3000);
});

test('old gaps are passed at once', async () => {
  const clock = new Waiting();
  const log = logOf(clock);
  for (const number of [1, 3, 7]) log.write(number, 60_000);
  const begin = clock.ms;
  assert.deepEqual(await take(log, clock, 0, 3), [1, 3, 7]);
  assert.equal(clock.ms, begin);
});
