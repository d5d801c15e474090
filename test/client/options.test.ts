/** A plan that changes under a client whose application writes: what is taken up at once, and what by the client that follows. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { until } from '../cli/command.ts';
import { cannotMount } from '../mounted.ts';
import { startPodProcesses } from './pod.ts';
import { formatVolume, startHoarder, startWriter } from './writer.ts';

test('limits and the log level are taken up by the client that runs', { skip: cannotMount }, async () => {
  await using volume = await formatVolume();
  await using pod = await startPodProcesses(volume.config, { plan: { uploadLimit: 50_000_000 } });
  await using writer = startWriter(join(pod.targets[0] ?? '', 'lines'));
  const { Pid, Chunk } = pod.config();
  assert.equal(Chunk.UploadLimit, 50_000_000);
  pod.changePlan({ uploadLimit: 20_000_000, logLevel: 'warn' });
  await until('the limit is another', () => pod.config().Chunk.UploadLimit === 20_000_000);
  pod.changePlan({});
  await until('there is no limit', () => pod.config().Chunk.UploadLimit === 0);
  await writer.goesOn();
  assert.equal(pod.config().Pid, Pid);
  // What came while the level was higher was not said.
  assert.equal(pod.log().match(/the plan of the pod has changed/g)?.length, 1);
  await writer.end();
});

test('for other options the client ends in order, and the next one goes on by them', { skip: cannotMount }, async () => {
  await using volume = await formatVolume();
  await using pod = await startPodProcesses(volume.config);
  const [target = ''] = pod.targets;
  await using writer = startWriter(join(target, 'lines'));
  await using hoarder = await startHoarder(join(target, 'hoard'));
  await writer.goesOn();
  assert.equal(pod.config().AttrTimeout, 1e9);
  pod.changePlan({ attrTTL: 3, bufferMiB: 64 });
  assert.equal(await pod.client.ended, 0);
  const { lines } = writer;
  pod.startClient();
  await writer.goesOn();
  assert.ok(writer.lines > lines);
  assert.equal(pod.config().AttrTimeout, 3e9);
  await writer.end();
  await hoarder.end();
});

test('where write-back ends, what is staged is stored first', { skip: cannotMount }, async () => {
  await using volume = await formatVolume();
  const writeback = { maxStagingMiB: 128, uploadDelay: 3600, drainTimeout: 0 };
  await using pod = await startPodProcesses(volume.config, { plan: { writeback } });
  const [target = ''] = pod.targets;
  await using writer = startWriter(join(target, 'lines'));
  await using hoarder = await startHoarder(join(target, 'hoard'));
  await writer.goesOn();
  const staging = join(pod.work, 'cache', volume.config.uuid, 'rawstaging');
  const staged = (): number =>
    existsSync(staging)
      ? readdirSync(staging, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).length
      : 0;
  await until('something is staged', () => staged() > 0);
  pod.changePlan({});
  assert.equal(await pod.client.ended, 0);
  assert.equal(staged(), 0);
  pod.startClient();
  await writer.goesOn();
  assert.equal(pod.config().Chunk.Writeback, false);
  await writer.end();
  await hoarder.end();
});

test('what is mounted where does not change in a pod that runs, and is said', { skip: cannotMount }, async () => {
  await using volume = await formatVolume();
  await using pod = await startPodProcesses(volume.config);
  await using writer = startWriter(join(pod.targets[0] ?? '', 'lines'));
  const before = pod.config();
  pod.changePlan({ journal: '/elsewhere', attrTTL: 9 });
  await until('it is said', () => /cannot be taken up.*what is mounted where cannot change/.test(pod.log()));
  await writer.goesOn();
  assert.equal(pod.config().Pid, before.Pid);
  assert.equal(pod.config().AttrTimeout, before.AttrTimeout);
  // Back again, nothing is to be done.
  pod.changePlan({});
  await until('it is said, too', () => /is again the one in use/.test(pod.log()));
  await sleep(500);
  assert.equal(pod.config().Pid, before.Pid);
  await writer.end();
});
