/** What the webhook does to pods: nothing to those that do not ask, and a reason to those that ask for what cannot be. */
import assert from 'node:assert/strict';
import { apply, until } from './kubectl.ts';
import { annotation, podOf, tryCreate } from './pods.ts';
import type { Scenario } from './scenario.ts';
import { answerTo, plainPod } from './world.ts';

/** Annotations that are refused, and what the refusal must name: the offending part, and what would be accepted. */
const refused: readonly { readonly volumes: string; readonly says: readonly RegExp[] }[] = [
  { volumes: 'datasets', says: [/"datasets"/, /name=\/path/] },
  { volumes: 'datasets=data', says: [/"data"/, /absolute/] },
  { volumes: 'datasets=/data:rx', says: [/":rx"/, /:ro/] },
  { volumes: 'nowhere=/data', says: [/nowhere/, /there is no volume/] },
  { volumes: 'datasets=/data,datasets=/data', says: [/"\/data"/, /path/] },
  { volumes: '[{name: datasets, mountPath: /data, readonly: true}]', says: [/"readonly"/, /readOnly/] },
  { volumes: '[{name: datasets', says: [/not valid YAML or JSON/] },
  { volumes: 'datasets=/scratch', says: [/\/scratch/] },
  { volumes: '', says: [/juicepod\.io\/volumes/] },
];

export const admission: readonly Scenario[] = [
  {
    name: 'a pod without the annotation is byte for byte what it is without juicepod',
    async run({ environment, namespace, plainBefore }) {
      assert.equal(await answerTo(plainPod(environment, namespace)), plainBefore);
    },
  },
  {
    name: 'a pod with a bad annotation is refused, with the offending part and the accepted form',
    async run({ environment, namespace }) {
      const scratch = { volumes: [{ name: 'scratch', emptyDir: {} }] };
      for (const { volumes, says } of refused) {
        const container = {
          name: 'app',
          image: environment.shellImage,
          volumeMounts: [{ name: 'scratch', mountPath: '/scratch' }],
        };
        const pod = { name: 'refused', namespace, image: environment.shellImage, command: ['true'], volumes };
        const { status, stderr } = await tryCreate(podOf({ ...pod, spec: { ...scratch, containers: [container] } }));
        assert.notEqual(status, 0, `a pod with ${annotation}: ${volumes} was accepted`);
        assert.match(stderr, /denied the request/);
        for (const part of says) assert.match(stderr, part, `the refusal of ${JSON.stringify(volumes)}`);
      }
    },
  },
  {
    name: 'a pod that asks for a volume that is not ready is refused, and the reason is the volume’s own',
    async run(world) {
      const { environment, namespace } = world;
      const broken = world.volume('broken') as { spec: { metadata: { redis: { addresses: string[] } } } };
      broken.spec.metadata.redis.addresses = [`${environment.host}:1`];
      await apply(broken);
      const pod = { name: 'early', namespace, image: environment.shellImage, command: ['true'], volumes: 'broken=/data' };
      await until('the refusal says that the database does not answer', 60, async () => {
        const { status, stderr } = await tryCreate(podOf(pod));
        assert.notEqual(status, 0, 'a pod was accepted though its volume is not ready');
        return /not ready/.test(stderr) && stderr.includes(`${environment.host}:1`);
      });
    },
  },
  {
    name: 'a pod of another namespace gets a volume only where the volume says so',
    async run(world) {
      const { environment } = world;
      const other = 'juicepod-e2e-other';
      await apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: other } });
      await until('the other namespace takes pods', 30, async () => {
        const plain = await tryCreate(
          podOf({ name: 'plain', namespace: other, image: environment.shellImage, command: ['true'] }),
        );
        return plain.status === 0;
      });
      const volumes = `${world.namespace}/datasets=/data`;
      const pod = podOf({ name: 'guest', namespace: other, image: environment.shellImage, command: ['true'], volumes });
      const closed = await tryCreate(pod);
      assert.notEqual(closed.status, 0);
      assert.match(
        closed.stderr,
        /there is no volume .*juicepod-e2e\/datasets.* that pods of namespace "juicepod-e2e-other" may use/,
      );
    },
  },
];
