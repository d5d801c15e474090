/** A Deployment whose pods are refused: who made it is told why, and need not touch it when that is mended. */
import assert from 'node:assert/strict';
import { apply, get, kubectl, until } from './kubectl.ts';
import { idle, shell } from './pods.ts';
import type { Pod } from './pods.ts';
import type { Scenario } from './scenario.ts';
import type { JuiceVolume, World } from './world.ts';

const system = 'juicepod-system';

/** The sum of a figure over the operator's replicas, of which one counts. */
async function figure({ namespace }: World, name: string): Promise<number> {
  const selector = '--selector=app.kubernetes.io/name=juicepod-operator';
  const pods = await kubectl(['get', 'pods', `--namespace=${system}`, selector, '--output=jsonpath={.items[*].metadata.name}']);
  const found = await Promise.all(
    pods.split(' ').map(async (pod) => {
      const text = await kubectl(['get', '--raw', `/api/v1/namespaces/${system}/pods/${pod}:8080/proxy/metrics`]);
      return Number(new RegExp(`^${name}\\{namespace="${namespace}"\\} (.*)$`, 'm').exec(text)?.[1] ?? 0);
    }),
  );
  return found.reduce((sum, each) => sum + each, 0);
}

interface Event {
  readonly reason: string;
  readonly message: string;
  readonly involvedObject: { readonly kind: string; readonly name: string };
}

async function eventsAbout(namespace: string, kind: string): Promise<readonly Event[]> {
  const text = await kubectl(['get', 'events', `--namespace=${namespace}`, '--output=json']);
  return (JSON.parse(text) as { items: Event[] }).items.filter(({ involvedObject }) => involvedObject.kind === kind);
}

export const refusals: readonly Scenario[] = [
  {
    name: 'a Deployment whose pods are refused says why, and has its pods, untouched, once the cause is mended',
    async run(world) {
      const { environment, namespace, s3 } = world;
      const spec = {
        storage: { s3: { bucket: world.bucket('keyless'), endpoint: s3.endpoint, credentials: { secretRef: { name: 'late' } } } },
      };
      await apply(world.volume('keyless', spec));
      const labels = { app: 'refused' };
      const deployment = {
        apiVersion: 'apps/v1',
        kind: 'Deployment',
        metadata: { name: 'refused', namespace },
        spec: {
          replicas: 2,
          selector: { matchLabels: labels },
          template: {
            metadata: { labels, annotations: { 'juicepod.io/volumes': 'keyless=/data' } },
            spec: {
              containers: [{ name: 'app', image: environment.shellImage, command: idle }],
              automountServiceAccountToken: false,
            },
          },
        },
      };
      await apply(deployment);
      const event = await until('the Deployment has an event', 60, async () =>
        (await eventsAbout(namespace, 'Deployment')).find(
          ({ reason, involvedObject }) => reason === 'PodsRefused' && involvedObject.name === 'refused',
        ),
      );
      // Why, in the volume's own words, and where to look.
      assert.match(event.message, /keyless.* is not ready.*late/s);
      const [own] = (await eventsAbout(namespace, 'ReplicaSet')).filter(({ message }) => message.includes('keyless'));
      assert.match(own?.message ?? '', /admission webhook "pods\.juicepod\.io" denied the request/);
      const served = (): Promise<string> =>
        kubectl([
          'get',
          'jv',
          'keyless',
          `--namespace=${namespace}`,
          '--output=jsonpath={.status.conditions[?(@.type=="PodsServed")].message}',
        ]);
      await until('the volume says whose pods are refused', 30, async () =>
        (await served()).includes(`Deployment ${namespace}/refused`),
      );
      assert.equal(await figure(world, 'juicepod_workloads_refused'), 1);

      const { metadata } = await get<JuiceVolume>(namespace, 'deployment', 'refused');
      const late = { name: 'late', namespace };
      const stringData = { accessKeyId: s3.accessKey, secretAccessKey: s3.secretKey };
      await apply({ apiVersion: 'v1', kind: 'Secret', metadata: late, stringData });
      await kubectl(['rollout', 'status', 'deployment/refused', `--namespace=${namespace}`, '--timeout=180s'], { seconds: 190 });
      assert.equal((await get<JuiceVolume>(namespace, 'deployment', 'refused')).metadata.generation, metadata.generation);
      const list = await kubectl(['get', 'pods', `--namespace=${namespace}`, '--selector=app=refused', '--output=json']);
      const [one, other] = (JSON.parse(list) as { items: Pod[] }).items;
      assert.ok(one && other);
      await shell(one, 'echo here > /data/file');
      assert.equal(await shell(other, 'cat /data/file'), 'here\n');
      await kubectl(['delete', 'deployment', 'refused', `--namespace=${namespace}`]);
    },
  },
];
