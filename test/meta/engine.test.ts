/** The suite of the engine seam: every kind of read, check and write, scans, sessions, and many writers at once. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import * as fc from 'fast-check';
import { type Ino, ino, ROOT_INO, TRASH_INO } from '../../src/lib/int64.ts';
import type { Check, MetaEngine, Read, Transaction, Write } from '../../src/meta/engine.ts';
import { type Attr, NodeType } from '../../src/meta/types.ts';
import { type Database, describeEngines, openUrl } from './engines.ts';
import { ReferenceEngine } from './reference-engine.ts';

const nowNs = 1_795_256_351_123_456_789n;

const sample: Attr = {
  flags: 0,
  type: NodeType.File,
  mode: 0o644,
  uid: 1000,
  gid: 1001,
  atime: 1,
  atimensec: 2,
  mtime: 3,
  mtimensec: 4,
  ctime: 5,
  ctimensec: 6,
  nlink: 1,
  length: 7,
  rdev: 0,
  parent: ROOT_INO,
  accessAcl: 0,
  defaultAcl: 0,
  tier: 0,
};

// Small universes, so that random operations meet the same things.
const inos = [2, 3, 4, 1_000_000_007, 2 ** 52, TRASH_INO, TRASH_INO + 1].map(ino);
const names = ['a', 'b', '\xff\x00\n', 'x'.repeat(255)].map((name) => Buffer.from(name, 'latin1'));
const xattrNames = ['user.a', 'user.ü', 'security.capability'];
const counterNames = ['usedSpace', 'nextInode', 'lastCleanupFiles'];
const sliceIds = [5, 6, 7];
const sizeOf = (id: number): number => id * 1000;
const timeOf = (id: number): number => id * 10;
const lengthOf = (inode: Ino): number => (inode > 0 ? 4096 : 0);

/** Plain objects, as the engines answer. */
const object = <T>(members: { readonly [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> =>
  fc.record<T>(members, { noNullPrototype: true });

const anyIno = fc.constantFrom(...inos);
const anyName = fc.constantFrom(...names);
const anyXattr = fc.constantFrom(...xattrNames);
const anyCounter = fc.constantFrom(...counterNames);
const anyId = fc.constantFrom(...sliceIds);
const index = fc.constantFrom(0, 1, 4_294_967_295);
const u32 = fc.constantFrom(0, 1, 1000, 2 ** 31, 2 ** 32 - 1);
const nsec = fc.constantFrom(0, 1, 999, 1000, 123_456_789, 999_999_999);
const sec = fc.constantFrom(-1, 0, 1_795_256_351, 4_102_444_800);
const bytes = (maxLength: number): fc.Arbitrary<Buffer> => fc.uint8Array({ maxLength }).map((value) => Buffer.from(value));
const records = fc
  .uint8Array({ minLength: 24, maxLength: 24 })
  .chain((one) => fc.constantFrom(Buffer.from(one), Buffer.concat([Buffer.from(one), Buffer.from(one)])));

const anyAttr: fc.Arbitrary<Attr> = object({
  flags: fc.constantFrom(0, 1, 32),
  type: fc.constantFrom<NodeType>(1, 2, 3, 4, 5, 6, 7),
  mode: fc.constantFrom(0, 0o7777, 0o644),
  uid: u32,
  gid: u32,
  atime: sec,
  atimensec: nsec,
  mtime: sec,
  mtimensec: nsec,
  ctime: sec,
  ctimensec: nsec,
  nlink: fc.constantFrom(100, 200),
  length: fc.constantFrom(0, 4096, 2 ** 52),
  rdev: u32,
  parent: fc.constantFrom(ino(0), ...inos),
  accessAcl: fc.constantFrom(0, 3),
  defaultAcl: fc.constantFrom(0, 4),
  tier: fc.constantFrom(0, 1),
});
const anyEntry = object({ type: fc.constantFrom<NodeType>(1, 2), ino: anyIno });

const anyWrite: fc.Arbitrary<Write> = fc.oneof(
  object({ kind: fc.constant('putNode' as const), ino: anyIno, attr: anyAttr }),
  object({ kind: fc.constant('touchNode' as const), ino: anyIno, sec, nsec, nlink: fc.constantFrom(-1, 0, 1) }),
  object({ kind: fc.constant('removeNode' as const), ino: anyIno }),
  object({ kind: fc.constant('putEntry' as const), parent: anyIno, name: anyName, value: anyEntry }),
  object({ kind: fc.constant('removeEntry' as const), parent: anyIno, name: anyName }),
  object({ kind: fc.constant('putSymlink' as const), ino: anyIno, target: bytes(20) }),
  object({ kind: fc.constant('removeSymlink' as const), ino: anyIno }),
  object({ kind: fc.constant('putXattr' as const), ino: anyIno, name: anyXattr, value: bytes(20) }),
  object({ kind: fc.constant('removeXattr' as const), ino: anyIno, name: anyXattr }),
  object({ kind: fc.constant('removeXattrs' as const), ino: anyIno }),
  object({ kind: fc.constant('appendSlices' as const), ino: anyIno, index, records, onlyExisting: fc.boolean() }),
  object({ kind: fc.constant('removeChunk' as const), ino: anyIno, index }),
  object({ kind: fc.constant('addSliceRef' as const), id: anyId, delta: fc.constantFrom(-1, 1, 2) }).map((write) => ({
    ...write,
    size: sizeOf(write.id),
  })),
  anyId.map((id) => ({ kind: 'forgetSlice' as const, id, size: sizeOf(id) })),
  fc.tuple(anyId, bytes(24)).map(([id, slices]) => ({ kind: 'delaySlices' as const, id, time: timeOf(id), slices })),
  anyId.map((id) => ({ kind: 'removeDelayed' as const, id, time: timeOf(id) })),
  object({ kind: fc.constant('addCounter' as const), name: anyCounter, delta: fc.constantFrom(-5, 1, 2 ** 45) }),
  object({ kind: fc.constant('setCounter' as const), name: anyCounter, value: fc.constantFrom(0, 10, 2 ** 45) }),
  object({
    kind: fc.constant('addDirStat' as const),
    ino: anyIno,
    delta: object({
      length: fc.constantFrom(-1, 2 ** 40),
      space: fc.constantFrom(-4096, 4096),
      inodes: fc.constantFrom(-1, 1),
    }),
  }),
  object({
    kind: fc.constant('putDirStat' as const),
    ino: anyIno,
    value: object({ length: fc.nat(), space: fc.nat(), inodes: fc.nat() }),
  }),
  object({ kind: fc.constant('removeDirStat' as const), ino: anyIno }),
  object({ kind: fc.constant('addDelfile' as const), ino: anyIno, time: fc.nat(20) }).map((write) => ({
    ...write,
    length: lengthOf(write.ino),
  })),
  anyIno.map((inode) => ({ kind: 'removeDelfile' as const, ino: inode, length: lengthOf(inode) })),
  object({ kind: fc.constant('addSustained' as const), sid: fc.constantFrom(1, 2), ino: anyIno }),
  object({ kind: fc.constant('removeSustained' as const), sid: fc.constantFrom(1, 2), ino: anyIno }),
);

/** A check that may hold: `truth` says to expect what is there, else something random is expected. */
type Guess = (model: ReferenceEngine) => Check;
const anyCheck: fc.Arbitrary<Guess> = fc.oneof(
  object({
    inode: anyIno,
    truth: fc.boolean(),
    other: fc.option(anyAttr, { nil: undefined }),
    scope: fc.constantFrom('all' as const, 'access' as const),
  }).map(({ inode, truth, other, scope }): Guess => (model) => {
    const found = model.nodes.get(inode);
    // The same rights at another time: what the two scopes differ in.
    const touched = found && { ...found, mtime: 77, nlink: found.nlink + 1 };
    return { kind: 'node', ino: inode, expect: truth ? (other ? touched : found) : other, scope };
  }),
  anyIno.map((inode): Guess => () => ({ kind: 'node', ino: inode, expect: sample, scope: 'exists' })),
  object({ parent: anyIno, name: anyName, truth: fc.boolean(), other: fc.option(anyEntry, { nil: undefined }) }).map(
    ({ parent, name, truth, other }): Guess =>
      (model) => ({
        kind: 'entry',
        parent,
        name,
        expect: truth ? model.entries.get(parent)?.get(name.toString('latin1')) : other,
      }),
  ),
  anyIno.map((inode): Guess => () => ({ kind: 'emptyDirectory', ino: inode })),
  object({ ino: anyIno, name: anyXattr, expect: fc.constantFrom('present' as const, 'absent' as const) }).map(
    (check): Guess =>
      () => ({ kind: 'xattr', ...check }),
  ),
  object({ inode: anyIno, index, count: fc.nat(2), whole: fc.boolean(), truth: fc.boolean() }).map(
    ({ inode, index, count, whole, truth }): Guess =>
      (model) => {
        const found = model.chunks.get(`${inode}/${index}`) ?? Buffer.alloc(0);
        const records = Buffer.from(whole ? found : found.subarray(0, count * 24));
        if (!truth && records.length > 0) records[0] = (records[0] ?? 0) ^ 1;
        return {
          kind: 'chunkPrefix',
          ino: inode,
          index,
          records: records.length > 0 || truth ? records : Buffer.alloc(24, 1),
          whole,
        };
      },
  ),
  anyId.map((id): Guess => () => ({ kind: 'delayed', id, time: timeOf(id) })),
  object({ name: anyCounter, value: fc.constantFrom(-1, 0, 10, 2 ** 45) }).map((check): Guess => () => ({
    kind: 'counterAtMost',
    ...check,
  })),
);

/** Everything there is to read of the universe. */
const allReads: readonly Read[] = [
  ...inos.flatMap((inode): Read[] => [
    { kind: 'node', ino: inode },
    ...names.map((name): Read => ({ kind: 'entry', parent: inode, name })),
    { kind: 'symlink', ino: inode },
    ...xattrNames.map((name): Read => ({ kind: 'xattr', ino: inode, name })),
    ...[0, 1, 4_294_967_295].map((index): Read => ({ kind: 'chunk', ino: inode, index })),
    { kind: 'entryCount', ino: inode },
    { kind: 'dirStat', ino: inode },
  ]),
  ...counterNames.map((name): Read => ({ kind: 'counter', name })),
];

async function collect<T>(pages: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const page of pages) all.push(page);
  return all;
}

const byText = (a: unknown, b: unknown): number => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1);

async function assertSame(engine: MetaEngine, model: ReferenceEngine): Promise<void> {
  assert.deepEqual(
    await engine.read(allReads),
    allReads.map((read) => model.read(read)),
  );
  for (const inode of inos) {
    const listed = (await collect(engine.scanEntries(inode, 2)))
      .flat()
      .map(({ name, value }) => [name.toString('latin1'), value] as const);
    assert.deepEqual(new Map(listed), model.entries.get(inode) ?? new Map());
    const [found] = await engine.read([{ kind: 'xattrNames', ino: inode }]);
    assert.deepEqual([...found].toSorted(), [...(model.xattrs.get(inode)?.keys() ?? [])].toSorted());
  }
  const unreferenced = [...model.references].filter(([, { count }]) => count <= 0).map(([id, { size }]) => ({ id, size }));
  assert.deepEqual((await engine.scanUnreferenced(100)).toSorted(byText), unreferenced.toSorted(byText));
  const delayed = [...model.delayed].map(([id, { time, slices }]) => ({ id, time, slices }));
  assert.deepEqual((await engine.scanDelayed(1000, 100)).toSorted(byText), delayed.toSorted(byText));
  const delfiles = [...model.delfiles].filter(([, { time }]) => time < 10).map(([inode, { length }]) => ({ ino: inode, length }));
  assert.deepEqual((await engine.scanDelfiles(10, 100)).toSorted(byText), delfiles.toSorted(byText));
  for (const sid of [1, 2]) {
    const wanted = inos.filter((inode) => model.sustained.has(`${sid}/${inode}`));
    assert.deepEqual([...(await engine.sustained(sid))].toSorted(byText), wanted.toSorted(byText));
  }
  const chunks = (await collect(engine.scanAllChunks())).map(({ ino, index, records }) => [`${ino}/${index}`, records] as const);
  assert.deepEqual(new Map(chunks), model.chunks);
}

const write = (...writes: Write[]): Transaction => ({ checks: [], writes });

describeEngines('the engine seam', (database: Database) => {
  const open = async (t: TestContext, url = database.newUrl()): Promise<MetaEngine> => {
    const engine = await openUrl(url);
    t.after(() => engine.close());
    return engine;
  };
  const volume = async (t: TestContext): Promise<{ readonly url: string; readonly engine: MetaEngine }> => {
    const url = database.newUrl();
    const engine = await open(t, url);
    assert.ok(await engine.writeSetting('{}', { trash: true, nowNs }));
    return { url, engine };
  };

  test('a database without a volume says so, and a volume is made once', async (t) => {
    const engine = await open(t);
    assert.equal(await engine.readSetting(), undefined);
    const results = await Promise.all([1, 2, 3].map((n) => engine.writeSetting(`{"n":${n}}`, { trash: true, nowNs })));
    assert.deepEqual(
      results.map(Number).toSorted((a, b) => a - b),
      [0, 0, 1],
    );
    assert.equal(await engine.readSetting(), `{"n":${results.indexOf(true) + 1}}`);
    const [root, trash] = await engine.nodes([ROOT_INO, TRASH_INO]);
    for (const [node, mode] of [
      [root, 0o777],
      [trash, 0o555],
    ] as const) {
      assert.deepEqual(
        [node?.type, node?.mode, node?.nlink, node?.length, node?.parent, node?.mtime],
        [NodeType.Directory, mode, 2, 4096, 1, 1_795_256_351],
      );
    }
    assert.ok(await engine.writeSetting('{"changed":true}'));
    assert.equal(await engine.readSetting(), '{"changed":true}');
    await engine.reset();
    assert.equal(await engine.readSetting(), undefined);
    assert.ok(await engine.writeSetting('{}', { trash: false, nowNs }), 'and again after a reset');
    assert.deepEqual((await engine.nodes([ROOT_INO, TRASH_INO])).map(Boolean), [true, false]);
  });

  test('random transactions do what the reference does, and a failed one does nothing', async (t) => {
    const url = database.newUrl();
    const engine = await open(t, url);
    await fc.assert(
      fc.asyncProperty(
        fc.array(object({ checks: fc.array(anyCheck, { maxLength: 3 }), writes: fc.array(anyWrite, { maxLength: 6 }) }), {
          maxLength: 12,
        }),
        async (steps) => {
          await engine.reset();
          await engine.writeSetting('{}', { trash: false, nowNs });
          const model = new ReferenceEngine();
          await engine.commit(write(...counterNames.map((name): Write => ({ kind: 'setCounter', name, value: 0 }))));
          for (const { checks, writes } of steps) {
            const transaction = { checks: checks.map((guess) => guess(model)), writes };
            assert.deepEqual(await engine.commit(transaction), model.commit(transaction));
          }
          await assertSame(engine, model);
        },
      ),
      { numRuns: 150 },
    );
  });

  test('a node that was only touched still has the rights a decision rested on', async (t) => {
    const { engine } = await volume(t);
    await engine.commit(
      write({ kind: 'putNode', ino: ino(5), attr: sample }, { kind: 'touchNode', ino: ino(5), sec: 9, nsec: 8, nlink: 2 }),
    );
    const touched = { ...sample, mtime: 9, mtimensec: 8, ctime: 9, ctimensec: 8, nlink: 3 };
    assert.deepEqual(await engine.nodes([ino(5)]), [touched]);
    const check = (scope: 'all' | 'access' | 'exists', expect: Attr) =>
      engine.commit({ checks: [{ kind: 'node', ino: ino(5), expect, scope }], writes: [] });
    assert.deepEqual(await check('access', sample), { ok: true, results: [] });
    assert.deepEqual(await check('all', touched), { ok: true, results: [] });
    assert.deepEqual(await check('exists', { ...sample, uid: 9 }), { ok: true, results: [] });
    assert.deepEqual(await check('all', sample), { ok: false, failed: [0], current: [touched] });
    assert.deepEqual(await check('access', { ...touched, gid: 9 }), { ok: false, failed: [0], current: [touched] });
  });

  test('a failed transaction tells what is there now, for every node and entry it asked about', async (t) => {
    const { engine } = await volume(t);
    const name = Buffer.from('n');
    const value = { type: NodeType.File, ino: ino(5) };
    await engine.commit(
      write({ kind: 'putNode', ino: ino(5), attr: sample }, { kind: 'putEntry', parent: ROOT_INO, name, value }),
    );
    const result = await engine.commit({
      checks: [
        { kind: 'node', ino: ino(5), expect: sample, scope: 'all' },
        { kind: 'entry', parent: ROOT_INO, name, expect: undefined },
        { kind: 'entry', parent: ROOT_INO, name: Buffer.from('none'), expect: undefined },
        { kind: 'emptyDirectory', ino: ROOT_INO },
        { kind: 'node', ino: ino(6), expect: sample, scope: 'access' },
      ],
      writes: [{ kind: 'removeNode', ino: ino(5) }],
    });
    assert.deepEqual(result, { ok: false, failed: [1, 3, 4], current: [sample, value, undefined, undefined, undefined] });
    assert.deepEqual(await engine.lookup(ROOT_INO, name), { value, attr: sample });
  });

  test('an entry whose node is missing is found without attributes', async (t) => {
    const { engine } = await volume(t);
    const value = { type: NodeType.Symlink, ino: ino(99) };
    await engine.commit(write({ kind: 'putEntry', parent: ROOT_INO, name: Buffer.from('lost'), value }));
    assert.deepEqual(await engine.lookup(ROOT_INO, Buffer.from('lost')), { value, attr: undefined });
    assert.equal(await engine.lookup(ROOT_INO, Buffer.from('nothing')), undefined);
  });

  test('the parents of a file with several names are counted by directory', async (t) => {
    const { engine } = await volume(t);
    const value = { type: NodeType.File, ino: ino(5) };
    const named = (parent: number, name: string): Write[] => [
      { kind: 'putEntry', parent: ino(parent), name: Buffer.from(name), value },
      { kind: 'addParent', ino: ino(5), parent: ino(parent), delta: 1 },
    ];
    await engine.commit(write(...named(1, 'a'), ...named(1, 'b'), ...named(7, 'c')));
    const read = async (): Promise<ReadonlyMap<Ino, number>> => (await engine.read([{ kind: 'parents', ino: ino(5) }]))[0];
    assert.deepEqual(
      await read(),
      new Map([
        [1, 2],
        [7, 1],
      ]),
    );
    await engine.commit(
      write(
        { kind: 'removeEntry', parent: ino(7), name: Buffer.from('c') },
        { kind: 'addParent', ino: ino(5), parent: ino(7), delta: -1 },
      ),
    );
    assert.deepEqual(await read(), new Map([[1, 2]]));
  });

  test('a compaction replaces the records it saw and keeps those that came behind', async (t) => {
    const { engine } = await volume(t);
    const record = (n: number): Buffer => Buffer.alloc(24, n);
    const file = { ino: ino(5), index: 3 };
    const append = (n: number): Write => ({
      kind: 'appendSlices',
      ...file,
      records: record(n),
      onlyExisting: false,
      newSlice: { id: n, size: n },
    });
    assert.deepEqual(await engine.commit(write(append(1), append(2), append(3))), { ok: true, results: [1, 2, 3] });
    const swap = (seen: Buffer, whole: boolean) =>
      engine.commit({
        checks: [{ kind: 'chunkPrefix', ...file, records: seen, whole }],
        writes: [
          { kind: 'replaceSlices', ...file, count: 2, records: record(9), newSlice: { id: 9, size: 9 } },
          { kind: 'addSliceRef', id: 1, size: 1, delta: -1 },
          { kind: 'addSliceRef', id: 2, size: 2, delta: -1 },
        ],
      });
    const seen = Buffer.concat([record(1), record(2)]);
    assert.deepEqual(await swap(seen, true), { ok: false, failed: [0], current: [undefined] });
    assert.deepEqual(await swap(seen, false), { ok: true, results: [0, 0, 0] });
    assert.deepEqual((await engine.read([{ kind: 'chunk', ...file }]))[0], Buffer.concat([record(9), record(3)]));
    assert.deepEqual((await engine.scanUnreferenced(10)).toSorted(byText), [
      { id: 1, size: 1 },
      { id: 2, size: 2 },
    ]);
    assert.deepEqual(await engine.commit(write({ kind: 'addSliceRef', id: 9, size: 9, delta: 1 })), { ok: true, results: [2] });
    await engine.commit(write({ kind: 'forgetSlice', id: 1, size: 1 }, { kind: 'forgetSlice', id: 2, size: 2 }));
    assert.deepEqual(await engine.scanUnreferenced(10), []);
  });

  test('a large directory is listed in batches, every name', async (t) => {
    const { engine } = await volume(t);
    const count = 2500;
    const entry = (n: number): Write => ({
      kind: 'putEntry',
      parent: ROOT_INO,
      name: Buffer.from(`name ${n}`),
      value: { type: NodeType.File, ino: ino(n) },
    });
    for (let from = 0; from < count; from += 250)
      await engine.commit(write(...Array.from({ length: 250 }, (_, index) => entry(100 + from + index))));
    const seen = new Map<string, number>();
    for await (const batch of engine.scanEntries(ROOT_INO, 100)) {
      assert.ok(batch.length <= 1000, `a batch of ${batch.length}`);
      for (const { name, value } of batch) seen.set(name.toString(), value.ino);
      // What happens meanwhile to others does not disturb it.
      await engine.commit(
        write({
          kind: 'putEntry',
          parent: ROOT_INO,
          name: Buffer.from(`new ${seen.size}`),
          value: { type: NodeType.File, ino: ino(9) },
        }),
      );
    }
    for (let n = 0; n < count; n++) assert.equal(seen.get(`name ${100 + n}`), 100 + n);
    const [total] = await engine.read([{ kind: 'entryCount', ino: ROOT_INO }]);
    assert.ok(total > count);
  });

  test('the chunks of a file are listed by index', async (t) => {
    const { engine } = await volume(t);
    const indexes = Array.from({ length: 300 }, (_, n) => n * 7);
    await engine.commit(
      write(
        ...indexes.map((index): Write => ({
          kind: 'appendSlices',
          ino: ino(5),
          index,
          records: Buffer.alloc(24),
          onlyExisting: false,
        })),
      ),
    );
    await engine.commit(write({ kind: 'appendSlices', ino: ino(55), index: 1, records: Buffer.alloc(24), onlyExisting: false }));
    assert.deepEqual(
      [...new Set(await collect(engine.scanChunks(ino(5))))].toSorted((a, b) => a - b),
      indexes,
    );
  });

  test('scans that have a limit keep to it', async (t) => {
    const { engine } = await volume(t);
    const five = [1, 2, 3, 4, 5];
    await engine.commit(
      write(
        ...five.map((n): Write => ({ kind: 'addDelfile', ino: ino(n + 10), length: 1, time: n })),
        ...five.map((n): Write => ({ kind: 'delaySlices', id: n, time: n, slices: Buffer.alloc(12) })),
        ...five.map((n): Write => ({ kind: 'addSliceRef', id: n + 20, size: 1, delta: -1 })),
      ),
    );
    assert.deepEqual(
      [
        (await engine.scanDelfiles(9, 2)).length,
        (await engine.scanDelayed(9, 2)).length,
        (await engine.scanUnreferenced(2)).length,
      ],
      [2, 2, 2],
    );
    assert.equal((await engine.scanDelfiles(3, 9)).length, 2, 'marked before, not at');
    assert.equal((await engine.scanDelayed(3, 9)).length, 2);
  });

  test('sessions are numbered, renewed and removed; what they were is written once', async (t) => {
    const { engine } = await volume(t);
    const ids = await Promise.all([engine.newSessionId(), engine.newSessionId(), engine.newSessionId()]);
    assert.deepEqual(
      ids.toSorted((a, b) => a - b),
      [1, 2, 3],
    );
    await engine.putSession(1, 100, '{"Version":"ü"}');
    await engine.putSession(2, 200, '{}');
    await engine.putSession(1, 300, '{"Version":"other"}');
    assert.deepEqual(
      [...(await engine.sessions())].toSorted((a, b) => a.sid - b.sid),
      [
        { sid: 1, expire: 300, info: '{"Version":"ü"}' },
        { sid: 2, expire: 200, info: '{}' },
      ],
    );
    await engine.removeSession(1);
    assert.deepEqual(
      (await engine.sessions()).map(({ sid }) => sid),
      [2],
    );
  });

  test('quotas of others are noticed', async (t) => {
    const { engine } = await volume(t);
    assert.equal(await engine.hasQuotas(), false);
    await engine.commit(write({ kind: 'removeDirQuota', ino: ino(5) }));
  });

  test('many writers on one node, through two clients, lose no change', async (t) => {
    const { url, engine } = await volume(t);
    const other = await open(t, url);
    await engine.commit(write({ kind: 'putNode', ino: ino(5), attr: { ...sample, nlink: 0, length: 0 } }));
    const workers = 8;
    const rounds = 25;
    const worker = async (client: MetaEngine): Promise<void> => {
      for (let round = 0; round < rounds; round++) {
        let [attr] = await client.read([{ kind: 'node', ino: ino(5) }]);
        for (;;) {
          assert.ok(attr);
          const result = await client.commit({
            checks: [{ kind: 'node', ino: ino(5), expect: attr, scope: 'all' }],
            writes: [
              { kind: 'putNode', ino: ino(5), attr: { ...attr, length: attr.length + 1 } },
              { kind: 'addCounter', name: 'usedSpace', delta: 1 },
            ],
          });
          if (result.ok) break;
          attr = result.current[0] as Attr;
        }
        await client.commit(write({ kind: 'touchNode', ino: ino(5), sec: round, nsec: 0, nlink: 1 }));
      }
    };
    await Promise.all(Array.from({ length: workers }, (_, index) => worker(index % 2 === 0 ? engine : other)));
    const [attr, counter] = await engine.read([
      { kind: 'node', ino: ino(5) },
      { kind: 'counter', name: 'usedSpace' },
    ]);
    assert.deepEqual([attr?.length, attr?.nlink, counter], [workers * rounds, workers * rounds, workers * rounds]);
  });

  test('an aborted read or commit is not begun', async (t) => {
    const { engine } = await volume(t);
    const signal = AbortSignal.abort();
    await assert.rejects(engine.commit(write({ kind: 'setCounter', name: 'usedSpace', value: 9 }), signal));
    assert.deepEqual(await engine.read([{ kind: 'counter', name: 'usedSpace' }]), [0]);
  });
});
