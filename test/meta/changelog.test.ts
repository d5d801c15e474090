/**
 * The change log on each engine: it is complete (who knows nothing but its entries has the same tree in the end), it is read from any number
 * on and followed, and what is too old or too much goes. What the entries say is compared with the official client's under test/interop.
 */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import * as fc from 'fast-check';
import { ino, ROOT_INO } from '../../src/lib/int64.ts';
import { systemRandom } from '../../src/lib/random.ts';
import { followLog, trimLog } from '../../src/meta/changelog-read.ts';
import { parseEntry } from '../../src/meta/changelog-text.ts';
import type { MetaEngine, Write } from '../../src/meta/engine.ts';
import { changeSetting } from '../../src/meta/setting.ts';
import { hourly, trimChangeLog } from '../../src/meta/jobs.ts';
import { nullLogger } from '../../src/lib/log.ts';
import { removeQuota, setQuota } from '../../src/meta/quotas.ts';
import { NodeType, RenameFlag } from '../../src/meta/types.ts';
import { Volume } from '../../src/meta/volume.ts';
import { type Database, describeEngines } from './engines.ts';
import { Run, toNs } from './model-run.ts';
import { anyStep } from './random-steps.ts';
import { ReferenceFs, type RefNode, ROOT } from './reference-fs.ts';
import { Replayer } from './replay.ts';
import { name, openVolume, ROOT_USER as root, type TestVolume } from './volume.ts';

const RUNS = Number(process.env['JUICEPOD_MODEL_RUNS'] ?? 40);

async function textsOf(engine: MetaEngine): Promise<readonly string[]> {
  const { entries } = await engine.readLog(0, 100_000);
  return entries.map(({ text }) => text);
}

