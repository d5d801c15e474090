/** Access control lists as the kernel's own file systems have them: random changes on a mount and on tmpfs come out the same. */
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { cannotMount, freshVolume } from '../mounted.ts';
import { onPath } from '../tools.ts';

const exec = promisify(execFile);
const STEPS = 150;

async function walk(folder: string, seed: number): Promise<string[]> {
  mkdirSync(folder, { recursive: true });
  const args = [join(import.meta.dirname, 'walk.py'), folder, String(seed), String(STEPS)];
  const { stdout } = await exec('python3', args, { maxBuffer: 1 << 26, timeout: 120_000 });
  return stdout.split('\n');
}

/** A folder on tmpfs, which has access control lists on any kernel that is worth a mount. */
function memory(): string | undefined {
  try {
    const folder = mkdtempSync('/dev/shm/juicepod-acl-');
    const list = '0200000001000600ffffffff02000400ea03000004000400ffffffff10000400ffffffff20000000ffffffff';
    execFileSync('python3', ['-c', `import os; os.setxattr('${folder}', 'system.posix_acl_access', bytes.fromhex('${list}'))`], {
      stdio: 'ignore',
    });
    return folder;
  } catch {
    return undefined;
  }
}

for (const engine of ['redis', 'sqlite'] as const)
  test(`random lists, modes and names over ${engine} come out as on tmpfs`, { skip: cannotMount }, async (t) => {
    if (!onPath('python3')) return t.skip('python3 is not installed');
    const folder = memory();
    if (folder === undefined) return t.skip('/dev/shm has no access control lists');
    try {
      await using volume = await freshVolume(engine, { format: ['--enable-acl'] });
      for (const seed of [1, 2, 3]) {
        const [ours, theirs]: [string[], string[]] = await Promise.all([
          walk(join(volume.folder, `seed-${seed}`), seed),
          walk(join(folder, `seed-${seed}`), seed),
        ]);
        const different = ours.findIndex((line, at) => line !== theirs[at]);
        assert.ok(different < 0, `seed ${seed}, line ${different}:\nours   ${ours[different]}\ntmpfs  ${theirs[different]}`);
        assert.equal(ours.length, theirs.length);
      }
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
