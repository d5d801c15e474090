/** Copies that share their data: of random trees, of trees that others write into, and of those that are not finished. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { type Ino, ROOT_INO, TRASH_INO } from '../../src/lib/int64.ts';
import { nullLogger } from '../../src/lib/log.ts';
import { systemRandom } from '../../src/lib/random.ts';
import { cleanDetached } from '../../src/meta/detached.ts';
import type { MetaEngine } from '../../src/meta/engine.ts';
import { VolumeMeta } from '../../src/meta/meta.ts';
import { setQuota } from '../../src/meta/quotas.ts';
import { type CloneOptions, type Meta, NodeFlag, NodeType } from '../../src/meta/types.ts';
import { Volume } from '../../src/meta/volume.ts';
import { type Database, describeEngines } from '../meta/engines.ts';
import { fails, list, name, openVolume, ROOT_USER as root, type TestVolume, user } from '../meta/volume.ts';
import { all, assertSound, look, make, planned, references, type Seen } from './trees.ts';

const PRESERVE: CloneOptions = { preserve: true, umask: 0o022 };
const MINE: CloneOptions = { preserve: false, umask: 0o022 };
const KIB = 1024;

/** Both are the same but for their inodes; links in the source are files of their own in the copy. */
function assertCopied(source: Seen, copy: Seen, path = ''): void {
  const comparable = ({ attr }: Seen): object => ({
    ...attr,
    parent: 0,
    ...(attr.type === NodeType.Directory ? {} : { nlink: 1 }),
  });
  assert.deepEqual(comparable(copy), comparable(source), `attributes of ${path}`);
  assert.notEqual(copy.ino, source.ino);
  if (copy.attr.type !== NodeType.Directory) assert.equal(copy.attr.nlink, 1);
  assert.deepEqual(
    { ...copy, attr: 0, ino: 0, children: [...copy.children.keys()].toSorted() },
    { ...source, attr: 0, ino: 0, children: [...source.children.keys()].toSorted() },
    path,
  );
  for (const [child, below] of source.children) assertCopied(below, copy.children.get(child) as Seen, `${path}/${child}`);
}

const detached = (volume: TestVolume): Promise<readonly Ino[]> => volume.engine.scanDetached(2 ** 31, 100);

/** The volume's counters, with everything written. */
async function usage({ meta }: TestVolume): Promise<{ readonly bytes: number; readonly inodes: number }> {
  return meta.usage();
}

async function newFile(meta: Meta, parent: Ino, text: string, slices = 1): Promise<Ino> {
  const { ino } = await meta.mknod(root, parent, name(text), NodeType.File, 0o644, 0, 0);
  for (let index = 0; index < slices; index++)
    await meta.writeSlice(root, ino, index, 0, { id: await meta.newSliceId(), size: 4 * KIB }, 1n);
  return ino;
}

