/** The application's own container ends and is started again, while its volume lives on or is replaced. */
import assert from 'node:assert/strict';
import { get, until } from './kubectl.ts';
import { clientContainer, deletePod, holderContainer, type Pod, shell, startPod, statusOf } from './pods.ts';
import type { Scenario } from './scenario.ts';

/** Each run leaves a file of its own, and ends with 3 when it is told to. Its /tmp goes with the container. */
const application = `
mkdir -p /data/runs
run=$(ls /data/runs | wc -l)
echo $run > /data/runs/$run
sync /data/runs/$run
trap 'exit 0' TERM
until test -e /tmp/end; do sleep 0.1; done
exit 3`;

async function runsAgain(pod: Pod, container: string, before: number): Promise<void> {
  await until(`${container} runs again`, 60, async () => {
    const { restartCount, ready } = await statusOf(pod, container);
    return restartCount > before && ready;
  });
}

export const restarts: readonly Scenario[] = [
  {
    name: 'an application’s container that ends and is started again finds its files, also after its client, or client and holder, were replaced',
    async run({ environment, namespace, nodes }) {
      const pod = await startPod({
        name: 'again',
        namespace,
        image: environment.shellImage,
        volumes: 'datasets=/data',
        command: ['sh', '-euc', application],
        spec: { restartPolicy: 'Always' },
      });
      /** What `count` runs have left, the last one included. */
      const left = async (count: number): Promise<void> => {
        const expected = Array.from({ length: count }, (_, run) => `${run}\n`).join('');
        await until(`run ${count} has left its file`, 30, async () => (await shell(pod, 'cat /data/runs/*')) === expected);
      };
      await left(1);
      await shell(pod, 'touch /tmp/end');
      await runsAgain(pod, 'app', 0);
      await left(2);

      await nodes.kill(pod, clientContainer);
      await runsAgain(pod, clientContainer, 0);
      await left(2);
      await nodes.kill(pod, 'app');
      await runsAgain(pod, 'app', 1);
      await left(3);

      // Now the mount itself is another one, and the container that runs is not the one that was there when it was made.
      await nodes.kill(pod, clientContainer, holderContainer);
      await runsAgain(pod, clientContainer, 1);
      await left(3);
      await shell(pod, 'touch /tmp/end');
      await runsAgain(pod, 'app', 2);
      await left(4);
      const { metadata, spec } = await get<Pod>(namespace, 'pod', 'again');
      assert.equal(metadata.uid, pod.metadata.uid);
      await deletePod(pod);
      assert.deepEqual(await nodes.mounts(spec.nodeName ?? '', metadata.uid), []);
    },
  },
];
