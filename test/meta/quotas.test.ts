/**
 * Limits of the volume, quotas of directories, users and groups, over both engines: what they refuse and with what, what is charged to
 * whom, how several clients come to know of each other and of changes, and what `statfs` shows.
 */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { type Ino, ROOT_INO, TRASH_INO } from '../../src/lib/int64.ts';
import type { QuotaKey } from '../../src/meta/quota.ts';
import { checkQuotas, getQuota, listQuotas, removeQuota, setQuota, setVolumeLimits } from '../../src/meta/quotas.ts';
import { readFormat } from '../../src/meta/open.ts';
import { VolumeMeta } from '../../src/meta/meta.ts';
import { changeSetting } from '../../src/meta/setting.ts';
import { CHUNK_SIZE, type Meta, RenameFlag, SYSTEM } from '../../src/meta/types.ts';
import { type Database, describeEngines, openUrl } from './engines.ts';
import { fails, name, openVolume, ROOT_USER, type TestVolume, user } from './volume.ts';

const BLOCK = 4096;
/** Reads what others changed every so often: soon, for a test. */
const QUICK = { heartbeat: 25 };
/** Never within a test. */
const SLOW = { heartbeat: 1_000_000 };
const directory = (path: string) => ({ kind: 'directory', path }) as const;

/** Writes a slice of so many blocks at the beginning of a file. */
async function write(meta: Meta, ino: Ino, blocks: number, at = 0): Promise<void> {
  const id = await meta.newSliceId();
  await meta.writeSlice(SYSTEM, ino, 0, at * BLOCK, { id, size: blocks * BLOCK }, 1n);
}

async function create(meta: Meta, parent: Ino, text: string, ctx = ROOT_USER): Promise<Ino> {
  const { ino } = await meta.create(ctx, parent, name(text), 0o666, 0, true);
  await meta.release(ino);
  return ino;
}

const mkdir = async (meta: Meta, parent: Ino, text: string): Promise<Ino> =>
  (await meta.mkdir(ROOT_USER, parent, name(text), 0o777, 0)).ino;

/** Blocks and inodes that are recorded for a quota. */
async function recorded({ engine }: TestVolume, quota: QuotaKey): Promise<readonly [number, number] | undefined> {
  const [record] = await engine.read([{ kind: 'quota', quota }]);
  return record && [record.used.space / BLOCK, record.used.inodes];
}

async function consistent({ engine }: TestVolume): Promise<void> {
  for (const strict of [false, true])
    for (const check of await checkQuotas(engine, { strict })) assert.ok(check.consistent, JSON.stringify(check));
}

/** Tries again and again until it succeeds; what it fails with in the end is thrown. */
async function eventually<T>(attempt: () => Promise<T>): Promise<T> {
  for (let tries = 0; ; tries++) {
    try {
      return await attempt();
    } catch (error) {
      if (tries === 3600) throw error;
    }
    await new Promise((done) => setTimeout(done, 25));
  }
}

