/** What a mount costs that nobody uses: all its processes together. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { commandLines, until } from '../cli/command.ts';
import { cannotMount, freshVolume } from '../mounted.ts';

const MOST_MIB = 90;

/** Resident memory of the processes that serve a mount, MiB: what they share counts for each. */
function residentMib(folder: string): number {
  const processes = commandLines().filter(({ text }) => / (supervise|serve) /.test(text) && text.includes(` ${folder} `));
  const kib = processes.map(({ pid }) => Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]));
  assert.equal(kib.length, 2, JSON.stringify(processes));
  return kib.reduce((sum, each) => sum + each, 0) / 1024;
}

test(
  `a mount that nobody uses holds at most ${MOST_MIB} MiB, from soon after its start, and again after it was used`,
  { skip: cannotMount },
  async () => {
    await using mounted = await freshVolume('redis');
    const { folder } = mounted;
    const settles = async (what: string): Promise<void> => {
      try {
        await until(what, () => residentMib(folder) <= MOST_MIB);
      } catch {
        assert.fail(`waited in vain until ${what}: ${residentMib(folder).toFixed(1)} MiB`);
      }
    };
    await settles('it has given back what its start took');
    mkdirSync(join(folder, 'many'));
    for (let index = 0; index < 500; index++) writeFileSync(join(folder, 'many', `file-${index}`), Buffer.alloc(16_384, index));
    execFileSync('dd', ['if=/dev/zero', `of=${join(folder, 'large')}`, 'bs=1M', 'count=256', 'conv=fsync'], { stdio: 'pipe' });
    await settles('it has given back what its work took');
    for (let index = 0; index < 500; index += 50)
      assert.deepEqual(readFileSync(join(folder, 'many', `file-${index}`)), Buffer.alloc(16_384, index));
  },
);
