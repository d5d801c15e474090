/** Programs write through a mount while the master of its database dies, or freezes: they see a pause, and what they synced is there. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { cannotMount, juicepod, startMount } from '../mounted.ts';
import { startCluster, startSentinels, until } from './servers.ts';
import { removeFolder } from '../remove-folder.ts';

for (const [name, start, signal] of [
  ['Sentinel', () => startSentinels(1), 'SIGKILL'],
  ['Cluster', () => startCluster(1), 'SIGSTOP'],
] as const)
  test(
    `${signal} to the master under a mount with ${name}: every file that was synced is there with its bytes`,
    { skip: cannotMount },
    async () => {
      const work = mkdtempSync(join(tmpdir(), 'juicepod-failover-'));
      await using group = await start();
      try {
        const metaUrl = `${group.url(1)}?wait-replicas=1`;
        await juicepod(['format', metaUrl, 'testvol', '--storage', 'file', '--bucket', join(work, 'store')]);
        const told: string[] = [];
        {
          await using mounted = await startMount(metaUrl, join(work, 'mnt'), work);
          const writer = spawn(process.execPath, [join(import.meta.dirname, 'writer.ts'), mounted.folder], {
            stdio: ['pipe', 'pipe', 'inherit'],
          });
          const ended = once(writer, 'exit');
          createInterface(writer.stdout).on('line', (line) => told.push(line));
          await until('some files', () => Promise.resolve(told.length > 50));
          const master = await group.master(1);
          // The only replica takes over, and there is none to wait for until there is a new one, or the old master is one.
          process.kill(master.pid, signal);
          const after = await until('another master', async () => {
            const now = await group.master(1);
            return now !== master && now;
          });
          if (signal === 'SIGSTOP') process.kill(master.pid, 'SIGCONT');
          else await group.replace?.(after);
          const before = told.length;
          await until('files after the failover', () => Promise.resolve(told.length > before + 50));
          writer.stdin.end();
          await ended;
          const listed = (await readdir(mounted.folder)).filter((each) => !each.startsWith('.'));
          assert.deepEqual(listed.toSorted(), told.toSorted());
        }
        // A client that knows nothing of it.
        await using again = await startMount(metaUrl, join(work, 'mnt'), work);
        for (const file of told) assert.equal(await readFile(join(again.folder, file), 'utf8'), `${file} `.repeat(50));
      } finally {
        removeFolder(work);
      }
    },
  );
