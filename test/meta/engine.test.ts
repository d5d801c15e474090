/** The suite of the engine seam: every kind of read, check and write, scans, sessions, and many writers at once. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import * as fc from 'fast-check';
import { type Ino, ino, ROOT_INO, TRASH_INO } from '../../src/lib/int64.ts';
import type { MetaEngine, Transaction, Write } from '../../src/meta/engine.ts';
import { type Attr, NodeType } from '../../src/meta/types.ts';
import { type Database, describeEngines, openUrl } from './engines.ts';
import { byText, collect, counterNames, object, sample, universe } from './random-transactions.ts';
import { ReferenceEngine } from './reference-engine.ts';
import { until } from '../until.ts';

const nowNs = 1_795_256_351_123_456_789n;

const write = (...writes: Write[]): Transaction => ({ checks: [], writes });

describeEngines(
  'the engine seam',
  (database: Database) => {
    const { anyCheck, anyWrite, assertSame } = universe(database.largest);
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

    test('a setting is replaced only where it is as it was read, by one of many', async (t) => {
      const engine = await open(t);
      const replace = async (expect: string, by: string): Promise<boolean> =>
        (await engine.commit({ checks: [{ kind: 'setting', expect }], writes: [{ kind: 'putSetting', text: by }] })).ok;
      const text = '{"name":"käse \\u003c\n"}';
      assert.ok(await engine.writeSetting(text, { trash: false, nowNs }));
      assert.equal(await replace('{}', '{"wrong":true}'), false);
      const results = await Promise.all([1, 2, 3].map((n) => replace(text, `{"n":${n}}`)));
      assert.deepEqual(
        results.map(Number).toSorted((a, b) => a - b),
        [0, 0, 1],
      );
      assert.equal(await engine.readSetting(), `{"n":${results.indexOf(true) + 1}}`);
    });

    test('random transactions do what the reference does, and a failed one does nothing', async (t) => {
      const url = database.newUrl();
      const engine = await open(t, url);
      await fc.assert(
        fc.asyncProperty(
          fc.array(object({ checks: fc.array(anyCheck, { maxLength: 3 }), writes: fc.array(anyWrite, { maxLength: 6 }) }), {
            maxLength: database.runs < 100 ? 80 : 12,
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
        { numRuns: database.runs },
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
        for (const entry of batch) seen.set(entry.name.toString(), entry.ino);
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
      await engine.commit(
        write({ kind: 'appendSlices', ino: ino(55), index: 1, records: Buffer.alloc(24), onlyExisting: false }),
      );
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
          ...five.map((n): Write => ({ kind: 'addDetached', ino: ino(n + 10), time: n })),
          ...five.map((n): Write => ({ kind: 'delaySlices', id: n, time: n, slices: Buffer.alloc(12) })),
          ...five.map((n): Write => ({ kind: 'addSliceRef', id: n + 20, size: 1, delta: -1 })),
        ),
      );
      assert.deepEqual(
        [
          (await engine.scanDelfiles(9, 2)).length,
          (await engine.scanDelayed(9, 2)).length,
          (await engine.scanUnreferenced(2)).length,
          (await engine.scanDetached(9, 2)).length,
        ],
        [2, 2, 2, 2],
      );
      assert.equal((await engine.scanDelfiles(3, 9)).length, 2, 'marked before, not at');
      assert.equal((await engine.scanDelayed(3, 9)).length, 2);
      assert.deepEqual(
        [...(await engine.scanDetached(3, 9))].toSorted((a, b) => a - b),
        [11, 12],
      );
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
      await engine.putSession(2, 400, '{"Version":"next"}', true);
      assert.deepEqual(
        (await engine.sessions()).find(({ sid }) => sid === 2),
        { sid: 2, expire: 400, info: '{"Version":"next"}' },
      );
      await engine.removeSession(1);
      assert.deepEqual(
        (await engine.sessions()).map(({ sid }) => sid),
        [2],
      );
    });

    test('quotas of all kinds are listed, and the three kinds do not mix', async (t) => {
      const { engine } = await volume(t);
      const keys = [
        { kind: 'directory', id: ino(5) },
        { kind: 'user', id: 5 },
        { kind: 'group', id: 5 },
      ] as const;
      const limits = { space: 2 ** 50, inodes: -1 };
      for (const [at, quota] of keys.entries()) {
        const usage = { space: at * 4096, inodes: -at };
        await engine.commit(write({ kind: 'putQuota', quota, limits, usage }));
      }
      for (const [at, quota] of keys.entries()) {
        const record = { quota, limits, used: { space: at * 4096, inodes: 0 - at } };
        assert.deepEqual((await collect(engine.scanQuotas(quota.kind))).flat(), [record]);
      }
      await engine.commit(write({ kind: 'removeQuotas', of: 'user' }));
      assert.deepEqual(await collect(engine.scanQuotas('user')), []);
      assert.equal((await collect(engine.scanQuotas('group'))).flat().length, 1);
    });

    test('the setting is changed only where it is what was read', async (t) => {
      const { engine } = await volume(t);
      const text = (await engine.readSetting()) ?? '';
      const change = (expect: string, to: string) =>
        engine.commit({ checks: [{ kind: 'setting', expect }], writes: [{ kind: 'putSetting', text: to }] });
      assert.equal((await change('something else', 'lost')).ok, false);
      assert.equal(await engine.readSetting(), text);
      assert.equal((await change(text, `${text} `)).ok, true);
      assert.equal(await engine.readSetting(), `${text} `);
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

    test('an announcement reaches who watches the file, from another client too, until they stop', async (t) => {
      const { url, engine } = await volume(t);
      // Where nothing is announced, who waits only looks.
      if (!engine.watchLocks) return;
      const other = await open(t, url);
      const heard: string[] = [];
      const stop = await engine.watchLocks({ of: 'posix', ino: ino(7) }, () => heard.push('posix 7'));
      await engine.watchLocks({ of: 'flock', ino: ino(7) }, () => heard.push('flock 7'));
      await engine.watchLocks({ of: 'posix', ino: ino(7) }, () => heard.push('posix 7, the second'));
      // A connection says so when it is there: everybody is woken once.
      await new Promise((resolve) => setTimeout(resolve, 300));
      heard.length = 0;
      const hears = async (...wanted: string[]): Promise<void> => {
        await until(`all of ${wanted.join(', ')} are heard`, () => heard.length >= wanted.length, 5);
        assert.deepEqual(heard.splice(0).toSorted(), wanted.toSorted());
      };
      await other.commit(write({ kind: 'announceLocks', of: 'posix', ino: ino(7) }));
      await hears('posix 7', 'posix 7, the second');
      await other.commit(
        write({ kind: 'announceLocks', of: 'posix', ino: ino(8) }, { kind: 'announceLocks', of: 'flock', ino: ino(7) }),
      );
      await hears('flock 7');
      stop();
      await engine.commit(write({ kind: 'announceLocks', of: 'posix', ino: ino(7) }));
      await hears('posix 7, the second');
      // A session that ends announces what it releases.
      const value = Buffer.from('W');
      await other.commit(write({ kind: 'putLock', of: 'flock', ino: ino(7), sid: 5, owner: 1n, value }));
      assert.deepEqual(await engine.lockedFiles(5), [{ of: 'flock', ino: ino(7) }]);
      await other.removeSession(5);
      await hears('flock 7');
      assert.deepEqual(await engine.lockedFiles(5), []);
    });

    test('nothing may be asked for, and is answered', async (t) => {
      const { engine } = await volume(t);
      assert.deepEqual(await engine.read([]), []);
      assert.deepEqual(await engine.nodes([]), []);
      assert.deepEqual(await engine.commit({ checks: [], writes: [] }), { ok: true, results: [] });
    });

    test('an aborted read or commit is not begun', async (t) => {
      const { engine } = await volume(t);
      const signal = AbortSignal.abort();
      await assert.rejects(engine.commit(write({ kind: 'setCounter', name: 'usedSpace', value: 9 }), signal));
      assert.deepEqual(await engine.read([{ kind: 'counter', name: 'usedSpace' }]), [0]);
    });
  },
  { everywhere: true },
);
