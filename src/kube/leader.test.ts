import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import type { Clock } from '../lib/clock.ts';
import { createClient } from './client.ts';
import { ApiError, NotLeadingError } from './errors.ts';
import { createLeader } from './leader.ts';
import { ConfigMaps, Leases } from './resources.ts';
import { FakeApiServer } from './testing/fake-apiserver.ts';
import { FakeClock, seededRandom, settle } from './testing/fake-clock.ts';
import { FakeFrontend } from './testing/fake-transport.ts';
import type { KubeObject, Transport } from './types.ts';

/** One process: its own clock over the true time, frozen at will, its own connection. */
class Process {
  readonly clock: Clock;
  readonly stop = new AbortController();
  readonly name: string;
  cut = false;
  /** Work that a frozen process could not do: it runs when it thaws. */
  #held: (() => void)[] = [];
  #frozen = false;
  /** Wall clock of the machine minus the true one. */
  skew = 0;
  /** Monotonic milliseconds lost to sleep. */
  #slept = 0;
  #sleepingSince: number | undefined;
  readonly #time: FakeClock;

  constructor(name: string, time: FakeClock) {
    this.name = name;
    this.#time = time;
    const monotonic = (): number => (this.#sleepingSince ?? time.monotonic()) - this.#slept;
    const timer = (ms: number, callback: () => void): (() => void) => {
      const due = monotonic() + ms;
      let cancelled = false;
      let cancel: () => void = () => {};
      // Sleep stops the monotonic clock, so that what was planned comes later.
      const run = (): void => {
        if (cancelled) return;
        if (this.#frozen) this.#held.push(run);
        else if (monotonic() < due) cancel = time.timer(due - monotonic(), run);
        else callback();
      };
      cancel = time.timer(ms, run);
      return () => {
        cancelled = true;
        cancel();
      };
    };
    this.clock = {
      now: () => time.now() + this.skew,
      nowNs: () => BigInt(time.now() + this.skew) * 1_000_000n,
      monotonic,
      timer,
      sleep: (ms, signal) =>
        new Promise((resolve, reject) => {
          if (signal?.aborted) return reject(signal.reason as Error);
          const cancel = timer(ms, () => {
            signal?.removeEventListener('abort', onAbort);
            resolve();
          });
          const onAbort = (): void => {
            cancel();
            reject(signal?.reason as Error);
          };
          signal?.addEventListener('abort', onAbort, { once: true });
        }),
    };
  }

  get frozen(): boolean {
    return this.#frozen;
  }

  /** Stopped, with its clocks running on (SIGSTOP); with `sleep`, with its monotonic clock stopped too (a suspended machine). */
  freeze(sleep: boolean): void {
    if (this.#frozen) return;
    this.#frozen = true;
    if (sleep) this.#sleepingSince = this.#time.monotonic();
  }

  thaw(): void {
    if (!this.#frozen) return;
    this.#frozen = false;
    if (this.#sleepingSince !== undefined) this.#slept += this.#time.monotonic() - this.#sleepingSince;
    this.#sleepingSince = undefined;
    for (const run of this.#held.splice(0)) run();
  }
}

interface World {
  readonly time: FakeClock;
  readonly server: FakeApiServer;
  readonly processes: Process[];
  /** Who wrote, in the order in which the server took it. */
  readonly writes: { readonly by: string; readonly at: number; readonly holder: string | undefined }[];
  readonly outcomes: Map<string, string>;
}

/** Starts processes that, while they lead, write once per half second. */
function world(names: readonly string[], seed: number): World {
  const time = new FakeClock();
  return join(time, new FakeApiServer({ clock: time }), names, seed);
}

/** The same in a world that is there. */
function join(time: FakeClock, server: FakeApiServer, names: readonly string[], seed = 1): World {
  const writes: World['writes'] = [];
  const outcomes = new Map<string, string>();
  const processes = names.map((name, index) => {
    const process = new Process(name, time);
    const frontend = new FakeFrontend(server);
    frontend.fault = (method) => {
      if (process.cut) return 'reset';
      // Leases are put, the work is patched.
      if (method === 'PATCH') writes.push({ by: name, at: time.monotonic(), holder: holder(server) });
      return undefined;
    };
    const client = createClient(frontend.transport());
    const leader = createLeader(
      { client, namespace: 'default', name: 'lock', identity: name },
      { clock: process.clock, random: seededRandom(seed + index * 7919) },
    );
    const guarded = client.guarded(() => leader.assertLeading()).resource(ConfigMaps);
    leader
      .run(async (signal) => {
        while (!signal.aborted) {
          try {
            await guarded.apply({
              metadata: { name: 'state', namespace: 'default' },
              data: { by: name, n: String(writes.length) },
            });
          } catch (error) {
            if (!(error instanceof NotLeadingError) && !(error instanceof ApiError)) throw error;
          }
          await process.clock.sleep(500, signal).catch(() => {});
        }
      }, process.stop.signal)
      .then(
        (outcome) => outcomes.set(name, outcome),
        (error: unknown) => outcomes.set(name, String(error)),
      );
    return process;
  });
  return { time, server, processes, writes, outcomes };
}

const holder = (server: FakeApiServer): string | undefined =>
  (server.peek(Leases, { namespace: 'default', name: 'lock' }) as (KubeObject & { spec: { holderIdentity: string } }) | undefined)
    ?.spec.holderIdentity;

type Step =
  | { readonly do: 'freeze'; readonly who: number; readonly sleep: boolean }
  | { readonly do: 'thaw'; readonly who: number }
  | { readonly do: 'cut' | 'mend'; readonly who: number }
  | { readonly do: 'set clock'; readonly who: number; readonly ms: number }
  | { readonly do: 'stop'; readonly who: number }
  | { readonly do: 'pass'; readonly ms: number };

const who = fc.nat(2);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ do: fc.constant('freeze' as const), who, sleep: fc.boolean() }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('thaw' as const), who }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('cut' as const, 'mend' as const), who }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('set clock' as const),
      who,
      ms: fc.constantFrom(-3_600_000, -20_000, 20_000, 3_600_000),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('stop' as const), who }) },
  {
    weight: 8,
    arbitrary: fc.record({ do: fc.constant('pass' as const), ms: fc.constantFrom(100, 2500, 9000, 12_000, 16_000, 40_000) }),
  },
);

