/** System calls on a real mount that Node does not have (calls.py), over every engine. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { noPython } from '../locks/locker.ts';
import { cannotMount, freshVolume } from '../mounted.ts';

const exec = promisify(execFile);

interface Result {
  readonly name: string;
  readonly error: string | null;
}

for (const engine of ['redis', 'sqlite', 'postgres', 'mysql'] as const)
  test(`system calls over ${engine}`, { skip: cannotMount || noPython, timeout: 300_000 }, async (t) => {
    await using volume = await freshVolume(engine, {
      format: ['--trash-days', '0'],
      mount: ['--enable-ioctl', '--enable-xattr'],
    });
    const args = [join(import.meta.dirname, 'calls.py'), volume.folder];
    const { stdout } = await exec('python3', args, { timeout: 240_000, maxBuffer: 1 << 24 });
    const results = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Result);
    assert.ok(results.length > 3);
    for (const { name, error } of results) await t.test(name, () => assert.equal(error, null, error ?? ''));
  });
