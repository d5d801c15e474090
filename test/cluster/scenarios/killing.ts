/** The client killed again and again under an application that checks everything; with write-back, while the store is away. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { apply, until } from './kubectl.ts';
import { Line } from '../../line.ts';
import { clientContainer, holderContainer, inside, type Pod, statusOf } from './pods.ts';
import type { Scenario } from './scenario.ts';
import {
  begin,
  changeImage,
  doesRounds,
  ends,
  everythingIsThere,
  killForSeconds,
  locksAreHeld,
  startSteadfast,
} from './steadfast.ts';
import type { World } from './world.ts';

/** Without a trash, what is open without a name is there for the session of the client alone. */
const format = { trashRetention: '0h' };

/** A figure of the client that serves the pod's volume. */
async function figure(pod: Pod, name: string): Promise<number> {
  const text = await inside(pod, ['node', '-p', 'require("node:fs").readFileSync("/data/.stats", "utf8")']);
  const value = new RegExp(`^juicefs_${name} (.*)$`, 'm').exec(text)?.[1];
  assert.ok(value !== undefined, `the client does not tell ${name}: ${text}`);
  return Number(value);
}

function blocksOf(world: World, volume: string): number {
  const entries = readdirSync(join(world.s3.folder, world.bucket(volume)), { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile() && entry.parentPath.includes('/chunks/')).length;
}

export const killing: readonly Scenario[] = [
  {
    name: 'the client is killed every 5 s under an application that checks everything, then its image is changed: no error, nothing lost, every lock held',
    async run(world) {
      const volumes = 'steadfast=/data';
      await world.createVolume('steadfast', { format });
      const pod = await startSteadfast(world, 'steadfast', volumes);
      await begin(pod);
      await doesRounds(pod, 10);
      await locksAreHeld(pod);
      const killed = await killForSeconds(world, pod, 45);
      assert.ok(killed >= 4, `the client was killed ${killed} times only`);
      await doesRounds(pod, 10);
      await locksAreHeld(pod);
      await changeImage(world, pod);
      await doesRounds(pod, 10);
      await locksAreHeld(pod);
      assert.equal((await statusOf(pod, holderContainer)).restartCount, 0);
      assert.ok((await statusOf(pod, clientContainer)).restartCount > killed);
      const summary = await ends(pod);
      process.stderr.write(
        `# client killed ${killed} times and replaced under ${summary.rounds} rounds: the slowest took ${summary.longest} ms\n`,
      );
      await everythingIsThere(world, pod, volumes, summary);
    },
  },
  {
    name: 'with write-back the client is killed while the store is away: what was acknowledged is there, and in the store when that is back',
    async run(world) {
      const { environment, namespace, s3 } = world;
      const volume = 'late';
      const volumes = `${volume}=/data`;
      await using line = await Line.start(s3.port, environment.host);
      await apply({
        apiVersion: 'juicepod.io/v1alpha1',
        kind: 'JuiceCachePolicy',
        metadata: { name: 'late', namespace },
        spec: { local: { size: '1Gi' }, writeback: { enabled: true, maxStaging: '512Mi' } },
      });
      const endpoint = `http://${environment.host}:${line.port}`;
      const storage = { s3: { bucket: world.bucket(volume), endpoint, credentials: { secretRef: { name: 's3' } } } };
      await world.createVolume(volume, { format, storage, cachePolicyRef: { name: 'late' } });
      const pod = await startSteadfast(world, 'late', volumes);

      // Before the first byte: what is in the store alone could not be read while it is away.
      await line.cut();
      await begin(pod);
      await doesRounds(pod, 10);
      const killed = await killForSeconds(world, pod, 15);
      assert.ok(killed >= 2, `the client was killed ${killed} times only`);
      await doesRounds(pod, 10);
      await locksAreHeld(pod);
      const summary = await ends(pod);
      assert.equal(blocksOf(world, volume), 0);
      const staged = await figure(pod, 'staging_blocks');
      assert.ok(staged > summary.files / 2, `only ${staged} blocks are staged`);

      await line.mend();
      await until('everything is uploaded', 90, async () => (await figure(pod, 'staging_blocks')) === 0);
      process.stderr.write(
        `# client killed ${killed} times with the store away: ${staged} blocks uploaded afterwards, ${summary.rounds} rounds, the slowest took ${summary.longest} ms\n`,
      );
      await everythingIsThere(world, pod, volumes, summary);
    },
  },
];
