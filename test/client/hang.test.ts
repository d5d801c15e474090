/**
 * Clients that live and do nothing any more, under a program that writes: stopped, or running in a circle. And clients that only wait
 * for their database, who must not be taken for such.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Holder } from '../../src/client/hold.ts';
import { HEARTBEAT_PATH, supervise } from '../../src/client/hold-supervise.ts';
import { systemClock } from '../../src/lib/clock.ts';
import { nullLogger } from '../../src/lib/log.ts';
import { SETTINGS_VARIABLE } from '../../src/cli/mount/settings.ts';
import { bin, until } from '../cli/command.ts';
import { cannotMount, clearMounts } from '../mounted.ts';
import { startRedis } from '../servers.ts';
import { startPodProcesses } from './pod.ts';
import { formatVolume, startWriter } from './writer.ts';

/** As the kubelet asks, of a heartbeat that comes every 5 s; the 30 s of silence made 7. */
const soon = (command: string): string => command.replace('-le 30', '-le 7');
/** Seconds in which a heartbeat is missed. */
const SILENT_MS = 10_000;

const stateOf = (pid: number): string => /^State:\s+(\S)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? '';

test(
  'a client in a pod that is stopped is found by its liveness probe, and the next one goes on with its mounts',
  { skip: cannotMount },
  async () => {
    await using volume = await formatVolume();
    await using pod = await startPodProcesses(volume.config);
    await using writer = startWriter(join(pod.targets[0] ?? '', 'lines'));
    await writer.goesOn();
    assert.deepEqual(await pod.probe('livenessProbe', soon), { code: 0, output: '' });
    process.kill(pod.client.pid, 'SIGSTOP');
    await until('it is stopped', () => stateOf(pod.client.pid) === 'T');
    await sleep(SILENT_MS);
    const { lines } = writer;
    assert.equal((await pod.probe('livenessProbe', soon)).code, 1);
    assert.equal(writer.lines, lines, 'nobody serves the mount');
    // What the kubelet does: a moment to end, then this.
    process.kill(pod.client.pid, 'SIGTERM');
    process.kill(pod.client.pid, 'SIGKILL');
    await pod.client.ended;
    pod.startClient();
    await writer.goesOn();
    assert.equal((await pod.probe('livenessProbe', soon)).code, 0);
    await writer.end();
  },
);

test(
  'a client that waits for its database is alive, and one that has ended in order is not missed',
  { skip: cannotMount },
  async () => {
    await using redis = await startRedis();
    await using volume = await formatVolume(redis.url(1));
    await using pod = await startPodProcesses(volume.config);
    await using writer = startWriter(join(pod.targets[0] ?? '', 'lines'));
    await writer.goesOn();
    process.kill(redis.pid, 'SIGSTOP');
    try {
      await sleep(SILENT_MS);
      const { lines } = writer;
      assert.equal((await pod.probe('livenessProbe', soon)).code, 0);
      await sleep(1000);
      assert.equal(writer.lines, lines, 'it waits');
    } finally {
      process.kill(redis.pid, 'SIGCONT');
    }
    await writer.goesOn();
    await writer.end();
    process.kill(pod.client.pid, 'SIGTERM');
    await pod.client.ended;
    assert.equal(existsSync(join(pod.work, 'run/alive')), false);
    assert.equal((await pod.probe('livenessProbe', soon)).code, 0, 'an image without heartbeat may follow');
  },
);

/** Makes a process run in a circle for ever, by its debugger. */
async function runInACircle(pid: number, log: () => string): Promise<void> {
  process.kill(pid, 'SIGUSR1');
  let url: string | undefined;
  await until('the debugger listens', () => (url = /ws:\/\/\S+/.exec(log())?.[0]) !== undefined);
  const socket = new WebSocket(url ?? '');
  await new Promise((done, fail) => {
    socket.addEventListener('open', done);
    socket.addEventListener('error', fail);
  });
  socket.send(JSON.stringify({ id: 1, method: 'Runtime.evaluate', params: { expression: 'for (;;);' } }));
  await sleep(500);
  socket.close();
}

test(
  'on one machine a client that runs in a circle is ended and followed by another; programs go on',
  { skip: cannotMount },
  async () => {
    await using volume = await formatVolume();
    const [target, socket, log] = [join(volume.folder, 'mnt'), join(volume.folder, 'hold.sock'), join(volume.folder, 'log')];
    mkdirSync(target);
    const { name, uuid, metaUrl } = volume.config;
    const settings = {
      volume: name,
      uuid,
      metaUrl,
      target,
      allowOther: true,
      readOnly: false,
      storage: {},
      subPath: '',
      xattr: false,
      hideInternal: false,
      attrTimeout: 1,
      entryTimeout: 1,
      dirEntryTimeout: 1,
      negativeTimeout: 0,
      heartbeatMs: 12_000,
      cache: { folder: join(volume.folder, 'cache'), bytes: 1 << 26, freeRatio: 0.01 },
      bufferBytes: 1 << 26,
      readaheadBytes: 1 << 20,
      maxUploads: 4,
      maxDownloads: 4,
      backgroundJobs: false,
    };
    const pids: number[] = [];
    const stop = new AbortController();
    const done = supervise(
      {
        command: 'sh',
        args: ['-c', 'exec "$@" 2>> "$0"', log, bin, 'serve', '--socket', socket, '--heartbeat', HEARTBEAT_PATH],
        env: { ...process.env, [SETTINGS_VARIABLE]: JSON.stringify(settings), NODE_OPTIONS: '--inspect-port=0' },
        holder: await Holder.start({ socket, guard: false, log: nullLogger }),
        clock: systemClock,
        log: nullLogger,
        stdio: 'ignore',
        onStart: (pid) => void pids.push(pid),
        silence: { lookMs: 500, silentSeconds: 7 },
      },
      stop.signal,
    );
    try {
      await until('it is mounted', () => existsSync(join(target, '.stats')));
      await using writer = startWriter(join(target, 'lines'));
      await writer.goesOn();
      await sleep(SILENT_MS);
      assert.equal(pids.length, 1, 'a client that works is left alone');
      await runInACircle(pids[0] ?? 0, () => readFileSync(log, 'utf8'));
      await until('it is followed by another', () => pids.length === 2);
      await writer.goesOn();
      await writer.end();
    } finally {
      stop.abort();
      await done;
      await clearMounts(volume.folder);
    }
  },
);
