/** Several clients of one volume: races that must not break the tree, sessions that die, the volume changed under a mount. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FsError } from '../../src/lib/errors.ts';
import { type Ino, ROOT_INO, TRASH_INO } from '../../src/lib/int64.ts';
import { nullLogger } from '../../src/lib/log.ts';
import { systemRandom } from '../../src/lib/random.ts';
import { type Format, serialiseFormat } from '../../src/meta/format.ts';
import { hourly } from '../../src/meta/jobs.ts';
import { encodeDelayed } from '../../src/meta/records.ts';
import { type Entry, type Meta, NodeType, RenameFlag } from '../../src/meta/types.ts';
import { Volume } from '../../src/meta/volume.ts';
import { describeEngines } from './engines.ts';
import { name, openVolume, ROOT_USER as ctx, type TestVolume } from './volume.ts';
import { until } from '../until.ts';

async function attempt<T>(operation: Promise<T>, ...codes: readonly string[]): Promise<T | undefined> {
  try {
    return await operation;
  } catch (error) {
    assert.ok(error instanceof FsError && codes.includes(error.code), String(error));
    return undefined;
  }
}

async function names(meta: Meta, directory: Ino): Promise<string[]> {
  const found: string[] = [];
  for await (const batch of meta.readdir(ctx, directory, false)) found.push(...batch.map((entry) => entry.name.toString()));
  return found.toSorted();
}

/** Walks the tree from the root and answers every directory in it; fails where one has a wrong link count or parent. */
async function soundDirectories(meta: Meta, directory: Ino = ROOT_INO, seen = new Set<Ino>()): Promise<Set<Ino>> {
  assert.ok(!seen.has(directory), 'a directory is in two places');
  seen.add(directory);
  let below = 0;
  for await (const batch of meta.readdir(ctx, directory, true))
    for (const { ino, type, attr } of batch) {
      assert.ok(attr);
      if (type !== NodeType.Directory) continue;
      below++;
      assert.equal(attr.parent, directory);
      await soundDirectories(meta, ino, seen);
    }
  assert.equal((await meta.getattr(ctx, directory)).nlink, 2 + below);
  return seen;
}

/** The volume behind a `Meta`, for the jobs. */
function volumeOf(t: TestVolume, format: Format, deleted: number[]): Volume {
  return new Volume(t.engine, format, {
    clock: t.clock,
    random: systemRandom,
    logger: nullLogger,
    readOnly: false,
    callbacks: { deleteSlice: async (id) => void deleted.push(id) },
  });
}

