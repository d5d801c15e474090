/**
 * Random transactions for the suite of the engine seam, over a few nodes, names and numbers, and the comparison of
 * everything there is with the reference.
 */
import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { type Ino, ino, TRASH_INO } from '../../src/lib/int64.ts';
import type { Check, LockRecord, MetaEngine, Read, Write } from '../../src/meta/engine.ts';
import type { QuotaKey, QuotaRecord } from '../../src/meta/quota.ts';
import { plainFile } from '../../src/meta/testing/sample.ts';
import type { Attr, LockedFile, NodeType } from '../../src/meta/types.ts';
import type { ReferenceEngine } from './reference-engine.ts';

/** A plain file. */
export const sample: Attr = {
  ...plainFile,
  uid: 1000,
  gid: 1001,
  atime: 1,
  atimensec: 2,
  mtime: 3,
  mtimensec: 4,
  ctime: 5,
  ctimensec: 6,
  length: 7,
};

// Small universes, so that random operations meet the same things.
const inos = [2, 3, 4, 1_000_000_007, 2 ** 52, TRASH_INO, TRASH_INO + 1].map(ino);
const names = ['a', 'b', '\xff\x00\n', 'x'.repeat(255)].map((name) => Buffer.from(name, 'latin1'));
const xattrNames = ['user.a', 'user.ü', 'security.capability'];
export const counterNames = ['usedSpace', 'nextInode', 'lastCleanupFiles'];
const sliceIds = [5, 6, 7];
const sizeOf = (id: number): number => id * 1000;
const timeOf = (id: number): number => id * 10;
const lengthOf = (inode: Ino): number => (inode > 0 ? 4096 : 0);

