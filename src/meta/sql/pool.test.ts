import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from '../../lib/clock.ts';
import { FsError, UserError } from '../../lib/errors.ts';
import { nullLogger } from '../../lib/log.ts';
import { systemRandom } from '../../lib/random.ts';
import { postgresDialect } from './dialect.ts';
import { Pool, type PoolOptions } from './pool.ts';
import type { Driver, Fault, Session } from './session.ts';

class Failure extends Error {
  readonly fault: Fault;

  constructor(fault: Fault) {
    super(`it is ${fault}`);
    this.fault = fault;
  }
}

class FakeSession implements Session {
  broken = false;
  ended = false;
  run(): Promise<readonly never[]> {
    return Promise.resolve([]);
  }
  runUntilError(): Promise<{ readonly answers: readonly []; readonly error: undefined }> {
    return Promise.resolve({ answers: [], error: undefined });
  }

  end(): void {
    this.broken = true;
    this.ended = true;
  }
}

/** A server of which connections can be refused. */
class FakeServer {
  readonly sessions: FakeSession[] = [];
  refusals: Fault[] = [];
  readonly driver: Driver = {
    description: 'fake://server',
    product: 'Fake',
    dialect: postgresDialect('jfs_'),
    exclusively: { begin: [], end: [] },
    columns: '',
    columnsOf: [],
    connect: async () => {
      const fault = this.refusals.shift();
      if (fault) throw new Failure(fault);
      const session = new FakeSession();
      this.sessions.push(session);
      return session;
    },
    faultOf: (error) => (error instanceof Failure ? error.fault : 'other'),
    adviceOf: (error) => (error instanceof Failure && error.fault === 'full' ? 'make room' : undefined),
  };

  pool(options: Partial<PoolOptions> = {}): Pool {
    const { patience = 5000, maxConnections = 2, idleTime = 1_000_000, ...rest } = options;
    return new Pool(this.driver, {
      ...rest,
      clock: systemClock,
      random: systemRandom,
      logger: nullLogger,
      patience,
      maxConnections,
      idleTime,
    });
  }
}

const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('no more connections are made than are allowed, and each has one user at a time', async () => {
  const server = new FakeServer();
  const pool = server.pool();
  const using = new Set<Session>();
  let most = 0;
  await Promise.all(
    Array.from({ length: 50 }, () =>
      pool.repeat(async (session) => {
        assert.ok(!using.has(session));
        using.add(session);
        most = Math.max(most, using.size);
        await tick();
        using.delete(session);
      }),
    ),
  );
  assert.deepEqual([server.sessions.length, most], [2, 2]);
  pool.close();
  assert.ok(server.sessions.every((session) => session.ended));
  await assert.rejects(
    pool.repeat(async () => {}),
    { code: 'EIO' },
  );
});

test('work is repeated on another connection where one is lost, and on the same where a transaction was in the way', async () => {
  const server = new FakeServer();
  const pool = server.pool({ maxConnections: 1 });
  const faults: (Fault | undefined)[] = ['conflict', 'lost', 'conflict', undefined];
  const seen: Session[] = [];
  await pool.repeat(async (session) => {
    seen.push(session);
    const fault = faults.shift();
    if (fault) throw new Failure(fault);
  });
  assert.deepEqual(
    seen.map((session) => server.sessions.indexOf(session as FakeSession)),
    [0, 0, 1, 1],
  );
  assert.deepEqual(
    server.sessions.map(({ ended }) => ended),
    [true, false],
  );
  pool.close();
});

test('what cannot be repeated ends at once, with the errno that it means', async () => {
  const server = new FakeServer();
  const pool = server.pool();
  for (const [fault, code] of [
    ['full', 'ENOSPC'],
    ['range', 'EOVERFLOW'],
    ['other', 'EIO'],
    ['refused', 'EIO'],
  ] as const) {
    let times = 0;
    await assert.rejects(
      pool.repeat(async () => {
        times++;
        throw new Failure(fault);
      }),
      (error) => error instanceof FsError && error.code === code && error.message.includes('Fake at fake://server'),
    );
    assert.equal(times, 1);
  }
  pool.close();
});