describeEngines('several clients', (database) => {
  test('directories that are moved into each other at the same time stay in the tree', async (t) => {
    const volume = await openVolume(t, database.newUrl());
    const clients = [volume.meta, await volume.another(), await volume.another()];
    const directories: Ino[] = [];
    for (let at = 0; at < 4; at++) directories.push((await volume.meta.mkdir(ctx, ROOT_INO, name(`d${at}`), 0o755, 0)).ino);
    let moves = 0;
    // Each directory is looked for where it is and moved into another one; half of these moves would make a loop.
    const wander = async (client: Meta, step: number): Promise<void> => {
      for (let turn = 0; turn < 40; turn++) {
        const which = (turn * 7 + step * 3) % 4;
        const to = directories[(turn * 5 + step) % 4] ?? ROOT_INO;
        const from = (await client.getattr(ctx, directories[which] ?? ROOT_INO)).parent;
        const moved = await attempt(
          client.rename(ctx, from, name(`d${which}`), turn % 3 === 0 ? ROOT_INO : to, name(`d${which}`), 0),
          'EINVAL',
          'ENOENT',
          'ENOTEMPTY',
        );
        if (moved) moves++;
      }
    };
    await Promise.all(clients.map((client, step) => wander(client, step)));
    assert.ok(moves > 0);
    assert.equal((await soundDirectories(volume.meta)).size, 5);
  });

  test('a directory is removed or gets a file, never both', async (t) => {
    const volume = await openVolume(t, database.newUrl());
    const other = await volume.another();
    let wins = 0;
    for (let round = 0; round < 40; round++) {
      const directory = await volume.meta.mkdir(ctx, ROOT_INO, name('d'), 0o755, 0);
      // Who is ahead changes from round to round.
      await other.getattr(ctx, directory.ino);
      const make = other.mknod(ctx, directory.ino, name('f'), NodeType.File, 0o644, 0, 0).then(() => true);
      for (let turn = 0; turn < round % 8; turn++) await new Promise((resolve) => setImmediate(resolve));
      const remove = volume.meta.rmdir(ctx, ROOT_INO, name('d')).then(() => true);
      const [made, removed] = await Promise.all([attempt(make, 'ENOENT'), attempt(remove, 'ENOTEMPTY')]);
      assert.notEqual(made, removed);
      if (!made) continue;
      wins++;
      await volume.meta.unlink(ctx, directory.ino, name('f'));
      await volume.meta.rmdir(ctx, ROOT_INO, name('d'));
    }
    assert.ok(wins > 0);
    assert.deepEqual(await volume.meta.usage(), { bytes: 0, inodes: 0 });
  });

  test('of many who make one name one succeeds, and of many who remove it', async (t) => {
    const volume = await openVolume(t, database.newUrl());
    const clients = [volume.meta, await volume.another(), await volume.another()];
    for (let round = 0; round < 10; round++) {
      const made: readonly (Entry | undefined)[] = await Promise.all(
        clients.map((client) => attempt(client.create(ctx, ROOT_INO, name('f'), 0o644, 0, true), 'EEXIST')),
      );
      assert.equal(made.filter((entry) => entry).length, 1);
      for (const [index, entry] of made.entries()) if (entry) await clients[index]?.release(entry.ino);
      const gone = await Promise.all(
        clients.map((client) =>
          attempt(
            client.unlink(ctx, ROOT_INO, name('f')).then(() => true),
            'ENOENT',
          ),
        ),
      );
      assert.equal(gone.filter((done) => done).length, 1);
    }
    assert.deepEqual(await names(volume.meta, ROOT_INO), []);
  });

  test('writers of one file do not lose each other’s slices, and its length is that of the farthest', async (t) => {
    const volume = await openVolume(t, database.newUrl());
    const clients = [volume.meta, await volume.another()];
    const { ino } = await volume.meta.create(ctx, ROOT_INO, name('f'), 0o644, 0, true);
    await Promise.all(
      Array.from({ length: 40 }, async (_, at) => {
        const client = clients[at % 2];
        const id = await client?.newSliceId();
        await client?.writeSlice(ctx, ino, 0, at * 1000, { id: id ?? 0, size: 1000 }, 1n);
      }),
    );
    assert.equal((await volume.meta.getattr(ctx, ino)).length, 40_000);
    const pieces = await volume.meta.readChunk(ino, 0);
    assert.equal(pieces.length, 40);
    assert.ok(pieces.every((piece, at) => piece.pos === at * 1000 && piece.id > 0));
  });

  test('a file that is open where it is removed lives until the last close, and goes then', async (t) => {
    const volume = await openVolume(t, database.newUrl());
    const { meta, engine, deleted } = volume;
    const { ino } = await meta.create(ctx, ROOT_INO, name('f'), 0o644, 0, true);
    await meta.open(ctx, ino, 0);
    const id = await meta.newSliceId();
    await meta.writeSlice(ctx, ino, 0, 0, { id, size: 100 }, 1n);
    await meta.unlink(ctx, ROOT_INO, name('f'));
    assert.equal((await meta.getattr(ctx, ino)).nlink, 0);
    await meta.release(ino);
    assert.equal((await meta.readChunk(ino, 0)).length, 1);
    assert.deepEqual((await meta.usage()).inodes, 1);
    await meta.release(ino);
    await assert.rejects(meta.getattr(ctx, ino), { code: 'ENOENT' });
    await until('a slice is deleted', () => deleted.length > 0);
    assert.deepEqual(deleted, [{ id, size: 100 }]);
    await until('no deleted file is left', async () => (await engine.scanDelfiles(9e9, 10)).length === 0);
    assert.deepEqual(await meta.usage(), { bytes: 0, inodes: 0 });
  });

  test('what a dead session held is released by another, and its files without names go', async (t) => {
    const volume = await openVolume(t, database.newUrl(), {}, { heartbeat: 30 });
    const { engine, clock } = volume;
    const dead = await engine.newSessionId();
    await engine.putSession(dead, Math.floor(clock.now() / 1000) + 1, '{"MountPoint":"/dead"}');
    const { ino } = await volume.meta.create(ctx, ROOT_INO, name('f'), 0o644, 0, true);
    await volume.meta.release(ino);
    const [attr] = await engine.read([{ kind: 'node', ino }]);
    assert.ok(attr);
    await engine.commit({
      checks: [],
      writes: [
        { kind: 'putNode', ino, attr: { ...attr, nlink: 0 } },
        { kind: 'removeEntry', parent: ROOT_INO, name: name('f') },
        { kind: 'addSustained', sid: dead, ino },
      ],
    });
    assert.equal((await volume.meta.sessions()).length, 2);
    clock.advance(10_000);
    await until('one session is left', async () => (await volume.meta.sessions()).length === 1);
    await assert.rejects(volume.meta.getattr(ctx, ino), { code: 'ENOENT' });
    assert.deepEqual(await volume.meta.usage(), { bytes: 0, inodes: 0 });
  });

  test('a client hears of a changed format, and of a volume that was replaced or is gone', async (t) => {
    let changes = 0;
    const lost: string[] = [];
    const callbacks = { formatChanged: () => void changes++, lost: (reason: string) => void lost.push(reason) };
    const { meta, engine } = await openVolume(t, database.newUrl(), {}, { heartbeat: 20, callbacks });
    await engine.writeSetting(serialiseFormat({ ...meta.format, capacity: 8192 }));
    await until('the change is told', () => changes === 1);
    assert.equal(meta.format.capacity, 8192);
    await meta.mknod(ctx, ROOT_INO, name('a'), NodeType.File, 0o644, 0, 0);
    await meta.mknod(ctx, ROOT_INO, name('b'), NodeType.File, 0o644, 0, 0);
    await assert.rejects(meta.mknod(ctx, ROOT_INO, name('c'), NodeType.File, 0o644, 0, 0), { code: 'ENOSPC' });
    await engine.writeSetting(serialiseFormat({ ...meta.format, uuid: '00000000-0000-4000-8000-000000000000' }));
    await until('the volume is told to be lost', () => lost.length > 0);
    assert.match(lost[0] ?? '', /another volume was formatted/);
  });

  test('a removed file goes to the trash of the hour, comes back from there, and is gone when its days are over', async (t) => {
    const volume = await openVolume(t, database.newUrl(), { trashDays: 1 });
    const { meta, clock, engine } = volume;
    const { ino } = await meta.create(ctx, ROOT_INO, name('f'), 0o644, 0, true);
    await meta.release(ino);
    const id = await meta.newSliceId();
    await meta.writeSlice(ctx, ino, 0, 0, { id, size: 100 }, 1n);
    const directory = await meta.mkdir(ctx, ROOT_INO, name('d'), 0o755, 0);
    await meta.unlink(ctx, ROOT_INO, name('f'));
    await meta.rmdir(ctx, ROOT_INO, name('d'));
    const [hour] = await names(meta, TRASH_INO);
    const trash = await meta.lookup(ctx, TRASH_INO, name(hour ?? ''));
    assert.deepEqual(await names(meta, trash.ino), [`1-${ino}-f`, `1-${directory.ino}-d`]);
    assert.equal((await meta.getattr(ctx, ino)).parent, trash.ino);
    await assert.rejects(meta.open(ctx, ino, 1), { code: 'EPERM' });
    await assert.rejects(meta.setattr(ctx, ino, { mode: 0 }), { code: 'EPERM' });
    await assert.rejects(meta.mknod(ctx, directory.ino, name('x'), NodeType.File, 0o644, 0, 0), { code: 'ENOENT' });
    await assert.rejects(meta.unlink({ uid: 5, gid: 5, pid: 1 }, trash.ino, name(`1-${ino}-f`)), { code: 'EPERM' });
    await meta.rename(ctx, trash.ino, name(`1-${ino}-f`), ROOT_INO, name('back'), RenameFlag.NoReplace);
    await meta.setattr(ctx, ino, { mode: 0o600 });
    await meta.unlink(ctx, ROOT_INO, name('back'));

    const removed: number[] = [];
    const worker = volumeOf(volume, meta.format, removed);
    clock.advance(25 * 3600_000);
    await hourly(worker, new AbortController().signal);
    assert.deepEqual(await names(meta, TRASH_INO), [hour]);
    clock.advance(3 * 3600_000);
    await hourly(worker, new AbortController().signal);
    await worker.deletions.settled();
    await worker.stats.flush();
    assert.deepEqual(await names(meta, TRASH_INO), []);
    assert.deepEqual(removed, [id]);
    assert.deepEqual(await engine.scanDelfiles(9e9, 10), []);
    assert.deepEqual(await meta.usage(), { bytes: 0, inodes: 0 });
  });

  test('what was left of deletions is cleaned an hour later, once, whoever does it', async (t) => {
    const volume = await openVolume(t, database.newUrl(), { trashDays: 1 });
    const { meta, clock, engine } = volume;
    const { ino } = await meta.create(ctx, ROOT_INO, name('f'), 0o644, 0, true);
    const ids = [await meta.newSliceId(), await meta.newSliceId()] as const;
    for (const id of ids) await meta.writeSlice(ctx, ino, 0, 0, { id, size: 100 }, 1n);
    const now = Math.floor(clock.now() / 1000);
    // A file of which only the data is left, and two slices that a compaction replaced.
    await engine.commit({
      checks: [],
      writes: [
        { kind: 'removeEntry', parent: ROOT_INO, name: name('f') },
        { kind: 'removeNode', ino },
        { kind: 'addDelfile', ino, length: 100, time: now },
      ],
    });
    await engine.commit({
      checks: [],
      writes: [
        {
          kind: 'appendSlices',
          ino: 900 as Ino,
          index: 0,
          records: Buffer.alloc(24),
          onlyExisting: false,
          newSlice: { id: 77, size: 5 },
        },
        { kind: 'removeChunk', ino: 900 as Ino, index: 0 },
        { kind: 'delaySlices', id: 99, time: now, slices: encodeDelayed([{ id: 77, size: 5 }]) },
      ],
    });
    const removed: number[] = [];
    const workers = [volumeOf(volume, meta.format, removed), volumeOf(volume, meta.format, removed)];
    const work = (): Promise<unknown> => Promise.all(workers.map((worker) => hourly(worker, new AbortController().signal)));
    await work();
    assert.deepEqual(removed, []);
    clock.advance(3601_000);
    await work();
    // Two cleaners may delete the same blocks, which does no harm.
    assert.deepEqual(new Set(removed), new Set(ids));
    clock.advance(24 * 3600_000);
    await work();
    assert.deepEqual(new Set(removed), new Set([...ids, 77]));
    assert.deepEqual(await engine.scanUnreferenced(10), []);
    assert.deepEqual(await engine.scanDelayed(9e9, 10), []);
  });
});
