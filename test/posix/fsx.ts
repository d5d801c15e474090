/** fsx: random reads, writes, truncates, copies and maps of one file against a model in memory. A file per engine runs it, side by side with others. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
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

/** A million: FSX_OPS=1000000; another course: FSX_SEED. */
const asked = Number(process.env['FSX_OPS'] ?? 0);
const seed = process.env['FSX_SEED'] ?? '1';

/** Declares the test over one engine, with so many operations where nobody asks for another number. */
export function testFsx(engine: EngineName, usual: number): void {
  const operations = asked > 0 ? asked : usual;
  // Some 50 ms each is far more than any takes.
  const timeout = 300_000 + operations * 50;
  test(`${operations} random operations on a file over ${engine} match the model`, { skip: cannotMount, timeout }, async (t) => {
    let binary: string;
    try {
      binary = await fsx();
    } catch (error) {
      if (error instanceof ToolMissing) return t.skip(error.message);
      throw error;
    }
    await using volume = await freshVolume(engine);
    const config = join(volume.work, 'fsx.toml');
    writeFileSync(config, weights);
    const result = await new Promise<{ ok: boolean; output: string }>((done) => {
      execFile(
        binary,
        ['-N', String(operations), '-S', seed, '-f', config, join(volume.folder, 'fsx')],
        { maxBuffer: 1 << 30, timeout: timeout - 100_000 },
        (error, stdout, stderr) => done({ ok: !error, output: `${stdout}\n${stderr}` }),
      );
    });
    assert.ok(result.ok, result.output.slice(-4000));
  });
}