test('a server that is away is waited for, at most as long as patience goes', async () => {
  const server = new FakeServer();
  const pool = server.pool({ patience: 10_000 });
  server.refusals = ['lost', 'lost', 'lost'];
  assert.equal(await pool.repeat(async () => 7), 7);
  pool.close();
  const impatient = server.pool({ patience: 30 });
  server.refusals = Array<Fault>(1000).fill('lost');
  await assert.rejects(
    impatient.repeat(async () => 7),
    (error) => error instanceof FsError && error.retryable && /does not answer: it is lost/.test(error.message),
  );
  await assert.rejects(impatient.open(), (error) => error instanceof UserError && error.code === 'MetaUnreachable');
});

test('who gives up waiting for a connection does not take the turn of another', async () => {
  const server = new FakeServer();
  const pool = server.pool({ maxConnections: 1 });
  let free: () => void = () => {};
  const holds = pool.repeat(() => new Promise<void>((resolve) => (free = resolve)));
  await tick();
  const controller = new AbortController();
  const gone = pool.repeat(async () => 1, controller.signal);
  const next = pool.repeat(async () => 2);
  await tick();
  controller.abort();
  await assert.rejects(gone, { name: 'AbortError' });
  free();
  await holds;
  assert.equal(await next, 2);
  pool.close();
});

test('connections that nobody needs any more are closed, but one', async () => {
  const server = new FakeServer();
  const pool = server.pool({ maxConnections: 8, idleTime: 0 });
  await Promise.all(Array.from({ length: 8 }, () => pool.repeat(tick)));
  await new Promise((resolve) => setTimeout(resolve, 5));
  await pool.repeat(tick);
  assert.equal(server.sessions.filter(({ ended }) => !ended).length, 1);
  pool.close();
});

test('an error says what to do about it, where that is known', async () => {
  const pool = new FakeServer().pool();
  await assert.rejects(
    pool.repeat(async () => {
      throw new Failure('full');
    }),
    { code: 'ENOSPC', message: /has no room: it is full; make room/ },
  );
  pool.close();
});

test('other credentials are taken by connections that are made from then on, and those that are out are not used again', async () => {
  const server = new FakeServer();
  const other = new FakeServer();
  const pool = server.pool({ maxConnections: 2 });
  let free: () => void = () => {};
  await pool.repeat(tick);
  const holds = pool.repeat(() => new Promise<void>((resolve) => (free = resolve)));
  await tick();
  pool.adopt(other.driver);
  await pool.repeat(tick);
  free();
  await holds;
  await pool.repeat(tick);
  assert.deepEqual([server.sessions.length, other.sessions.length], [1, 1]);
  assert.deepEqual([server.sessions[0]?.ended, other.sessions[0]?.ended], [true, false]);
  pool.close();
});

test('credentials that were taken once and are refused now are waited for, where somebody can bring others', async () => {
  const server = new FakeServer();
  const other = new FakeServer();
  let told = 0;
  const pool: Pool = server.pool({
    maxConnections: 1,
    patience: 1,
    onRefused() {
      if (++told === 2) pool.adopt(other.driver);
    },
  });
  await pool.repeat(async (session) => session.end());
  server.refusals = Array<Fault>(1000).fill('refused');
  assert.equal(await pool.repeat(async () => 7), 7);
  assert.deepEqual([told, other.sessions.length], [2, 1]);
  // What a statement may not do is no matter of waiting.
  await assert.rejects(
    pool.repeat(async () => {
      throw new Failure('refused');
    }),
    { code: 'EIO' },
  );
  assert.equal(told, 2);
  pool.close();
});

test('credentials that were never taken are refused at once', async () => {
  const server = new FakeServer();
  server.refusals = ['refused'];
  const pool = server.pool({ onRefused: () => assert.fail('there is nothing to wait for') });
  await assert.rejects(pool.open(), (error) => error instanceof UserError && error.code === 'MetaRefused');
});