/** Operations with arguments and results, of what is not the background's. */
async function operationsOf(engine: MetaEngine, from = 0): Promise<readonly string[]> {
  return (await textsOf(engine))
    .slice(from)
    .map((text) => text.split('|')[1] ?? '')
    .filter((text) => !/^(INCR_COUNTER|NEWSESSION|SET\()/.test(text));
}

/** What a log says of a tree: all but device numbers, and what has no name any more. */
function told({ nodes }: ReferenceFs): ReadonlyMap<number, Partial<RefNode>> {
  const named = [...nodes].filter(([, { nlink }]) => nlink > 0);
  return new Map(named.map(([inode, { rdev: _rdev, opens: _opens, parent: _parent, ...node }]) => [inode, node]));
}

const logged = { changeLog: true, trashDays: 0 } as const;

describeEngines('the change log', (database: Database) => {
  for (const trash of [false, true])
    test(`played back it makes the same tree, trash ${trash ? 'on' : 'off'}`, async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(anyStep, { minLength: 1, maxLength: 60, size: 'max' }), async (steps) => {
          const cleanup: (() => Promise<void>)[] = [];
          const after = (done?: unknown): void => void cleanup.push(done as () => Promise<void>);
          try {
            const volume = await openVolume({ after }, database.newUrl(), { ...logged, trashDays: trash ? 1 : 0 });
            const [attr] = await volume.engine.nodes([ino(ROOT)]);
            assert.ok(attr);
            const [model, replayed] = [new ReferenceFs(trash), new ReferenceFs(trash)];
            for (const { mtime, mtimensec, ctime, ctimensec } of [attr])
              for (const each of [model, replayed])
                Object.assign(each.node(ROOT), { mtime: toNs(mtime, mtimensec), ctime: toNs(ctime, ctimensec) });
            const run = new Run(volume, model);
            for (const step of steps) await run.step(step);
            await run.finish();
            const replayer = new Replayer(replayed);
            for (const text of await textsOf(volume.engine)) {
              const entry = parseEntry(text);
              assert.ok(entry, text);
              replayer.apply(entry);
            }
            assert.deepEqual(told(replayed), told(model));
          } finally {
            for (const done of cleanup.toReversed()) await done();
          }
        }),
        { numRuns: Math.min(RUNS, Math.ceil(database.runs / 2)) },
      );
    });

  test('a volume that keeps no log gets no entries, and one that begins to keep one gets those of later changes', async (t) => {
    const volume = await openVolume(t, database.newUrl());
    await volume.meta.mkdir(root, ROOT_INO, name('before'), 0o755, 0);
    assert.deepEqual(await textsOf(volume.engine), []);
    await changeSetting(volume.engine, (format) => ({ ...format, changeLog: true }));
    const later = await volume.another();
    const { ino: made } = await later.mkdir(root, ROOT_INO, name('after'), 0o755, 0);
    assert.deepEqual(await operationsOf(volume.engine), [`CREATE(1,after,0,0,2,493,0,,${process.platform},true):${made}`]);
  });

  test('an entry is there exactly where its change is', async (t) => {
    const { engine, meta } = await openVolume(t, database.newUrl(), logged);
    const before = (await textsOf(engine)).length;
    await assert.rejects(meta.rmdir(root, ROOT_INO, name('nothing')), { code: 'ENOENT' });
    const made = await Promise.allSettled(Array.from({ length: 20 }, () => meta.mkdir(root, ROOT_INO, name('one'), 0o755, 0)));
    assert.equal(made.filter(({ status }) => status === 'fulfilled').length, 1);
    assert.equal((await operationsOf(engine, before)).length, 1);
  });

  test('what is one change here has the entries that consumers know', async (t) => {
    const { engine, meta } = await openVolume(t, database.newUrl(), logged);
    const before = (await textsOf(engine)).length;
    const file = await meta.tmpfile(root, ROOT_INO, 0o600, 0);
    await meta.link(root, file.ino, ROOT_INO, name('named'));
    const id = await meta.newSliceId();
    const parts = [
      { index: 0, pos: 0, off: 0, len: 10 },
      { index: 0, pos: 100, off: 10, len: 5 },
      { index: 1, pos: 7, off: 15, len: 1 },
    ];
    await meta.writeParts(root, file.ino, { id, size: 16 }, parts, 5_000_000_007n);
    await meta.rename(root, ROOT_INO, name('named'), ROOT_INO, name('moved'), RenameFlag.Whiteout);
    const i = file.ino;
    const os = process.platform;
    const operations = await operationsOf(engine, before);
    const numbers = engine.usageCounters === 'inline' ? [0, 0, 0] : database.largestValue === 65_535 ? [2, 2, 0] : [2, 2, 1];
    assert.deepEqual(operations.slice(0, 7), [
      `CREATE(1,#${i},0,0,1,384,0,,${os},false):${i}`,
      `UNLINK(1,#${i},0,true,false):${i}`,
      `LINK(${i},1,named,true):1`,
      `WRITE(${i},0,0,${id},10,5,7):${numbers[0]}`,
      `WRITE(${i},0,100,${id},5,5,7):${numbers[1]}`,
      `WRITE(${i},1,7,${id},1,5,7):${numbers[2]}`,
      `MOVE(1,named,1,moved,0,0,0):${i}`,
    ]);
    assert.match(operations[7] ?? '', new RegExp(`^CREATE\\(1,named,0,0,${NodeType.CharDevice},0,0,,${os},false\\):\\d+$`));
    assert.equal(operations.length, 8);
  });

  test('copies of trees, quotas and sessions are told of', async (t) => {
    const volume = await openVolume(t, database.newUrl(), logged);
    const { engine, meta } = volume;
    const tree = await meta.mkdir(root, ROOT_INO, name('tree'), 0o755, 0);
    const file = await meta.create(root, tree.ino, name('f'), 0o644, 0, true);
    await meta.release(file.ino);
    const before = (await textsOf(engine)).length;
    const copy = await meta.clone(root, tree.ino, ROOT_INO, name('copy'), { preserve: true, umask: 0o22 });
    const below = await meta.lookup(root, copy.ino, name('f'));
    await setQuota(engine, { kind: 'directory', path: '/copy' }, { inodes: 9 });
    await removeQuota(engine, { kind: 'directory', path: '/copy' });
    await setQuota(engine, { kind: 'user', uid: 7 }, { capacity: 4096 });
    await removeQuota(engine, { kind: 'user', uid: 7 });
    await meta.close();
    const operations = await operationsOf(engine, before);
    const wanted = [
      `CLONE(${tree.ino},1,copy,${copy.ino},2,18,true):${copy.ino}`,
      `CLONE(${file.ino},${copy.ino},f,${below.ino},2,18,false):${below.ino}`,
      `ATTACH(${copy.ino},1,copy)`,
      `SETQUOTA(0,${copy.ino},-1,9)`,
      `SETQUOTA(0,${copy.ino},-1,-1)`,
      `DELQUOTA(0,${copy.ino})`,
      'INIT_ENABLE_USERGROUPQUOTA()',
      'SETQUOTA(1,7,4096,-1)',
      'DELQUOTA(1,7)',
    ];
    // Between the last two are those of users that were counted.
    assert.deepEqual(
      operations.filter((text) => wanted.includes(text)),
      wanted,
    );
    assert.match(operations.at(-1) ?? '', /^CLEANSESSION\(\d+\)$/);
    const sessions = (await textsOf(engine)).filter((text) => text.includes('|NEWSESSION('));
    assert.equal(sessions.length, 1);
    assert.match(sessions[0] ?? '', /\|NEWSESSION\((\d+),\d+,\{%22Version%22:.*\)\|\(\1,\d+\)$/);
  });

  async function written(t: TestContext, count: number): Promise<{ readonly volume: TestVolume; readonly first: number }> {
    const volume = await openVolume(t, database.newUrl(), logged);
    const { newest } = await volume.engine.readLog(0, 1);
    const { clock } = volume;
    for (let at = 0; at < count; at++) {
      const text = `${clock.ns / 1_000_000_000n}.000000000|ACCESS(${at})|(9,${at + 1})`;
      const write: Write = { kind: 'appendLog', head: text, tail: '' };
      await volume.engine.commit({ checks: [], writes: [write] });
      clock.advance(60_000);
    }
    return { volume, first: newest + 1 };
  }

  test('it is read from any number on, in pieces, and tells what is no more there', async (t) => {
    const { volume, first } = await written(t, 10);
    const { engine } = volume;
    const { oldest, newest, entries } = await engine.readLog(first + 4, 3);
    assert.ok(oldest <= first && newest === first + 9);
    assert.deepEqual(
      entries.map(({ number, text }) => [number, text.split('|')[1]]),
      [4, 5, 6].map((at) => [first + at, `ACCESS(${at})`]),
    );
    assert.deepEqual((await engine.readLog(newest + 1, 5)).entries, []);
    assert.ok((await engine.trimLog({ before: first + 4 })) >= 4);
    assert.deepEqual(
      [(await engine.readLog(0, 1)).oldest, (await engine.readLog(0, 1)).entries[0]?.number],
      [first + 4, first + 4],
    );
    assert.equal(await engine.trimLog({ before: first + 4, lines: 100 }), 0);
    await engine.trimLog({ lines: 2 });
    assert.equal((await engine.readLog(0, 1)).oldest, first + 8);
    await engine.trimLog({ lines: 0 });
    const left = await engine.readLog(0, 10);
    assert.deepEqual([left.oldest, left.newest, left.entries], [left.newest + 1, left.newest, []]);
  });

  test('entries go that are too old, or too many; with no limit none', async (t) => {
    const { volume, first } = await written(t, 30);
    const { engine, clock } = volume;
    const count = async (): Promise<number> => (await engine.readLog(first, 1000)).entries.length;
    assert.equal(await trimLog(engine, { maxAge: 0, maxLines: 0 }, clock), 0);
    assert.equal(await count(), 30);
    // The last one is a minute old.
    await trimLog(engine, { maxAge: 20 * 60 + 1, maxLines: 0 }, clock);
    assert.equal(await count(), 20);
    await trimLog(engine, { maxAge: 20 * 60 + 1, maxLines: 5 }, clock);
    assert.equal(await count(), 5);
    await trimLog(engine, { maxAge: 1, maxLines: 5 }, clock);
    assert.equal(await count(), 0);
  });

  test('one client trims for all, every few minutes', async (t) => {
    const { volume, first } = await written(t, 10);
    const { engine, clock } = volume;
    const format = { ...volume.meta.format, changeLogMaxAge: 0, changeLogMaxLines: 3 };
    const client = (): Volume =>
      new Volume(engine, format, { clock, random: systemRandom, logger: nullLogger, readOnly: false, callbacks: {} });
    const { signal } = new AbortController();
    await trimChangeLog(client(), signal);
    const { oldest, newest } = await engine.readLog(0, 1);
    assert.equal(oldest, newest - 2);
    assert.ok(newest > first + 9, 'who trims says so');
    for (let at = 0; at < 5; at++)
      await engine.commit({ checks: [], writes: [{ kind: 'appendLog', head: '1.000000000|SET(a,1)|(0,1)', tail: '' }] });
    await trimChangeLog(client(), signal);
    assert.equal((await engine.readLog(0, 1)).oldest, oldest);
    clock.advance(300_000);
    await trimChangeLog(client(), signal);
    assert.ok((await engine.readLog(0, 1)).oldest > oldest);
    await hourly(client(), signal, ['changelog']);
  });

  test('who follows it gets every entry once and in order, while others write, and ends when told to', async (t) => {
    const volume = await openVolume(t, database.newUrl(), logged);
    const { engine, clock } = volume;
    const { newest } = await engine.readLog(0, 1);
    const ending = new AbortController();
    const numbers: number[] = [];
    const operations: string[] = [];
    const following = (async (): Promise<void> => {
      for await (const entries of followLog(engine, { after: newest, clock, signal: ending.signal }))
        for (const { number, text } of entries) {
          numbers.push(number);
          operations.push(text.split('|')[1] ?? '');
          if (operations.filter((each) => each.startsWith('CREATE')).length === 60) ending.abort();
        }
    })();
    const clients = [volume.meta, await volume.another(), await volume.another()];
    await Promise.all(
      clients.map(async (meta, client) => {
        for (let at = 0; at < 20; at++) await meta.mkdir(root, ROOT_INO, name(`${client}-${at}`), 0o755, 0);
      }),
    );
    await following;
    assert.deepEqual(
      numbers,
      [...new Set(numbers)].toSorted((a, b) => a - b),
    );
    for (const client of [0, 1, 2]) {
      const made = operations.flatMap((text) => new RegExp(`^CREATE\\(1,${client}-(\\d+),`).exec(text)?.[1] ?? []).map(Number);
      assert.deepEqual(
        made,
        Array.from({ length: 20 }, (_, at) => at),
      );
    }
  });

  test('who begins behind what was removed is told so', async (t) => {
    const { volume, first } = await written(t, 5);
    const { engine, clock } = volume;
    await engine.trimLog({ before: first + 3 });
    const missed: (readonly [number, number])[] = [];
    const numbers: number[] = [];
    const options = {
      after: first,
      once: true,
      onMissed: (from: number, to: number) => void missed.push([from, to]),
      clock,
      signal: new AbortController().signal,
    };
    for await (const entries of followLog(engine, options)) numbers.push(...entries.map(({ number }) => number));
    assert.deepEqual(missed, [[first + 1, first + 2]]);
    assert.deepEqual(numbers, [first + 3, first + 4]);
  });
});
