/** A new image of the client for pods that run, brought in by the operator, under applications that go on writing. */
import assert from 'node:assert/strict';
import { everyLineIsThere, goesOn, startAppending } from './failover.ts';
import { get, kubectl, until } from './kubectl.ts';
import { clientContainer, holderContainer, type Pod, statusOf } from './pods.ts';
import type { Scenario } from './scenario.ts';
import type { World } from './world.ts';

const volume = 'rolling';
const volumes = `${volume}=/data`;

interface Rollout {
  readonly state: string;
  readonly image: string;
  readonly total: number;
  readonly updated: number;
  readonly failed: readonly string[];
  readonly message: string;
}

async function rolloutOf({ namespace }: World): Promise<Rollout | undefined> {
  const { status } = await get<{ status?: { rollout?: Rollout } }>(namespace, 'juicevolume', volume);
  return status?.rollout;
}

async function want({ namespace }: World, image: string, timeout: string): Promise<void> {
  const patch = { spec: { client: { image, rollout: { strategy: 'PodByPod', timeout } } } };
  await kubectl(['patch', 'juicevolume', volume, `--namespace=${namespace}`, '--type=merge', `--patch=${JSON.stringify(patch)}`]);
}

async function restarting(pods: readonly Pod[]): Promise<number> {
  const clients = await Promise.all(pods.map((pod) => statusOf(pod, clientContainer)));
  return clients.filter(({ ready }) => !ready).length;
}

export const rollout: readonly Scenario[] = [
  {
    name: 'the operator brings a new image into running pods one by one, and takes one back that cannot be had: no application sees an error',
    async run(world) {
      const { environment, namespace } = world;
      await world.createVolume(volume);
      const pods: Pod[] = [];
      for (const name of ['rolling-a', 'rolling-b', 'rolling-c']) pods.push(await startAppending(world, name, volumes));
      for (const pod of pods) await goesOn(pod, 20);
      const before = await Promise.all(pods.map((pod) => statusOf(pod, clientContainer)));

      await want(world, environment.nextImage, '2m');
      let most = 0;
      await until('the roll-out is complete', 180, async () => {
        most = Math.max(most, await restarting(pods));
        const seen = await rolloutOf(world);
        return seen?.state === 'Complete' && seen.updated === pods.length && seen.image === environment.nextImage;
      });
      assert.ok(most <= 1, `${most} clients were restarting at once`);
      for (const [index, pod] of pods.entries()) {
        const client = await statusOf(pod, clientContainer);
        assert.notEqual(client.imageID, before[index]?.imageID);
        assert.equal(client.restartCount, (before[index]?.restartCount ?? 0) + 1);
        await goesOn(pod, 20);
      }

      const nowhere = 'localhost/juicepod:not-there';
      await want(world, nowhere, '3m');
      // Told by events, long before the time is over.
      const failed = await until('the roll-out has stopped', 100, async () => {
        const seen = await rolloutOf(world);
        return seen?.state === 'Failed' && seen.image === nowhere && seen;
      });
      assert.deepEqual(failed.failed, [`${namespace}/rolling-a`]);
      for (const pod of pods) {
        await until(`the client of ${pod.metadata.name} serves`, 90, async () => (await statusOf(pod, clientContainer)).ready);
        const { spec } = await get<Pod>(namespace, 'pod', pod.metadata.name);
        assert.equal(spec.initContainers?.find(({ name }) => name === clientContainer)?.image, environment.nextImage);
        await goesOn(pod, 20);
        for (const container of ['app', holderContainer]) assert.equal((await statusOf(pod, container)).restartCount, 0);
      }
      // New pods are to start, too.
      await want(world, environment.nextImage, '2m');
      await until('the roll-out is complete again', 60, async () => (await rolloutOf(world))?.state === 'Complete');
      for (const pod of pods) {
        const { errors, longest, lines } = await everyLineIsThere(world, pod, volumes);
        process.stderr.write(
          `# client rolled out under ${lines} appended lines of ${pod.metadata.name}: longest pause ${longest} ms\n`,
        );
        assert.deepEqual(errors, []);
      }
    },
  },
];
