/**
 * fsx: random reads, writes, truncates, copies, holes and maps of one file against a model in memory. A file per engine runs it,
 * side by side with others. Two lengths of the file: the tool's own (256 KiB, where many operations meet in few pages), and one
 * that lies across the border of two chunks (64 MiB) and of many blocks (4 MiB).
 *
 * The tool never gives back the mappings of its mapped reads. Every truncate, hole and sync of the file has the kernel walk all of
 * them, so that after a hundred thousand operations more than half of the time goes there, and near four hundred thousand there is no room for another
 * (vm.max_map_count). Hence many operations are done by one run after the other, each with the next seed, on the same mount.
 *
 * From the environment: FSX_OPS operations in the short file (1000000), FSX_SEED another course, FSX_LOG a folder that keeps the
 * list of operations done as it grows (fsx-ENGINE-LENGTH.log), by which a long run is watched and a mismatch repeated.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { closeSync, fstatSync, mkdirSync, openSync, readSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { cannotMount, freshVolume } from '../mounted.ts';
import type { EngineName } from '../servers.ts';
import { fsx, ToolMissing } from '../tools.ts';

const weights = `[weights]
mapread = 10
mapwrite = 10
punch_hole = 5
fsync = 1
copy_file_range = 5
posix_fallocate = 1
truncate = 5
close_open = 1
invalidate = 1
`;

const asked = Number(process.env['FSX_OPS'] ?? 0);
const seed = Number(process.env['FSX_SEED'] ?? 1);
const keep = process.env['FSX_LOG'];
/** Operations of one run of the tool. */
const RUN = 5000;

interface Length {
  readonly name: string;
  /** What goes before the weights in fsx's settings. */
  readonly settings: string;
  /** Operations for one of the short file: each moves more. */
  readonly share: number;
}

const lengths: readonly Length[] = [
  { name: 'short', settings: '', share: 1 },
  { name: 'long', settings: `flen = ${72 * 1024 * 1024}\n[opsize]\nmax = ${1024 * 1024}\n`, share: 1 / 100 },
];

/** The end of a file that may be large. */
function tail(path: string, bytes: number): string {
  const file = openSync(path, 'r');
  try {
    const { size } = fstatSync(file);
    const buffer = Buffer.alloc(Math.min(size, bytes));
    readSync(file, buffer, 0, buffer.length, size - buffer.length);
    return buffer.toString();
  } finally {
    closeSync(file);
  }
}

/** Declares the tests over one engine, with so many operations where nobody asks for another number. */
export function testFsx(engine: EngineName, usual: number): void {
  for (const { name, settings, share } of lengths) {
    const operations = Math.ceil((asked > 0 ? asked : usual) * share);
    // Far more than any takes.
    const timeout = 300_000 + (operations * 50) / share;
    const title = `${operations} random operations on a ${name} file over ${engine} match the model`;
    test(title, { skip: cannotMount, timeout }, async (t) => {
      let binary: string;
      try {
        binary = await fsx();
      } catch (error) {
        if (error instanceof ToolMissing) return t.skip(error.message);
        throw error;
      }
      await using volume = await freshVolume(engine);
      const config = join(volume.work, 'fsx.toml');
      writeFileSync(config, `${settings}${weights}`);
      if (keep) mkdirSync(keep, { recursive: true });
      const log = join(keep ?? volume.work, `fsx-${engine}-${name}.log`);
      const output = openSync(log, 'w');
      const begin = performance.now();
      for (let done = 0, run = 0; done < operations; done += RUN, run++) {
        const count = Math.min(RUN, operations - done);
        const course = String(seed + run);
        writeSync(output, `${done} operations done; the next ${count} have the seed ${course}\n`);
        const args = ['-v', '-N', String(count), '-S', course, '-f', config, '-P', keep ?? volume.work];
        const left = timeout - 100_000 - (performance.now() - begin);
        const code = await new Promise<number | string | null>((ended, fail) => {
          const child = spawn(binary, [...args, join(volume.folder, 'fsx')], {
            stdio: ['ignore', output, output],
            timeout: Math.ceil(Math.max(1, left)),
          });
          child.once('error', fail);
          child.once('exit', (status, signal) => ended(status ?? signal));
        });
        assert.equal(code, 0, `fsx ended with ${code}, the list of its operations with:\n${tail(log, 6000)}`);
        assert.match(tail(log, 200), /All operations completed A-OK/);
      }
      closeSync(output);
      const seconds = (performance.now() - begin) / 1000;
      t.diagnostic(`over ${engine}, ${name} file: ${operations} operations in ${seconds.toFixed(0)} s`);
    });
  }
}
