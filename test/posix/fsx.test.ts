/** fsx: random reads, writes, truncates and maps of one file against a model in memory. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { cannotMount, freshVolume } from '../mounted.ts';
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

// Each waits for the kernel and the database most of the time: side by side they take little longer than one.
describe('random operations on a file', { concurrency: true }, () => {
  for (const engine of ['redis', 'sqlite', 'postgres', 'mysql'] as const) {
    // A commit over a network protocol takes some times as long.
    const operations = engine === 'redis' || engine === 'sqlite' ? 100_000 : 20_000;
    test(
      `${operations} random operations on a file over ${engine} match the model`,
      { skip: cannotMount, timeout: 900_000 },
      async (t) => {
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
            ['-N', String(operations), '-S', '1', '-f', config, join(volume.folder, 'fsx')],
            { maxBuffer: 1 << 26, timeout: 800_000 },
            (error, stdout, stderr) => done({ ok: !error, output: `${stdout}\n${stderr}` }),
          );
        });
        assert.ok(result.ok, result.output.slice(-4000));
      },
    );
  }
});
