/** Both clients on one volume whose names lie behind Sentinels, or in a Cluster: one makes it, each sees what the other does, locks hold between them. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { juicepod, startMount } from '../mounted.ts';
import { startCluster, startSentinels, until } from '../redis/servers.ts';
import { cannotInteroperate, fsck, mountOfficial, runClean } from './official.ts';

const exec = promisify(execFile);

for (const [name, start] of [
  ['Sentinels', () => startSentinels(1)],
  ['a Cluster', () => startCluster(0)],
] as const)
  for (const maker of ['official', 'ours'] as const)
    test(
      `a volume behind ${name} that the ${maker} client made is one volume for both`,
      { skip: cannotInteroperate },
      async () => {
        const work = mkdtempSync(join(tmpdir(), 'juicepod-interop-'));
        await using group = await start();
        try {
          const url = group.url(3);
          const format = ['format', url, 'testvol', '--storage', 'file', '--bucket', join(work, 'store'), '--trash-days', '0'];
          await (maker === 'ours' ? juicepod(format) : runClean(format));
          {
            await using ours = await startMount(url, join(work, 'ours'), work);
            mkdirSync(join(work, 'theirs'));
            await using theirs = await mountOfficial(url, join(work, 'theirs'), ['--cache-dir', join(work, 'their-cache')]);
            const sides = [ours.folder, theirs.folder];
            for (const [n, side] of sides.entries()) {
              const other = sides[1 - n] ?? '';
              await mkdir(join(side, `d${n}`));
              await writeFile(join(side, `d${n}`, 'file'), `by ${n} `.repeat(1000));
              await until('the file of the other', async () => readFile(join(other, `d${n}`, 'file')));
              assert.equal(await readFile(join(other, `d${n}`, 'file'), 'utf8'), `by ${n} `.repeat(1000));
              await rename(join(other, `d${n}`, 'file'), join(other, `moved-${n}`));
              await until('the new name', async () => readFile(join(side, `moved-${n}`)));
            }
            await writeFile(join(ours.folder, 'lock'), '');
            await until('the lock', async () => readFile(join(theirs.folder, 'lock')));
            const holder = execFile('flock', [join(ours.folder, 'lock'), 'sh', '-c', 'echo held; exec sleep 60']);
            await new Promise((resolve) => holder.stdout?.once('data', resolve));
            await assert.rejects(exec('flock', ['--nonblock', join(theirs.folder, 'lock'), 'true']));
            // The sleeper holds it, too.
            await exec('sh', ['-c', `kill $(ps -o pid= --ppid ${holder.pid}) ${holder.pid}`]);
            await until('the lock, released', async () => exec('flock', ['--nonblock', join(theirs.folder, 'lock'), 'true']));
            await rm(join(theirs.folder, 'moved-0'));
          }
          await fsck(url);
        } finally {
          rmSync(work, { recursive: true, force: true });
        }
      },
    );
