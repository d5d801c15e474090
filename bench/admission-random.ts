/**
 * A million random reviews (`--count N`), damaged ones among them: no crash, no `remove`, idempotent, valid pods. The same cases and
 * checks as in src/admission/random.test.ts. Prints what was decided, how many a second were answered and checked, and by how much
 * the heap grew; a case that breaks a promise is printed, shrunk, with the seed.
 */
import { parseArgs } from 'node:util';
import * as fc from 'fast-check';
import { anyCase, checkCase } from '../src/admission/testing/random.ts';

const ROUND = 50_000;

const { values } = parseArgs({ options: { count: { type: 'string', default: '1000000' }, seed: { type: 'string' } } });
const count = Number(values.count);
const seed = values.seed === undefined ? Date.now() % 2 ** 31 : Number(values.seed);
const seen = { ignore: 0, refuse: 0, inject: 0, malformed: 0 };
const started = performance.now();
let heap = 0;
console.log(`admission: ${count} random reviews, seed ${seed}`);
for (let done = 0; done < count; done += ROUND) {
  fc.assert(
    fc.property(anyCase, (one) => void seen[checkCase(one)]++),
    { numRuns: Math.min(ROUND, count - done), seed: seed + done },
  );
  if (done === 0) heap = process.memoryUsage().heapUsed;
  process.stderr.write(`  ${Math.min(done + ROUND, count)} …\r`);
}
const seconds = (performance.now() - started) / 1000;
const grown = (process.memoryUsage().heapUsed - heap) / 2 ** 20;
console.log(
  `no promise broken: ${seen.inject} injected, ${seen.refuse} refused, ${seen.ignore} left alone, ${seen.malformed} malformed; ${Math.round(count / seconds)} a second, heap ${grown >= 0 ? '+' : ''}${grown.toFixed(0)} MiB`,
);
