/**
 * The cells of client.ts: what is done on a folder, with how many processes, and how fast it went. fio moves bytes, each of its
 * processes in a file of its own; bench/files.ts makes calls on many small files.
 */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { dropCaches, root, run, type Side, wait } from './sides.ts';
import { median } from './table.ts';

export interface Cell {
  readonly name: string;
  readonly unit: string;
  /** Bytes go to the store or come from it: what a volume's form (encryption, compression) can be seen in. */
  readonly data: boolean;
  readonly goal?: number;
  readonly prepare?: (side: Side, round: number) => Promise<void> | void;
  readonly measure: (side: Side, round: number) => Promise<number> | number;
}

export interface Scale {
  /** What sequential cells move, all processes together, MiB. */
  readonly sizeMiB: number;
  /** How long a random cell runs, seconds. */
  readonly seconds: number;
  /** Small files, all processes together. */
  readonly files: number;
  /** Half of what is written can be compressed. */
  readonly compressible: boolean;
}

interface Direction {
  /** KiB/s */
  readonly bw: number;
  readonly iops: number;
}

function fio(folder: string, args: readonly string[]): { read: Direction; write: Direction } {
  const usual = ['--name=bench', `--directory=${folder}`, '--output-format=json', '--ioengine=psync', '--group_reporting'];
  const text = run('fio', [...usual, ...args]);
  const { jobs } = JSON.parse(text.slice(text.indexOf('{'))) as { jobs: { read: Direction; write: Direction }[] };
  if (!jobs[0]) throw new Error('fio reported no job');
  return jobs[0];
}

