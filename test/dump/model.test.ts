/**
 * Volumes made by random operations (hard links, renames, holes, copies that share slices, compactions, trash), dumped and loaded: what is
 * dumped of the copy is the same. And what a JSON dump does not hold, its loading makes as it was: link counts and parents, references to
 * slices, statistics of directories, usage.
 *
 * On a failure fast-check prints the seed, and the shortest list of operations that still fails.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { ino } from '../../src/lib/int64.ts';
import type { MetaEngine } from '../../src/meta/engine.ts';
import { decodeAttr } from '../../src/meta/records.ts';
import { CHUNK_SIZE } from '../../src/meta/types.ts';
import { describeEngines, openUrl } from '../meta/engines.ts';
import { Run, toNs } from '../meta/model-run.ts';
import { anyStep } from '../meta/random-steps.ts';
import { ReferenceFs, ROOT } from '../meta/reference-fs.ts';
import { openVolume } from '../meta/volume.ts';
import { contentOf, dumpOf, load } from './engines.ts';

/** For a longer search: JUICEPOD_MODEL_RUNS=1000. */
const RUNS = Number(process.env['JUICEPOD_MODEL_RUNS'] ?? 6);

const SLICE_BYTES = 24;
/** Where a node names its parent. */
const PARENT = 63;

type Fields = readonly (readonly [string, unknown])[];

/** How often slices are named by chunks that lie behind the end of their file, by slice. A JSON dump does not hold those chunks. */
function namedBehindEnds(chunks: readonly Fields[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const [, , slices] of chunks) {
    const bytes = Buffer.from(String(slices?.[1]), 'latin1');
    for (let at = 0; at < bytes.length; at += SLICE_BYTES) {
      const id = bytes.readBigUInt64BE(at + 4).toString();
      counts.set(id, (counts.get(id) ?? 0) + 1);
    }
  }
  return counts;
}

/**
 * Of a binary dump, as far as it is the same for the same tree: a directory in which nothing has changed yet has no statistics; a file that
 * had several names and has one now names no parent, but has a record of it; one that was cut may have chunks behind its end.
 */
async function records(engine: MetaEngine): Promise<Readonly<Record<string, unknown>>> {
  const content = (await contentOf('binary', await dumpOf(engine, 'binary'))) as Readonly<Record<string, readonly string[]>>;
  const parsed = (name: string): Fields[] => (content[name] ?? []).map((text) => JSON.parse(text) as Fields);
  const withoutParent = (data: unknown): string => `${String(data).slice(0, PARENT)}${String(data).slice(PARENT + 8)}`;
  const names = Map.groupBy(parsed('parents'), ([inode]) => inode?.[1]);
  const inodes = new Set(parsed('nodes').map(([inode]) => inode?.[1]));
  const lengths = new Map(
    parsed('nodes').map(([inode, data]) => [inode?.[1], decodeAttr(Buffer.from(String(data?.[1]), 'latin1')).length]),
  );
  const isWithin = ([inode, index]: Fields): boolean => Number(index?.[1]) * CHUNK_SIZE < (lengths.get(inode?.[1]) ?? 0);
  const behind = namedBehindEnds(parsed('chunks').filter((chunk) => !isWithin(chunk)));
  return {
    ...content,
    chunks: parsed('chunks').filter(isWithin),
    sliceRefs: parsed('sliceRefs')
      .map(([id, size, refs]) => [id, size, Number(refs?.[1]) - (behind.get(String(id?.[1])) ?? 0)] as const)
      .filter(([, , refs]) => refs > 1),
    // A file that never had a name leaves them behind.
    xattrs: parsed('xattrs').filter(([inode]) => inodes.has(inode?.[1])),
    dirstats: parsed('dirstats').filter(([, length, , inodes]) => length?.[1] !== 0 || inodes?.[1] !== 0),
    nodes: parsed('nodes').map(([inode, data]) => [inode, withoutParent(data?.[1])]),
    parents: [...names.values()].filter((all) => all.reduce((sum, [, , count]) => sum + Number(count?.[1]), 0) > 1),
  };
}

describeEngines('dumps of random volumes', (database) => {
  for (const trashDays of [0, 1])
    test(`are loaded as what they were, trash ${trashDays === 0 ? 'off' : 'on'}`, async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(anyStep, { minLength: 1, maxLength: 40, size: 'max' }), async (steps) => {
          const cleanup: (() => Promise<void>)[] = [];
          const after = (done?: unknown): void => void cleanup.push(done as () => Promise<void>);
          const opened = async (): Promise<MetaEngine> => {
            const engine = await openUrl(database.newUrl());
            after(() => engine.close());
            return engine;
          };
          try {
            const volume = await openVolume({ after }, database.newUrl(), { trashDays });
            const model = new ReferenceFs(trashDays > 0);
            const [root] = await volume.engine.nodes([ino(ROOT)]);
            assert.ok(root);
            model.node(ROOT).mtime = toNs(root.mtime, root.mtimensec);
            model.node(ROOT).ctime = toNs(root.ctime, root.ctimensec);
            const run = new Run(volume, model);
            // In Redis the counter of inodes is there with the first one.
            await run.step({ op: 'mkdir', dir: 0, name: 0, mode: 0 });
            for (const step of steps) await run.step(step);
            await run.finish();
            const { engine } = volume;
            const [json, wanted] = [await dumpOf(engine, 'json'), await records(engine)];
            for (const form of ['json', 'binary'] as const) {
              const copy = await opened();
              await load(copy, form, form === 'json' ? json : await dumpOf(engine, 'binary'));
              assert.deepEqual(await contentOf('json', await dumpOf(copy, 'json')), await contentOf('json', json), form);
              assert.deepEqual(await records(copy), wanted, `records of what was loaded from ${form}`);
            }
          } finally {
            for (const done of cleanup.toReversed()) await done();
          }
        }),
        { numRuns: process.env['JUICEPOD_MODEL_RUNS'] ? RUNS : Math.min(RUNS, Math.ceil(database.runs / 6)) },
      );
    });
});
