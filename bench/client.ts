/**
 * The whole client beside the official one and the local disk: one Redis, one object store, one machine, one run. Every cell is
 * measured in turn (ours, theirs, disk; again; again) and the median is printed, with our ratio to theirs.
 *
 *   node bench/client.ts [--store s3|file] [--rounds 3] [--only PATTERN] [--size MiB]
 *
 * Needs root, fio, and the official client named by JUICEFS_BIN; without it only ours and the disk are shown.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { startRedis, startS3 } from '../test/servers.ts';
import { ensureDebian, juicefs } from '../test/tools.ts';

const { values: options } = parseArgs({
  options: {
    store: { type: 'string', default: 's3' },
    rounds: { type: 'string', default: '3' },
    only: { type: 'string', default: '.' },
    size: { type: 'string', default: '512' },
    json: { type: 'string' },
  },
});
const sizeMiB = Number(options.size);
const only = new RegExp(options.only);
const root = resolve(import.meta.dirname, '..');
const work = mkdtempSync(join(tmpdir(), 'juicepod-bench-'));

interface Client {
  readonly name: string;
  readonly folder: string;
  mount(freshCache: boolean): Promise<void>;
  unmount(): Promise<void>;
  /** Resident memory of all its processes, KiB, by pid of what was started. */
  memory(): number;
}

const run = (command: string, args: readonly string[]): string =>
  execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], maxBuffer: 1 << 26 });

function dropCaches(): void {
  run('sync', []);
  writeFileSync('/proc/sys/vm/drop_caches', '3');
}

function children(pid: number): number[] {
  const list = run('ps', ['-e', '-o', 'pid=,ppid='])
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number));
  const below = list.filter(([, parent]) => parent === pid).map(([child]) => child ?? 0);
  return [pid, ...below.flatMap(children)];
}

function resident(pid: number): number {
  return children(pid).reduce((sum, each) => sum + Number(run('ps', ['-o', 'rss=', '-p', String(each)]).trim() || 0), 0);
}

function mounted(name: string, command: string, prefix: readonly string[], url: string, extra: readonly string[]): Client {
  const folder = join(work, `mnt-${name}`);
  const cache = join(work, `cache-${name}`);
  mkdirSync(folder, { recursive: true });
  let child: ChildProcess | undefined;
  return {
    name,
    folder,
    async mount(freshCache) {
      if (freshCache) rmSync(cache, { recursive: true, force: true });
      const log = join(work, `${name}.log`);
      const args = [...prefix, 'mount', url, folder, '--cache-dir', cache, '--no-usage-report', ...extra].filter(
        (arg) => name !== 'juicepod' || arg !== '--no-usage-report',
      );
      child = spawn('sh', ['-c', `exec "$@" > ${log} 2>&1`, 'sh', command, ...args], { stdio: 'ignore' });
      for (let attempt = 0; !existsSync(join(folder, '.stats')); attempt++) {
        if (child.exitCode !== null || attempt > 2000)
          throw new Error(`${name} did not mount: see ${log}\n${run('tail', ['-n', '20', log])}`);
        await new Promise((done) => setTimeout(done, 5));
      }
    },
    async unmount() {
      const ended = new Promise((done) => child?.once('exit', done));
      try {
        run('umount', [folder]);
      } catch {
        run('umount', ['-l', folder]);
      }
      await ended;
      child = undefined;
    },
    memory: () => resident(child?.pid ?? 0),
  };
}

function fio(
  folder: string,
  args: readonly string[],
): { read: { bw: number; iops: number }; write: { bw: number; iops: number } } {
  const text = run('fio', [
    '--name=bench',
    `--directory=${folder}`,
    '--output-format=json',
    '--ioengine=psync',
    '--group_reporting',
    ...args,
  ]);
  const { jobs } = JSON.parse(text.slice(text.indexOf('{'))) as {
    jobs: { read: { bw: number; iops: number }; write: { bw: number; iops: number } }[];
  };
  if (!jobs[0]) throw new Error('fio reported no job');
  return jobs[0];
}

