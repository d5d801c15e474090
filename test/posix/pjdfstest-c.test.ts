/**
 * The original pjdfstest, some 8 800 cases in shell, with the trash off (a removed name would still count as a link): no failure is
 * allowed. Over Redis; POSIX_ALL=1 runs it over SQLite, PostgreSQL and MariaDB as well, which the newer suite (pjdfstest.test.ts) always does.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmodSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { before, describe, test } from 'node:test';
import { cannotMount, freshVolume } from '../mounted.ts';
import { onPath, pjdfstestC, ToolMissing } from '../tools.ts';

const engines = ['redis', ...(process.env['POSIX_ALL'] ? (['sqlite', 'postgres', 'mysql'] as const) : [])] as const;
/** Files at the same time: they sleep now and then. */
const JOBS = '4';

describe('pjdfstest in C', { concurrency: true }, () => {
  let binary = '';
  let missing: ToolMissing | undefined;

  before(async () => {
    try {
      binary = await pjdfstestC();
    } catch (error) {
      if (!(error instanceof ToolMissing)) throw error;
      missing = error;
    }
  });

  for (const engine of engines)
    test(`passes whole over ${engine}`, { skip: cannotMount, timeout: 900_000 }, async (t) => {
      const prove = onPath('prove');
      if (!prove) return t.skip('pjdfstest in C: needs prove (apt-get install perl)');
      if (missing) return t.skip(missing.message);
      await using volume = await freshVolume(engine, { format: ['--trash-days', '0'] });
      chmodSync(volume.folder, 0o777);
      const args = ['-r', '--nocolor', '-j', JOBS, join(dirname(binary), 'tests')];
      const output = await new Promise<string>((done) => {
        execFile(prove, args, { cwd: volume.folder, maxBuffer: 1 << 26, timeout: 850_000 }, (_error, stdout, stderr) =>
          done(`${stdout}${stderr}`),
        );
      });
      const summary = /Files=(\d+), Tests=(\d+)/.exec(output);
      assert.ok(summary, `no summary in the output:\n${output.slice(-2000)}`);
      t.diagnostic(`over ${engine}: ${summary[0]}`);
      const failed = output.split('\n').filter((line) => /^Result: FAIL|Failed test|Non-zero|not ok|Parse errors/.test(line));
      assert.deepEqual(failed.slice(0, 60), []);
      assert.ok(output.includes('Result: PASS') && Number(summary[2]) > 8000, summary[0]);
    });
});