test('whatever is frozen, asleep, cut off or given another time, nobody writes whom the lease does not name', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 30 }), fc.nat(), fc.boolean(), async (steps, seed, sleeps) => {
      const { time, processes, writes, outcomes } = world(['a', 'b', 'c'], seed);
      for (const each of steps) {
        if (each.do === 'pass') {
          await time.advance(each.ms);
          continue;
        }
        const process = processes[each.who] as Process;
        if (each.do === 'freeze') process.freeze(each.sleep && sleeps);
        else if (each.do === 'thaw') process.thaw();
        // Asleep and set back by as much: no clock of the process shows that (see the head of leader.ts).
        else if (each.do === 'set clock') process.skew += sleeps ? Math.abs(each.ms) : each.ms;
        else if (each.do === 'stop') process.stop.abort(new Error('stop'));
        else process.cut = each.do === 'cut';
        await settle();
      }
      for (const process of processes) {
        process.cut = false;
        process.thaw();
      }
      const before = writes.length;
      await time.advance(60_000);
      for (const write of writes)
        assert.equal(write.holder, write.by, `at ${write.at} ms ${write.by} wrote though ${write.holder} held the lease`);
      const able = processes.filter((process) => !outcomes.has(process.name) && !process.stop.signal.aborted);
      if (able.length > 0) assert.ok(writes.length > before, 'somebody who can leads in the end');
      for (const process of processes) process.stop.abort(new Error('end'));
      await time.advance(30_000);
      assert.equal(outcomes.size, 3);
    }),
    { numRuns: 120 },
  );
});

async function elected(names: readonly string[]): Promise<World & { readonly leader: Process; readonly other: Process }> {
  const all = world(names, 1);
  await all.time.advance(5000);
  const leader = all.processes.find((process) => process.name === holder(all.server)) as Process;
  const other = all.processes.find((process) => process !== leader) as Process;
  return { ...all, leader, other };
}

test('a leader that was frozen beyond its deadline does not write when it thaws, though it never saw another', async () => {
  const { time, writes, leader, outcomes, server } = await elected(['a']);
  leader.freeze(false);
  await time.advance(12_000);
  const count = writes.length;
  leader.thaw();
  await settle();
  assert.equal(writes.length, count, 'its pending write was refused');
  await time.advance(3000);
  assert.equal(outcomes.get(leader.name), 'lost');
  assert.equal(holder(server), leader.name, 'what it cannot be sure of it does not release');
});

test('a machine that slept through its lease does not write when it wakes, though its monotonic clock stood still', async () => {
  const { time, writes, leader, other } = await elected(['a', 'b']);
  leader.freeze(true);
  await time.advance(40_000);
  assert.equal(writes.at(-1)?.by, other.name);
  const count = writes.filter((write) => write.by === leader.name).length;
  leader.thaw();
  await time.advance(20_000);
  assert.equal(writes.filter((write) => write.by === leader.name).length, count);
  assert.equal(writes.at(-1)?.by, other.name);
});

test('a leader that was frozen and set back in time does not write when it thaws', async () => {
  const { time, writes, leader, other } = await elected(['a', 'b']);
  leader.freeze(false);
  leader.skew -= 3_600_000;
  await time.advance(40_000);
  const count = writes.filter((write) => write.by === leader.name).length;
  leader.thaw();
  await time.advance(20_000);
  assert.equal(writes.filter((write) => write.by === leader.name).length, count);
  assert.equal(writes.at(-1)?.by, other.name);
});

test('a leader that was killed is followed after its lease has run out, and not before', async () => {
  const { time, writes, leader, other } = await elected(['a', 'b']);
  const killedAt = time.monotonic();
  leader.freeze(false);
  await time.advance(13_000);
  assert.ok(writes.every((write) => write.by === leader.name));
  await time.advance(10_000);
  const first = writes.find((write) => write.by === other.name);
  assert.ok(first && first.at - killedAt > 13_000 && first.at - killedAt < 22_000, `after ${first && first.at - killedAt} ms`);
});

