/** Garbage collection and the check of blocks, over every engine, with blocks in a folder and on S3. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { blockKey } from '../../src/chunk/key.ts';
import { ino, ROOT_INO } from '../../src/lib/int64.ts';
import { Census, SliceUse } from '../../src/maintenance/census.ts';
import { encodeSlices } from '../../src/meta/records.ts';
import type { Database } from '../meta/engines.ts';
import { describeEngines } from '../meta/engines.ts';
import { startS3 } from '../servers.ts';
import { openWorld, root, type World } from './world.ts';

const KIB = 1024;
const data = (length: number, seed = 1): Buffer => Buffer.alloc(length, `${seed}-`);

/** What a report says of objects. */
const counts = ({ valid, pendingDelete, compacted, leaked, skipped, foreign, scanned }: Awaited<ReturnType<World['gc']>>) => ({
  scanned,
  valid: valid.objects,
  pending: pendingDelete.objects,
  compacted: compacted.objects,
  leaked: leaked.objects,
  skipped: skipped.objects,
  foreign: foreign.objects,
});

const none = { scanned: 0, valid: 0, pending: 0, compacted: 0, leaked: 0, skipped: 0, foreign: 0 };

/** What is the same whatever the database and the store are. */
function garbage(newWorld: (t: Parameters<typeof openWorld>[0], format?: object) => Promise<World>): void {
  test('of a sound volume nothing is garbage, and nothing of it is deleted', async (t) => {
    const world = await newWorld(t);
    const file = await world.file(ROOT_INO, 'a', 200 * KIB);
    await world.file(await world.mkdir(ROOT_INO, 'd'), 'b', 10);
    assert.deepEqual(counts(await world.gc({ delete: true })), { ...none, scanned: 5, valid: 5 });
    assert.equal((await world.keys()).length, 5);
    assert.ok((await world.read(file, 0, 200 * KIB)).equals(Buffer.alloc(200 * KIB, 'a')));
    const { blocks, lostBlocks, brokenFiles } = await world.fsck();
    assert.deepEqual({ blocks, lostBlocks, brokenFiles }, { blocks: 5, lostBlocks: 0, brokenFiles: 0 });
  });

  for (const hashPrefix of [false, true])
    test(`leaked objects are found and deleted, others stay (hash prefix: ${hashPrefix})`, async (t) => {
      const world = await newWorld(t, { hashPrefix });
      const key = (id: number, index: number, length: number) => blockKey(id, index, length, hashPrefix);
      const file = await world.file(ROOT_INO, 'a', 100 * KIB);
      const id = await world.write(file, 0, data(70 * KIB));
      const leaked = [
        key(999, 0, 65_536),
        key(1_999_999, 0, 10),
        key(257_000_256, 3, 65_536),
        // A block that its slice does not have: behind its end, of another length.
        key(id, 2, 65_536),
        key(id, 1, 7),
      ];
      const foreign = ['chunks/0/0/notes.txt', `chunks/0/${id}_0_65536`, 'chunks/0/7/5_0_65536', 'chunks/0/0/x_0_1'];
      for (const name of [...leaked, ...foreign, 'meta/dump.json']) await world.objects.put(name, data(10));
      const before = await world.keys();
      const wanted = { ...none, scanned: 9, valid: 4, leaked: 5, foreign: 4 };
      assert.deepEqual(counts(await world.gc()), wanted);
      assert.deepEqual(await world.keys(), before, 'nothing was deleted');

      // Young ones are left alone: their slice may not be committed yet.
      assert.deepEqual(counts(await world.gc({ delete: true, minAge: 3600 })), { ...none, scanned: 9, skipped: 9, foreign: 4 });
      assert.deepEqual(await world.keys(), before);

      const report = await world.gc({ delete: true });
      assert.deepEqual([counts(report), report.cleaned.leaked], [wanted, 5]);
      const stay = new Set(before.filter((name) => !leaked.includes(name)));
      assert.deepEqual(new Set(await world.keys()), stay);
      assert.ok(await world.objects.head('meta/dump.json'));
      assert.equal((await world.fsck()).lostBlocks, 0);
    });

  test('a lost and a damaged block are found, with the files that need them; a removed file is no loss', async (t) => {
    const world = await newWorld(t);
    const directory = await world.mkdir(ROOT_INO, 'dir');
    const files = [
      await world.file(directory, 'whole', 200 * KIB),
      await world.file(directory, 'lost', 200 * KIB),
      await world.file(ROOT_INO, 'damaged\n\xff', 100 * KIB),
      await world.file(ROOT_INO, 'gone', 10 * KIB),
    ];
    const [, lost = '', damaged = '', gone = ''] = await Promise.all(
      files.map(async (file) => {
        const [piece] = await world.meta.readChunk(file, 0);
        return blockKey(piece?.id ?? 0, 0, Math.min(65_536, piece?.size ?? 0), false);
      }),
    );
    await world.objects.delete(lost);
    await world.objects.delete(gone);
    await world.objects.put(damaged, data(65_535));
    // Removed by a client that died at once: its data is still told of.
    const attr = await world.meta.getattr(root, files[3] ?? ino(0));
    const name = Buffer.from('gone');
    await world.engine.commit({
      checks: [],
      writes: [
        { kind: 'removeEntry', parent: ROOT_INO, name },
        { kind: 'removeNode', ino: files[3] ?? ino(0) },
        { kind: 'addDelfile', ino: files[3] ?? ino(0), length: attr.length, time: 1 },
      ],
    });
    for (const report of [await world.fsck(), await world.fsck(2)]) {
      assert.equal(report.lostBlocks, 2);
      assert.deepEqual(
        new Map(report.lost.map((block) => [block.key, block.found])),
        new Map([
          [lost, undefined],
          [damaged, 65_535],
        ]),
      );
      const named = report.broken.map(({ path, blocks }) => [path?.toString('latin1'), blocks] as const);
      assert.deepEqual(
        new Map(named),
        new Map([
          ['/dir/lost', 1],
          ['/damaged\n\xff', 1],
        ]),
      );
      assert.equal(report.brokenFiles, 2);
    }
    const { blocks } = await world.tree({
      start: { ino: directory, type: 2, path: Buffer.from('/dir'), parent: ROOT_INO, name: Buffer.from('dir') },
    });
    assert.deepEqual(
      [blocks.blocks, blocks.lostBlocks, blocks.broken.map(({ path }) => path?.toString())],
      [7, 1, ['/dir/lost']],
    );
  });
}

