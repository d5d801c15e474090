/** The life of a volume over every engine: sessions, the trash, and the cleaning that clients do for each other. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nullLogger } from '../../src/lib/log.ts';
import { systemRandom } from '../../src/lib/random.ts';
import { type Ino, ino, isTrash, ROOT_INO, TRASH_INO } from '../../src/lib/int64.ts';
import { newFormat } from '../../src/meta/format-input.ts';
import { parseFormat, serialiseFormat } from '../../src/meta/format.ts';
import { hourly } from '../../src/meta/jobs.ts';
import { formatVolume, openMeta } from '../../src/meta/open.ts';
import { type Meta, NodeFlag, NodeType } from '../../src/meta/types.ts';
import { Volume } from '../../src/meta/volume.ts';
import { type Database, describeEngines, openUrl } from './engines.ts';
import { fails, list, name, openVolume, ROOT_USER as root, type TestVolume, user } from './volume.ts';
import { until } from '../until.ts';

const HOUR = 3_600_000;

/** What a client does about once an hour, done now. */
async function clean(opened: TestVolume): Promise<void> {
  const engine = await openUrl(opened.url);
  try {
    const format = parseFormat((await engine.readSetting()) ?? '');
    const callbacks = { deleteSlice: async (id: number, size: number) => void opened.deleted.push({ id, size }) };
    const volume = new Volume(engine, format, {
      clock: opened.clock,
      random: systemRandom,
      logger: nullLogger,
      readOnly: false,
      callbacks,
    });
    await hourly(volume, new AbortController().signal);
    await volume.deletions.settled();
    await volume.stats.flush();
  } finally {
    await engine.close();
  }
}

