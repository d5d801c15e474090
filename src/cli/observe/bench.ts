/**
 * `juicepod bench`: how fast files of a folder are written, read and looked at, and what the mount did meanwhile. Sizes, defaults
 * and results are those of `juicefs bench`. What it makes it removes, also when it is told to end.
 */
import { mkdirSync, statSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { Worker } from 'node:worker_threads';
import { isFuse } from '../../fuse/mount.ts';
import { mountsAt } from '../../fuse/mountinfo.ts';
import { messageOf, UserError } from '../../lib/errors.ts';
import { formatBytes, parseSize } from '../../lib/units.ts';
import { Bar, Interrupted, printResults, type Result } from './bench-report.ts';
import type { BenchAnswer, BenchOrder } from './bench-thread.ts';
import { type MountRoot, mountRoot, readStats } from './mounted.ts';
import { endingSignal, wholeNumberOf } from '../options.ts';
import type { Output } from '../report.ts';

const MIB = 2 ** 20;
const DROP_CACHES = '/proc/sys/vm/drop_caches';

interface BenchCommand {
  readonly blockSize: string;
  readonly bigFileSize: string;
  readonly smallFileSize: string;
  readonly smallFileCount: string;
  readonly threads: string;
  readonly output: Output;
}

interface Files {
  readonly name: string;
  readonly title: string;
  readonly files: number;
  readonly blocks: number;
  readonly blockBytes: number;
}

function filesOf(name: string, title: string, fileBytes: number, files: number, blockBytes: number): Files {
  if (fileBytes <= blockBytes) return { name, title, files, blocks: 1, blockBytes: fileBytes };
  return { name, title, files, blocks: Math.ceil(fileBytes / blockBytes), blockBytes };
}

/** Threads that carry out one test after the other. */
class Crew implements AsyncDisposable {
  readonly #workers: readonly Worker[];
  readonly #folder: string;
  readonly #signal: AbortSignal;

  constructor(threads: number, folder: string, signal: AbortSignal) {
    this.#workers = Array.from({ length: threads }, () => new Worker(new URL('./bench-thread.ts', import.meta.url)));
    this.#folder = folder;
    this.#signal = signal;
  }

  /** Seconds that the test took. Throws UserError where a thread failed, `Interrupted` where the signal aborted. */
  async run(test: BenchOrder['test'], { name, title, files, blocks, blockBytes }: Files): Promise<number> {
    if (this.#signal.aborted) throw new Interrupted();
    const shared = new SharedArrayBuffer(8);
    const state = new Int32Array(shared);
    const stop = (): void => void Atomics.store(state, 1, 1);
    this.#signal.addEventListener('abort', stop, { once: true });
    const verb = { write: 'Write', read: 'Read', stat: 'Stat' }[test];
    const total = this.#workers.length * files * (test === 'stat' ? 1 : blocks);
    using _bar = new Bar(`${verb} ${title}`, total, () => Atomics.load(state, 0));
    const begin = performance.now();
    const answers = await Promise.all(
      this.#workers.map(
        (worker, thread) =>
          new Promise<BenchAnswer>((done, fail) => {
            worker.once('message', done);
            worker.once('error', fail);
            worker.postMessage(
              {
                test,
                folder: this.#folder,
                name,
                thread,
                files,
                blocks,
                blockBytes,
                shared,
              } satisfies BenchOrder,
              [],
            );
          }),
      ),
    );
    const seconds = (performance.now() - begin) / 1000;
    this.#signal.removeEventListener('abort', stop);
    if (this.#signal.aborted) throw new Interrupted();
    const failure = answers.find((answer) => answer.failure !== undefined)?.failure;
    if (failure !== undefined) throw new UserError('BenchFailed', `${verb} ${title}: ${failure}`);
    return seconds;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }
}

/** Lets the kernel forget what it has cached, or says once that it could not. */
function cacheDropper(): () => void {
  let said = false;
  const say = (reason: string): void => {
    if (!said) process.stderr.write(`The kernel's cache is not dropped (${reason}): what is read may come from there.\n`);
    said = true;
  };
  return () => {
    if (process.env['SKIP_DROP_CACHES'] === 'true') return say('SKIP_DROP_CACHES=true');
    try {
      writeFileSync(DROP_CACHES, '3');
    } catch (error) {
      say(messageOf(error));
    }
  };
}

/** The mount of juicepod or juicefs that a folder lies in. */
async function mountOf(folder: string): Promise<MountRoot | undefined> {
  for (let at = folder; ; at = resolve(at, '..')) {
    const top = mountsAt(at).at(-1);
    if (top) return isFuse(top) ? mountRoot(at).catch(() => undefined) : undefined;
    if (at === '/') return undefined;
  }
}

/** What the mount did between two readings of `.stats`. */
function mountResults(before: ReadonlyMap<string, number>, now: ReadonlyMap<string, number>): readonly Result[] {
  const growth = (name: string): number => (now.get(`juicefs_${name}`) ?? 0) - (before.get(`juicefs_${name}`) ?? 0);
  const requests = 'object_request_durations_histogram_seconds';
  const rows: readonly (readonly [string, string, number, number])[] = [
    ['FUSE operation', 'fuse_ops_durations_histogram_seconds', 0.5, 2],
    ['Update meta', 'transaction_durations_histogram_seconds', 2, 5],
    ['Put object', `${requests}_PUT`, 100, 200],
    ['Get object', `${requests}_GET`, 100, 200],
    ['Delete object', `${requests}_DELETE`, 30, 100],
    ['Write into cache', 'blockcache_write_hist_seconds', 10, 20],
    ['Read from cache', 'blockcache_read_hist_seconds', 1, 5],
  ];
  return rows.map(([item, name, cheap, dear]) => {
    const count = growth(`${name}_total`);
    return {
      item,
      value: count,
      unit: 'operations',
      cost: count > 0 ? (growth(`${name}_sum`) * 1000) / count : 0,
      costUnit: 'ms/op',
      digits: 0,
      range: [0, 0, cheap, dear],
    };
  });
}

async function measure(crew: Crew, threads: number, big: Files | undefined, small: Files | undefined): Promise<Result[]> {
  const results: Result[] = [];
  const dropCaches = cacheDropper();
  dropCaches();
  const megabytes = async (item: string, test: 'write' | 'read', files: Files): Promise<void> => {
    const seconds = await crew.run(test, files);
    const bytes = files.blocks * files.blockBytes * files.files * threads;
    const value = bytes / MIB / seconds;
    const cost = seconds / files.files;
    results.push({ item, value, unit: 'MiB/s', cost, costUnit: 's/file', digits: 2, range: [100, 200, 10, 50] });
  };
  const perFile = async (item: string, test: BenchOrder['test'], files: Files, range: Result['range']): Promise<void> => {
    const seconds = await crew.run(test, files);
    const [slow, fast, cheap, dear] = range;
    results.push({
      item,
      value: (files.files * threads) / seconds,
      unit: 'files/s',
      cost: (seconds * 1000) / files.files,
      costUnit: 'ms/file',
      digits: 1,
      range: [slow * threads, fast * threads, cheap, dear],
    });
  };
  if (big) {
    await megabytes('Write big file', 'write', big);
    dropCaches();
    await megabytes('Read big file', 'read', big);
  }
  if (small) {
    await perFile('Write small file', 'write', small, [12.5, 20, 50, 80]);
    dropCaches();
    await perFile('Read small file', 'read', small, [50, 100, 10, 20]);
    dropCaches();
    await perFile('Stat file', 'stat', small, [20, 1000, 1, 5]);
  }
  return results;
}

export async function benchCommand(path: string, raw: Readonly<Record<string, unknown>>): Promise<void> {
  const options = raw as unknown as BenchCommand;
  const blockBytes = parseSize(options.blockSize, '--block-size', 'M');
  const bigBytes = parseSize(options.bigFileSize, '--big-file-size', 'M');
  const smallBytes = parseSize(options.smallFileSize, '--small-file-size', 'K');
  const smallCount = wholeNumberOf(options.smallFileCount, '--small-file-count', 0, 10_000_000);
  const threads = wholeNumberOf(options.threads, '--threads', 1, 1024);
  if (blockBytes === 0) throw new UserError('InvalidSize', '--block-size: wanted more than 0');
  const big = bigBytes > 0 ? filesOf('bigfile', 'big blocks', bigBytes, 1, blockBytes) : undefined;
  const small =
    smallBytes > 0 && smallCount > 0 ? filesOf('smallfile', 'small blocks', smallBytes, smallCount, blockBytes) : undefined;
  if (!big && !small)
    throw new UserError('NothingToMeasure', 'neither big nor small files are wanted', {
      hint: 'Give --big-file-size, or --small-file-size and --small-file-count, above 0.',
    });
  const target = resolve(path);
  const found = statSync(target, { throwIfNoEntry: false });
  if (!found?.isDirectory()) throw new UserError('PathMissing', `${path} is no directory`);
  const ending = endingSignal();
  const folder = join(target, `__juicefs_benchmark_${process.pid}_${Date.now()}__`);
  const mount = await mountOf(target);
  try {
    mkdirSync(folder, 0o777);
  } catch (error) {
    throw new UserError('FolderDenied', `a folder for the benchmark cannot be made in ${path}: ${messageOf(error)}`);
  }
  let results: readonly Result[];
  const before = mount ? await readStats(mount) : undefined;
  try {
    await using crew = new Crew(threads, folder, ending);
    results = await measure(crew, threads, big, small);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  const now = mount ? await readStats(mount) : undefined;
  const growth = (name: string): number => (now?.get(`juicefs_${name}`) ?? 0) - (before?.get(`juicefs_${name}`) ?? 0);
  const used =
    now && before
      ? `Time used: ${growth('uptime').toFixed(1)} s, CPU: ${((growth('cpu_usage') * 100) / growth('uptime')).toFixed(1)}%, Memory: ${((now.get('juicefs_memory') ?? 0) / MIB).toFixed(1)} MiB\n`
      : '';
  printResults(
    options.output,
    `${used}BlockSize: ${formatBytes(blockBytes)}, BigFileSize: ${formatBytes(bigBytes)}, SmallFileSize: ${formatBytes(smallBytes)}, SmallFileCount: ${smallCount}, NumThreads: ${threads}`,
    { blockBytes, bigFileBytes: bigBytes, smallFileBytes: smallBytes, smallFiles: smallCount, threads },
    [...results, ...(now && before ? mountResults(before, now) : [])],
  );
}
