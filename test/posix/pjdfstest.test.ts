/** The POSIX test suite pjdfstest over both engines, with the default options of a mount: no failure is allowed. The trash is
 * off: with it a removed name still counts as a link (it has moved to the trash), in JuiceFS's format and so here. */
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import { cannotMount, freshVolume } from '../mounted.ts';
import { pjdfstest, ToolMissing } from '../tools.ts';

/** The suite acts as two ordinary users. */
const SECOND_USER = 'pjtests';

const config = `[features]
posix_fallocate = {}
utime_now = {}
utimensat = {}
[settings]
naptime = 0.01
[dummy_auth]
entries = [["nobody", "nogroup"], ["${SECOND_USER}", "${SECOND_USER}"]]
`;

function ensureUser(): void {
  try {
    execFileSync('id', [SECOND_USER], { stdio: 'ignore' });
  } catch {
    execFileSync('useradd', ['--system', '--user-group', '--no-create-home', SECOND_USER], { stdio: 'pipe' });
  }
}

for (const [engine, format, more] of [
  ['redis', [], ''],
  ['redis', ['--enable-acl'], ' with access control lists'],
  ['sqlite', [], ''],
  ['postgres', [], ''],
  ['mysql', [], ''],
] as const) {
  test(`pjdfstest passes whole over ${engine}${more}`, { skip: cannotMount, timeout: 600_000 }, async (t) => {
    let binary: string;
    try {
      binary = await pjdfstest();
    } catch (error) {
      if (error instanceof ToolMissing) return t.skip(error.message);
      throw error;
    }
    ensureUser();
    await using volume = await freshVolume(engine, { format: ['--trash-days', '0', ...format] });
    chmodSync(volume.folder, 0o777);
    const file = join(volume.work, 'pjdfstest.toml');
    writeFileSync(file, config);
    const output = await new Promise<string>((done) => {
      execFile(binary, ['-c', file, '-p', volume.folder], { maxBuffer: 1 << 26, timeout: 500_000 }, (error, stdout, stderr) =>
        done(`${stdout}${stderr}${error && !stdout ? error.message : ''}`),
      );
    });
    const summary = /(\d+) failed, (\d+) skipped, (\d+) passed/.exec(stripVTControlCharacters(output));
    assert.ok(summary, `no summary in the output:\n${output.slice(-2000)}`);
    t.diagnostic(`pjdfstest over ${engine}${more}: ${summary[0]}`);
    assert.equal(
      summary[1],
      '0',
      output
        .split('\n')
        .filter((line) => /FAILED|failed|panicked/.test(line))
        .slice(0, 60)
        .join('\n'),
    );
    assert.ok(Number(summary[3]) > 300, `only ${summary[3]} tests ran`);
  });
}
