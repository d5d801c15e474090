/** A pod that is deleted by force while its application waits for a client that does not answer: nothing of it stays on the node. */
import assert from 'node:assert/strict';
import { kubectl, tryKubectl, until } from './kubectl.ts';
import { clientContainer, idle, shell, startPod, statusOf } from './pods.ts';
import type { Scenario } from './scenario.ts';

/** Processes of the pod's containers that the node still has, with their states. */
function left(uid: string): string {
  return `
    for each in /proc/[0-9]*; do
      if grep -qF -e '${uid}' -e '${uid.replaceAll('-', '_')}' $each/cgroup 2> /dev/null; then
        echo "$(cat $each/comm) $(grep ^State: $each/status)"
      fi
    done`;
}

export const forced: readonly Scenario[] = [
  {
    name: 'a pod whose application waits for a client that stands still is deleted by force: no process and no mount of it stays on the node',
    async run({ environment, namespace, nodes }) {
      const pod = await startPod({
        name: 'forced',
        namespace,
        image: environment.shellImage,
        volumes: 'datasets=/data',
        command: idle,
      });
      await shell(pod, 'mkdir -p /data/forced; echo safe > /data/forced/file; sync /data/forced/file');
      const node = pod.spec.nodeName ?? '';
      const { containerID } = await statusOf(pod, clientContainer);
      const id = containerID?.replace(/^.*\/\//, '') ?? assert.fail('the client has no container');
      await nodes.run(
        node,
        `for each in /proc/[0-9]*; do if grep -q ${id} $each/cgroup 2> /dev/null; then kill -STOP \${each#/proc/}; fi; done`,
      );
      void tryKubectl(['exec', `--namespace=${namespace}`, 'forced', '--container=app', '--', 'touch', '/data/forced/waits'], {
        seconds: 60,
      });
      await until('the application waits', 30, async () => /^touch /m.test(await nodes.run(node, left(pod.metadata.uid))));
      await kubectl(['delete', 'pod', 'forced', `--namespace=${namespace}`, '--grace-period=0', '--force', '--wait=false']);
      await until('no process of the pod is left', 90, async () => (await nodes.run(node, left(pod.metadata.uid))).trim() === '');
      await until('no mount of the pod is left', 60, async () => (await nodes.mounts(node, pod.metadata.uid)).length === 0);

      const next = await startPod({
        name: 'forced-next',
        namespace,
        image: environment.shellImage,
        volumes: 'datasets=/data',
        command: idle,
      });
      assert.equal(await shell(next, 'cat /data/forced/file'), 'safe\n');
      await kubectl(['delete', 'pod', 'forced-next', `--namespace=${namespace}`, '--timeout=60s']);
    },
  },
];
