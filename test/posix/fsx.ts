/**
 * fsx: random reads, writes, truncates, copies, holes and maps of one file against a model in memory. A file per engine runs it,
 * side by side with others. Two lengths of the file: the tool's own (256 KiB, where many operations meet in few pages), and one
 * that lies across the border of two chunks (64 MiB) and of many blocks (4 MiB).
 *
 * From the environment: FSX_OPS operations in the short file (1000000), FSX_SEED another course, FSX_LOG a folder that keeps the
 * list of operations done as it grows (fsx-ENGINE-LENGTH.log), by which a long run is watched and a mismatch repeated.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { closeSync, fstatSync, mkdirSync, openSync, readSync, writeFileSync } from 'node:fs';
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
const seed = process.env['FSX_SEED'] ?? '1';
const keep = process.env['FSX_LOG'];

interface Length {
  readonly name: string;
  /** What goes before the weights in fsx's settings. */
  readonly settings: string;
  /** Operations for one of the short file: each moves more. */
  readonly share: number;
}

const lengths: readonly Length[] = [
  { name: 'short', settings: '', share: 1 },
  { name: 'long', settings: `flen = ${72 * 1024 * 1024}\n[opsize]\nmax = ${1024 * 1024}\n`, share: 1 / 50 },
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
      const args = ['-v', '-N', String(operations), '-S', seed, '-f', config, '-P', keep ?? volume.work];
      const begin = performance.now();
      const code = await new Promise<number | null>((done, fail) => {
        const child = spawn(binary, [...args, join(volume.folder, 'fsx')], {
          stdio: ['ignore', output, output],
          timeout: timeout - 100_000,
        });
        child.once('error', fail);
        child.once('exit', done);
      });
      closeSync(output);
      const seconds = (performance.now() - begin) / 1000;
      assert.equal(code, 0, tail(log, 6000));
      assert.match(tail(log, 200), /All operations completed A-OK/);
      t.diagnostic(`over ${engine}, ${name} file: ${operations} operations in ${seconds.toFixed(0)} s`);
    });
  }
}
