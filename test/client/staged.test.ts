/** A client that is told to end uploads what is staged as long as it may, says how far it is, and says what is left. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ChunkStore } from '../../src/chunk/types.ts';
import { drainStaged } from '../../src/client/staged.ts';
import { FakeClock, settle } from '../../src/kube/testing/fake-clock.ts';
import { nullLogger } from '../../src/lib/log.ts';

/** A store with so many staged blocks of 10 bytes, one of which goes each `msEach`. */
function staged(clock: FakeClock, blocks: number, msEach: number): ChunkStore {
  const left = () => ({ blocks, bytes: blocks * 10 });
  return {
    stats: () => ({ staging_blocks: blocks, staging_block_bytes: blocks * 10 }),
    async drain(signal: AbortSignal) {
      while (blocks > 0 && !signal.aborted) {
        await clock.sleep(msEach, signal).catch(() => undefined);
        if (!signal.aborted) blocks--;
      }
      return left();
    },
  } as unknown as ChunkStore;
}

function said() {
  const lines: [string, unknown][] = [];
  const at =
    (level: string) =>
    (_message: string, fields?: Readonly<Record<string, unknown>>): void =>
      void lines.push([level, fields?.['blocks']]);
  return { lines, logger: { ...nullLogger, info: at('info'), error: at('error') } };
}

test('all is uploaded within the time, with a word now and then', async () => {
  const clock = new FakeClock();
  const { lines, logger } = said();
  let done: boolean | undefined;
  void drainStaged(staged(clock, 12, 1000), { delayMs: 0, drainMs: 60_000 }, { clock, logger, volume: 'v' }).then(
    (all) => (done = all),
  );
  await clock.advance(11_900);
  assert.equal(done, undefined);
  await clock.advance(200);
  assert.equal(done, true);
  assert.deepEqual(
    lines.map(([level]) => level),
    ['info', 'info'],
  );
  assert.equal(clock.pending, 0, 'no timer is left');
});

test('when the time is over, what is left is told as an error', async () => {
  const clock = new FakeClock();
  const { lines, logger } = said();
  let done: boolean | undefined;
  void drainStaged(staged(clock, 100, 1000), { delayMs: 0, drainMs: 10_000 }, { clock, logger, volume: 'v' }).then(
    (all) => (done = all),
  );
  await clock.advance(9999);
  assert.equal(done, undefined);
  await clock.advance(1);
  await settle();
  assert.equal(done, false);
  assert.deepEqual(lines.at(-1), ['error', 91]);
  assert.equal(clock.pending, 0);
});

test('on one machine, and without write-back, nothing is waited for', async () => {
  const clock = new FakeClock();
  const { lines, logger } = said();
  const store = staged(clock, 100, 1000);
  assert.equal(await drainStaged(store, { delayMs: 0 }, { clock, logger, volume: 'v' }), true);
  assert.equal(await drainStaged(store, undefined, { clock, logger, volume: 'v' }), true);
  assert.deepEqual(lines, []);
});
