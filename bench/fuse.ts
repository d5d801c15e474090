/**
 * How fast requests travel, with handlers that do nothing, over /dev/fuse and over fuse-native: `node bench/fuse.ts [seconds]`.
 * Needs root, /dev/fuse and fio. Prints one line a measurement and the ratio; only ratios mean much on a busy machine.
 */
import { execFile, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { abortSession, unmount } from '../src/fuse/mount.ts';
import { ensureDebian } from '../test/tools.ts';

const execute = promisify(execFile);
const seconds = Number(process.argv[2] ?? 4);

async function fio(target: string, how: string, size: string, jobs: number): Promise<{ iops: number; mibs: number }> {
  const args = [
    '--name=bench',
    `--filename=${join(target, 'big')}`,
    `--rw=${how}`,
    `--bs=${size}`,
    `--numjobs=${jobs}`,
    '--direct=1',
    '--ioengine=psync',
    '--size=1g',
    '--time_based',
    `--runtime=${seconds}`,
    '--group_reporting',
    '--output-format=json',
  ];
  const { stdout } = await execute('fio', args, { timeout: (seconds + 30) * 1000, killSignal: 'SIGKILL' });
  const [job] = (JSON.parse(stdout) as { jobs: { read: { iops: number; bw_bytes: number } }[] }).jobs;
  return { iops: job?.read.iops ?? 0, mibs: (job?.read.bw_bytes ?? 0) / (1 << 20) };
}

/** Calls a second of a synchronous loop in a process of its own; each call names a new file. */
async function calls(target: string, body: string): Promise<number> {
  const script = `const fs=require('fs');const end=performance.now()+${seconds * 500};let n=0;for(;performance.now()<end;n++){const path='${target}/'+PREFIX+n;${body}}console.log(n/${seconds / 2})`;
  const { stdout } = await execute(
    process.execPath,
    ['-e', script.replace('PREFIX', body.includes('openSync') ? "'new'" : "'old'")],
    {
      timeout: (seconds + 30) * 1000,
      killSignal: 'SIGKILL',
    },
  );
  return Number(stdout);
}

async function measure(kind: 'raw' | 'native'): Promise<ReadonlyMap<string, number>> {
  const target = mkdtempSync(join(tmpdir(), 'juicepod-bench-'));
  const server = spawn(process.execPath, [join(import.meta.dirname, 'fuse-server.ts'), kind, target], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    await new Promise<void>((resolve, reject) => {
      server.stdout.once('data', () => resolve());
      server.once('exit', (code) => reject(new Error(`the ${kind} server ended with ${code}`)));
    });
    return new Map([
      ['sequential read 1 MiB, MiB/s', (await fio(target, 'read', '1m', 1)).mibs],
      ['random read 4 KiB, 1 job, IOPS', (await fio(target, 'randread', '4k', 1)).iops],
      ['random read 4 KiB, 8 jobs, IOPS', (await fio(target, 'randread', '4k', 8)).iops],
      ['stat of new names, 1/s', await calls(target, 'fs.statSync(path)')],
      ['create and close, 1/s', await calls(target, "fs.closeSync(fs.openSync(path,'w'))")],
    ]);
  } finally {
    await abortSession(target);
    await unmount(target);
    server.kill('SIGKILL');
    rmSync(target, { recursive: true, force: true });
  }
}

ensureDebian('fio');
const raw = await measure('raw');
const native = await measure('native');
for (const [what, value] of raw) {
  const other = native.get(what) ?? 0;
  console.log(
    `${what.padEnd(34)} raw ${value.toFixed(0).padStart(8)}  fuse-native ${other.toFixed(0).padStart(8)}  ratio ${(value / other).toFixed(1)}`,
  );
}
