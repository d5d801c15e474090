/** A limit on operations delays programs, each in its turn, and never what stores or gives back. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '../../src/kube/testing/fake-clock.ts';
import { operationLimit, withOperationLimit } from '../../src/meta/limit.ts';
import type { Context, Meta } from '../../src/meta/types.ts';

const context = (pid: number, signal?: AbortSignal): Context => ({ uid: 0, gid: 0, pid, ...(signal ? { signal } : {}) });

/** Metadata whose every operation answers at once with its own name; `this` must be itself. */
class Answers {
  readonly #called: string[] = [];
  get called(): readonly string[] {
    return this.#called;
  }
  async getattr(): Promise<unknown> {
    this.#called.push('getattr');
    return 'getattr';
  }
  async writeSlice(): Promise<unknown> {
    this.#called.push('writeSlice');
    return 'writeSlice';
  }
  async release(): Promise<void> {
    this.#called.push('release');
  }
  async *readdir(): AsyncIterable<readonly never[]> {
    for (let batch = 0; batch < 5; batch++) {
      this.#called.push('batch');
      yield [];
    }
  }
}

function limited(perSecond: number) {
  const clock = new FakeClock();
  const answers = new Answers();
  const known = new Proxy(answers, {
    get: (target, name) => {
      const member: unknown = Reflect.get(target, name, target);
      return typeof member === 'function' ? (member as () => unknown).bind(target) : (member ?? (() => Promise.resolve(name)));
    },
  });
  return { clock, answers, meta: withOperationLimit(known as unknown as Meta, operationLimit(perSecond, clock)) };
}

test('programs get so many operations a second, and what stores and closes is not delayed', async () => {
  const { clock, answers, meta } = limited(10);
  for (let count = 0; count < 30; count++) void meta.getattr(context(1), 1n as never);
  await clock.advance(0);
  assert.equal(answers.called.length, 10, 'a second’s worth at once');
  await meta.release(1n as never);
  await meta.writeSlice(context(1), 1n as never, 0, 0, { id: 1, size: 1 }, 0n);
  assert.deepEqual(answers.called.slice(-2), ['release', 'writeSlice']);
  await clock.advance(1000);
  assert.equal(answers.called.length, 22);
  await clock.advance(1000);
  assert.equal(answers.called.length, 32);
});

test('a process that asks once is not kept waiting by one that asks a hundred times', async () => {
  const { clock, meta } = limited(2);
  for (let count = 0; count < 100; count++) void meta.getattr(context(1), 1n as never);
  let answered = false;
  void meta.getattr(context(2), 1n as never).then(() => (answered = true));
  await clock.advance(1100);
  assert.equal(answered, true);
});

test('a wait that is interrupted ends, and nothing was asked', async () => {
  const { clock, answers, meta } = limited(1);
  await meta.getattr(context(1), 1n as never);
  const interrupt = new AbortController();
  const waiting = meta.getattr(context(1, interrupt.signal), 1n as never);
  interrupt.abort(new Error('EINTR'));
  await assert.rejects(waiting, /EINTR/);
  await clock.advance(10_000);
  assert.equal(answers.called.length, 1);
});

test('a long directory costs an operation for each batch', async () => {
  const { clock, answers, meta } = limited(1);
  const list = async (): Promise<void> => {
    for await (const _ of meta.readdir(context(1), 1n as never, true));
  };
  void list();
  await clock.advance(2100);
  assert.equal(answers.called.length, 3);
});
