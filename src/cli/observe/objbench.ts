/**
 * `juicepod objbench`: whether an object store can do what a volume needs, and how fast. Sizes, defaults and results are those of
 * `juicefs objbench`. All objects are below a prefix of its own and are removed at the end, also when it is told to end.
 */
import { rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { messageOf, UserError } from '../../lib/errors.ts';
import { systemRandom } from '../../lib/random.ts';
import { formatBytes, parseSize } from '../../lib/units.ts';
import { openObjectStore } from '../../object/open.ts';
import type { ObjectStore } from '../../object/store.ts';
import { Bar, framed, Interrupted, printResults, type Result } from './bench-report.ts';
import { tryStore } from './objbench-tests.ts';
import { endingSignal, wholeNumberOf } from '../options.ts';
import type { Output } from '../report.ts';
import { storeError } from '../store.ts';
import { storageOptions, type StorageOptions } from '../volume.ts';

const MIB = 2 ** 20;
/** Of what came back so many bytes are compared, as the official tool does: it is the store that is measured. */
const COMPARED = 10;
const MOST_LISTED = 1000;

interface ObjbenchCommand extends StorageOptions {
  readonly shards?: string;
  readonly blockSize: string;
  readonly bigObjectSize: string;
  readonly smallObjectSize: string;
  readonly smallObjects: string;
  readonly skipFunctionalTests?: boolean;
  readonly threads: string;
  readonly output: Output;
}

/** Bytes that differ from object to object: the seed, turned. */
function content(seed: Buffer, index: number): Buffer {
  const at = index % seed.length;
  return at === 0 ? seed : Buffer.concat([seed.subarray(at), seed.subarray(0, at)]);
}

interface Load {
  readonly small: { readonly count: number; readonly seed: Buffer };
  readonly big: { readonly count: number; readonly seed: Buffer };
  readonly threads: number;
}

async function measure(store: ObjectStore, { small, big, threads }: Load, signal: AbortSignal): Promise<readonly Result[]> {
  const seconds = async (
    title: string,
    from: number,
    count: number,
    one: (index: number) => Promise<unknown>,
  ): Promise<number> => {
    let next = from;
    let done = 0;
    using _bar = new Bar(title, count, () => done);
    const begin = performance.now();
    const worker = async (): Promise<void> => {
      while (next < from + count) {
        if (signal.aborted) throw new Interrupted();
        await one(next++);
        done++;
      }
    };
    const ended = await Promise.allSettled(Array.from({ length: threads }, worker));
    for (const each of ended)
      if (each.status === 'rejected')
        throw each.reason instanceof UserError
          ? each.reason
          : new UserError('BenchFailed', `${title}: ${messageOf(storeError(each.reason))}`, { cause: each.reason });
    return (performance.now() - begin) / 1000;
  };
  const all = small.count + big.count;
  const objects = (item: string, count: number, spent: number, slow = 10, fast = 30): Result => ({
    item,
    value: count / spent,
    unit: 'objects/s',
    cost: (threads * spent * 1000) / count,
    costUnit: 'ms/object',
    digits: 2,
    range: [slow, fast, 30, 100],
  });
  const bytes = (item: string, spent: number): Result => ({
    item,
    value: (big.count * big.seed.length) / MIB / spent,
    unit: 'MiB/s',
    cost: (threads * spent * 1000) / big.count,
    costUnit: 'ms/object',
    digits: 2,
    range: [100, 150, 50, 150],
  });
  // Keys are numbers, small objects first.
  const put = (index: number): Promise<void> =>
    index < small.count
      ? store.put(String(index), content(small.seed, index))
      : store.put(String(index), content(big.seed, index - small.count));
  const get = async (index: number): Promise<void> => {
    const { seed, at } = index < small.count ? { seed: small.seed, at: index } : { seed: big.seed, at: index - small.count };
    const body = await store.get(String(index));
    const head = content(seed, at).subarray(0, COMPARED);
    if (body.length !== seed.length || !body.subarray(0, COMPARED).equals(head))
      throw new UserError('Corrupt', `object ${index} came back with other bytes than it was given`);
  };
  const smallPut = await seconds('put small objects', 0, small.count, put);
  const smallGet = await seconds('get small objects', 0, small.count, get);
  const upload = await seconds('upload objects', small.count, big.count, put);
  const download = await seconds('download objects', small.count, big.count, get);
  const listed = Math.min(all, MOST_LISTED);
  const list = await seconds('list objects', 0, threads, async () => {
    let found = 0;
    for await (const _info of store.list('')) if (++found === listed) break;
  });
  const head = await seconds('head objects', 0, all, (index) => store.head(String(index)));
  const remove = await seconds('delete objects', 0, all, (index) => store.delete(String(index)));
  return [
    bytes('upload objects', upload),
    bytes('download objects', download),
    objects('put small objects', small.count, smallPut),
    objects('get small objects', small.count, smallGet),
    {
      item: 'list objects',
      value: (listed * threads) / list,
      unit: 'objects/s',
      cost: list * 1000,
      costUnit: `ms/ ${listed} objects`,
      digits: 2,
      range: [1000, 10_000, 100, 200],
    },
    objects('head objects', all, head),
    objects('delete objects', all, remove),
  ];
}

/** Removes every object that is left; `folders` are those that hold them, where they are on this machine. */
async function clear(store: ObjectStore, folders: readonly string[]): Promise<void> {
  for await (const { key } of store.list('')) await store.delete(key);
  for (const folder of folders) await rm(folder, { recursive: true, force: true });
}

export async function objbenchCommand(endpoint: string, raw: Readonly<Record<string, unknown>>): Promise<void> {
  const options = raw as unknown as ObjbenchCommand;
  const positive = (text: string, option: string, unit: 'K' | 'M'): number => {
    const size = parseSize(text, option, unit);
    if (size === 0) throw new UserError('InvalidSize', `${option}: wanted more than 0`);
    return size;
  };
  const blockBytes = positive(options.blockSize, '--block-size', 'K');
  const bigBytes = positive(options.bigObjectSize, '--big-object-size', 'M');
  const smallBytes = positive(options.smallObjectSize, '--small-object-size', 'K');
  const smallCount = wholeNumberOf(options.smallObjects, '--small-objects', 1, 10_000_000);
  const wantedThreads = wholeNumberOf(options.threads, '--threads', 1, 1024);
  const shards = options.shards === undefined ? 0 : wholeNumberOf(options.shards, '--shards', 0, 256);
  const bigCount = Math.ceil(bigBytes / blockBytes);
  const threads = Math.min(wantedThreads, bigCount, smallCount);
  const storage = (options.storage ?? 'file').toLowerCase();
  if (storage === 'file' && endpoint.includes('://'))
    throw new UserError('InvalidEndpoint', `${endpoint} does not look like the path of a folder`, {
      hint: 'Name the kind of store: --storage s3',
    });
  const ending = endingSignal();
  const name = `__juicefs_benchmark_${process.pid}_${Date.now()}__`;
  const bucket = storage === 'file' ? `${resolve(endpoint)}/` : endpoint;
  const folders =
    storage === 'file'
      ? Array.from({ length: Math.max(1, shards) }, (_, shard) => join(bucket.replace('%d', String(shard)), name))
      : [];
  let store: ObjectStore;
  try {
    store = openObjectStore({
      ...storageOptions(options),
      storage,
      bucket,
      name,
      shards,
      // A figure shall be that of one attempt.
      retry: { retries: 0 },
    });
  } catch (error) {
    throw storeError(error);
  }
  try {
    await store.create().catch((error: unknown) => {
      throw storeError(error);
    });
    const tests = options.skipFunctionalTests ? [] : await tryStore(store, ending);
    if (tests.length > 0 && options.output === 'text')
      process.stdout.write(
        framed([['CATEGORY', 'TEST', 'RESULT'], ...tests.map(({ category, test, result }) => [category, test, result])]),
      );
    const load = {
      small: { count: smallCount, seed: systemRandom.bytes(smallBytes) },
      big: { count: bigCount, seed: systemRandom.bytes(blockBytes) },
      threads,
    };
    const results = await measure(store, load, ending);
    printResults(
      options.output,
      `block-size: ${formatBytes(blockBytes)}, big-object-size: ${formatBytes(bigBytes)}, small-object-size: ${formatBytes(smallBytes)}, small-objects: ${smallCount}, NumThreads: ${threads}`,
      { blockBytes, bigObjectBytes: bigBytes, smallObjectBytes: smallBytes, smallObjects: smallCount, threads, tests },
      results,
    );
    if (tests.some(({ result }) => result !== 'pass')) process.exitCode = 1;
  } finally {
    await clear(store, folders).catch((error: unknown) => {
      process.stderr.write(`juicepod: objects of the benchmark are left in ${store.description}: ${messageOf(error)}\n`);
    });
    await store.close();
  }
}
