/**
 * A million random reviews (`--count N`), damaged ones among them: no crash, no `remove`, idempotent, valid pods. The same cases and
 * checks as in src/admission/random.test.ts, in `--threads N` threads (2). Prints what was decided, how many a second were answered
 * and checked, and by how much the heap of a thread grew; a case that breaks a promise is printed, shrunk, with the seed.
 */
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import * as fc from 'fast-check';
import { anyCase, checkCase } from '../src/admission/testing/random.ts';

const ROUND = 25_000;

interface Share {
  readonly count: number;
  readonly seed: number;
}

interface Result {
  readonly seen: Readonly<Record<ReturnType<typeof checkCase>, number>>;
  /** Bytes, from the end of the first round on. */
  readonly grown: number;
}

/** Bytes that are in use once what is not has been collected. */
function heapInUse(): number {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  return process.memoryUsage().heapUsed;
}

function check({ count, seed }: Share, progress: (done: number) => void): Result {
  const seen = { ignore: 0, refuse: 0, inject: 0, malformed: 0 };
  let heap = 0;
  for (let done = 0; done < count; done += ROUND) {
    const numRuns = Math.min(ROUND, count - done);
    fc.assert(
      fc.property(anyCase, (one) => void seen[checkCase(one)]++),
      { numRuns, seed: seed + done },
    );
    if (done === 0) heap = heapInUse();
    progress(numRuns);
  }
  return { seen, grown: heapInUse() - heap };
}

/** Checks a share in a thread of its own. */
function inThread(share: Share, progress: (done: number) => void): Promise<Result> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL(import.meta.url), { workerData: share });
    worker.on('message', (message: number | Result) => {
      if (typeof message === 'number') progress(message);
      else resolve(message);
    });
    worker.once('error', reject);
    worker.once('exit', () => reject(new Error('a thread ended before its work')));
  });
}

if (!isMainThread) {
  const tell = (message: number | Result): void => parentPort?.postMessage(message, []);
  tell(check(workerData as Share, tell));
} else {
  const { values } = parseArgs({
    options: {
      count: { type: 'string', default: '1000000' },
      seed: { type: 'string' },
      threads: { type: 'string', default: '2' },
    },
  });
  const [count, threads] = [Number(values.count), Number(values.threads)];
  const seed = values.seed === undefined ? Date.now() % 2 ** 31 : Number(values.seed);
  console.log(`admission: ${count} random reviews, seed ${seed}`);
  const started = performance.now();
  let all = 0;
  const progress = (done: number): void => void process.stderr.write(`  ${(all += done)} …\r`);
  const shares = Array.from({ length: threads }, (_, index): Share => ({
    count: Math.floor((count * (index + 1)) / threads) - Math.floor((count * index) / threads),
    seed: seed + Math.floor((count * index) / threads),
  }));
  const results = await Promise.all(shares.map((share) => inThread(share, progress)));
  const seconds = (performance.now() - started) / 1000;
  const sum = (what: keyof Result['seen']): number => results.reduce((total, { seen }) => total + seen[what], 0);
  const grown = Math.max(...results.map((result) => result.grown)) / 2 ** 20;
  console.log(
    `no promise broken: ${sum('inject')} injected, ${sum('refuse')} refused, ${sum('ignore')} left alone, ${sum('malformed')} malformed; ${Math.round(count / seconds)} a second, ${seconds.toFixed(0)} s, heap ${grown >= 0 ? '+' : ''}${grown.toFixed(0)} MiB`,
  );
}