/** Several processes at once; operations per second of all together. */
async function files(operation: string, folder: string, count: number, processes: number): Promise<number> {
  const all = Array.from({ length: processes }, (_, index) => {
    const child = spawn(
      process.execPath,
      [join(root, 'bench/files.ts'), operation, join(folder, `p${processes}-${index}`), String(Math.floor(count / processes))],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    let output = '';
    const ready = Promise.withResolvers<void>();
    const result = Promise.withResolvers<{ done: number; seconds: number }>();
    child.stdout.on('data', (data: Buffer) => {
      output += data.toString();
      if (output.startsWith('ready\n')) ready.resolve();
    });
    child.once('exit', (code) => {
      const line = output.trim().split('\n').at(-1) ?? '';
      if (code === 0) result.resolve(JSON.parse(line) as { done: number; seconds: number });
      else result.reject(new Error(`${operation} in ${folder} ended with ${code}`));
      ready.resolve();
    });
    return { child, ready: ready.promise, result: result.promise };
  });
  await Promise.all(all.map(({ ready }) => ready));
  for (const { child } of all) child.stdin.end('g');
  const results = await Promise.all(all.map(({ result }) => result));
  return results.reduce((sum, { done }) => sum + done, 0) / Math.max(...results.map(({ seconds }) => seconds));
}

interface Cell {
  readonly name: string;
  readonly unit: string;
  readonly prepare?: (client: Client) => Promise<void> | void;
  readonly measure: (client: Client) => Promise<number> | number;
}

const sequential = ['--bs=1M', `--size=${sizeMiB}M`, '--filename=sequential'];
const random = ['--bs=4k', `--size=${Math.min(256, sizeMiB)}M`, '--filename=random', '--direct=1', '--runtime=5', '--time_based'];
const FILES = 4000;

const cells: readonly Cell[] = [
  {
    name: 'sequential write',
    unit: 'MiB/s',
    measure: ({ folder }) => fio(folder, ['--rw=write', '--end_fsync=1', ...sequential]).write.bw / 1024,
  },
  {
    name: 'sequential read, cold',
    unit: 'MiB/s',
    prepare: async (client) => {
      await client.unmount();
      dropCaches();
      await client.mount(true);
    },
    measure: ({ folder }) => fio(folder, ['--rw=read', ...sequential]).read.bw / 1024,
  },
  {
    name: 'sequential read, disk cache',
    unit: 'MiB/s',
    prepare: async (client) => {
      fio(client.folder, ['--rw=read', ...sequential]);
      await client.unmount();
      dropCaches();
      await client.mount(false);
    },
    measure: ({ folder }) => fio(folder, ['--rw=read', '--invalidate=0', ...sequential]).read.bw / 1024,
  },
  {
    name: 'sequential read, page cache',
    unit: 'MiB/s',
    prepare: ({ folder }) => void fio(folder, ['--rw=read', '--invalidate=0', ...sequential]),
    // A tenth of a second each, and the first ones slow for any client: the median of some.
    measure: ({ folder }) =>
      median(Array.from({ length: 7 }, () => fio(folder, ['--rw=read', '--invalidate=0', ...sequential]).read.bw / 1024)),
  },
  {
    name: 'random read 4 KiB, 1 job',
    unit: 'IOPS',
    prepare: ({ folder }) => {
      if (!existsSync(join(folder, 'random')))
        fio(folder, ['--rw=write', '--bs=1M', `--size=${Math.min(256, sizeMiB)}M`, '--filename=random', '--end_fsync=1']);
      fio(folder, ['--rw=read', '--bs=1M', `--size=${Math.min(256, sizeMiB)}M`, '--filename=random']);
    },
    measure: ({ folder }) => fio(folder, ['--rw=randread', ...random]).read.iops,
  },
  {
    name: 'random read 4 KiB, 4 jobs',
    unit: 'IOPS',
    measure: ({ folder }) => fio(folder, ['--rw=randread', '--numjobs=4', ...random]).read.iops,
  },
  {
    name: 'random write 4 KiB',
    unit: 'IOPS',
    measure: ({ folder }) => fio(folder, ['--rw=randwrite', '--end_fsync=1', ...random]).write.iops,
  },
  ...[1, 4].flatMap((processes): Cell[] => [
    ...['create', 'stat', 'open', 'readdir', 'rename', 'unlink'].map((operation): Cell => ({
      name: `${operation}, ${processes} process${processes > 1 ? 'es' : ''}`,
      unit: operation === 'readdir' ? 'names/s' : 'ops/s',
      // Names and attributes that the kernel still holds would measure the kernel.
      prepare: () =>
        operation === 'stat' || operation === 'open' || operation === 'readdir'
          ? new Promise((done) => setTimeout(done, 1100))
          : undefined,
      measure: ({ folder }) => files(operation, join(folder, 'many'), FILES, processes),
    })),
    {
      name: `create 16 KiB files, ${processes} process${processes > 1 ? 'es' : ''}`,
      unit: 'files/s',
      measure: ({ folder }) => files('create16k', join(folder, 'small'), 1000, processes),
    },
    {
      name: `read 16 KiB files, ${processes} process${processes > 1 ? 'es' : ''}`,
      unit: 'files/s',
      prepare: dropCaches,
      measure: ({ folder }) => files('read16k', join(folder, 'small'), 1000, processes),
    },
  ]),
];

const median = (numbers: readonly number[]): number => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0;
const show = (value: number): string => (value >= 1000 ? value.toFixed(0) : value.toPrecision(3));

async function main(): Promise<void> {
  ensureDebian('fio', 'redis-server');
  const redis = await startRedis();
  const s3 = options.store === 's3' ? await startS3() : undefined;
  s3?.createBucket('bench');
  const peer = juicefs();
  const storage = s3
    ? ['--storage', 's3', '--bucket', `${s3.endpoint}/bench`, '--access-key', s3.accessKey, '--secret-key', s3.secretKey]
    : ['--storage', 'file', '--bucket', join(work, 'store/')];
  const disk = join(work, 'disk');
  mkdirSync(disk);
  const juicepod = join(root, 'bin/juicepod');
  const clients: Client[] = [mounted('juicepod', juicepod, [], redis.url(1), [])];
  run(juicepod, ['format', redis.url(1), 'bench-ours', '--trash-days', '0', ...storage]);
  if (peer) {
    clients.push(mounted('juicefs', peer, [], redis.url(2), ['--no-bgjob']));
    run(peer, ['format', redis.url(2), 'bench-theirs', '--trash-days', '0', ...storage]);
  } else console.log('The official client is not measured: JUICEFS_BIN does not name it.');
  const nothing = async (): Promise<void> => {};
  clients.push({ name: 'disk', folder: disk, mount: nothing, unmount: nothing, memory: () => 0 });

  const results: Record<string, Record<string, number>> = {};
  try {
    const start: Record<string, number[]> = {};
    for (const client of clients) {
      const begin = performance.now();
      await client.mount(true);
      start[client.name] = [performance.now() - begin];
    }
    // Ours gives back what its start took when it is seen to wait.
    await new Promise((done) => setTimeout(done, 10_000));
    results['start to a mount that answers, ms (less is better)'] = Object.fromEntries(
      clients.map(({ name }) => [name, start[name]?.[0] ?? 0]),
    );
    results['idle memory, MiB (less is better)'] = Object.fromEntries(
      clients.map((client) => [client.name, client.memory() / 1024]),
    );
    for (const cell of cells.filter(({ name }) => only.test(name))) {
      const measured: Record<string, number[]> = {};
      for (let round = 0; round < Number(options.rounds); round++) {
        for (const client of clients) {
          const values = (measured[client.name] ??= []);
          // Calls that use up their files are measured once per client.
          if (round > 0 && /^(create|rename|unlink)/.test(cell.name)) continue;
          await cell.prepare?.(client);
          values.push(await cell.measure(client));
        }
      }
      const row = Object.fromEntries(Object.entries(measured).map(([name, values]) => [name, median(values)]));
      results[`${cell.name}, ${cell.unit}`] = row;
      const ratio = row['juicefs'] ? `  ratio ${((row['juicepod'] ?? 0) / row['juicefs']).toFixed(2)}` : '';
      console.log(
        `${cell.name.padEnd(34)} ${cell.unit.padEnd(8)} ${Object.entries(row)
          .map(([name, value]) => `${name} ${show(value)}`)
          .join('   ')}${ratio}`,
      );
    }
    results['memory after the run, MiB (less is better)'] = Object.fromEntries(
      clients.map((client) => [client.name, client.memory() / 1024]),
    );
  } finally {
    for (const client of clients) await client.unmount().catch((error: unknown) => console.error(error));
    await redis.stop();
    await s3?.stop();
    rmSync(work, { recursive: true, force: true });
  }
  console.log(`\nOne run, ${options.store} store, ${sizeMiB} MiB files, median of ${options.rounds}:\n`);
  console.log(`| | juicepod | juicefs | ratio | local disk |\n|---|---|---|---|---|`);
  for (const [name, row] of Object.entries(results)) {
    const ratio = row['juicefs'] ? ((row['juicepod'] ?? 0) / row['juicefs']).toFixed(2) : '–';
    console.log(
      `| ${name} | ${show(row['juicepod'] ?? 0)} | ${row['juicefs'] ? show(row['juicefs']) : '–'} | ${ratio} | ${row['disk'] ? show(row['disk']) : '–'} |`,
    );
  }
  if (options.json) writeFileSync(options.json, JSON.stringify(results, undefined, 2));
}

await main();