test('a leader that stops is followed at once, because it releases the lease', async () => {
  const { time, writes, leader, other, outcomes } = await elected(['a', 'b']);
  const stoppedAt = time.monotonic();
  leader.stop.abort(new Error('stop'));
  await time.advance(6000);
  assert.equal(outcomes.get(leader.name), 'released');
  const first = writes.find((write) => write.by === other.name);
  assert.ok(first && first.at - stoppedAt < 5000);
});

for (const when of ['asks for the lease', 'renews it'] as const)
  test(`a process that is told to end while it ${when} leaves no lease behind for others to wait for`, async () => {
    const time = new FakeClock();
    const server = new FakeApiServer({ clock: time });
    const stop = new AbortController();
    const inner = new FakeFrontend(server).transport();
    let losing = when === 'asks for the lease';
    // The write is done, its answer does not come before the signal.
    const transport: Transport = {
      ...inner,
      request: async (request) => {
        const answer = await inner.request(request);
        if (!losing || request.method === 'GET') return answer;
        losing = false;
        return new Promise((_, reject) => {
          request.signal?.addEventListener('abort', () => reject(request.signal?.reason as Error), { once: true });
          stop.abort(new Error('stop'));
        });
      },
    };
    const leader = createLeader(
      { client: createClient(transport), namespace: 'default', name: 'lock', identity: 'a' },
      { clock: time },
    );
    const run = leader.run((signal) => time.sleep(1e9, signal).catch(() => {}), stop.signal);
    await time.advance(3000);
    losing = when === 'renews it';
    await time.advance(5000);
    assert.ok(stop.signal.aborted, 'an answer was held back');
    assert.equal(await run, 'released');
    assert.equal(holder(server), '');
  });

test('the time that the lease of a killed leader takes to run out is counted from the first look, not from the first try', async () => {
  const { time, server } = await elected([]);
  server.create(Leases, {
    metadata: { name: 'lock', namespace: 'default' },
    spec: { holderIdentity: 'killed', leaseDurationSeconds: 15, renewTime: '2026-01-01T00:00:00.000000Z' },
  });
  const client = createClient(new FakeFrontend(server).transport());
  const leader = createLeader({ client, namespace: 'default', name: 'lock', identity: 'a' }, { clock: time });
  const [looking, stop] = [new AbortController(), new AbortController()];
  const began = time.monotonic();
  const observing = leader.observe(looking.signal);
  await time.advance(20_000);
  assert.equal(holder(server), 'killed', 'who looks does not take it');
  looking.abort(new Error('ready'));
  await observing;
  let ledAt = Infinity;
  const run = leader.run((signal) => {
    ledAt = time.monotonic();
    return time.sleep(1e9, signal).catch(() => {});
  }, stop.signal);
  await time.advance(100);
  assert.ok(ledAt - began < 21_000, `after ${ledAt - began} ms`);
  stop.abort(new Error('end'));
  await time.advance(1000);
  assert.equal(await run, 'released');
});

test('who waits for a lease to run out tries as soon as it has', async () => {
  for (const seed of [1, 2, 3, 4, 5]) {
    const time = new FakeClock();
    const server = new FakeApiServer({ clock: time });
    server.create(Leases, {
      metadata: { name: 'lock', namespace: 'default' },
      spec: { holderIdentity: 'killed', leaseDurationSeconds: 15 },
    });
    const { processes, writes } = join(time, server, ['a', 'b'], seed);
    await time.advance(15_300);
    assert.ok(writes.length > 0, 'somebody leads');
    for (const process of processes) process.stop.abort(new Error('end'));
    await time.advance(1000);
  }
});

test('a leader whose clock is set far ahead or back goes on leading', async () => {
  const { time, writes, leader, other, outcomes } = await elected(['a', 'b']);
  for (const ms of [3_600_000, -7_200_000]) {
    leader.skew += ms;
    const count = writes.length;
    await time.advance(20_000);
    assert.ok(writes.length > count + 20);
  }
  assert.ok(writes.every((write) => write.by !== other.name));
  assert.equal(outcomes.size, 0);
});

test('a lease that another one took by hand is lost at the next renewal', async () => {
  const { time, server, leader, outcomes } = await elected(['a']);
  const lease = server.peek(Leases, { namespace: 'default', name: 'lock' });
  server.replace(Leases, {
    ...lease,
    metadata: { name: 'lock', namespace: 'default' },
    spec: { holderIdentity: 'thief', leaseDurationSeconds: 15 },
  });
  await time.advance(3000);
  assert.equal(outcomes.get(leader.name), 'lost');
  assert.equal(holder(server), 'thief');
});

test('durations that cannot keep two leaders apart are refused', () => {
  const client = createClient(new FakeFrontend(new FakeApiServer()).transport());
  const options = { client, namespace: 'default', name: 'lock', identity: 'a' };
  assert.throws(() => createLeader({ ...options, renewDeadlineMs: 15_000 }), RangeError);
  assert.throws(() => createLeader({ ...options, retryPeriodMs: 9000 }), RangeError);
});
