import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

const module = JSON.stringify(new URL('end-process.ts', import.meta.url).href);
const start = (script: string) =>
  spawn(process.execPath, ['--input-type=module', '--eval', `import { endCommand, endProcess } from ${module};${script}`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
const codeOf = (child: ReturnType<typeof start>): Promise<number | null> =>
  new Promise((done) => void child.once('close', (code) => done(code)));

test('a process that ends has said all that it wrote to somebody who reads slowly, and has its code', async () => {
  const child = start('process.stdout.write(Buffer.alloc(5_000_000, 97)); process.exitCode = 3; await endCommand();');
  const ended = codeOf(child);
  let bytes = 0;
  for await (const part of child.stdout as AsyncIterable<Buffer>) {
    bytes += part.length;
    if (bytes < 300_000) await sleep(20);
  }
  assert.deepEqual([bytes, await ended], [5_000_000, 3]);
});

test('a process ends although a call of its pool of threads does not', { timeout: 60_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'juicepod-end-'));
  try {
    const pipe = join(folder, 'pipe');
    execFileSync('mkfifo', [pipe]);
    // Nobody ever opens the other side.
    const child = start(
      `import { open } from 'node:fs'; open(${JSON.stringify(pipe)}, 'r', () => {}); setTimeout(() => endProcess(4), 300);`,
    );
    assert.equal(await codeOf(child), 4);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
