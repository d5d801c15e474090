import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Clock } from '../../lib/clock.ts';
import { systemClock } from '../../lib/clock.ts';
import { EVERYBODY, ServerNotices } from './notices.ts';
import type { Driver } from './session.ts';

/** A server to which connections can be listened on, refused and cut. */
class FakeServer {
  refused = 0;
  open: { heard: (subject: string) => void; ended: () => void }[] = [];
  made = 0;
  readonly listen: NonNullable<Driver['listen']> = async (heard, ended) => {
    if (this.refused-- > 0) throw new Error('away');
    this.made++;
    const connection = { heard, ended };
    this.open.push(connection);
    return { end: () => (this.open = this.open.filter((each) => each !== connection)) };
  };
  tell(subject: string): void {
    for (const { heard } of this.open) heard(subject);
  }
  cut(): void {
    for (const { ended } of this.open.splice(0)) ended();
  }
}

/** Timers that are run by hand. */
function manualClock() {
  const timers = new Set<{ readonly ms: number; readonly action: () => void }>();
  const clock: Clock = {
    ...systemClock,
    sleep: () => new Promise(() => {}),
    timer(ms, action) {
      const timer = { ms, action };
      timers.add(timer);
      return () => timers.delete(timer);
    },
  };
  const run = (): readonly number[] => {
    const due = [...timers];
    timers.clear();
    for (const { action } of due) action();
    return due.map(({ ms }) => ms);
  };
  return { clock, run };
}

const settled = async (): Promise<void> => {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
};

function watcher() {
  let times = 0;
  return { woken: () => void times++, take: () => [times, (times = 0)][0] };
}

test('who watches a subject hears of it and of everybody’s, over one connection', async () => {
  const server = new FakeServer();
  const notices = new ServerNotices(server.listen, systemClock);
  const [a, b] = [watcher(), watcher()];
  const unwatch = await notices.watch('a', a.woken);
  await notices.watch('b', b.woken);
  assert.equal(server.made, 1);
  a.take();
  server.tell('a');
  assert.deepEqual([a.take(), b.take()], [1, 0]);
  server.tell('nothing');
  server.tell(EVERYBODY);
  assert.deepEqual([a.take(), b.take()], [1, 1]);
  unwatch();
  server.tell('a');
  assert.equal(a.take(), 0);
  notices.close();
  await settled();
  assert.equal(server.open.length, 0);
});

test('a connection that is lost is made again while somebody waits, with growing pauses, and then everybody looks', async () => {
  const server = new FakeServer();
  const { clock, run } = manualClock();
  const notices = new ServerNotices(server.listen, clock);
  const a = watcher();
  const unwatch = await notices.watch('a', a.woken);
  a.take();
  server.refused = 3;
  server.cut();
  const pauses: number[] = [];
  while (server.open.length === 0) {
    pauses.push(...run());
    await settled();
  }
  assert.deepEqual(pauses, [100, 200, 400, 800]);
  assert.equal(a.take(), 1);
  server.tell('a');
  assert.equal(a.take(), 1);
  unwatch();
  assert.equal(server.open.length, 1);
  run();
  await settled();
  assert.equal(server.open.length, 0);
  server.cut();
  assert.deepEqual(run(), []);
  await notices.watch('a', a.woken);
  assert.equal(server.open.length, 1);
  notices.close();
});

test('other credentials are taken by a new connection, and the old one ends', async () => {
  const [one, two] = [new FakeServer(), new FakeServer()];
  const notices = new ServerNotices(one.listen, systemClock);
  const a = watcher();
  await notices.watch('a', a.woken);
  notices.adopt(two.listen);
  await settled();
  assert.deepEqual([one.open.length, two.open.length], [0, 1]);
  a.take();
  two.tell('a');
  assert.equal(a.take(), 1);
  notices.close();
});

test('who cannot be listened for goes on without', async () => {
  const server = new FakeServer();
  server.refused = 1;
  const { clock } = manualClock();
  const notices = new ServerNotices(server.listen, clock);
  const unwatch = await notices.watch('a', () => {});
  unwatch();
  notices.close();
  assert.deepEqual(await notices.watch('b', () => {}).then((end) => typeof end), 'function');
  assert.equal(server.made, 0);
});