describeEngines('clone', (database: Database) => {
  const volume = (t: Parameters<typeof openVolume>[0], input = {}) => openVolume(t, database.newUrl(), input);

  test('a random tree and its copy are the same, share every slice, and go by themselves', async (t) => {
    await fc.assert(
      fc.asyncProperty(planned, fc.boolean(), async (plan, preserve) => {
        const opened = await volume(t, { enableAcl: true });
        const { meta, engine, deleted } = opened;
        const source = await make(meta, ROOT_INO, 'source', plan);
        const before = await look(meta, source);
        const used = await usage(opened);
        const counted = new Map(await references(engine));
        opened.clock.advance(5000);
        let cloned = 0;
        const options = { preserve, umask: 0, threads: 3, onCloned: (count: number) => void (cloned += count) };
        const { ino } = await meta.clone(root, source, ROOT_INO, name('copy'), options);
        const copy = await look(meta, ino);
        assert.equal(cloned, [...all(copy)].length);
        assert.deepEqual(await detached(opened), []);
        assert.deepEqual(
          (await list(meta, ROOT_INO)).map(([each]) => each),
          ['copy', 'source'],
        );
        if (preserve) assertCopied(before, copy);
        else
          for (const [path, { attr }] of all(copy)) {
            assert.deepEqual([attr.uid, attr.gid, attr.mtime], [0, 0, Math.floor(opened.clock.now() / 1000)], path);
            const original = [...all(before)].find(([each]) => each === path)?.[1].attr;
            assert.equal(attr.mode & 0o777, original?.mode && original.mode & 0o777, path);
            if (attr.type === NodeType.File && original?.uid !== 0) assert.equal(attr.mode & 0o6000, 0, path);
          }
        await assertSound(meta, engine, copy);
        assert.equal((await meta.getattr(root, ROOT_INO)).nlink, 4);
        const after = await usage(opened);
        const { size, files, dirs } = await meta.usageBelow(ino, { recursive: true, strict: true });
        assert.deepEqual(after, { bytes: used.bytes + size, inodes: used.inodes + files + dirs });
        // Chunks beyond the end of a file are nobody's business.
        for (const [id, count] of await references(engine)) assert.ok(count >= (counted.get(id) ?? 0), `slice ${id}`);
        await meta.removeTree(root, ROOT_INO, name('source'), { skipTrash: true });
        await meta.close();
        const left = await opened.another();
        const shared = new Set((await references(engine)).keys());
        for (const { id } of deleted) assert.ok(!shared.has(id), `slice ${id} was deleted and is still referred to`);
        const again = await look(left, ino);
        assert.deepEqual(
          [...all(again)].map(([path, { data }]) => [path, data]),
          [...all(copy)].map(([path, { data }]) => [path, data]),
        );
        await left.removeTree(root, ROOT_INO, name('copy'), { skipTrash: true });
        await left.close();
        assert.deepEqual(new Set(deleted.map(({ id }) => id)).size, deleted.length, 'each slice is deleted once');
        assert.deepEqual([...(await references(engine)).keys()], []);
        assert.deepEqual(
          [...counted.keys()].toSorted((a, b) => a - b),
          deleted.map(({ id }) => id).toSorted((a, b) => a - b),
        );
      }),
      { numRuns: Math.min(25, database.runs) },
    );
  });

  test('a file that is written to and compacted is copied as it was at one moment', async (t) => {
    const opened = await volume(t);
    const { meta } = opened;
    const writer = await opened.another();
    const dir = (await meta.mkdir(root, ROOT_INO, name('d'), 0o755, 0)).ino;
    const file = await newFile(meta, dir, 'f', 2);
    const rounds = new Map<number, number>();
    const stop = new AbortController();
    let round = 0;
    const write = async (): Promise<void> => {
      // In turn to both chunks: at any moment they are of neighbouring rounds.
      while (!stop.signal.aborted) {
        await new Promise((done) => setImmediate(done));
        const id = await writer.newSliceId();
        round++;
        rounds.set(id, round);
        await writer.writeSlice(root, file, round % 2, 0, { id, size: 4 * KIB }, BigInt(round));
        if (round % 7 !== 0) continue;
        const plan = await writer.planCompaction(file, round % 2);
        const last = plan?.pieces.at(-1);
        if (!plan || !last) continue;
        const merged = await writer.newSliceId();
        rounds.set(merged, rounds.get(last.id) ?? 0);
        await writer.commitCompaction(plan, { id: merged, size: plan.size });
      }
    };
    const writing = write();
    const seen = new Set<number>();
    for (let count = 0; count < 12; count++) {
      const top = await meta.clone(root, dir, ROOT_INO, name(`copy${count}`), PRESERVE);
      const single = await meta.clone(root, file, ROOT_INO, name(`single${count}`), PRESERVE);
      const inTree = await meta.lookup(root, top.ino, name('f'));
      for (const copy of [inTree.ino, single.ino]) {
        const [even = 0, odd = 0] = await Promise.all(
          [0, 1].map(async (index) => rounds.get((await meta.readChunk(copy, index)).at(-1)?.id ?? 0)),
        );
        if (even + odd === 0) continue;
        assert.ok(Math.abs(even - odd) <= 1 || Math.min(even, odd) === 0, `rounds ${even} and ${odd} in one copy`);
        seen.add(Math.max(even, odd));
      }
    }
    stop.abort();
    await writing;
    assert.ok(seen.size > 1, 'the file was written to meanwhile');
  });

  test('what changes between the look at a file and the commit of its copy is looked at again', async (t) => {
    for (const [what, inTree] of [
      ['written', true],
      ['written', false],
      ['compacted', true],
      ['compacted', false],
      ['removed', true],
    ] as const) {
      const { meta, engine, deleted, clock } = await volume(t);
      const dir = (await meta.mkdir(root, ROOT_INO, name('d'), 0o755, 0)).ino;
      const file = await newFile(meta, dir, 'f', 2);
      for (let at = 0; at < 3; at++)
        await meta.writeSlice(root, file, 0, at * KIB, { id: await meta.newSliceId(), size: KIB }, 2n);
      const change = {
        written: async () => {
          for (const index of [0, 1])
            await meta.writeSlice(root, file, index, 0, { id: await meta.newSliceId(), size: 8 * KIB }, 3n);
        },
        compacted: async () => {
          const plan = await meta.planCompaction(file, 0);
          assert.ok(plan && (await meta.commitCompaction(plan, { id: await meta.newSliceId(), size: plan.size })));
        },
        removed: () => meta.unlink(root, dir, name('f')),
      };
      let changed = false;
      const commit: MetaEngine['commit'] = async (transaction, signal) => {
        const copies = transaction.writes.some((write) => write.kind === 'appendSlices');
        if (copies && !changed) {
          changed = true;
          await change[what]();
        }
        return engine.commit(transaction, signal);
      };
      const late = new VolumeMeta(
        new Proxy(engine, {
          get: (target, key) => {
            const member: unknown = Reflect.get(target, key, target);
            if (key === 'commit') return commit;
            return typeof member === 'function' ? (member.bind(target) as unknown) : member;
          },
        }),
        meta.format,
        { clock },
      );
      const { ino } = await late.clone(root, inTree ? dir : file, ROOT_INO, name('copy'), PRESERVE);
      assert.ok(changed);
      const copy = await look(meta, ino);
      if (what === 'removed') assert.deepEqual([...copy.children.keys()], []);
      else {
        const { data } = inTree ? (copy.children.get('f') as Seen) : copy;
        assert.deepEqual(data, (await look(meta, file)).data, `${what}, in a tree: ${inTree}`);
        const gone = new Set(deleted.map(({ id }) => id));
        for (const id of (await references(engine)).keys()) assert.ok(!gone.has(id), `slice ${id} is deleted`);
      }
    }
  });

  test('names that come and go while a tree is copied leave a sound copy', async (t) => {
    const opened = await volume(t);
    const { meta, engine } = opened;
    const writer = await opened.another();
    const dir = (await meta.mkdir(root, ROOT_INO, name('d'), 0o755, 0)).ino;
    for (let at = 0; at < 8; at++) {
      const { ino } = await meta.mkdir(root, dir, name(`sub${at}`), 0o755, 0);
      for (let file = 0; file < 8; file++) await newFile(meta, ino, `f${file}`);
    }
    const stop = new AbortController();
    const change = async (): Promise<void> => {
      for (let at = 0; !stop.signal.aborted; at++) {
        await new Promise((done) => setImmediate(done));
        const sub = await writer.lookup(root, dir, name(`sub${at % 8}`)).catch(() => undefined);
        if (!sub) await writer.mkdir(root, dir, name(`sub${at % 8}`), 0o755, 0);
        else if (at % 3 === 0) await writer.removeTree(root, dir, name(`sub${at % 8}`), { threads: 2 });
        else await newFile(writer, sub.ino, `n${at}`);
      }
    };
    const changing = change();
    for (let count = 0; count < 5; count++) {
      const { ino } = await meta.clone(root, dir, ROOT_INO, name(`copy${count}`), { ...PRESERVE, threads: 4 });
      await assertSound(meta, engine, await look(meta, ino));
    }
    stop.abort();
    await changing;
    assert.deepEqual(await detached(opened), []);
  });

  test('interrupted, nothing of a copy is left, and nothing is charged', async (t) => {
    const opened = await volume(t, { dirStats: true });
    const { meta, engine } = opened;
    const dir = (await meta.mkdir(root, ROOT_INO, name('d'), 0o755, 0)).ino;
    for (let at = 0; at < 5; at++) {
      const { ino } = await meta.mkdir(root, dir, name(`sub${at}`), 0o755, 0);
      for (let file = 0; file < 20; file++) await newFile(meta, ino, `f${file}`);
    }
    const before = await usage(opened);
    const counted = await references(engine);
    for (const enough of [1, 2, 30, 80]) {
      const stop = new AbortController();
      let cloned = 0;
      const onCloned = (count: number): void => {
        if ((cloned += count) >= enough) stop.abort();
      };
      const cloning = meta.clone(root, dir, ROOT_INO, name('copy'), { ...MINE, onCloned, signal: stop.signal });
      await assert.rejects(cloning, { name: 'AbortError' });
      assert.ok(cloned >= enough);
      assert.deepEqual(await list(meta, ROOT_INO), [['d', dir]]);
      assert.deepEqual(await detached(opened), []);
      assert.deepEqual(await usage(opened), before);
    }
    await meta.close();
    assert.deepEqual(await references(engine), counted);
  });

  test('a copy whose client died is removed by the job a day later, not before', async (t) => {
    const opened = await volume(t);
    const { meta, engine, clock } = opened;
    const before = await usage(opened);
    const dir = (await meta.mkdir(root, ROOT_INO, name('half'), 0o755, 0)).ino;
    await newFile(meta, dir, 'f');
    const attr = await meta.getattr(root, dir);
    // As a client leaves it that dies before the tree has its name.
    await engine.commit({
      checks: [],
      writes: [
        { kind: 'removeEntry', parent: ROOT_INO, name: name('half') },
        { kind: 'touchNode', ino: ROOT_INO, sec: 1, nsec: 0, nlink: -1 },
        { kind: 'putNode', ino: dir, attr: { ...attr, parent: 0 as Ino } },
        { kind: 'addDetached', ino: dir, time: Math.floor(clock.now() / 1000) },
      ],
    });
    const job = new Volume(engine, meta.format, {
      clock,
      random: systemRandom,
      logger: nullLogger,
      readOnly: false,
      callbacks: { deleteSlice: async () => {} },
    });
    const { signal } = new AbortController();
    clock.advance(23 * 3_600_000);
    await cleanDetached(job, signal);
    assert.deepEqual(await detached(opened), [dir]);
    clock.advance(2 * 3_600_000);
    await cleanDetached(job, signal);
    assert.deepEqual(await detached(opened), []);
    await job.stats.flushAll();
    await job.deletions.settled();
    assert.deepEqual(await usage(opened), before);
    assert.deepEqual([...(await references(engine)).keys()], []);
    await fails('ENOENT', meta.getattr(root, dir));
  });

  test('what may not be copied is refused, and nothing is made', async (t) => {
    const opened = await volume(t, { trashDays: 1 });
    const { meta } = opened;
    const dir = (await meta.mkdir(root, ROOT_INO, name('d'), 0o755, 0)).ino;
    const file = await newFile(meta, dir, 'f');
    await meta.setattr(root, file, { mode: 0o600 });
    const home = (await meta.mkdir(root, ROOT_INO, name('home'), 0o777, 0)).ino;
    const clone = (ctx = root, source = dir, parent = ROOT_INO, text = 'copy') =>
      meta.clone(ctx, source, parent, name(text), MINE);
    await fails('EEXIST', clone(root, dir, ROOT_INO, 'home'));
    await fails('EEXIST', clone(root, file, dir, 'f'));
    await fails('ENOENT', clone(root, 9999 as Ino));
    await fails('ENOENT', clone(root, dir, 9999 as Ino));
    await fails('ENOTDIR', clone(root, dir, file));
    await fails('EPERM', clone(root, TRASH_INO));
    await fails('EPERM', clone(root, dir, TRASH_INO));
    await fails('EPERM', clone(root, dir, ROOT_INO, '.trash'));
    await fails('ENAMETOOLONG', clone(root, dir, ROOT_INO, 'x'.repeat(256)));
    await fails('EINVAL', clone(root, dir, ROOT_INO, 'a/b'));
    await fails('EACCES', clone(user(1000), dir, dir));
    await fails('EACCES', clone(user(1000), file, home));
    // The tree is begun, and taken back when its file turns out to be somebody else's.
    await fails('EACCES', clone(user(1000), dir, home));
    assert.deepEqual(await list(meta, home), []);
    assert.deepEqual(await detached(opened), []);
    await setQuota(opened.engine, { kind: 'directory', path: '/home' }, { capacity: 4096 }, {});
    const other = await opened.another();
    await fails('EDQUOT', other.clone(root, dir, home, name('copy'), MINE));
    const reader = await opened.another({ readOnly: true });
    await fails('EROFS', reader.clone(root, dir, ROOT_INO, name('copy'), MINE));
    assert.deepEqual(await detached(opened), []);
  });

  test('a copy is its maker’s: owner, mode without umask, no set-id of another; flags stay behind', async (t) => {
    const { meta } = await volume(t);
    const home = (await meta.mkdir(root, ROOT_INO, name('home'), 0o777, 0)).ino;
    const file = await newFile(meta, ROOT_INO, 'f');
    await meta.setattr(root, file, { mode: 0o6777 });
    await meta.setattr(root, file, { flags: NodeFlag.Immutable });
    const mine = await meta.clone(user(1000, 100), file, home, name('mine'), { preserve: false, umask: 0o027 });
    const { uid, gid, mode, flags } = await meta.getattr(root, mine.ino);
    assert.deepEqual({ uid, gid, mode, flags }, { uid: 1000, gid: 100, mode: 0o750, flags: 0 });
    const kept = await meta.clone(user(1000, 100), file, home, name('kept'), PRESERVE);
    const attr = await meta.getattr(root, kept.ino);
    assert.deepEqual([attr.uid, attr.gid, attr.mode], [1000, 100, 0o777]);
    const roots = await meta.getattr(root, (await meta.clone(root, file, home, name('roots'), PRESERVE)).ino);
    assert.deepEqual([roots.uid, roots.gid, roots.mode], [0, 0, 0o6777]);
  });

  test('quotas of directories and of owners count a copy as what it is', async (t) => {
    const opened = await volume(t, { userGroupQuota: true });
    const { engine } = opened;
    const dir = (await opened.meta.mkdir(root, ROOT_INO, name('d'), 0o755, 0)).ino;
    const home = (await opened.meta.mkdir(root, ROOT_INO, name('home'), 0o777, 0)).ino;
    for (let at = 0; at < 3; at++) await newFile(opened.meta, dir, `f${at}`, 2);
    await setQuota(engine, { kind: 'directory', path: '/home' }, { capacity: 2 ** 40 }, {});
    await setQuota(engine, { kind: 'user', uid: 1000 }, { capacity: 2 ** 40 }, {});
    await opened.meta.close();
    const meta = await opened.another();
    await meta.clone(user(1000), dir, home, name('copy'), MINE);
    const { size, files, dirs } = await meta.usageBelow(dir, { recursive: true, strict: true });
    await meta.close();
    const [onDirectory, ofUser] = await engine.read([
      { kind: 'quota', quota: { kind: 'directory', id: home } },
      { kind: 'quota', quota: { kind: 'user', id: 1000 } },
    ]);
    assert.deepEqual({ ...onDirectory?.used }, { space: size, inodes: files + dirs });
    assert.deepEqual({ ...ofUser?.used }, { space: size, inodes: files + dirs });
  });
});
