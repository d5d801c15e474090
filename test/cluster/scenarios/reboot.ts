/** The node goes down without a word and comes back: kubelet, containerd and all containers are killed, every mount and /run are gone. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { get, until } from './kubectl.ts';
import { deletePod, inside, type Pod, shell, startPod, statusOf } from './pods.ts';
import { type Appended, appendLines } from './programs.ts';
import type { Scenario } from './scenario.ts';

/** What does it; only the cluster of these tests has one. */
const script = process.env['JUICEPOD_E2E_RESTART_NODE'];

async function restartNode(): Promise<void> {
  const child = spawn('bash', [script ?? ''], { stdio: ['ignore', 'inherit', 'inherit'] });
  const code = await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', resolve);
  });
  assert.equal(code, 0, `${script} ended with ${String(code)}`);
}

export const reboot: readonly Scenario[] = [
  {
    name: 'the node goes down and comes back: its pods have their volume again, with every line that was acknowledged, and end cleanly',
    skip: script === undefined ? 'the node of this cluster cannot be restarted from here' : undefined,
    async run({ environment, namespace, nodes }) {
      const pod = await startPod({
        name: 'rebooted',
        namespace,
        image: environment.image,
        volumes: 'datasets=/data',
        // Each start has a log of its own, with the lines that it was told are safe.
        command: [
          'sh',
          '-euc',
          'mkdir -p /data/boots; run=$(ls /data/boots | wc -l); mkdir /data/boots/$run; exec node -e "$0" /data/boots/$run',
          appendLines,
        ],
        spec: { restartPolicy: 'Always' },
      });
      const lines = async (): Promise<number> => Number(await shell(pod, 'cat /tmp/lines 2> /dev/null || echo 0'));
      await until('lines are written', 60, async () => (await lines()) >= 20);
      const safe = await lines();
      await restartNode();
      await until('the pod runs again', 180, async () => {
        const { restartCount, ready } = await statusOf(pod, 'app');
        return restartCount > 0 && ready;
      });
      assert.equal((await get<Pod>(namespace, 'pod', 'rebooted')).metadata.uid, pod.metadata.uid);
      await until('lines are written again', 60, async () => (await lines()) >= 20);
      const before = (await shell(pod, 'cat /data/boots/0/log')).split('\n').slice(0, -1);
      assert.ok(before.length >= safe, `${before.length} lines are there of ${safe} that were acknowledged`);
      assert.deepEqual(
        before,
        Array.from({ length: before.length }, (_, index) => `${index + 1}`),
      );
      await shell(pod, 'kill -TERM 1');
      const summary = await until('the application has ended its work', 60, () => inside(pod, ['cat', '/tmp/summary']));
      assert.deepEqual((JSON.parse(summary) as Appended).errors, []);
      await deletePod(pod, 120);
      assert.deepEqual(await nodes.mounts(pod.spec.nodeName ?? '', pod.metadata.uid), []);
    },
  },
];