/** Plain objects, as the engines answer. */
export const object = <T>(members: { readonly [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> =>
  fc.record<T>(members, { noNullPrototype: true });

const anyIno = fc.constantFrom(...inos);
const anyName = fc.constantFrom(...names);
const anyXattr = fc.constantFrom(...xattrNames);
const anyCounter = fc.constantFrom(...counterNames);
const anyId = fc.constantFrom(...sliceIds);
const nsec = fc.constantFrom(0, 1, 999, 1000, 123_456_789, 999_999_999);
const sec = fc.constantFrom(-1, 0, 1_795_256_351, 4_102_444_800);
const bytes = (maxLength: number): fc.Arbitrary<Buffer> => fc.uint8Array({ maxLength }).map((value) => Buffer.from(value));
const records = fc
  .uint8Array({ minLength: 24, maxLength: 24 })
  .chain((one) => fc.constantFrom(Buffer.from(one), Buffer.concat([Buffer.from(one), Buffer.from(one)])));

const anyEntry = object({ type: fc.constantFrom<NodeType>(1, 2), ino: anyIno });

const lockedFiles: readonly LockedFile[] = [2, 2 ** 52].flatMap((value): LockedFile[] => [
  { of: 'flock', ino: ino(value) },
  { of: 'posix', ino: ino(value) },
]);
const anyLockedFile = fc.constantFrom(...lockedFiles);
const anyHolder = object({ sid: fc.constantFrom(1, 22), owner: fc.constantFrom(0n, 1n, 0xabcdefn, 2n ** 63n, 2n ** 64n - 1n) });
const letter = fc.constantFrom(Buffer.from('R'), Buffer.from('W'));

const quotas: readonly QuotaKey[] = [
  ...[ino(2), ino(3), ino(2 ** 52)].map((id): QuotaKey => ({ kind: 'directory', id })),
  ...[0, 2, 2 ** 32 - 1].flatMap((id): QuotaKey[] => [
    { kind: 'user', id },
    { kind: 'group', id },
  ]),
];
const anyQuota = fc.constantFrom(...quotas);
const anyLimits = object({ space: fc.constantFrom(-4096, -1, 0, 2 ** 44), inodes: fc.constantFrom(-1, 0, 7) });

/** All that an iterable yields. */
export async function collect<T>(pages: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const page of pages) all.push(page);
  return all;
}

/** An order for lists whose own order means nothing. */
export const byText = (a: unknown, b: unknown): number => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1);

/** A check that may hold: `truth` says to expect what is there, else something random is expected. */
export type Guess = (model: ReferenceEngine) => Check;

/** Transactions over a universe in which a uid, a device number or the index of a chunk is at most `largest`. */
export function universe(largest: number) {
  const index = fc.constantFrom(0, 1, largest);
  const u32 = fc.constantFrom(0, 1, 1000, Math.floor(largest / 2) + 1, largest);
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
  /** A write on something of the universe. */
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
    object({ kind: fc.constant('removeDirStats' as const) }),
    object({ kind: fc.constant('putQuota' as const), quota: anyQuota, limits: anyLimits }),
    object({ kind: fc.constant('putQuota' as const), quota: anyQuota, limits: anyLimits, usage: anyLimits }),
    object({ kind: fc.constant('addQuotaUsage' as const), quota: anyQuota, delta: anyLimits }),
    object({ kind: fc.constant('removeQuota' as const), quota: anyQuota }),
    object({ kind: fc.constant('removeQuotas' as const), of: fc.constantFrom('user' as const, 'group' as const) }),
    object({ kind: fc.constant('addDelfile' as const), ino: anyIno, time: fc.nat(20) }).map((write) => ({
      ...write,
      length: lengthOf(write.ino),
    })),
    anyIno.map((inode) => ({ kind: 'removeDelfile' as const, ino: inode, length: lengthOf(inode) })),
    object({ kind: fc.constant('addDetached' as const), ino: anyIno, time: fc.constantFrom(1, 5, 20) }),
    object({ kind: fc.constant('removeDetached' as const), ino: anyIno }),
    object({ kind: fc.constant('addSustained' as const), sid: fc.constantFrom(1, 2), ino: anyIno }),
    object({ kind: fc.constant('removeSustained' as const), sid: fc.constantFrom(1, 2), ino: anyIno }),
    fc.tuple(anyLockedFile, anyHolder, letter).map(([file, holder, value]) => ({
      kind: 'putLock' as const,
      ...file,
      ...holder,
      value: file.of === 'flock' ? value : Buffer.alloc(24, value),
    })),
    fc
      .tuple(anyLockedFile, anyHolder)
      .map(([file, holder]) => ({ kind: 'removeLock' as const, ...file, ...holder, last: false })),
    anyLockedFile.map((file) => ({ kind: 'announceLocks' as const, ...file })),
    object({
      kind: fc.constant('appendLog' as const),
      head: fc.constantFrom('1.000000001|A(', 'x'),
      tail: fc.constantFrom('', ')|(0,1)'),
    }),
  );

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
    object({ quota: anyQuota, truth: fc.boolean(), other: fc.option(anyLimits, { nil: undefined }) }).map(
      ({ quota, truth, other }): Guess =>
        (model) => ({
          kind: 'quotaLimits',
          quota,
          expect: truth ? (model.read({ kind: 'quota', quota }) as QuotaRecord | undefined)?.limits : other,
        }),
    ),
    object({ file: anyLockedFile, change: fc.constantFrom('none', 'order', 'value', 'less') }).map(
      ({ file, change }): Guess =>
        (model) => {
          const found = model.read({ kind: 'locks', ...file }) as readonly LockRecord[];
          const expect =
            change === 'order'
              ? found.toReversed()
              : change === 'less'
                ? found.slice(1)
                : found.map((lock, at) => (change === 'value' && at === 0 ? { ...lock, value: Buffer.from('x') } : lock));
          return { kind: 'locks', ...file, expect };
        },
    ),
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
      ...[0, 1, largest].map((index): Read => ({ kind: 'chunk', ino: inode, index })),
      { kind: 'entryCount', ino: inode },
      { kind: 'dirStat', ino: inode },
    ]),
    ...counterNames.map((name): Read => ({ kind: 'counter', name })),
    ...quotas.map((quota): Read => ({ kind: 'quota', quota })),
  ];

  /** All that can be read of the universe is what the reference has. */
  async function assertSame(engine: MetaEngine, model: ReferenceEngine): Promise<void> {
    assert.deepEqual(
      await engine.read(allReads),
      allReads.map((read) => model.read(read)),
    );
    for (const inode of inos) {
      const listed = (await collect(engine.scanEntries(inode, 2)))
        .flat()
        .map(({ name, ...value }) => [name.toString('latin1'), value] as const);
      assert.deepEqual(new Map(listed), model.entries.get(inode) ?? new Map());
      const [found] = await engine.read([{ kind: 'xattrNames', ino: inode }]);
      assert.deepEqual([...found].toSorted(), [...(model.xattrs.get(inode)?.keys() ?? [])].toSorted());
    }
    const unreferenced = [...model.references].filter(([, { count }]) => count <= 0).map(([id, { size }]) => ({ id, size }));
    assert.deepEqual((await engine.scanUnreferenced(100)).toSorted(byText), unreferenced.toSorted(byText));
    const delayed = [...model.delayed].map(([id, { time, slices }]) => ({ id, time, slices }));
    assert.deepEqual((await engine.scanDelayed(1000, 100)).toSorted(byText), delayed.toSorted(byText));
    const delfiles = [...model.delfiles]
      .filter(([, { time }]) => time < 10)
      .map(([inode, { length }]) => ({ ino: inode, length }));
    assert.deepEqual((await engine.scanDelfiles(10, 100)).toSorted(byText), delfiles.toSorted(byText));
    const detached = inos.filter((inode) => (model.detached.get(inode) ?? 99) < 10);
    assert.deepEqual([...(await engine.scanDetached(10, 100))].toSorted(byText), detached.toSorted(byText));
    for (const sid of [1, 2]) {
      const wanted = inos.filter((inode) => model.sustained.has(`${sid}/${inode}`));
      assert.deepEqual([...(await engine.sustained(sid))].toSorted(byText), wanted.toSorted(byText));
    }
    const log = await engine.readLog(0, 1000);
    assert.deepEqual(
      log.entries.map(({ text }) => text),
      model.log,
    );
    for (const file of lockedFiles) {
      const [found] = await engine.read([{ kind: 'locks', ...file }]);
      const wanted = model.read({ kind: 'locks', ...file }) as readonly LockRecord[];
      const printed = (locks: readonly LockRecord[]): string[] =>
        locks.map(({ sid, owner, value }) => `${sid} ${owner} ${value.toString('hex')}`).toSorted();
      assert.deepEqual(printed(found), printed(wanted));
    }
    const chunks = (await collect(engine.scanAllChunks())).map(
      ({ ino, index, records }) => [`${ino}/${index}`, records] as const,
    );
    assert.deepEqual(new Map(chunks), model.chunks);
  }

  return { anyWrite, anyCheck, assertSame };
}
