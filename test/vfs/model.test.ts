/**
 * Random lives of a volume under two clients against a model of plain bytes (model-run.ts says what is asserted). A failure prints
 * the seed and the shrunk steps; JUICEPOD_SEED repeats it, JUICEPOD_RUNS makes it longer.
 */
import { test } from 'node:test';
import * as fc from 'fast-check';
import { startRedis } from '../servers.ts';
import { TestVolume } from './clients.ts';
import { Run, step } from './model-run.ts';

const runs = Number(process.env['JUICEPOD_RUNS'] ?? 30);
const seed = process.env['JUICEPOD_SEED'];

async function check(newUrl: () => string | undefined): Promise<void> {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60, size: 'max' }), async (steps) => {
      await using volume = await TestVolume.make(newUrl());
      const run = new Run(volume);
      await run.start();
      for (const each of steps) await run.take(each);
      await run.finish();
    }),
    { numRuns: runs, endOnFailure: false, interruptAfterTimeLimit: 90_000, ...(seed ? { seed: Number(seed) } : {}) },
  );
}

test('any life of two clients over SQLite agrees with the model', { timeout: 600_000 }, () => check(() => undefined));

test('any life of two clients over Redis agrees with the model', { timeout: 600_000 }, async () => {
  await using redis = await startRedis(['--databases', '10000']);
  let used = 0;
  await check(() => redis.url(used++));
});