/** Several processes at once; operations per second of all together. */
async function files(operation: string, folder: string, count: number, processes: number): Promise<number> {
  const share = Math.max(1, Math.floor(count / processes));
  const all = Array.from({ length: processes }, (_, index) => {
    const args = [join(root, 'bench/files.ts'), operation, join(folder, `p${index}`), String(share)];
    const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    let output = '';
    const ready = Promise.withResolvers<void>();
    const result = Promise.withResolvers<{ done: number; seconds: number }>();
    child.stdout.on('data', (data: Buffer) => {
      output += data.toString();
      if (output.startsWith('ready\n')) ready.resolve();
    });
    child.once('close', (code) => {
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

function removeAll(folder: string, prefix: string): void {
  for (const name of readdirSync(folder).filter((each) => each.startsWith(prefix)))
    rmSync(join(folder, name), { recursive: true, force: true });
}

/** All cells with that number of processes, in an order in which each finds what it needs. */
export function cellsOf(processes: number, scale: Scale): Cell[] {
  const { sizeMiB, seconds, compressible } = scale;
  const how = processes === 1 ? '1 process' : `${processes} processes`;
  const each = [`--numjobs=${processes}`, ...(compressible ? ['--buffer_compress_percentage=50', '--refill_buffers'] : [])];
  const own = (name: string): string => `--filename_format=${name}-${processes}-$jobnum`;
  const sequential = ['--bs=1M', `--size=${Math.ceil(sizeMiB / processes)}M`, own('sequential'), ...each];
  const randomMiB = Math.min(256, Math.ceil(sizeMiB / 2));
  const randomFile = [`--size=${Math.ceil(randomMiB / processes)}M`, own('random'), ...each];
  const random = ['--bs=4k', ...randomFile, `--runtime=${seconds}`, '--time_based'];
  const read = (side: Side): number => fio(side.folder, ['--rw=read', '--invalidate=0', ...sequential]).read.bw / 1024;
  const again = async (side: Side, freshCache: boolean): Promise<void> => {
    await side.unmount();
    dropCaches();
    await side.mount(freshCache);
  };
  // Written by other processes than those that read: what is read comes from the store and the cache, warm from the second reading on.
  const layOut = ({ folder }: Side): void => {
    const mark = join(folder, `random-${processes}-done`);
    if (existsSync(mark)) return;
    removeAll(folder, 'random-');
    fio(folder, ['--rw=write', '--bs=1M', '--end_fsync=1', ...randomFile]);
    fio(folder, ['--rw=read', '--bs=1M', ...randomFile]);
    writeFileSync(mark, '');
  };
  const many = ({ folder }: Side, round: number): string => join(folder, `many-${processes}-${round}`);
  const small = ({ folder }: Side, round: number): string => join(folder, `small-${processes}-${round}`);
  const smallFiles = Math.ceil(scale.files / 4);
  const largeFiles = Math.max(processes, Math.ceil(scale.files / 50));
  return [
    {
      name: `sequential write, ${how}`,
      unit: 'MiB/s',
      data: true,
      prepare: ({ folder }) => removeAll(folder, 'sequential-'),
      measure: ({ folder }) => fio(folder, ['--rw=write', '--end_fsync=1', ...sequential]).write.bw / 1024,
    },
    {
      name: `sequential read, cold, ${how}`,
      unit: 'MiB/s',
      data: true,
      prepare: (side) => again(side, true),
      measure: read,
    },
    {
      name: `sequential read, disk cache, ${how}`,
      unit: 'MiB/s',
      data: true,
      prepare: async (side) => {
        read(side);
        await again(side, false);
      },
      measure: read,
    },
    {
      name: `sequential read, page cache, ${how}`,
      unit: 'MiB/s',
      data: true,
      prepare: (side) => void read(side),
      // A tenth of a second each, and the first ones slow for any client: the median of some.
      measure: (side) => median(Array.from({ length: 5 }, () => read(side))),
    },
    {
      name: `random read 4 KiB, direct, ${how}`,
      unit: 'IOPS',
      data: true,
      prepare: layOut,
      measure: ({ folder }) => fio(folder, ['--rw=randread', '--direct=1', ...random]).read.iops,
    },
    {
      name: `random overwrite 4 KiB, direct, ${how}`,
      unit: 'IOPS',
      data: true,
      goal: 10,
      prepare: layOut,
      measure: ({ folder }) => fio(folder, ['--rw=randwrite', '--direct=1', '--end_fsync=1', ...random]).write.iops,
    },
    {
      name: `random overwrite 4 KiB, buffered, ${how}`,
      unit: 'IOPS',
      data: true,
      goal: 10,
      prepare: layOut,
      // So many operations, and the time until all of them are stored: fio counts the fsync, and not its own start.
      measure: ({ folder }) => {
        const bounds = [`--number_ios=${Math.ceil((500 * seconds) / processes)}`, '--bs=4k', '--end_fsync=1', '--norandommap'];
        return fio(folder, ['--rw=randwrite', ...bounds, ...randomFile]).write.iops;
      },
    },
    ...['create', 'stat', 'open', 'readdir', 'rename', 'unlink'].map((operation): Cell => ({
      name: `${operation}, ${how}`,
      unit: operation === 'readdir' ? 'names/s' : 'ops/s',
      data: false,
      // Names and attributes that the kernel still holds would measure the kernel.
      prepare: () => (['stat', 'open', 'readdir'].includes(operation) ? wait(1100) : undefined),
      measure: (side, round) => files(operation, many(side, round), scale.files, processes),
    })),
    {
      name: `create files of 16 KiB, ${how}`,
      unit: 'files/s',
      data: true,
      measure: (side, round) => files('create16k', small(side, round), smallFiles, processes),
    },
    {
      name: `read files of 16 KiB, ${how}`,
      unit: 'files/s',
      data: true,
      prepare: dropCaches,
      measure: (side, round) => files('read16k', small(side, round), smallFiles, processes),
    },
    {
      name: `create files of 1 MiB, ${how}`,
      unit: 'files/s',
      data: true,
      measure: (side, round) => files('create1m', small(side, round), largeFiles, processes),
    },
  ];
}
