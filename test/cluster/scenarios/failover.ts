/** The client ends, by accident or for an upgrade, under an application that goes on writing. */
import assert from 'node:assert/strict';
import { kubectl, tryKubectl, until } from './kubectl.ts';
import { clientContainer, deletePod, holderContainer, idle, inside, type Pod, shell, startPod, statusOf } from './pods.ts';
import { type Appended, appendLines } from './programs.ts';
import type { Scenario } from './scenario.ts';
import type { World } from './world.ts';

const volumes = 'datasets=/data';

/** Starts a pod that appends lines to a file of its own, with a sync of each. `volumes` mounts the volume at /data. */
export async function startAppending(world: World, name: string, volumes = 'datasets=/data'): Promise<Pod> {
  const { environment, namespace } = world;
  const command = ['sh', '-euc', `mkdir -p /data/${name}; exec node -e "$0" /data/${name}`, appendLines];
  return await startPod({ name, namespace, image: environment.image, volumes, command });
}

const lines = async (pod: Pod): Promise<number> => Number(await shell(pod, 'cat /tmp/lines 2> /dev/null || echo 0'));

/** Waits until the application has written `count` lines more than it has now. */
export async function goesOn(pod: Pod, count: number): Promise<void> {
  const before = await lines(pod);
  await until(`${count} lines more than ${before} are written`, 60, async () => (await lines(pod)) >= before + count);
}

async function restarted(pod: Pod, container: string, before: number): Promise<void> {
  await until(`${container} runs again`, 60, async () => {
    const { restartCount, ready } = await statusOf(pod, container);
    return restartCount > before && ready;
  });
}

/** Ends the application, and checks that each line it was told is safe is there, once and in order, for another client. */
export async function everyLineIsThere(world: World, pod: Pod, volumes = 'datasets=/data'): Promise<Appended> {
  const { name, namespace } = pod.metadata;
  await shell(pod, 'kill -TERM 1');
  const summary = await until('the application has ended its work', 60, () => inside(pod, ['cat', '/tmp/summary']));
  const appended = JSON.parse(summary) as Appended;
  await deletePod(pod);
  const command = idle;
  const reader = await startPod({ name: `${name}-reader`, namespace, image: world.environment.image, volumes, command });
  const log = await shell(reader, `cat /data/${name}/log`);
  await deletePod(reader);
  const expected = Array.from({ length: appended.lines }, (_, index) => `${index + 1}\n`).join('');
  assert.equal(log.length, expected.length);
  assert.ok(log === expected, 'the log has other lines than were acknowledged');
  return appended;
}

export const failover: readonly Scenario[] = [
  {
    name: 'SIGKILL of the client, and a changed image of its container, are not noticed by an application that appends and fsyncs',
    async run(world) {
      const { environment, namespace, nodes } = world;
      const pod = await startAppending(world, 'appending');
      await goesOn(pod, 50);

      await nodes.kill(pod, clientContainer);
      await restarted(pod, clientContainer, 0);
      await goesOn(pod, 50);

      const before = await statusOf(pod, clientContainer);
      await kubectl(['set', 'image', 'pod/appending', `${clientContainer}=${environment.nextImage}`, `--namespace=${namespace}`]);
      await restarted(pod, clientContainer, before.restartCount);
      assert.notEqual((await statusOf(pod, clientContainer)).imageID, before.imageID);
      await goesOn(pod, 50);
      assert.equal((await statusOf(pod, 'app')).restartCount, 0);
      assert.equal((await statusOf(pod, holderContainer)).restartCount, 0);

      const { errors, longest, lines } = await everyLineIsThere(world, pod);
      process.stderr.write(`# client killed and replaced under ${lines} appended lines: longest pause ${longest} ms\n`);
      assert.deepEqual(errors, []);
    },
  },
  {
    name: 'SIGKILL of the holder is not noticed, and the client can be killed after it',
    async run(world) {
      const pod = await startAppending(world, 'holding');
      await goesOn(pod, 20);
      await world.nodes.kill(pod, holderContainer);
      await restarted(pod, holderContainer, 0);
      await goesOn(pod, 20);
      await world.nodes.kill(pod, clientContainer);
      await restarted(pod, clientContainer, 0);
      await goesOn(pod, 20);
      const { errors } = await everyLineIsThere(world, pod);
      assert.deepEqual(errors, []);
    },
  },
  {
    name: 'where client and holder die together the volume comes back under the running application',
    async run(world) {
      const { environment, namespace, nodes } = world;
      const command = idle;
      const pod = await startPod({ name: 'both', namespace, image: environment.image, volumes, command });
      await shell(pod, 'mkdir -p /data/both; echo before > /data/both/file; sync');
      await nodes.kill(pod, clientContainer, holderContainer);
      await restarted(pod, clientContainer, 0);
      assert.equal(await until('the file can be read again', 60, () => shell(pod, 'cat /data/both/file')), 'before\n');
      await shell(pod, 'echo after >> /data/both/file');
      assert.equal(await shell(pod, 'cat /data/both/file'), 'before\nafter\n');
      assert.equal((await statusOf(pod, 'app')).restartCount, 0);
      const node = pod.spec.nodeName ?? '';
      await deletePod(pod);
      assert.deepEqual(await nodes.mounts(node, pod.metadata.uid), []);
    },
  },
  {
    name: 'what lies below a volume can be written by nobody, root included, and holds up no deletion',
    async run(world) {
      const { environment, namespace, nodes } = world;
      const command = idle;
      const pod = await startPod({ name: 'guarded', namespace, image: environment.image, volumes, command });
      const script = 'umount -l /juicepod/mnt/0; touch /juicepod/mnt/0/file';
      const container = `--container=${holderContainer}`;
      const ran = await tryKubectl(['exec', `--namespace=${namespace}`, 'guarded', container, '--', 'sh', '-c', script]);
      assert.match(ran.stderr, /Read-only file system/);
      const node = pod.spec.nodeName ?? '';
      await deletePod(pod);
      assert.deepEqual(await nodes.mounts(node, pod.metadata.uid), []);
    },
  },
];