describeEngines('the life of a volume', (database: Database) => {
  const volume = (t: Parameters<typeof openVolume>[0], input = {}) => openVolume(t, database.newUrl(), input);
  const make = async (meta: Meta, text = 'f', parent: Ino = ROOT_INO) =>
    (await meta.mknod(root, parent, name(text), NodeType.File, 0o644, 0, 0)).ino;
  /** The directory of the hour in the trash. */
  const hour = async (meta: Meta): Promise<readonly [string, Ino]> => {
    const hours = await list(meta, TRASH_INO);
    assert.equal(hours.length, 1);
    return hours[0]!;
  };

  test('where there is no volume, none is opened, and none is made twice', async (t) => {
    const url = database.newUrl();
    await assert.rejects(openMeta(url), { code: 'NotFormatted' });
    const opened = await openVolume(t, url);
    const again = newFormat({ name: 'other-volume', bucket: '/x' }, systemRandom);
    assert.equal(await formatVolume(opened.engine, again), false);
    assert.equal(opened.meta.format.name, 'test-volume');
  });

  test('a volume for newer clients is refused in a sentence', async (t) => {
    const opened = await volume(t);
    const { format } = opened.meta;
    const set = (change: object) => opened.engine.writeSetting(serialiseFormat({ ...format, ...change }));
    await set({ minClientVersion: '9.0.0' });
    await assert.rejects(openMeta(opened.url), { code: 'ClientVersionRefused' });
    await set({ metaVersion: 2 });
    await assert.rejects(openMeta(opened.url), { code: 'MetaVersionTooNew' });
  });

  test('a read-only client changes nothing', async (t) => {
    const opened = await volume(t);
    const file = await make(opened.meta);
    const reader = await opened.another({ readOnly: true });
    assert.equal(await reader.newSession('/ro'), 0);
    await fails('EROFS', reader.mkdir(root, ROOT_INO, name('d'), 0o755, 0));
    await fails('EROFS', reader.unlink(root, ROOT_INO, name('f')));
    await fails('EROFS', reader.setattr(root, file, { mode: 0 }));
    await fails('EROFS', reader.truncate(root, file, 1));
    await fails('EROFS', reader.open(root, file, 1));
    assert.equal((await reader.lookup(root, ROOT_INO, name('f'))).ino, file);
    assert.equal((await opened.engine.sessions()).length, 1);
  });

  test('sessions tell who is there, and end with the client', async (t) => {
    const opened = await volume(t);
    const other = await opened.another();
    const sessions = await opened.meta.sessions();
    assert.deepEqual(
      sessions
        .map(({ sid, mountPoint, processId }) => [sid, mountPoint, processId])
        .toSorted(([a = 0], [b = 0]) => Number(a) - Number(b)),
      [
        [1, '/mnt', process.pid],
        [2, '/mnt', process.pid],
      ],
    );
    assert.match(sessions[0]?.version ?? '', /^1\.4\.1\+/);
    const expiry = Math.floor(opened.clock.now() / 1000) + 60;
    assert.deepEqual(
      sessions.map(({ expire }) => expire),
      [expiry, expiry],
    );
    await other.close();
    assert.deepEqual(
      (await opened.meta.sessions()).map(({ sid }) => sid),
      [1],
    );
  });

  test('a client that ends deletes what it kept open', async (t) => {
    const { meta, engine, deleted } = await volume(t);
    const { ino: file } = await meta.create(root, ROOT_INO, name('f'), 0o644, 0, true);
    const id = await meta.newSliceId();
    await meta.writeSlice(root, file, 0, 0, { id, size: 10 }, 0n);
    await meta.unlink(root, ROOT_INO, name('f'));
    // By who has it open.
    await meta.setxattr(root, file, 'user.late', Buffer.from('x'), { create: false, replace: false });
    assert.deepEqual(await engine.sustained(1), [file]);
    await meta.close();
    assert.deepEqual([await engine.sustained(1), await engine.nodes([file])], [[], [undefined]]);
    assert.deepEqual(await engine.read([{ kind: 'xattrNames', ino: file }]), [[]]);
    assert.deepEqual(deleted, [{ id, size: 10 }]);
  });

  test('what a dead client kept open is deleted when its session has run out', async (t) => {
    const opened = await volume(t);
    const { engine, clock } = opened;
    const file = await make(opened.meta, 'f');
    await engine.putSession(77, Math.floor(clock.now() / 1000) + 60, '{}');
    await engine.commit({ checks: [], writes: [{ kind: 'addSustained', sid: 77, ino: file }] });
    await opened.meta.close();
    const node = (await engine.nodes([file]))[0]!;
    await engine.commit({
      checks: [],
      writes: [
        { kind: 'putNode', ino: file, attr: { ...node, nlink: 0 } },
        { kind: 'removeEntry', parent: ROOT_INO, name: name('f') },
      ],
    });
    clock.advance(61_000);
    const next = await opened.another({ heartbeat: 30 });
    await until('the dead session is gone', async () => !(await engine.sessions()).some(({ sid }) => sid === 77));
    assert.deepEqual([await engine.sustained(77), await engine.nodes([file])], [[], [undefined]]);
    await next.close();
  });

  test('a change of the format reaches a client, and a volume that is gone ends it', async (t) => {
    const url = database.newUrl();
    const opened = await openVolume(t, url);
    const events: string[] = [];
    const callbacks = { formatChanged: () => void events.push('changed'), lost: (reason: string) => void events.push(reason) };
    const client = await opened.another({ heartbeat: 20, callbacks });
    await opened.engine.writeSetting(serialiseFormat({ ...opened.meta.format, trashDays: 3 }));
    await until('the change is told', () => events.includes('changed'));
    assert.equal(client.format.trashDays, 3);
    await opened.engine.writeSetting(serialiseFormat({ ...opened.meta.format, uuid: 'another' }));
    await until('the loss is told', () => events.some((event) => /another volume was formatted/.test(event)));
  });

  test('with the trash on, what is removed lies there under a name that tells where it was', async (t) => {
    const { meta, clock, engine } = await volume(t, { trashDays: 1 });
    const d = await meta.mkdir(root, ROOT_INO, name('d'), 0o755, 0);
    const file = await make(meta, 'f', d.ino);
    clock.advance(1000);
    await meta.unlink(root, d.ino, name('f'));
    await meta.rmdir(root, ROOT_INO, name('d'));
    const [text, directory] = await hour(meta);
    assert.equal(text, new Date(clock.now()).toISOString().slice(0, 13).replace('T', '-'));
    assert.ok(isTrash(directory));
    assert.deepEqual(await list(meta, directory), [
      [`1-${d.ino}-d`, d.ino],
      [`${d.ino}-${file}-f`, file],
    ]);
    const attr = await meta.getattr(root, file);
    assert.deepEqual([attr.parent, attr.nlink, attr.ctime], [directory, 1, Math.floor(clock.now() / 1000)]);
    const [hourAttr] = await engine.nodes([directory]);
    assert.deepEqual([hourAttr?.mode, hourAttr?.nlink, hourAttr?.parent], [0o555, 2, TRASH_INO]);
    assert.deepEqual(await meta.usage(), { bytes: 3 * 4096, inodes: 3 });
    assert.equal((await meta.lookup(root, ROOT_INO, name('.trash'))).ino, TRASH_INO);
    assert.deepEqual(await list(meta, ROOT_INO), []);
  });

  test('one of several names goes to the trash with its own count', async (t) => {
    const { meta, engine } = await volume(t, { trashDays: 1 });
    const file = await make(meta, 'a');
    await meta.link(root, file, ROOT_INO, name('b'));
    await meta.unlink(root, ROOT_INO, name('a'));
    const [, directory] = await hour(meta);
    assert.equal((await meta.getattr(root, file)).nlink, 2);
    assert.deepEqual(await engine.read([{ kind: 'parents', ino: file }]), [
      new Map([
        [ROOT_INO, 1],
        [directory, 1],
      ]),
    ]);
    await meta.link(root, file, ROOT_INO, name('a'));
    await meta.unlink(root, ROOT_INO, name('a'));
    assert.equal((await meta.getattr(root, file)).nlink, 2, 'the same name again in the same hour is removed for good');
  });

  test('a replaced file goes to the trash, and a file that skips it does not', async (t) => {
    const { meta } = await volume(t, { trashDays: 1 });
    const [a, b, c] = [await make(meta, 'a'), await make(meta, 'b'), await make(meta, 'c')];
    await meta.rename(root, ROOT_INO, name('a'), ROOT_INO, name('b'), 0);
    await meta.setattr(root, c, { flags: NodeFlag.SkipTrash });
    await meta.unlink(root, ROOT_INO, name('c'));
    const [, directory] = await hour(meta);
    assert.deepEqual(await list(meta, directory), [[`1-${b}-b`, b]]);
    await fails('ENOENT', meta.getattr(root, c));
    assert.deepEqual(await list(meta, ROOT_INO), [['b', a]]);
    const d = await meta.mkdir(root, ROOT_INO, name('d'), 0o755, 0);
    await meta.setattr(root, d.ino, { flags: NodeFlag.SkipTrash });
    const inside = await meta.getattr(root, await make(meta, 'x', d.ino));
    assert.equal(inside.flags, NodeFlag.SkipTrash, 'the flag is handed on');
  });

  test('a long name is cut in the trash at 255 bytes', async (t) => {
    const { meta } = await volume(t, { trashDays: 1 });
    const long = 'n'.repeat(255);
    const file = await make(meta, long);
    await meta.unlink(root, ROOT_INO, name(long));
    const [, directory] = await hour(meta);
    assert.deepEqual(await list(meta, directory), [[`1-${file}-${long}`.slice(0, 255), file]]);
  });

  test('in the trash nobody makes anything, and only root takes things out', async (t) => {
    const { meta } = await volume(t, { trashDays: 1 });
    const d = await meta.mkdir(root, ROOT_INO, name('d'), 0o777, 0);
    const [f, g] = [await make(meta, 'f'), await make(meta, 'g')];
    await meta.unlink(root, ROOT_INO, name('f'));
    await meta.unlink(root, ROOT_INO, name('g'));
    await meta.rmdir(root, ROOT_INO, name('d'));
    const [, directory] = await hour(meta);
    const trashed = name(`1-${f}-f`);
    for (const parent of [TRASH_INO, directory]) {
      await fails('EPERM', meta.mkdir(root, parent, name('x'), 0o755, 0));
      await fails('EPERM', meta.rename(root, directory, trashed, parent, name('x'), 0));
      await fails('EPERM', meta.link(root, f, parent, name('x')));
    }
    await fails('ENOENT', meta.mkdir(root, d.ino, name('x'), 0o755, 0));
    await fails('EPERM', meta.unlink(user(1000), directory, trashed));
    await fails('EPERM', meta.setattr(root, f, { mode: 0 }));
    await fails('EPERM', meta.open(root, f, 1));
    await meta.open(root, f, 0);
    await meta.release(f);
    for (const change of [
      meta.mkdir(root, ROOT_INO, name('.trash'), 0o755, 0),
      meta.rmdir(root, ROOT_INO, name('.trash')),
      meta.rename(root, ROOT_INO, name('.trash'), ROOT_INO, name('x'), 0),
    ])
      await fails('EPERM', change);
    await meta.rename(root, directory, trashed, ROOT_INO, name('back'), 0);
    assert.deepEqual([(await meta.getattr(root, f)).parent, await list(meta, ROOT_INO)], [ROOT_INO, [['back', f]]]);
    await meta.unlink(root, directory, name(`1-${g}-g`));
    await fails('ENOENT', meta.getattr(root, g));
    await meta.rmdir(root, directory, name(`1-${d.ino}-d`));
    assert.deepEqual(await list(meta, directory), []);
  });

  test('the trash is emptied when its days and two hours are over, and the space given back', async (t) => {
    const opened = await volume(t, { trashDays: 1 });
    const { meta, clock, deleted, engine } = opened;
    const d = await meta.mkdir(root, ROOT_INO, name('d'), 0o755, 0);
    const file = await make(meta, 'f', d.ino);
    const id = await meta.newSliceId();
    await meta.writeSlice(root, file, 0, 0, { id, size: 5000 }, 0n);
    await meta.unlink(root, d.ino, name('f'));
    await meta.rmdir(root, ROOT_INO, name('d'));
    const kept = await make(meta, 'kept');
    await meta.close();
    clock.advance(25 * HOUR);
    await clean(opened);
    assert.equal((await engine.nodes([file]))[0]?.nlink, 1, 'not yet');
    clock.advance(3 * HOUR);
    await clean(opened);
    assert.deepEqual(await engine.nodes([file, d.ino]), [undefined, undefined]);
    assert.deepEqual(deleted, [{ id, size: 5000 }]);
    const [bytes, inodes, hours] = await engine.read([
      { kind: 'counter', name: 'usedSpace' },
      { kind: 'counter', name: 'totalInodes' },
      { kind: 'entryCount', ino: TRASH_INO },
    ]);
    assert.deepEqual([bytes, inodes, hours], [4096, 1, 0]);
    assert.ok((await engine.nodes([kept]))[0]);
  });

  test('cleaning finishes what a client left: removed files, slices without references, replaced slices', async (t) => {
    const opened = await volume(t);
    const { meta, clock, deleted, engine } = opened;
    const file = await make(meta);
    const [a, b] = [await meta.newSliceId(), await meta.newSliceId()];
    await meta.writeSlice(root, file, 0, 0, { id: a, size: 10 }, 0n);
    const node = (await engine.nodes([file]))[0]!;
    const seconds = Math.floor(clock.now() / 1000);
    const delayed = Buffer.alloc(12);
    delayed.writeUInt32BE(b, 4);
    delayed.writeUInt32BE(20, 8);
    await engine.commit({
      checks: [],
      writes: [
        { kind: 'removeNode', ino: file },
        { kind: 'removeEntry', parent: ROOT_INO, name: name('f') },
        { kind: 'addDelfile', ino: file, length: node.length, time: seconds },
        { kind: 'delaySlices', id: 4000, time: seconds, slices: delayed },
        { kind: 'addSliceRef', id: 4001, size: 30, delta: -1 },
      ],
    });
    await meta.close();
    clock.advance(2 * HOUR);
    await clean(opened);
    assert.deepEqual(
      deleted.toSorted((x, y) => x.size - y.size),
      [
        { id: a, size: 10 },
        { id: b, size: 20 },
        { id: 4001, size: 30 },
      ],
    );
    assert.deepEqual(await engine.scanDelfiles(2 ** 40, 9), []);
    assert.deepEqual(await engine.scanDelayed(2 ** 40, 9), []);
    assert.deepEqual(await engine.scanUnreferenced(9), []);
    deleted.length = 0;
    await engine.commit({ checks: [], writes: [{ kind: 'addSliceRef', id: 4002, size: 1, delta: -1 }] });
    await clean(opened);
    assert.deepEqual(deleted, [], 'within the hour nobody does it again');
  });

  test('the blocks of a slice that could not be deleted are deleted later', async (t) => {
    const opened = await volume(t);
    const { engine, clock, deleted } = opened;
    let broken = true;
    const flaky = await opened.another({
      callbacks: {
        deleteSlice: async () => {
          if (broken) throw new Error('the store is away');
        },
      },
    });
    const file = await make(flaky);
    const id = await flaky.newSliceId();
    await flaky.writeSlice(root, file, 0, 0, { id, size: 10 }, 0n);
    await flaky.unlink(root, ROOT_INO, name('f'));
    await flaky.close();
    broken = false;
    await opened.meta.close();
    assert.deepEqual(await engine.scanUnreferenced(9), [{ id, size: 10 }]);
    clock.advance(2 * HOUR);
    await clean(opened);
    assert.deepEqual(deleted, [{ id, size: 10 }]);
    assert.deepEqual([await engine.scanUnreferenced(9), await engine.scanDelfiles(2 ** 40, 9)], [[], []]);
    assert.deepEqual(await engine.nodes([ino(file)]), [undefined]);
  });
});
