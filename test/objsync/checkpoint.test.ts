/**
 * A run that ends early, at any point, is gone on with by another one, from what was noted then or some time before; in the end the
 * destination is as if nobody had interrupted it, and what was done is not listed again.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import * as fc from 'fast-check';
import { systemClock } from '../../src/lib/clock.ts';
import { Checkpoint } from '../../src/objsync/checkpoint.ts';
import type { RunOptions } from '../../src/objsync/options.ts';
import type { ProgressState } from '../../src/objsync/progress.ts';
import { Run } from '../../src/objsync/run.ts';
import type { Entry, Side } from '../../src/objsync/side.ts';
import { everything, type FileSeen, fill, forever, type Kind, look, makePlaces, type Places } from './sides.ts';

let places: Places;
before(async () => {
  places = await makePlaces();
});
after(() => places[Symbol.asyncDispose]());

/** A side that tells of each change before it is made, which may fail it, and of each entry that it lists. */
function watched(
  side: Side,
  told: { readonly change?: (key: string) => void | Promise<void>; readonly listed?: (entry: Entry) => void },
): Side {
  const listed = (list: AsyncIterable<Entry>): AsyncIterable<Entry> => ({
    async *[Symbol.asyncIterator]() {
      for await (const entry of list) {
        told.listed?.(entry);
        yield entry;
      }
    },
  });
  return {
    description: side.description,
    ...(side.files ? { files: side.files } : {}),
    list: (prefix, options) => listed(side.list(prefix, options)),
    ...(side.level ? { level: (prefix, options) => listed(side.level!(prefix, options)) } : {}),
    head: (key, follow, signal) => side.head(key, follow, signal),
    read: (entry, offset, length, signal) => side.read(entry, offset, length, signal),
    partBytes: (size) => side.partBytes(size),
    async put(key, body, signal) {
      await told.change?.(key);
      await side.put(key, body, signal);
    },
    begin: (key, size, signal) => side.begin(key, size, signal),
    async remove(key, signal) {
      await told.change?.(key);
      return side.remove(key, signal);
    },
    close: () => side.close(),
  };
}

/** As it comes back from a file. */
const kept = (state: ProgressState): ProgressState => JSON.parse(JSON.stringify(state)) as ProgressState;

const path = fc
  .tuple(fc.constantFrom('a', 'b', 'd/', 'd/e/', 'f/', 'f/g/', 'z/'), fc.constantFrom('1', '2', '3', 'x-', 'é'))
  .map((parts) => parts.join(''));
const content = fc.record({
  body: fc.constantFrom('', 'x', 'y', 'xx', 'longer'),
  mtime: fc.constantFrom(1_600_000_000, 1_700_000_000),
});
const files = fc.array(fc.tuple(path, content), { maxLength: 20 }).map((pairs) => new Map(pairs));
const flags = fc.record({
  update: fc.boolean(),
  deleteDst: fc.boolean(),
  dirs: fc.boolean(),
  checkAll: fc.boolean(),
  listThreads: fc.integer({ min: 1, max: 3 }),
  listDepth: fc.integer({ min: 0, max: 3 }),
  threads: fc.integer({ min: 1, max: 4 }),
});

type Tree = ReadonlyMap<string, FileSeen>;

async function both(kind: Kind, source: Tree, destination: Tree): Promise<readonly [Side, Side]> {
  const sides = [await places.make(kind), await places.make(kind)] as const;
  await fill(sides[0], source);
  await fill(sides[1], destination);
  return sides;
}

const bodies = (found: Tree): [string, string][] =>
  [...found].map(([name, { body }]): [string, string] => [name, body]).toSorted(([a], [b]) => (a < b ? -1 : 1));

for (const kind of ['folder', 'store'] as const)
  test(`interrupted anywhere and gone on with, a copy between two of kind ${kind} ends as one that was not`, async () => {
    await fc.assert(
      fc.asyncProperty(
        files,
        files,
        flags,
        fc.array(fc.tuple(fc.nat(12), fc.nat(6)), { minLength: 1, maxLength: 3 }),
        async (inSource, inDestination, options, breaks) => {
          const at = await both(kind, inSource, inDestination);
          await new Run(...at, { ...everything, ...options }).run();
          const expected = bodies(await look(at[1], true));

          const [source, destination] = await both(kind, inSource, inDestination);
          let resume: ProgressState | undefined;
          for (const [noted, more] of breaks) {
            const ending = new AbortController();
            let state: ProgressState | undefined;
            let changes = 0;
            const change = async (key: string): Promise<void> => {
              if (changes === noted) state = kept(run.progress.state());
              if (changes++ === noted + more) ending.abort(new Error('interrupted'));
              // Some are under way for longer, and then the end may come before theirs.
              for (let turns = key.length % 3; turns > 0; turns--) await setImmediate();
              ending.signal.throwIfAborted();
            };
            const run: Run = new Run(source, watched(destination, { change }), {
              ...everything,
              ...options,
              signal: ending.signal,
              ...(resume ? { resume } : {}),
            });
            await run.run().catch((error: unknown) => assert.equal((error as Error).message, 'interrupted'));
            resume = state ?? kept(run.progress.state());
          }
          const last = new Run(source, destination, { ...everything, ...options, ...(resume ? { resume } : {}) });
          const tally = await last.run();
          assert.equal(tally.failed, 0);
          assert.deepEqual(bodies(await look(destination, true)), expected);
          assert.deepEqual(last.progress.state(), { walks: [], lines: 0, failed: [] });
          for (const side of [...at, source, destination]) await side.close();
        },
      ),
      { numRuns: kind === 'folder' ? 60 : 120, interruptAfterTimeLimit: 60_000 },
    );
  });

