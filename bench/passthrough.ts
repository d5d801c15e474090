/**
 * Files that the kernel reads past the client, beside the local disk's own: one file in a mount and the whole file of it in the cache
 * directory, read by the same fio jobs in turns. Prints the medians and the ratio of each; 0.9 is aimed at.
 *
 *   node bench/passthrough.ts [--rounds 5] [--size MiB] [--seconds 4] [--writable]
 *
 * Needs root, fio, and Linux 6.9 or later.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeSync,
} from 'node:fs';
import { randomBytes } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { ensureDebian } from '../test/tools.ts';

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    size: { type: 'string', default: '512' },
    seconds: { type: 'string', default: '4' },
    // The mount may write.
    writable: { type: 'boolean', default: false },
  },
});
const MIB = 1024 * 1024;
const sizeMiB = Number(options.size);
const work = mkdtempSync(join(tmpdir(), 'juicepod-bench-'));
const bin = resolve(import.meta.dirname, '../bin/juicepod');
const meta = `sqlite3://${join(work, 'meta.db')}`;
ensureDebian('fio');
const run = (command: string, args: readonly string[]): string =>
  execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

interface Job {
  readonly name: string;
  readonly args: readonly string[];
  readonly unit: 'GiB/s' | 'k IOPS';
  /** Pages are dropped before each run. */
  readonly cold?: boolean;
}

const timed = ['--time_based', `--runtime=${options.seconds}`];
const jobs: readonly Job[] = [
  { name: 'sequential 1 MiB', args: ['--rw=read', '--bs=1M', ...timed], unit: 'GiB/s' },
  { name: 'sequential 1 MiB, from the disk', args: ['--rw=read', '--bs=1M'], unit: 'GiB/s', cold: true },
  { name: 'random 4 KiB, 1 job', args: ['--rw=randread', '--bs=4k', '--norandommap', ...timed], unit: 'k IOPS' },
  { name: 'random 4 KiB, 4 jobs', args: ['--rw=randread', '--bs=4k', '--norandommap', '--numjobs=4', ...timed], unit: 'k IOPS' },
  { name: 'random 4 KiB, from the disk', args: ['--rw=randread', '--bs=4k', ...timed], unit: 'k IOPS', cold: true },
  {
    name: 'random 4 KiB, mapped',
    args: ['--rw=randread', '--bs=4k', '--ioengine=mmap', '--norandommap', ...timed],
    unit: 'k IOPS',
  },
];

function measure(path: string, { args, unit, cold }: Job): number {
  if (cold) {
    run('sync', []);
    run('sh', ['-c', 'echo 3 > /proc/sys/vm/drop_caches']);
  }
  const invalidate = cold ? '--invalidate=1' : '--invalidate=0';
  const text = run('fio', [
    '--name=read',
    `--filename=${path}`,
    `--size=${sizeMiB}M`,
    '--readonly',
    '--output-format=json',
    '--group_reporting',
    invalidate,
    ...(args.some((arg) => arg.startsWith('--ioengine')) ? [] : ['--ioengine=psync']),
    ...args,
  ]);
  const { jobs: results } = JSON.parse(text) as { jobs: { read: { bw_bytes: number; iops: number } }[] };
  const read = results[0]?.read ?? { bw_bytes: 0, iops: 0 };
  return unit === 'GiB/s' ? read.bw_bytes / 2 ** 30 : read.iops / 1000;
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;

async function mount(folder: string, extra: readonly string[]): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const child = spawn(bin, ['mount', meta, folder, '--metrics', 'none', ...extra], { stdio: 'ignore' });
  clients.push(child);
  for (let attempt = 0; !existsSync(join(folder, '.stats')); attempt++) {
    if (child.exitCode !== null || attempt > 2000) throw new Error(`${folder} was not mounted`);
    await new Promise((done) => setTimeout(done, 10));
  }
}

/** A signal ends the run between two measurements; then everything is unmounted, too. */
const interrupted = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => interrupted.abort(new Error(`ended by ${signal}`)));
const turn = async (): Promise<void> => {
  await new Promise((done) => setImmediate(done));
  interrupted.signal.throwIfAborted();
};

const clients: ChildProcess[] = [];
const writer = join(work, 'writer');
const reader = join(work, 'reader');
try {
  run(bin, ['format', meta, 'bench', '--storage', 'file', '--bucket', join(work, 'store')]);
  await mount(writer, ['--cache-dir', join(work, 'writer-cache')]);
  const fd = openSync(join(writer, 'file'), 'w');
  for (let at = 0; at < sizeMiB; at++) writeSync(fd, randomBytes(MIB));
  closeSync(fd);
  utimesSync(join(writer, 'file'), 1e9, 1e9);
  const kind = options.writable ? ['--cache-whole-files', `${2 * sizeMiB}M`] : ['--read-only'];
  await mount(reader, [...kind, '--cache-dir', join(work, 'cache'), '--free-space-ratio', '0.02']);
  const ours = join(reader, 'file');
  const figure = (name: string): number =>
    Number(new RegExp(`^juicefs_${name} (.*)$`, 'm').exec(readFileSync(join(reader, '.stats'), 'utf8'))?.[1] ?? 0);
  for (let attempt = 0; figure('whole_files_made') === 0; attempt++) {
    if (attempt > 300) throw new Error('the file was not made whole: does this kernel have CONFIG_FUSE_PASSTHROUGH?');
    run('dd', [`if=${ours}`, 'of=/dev/null', 'bs=1M']);
    await new Promise((done) => setTimeout(done, 200));
  }
  const local = join(work, 'cache', 'local');
  copyFileSync(ours, local);
  run('sync', []);
  if (figure('passthrough_opens') === 0) throw new Error('the file is not read past the client');
  const rounds = Number(options.rounds);
  console.log(`${sizeMiB} MiB, median of ${rounds} rounds`);
  for (const job of jobs) {
    const results: { readonly disk: number[]; readonly ours: number[] } = { disk: [], ours: [] };
    for (const path of [local, ours]) run('dd', [`if=${path}`, 'of=/dev/null', 'bs=1M']);
    for (let round = 0; round < rounds; round++) {
      await turn();
      // In turns, and in turns first.
      for (const which of round % 2 === 0 ? (['disk', 'ours'] as const) : (['ours', 'disk'] as const))
        results[which].push(measure(which === 'disk' ? local : ours, job));
    }
    const [disk, passed] = [median(results.disk), median(results.ours)];
    console.log(
      `${job.name.padEnd(34)} disk ${disk.toFixed(2).padStart(8)}  ours ${passed.toFixed(2).padStart(8)} ${job.unit.padEnd(7)} ratio ${(passed / disk).toFixed(2)}`,
    );
  }
} finally {
  for (const folder of [reader, writer]) if (existsSync(join(folder, '.stats'))) run('umount', ['-l', folder]);
  for (const child of clients) if (child.exitCode === null) await new Promise((done) => child.once('exit', done));
  rmSync(work, { recursive: true, force: true });
}