describeEngines('garbage and blocks', (database: Database) => {
  const newWorld = (t: Parameters<typeof openWorld>[0], format = {}) => openWorld(t, database.newUrl(), { format });
  garbage(newWorld);

  test('what waits to be deleted is told of, and deleted; so are files that do not exist', async (t) => {
    const world = await newWorld(t, { trashDays: 1 });
    const { engine, clock } = world;
    const kept = await world.file(ROOT_INO, 'kept', 70 * KIB);
    const removed = await world.file(ROOT_INO, 'removed', 70 * KIB);
    await world.meta.unlink(root, ROOT_INO, Buffer.from('removed'));
    assert.equal((await world.gc({ delete: true })).valid.objects, 4, 'the trash keeps it');

    // Compaction with the trash on keeps what it replaced.
    for (let at = 0; at < 3; at++) await world.write(kept, at * 100, data(50, at));
    const contents = await world.read(kept, 0, 70 * KIB);
    const compacted = await world.gc({ compact: true });
    assert.equal(compacted.cleaned.chunks, 1);
    assert.deepEqual([counts(compacted).compacted, compacted.replaced], [5, 4]);
    assert.ok((await world.read(kept, 0, 70 * KIB)).equals(contents));

    // Data of a file that nobody knows, and of one whose removal was not finished.
    const stray = await engine.commit({
      checks: [],
      writes: [
        {
          kind: 'appendSlices',
          ino: ino(77_777),
          index: 2,
          records: encodeSlices([{ pos: 0, id: 55_555, size: 100, off: 0, len: 100 }]),
          onlyExisting: false,
          newSlice: { id: 55_555, size: 100 },
        },
        {
          kind: 'appendSlices',
          ino: ino(66_666),
          index: 0,
          records: encodeSlices([{ pos: 0, id: 55_556, size: 100, off: 0, len: 100 }]),
          onlyExisting: false,
          newSlice: { id: 55_556, size: 100 },
        },
        { kind: 'addDelfile', ino: ino(66_666), length: 100, time: Math.floor(clock.now() / 1000) },
        // References that are gone without the blocks.
        { kind: 'addSliceRef', id: 55_557, size: 100, delta: -1 },
      ],
    });
    assert.ok(stray.ok);
    for (const id of [55_555, 55_556, 55_557]) await world.objects.put(blockKey(id, 0, 100, false), data(100));
    const told = await world.gc();
    assert.deepEqual(counts(told), { ...none, scanned: 12, valid: 6, pending: 1, compacted: 5 });
    assert.deepEqual([told.deletedFiles, told.deletedFileBytes, told.strayChunks, told.pending], [1, 100, 1, 1]);

    const cleaned = await world.gc({ delete: true });
    assert.deepEqual(counts(cleaned), { ...none, scanned: 9, valid: 4, compacted: 5 });
    const { files, strayChunks, slices } = cleaned.cleaned;
    assert.deepEqual({ files, strayChunks, slices }, { files: 1, strayChunks: 1, slices: 1 });

    // Two days later nothing is kept any more.
    clock.advance(2 * 86_400_000);
    const late = await world.gc({ delete: true });
    assert.deepEqual([late.cleaned.trash, late.cleaned.replaced], [1, 4]);
    assert.deepEqual(counts(await world.gc()), { ...none, scanned: 2, valid: 2 });
    assert.equal((await engine.nodes([removed]))[0], undefined);
    assert.ok((await world.read(kept, 0, 70 * KIB)).equals(contents));
    assert.equal((await world.fsck()).lostBlocks, 0);
  });

  test('a copy of a tree that was given up half-way is deleted a day later', async (t) => {
    const world = await newWorld(t);
    const { engine, meta, clock } = world;
    const half = await world.mkdir(ROOT_INO, 'half');
    await world.file(half, 'f', 10 * KIB);
    const attr = await meta.getattr(root, half);
    await engine.commit({
      checks: [],
      writes: [
        { kind: 'removeEntry', parent: ROOT_INO, name: Buffer.from('half') },
        { kind: 'touchNode', ino: ROOT_INO, sec: 1, nsec: 0, nlink: -1 },
        { kind: 'putNode', ino: half, attr: { ...attr, parent: ino(0) } },
        { kind: 'addDetached', ino: half, time: Math.floor(clock.now() / 1000) },
      ],
    });
    assert.equal((await world.gc({ delete: true })).valid.objects, 1, 'who makes it may still be at it');
    clock.advance(25 * 3_600_000);
    await world.gc({ delete: true });
    assert.deepEqual(counts(await world.gc()), none);
    assert.deepEqual(await engine.scanDetached(2 ** 31, 10), []);
  });

  test('what a copy refers to that was made while the lists were read is not deleted', async (t) => {
    const world = await newWorld(t);
    const source = await world.file(ROOT_INO, 'source', 10 * KIB);
    const copy = await world.file(ROOT_INO, 'copy', 0);
    const { engine } = world;
    const [records] = await engine.read([{ kind: 'chunk', ino: source, index: 0 }]);
    const [piece] = await world.meta.readChunk(source, 0);
    assert.ok(piece);
    // The lists are read first, of files that do not have it: then it moves to the copy.
    let first = true;
    const volume = world.volume();
    const blind = new Proxy(engine, {
      get(target, name) {
        if (name === 'scanAllChunks' && first) {
          first = false;
          return async function* () {};
        }
        const value = Reflect.get(target, name) as unknown;
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    await engine.commit({
      checks: [],
      writes: [
        { kind: 'appendSlices', ino: copy, index: 0, records, onlyExisting: false },
        { kind: 'addSliceRef', id: piece.id, size: piece.size, delta: 1 },
      ],
    });
    Object.defineProperty(volume, 'engine', { value: blind });
    const report = await world.gc({ volume, delete: true });
    assert.deepEqual([report.leaked.objects, report.cleaned.leaked], [1, 0]);
    assert.equal((await world.keys()).length, 1);
  });
});

describe('garbage and blocks, on S3', () => {
  let server: Awaited<ReturnType<typeof startS3>> | undefined;
  let used = 0;
  let folder = '';
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'juicepod-gc-'));
    server = await startS3();
    server.createBucket('bucket');
  });
  after(async () => {
    await server?.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  garbage(async (t, format = {}) => {
    assert.ok(server);
    const { endpoint, accessKey, secretKey } = server;
    const storage = { storage: 's3', bucket: `${endpoint}/bucket`, accessKey, secretKey };
    const name = `volume-${++used}`;
    return openWorld(t, `sqlite3://${folder}/${name}.db`, { storage, format: { name, ...format } });
  });
});

test('a census of more slices than its memory holds says the same as one that holds them all', async (t) => {
  const temporary = mkdtempSync(join(tmpdir(), 'juicepod-census-'));
  t.after(() => rmSync(temporary, { recursive: true, force: true }));
  for (const hashPrefix of [false, true]) {
    const small = new Census({ hashPrefix, temporary, pending: 100 });
    const large = new Census({ hashPrefix, temporary });
    const uses = [SliceUse.Replaced, SliceUse.Pending, SliceUse.Used];
    const ids: number[] = [];
    const wanted = new Map<number, SliceUse>();
    let seed = 1;
    for (let at = 0; at < 5000; at++) {
      seed = (seed * 48_271) % 2_147_483_647;
      // Of every kind of range: the first, the last, those between, and with a hash prefix those of two groups.
      const id = hashPrefix ? (seed % 1_200_000) * 256 + [0, 1, 255][at % 3]! : 1 + (seed % 5_000_000);
      ids.push(id);
      const use = uses[seed % 3] ?? SliceUse.Used;
      wanted.set(id, Math.max(use, wanted.get(id) ?? 0) as SliceUse);
      for (const census of [small, large]) await census.add(id, 1 + (id % 1000), use);
      // Some are told again, as something less.
      if (at % 7 === 0) for (const census of [small, large]) await census.add(id, 1 + (id % 1000), SliceUse.Replaced);
    }
    assert.deepEqual([small.spilled, large.spilled], [true, false]);
    for (const census of [small, large])
      // As a listing of the store comes: range by range.
      for (const id of ids.toSorted((a, b) => census.rangeOf(a) - census.rangeOf(b))) {
        const range = await census.range(id);
        const slot = census.slotOf(id);
        assert.equal(census.idOf(range.number, slot), id);
        range.found[slot] = 1;
        range.counted = true;
      }
    const all = async (census: Census): Promise<Map<number, string>> => {
      const found = new Map<number, string>();
      for await (const slice of census.all()) found.set(slice.id, `${slice.use} ${slice.size} ${slice.found}`);
      return found;
    };
    const expected = new Map(Array.from(wanted, ([id, use]) => [id, `${use} ${1 + (id % 1000)} 1`]));
    assert.deepEqual(await all(small), expected);
    assert.deepEqual(await all(large), expected);
    small.close();
    large.close();
    assert.deepEqual(readdirSync(temporary), []);
  }
});
