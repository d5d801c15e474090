/** Locks in a pod whose client is replaced, in order or by a crash: who holds one holds it on, who waits waits on. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { openEngine, readFormat } from '../../src/meta/open.ts';
import { succeeds, until } from '../cli/command.ts';
import { Locker, noPython, pending } from '../locks/locker.ts';
import { cannotMount } from '../mounted.ts';
import { startRedis } from '../servers.ts';
import { startPodProcesses } from './pod.ts';
import { removeFolder } from '../remove-folder.ts';

for (const signal of ['SIGTERM', 'SIGKILL'] as const)
  test(
    `locks and waits of a pod go on when its client is replaced after ${signal}`,
    { skip: cannotMount || noPython },
    async () => {
      await using redis = await startRedis();
      const work = mkdtempSync(join(tmpdir(), 'juicepod-locks-'));
      try {
        await succeeds(['format', redis.url(1), 'testvol', '--storage', 'file', '--bucket', join(work, 'store')]);
        const engine = await openEngine(redis.url(1));
        const uuid = (await readFormat(engine))?.uuid ?? '';
        await engine.close();
        await using pod = await startPodProcesses({ name: 'testvol', uuid, metaUrl: redis.url(1) });
        const folder = pod.targets[0] ?? '';
        await using a = new Locker();
        await using b = new Locker();
        await using c = new Locker();
        for (const locker of [a, b, c]) assert.equal(await locker.do(`open f ${folder}/file rw`), 'ok');
        assert.equal(await a.do('fcntl f w 0 10'), 'ok');
        assert.equal(await a.do('flock f r'), 'ok');
        const waits = [b.do('fcntl f w 5 1 wait'), c.do('flock f w wait')];
        for (const wait of waits) assert.ok(await pending(wait));
        const before = pidOf(folder);
        const { client } = pod;
        process.kill(client.pid, signal);
        await client.ended;
        pod.startClient();
        await until('another client serves', () => pidOf(folder) !== before);
        assert.doesNotMatch(pod.log(), /left unanswered/);
        for (const wait of waits) assert.ok(await pending(wait), 'neither lost nor answered');
        assert.equal(await a.do('fcntl f u 0 6'), 'ok');
        assert.equal(await waits[0], 'ok');
        assert.equal(await b.do('get f w 6 1'), 'w 6 4 own');
        assert.equal(await a.do('close f'), 'ok');
        assert.equal(await waits[1], 'ok');
        assert.equal(await b.do('fcntl f w'), 'ok');
      } finally {
        removeFolder(work);
      }
    },
  );

function pidOf(folder: string): number {
  return (JSON.parse(readFileSync(join(folder, '.config'), 'utf8')) as { Pid: number }).Pid;
}
