/**
 * A client that is started again while the Secret of its volume holds credentials that do not do: it waits with the session that the
 * holder kept, says why where a person looks, and goes on when the Secret has others. What was written before is not lost.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { MountConfig } from '../../src/api/mount.ts';
import { until } from '../cli/command.ts';
import { cannotMount } from '../mounted.ts';
import { startWorld } from './credentials-world.ts';
import { type PodProcesses, startPodProcesses } from './pod.ts';
import { startHoarder, startWriter } from './writer.ts';

type World = Awaited<ReturnType<typeof startWorld>>;

/** Kills the client, has the next one find `wrong` in the Secret, and lets it find `right` later. */
async function restartOver(pod: PodProcesses, wrong: MountConfig, problem: RegExp, right: MountConfig): Promise<void> {
  process.kill(pod.client.pid, 'SIGKILL');
  await pod.client.ended;
  pod.project(wrong);
  pod.startClient();
  const file = join(pod.work, 'run/problem');
  await until('it says why it waits', () => existsSync(file));
  assert.match(readFileSync(file, 'utf8'), problem);
  // The kubelet puts this into an event of the pod.
  const { code, output } = await pod.probe('readinessProbe', (command) => command.replace('-lt 300', '-lt 5'));
  assert.equal(code, 1);
  assert.match(output, problem);
  assert.equal((await pod.probe('livenessProbe')).code, 0, 'it waits, and is well');
  assert.equal((await pod.probe('postStart')).code, 0, 'it holds nobody back: the pod has been served before');
  let ended = false;
  void pod.client.ended.then(() => (ended = true));
  await sleep(2000);
  assert.equal(ended, false, 'it does not give up');
  pod.project(right);
  await until('it serves', () => !existsSync(file));
  assert.deepEqual(await pod.probe('readinessProbe'), { code: 0, output: '' });
}

const cases: readonly {
  readonly name: string;
  readonly wrong: (world: World) => Promise<MountConfig>;
  readonly problem: RegExp;
}[] = [
  {
    name: 'a user that the database does not know',
    wrong: async (world) => world.configOf('nobody'),
    problem: /waits for its volume: .*(WRONGPASS|refuses)/,
  },
  {
    name: 'keys that the store refuses',
    wrong: async (world) => {
      const config = await world.credentials('half');
      return { ...config, storage: { accessKey: 'key-half', secretKey: 'wrong' } };
    },
    problem: /waits for its volume: .*denies access.*SignatureDoesNotMatch/,
  },
];

for (const { name, wrong, problem } of cases)
  test(
    `a client that starts over ${name} waits for others, and stores what was written before`,
    { skip: cannotMount },
    async () => {
      await using world = await startWorld();
      const right = await world.credentials('one');
      await using pod = await startPodProcesses(right);
      const [target = ''] = pod.targets;
      await using writer = startWriter(join(target, 'lines'));
      await using hoarder = await startHoarder(join(target, 'hoard'));
      await writer.goesOn();
      await restartOver(pod, await wrong(world), problem, right);
      await writer.goesOn();
      await writer.end();
      await hoarder.end();
      assert.doesNotMatch(pod.log(), /pass-\w|secret-\w/);
    },
  );

test('a client that is told to end while it waits leaves everything to the next one', { skip: cannotMount }, async () => {
  await using world = await startWorld();
  const right = await world.credentials('one');
  await using pod = await startPodProcesses(right);
  const [target = ''] = pod.targets;
  await using hoarder = await startHoarder(join(target, 'hoard'));
  process.kill(pod.client.pid, 'SIGKILL');
  await pod.client.ended;
  pod.project(world.configOf('nobody'));
  pod.startClient();
  await until('it waits', () => existsSync(join(pod.work, 'run/problem')));
  process.kill(pod.client.pid, 'SIGTERM');
  assert.equal(await pod.client.ended, 1);
  assert.match(pod.log(), /told to end while .* waited for its volume/);
  pod.project(right);
  pod.startClient();
  await hoarder.end();
});
