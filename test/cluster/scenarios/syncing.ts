/** Volumes for pods that may not mount anything: a namespace that enforces Pod Security `restricted`, and nobody root in it. */
import assert from 'node:assert/strict';
import { apply, get, tryKubectl, until } from './kubectl.ts';
import { deletePod, exitCode, idle, type Pod, podOf, shell, startPod, statusOf } from './pods.ts';
import type { Scenario } from './scenario.ts';

const namespace = 'juicepod-e2e-restricted';
const user = 1000;

const spec = (image: string, command: readonly string[]): object => ({
  securityContext: { runAsNonRoot: true, runAsUser: user, runAsGroup: user, seccompProfile: { type: 'RuntimeDefault' } },
  containers: [
    {
      name: 'app',
      image,
      command,
      securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
    },
  ],
});

export const syncing: readonly Scenario[] = [
  {
    name: 'where Pod Security is restricted: a pod gets the files without privilege, writes, ends, and the next one finds what it wrote',
    async run(world) {
      const { environment } = world;
      const image = environment.shellImage;
      const labels = { 'pod-security.kubernetes.io/enforce': 'restricted' };
      await apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace, labels } });
      await world.createVolume('synced', { access: { allowedNamespaces: { from: 'All' } } });
      try {
        const volumes = `${world.namespace}/synced=/data`;
        const script = [
          'mkdir -p /data/out/deep',
          'echo written > /data/out/result',
          'ln -s result /data/out/link',
          'head -c 9000000 /dev/urandom > /data/out/deep/random',
          'chmod 600 /data/out/deep/random',
          'sha256sum /data/out/deep/random | cut -c1-64 > /data/out/sum',
        ].join(' && ');
        const job = podOf({ name: 'writer', namespace, image, command: [], volumes, spec: spec(image, ['sh', '-euc', script]) });
        await until('the pod is admitted', 60, async () => {
          const { status, stderr } = await tryKubectl(['apply', '-f', '-'], { input: JSON.stringify(job) });
          if (status !== 0) process.stderr.write(`# ${stderr.trim()}\n`);
          return status === 0;
        });
        const writer = await get<Pod>(namespace, 'pod', 'writer');
        assert.deepEqual(
          writer.spec.initContainers?.map(({ name }) => name),
          ['juicepod-sync'],
        );
        assert.equal(await exitCode(writer, 120), 0);
        const { state } = await statusOf(writer, 'juicepod-sync');
        assert.equal(state.terminated?.exitCode, 0, 'everything was written back');
        await deletePod(writer);

        const reader = await startPod({ name: 'reader', namespace, image, command: [], volumes, spec: spec(image, idle) });
        assert.equal(await shell(reader, 'cat /data/out/link; stat -c %a:%u /data/out/deep/random'), `written\n600:${user}\n`);
        assert.equal(
          await shell(reader, 'sha256sum /data/out/deep/random | cut -c1-64'),
          await shell(reader, 'cat /data/out/sum'),
        );
        await shell(reader, 'echo later > /data/out/later && rm /data/out/result && mv /data/out/deep /data/moved');
        await deletePod(reader);

        const last = await startPod({ name: 'last', namespace, image, command: [], volumes, spec: spec(image, idle) });
        const listed = await shell(last, 'cd /data && find . | sort && cat out/later');
        assert.equal(listed, '.\n./moved\n./moved/random\n./out\n./out/later\n./out/link\n./out/sum\nlater\n');
        await deletePod(last);
      } finally {
        await tryKubectl(['delete', 'pods', '--all', `--namespace=${namespace}`, '--timeout=60s'], { seconds: 70 });
        await tryKubectl(['delete', 'juicevolume', 'synced', `--namespace=${world.namespace}`, '--timeout=60s'], { seconds: 70 });
        await tryKubectl(['delete', 'namespace', namespace, '--wait=false']);
      }
    },
  },
];
