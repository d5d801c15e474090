/**
 * Random operations on a volume, each compared with a plain file system in memory: what it answers, then the whole tree
 * (names, types, modes, owners, link counts, lengths, times, targets, attributes, content), and in the end the counters of
 * the volume, the usage of directories and the data that was to be deleted.
 *
 * On a failure fast-check prints the seed, and the shortest list of operations that still fails.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { ino } from '../../src/lib/int64.ts';
import { type Database, describeEngines } from './engines.ts';
import { Run, toNs } from './model-run.ts';
import { anyStep } from './random-steps.ts';
import { ReferenceFs, ROOT } from './reference-fs.ts';
import { openVolume } from './volume.ts';

/** For a longer search: JUICEPOD_MODEL_RUNS=1000. */
const RUNS = Number(process.env['JUICEPOD_MODEL_RUNS'] ?? 60);

describeEngines('random operations on a volume', (database: Database) => {
  for (const trash of [false, true])
    test(`do what they do on a file system in memory, trash ${trash ? 'on' : 'off'}`, async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(anyStep, { minLength: 1, maxLength: 80, size: 'max' }), async (steps) => {
          const cleanup: (() => Promise<void>)[] = [];
          const after = (done?: unknown): void => void cleanup.push(done as () => Promise<void>);
          try {
            const volume = await openVolume({ after }, database.newUrl(), { trashDays: trash ? 1 : 0 });
            const model = new ReferenceFs(trash);
            model.node(ROOT).mtime = volume.clock.ns;
            const [root] = await volume.engine.nodes([ino(ROOT)]);
            assert.ok(root);
            model.node(ROOT).mtime = toNs(root.mtime, root.mtimensec);
            model.node(ROOT).ctime = toNs(root.ctime, root.ctimensec);
            const run = new Run(volume, model);
            for (const step of steps) await run.step(step);
            await run.finish();
          } finally {
            for (const done of cleanup.toReversed()) await done();
          }
        }),
        { numRuns: process.env['JUICEPOD_MODEL_RUNS'] ? RUNS : Math.min(RUNS, database.runs) },
      );
    });
});
