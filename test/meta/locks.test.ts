/** Locks between the clients of a volume, over every engine. */
import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import { test, type TestContext } from 'node:test';
import * as fc from 'fast-check';
import { FsError } from '../../src/lib/errors.ts';
import { type Ino, ROOT_INO } from '../../src/lib/int64.ts';
import type { LockRecord } from '../../src/meta/engine.ts';
import { encodeRanges, END_OF_FILE } from '../../src/meta/lock-ranges.ts';
import { openMeta } from '../../src/meta/open.ts';
import { type Context, LockType, type Meta, type RangeLock } from '../../src/meta/types.ts';
import { describeEngines, openUrl } from './engines.ts';
import { byText } from './random-transactions.ts';
import { fails, name, openVolume, ROOT_USER as ctx, TestClock, type TestVolume } from './volume.ts';
import { until } from '../until.ts';

const { Read, Write, None } = LockType;

const range = (type: LockType, start = 0, end?: number, pid = 1): RangeLock => ({
  type,
  start: BigInt(start),
  end: end === undefined ? END_OF_FILE : BigInt(end),
  pid,
});

async function file(volume: TestVolume): Promise<Ino> {
  return (await volume.meta.create(ctx, ROOT_INO, name('file'), 0o666, 0, true)).ino;
}

/** Whether it was granted. */
async function granted(call: Promise<void>): Promise<boolean> {
  try {
    await call;
    return true;
  } catch (error) {
    assert.ok(error instanceof FsError && error.code === 'EAGAIN', String(error));
    return false;
  }
}

async function records(volume: TestVolume, of: 'flock' | 'posix', ino: Ino): Promise<readonly LockRecord[]> {
  const [found] = await volume.engine.read([{ kind: 'locks', of, ino }]);
  return found;
}

/** Time can be lost, as to a machine that was suspended. */
class JumpingClock extends TestClock {
  offset = 0;

  override monotonic(): number {
    return super.monotonic() + this.offset;
  }
}

/** A client that the test ends itself. */
async function client(volume: TestVolume, heartbeat = 12_000): Promise<Meta> {
  const meta = await openMeta(volume.url, { clock: volume.clock, heartbeat });
  await meta.newSession('/mnt');
  return meta;
}

/** A wait that has not ended after the event loop and the database had their turns. */
async function waiting(wait: Promise<void>): Promise<boolean> {
  let over = false;
  wait.then(
    () => (over = true),
    () => (over = true),
  );
  for (let round = 0; round < 20; round++) await turn();
  await new Promise((resolve) => setTimeout(resolve, 50));
  return !over;
}