const many = (count: number): Map<string, FileSeen> =>
  new Map(
    Array.from({ length: count }, (_, at) => [`d${at % 7}/${String(at).padStart(5, '0')}`, { body: 'x', mtime: 1_600_000_000 }]),
  );

for (const listThreads of [1, 3])
  test(`what was done is not listed again, with ${listThreads} listing`, async () => {
    const [source, destination] = await both('store', many(2100), new Map());
    const ending = new AbortController();
    let changes = 0;
    const change = (): void => {
      if (++changes === 1500) ending.abort(new Error('interrupted'));
    };
    const options: RunOptions = { ...everything, listThreads };
    const first = new Run(source, watched(destination, { change }), { ...options, signal: ending.signal });
    await assert.rejects(first.run(), /interrupted/);
    let listed = 0;
    const again = watched(source, { listed: () => listed++ });
    const { copied, skipped } = await new Run(again, destination, { ...options, resume: kept(first.progress.state()) }).run();
    assert.equal((await look(destination)).size, 2100);
    assert.ok(copied >= 600 && copied + skipped <= 610, `copied ${copied}, skipped ${skipped}`);
    assert.ok(listed <= 630, `listed ${listed}`);
  });

test('what failed is tried again alone, and what has gone meanwhile is forgotten', async () => {
  const [source, destination] = await both('store', many(50), new Map([['extra', { body: 'x', mtime: 1 }]]));
  const broken = new Set(['d0/00007', 'd3/00010', 'd6/00013', 'extra']);
  const change = (key: string): void => {
    if (broken.has(key)) throw new Error('broken');
  };
  const failed: string[] = [];
  const options: RunOptions = { ...everything, deleteDst: true, onFailure: (key) => void failed.push(key) };
  const first = new Run(source, watched(destination, { change }), options);
  assert.equal((await first.run()).failed, 4);
  assert.deepEqual(failed.toSorted(), [...broken].toSorted());
  assert.deepEqual(first.progress.state().walks, []);
  await source.remove('d3/00010', forever);
  broken.delete('d0/00007');
  let listed = 0;
  const sides = [watched(source, { listed: () => listed++ }), watched(destination, { change })] as const;
  const second = new Run(...sides, { ...options, resume: kept(first.progress.state()) });
  const { copied, failed: still } = await second.run();
  assert.deepEqual([copied, still, listed], [1, 2, 0]);
  broken.clear();
  const third = new Run(...sides, { ...options, resume: kept(second.progress.state()) });
  const { copied: last, deleted } = await third.run();
  assert.deepEqual([last, deleted, listed], [1, 1, 0]);
  assert.deepEqual(third.progress.state().failed, []);
  assert.equal((await look(destination)).size, 49);
});

test('of a list of files, the lines that are done are not looked at again', async () => {
  const [source, destination] = await both('store', many(70), new Map());
  const lines = [...many(70).keys()];
  const keys = (): AsyncIterable<string> => ({
    async *[Symbol.asyncIterator]() {
      yield* lines;
    },
  });
  const ending = new AbortController();
  let changes = 0;
  const change = (): void => {
    if (++changes === 50) ending.abort(new Error('interrupted'));
  };
  const first = new Run(source, watched(destination, { change }), { ...everything, keys: keys(), signal: ending.signal });
  await assert.rejects(first.run(), /interrupted/);
  const state = kept(first.progress.state());
  assert.ok(state.lines >= 45 && state.lines < 50, `${state.lines} lines`);
  const { found, failed } = await new Run(source, destination, { ...everything, keys: keys(), resume: state }).run();
  assert.deepEqual([found, failed], [70 - state.lines, 0]);
  assert.equal((await look(destination)).size, 70);
});

test('several levels of directories are listed side by side without waiting for each other', async () => {
  const letters = ['a', 'b', 'c', 'd', 'e'];
  const tree = letters.flatMap((a) => letters.flatMap((b) => letters.map((c) => `${a}/${b}/${c}/file`)));
  const [source, destination] = await both('folder', new Map(tree.map((name) => [name, { body: 'x', mtime: 1 }])), new Map());
  const tally = await new Run(source, destination, { ...everything, listThreads: 2, listDepth: 3 }).run();
  assert.deepEqual([tally.copied, tally.failed], [125, 0]);
});

test('a checkpoint is of one pair of places and options; a damaged one is told and passed over', async () => {
  const destination = await places.make('store');
  const problems: string[] = [];
  const of = (identity: unknown): Checkpoint =>
    new Checkpoint({
      destination,
      identity,
      intervalMs: 1000,
      clock: systemClock,
      onProblem: (problem) => void problems.push(problem),
    });
  const progress = { walks: [], lines: 3, failed: ['é', '\u0001'] };
  const one = of(['a', 'b', 1]);
  assert.equal(await one.load(forever), undefined);
  one.start(() => ({ handled: 6, progress }));
  await one.end({ handled: 7, progress });
  const { handled, progress: read } = (await of(['a', 'b', 1]).load(forever)) ?? {};
  assert.deepEqual([handled, read], [7, progress]);
  assert.equal(await of(['a', 'b', 2]).load(forever), undefined);
  await destination.put(one.key, Buffer.from('{"version":1'), forever);
  assert.equal(await one.load(forever), undefined);
  assert.match(problems.join(), /cannot be used, the copy begins anew/);
  await one.end(undefined);
  assert.equal(await destination.head(one.key, false, forever), undefined);
});
