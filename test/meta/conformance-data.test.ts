/** The data of files as metadata has it, over every engine: lengths, slices, room, and what is deleted when. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Ino, ino, ROOT_INO } from '../../src/lib/int64.ts';
import { decodeDelayed, decodeSlices } from '../../src/meta/records.ts';
import { type Attr, CHUNK_SIZE, type Meta, NodeType, type Piece } from '../../src/meta/types.ts';
import { type Database, describeEngines } from './engines.ts';
import { dirStatAfterClose, fails, list, name, openVolume, ROOT_USER as root, user } from './volume.ts';
import { until } from '../until.ts';

const MIB = 1024 * 1024;
const KEEP_SIZE = 1;
const PUNCH = 2;
const ZERO = 16;
const hole = (pos: number, len: number): Piece => ({ pos, id: 0, size: 0, off: 0, len });
const data = (pos: number, id: number, size: number, off = 0, len = size - off): Piece => ({ pos, id, size, off, len });

describeEngines('data of files', (database: Database) => {
  const volume = (t: Parameters<typeof openVolume>[0], input = {}) => openVolume(t, database.newUrl(), input);
  const make = async (meta: Meta, text = 'f', parent: Ino = ROOT_INO) =>
    (await meta.mknod(root, parent, name(text), NodeType.File, 0o644, 0, 0)).ino;
  /** Writes one slice and answers its id. */
  const write = async (meta: Meta, file: Ino, index: number, pos: number, size: number): Promise<number> => {
    const id = await meta.newSliceId();
    await meta.writeSlice(root, file, index, pos, { id, size }, 1_700_000_000_000_000_005n);
    return id;
  };

  test('a write makes the file as long as it must be, and has the time of its data', async (t) => {
    const { meta, clock } = await volume(t);
    const file = await make(meta);
    clock.advance(5000);
    const id = await meta.newSliceId();
    const attr = await meta.writeSlice(root, file, 1, 10, { id, size: 100 }, 1_700_000_000_000_000_005n);
    assert.deepEqual(
      [attr.length, attr.mtime, attr.mtimensec, attr.ctime],
      [CHUNK_SIZE + 110, 1_700_000_000, 5, Number(clock.ns / 1_000_000_000n)],
    );
    assert.deepEqual(await meta.getattr(root, file), attr);
    assert.deepEqual(await meta.readChunk(file, 0), []);
    assert.deepEqual(await meta.readChunk(file, 1), [hole(0, 10), data(10, id, 100)]);
    const chunks = [0, 1].map((index) => ({ ino: file, index }));
    assert.deepEqual(await meta.readChunks([...chunks, { ino: ino(4711), index: 0 }]), [
      undefined,
      [hole(0, 10), data(10, id, 100)],
      undefined,
    ]);
    assert.deepEqual(await meta.readChunks([]), []);
    const inside = await meta.writeSlice(root, file, 1, 0, { id: await meta.newSliceId(), size: 5 }, 1n);
    assert.equal(inside.length, CHUNK_SIZE + 110);
    await fails('ENOENT', meta.writeSlice(root, ino(4711), 0, 0, { id: 99, size: 1 }, 0n));
    await fails('ENOENT', meta.readChunk(ino(4711), 0));
    await fails('EPERM', meta.writeSlice(root, ROOT_INO, 0, 0, { id: 99, size: 1 }, 0n));
    await fails('EINVAL', meta.writeSlice(root, file, 0, CHUNK_SIZE - 1, { id: 99, size: 2 }, 0n));
  });

  test('a slice of which parts are seen in many places is gone with the last of them', async (t) => {
    const { meta, deleted } = await volume(t);
    const file = await make(meta);
    const below = await write(meta, file, 0, 0, 1000);
    const id = await meta.newSliceId();
    const parts = [
      { index: 0, pos: 100, off: 0, len: 10 },
      { index: 0, pos: 300, off: 40, len: 10 },
      { index: 1, pos: 7, off: 10, len: 30 },
    ];
    const attr = await meta.writeParts(root, file, { id, size: 50 }, parts, 1_700_000_000_000_000_005n);
    assert.deepEqual([attr.length, attr.mtime], [CHUNK_SIZE + 37, 1_700_000_000]);
    assert.deepEqual(await meta.readChunk(file, 0), [
      data(0, below, 1000, 0, 100),
      data(100, id, 50, 0, 10),
      data(110, below, 1000, 110, 190),
      data(300, id, 50, 40, 10),
      data(310, below, 1000, 310, 690),
    ]);
    assert.deepEqual(await meta.readChunk(file, 1), [hole(0, 7), data(7, id, 50, 10, 30)]);
    const plan = await meta.planCompaction(file, 0);
    const merged = await meta.newSliceId();
    assert.ok(await meta.commitCompaction(plan!, { id: merged, size: plan!.size }));
    assert.deepEqual(
      deleted.map((slice) => slice.id),
      [below],
      'the other chunk still shows a part',
    );
    for (const bad of [
      { index: 0, pos: 0, off: 45, len: 6 },
      { index: 0, pos: CHUNK_SIZE - 1, off: 0, len: 2 },
      { index: 0, pos: 0, off: 0, len: 0 },
      { index: 0, pos: -1, off: 0, len: 1 },
    ])
      await fails('EINVAL', meta.writeParts(root, file, { id: 99, size: 50 }, [bad], 0n));
    await fails('EINVAL', meta.writeParts(root, file, { id: 99, size: 50 }, [], 0n));
    await meta.unlink(root, ROOT_INO, name('f'));
    await meta.close();
    assert.deepEqual(
      deleted.map((slice) => slice.id).toSorted((a, b) => a - b),
      [below, id, merged],
    );
  });

  test('a file that was cut and grows again shows zeros where it was cut', async (t) => {
    const { meta } = await volume(t);
    const file = await make(meta);
    const id = await write(meta, file, 0, 0, 1000);
    assert.equal((await meta.truncate(root, file, 300)).length, 300);
    assert.equal((await meta.truncate(root, file, 2000)).length, 2000);
    assert.deepEqual(await meta.readChunk(file, 0), [data(0, id, 1000, 0, 300), hole(300, 1700)]);
  });

  test('a truncation over chunk ends zeroes the chunks between that hold something', async (t) => {
    const { meta, engine } = await volume(t);
    const file = await make(meta);
    const first = await write(meta, file, 0, 0, 100);
    await write(meta, file, 2, 0, 100);
    const last = await write(meta, file, 4, 0, 100);
    await meta.truncate(root, file, 50);
    await meta.truncate(root, file, 4 * CHUNK_SIZE + 200);
    const lists = await engine.read([0, 1, 2, 3, 4].map((index) => ({ kind: 'chunk', ino: file, index }) as const));
    assert.deepEqual(await meta.readChunk(file, 0), [data(0, first, 100, 0, 50), hole(50, CHUNK_SIZE - 50)]);
    assert.equal(lists[1]?.length, 0, 'nothing is written where there is nothing');
    assert.deepEqual(await meta.readChunk(file, 2), [hole(0, CHUNK_SIZE)]);
    assert.deepEqual(await meta.readChunk(file, 4), [hole(0, 200)], `slice ${last} is hidden`);
    const huge = await meta.truncate(root, file, 2 ** 50);
    assert.equal(huge.length, 2 ** 50);
    await fails('EFBIG', meta.truncate(root, file, 2 ** 53));
    await fails('EFBIG', meta.fallocate(root, file, 0, 2 ** 52, 2 ** 52));
    await fails('EINVAL', meta.truncate(root, file, -1));
  });

  test('a truncation to the present length changes nothing, any other the times', async (t) => {
    const { meta, clock } = await volume(t);
    const file = await make(meta);
    const before = await meta.truncate(root, file, 10);
    clock.advance(1000);
    assert.deepEqual(await meta.truncate(root, file, 10), before);
    const after = await meta.truncate(root, file, 9);
    assert.deepEqual([after.mtime, after.ctime], [before.mtime + 1, before.ctime + 1]);
    await fails('EPERM', meta.truncate(root, ROOT_INO, 0));
    await fails('EACCES', meta.truncate(user(5), file, 0));
  });

  test('fallocate extends, punches and zeroes as its mode says', async (t) => {
    const { meta } = await volume(t);
    const file = await make(meta);
    const id = await write(meta, file, 0, 0, 1000);
    const allocate = async (mode: number, offset: number, length: number): Promise<readonly [number, readonly Piece[]]> => {
      const attr = await meta.fallocate(root, file, mode, offset, length);
      assert.deepEqual(await meta.getattr(root, file), attr);
      return [attr.length, await meta.readChunk(file, 0)];
    };
    assert.deepEqual(await allocate(0, 0, 500), [1000, [data(0, id, 1000)]]);
    assert.deepEqual(await allocate(KEEP_SIZE, 0, 9000), [1000, [data(0, id, 1000)]]);
    assert.deepEqual(await allocate(0, 0, 2000), [2000, [data(0, id, 1000)]]);
    assert.deepEqual(await allocate(PUNCH | KEEP_SIZE, 100, 200), [
      2000,
      [data(0, id, 1000, 0, 100), hole(100, 200), data(300, id, 1000, 300)],
    ]);
    assert.deepEqual(await allocate(ZERO, 900, 3000), [
      3900,
      [data(0, id, 1000, 0, 100), hole(100, 200), data(300, id, 1000, 300, 600), hole(900, 1100)],
    ]);
    assert.equal((await allocate(ZERO | KEEP_SIZE, 0, 90_000))[0], 3900);
    await fails('EINVAL', meta.fallocate(root, file, PUNCH, 0, 10));
    await fails('EINVAL', meta.fallocate(root, file, 0, 0, 0));
    for (const mode of [8, 32]) await fails('ENOTSUP', meta.fallocate(root, file, mode, 0, 4096));
  });

  test('a directory knows the length and room of what lies in it, the volume of everything', async (t) => {
    const opened = await volume(t);
    const { meta } = opened;
    const d = await meta.mkdir(root, ROOT_INO, name('d'), 0o755, 0);
    const file = await make(meta, 'f', d.ino);
    await make(meta, 'empty', d.ino);
    await meta.symlink(root, d.ino, name('l'), name('target'));
    await write(meta, file, 0, 0, 4097);
    await meta.truncate(root, file, 4096);
    await meta.truncate(root, file, 8193);
    await meta.link(root, file, d.ino, name('second'));
    await meta.link(root, file, ROOT_INO, name('third'));
    await meta.truncate(root, file, 12_289);
    assert.deepEqual(await meta.usage(), { bytes: 4096 + 4 * 4096 + 4096 + 4096, inodes: 4 });
    assert.deepEqual(await dirStatAfterClose(opened, d.ino), { length: 2 * 12_289, space: 2 * 16_384 + 2 * 4096, inodes: 4 });
    const [rootStat] = await opened.engine.read([{ kind: 'dirStat', ino: ROOT_INO }]);
    assert.deepEqual(rootStat, { length: 12_289, space: 4096 + 16_384, inodes: 2 });
  });

  test('the limits of the volume hold', async (t) => {
    const { meta } = await volume(t, { capacity: 64 * 1024, inodes: 3 });
    const file = await make(meta, 'a');
    await fails('ENOSPC', meta.truncate(root, file, 128 * 1024));
    await fails('ENOSPC', meta.writeSlice(root, file, 0, 0, { id: await meta.newSliceId(), size: 128 * 1024 }, 0n));
    assert.deepEqual(await meta.readChunk(file, 0), []);
    await make(meta, 'b');
    await make(meta, 'c');
    await fails('ENOSPC', make(meta, 'd'));
    const { totalBytes, availableBytes, usedInodes, availableInodes } = await meta.statfs(root, ROOT_INO);
    assert.deepEqual([totalBytes, availableBytes, usedInodes, availableInodes], [65_536, 65_536 - 3 * 4096, 3, 0]);
    await meta.unlink(root, ROOT_INO, name('b'));
    await make(meta, 'd');
  });

  test('a volume without limits always seems to have room', async (t) => {
    const { meta } = await volume(t);
    const stat = await meta.statfs(root, ROOT_INO);
    assert.deepEqual([stat.totalBytes, stat.availableBytes, stat.usedInodes], [2 ** 50, 2 ** 50, 0]);
    assert.ok(stat.availableInodes > 1_000_000);
  });

  test('the slices of a removed file are deleted, those of its copy of the name are not', async (t) => {
    const { meta, deleted, engine } = await volume(t);
    const file = await make(meta);
    const ids = [await write(meta, file, 0, 0, 100), await write(meta, file, 0, 50, 100), await write(meta, file, 3, 0, 7)];
    await meta.link(root, file, ROOT_INO, name('g'));
    await meta.unlink(root, ROOT_INO, name('f'));
    assert.equal((await meta.readChunk(file, 0)).length, 2);
    await meta.unlink(root, ROOT_INO, name('g'));
    await meta.close();
    assert.deepEqual(
      deleted.map(({ id }) => id).toSorted((a, b) => a - b),
      ids,
    );
    assert.deepEqual(await engine.scanDelfiles(2 ** 40, 10), []);
    assert.deepEqual(await engine.scanUnreferenced(10), []);
    assert.deepEqual(
      await engine.read([
        { kind: 'chunk', ino: file, index: 0 },
        { kind: 'chunk', ino: file, index: 3 },
      ]),
      [Buffer.alloc(0), Buffer.alloc(0)],
    );
    assert.deepEqual(
      await engine.read([
        { kind: 'counter', name: 'usedSpace' },
        { kind: 'counter', name: 'totalInodes' },
      ]),
      [0, 0],
    );
  });

  test('a slice that two files share is deleted with the second of them', async (t) => {
    const { meta, deleted, engine } = await volume(t);
    const [first, second] = [await make(meta, 'a'), await make(meta, 'b')];
    const id = await write(meta, first, 0, 0, 100);
    // As the official client copies a range, or a file.
    const [records] = await engine.read([{ kind: 'chunk', ino: first, index: 0 }]);
    await meta.truncate(root, second, 100);
    await engine.commit({
      checks: [],
      writes: [
        { kind: 'appendSlices', ino: second, index: 0, records, onlyExisting: false },
        { kind: 'addSliceRef', id, size: 100, delta: 1 },
      ],
    });
    await meta.unlink(root, ROOT_INO, name('a'));
    await until('no deleted file is left', async () => (await engine.scanDelfiles(2 ** 40, 9)).length === 0);
    assert.deepEqual([deleted, await engine.scanDelfiles(2 ** 40, 9)], [[], []]);
    assert.equal((await meta.readChunk(second, 0))[0]?.id, id);
    await meta.unlink(root, ROOT_INO, name('b'));
    await meta.close();
    assert.deepEqual(deleted, [{ id, size: 100 }]);
  });

  test('a file that is open lives on without a name until it is closed', async (t) => {
    const { meta, deleted, engine } = await volume(t);
    const { ino: file } = await meta.create(root, ROOT_INO, name('f'), 0o644, 0, true);
    await meta.open(root, file, 0);
    const id = await write(meta, file, 0, 0, 5000);
    await meta.unlink(root, ROOT_INO, name('f'));
    assert.deepEqual(await list(meta, ROOT_INO), []);
    assert.equal((await meta.getattr(root, file)).nlink, 0);
    assert.equal((await meta.usage()).inodes, 1);
    const more = await write(meta, file, 0, 5000, 5000);
    await meta.release(file);
    assert.equal((await meta.readChunk(file, 0)).length, 2, 'one of two opens is left');
    await meta.release(file);
    await fails('ENOENT', meta.getattr(root, file));
    await meta.close();
    assert.deepEqual(
      deleted.map((slice) => slice.id).toSorted((a, b) => a - b),
      [id, more],
    );
    assert.deepEqual(
      await engine.read([
        { kind: 'counter', name: 'usedSpace' },
        { kind: 'counter', name: 'totalInodes' },
      ]),
      [0, 0],
    );
  });

  test('a compaction leaves one slice, and deletes the old ones', async (t) => {
    const { meta, deleted, engine } = await volume(t);
    const file = await make(meta);
    const ids: number[] = [];
    for (let n = 0; n < 6; n++) ids.push(await write(meta, file, 0, n * 500, 900));
    const plan = await meta.planCompaction(file, 0);
    assert.ok(plan);
    assert.deepEqual([plan.skipped, plan.pos, plan.size, plan.pieces.length], [0, 0, 3400, 6]);
    const late = await write(meta, file, 0, 3000, 900);
    const id = await meta.newSliceId();
    assert.equal(await meta.commitCompaction(plan, { id, size: plan.size }), true, 'what came later stays');
    assert.deepEqual(await meta.readChunk(file, 0), [data(0, id, 3400, 0, 3000), data(3000, late, 900)]);
    assert.deepEqual(
      deleted.map((slice) => slice.id).toSorted((a, b) => a - b),
      ids,
    );
    const stale = await meta.newSliceId();
    assert.equal(await meta.commitCompaction(plan, { id: stale, size: plan.size }), false, 'a second time the list is another');
    assert.deepEqual(await meta.readChunk(file, 0), [data(0, id, 3400, 0, 3000), data(3000, late, 900)]);
    await meta.unlink(root, ROOT_INO, name('f'));
    await meta.close();
    assert.deepEqual(new Set(deleted.map((slice) => slice.id)), new Set([...ids, id, late]));
    assert.deepEqual(await engine.scanUnreferenced(10), []);
  });

  test('a large slice at the front stays when the rest is compacted', async (t) => {
    const { meta, engine } = await volume(t);
    const file = await make(meta);
    const large = await write(meta, file, 0, 0, 4 * MIB);
    await write(meta, file, 0, 4 * MIB, 10);
    await write(meta, file, 0, 4 * MIB + 10, 10);
    const plan = await meta.planCompaction(file, 0);
    assert.deepEqual([plan?.skipped, plan?.pos, plan?.size], [1, 4 * MIB, 20]);
    const id = await meta.newSliceId();
    assert.ok(await meta.commitCompaction(plan!, { id, size: 20 }));
    const [records] = await engine.read([{ kind: 'chunk', ino: file, index: 0 }]);
    assert.deepEqual(decodeSlices(records), [data(0, large, 4 * MIB), data(4 * MIB, id, 20)]);
  });

  test('with the trash on, slices that were compacted are kept for its days', async (t) => {
    const { meta, deleted, engine, clock } = await volume(t, { trashDays: 2 });
    const file = await make(meta);
    const ids = [await write(meta, file, 0, 0, 100), await write(meta, file, 0, 100, 100)];
    const plan = await meta.planCompaction(file, 0);
    const id = await meta.newSliceId();
    assert.ok(await meta.commitCompaction(plan!, { id, size: plan!.size }));
    assert.deepEqual(deleted, []);
    const [kept] = await engine.scanDelayed(2 ** 40, 10);
    assert.deepEqual([kept?.id, kept?.time], [id, Math.floor(clock.now() / 1000)]);
    assert.deepEqual(
      decodeDelayed(kept!.slices),
      ids.map((slice) => ({ id: slice, size: 100 })),
    );
  });

  test('what another client wrote is seen when the file is opened again', async (t) => {
    const opened = await volume(t);
    const { meta } = opened;
    const other = await opened.another();
    const { ino: file } = await meta.create(root, ROOT_INO, name('f'), 0o644, 0, true);
    const first = await write(meta, file, 0, 0, 100);
    assert.deepEqual(await meta.readChunk(file, 0), [data(0, first, 100)]);
    opened.clock.advance(1);
    const second = await other.newSliceId();
    await other.writeSlice(root, file, 0, 50, { id: second, size: 100 }, opened.clock.ns);
    const attr: Attr = await meta.open(root, file, 0);
    assert.equal(attr.length, 150);
    assert.deepEqual(await meta.readChunk(file, 0), [data(0, first, 100, 0, 50), data(50, second, 100)]);
    assert.notEqual(first, second);
  });

  test('two clients write to one file at once, and no slice is lost', async (t) => {
    const opened = await volume(t);
    const clients = [opened.meta, await opened.another()];
    const file = await make(opened.meta);
    const counts = Array.from({ length: 20 }, (_, n) => n);
    await Promise.all(clients.flatMap((client, index) => counts.map((n) => write(client, file, 0, (n * 2 + index) * 10, 10))));
    const pieces = await opened.meta.readChunk(file, 0);
    assert.equal(new Set(pieces.map(({ id }) => id)).size, 40);
    assert.equal((await opened.meta.getattr(root, file)).length, 400);
    const found: number[] = [];
    for await (const slice of opened.meta.slices()) found.push(slice.id);
    assert.deepEqual(
      found.toSorted((a, b) => a - b),
      pieces.map(({ id }) => id).toSorted((a, b) => a - b),
    );
  });
});