describeEngines('locks', (database) => {
  const open = (t: TestContext): Promise<TestVolume> => openVolume(t, database.newUrl());

  test('of whole files: many may read or one write, whichever client they are of', async (t) => {
    const volume = await open(t);
    const ino = await file(volume);
    const [one, two] = [volume.meta, await volume.another()];
    await one.flock(ctx, ino, 1n, Read, false);
    await two.flock(ctx, ino, 1n, Read, false);
    assert.equal(await granted(two.flock(ctx, ino, 2n, Write, false)), false);
    await one.flock(ctx, ino, 1n, None, false);
    assert.equal(await granted(two.flock(ctx, ino, 2n, Write, false)), false, 'another of the same client reads');
    await two.flock(ctx, ino, 1n, None, false);
    await two.flock(ctx, ino, 2n, Write, false);
    await two.flock(ctx, ino, 2n, Write, false);
    assert.equal(await granted(one.flock(ctx, ino, 1n, Read, false)), false);
    await two.flock(ctx, ino, 2n, Read, false);
    await one.flock(ctx, ino, 1n, Read, false);
    await one.flock(ctx, ino, 99n, None, false);
    assert.equal((await records(volume, 'flock', ino)).length, 2);
  });

  test('changing the type of a flock gives up the one that is held where another is in the way, as on Linux', async (t) => {
    const volume = await open(t);
    const ino = await file(volume);
    const [one, two] = [volume.meta, await volume.another()];
    await one.flock(ctx, ino, 1n, Read, false);
    await two.flock(ctx, ino, 2n, Read, false);
    const first = one.flock(ctx, ino, 1n, Write, true);
    assert.ok(await waiting(first));
    // Both want to write now, and neither keeps the other from it.
    const second = two.flock(ctx, ino, 2n, Write, true);
    const winner = await Promise.race([first.then(() => 1), second.then(() => 2)]);
    await (winner === 1 ? one.flock(ctx, ino, 1n, None, false) : two.flock(ctx, ino, 2n, None, false));
    await Promise.all([first, second]);
  });

  test('of bytes: each byte for itself, as a plain model has it', async (t) => {
    const volume = await open(t);
    const ino = await file(volume);
    const clients = [volume.meta, await volume.another()];
    const owners = [0, 1, 0, 1].map((client, owner) => ({ meta: clients[client] as Meta, owner: BigInt(owner >> 1), client }));
    const BYTES = 8;
    const step = fc.record({
      who: fc.nat(owners.length - 1),
      type: fc.constantFrom<LockType>(Read, Write, None),
      one: fc.nat(BYTES - 1),
      other: fc.nat(BYTES - 1),
      open: fc.boolean(),
      ask: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
        // Per byte (the last stands for the rest of the file) who has locked it, and how.
        const model = Array.from({ length: BYTES + 1 }, () => new Map<number, LockType>());
        for (const { who, type, one, other, open, ask } of steps) {
          const { meta, owner, client } = owners[who]!;
          const from = Math.min(one, other);
          const to = open ? BYTES : Math.max(one, other);
          const lock = range(type, from, open ? undefined : to, who + 100);
          const touched = model.slice(from, to + 1);
          const blocked =
            type !== None &&
            touched.some((byte) => [...byte].some(([holder, held]) => holder !== who && (type === Write || held === Write)));
          if (ask) {
            const found = await meta.getlk(ctx, ino, owner, lock);
            assert.equal(found !== undefined, blocked);
            if (!found) continue;
            const byte = model[Number(found.start > BigInt(BYTES) ? BigInt(BYTES) : found.start)]!;
            const holders = [...byte].filter(([holder, held]) => holder !== who && held === found.type);
            assert.ok(holders.length > 0, 'somebody holds what is said to be in the way');
            const local = holders.some(([holder]) => owners[holder]?.client === client && found.pid === holder + 100);
            assert.ok(local || found.pid === 0, 'a process of this client, or nobody that it knows');
            continue;
          }
          assert.equal(await granted(meta.setlk(ctx, ino, owner, lock, false)), !blocked);
          if (blocked) continue;
          for (const byte of touched)
            if (type === None) byte.delete(who);
            else byte.set(who, type);
        }
        for (const { meta, owner } of owners) await meta.setlk(ctx, ino, owner, range(None), false);
        assert.deepEqual(await records(volume, 'posix', ino), []);
      }),
      { numRuns: 60 },
    );
  });

  test('of bytes and of whole files know nothing of each other', async (t) => {
    const volume = await open(t);
    const ino = await file(volume);
    const other = await volume.another();
    await volume.meta.flock(ctx, ino, 1n, Write, false);
    await other.setlk(ctx, ino, 1n, range(Write), false);
    assert.equal(await granted(other.flock(ctx, ino, 1n, Read, false)), false);
    assert.equal(await granted(volume.meta.setlk(ctx, ino, 1n, range(Read), false)), false);
    await fails('EINVAL', volume.meta.setlk(ctx, ino, 1n, range(Write, 5, 4), false));
  });

  test('who waits gets the lock when it is released, by this client or by another', async (t) => {
    const volume = await open(t);
    const ino = await file(volume);
    const other = await volume.another();
    await volume.meta.setlk(ctx, ino, 1n, range(Write, 0, 9), false);
    const near = volume.meta.setlk(ctx, ino, 2n, range(Write, 5, 20), true);
    const far = other.setlk(ctx, ino, 1n, range(Read, 3, 3), true);
    assert.ok(await waiting(near));
    assert.ok(await waiting(far));
    await volume.meta.setlk(ctx, ino, 1n, range(None, 5, 9), false);
    await near;
    assert.ok(await waiting(far), 'byte 3 is still locked');
    await volume.meta.setlk(ctx, ino, 1n, range(Read, 0, 4), false);
    await far;
  });

  test('a wait ends with EINTR when it is interrupted, and leaves nothing behind', async (t) => {
    const volume = await open(t);
    const ino = await file(volume);
    await volume.meta.flock(ctx, ino, 1n, Write, false);
    const interrupt = new AbortController();
    const asked: Context = { ...ctx, signal: interrupt.signal };
    const wait = (await volume.another()).flock(asked, ino, 2n, Write, true);
    assert.ok(await waiting(wait));
    interrupt.abort(new FsError('EINTR'));
    await fails('EINTR', wait);
    await volume.meta.flock(ctx, ino, 1n, None, false);
    await new Promise((resolve) => setTimeout(resolve, 300));
    assert.deepEqual(await records(volume, 'flock', ino), []);
  });

  test('one at a time holds a lock that many want, and each gets it', async (t) => {
    const volume = await open(t);
    const ino = await file(volume);
    const clients = [volume.meta, await volume.another(), await volume.another()];
    let inside = 0;
    let entered = 0;
    await Promise.all(
      Array.from({ length: 12 }, async (_, at) => {
        const meta = clients[at % clients.length]!;
        for (let round = 0; round < 4; round++) {
          await meta.setlk(ctx, ino, BigInt(at), range(Write, 0, 0), true);
          assert.equal(++inside, 1);
          await turn();
          entered++;
          inside--;
          await meta.setlk(ctx, ino, BigInt(at), range(None), false);
        }
      }),
    );
    assert.equal(entered, 48);
  });

  test('locks end with their session, whether it ends in order or dies', async (t) => {
    const volume = await open(t);
    const ino = await file(volume);
    const orderly = await client(volume);
    const dying = await client(volume, 1000);
    await orderly.flock(ctx, ino, 1n, Read, false);
    await dying.flock(ctx, ino, 1n, Read, false);
    await dying.setlk(ctx, ino, 1n, range(Write), false);
    const wait = volume.meta.flock(ctx, ino, 1n, Write, true);
    assert.ok(await waiting(wait));
    await orderly.close();
    assert.ok(await waiting(wait));
    await dying.close({ keepSession: true });
    volume.clock.advance(60_000);
    // Its session has run out: another client cleans up at a heartbeat.
    await volume.another({ heartbeat: 50 });
    await wait;
    await volume.meta.setlk(ctx, ino, 1n, range(Write), false);
    assert.deepEqual(
      (await records(volume, 'posix', ino)).map(({ owner }) => owner),
      [1n],
    );
  });

  test("a lock whose session is not there is in nobody's way", async (t) => {
    const volume = await open(t);
    const ino = await file(volume);
    // The official client does not note shared flocks, so they outlive their session.
    await volume.engine.commit({
      checks: [],
      writes: [
        { kind: 'putLock', of: 'flock', ino, sid: 4711, owner: 5n, value: Buffer.from('R') },
        { kind: 'putLock', of: 'posix', ino, sid: 4711, owner: 5n, value: encodeRanges([range(Write)]) },
      ],
    });
    await volume.meta.flock(ctx, ino, 1n, Write, true);
    const [lock] = await records(volume, 'flock', ino);
    assert.equal(lock?.owner, 1n);
    const other = await volume.another();
    assert.equal(await other.getlk(ctx, ino, 1n, range(Read)), undefined);
    assert.deepEqual(await records(volume, 'posix', ino), []);
  });

  test('the client that follows in a session has its locks, and can release them', async (t) => {
    const volume = await open(t);
    const ino = await file(volume);
    const first = await client(volume);
    await first.flock(ctx, ino, 2n ** 64n - 1n, Write, false);
    await first.setlk(ctx, ino, 3n, range(Write, 10, 19), false);
    const [lock] = await records(volume, 'flock', ino);
    await first.close({ keepSession: true });
    const second = await openMeta(volume.url, { clock: volume.clock });
    t.after(() => second.close());
    await second.newSession('/mnt', lock?.sid);
    assert.ok(second.holdsLocks(ino));
    assert.equal(await granted(volume.meta.flock(ctx, ino, 1n, Read, false)), false);
    await second.setlk(ctx, ino, 3n, range(None, 12, 14), false);
    assert.equal(await granted(volume.meta.setlk(ctx, ino, 3n, range(Write, 12, 14), false)), true);
    assert.equal(await granted(volume.meta.setlk(ctx, ino, 3n, range(Write, 11, 11), false)), false);
    await second.dropLocks({ of: 'flock', ino }, 2n ** 64n - 1n);
    await second.dropLocks({ of: 'posix', ino });
    assert.equal(second.holdsLocks(ino), false);
    assert.equal(second.dropLocks({ of: 'posix', ino }), undefined, 'nothing is left to release');
    await volume.meta.flock(ctx, ino, 1n, Write, false);
    await volume.meta.setlk(ctx, ino, 3n, range(Write), false);
  });

  test('a client that was thought dead takes its locks again, and those that others have now are lost', async (t) => {
    const volume = await open(t);
    const ino = await file(volume);
    const errors: unknown[] = [];
    const logger = {
      debug() {},
      info() {},
      warn() {},
      error: (_: string, fields: unknown) => errors.push(fields),
      child: () => logger,
    };
    const clock = new JumpingClock();
    const slept = await volume.another({ heartbeat: 100, logger, clock });
    await slept.setlk(ctx, ino, 1n, range(Write, 0, 0), false);
    await slept.setlk(ctx, ino, 2n, range(Write, 1, 1), false);
    const before = await records(volume, 'posix', ino);
    const sid = before[0]?.sid ?? 0;
    // The session was cleaned up and the locks with it, as after a database was away for a minute.
    const engine = await openUrl(volume.url);
    t.after(() => engine.close());
    await engine.removeSession(sid);
    await volume.meta.setlk(ctx, ino, 9n, range(Read, 1, 1), false);
    clock.offset = 60_000;
    await until('the loss is told', () => errors.length > 0);
    const after = await records(volume, 'posix', ino);
    assert.deepEqual(after.map(({ sid: holder, owner }) => (holder === sid ? String(owner) : 'other')).toSorted(byText), [
      '1',
      'other',
    ]);
    assert.deepEqual(errors, [{ inode: ino, kind: 'posix' }]);
    assert.equal(await granted(volume.meta.setlk(ctx, ino, 9n, range(Write, 0, 0), false)), false);
  });

  test('a read-only client locks nothing', async (t) => {
    const volume = await open(t);
    const ino = await file(volume);
    const reader = await volume.another({ readOnly: true });
    await fails('EROFS', reader.flock(ctx, ino, 1n, Read, false));
    await fails('EROFS', reader.setlk(ctx, ino, 1n, range(Read), true));
  });
});
