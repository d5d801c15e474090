import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { Registry } from 'prom-client';
import { FakeClock } from './testing/fake-clock.ts';
import { MAX_DELAY_MS, createWorkQueue } from './workqueue.ts';

const noRandom = { float: () => 0, bytes: (length: number) => Buffer.alloc(length), uuid: () => '' };
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

type Command =
  | { readonly do: 'add'; readonly key: string; readonly priority: number; readonly afterMs: number }
  | { readonly do: 'fail'; readonly key: string }
  | { readonly do: 'forget'; readonly key: string }
  | { readonly do: 'get' }
  | { readonly do: 'done'; readonly pick: number }
  | { readonly do: 'pass'; readonly ms: number };

/** The queue in the plainest words: one record per key, everything found by looking at all of them. */
class Model {
  readonly keys = new Map<string, { priority: number; at: number; order: number; delayed: boolean }>();
  readonly again = new Map<string, number>();
  readonly working = new Set<string>();
  readonly failures = new Map<string, number>();
  readonly handed: string[] = [];
  waiting = 0;
  now = 0;
  #order = 0;

  #ready(key: string, priority: number): void {
    if (this.working.has(key)) {
      this.again.set(key, Math.max(priority, this.again.get(key) ?? -Infinity));
      this.keys.delete(key);
      return;
    }
    const old = this.keys.get(key);
    if (old && !old.delayed && old.priority >= priority) return;
    this.keys.set(key, { priority, at: 0, order: this.#order++, delayed: false });
    this.hand();
  }

  hand(): void {
    while (this.waiting > 0) {
      const ready = [...this.keys].filter(([, each]) => !each.delayed);
      const [first] = ready.toSorted(([, left], [, right]) => right.priority - left.priority || left.order - right.order);
      if (!first) return;
      this.waiting--;
      this.keys.delete(first[0]);
      this.working.add(first[0]);
      this.handed.push(first[0]);
    }
  }

  add(key: string, priority: number, afterMs: number): void {
    const old = this.keys.get(key);
    const known = Math.max(priority, old?.delayed ? old.priority : -Infinity);
    if (afterMs <= 0 || (old && !old.delayed) || this.again.has(key)) return this.#ready(key, afterMs <= 0 ? known : priority);
    const at = this.now + afterMs;
    if (old && old.at <= at && known === old.priority) return;
    this.keys.set(key, { priority: known, at: Math.min(at, old?.at ?? Infinity), order: this.#order++, delayed: true });
  }

  fail(key: string): void {
    const count = this.failures.get(key) ?? 0;
    this.failures.set(key, count + 1);
    this.add(key, 0, Math.min(300_000, 5 * 2 ** count));
  }

  done(key: string): void {
    this.working.delete(key);
    const priority = this.again.get(key);
    this.again.delete(key);
    if (priority !== undefined) this.#ready(key, priority);
  }

  pass(ms: number): void {
    const end = this.now + ms;
    for (;;) {
      const due = [...this.keys].filter(([, each]) => each.delayed && each.at <= end);
      const [first] = due.toSorted(([, left], [, right]) => left.at - right.at || left.order - right.order);
      if (!first) break;
      const [key, { at, priority }] = first;
      this.now = Math.max(this.now, at);
      this.keys.delete(key);
      this.#ready(key, priority);
    }
    this.now = end;
  }
}

const key = fc.constantFrom('a', 'b', 'c', 'd');
const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('add' as const),
      key,
      priority: fc.constantFrom(-100, 0, 5),
      afterMs: fc.constantFrom(0, 0, 1, 10, 500),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('fail' as const), key }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('forget' as const), key }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('get' as const) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('done' as const), pick: fc.nat(9) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('pass' as const), ms: fc.constantFrom(1, 5, 9, 40, 1000) }) },
);

