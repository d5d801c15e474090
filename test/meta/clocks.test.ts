/** Clients whose clocks differ, or jump, over every engine: nobody who lives loses what he holds, and who is dead is cleaned up after. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ROOT_INO } from '../../src/lib/int64.ts';
import { type Logger, nullLogger } from '../../src/lib/log.ts';
import { openMeta } from '../../src/meta/open.ts';
import { LockType, type Meta } from '../../src/meta/types.ts';
import { type Database, describeEngines } from './engines.ts';
import { name, openVolume, ROOT_USER as root, TestClock, type TestVolume } from './volume.ts';
import { until } from '../until.ts';

const HOUR = 3600_000;
const BEAT = 200;
const range = (type: LockType) => ({ type, start: 0n, end: 0n, pid: 1 });

/** A clock that is so far ahead (negative: behind) of the volume's. */
function ahead(volume: TestVolume, ms: number): TestClock {
  const clock = new TestClock(volume.clock.ns);
  clock.advance(ms);
  return clock;
}

/** What a client holds that would go with its session: locks, and a file that is open without a name. */
async function hold(meta: Meta, volume: TestVolume): Promise<() => Promise<void>> {
  const { ino: locked } = await meta.create(root, ROOT_INO, name('locked'), 0o644, 0, true);
  await meta.setlk(root, locked, 1n, range(LockType.Write), false);
  const unnamed = await meta.tmpfile(root, ROOT_INO, 0o600, 0);
  return async () => {
    assert.equal((await volume.engine.nodes([unnamed.ino]))[0]?.nlink, 0, 'the file without a name is there');
    await assert.rejects(volume.meta.setlk(root, locked, 9n, range(LockType.Write), false), { code: 'EAGAIN' });
  };
}

/** Heartbeats enough for a session to be watched and cleaned. */
const someBeats = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 4000));

const suite = (database: Database): void => {
  test('a client that is an hour ahead, or behind, takes nothing from those that live, and keeps its own', async (t) => {
    const volume = await openVolume(t, database.newUrl(), {}, { heartbeat: BEAT });
    const held = await hold(await volume.another(), volume);
    const warnings: string[] = [];
    const logger: Logger = { ...nullLogger, warn: (message) => void warnings.push(message), child: () => logger };
    await volume.another({ clock: ahead(volume, HOUR), logger });
    // Its sessions are over for everybody else.
    const behind = await volume.another({ clock: ahead(volume, -HOUR) });
    const { ino } = await behind.create(root, ROOT_INO, name('behind'), 0o644, 0, true);
    await behind.flock(root, ino, 1n, LockType.Write, false);
    const sids = async (): Promise<readonly number[]> =>
      (await volume.engine.sessions()).map(({ sid }) => sid).toSorted((a, b) => a - b);
    const before = await sids();
    assert.equal(before.length, 4);
    await someBeats();
    assert.deepEqual(await sids(), before);
    await held();
    await assert.rejects(volume.meta.flock(root, ino, 9n, LockType.Write, false), { code: 'EAGAIN' });
    assert.ok(warnings.some((message) => /clocks differ/.test(message)));
  });

  test('a clock that goes back does not make its client seem dead', async (t) => {
    const volume = await openVolume(t, database.newUrl(), {}, { heartbeat: BEAT });
    const clock = ahead(volume, 0);
    const jumping = await volume.another({ clock });
    const held = await hold(jumping, volume);
    const expires = async (): Promise<number> => Math.min(...(await volume.engine.sessions()).map(({ expire }) => expire));
    const before = await expires();
    clock.advance(-HOUR);
    await someBeats();
    assert.ok((await expires()) >= before, 'what it writes does not go back');
    await held();
    clock.advance(2 * HOUR);
    await someBeats();
    await held();
  });

  test('who is dead is cleaned up after, though a client that was ahead said that it had just been done', async (t) => {
    const volume = await openVolume(t, database.newUrl(), {}, { heartbeat: BEAT });
    const dying = await openMeta(volume.url, { clock: volume.clock, heartbeat: 1000 });
    await dying.newSession('/dying');
    const { ino } = await dying.create(root, ROOT_INO, name('f'), 0o644, 0, true);
    await dying.flock(root, ino, 1n, LockType.Write, false);
    await dying.close({ keepSession: true });
    const wrong = await volume.another({ clock: ahead(volume, HOUR) });
    await someBeats();
    await wrong.close();
    const [stamp] = await volume.engine.read([{ kind: 'counter', name: 'lastCleanupSessions' }]);
    volume.clock.advance(60_000);
    assert.ok(stamp > 0);
    await until('one session is left', async () => (await volume.engine.sessions()).length === 1);
    await volume.meta.flock(root, ino, 9n, LockType.Write, false);
  });
};

describeEngines('clients whose clocks differ', suite, { sideBySide: true });