describeEngines('limits and quotas', (database: Database) => {
  /** A volume with `/a/b`, closed by who made it. */
  async function volumeWith(t: TestContext, trashDays = 0): Promise<{ volume: TestVolume; a: Ino; b: Ino }> {
    const volume = await openVolume(t, database.newUrl(), { trashDays });
    const a = await mkdir(volume.meta, ROOT_INO, 'a');
    const b = await mkdir(volume.meta, a, 'b');
    await volume.meta.close();
    return { volume, a, b };
  }

  test('whatever grows a directory beyond its quota is refused with EDQUOT, and changes nothing', async (t) => {
    const { volume, b } = await volumeWith(t);
    await setQuota(volume.engine, directory('/a'), { capacity: 6 * BLOCK });
    const meta = await volume.another(SLOW);
    // b itself is one block of six.
    const file = await create(meta, b, 'file');
    await write(meta, file, 4);
    await fails('EDQUOT', write(meta, file, 2, 4));
    await fails('EDQUOT', meta.truncate(ROOT_USER, file, 6 * BLOCK));
    await fails('EDQUOT', meta.fallocate(ROOT_USER, file, 0, 0, 6 * BLOCK));
    await write(meta, file, 4);
    await meta.fallocate(ROOT_USER, file, 1, 0, 100 * BLOCK);
    assert.equal((await meta.getattr(ROOT_USER, file)).length, 4 * BLOCK);
    await create(meta, b, 'last');
    await fails('EDQUOT', create(meta, b, 'more'));
    await fails('EDQUOT', mkdir(meta, b, 'more'));
    await fails('EDQUOT', meta.symlink(ROOT_USER, b, name('more'), name('x')));
    await fails('EDQUOT', meta.link(ROOT_USER, file, b, name('more')));
    await create(meta, ROOT_INO, 'outside');
    await meta.truncate(ROOT_USER, file, 1);
    await create(meta, b, 'more');
    await meta.close();
    await consistent(volume);
  });

  test('the inodes of a directory are counted with everything below it, without itself', async (t) => {
    const { volume, a, b } = await volumeWith(t);
    const set = await setQuota(volume.engine, directory('/a'), { inodes: 3 });
    assert.deepEqual([set.usedBytes, set.usedInodes], [BLOCK, 1]);
    const meta = await volume.another(SLOW);
    await create(meta, b, 'one');
    await meta.symlink(ROOT_USER, a, name('two'), name('x'));
    await fails('EDQUOT', create(meta, b, 'three'));
    await meta.unlink(ROOT_USER, b, name('one'));
    await create(meta, b, 'three');
    await meta.close();
    assert.deepEqual(await recorded(volume, { kind: 'directory', id: a }), [3, 3]);
  });

  test('of nested quotas each one counts', async (t) => {
    const { volume, a, b } = await volumeWith(t);
    await setQuota(volume.engine, directory('/'), { inodes: 5 });
    await setQuota(volume.engine, directory('/a'), { inodes: 4 });
    await setQuota(volume.engine, directory('/a/b'), { inodes: 2 });
    const meta = await volume.another(SLOW);
    await create(meta, b, '1');
    await create(meta, b, '2');
    await fails('EDQUOT', create(meta, b, '3'));
    await create(meta, a, '3');
    await fails('EDQUOT', create(meta, a, '4'));
    await fails('EDQUOT', create(meta, ROOT_INO, '4'));
    await meta.unlink(ROOT_USER, b, name('1'));
    await create(meta, ROOT_INO, '4');
    await fails('EDQUOT', create(meta, b, '1'));
    await meta.close();
    await consistent(volume);
  });

  test('what goes to the trash is no longer the directory’s, but still the owner’s', async (t) => {
    const { volume, a } = await volumeWith(t, 1);
    await setQuota(volume.engine, directory('/a'), { inodes: 2 });
    await setQuota(volume.engine, { kind: 'user', uid: 7 }, { inodes: 2 });
    const meta = await volume.another(SLOW);
    const ctx = user(7);
    await create(meta, a, '1', ctx);
    await meta.unlink(ctx, a, name('1'));
    const file = await create(meta, a, '2', ctx);
    await meta.open(ctx, file, 2);
    await meta.unlink(ctx, a, name('2'));
    await fails('EDQUOT', create(meta, a, '3', ctx));
    await create(meta, a, '3');
    // A file in the trash that is still written to grows for its owner alone.
    await write(meta, file, 3);
    await meta.release(file);
    await meta.close();
    assert.deepEqual(await recorded(volume, { kind: 'user', id: 7 }), [4, 2]);
    assert.deepEqual(await recorded(volume, { kind: 'directory', id: a }), [2, 2]);
    await consistent(volume);
    const cleaner = await volume.another(SLOW);
    for await (const hours of cleaner.readdir(SYSTEM, TRASH_INO, false))
      for (const hour of hours)
        for await (const batch of cleaner.readdir(SYSTEM, hour.ino, false))
          for (const entry of batch) await cleaner.unlink(SYSTEM, hour.ino, entry.name);
    await cleaner.close();
    assert.deepEqual(await recorded(volume, { kind: 'user', id: 7 }), [0, 0]);
    await consistent(volume);
  });

  test('an open file without a name is its owner’s until it is closed', async (t) => {
    const { volume, a } = await volumeWith(t);
    await setQuota(volume.engine, directory('/a'), { inodes: 10 });
    await setQuota(volume.engine, { kind: 'group', gid: 8 }, { inodes: 1 });
    const meta = await volume.another(SLOW);
    const ctx = user(7, 8);
    const { ino } = await meta.create(ctx, a, name('1'), 0o666, 0, true);
    await meta.unlink(ctx, a, name('1'));
    await write(meta, ino, 2);
    await fails('EDQUOT', create(meta, a, '2', ctx));
    await meta.release(ino);
    await create(meta, a, '2', ctx);
    await meta.close();
    await consistent(volume);
  });

  test('a rename into a directory must fit its quota with everything below, and the usage moves', async (t) => {
    const { volume, a, b } = await volumeWith(t);
    const maker = await volume.another(SLOW);
    const tree = await mkdir(maker, ROOT_INO, 'tree');
    const deep = await mkdir(maker, tree, 'deep');
    await write(maker, await create(maker, deep, 'file'), 5);
    await maker.close();
    await setQuota(volume.engine, directory('/a'), { capacity: 7 * BLOCK });
    await setQuota(volume.engine, directory('/a/b'), { capacity: 8 * BLOCK });
    const meta = await volume.another(SLOW);
    const move = (from: Ino, to: Ino, flags = 0) => meta.rename(ROOT_USER, from, name('tree'), to, name('tree'), flags);
    await fails('EDQUOT', move(ROOT_INO, b));
    await meta.truncate(ROOT_USER, (await meta.lookup(ROOT_USER, deep, name('file'))).ino, 4 * BLOCK);
    await move(ROOT_INO, b);
    assert.equal((await getQuota(volume.engine, directory('/a')))?.usedInodes, 1, 'not written yet');
    // Within /a nothing changes for /a: its quota, which is full, does not refuse.
    await move(b, a);
    await move(a, b);
    await fails('EDQUOT', create(meta, b, 'more'));
    await move(b, ROOT_INO);
    // An exchange counts what comes against what goes.
    const small = await mkdir(meta, b, 'tree');
    await create(meta, small, 'file');
    await meta.rename(ROOT_USER, ROOT_INO, name('tree'), b, name('tree'), RenameFlag.Exchange);
    assert.equal((await meta.lookup(ROOT_USER, b, name('tree'))).ino, tree);
    await meta.close();
    assert.deepEqual(await recorded(volume, { kind: 'directory', id: b }), [6, 3]);
    await consistent(volume);
  });

  test('a file with two names counts in each directory, and grows in each', async (t) => {
    const { volume, a, b } = await volumeWith(t);
    await setQuota(volume.engine, directory('/a'), { capacity: 9 * BLOCK });
    const meta = await volume.another(SLOW);
    const file = await create(meta, a, 'one');
    await meta.link(ROOT_USER, file, b, name('two'));
    await meta.link(ROOT_USER, file, ROOT_INO, name('three'));
    await write(meta, file, 4);
    await fails('EDQUOT', write(meta, file, 1, 4));
    await meta.unlink(ROOT_USER, b, name('two'));
    await write(meta, file, 1, 4);
    await meta.close();
    assert.deepEqual(await recorded(volume, { kind: 'directory', id: a }), [6, 2]);
    await consistent(volume);
  });

  test('users and groups are refused what exceeds their quota, also what is given to them', async (t) => {
    const { volume, a } = await volumeWith(t);
    await setQuota(volume.engine, { kind: 'user', uid: 7 }, { capacity: 5 * BLOCK, inodes: 2 });
    await setQuota(volume.engine, { kind: 'group', gid: 9 }, { capacity: 4 * BLOCK });
    const meta = await volume.another(SLOW);
    const file = await create(meta, a, 'mine', user(7));
    await write(meta, file, 5);
    await fails('EDQUOT', write(meta, file, 1, 5));
    await fails('EDQUOT', create(meta, a, 'more', user(7)));
    await fails('EDQUOT', meta.setattr(ROOT_USER, file, { gid: 9 }));
    assert.equal((await meta.getattr(ROOT_USER, file)).gid, 7);
    await meta.setattr(ROOT_USER, file, { uid: 8 });
    await write(meta, file, 1, 5);
    await fails('EDQUOT', meta.setattr(ROOT_USER, file, { uid: 7 }));
    await meta.truncate(ROOT_USER, file, 4 * BLOCK);
    await meta.setattr(ROOT_USER, file, { uid: 7, gid: 9 });
    // A directory with the set-group-id bit hands its group on: that group is charged.
    await fails('EDQUOT', meta.setattr(ROOT_USER, a, { gid: 9, mode: 0o2777 }));
    await meta.truncate(ROOT_USER, file, 1);
    await meta.setattr(ROOT_USER, a, { gid: 9, mode: 0o2777 });
    await write(meta, await create(meta, a, 'theirs', user(8)), 2);
    await fails('EDQUOT', create(meta, a, 'more', user(8)));
    await create(meta, ROOT_INO, 'elsewhere', user(8));
    await meta.close();
    assert.deepEqual(await recorded(volume, { kind: 'user', id: 7 }), [1, 1]);
    assert.deepEqual(await recorded(volume, { kind: 'group', id: 9 }), [4, 3]);
    await consistent(volume);
  });

  test('the limits of the volume are refused with ENOSPC', async (t) => {
    const { volume, a } = await volumeWith(t);
    await setVolumeLimits(volume.engine, { capacity: 6 * BLOCK, inodes: 4 });
    const meta = await volume.another(SLOW);
    const file = await create(meta, a, '1');
    await write(meta, file, 4);
    await fails('ENOSPC', write(meta, file, 1, 4));
    await fails('ENOSPC', create(meta, a, '2'));
    await meta.truncate(ROOT_USER, file, 0);
    await create(meta, a, '2');
    await fails('ENOSPC', create(meta, a, '3'));
    await meta.link(ROOT_USER, file, a, name('3'));
  });

  test('room that is set aside for accepted data is nobody else’s, and its commit is not refused', async (t) => {
    const { volume, a } = await volumeWith(t);
    await setQuota(volume.engine, directory('/a'), { capacity: 8 * BLOCK });
    await setVolumeLimits(volume.engine, { capacity: 20 * BLOCK });
    const meta = await volume.another(SLOW);
    const [one, two] = [await create(meta, a, 'one'), await create(meta, a, 'two')];
    const [first, second] = [meta.room(one), meta.room(two)];
    assert.equal(first.extend(5 * BLOCK, 0), undefined, 'at once');
    await fails('EDQUOT', second.extend(3 * BLOCK, 0) ?? Promise.resolve());
    await fails('EDQUOT', meta.truncate(ROOT_USER, two, 3 * BLOCK));
    const third = await create(meta, ROOT_INO, 'three');
    await fails('ENOSPC', write(meta, third, 13));
    await write(meta, third, 12);
    // Another client takes the room that is left: what was accepted is stored all the same.
    const other = await volume.another(SLOW);
    await write(other, two, 5);
    const id = await meta.newSliceId();
    await meta.writeSlice(SYSTEM, one, 0, 0, { id, size: 5 * BLOCK }, 1n, first);
    first.end();
    await other.close();
    await meta.close();
    assert.deepEqual(await recorded(volume, { kind: 'directory', id: a }), [11, 3]);
    await consistent(volume);
  });

  test('room that was not used is given back', async (t) => {
    const { volume, a } = await volumeWith(t);
    await setQuota(volume.engine, directory('/a'), { capacity: 4 * BLOCK });
    await setQuota(volume.engine, { kind: 'user', uid: 7 }, { capacity: 3 * BLOCK });
    const meta = await volume.another(SLOW);
    const file = await create(meta, a, 'file', user(7));
    const room = meta.room(file);
    for (const length of [100, BLOCK + 1, 2 * BLOCK, 3 * BLOCK]) assert.equal(room.extend(length, 0), undefined);
    await fails('EDQUOT', room.extend(3 * BLOCK + 1, 0) ?? Promise.resolve());
    room.end();
    room.end();
    const again = meta.room(file);
    assert.equal(again.extend(3 * BLOCK, 0), undefined);
    again.end();
    await write(meta, file, 3);
    await fails('EDQUOT', room.extend(4 * BLOCK, 3 * BLOCK) ?? Promise.resolve());
    await meta.close();
    await consistent(volume);
  });

  test('clients come to know of each other’s usage, and of quotas that are new, grown or gone, without a restart', async (t) => {
    const { volume, a } = await volumeWith(t);
    const [one, two] = [await volume.another(QUICK), await volume.another(QUICK)];
    await create(one, a, '1');
    await setQuota(volume.engine, directory('/a'), { inodes: 3 });
    let made = 1;
    const more = (meta: Meta) => create(meta, a, String(++made));
    const refused = (meta: Meta) => eventually(() => assert.rejects(more(meta), { code: 'EDQUOT' }));
    await refused(one);
    await refused(two);
    await setQuota(volume.engine, directory('/a'), { inodes: 1000 });
    await eventually(() => more(two));
    await eventually(() => more(one));
    await setQuota(volume.engine, directory('/a'), { inodes: 1 });
    await refused(two);
    await removeQuota(volume.engine, directory('/a'));
    await eventually(() => more(two));
  });

  test('before a client refuses it looks whether there is room by now', async (t) => {
    const { volume, a } = await volumeWith(t);
    await setQuota(volume.engine, directory('/a'), { inodes: 2 });
    await setVolumeLimits(volume.engine, { capacity: 6 * BLOCK });
    const meta = await volume.another(SLOW);
    await create(meta, a, '1');
    await setQuota(volume.engine, directory('/a'), { inodes: 3 });
    await eventually(() => create(meta, a, '2'));
    const file = (await meta.lookup(ROOT_USER, a, name('2'))).ino;
    await fails('ENOSPC', write(meta, file, 5));
    await setVolumeLimits(volume.engine, { capacity: 0 });
    await eventually(() => write(meta, file, 5));
  });

  test('two clients that write at once lose nothing of what is counted', async (t) => {
    const { volume, a, b } = await volumeWith(t);
    await setQuota(volume.engine, directory('/a'), { inodes: 1000 });
    await setQuota(volume.engine, { kind: 'user', uid: 7 }, { inodes: 1000 });
    const clients = await Promise.all([volume.another(QUICK), volume.another(QUICK)]);
    await Promise.all(
      clients.map(async (meta, client) => {
        for (let round = 0; round < 40; round++) {
          const parent = round % 2 ? a : b;
          const file = await create(meta, parent, `${client}-${round}`, user(7));
          await write(meta, file, 1 + (round % 3));
          if (round % 4 === 3) await meta.unlink(ROOT_USER, parent, name(`${client}-${round}`));
          if (round % 4 === 1)
            await meta.rename(ROOT_USER, parent, name(`${client}-${round}`), ROOT_INO, name(`${client}-${round}`), 0);
        }
      }),
    );
    for (const meta of clients) await meta.close();
    await consistent(volume);
  });

  test('a directory that another client has moved counts for its new place', async (t) => {
    const { volume, a, b } = await volumeWith(t);
    await setQuota(volume.engine, directory('/a'), { inodes: 100 });
    const [writer, mover] = [await volume.another(QUICK), await volume.another(QUICK)];
    await create(writer, b, '1');
    await mover.rename(ROOT_USER, a, name('b'), ROOT_INO, name('b'), 0);
    let made = 1;
    const outside = async (): Promise<void> => {
      await create(writer, b, String(++made));
      const room = (await writer.statfs(ROOT_USER, b)).availableInodes;
      assert.ok(room > 100, 'b lies under no quota any more');
    };
    await eventually(outside);
  });

  test('statfs shows the narrowest room, and the use of the nearest quota', async (t) => {
    const { volume, a, b } = await volumeWith(t);
    await setVolumeLimits(volume.engine, { capacity: 100 * BLOCK, inodes: 100 });
    await setQuota(volume.engine, directory('/a'), { capacity: 10 * BLOCK, inodes: 50 });
    await setQuota(volume.engine, directory('/a/b'), { capacity: 20 * BLOCK, inodes: 5 });
    const meta = await volume.another({ ...SLOW, readOnly: true });
    await meta.newSession('/mnt');
    const show = async (ino: Ino) => {
      const { totalBytes, availableBytes, usedInodes, availableInodes } = await meta.statfs(ROOT_USER, ino);
      return [totalBytes / BLOCK, availableBytes / BLOCK, usedInodes, availableInodes];
    };
    assert.deepEqual(await show(ROOT_INO), [100, 98, 2, 98]);
    assert.deepEqual(await show(a), [10, 9, 1, 49]);
    assert.deepEqual(await show(b), [9, 9, 0, 5]);
  });

  test('quotas are listed by path and number, without those that limit nothing', async (t) => {
    const { volume } = await volumeWith(t);
    const { engine } = volume;
    assert.deepEqual(await listQuotas(engine), []);
    await setQuota(engine, directory('a/b/'), { capacity: 5 });
    await setQuota(engine, directory('/'), { inodes: 9 });
    await setQuota(engine, { kind: 'user', uid: 10 }, { inodes: 1 });
    await setQuota(engine, { kind: 'user', uid: 9 }, { inodes: 1 });
    await setQuota(engine, directory('/new/deep'), { capacity: 7 }, { create: true });
    await setQuota(engine, { kind: 'group', gid: 0 }, { capacity: 1 });
    const listed = async () =>
      (await listQuotas(engine)).map(({ owner, capacity, inodes }) => [Object.values(owner).at(-1), capacity, inodes]);
    assert.deepEqual(await listed(), [
      ['/', 0, 9],
      ['/a/b', 5, 0],
      ['/new/deep', 7, 0],
      [9, 0, 1],
      [10, 0, 1],
      [0, 1, 0],
    ]);
    await setQuota(engine, directory('/'), { capacity: 3 });
    await removeQuota(engine, directory('/a/b'));
    await removeQuota(engine, { kind: 'user', uid: 9 });
    await removeQuota(engine, { kind: 'user', uid: 12345 });
    assert.deepEqual(await listed(), [
      ['/', 3, 9],
      ['/new/deep', 7, 0],
      [10, 0, 1],
      [0, 1, 0],
    ]);
    await assert.rejects(setQuota(engine, directory('/nowhere'), { inodes: 1 }), { code: 'PathMissing' });
    await assert.rejects(setQuota(engine, { kind: 'user', uid: 0 }, { inodes: 1 }), { code: 'InvalidOwner' });
    await assert.rejects(setQuota(engine, directory('/a'), { inodes: -1 }), { code: 'InvalidQuota' });
    await consistent(volume);
  });

  test('usage that is wrong is found and repaired, limits stay', async (t) => {
    const { volume, a } = await volumeWith(t);
    const { engine } = volume;
    await setQuota(engine, directory('/a'), { capacity: 77 });
    await setQuota(engine, { kind: 'user', uid: 7 }, { inodes: 5 });
    const usage = { space: -5, inodes: 12 };
    for (const quota of [
      { kind: 'directory', id: a },
      { kind: 'user', id: 7 },
      { kind: 'group', id: 44 },
    ] as const)
      await engine.commit({ checks: [], writes: [{ kind: 'addQuotaUsage', quota, delta: usage }] });
    const wrong = (await checkQuotas(engine)).filter(({ consistent }) => !consistent);
    assert.deepEqual(
      wrong.map(({ owner }) => Object.values(owner).at(-1)),
      ['/a', 7, 44],
    );
    assert.deepEqual(
      (await checkQuotas(engine, { owner: directory('/a'), repair: true })).map(({ repaired }) => repaired),
      [true],
    );
    assert.equal((await checkQuotas(engine, { owner: directory('/a') }))[0]?.consistent, true);
    await checkQuotas(engine, { repair: true });
    await consistent(volume);
    assert.equal((await getQuota(engine, directory('/a')))?.capacity, 77);
    assert.equal((await getQuota(engine, { kind: 'user', uid: 7 }))?.inodes, 5);
  });

  test('the first quota of a user counts what everybody owns already, trash and links too', async (t) => {
    const { volume, a } = await volumeWith(t, 1);
    const maker = await volume.another(SLOW);
    const file = await create(maker, a, 'file', user(7, 8));
    await write(maker, file, 3);
    await maker.link(ROOT_USER, file, ROOT_INO, name('again'));
    await maker.symlink(user(7, 8), a, name('link'), name('x'));
    await create(maker, a, 'removed', user(7, 8));
    await maker.unlink(ROOT_USER, a, name('removed'));
    await maker.close();
    await setQuota(volume.engine, { kind: 'user', uid: 9 }, { inodes: 1 });
    assert.deepEqual(await recorded(volume, { kind: 'user', id: 7 }), [5, 3]);
    assert.deepEqual(await recorded(volume, { kind: 'group', id: 8 }), [5, 3]);
    await consistent(volume);
  });

  test('a changed setting brings the trash root, and keeps what others change at the same time', async (t) => {
    const { volume } = await volumeWith(t);
    const { engine } = volume;
    assert.deepEqual(await engine.nodes([TRASH_INO]), [undefined]);
    const days = Array.from({ length: 4 }, (_, at) => at + 1);
    await Promise.all([
      ...days.map((trashDays) => changeSetting(engine, (format) => ({ ...format, trashDays }))),
      ...days.map((inodes) => changeSetting(engine, (format) => ({ ...format, inodes: format.inodes + inodes }))),
    ]);
    const [trash] = await engine.nodes([TRASH_INO]);
    assert.equal(trash?.mode, 0o555);
    const { after } = await changeSetting(engine, (format) => format);
    assert.equal(after.inodes, 10);
    assert.ok(after.trashDays > 0);
  });

  test('quotas cost no round trip, but for the first look up the tree', async (t) => {
    const { volume, a } = await volumeWith(t);
    /** The calls to the engine that each operation of a client makes when it knows the tree. */
    const costs = async (names: readonly string[]): Promise<readonly string[]> => {
      const calls: string[] = [];
      const counted = new Proxy(await openUrl(volume.url), {
        get(target, key) {
          const member: unknown = Reflect.get(target, key, target);
          if (typeof member !== 'function') return member;
          return (...args: unknown[]): unknown => {
            calls.push(String(key));
            return (member as (...all: unknown[]) => unknown).apply(target, args);
          };
        },
      });
      const format = await readFormat(counted);
      assert.ok(format);
      const meta = new VolumeMeta(counted, format, { ...SLOW, backgroundJobs: false });
      await meta.newSession('/mnt');
      let found: string[] = [];
      for (const round of names) {
        let file = ROOT_INO;
        const work: readonly (() => Promise<unknown>)[] = [
          async () => (file = await create(meta, a, round)),
          () => meta.writeSlice(SYSTEM, file, 0, 0, { id: Number(round) + 1000, size: 3 * BLOCK }, 1n),
          () => meta.truncate(ROOT_USER, file, 8 * BLOCK),
          () => meta.rename(ROOT_USER, a, name(round), ROOT_INO, name(round), 0),
          () => meta.link(ROOT_USER, file, a, name(`${round} again`)),
        ];
        found = [];
        for (const each of work) {
          calls.length = 0;
          await each();
          found.push(calls.join(' '));
        }
      }
      await meta.close();
      return found;
    };
    const without = await costs(['1', '2']);
    assert.deepEqual(without, ['commit', 'commit', 'commit', 'commit', 'commit']);
    await setQuota(volume.engine, directory('/a'), { inodes: 100 });
    await setQuota(volume.engine, directory('/'), { inodes: 100 });
    await setQuota(volume.engine, { kind: 'user', uid: 7 }, { inodes: 100 });
    assert.deepEqual(await costs(['3', '4']), without);
  });

  test('a large file in one chunk after the other is charged as it grows', async (t) => {
    const { volume, a } = await volumeWith(t);
    await setQuota(volume.engine, directory('/a'), { capacity: CHUNK_SIZE + BLOCK });
    const meta = await volume.another(SLOW);
    const file = await create(meta, a, 'file');
    await meta.unlink(ROOT_USER, a, name('b')).catch(() => {});
    await meta.rmdir(ROOT_USER, a, name('b'));
    const id = await meta.newSliceId();
    await meta.writeSlice(SYSTEM, file, 1, 0, { id, size: BLOCK }, 1n);
    await fails('EDQUOT', meta.writeSlice(SYSTEM, file, 1, BLOCK, { id, size: 1 }, 1n));
    await meta.writeSlice(SYSTEM, file, 0, 0, { id: await meta.newSliceId(), size: CHUNK_SIZE }, 1n);
    await meta.close();
    await consistent(volume);
  });
});