test('a work queue hands out what a plain model of it hands out, whatever is done to it', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(command, { maxLength: 60 }), async (commands) => {
      const clock = new FakeClock();
      const queue = createWorkQueue({ name: 'q', clock, random: noRandom, retriesPerSecond: 1e9, retryBurst: 1e9 });
      const model = new Model();
      const handed: string[] = [];
      const working = new Set<string>();
      const get = (): void =>
        void queue.get().then((item) => {
          if (!item) return;
          assert.ok(!working.has(item.key), `${item.key} was handed out twice at a time`);
          working.add(item.key);
          handed.push(item.key);
        });
      for (const each of commands) {
        if (each.do === 'add') {
          queue.add(each.key, { priority: each.priority, afterMs: each.afterMs });
          model.add(each.key, each.priority, each.afterMs);
        } else if (each.do === 'fail') {
          queue.add(each.key, { rateLimited: true });
          model.fail(each.key);
        } else if (each.do === 'forget') {
          queue.forget(each.key);
          model.failures.delete(each.key);
        } else if (each.do === 'get') {
          get();
          model.waiting++;
          model.hand();
        } else if (each.do === 'done') {
          const one = [...working][each.pick % working.size];
          if (one === undefined) continue;
          working.delete(one);
          queue.done(one);
          model.done(one);
        } else {
          clock.tick(each.ms);
          model.pass(each.ms);
        }
        await turn();
        assert.deepEqual(handed, model.handed);
        assert.equal(queue.length, [...model.keys.values()].filter((one) => !one.delayed).length);
      }
      // Nothing that was added is lost: given time and workers, all of it comes out.
      for (let round = 0; round < 20; round++) {
        for (const one of working) {
          working.delete(one);
          queue.done(one);
          model.done(one);
        }
        get();
        model.waiting++;
        model.hand();
        clock.tick(MAX_DELAY_MS);
        model.pass(MAX_DELAY_MS);
        await turn();
      }
      assert.deepEqual(handed, model.handed);
      assert.equal(model.keys.size, 0);
      assert.equal(clock.pending, 0);
    }),
    { numRuns: 300 },
  );
});

test('the backoff of a failing key doubles up to its limit and starts again when forgotten', () => {
  const clock = new FakeClock();
  const queue = createWorkQueue({ name: 'q', clock, random: noRandom, retriesPerSecond: 1e9, retryBurst: 1e9 });
  const delays: number[] = [];
  for (let round = 0; round < 20; round++) {
    queue.add('a', { rateLimited: true });
    const delay = clock.next ?? -1;
    delays.push(delay);
    clock.tick(delay);
    assert.equal(queue.length, 1);
    void queue.get();
    queue.done('a');
  }
  assert.deepEqual(delays.slice(0, 4), [5, 10, 20, 40]);
  assert.ok(Math.abs((delays.at(-1) ?? 0) - 300_000) < 1);
  assert.equal(queue.failures('a'), 20);
  queue.forget('a');
  queue.add('a', { rateLimited: true });
  assert.ok(Math.abs((clock.next ?? 0) - 5) < 1e-3);
});

test('many failing keys are let through no faster than the bucket allows', () => {
  const clock = new FakeClock();
  const queue = createWorkQueue({ name: 'q', clock, random: noRandom });
  for (let index = 0; index < 200; index++) queue.add(`k${index}`, { rateLimited: true });
  clock.tick(6);
  assert.equal(queue.length, 100);
  clock.tick(5000);
  assert.ok(queue.length >= 149 && queue.length <= 151, `${queue.length} are ready after 5 s at 10/s`);
});

test('a queue that is shut down hands out what is ready, refuses the rest and lets waiting workers go', async () => {
  const clock = new FakeClock();
  const queue = createWorkQueue({ name: 'q', clock });
  queue.add('now');
  queue.add('later', { afterMs: 1000 });
  queue.shutDown();
  queue.add('refused');
  assert.equal((await queue.get())?.key, 'now');
  const waiting = queue.get();
  assert.equal(await waiting, undefined);
  queue.done('now');
  assert.equal(clock.pending, 0);
});

test('draining ends when the last key handed out is done, and not before', async () => {
  const queue = createWorkQueue({ name: 'q', clock: new FakeClock() });
  queue.add('a');
  const item = await queue.get();
  queue.add('a');
  let drained = false;
  const drain = queue.drained().then(() => (drained = true));
  await turn();
  assert.equal(drained, false);
  queue.done(item?.key ?? '');
  await turn();
  assert.equal(drained, false, 'the key was added again while it was worked on');
  queue.done((await queue.get())?.key ?? '');
  await drain;
  assert.equal(drained, true);
});

test('many delays that are brought forward do not pile up', () => {
  const clock = new FakeClock();
  const queue = createWorkQueue({ name: 'q', clock });
  for (let round = 10_000; round > 0; round--) queue.add('a', { afterMs: round });
  assert.equal(clock.pending, 1);
  clock.tick(1);
  assert.equal(queue.length, 1);
  assert.equal(clock.pending, 0);
});

test('the metrics of a queue carry the names and labels of controller-runtime', async () => {
  const metrics = new Registry();
  const clock = new FakeClock();
  const queue = createWorkQueue({ name: 'volumes', clock, metrics });
  queue.add('a');
  queue.add('b', { priority: 5 });
  await queue.get();
  clock.tick(2000);
  const text = await metrics.metrics();
  assert.match(text, /workqueue_depth\{name="volumes",controller="volumes",priority="0"\} 1/);
  assert.match(text, /workqueue_depth\{name="volumes",controller="volumes",priority="5"\} 0/);
  assert.match(text, /workqueue_adds_total\{name="volumes",controller="volumes"\} 2/);
  assert.match(text, /workqueue_unfinished_work_seconds\{name="volumes",controller="volumes"\} 2/);
});
