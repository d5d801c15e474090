/** Workloads of all kinds, as only a kubelet shows them: init containers, users, other sidecars, limits of a namespace. */
import assert from 'node:assert/strict';
import { apply, get, kubectl, until } from './kubectl.ts';
import { annotation, clientContainer, deletePod, exitCode, idle, type Pod, podOf, shell, startPod, tryCreate } from './pods.ts';
import type { Scenario } from './scenario.ts';

interface Timed {
  readonly name: string;
  readonly state: {
    readonly running?: { readonly startedAt: string };
    readonly terminated?: { readonly startedAt: string; readonly finishedAt: string };
  };
}

interface TimedPod {
  readonly spec: { readonly initContainers: readonly { readonly name: string }[] };
  readonly status: { readonly initContainerStatuses: readonly Timed[] };
}

/** A second volume, made by the first scenario that needs it. */
const second = 'checkpoints';

export const workloads: readonly Scenario[] = [
  {
    name: 'a Job of a CronJob: its init container fills one volume, its containers see directories of two, each only what was chosen',
    async run(world) {
      const { environment, namespace } = world;
      await world.createVolume(second);
      const volumes = [
        { name: 'datasets', mountPath: '/in', subPath: 'nightly' },
        { name: second, mountPath: '/out', subPath: 'reports/today', containers: ['app'] },
        { name: 'datasets', mountPath: '/whole', readOnly: true, containers: ['watcher'] },
      ];
      const image = environment.shellImage;
      const run = (name: string, script: string): object => ({ name, image, command: ['sh', '-euc', script] });
      const template = {
        metadata: { annotations: { [annotation]: JSON.stringify(volumes) } },
        spec: {
          restartPolicy: 'Never',
          automountServiceAccountToken: false,
          initContainers: [run('fetch', 'test ! -e /out; echo 41 > /in/number')],
          containers: [
            run('app', 'test ! -e /whole; echo $(($(cat /in/number) + 1)) > /out/number; cat /out/number'),
            run(
              'watcher',
              'test ! -e /out; until test -e /whole/nightly/number; do sleep 0.1; done; ! touch /whole/x 2> /dev/null',
            ),
          ],
        },
      };
      await apply({
        apiVersion: 'batch/v1',
        kind: 'CronJob',
        metadata: { name: 'nightly', namespace },
        spec: { schedule: '0 3 1 1 *', suspend: true, jobTemplate: { spec: { backoffLimit: 0, template } } },
      });
      await kubectl(['create', 'job', 'tonight', '--from=cronjob/nightly', `--namespace=${namespace}`]);
      await kubectl(['wait', '--for=condition=Complete', 'job/tonight', `--namespace=${namespace}`, '--timeout=90s']);
      assert.equal(await kubectl(['logs', 'job/tonight', '--container=app', `--namespace=${namespace}`]), '42\n');
      // Its Job and that one's pod belong to it.
      await kubectl(['delete', 'cronjob/nightly', `--namespace=${namespace}`]);
      const reader = {
        name: 'report',
        namespace,
        image,
        command: ['cat', '/out/reports/today/number'],
        volumes: `${second}=/out:ro`,
      };
      await apply(podOf(reader));
      const pod = await get<Pod>(namespace, 'pod', 'report');
      assert.equal(await exitCode(pod, 60), 0);
      assert.equal(await kubectl(['logs', 'report', '--container=app', `--namespace=${namespace}`]), '42\n');
      await deletePod(pod);
    },
  },
  {
    name: 'a pod that runs as a user of its own, with an fsGroup, has files of that user, and its sidecars still mount',
    async run({ environment, namespace }) {
      const securityContext = { runAsNonRoot: true, runAsUser: 1000, runAsGroup: 1000, fsGroup: 2000 };
      const pod = await startPod({
        name: 'as-user',
        namespace,
        image: environment.image,
        command: idle,
        volumes: '[{name: datasets, mountPath: /data}]',
        spec: { securityContext },
      });
      assert.equal(await shell(pod, 'id -u; id -G'), '1000\n1000 2000\n');
      await shell(pod, 'mkdir /data/mine; echo x > /data/mine/file; chgrp 2000 /data/mine/file');
      assert.equal(await shell(pod, 'stat -c "%u %g" /data/mine /data/mine/file'), '1000 1000\n1000 2000\n');
      await deletePod(pod);
      // Whose they are is kept in the volume; another user without rights gets none.
      const stranger = await startPod({
        name: 'stranger',
        namespace,
        image: environment.image,
        command: idle,
        volumes: 'datasets=/data',
        spec: { securityContext: { runAsUser: 1001, runAsGroup: 1001 } },
      });
      assert.equal(await shell(stranger, 'stat -c "%u %g" /data/mine/file'), '1000 2000\n');
      await assert.rejects(shell(stranger, 'echo y >> /data/mine/file'), /Permission denied/);
      await deletePod(stranger);
    },
  },
  {
    name: 'beside the native sidecar of a mesh the client starts after its proxy and ends before it',
    async run({ environment, namespace }) {
      const image = environment.shellImage;
      const proxy = {
        name: 'istio-proxy',
        image,
        restartPolicy: 'Always',
        command: ['sh', '-c', 'trap "sleep 2; exit 0" TERM; touch /tmp/ready; sleep 86400 & wait'],
        startupProbe: { exec: { command: ['test', '-e', '/tmp/ready'] }, periodSeconds: 1 },
      };
      const fetch = { name: 'fetch', image, command: ['sh', '-euc', 'echo early > /data/early'] };
      const application = { name: 'meshed', namespace, image, volumes: 'datasets=/data', command: ['cat', '/data/early'] };
      await apply(
        podOf({ ...application, spec: { initContainers: [{ name: 'istio-init', image, command: ['true'] }, proxy, fetch] } }),
      );
      const pod = await get<Pod & TimedPod>(namespace, 'pod', 'meshed');
      assert.deepEqual(
        pod.spec.initContainers.map(({ name }) => name),
        ['istio-init', 'istio-proxy', 'juicepod-holder', 'juicepod-client', 'fetch'],
      );
      assert.equal(await exitCode(pod, 90), 0);
      const times = await until('all sidecars have ended', 60, async () => {
        const { status } = await get<TimedPod>(namespace, 'pod', 'meshed');
        const ended = status.initContainerStatuses.map(({ name, state }) => [name, state.terminated] as const);
        return ended.every(([, state]) => state !== undefined) ? new Map(ended) : undefined;
      });
      const [mesh, client] = [times.get('istio-proxy'), times.get(clientContainer)];
      assert.ok(mesh && client);
      assert.ok(mesh.startedAt <= client.startedAt, `the proxy started at ${mesh.startedAt}, the client at ${client.startedAt}`);
      assert.ok(client.finishedAt < mesh.finishedAt, `the client ended at ${client.finishedAt}, the proxy at ${mesh.finishedAt}`);
      await deletePod(pod);
    },
  },
  {
    name: 'the pods of a StatefulSet share a directory of a volume, and come back to it one by one',
    async run({ environment, namespace }) {
      const image = environment.shellImage;
      await apply({
        apiVersion: 'apps/v1',
        kind: 'StatefulSet',
        metadata: { name: 'workers', namespace },
        spec: {
          serviceName: 'workers',
          replicas: 2,
          selector: { matchLabels: { app: 'workers' } },
          template: {
            metadata: {
              labels: { app: 'workers' },
              annotations: { [annotation]: '[{name: datasets, mountPath: /shared, subPath: workers}]' },
            },
            spec: {
              automountServiceAccountToken: false,
              containers: [
                {
                  name: 'app',
                  image,
                  command: ['sh', '-c', 'echo $HOSTNAME >> /shared/$HOSTNAME; trap "exit 0" TERM; sleep 86400 & wait'],
                },
              ],
            },
          },
        },
      });
      const rolled = (): Promise<string> =>
        kubectl(['rollout', 'status', 'statefulset/workers', `--namespace=${namespace}`, '--timeout=120s'], { seconds: 130 });
      await rolled();
      await kubectl(['rollout', 'restart', 'statefulset/workers', `--namespace=${namespace}`]);
      await rolled();
      const pod = await get<Pod>(namespace, 'pod', 'workers-1');
      // A pod counts as ready before the first line of its shell has run.
      await until('each pod has left a line each time', 30, async () => {
        const lines = await shell(pod, 'cat /shared/workers-0 /shared/workers-1');
        return lines === 'workers-0\nworkers-0\nworkers-1\nworkers-1\n';
      });
      await kubectl(['delete', 'statefulset/workers', `--namespace=${namespace}`]);
      await kubectl(['wait', '--for=delete', 'pod/workers-0', 'pod/workers-1', `--namespace=${namespace}`, '--timeout=60s']);
    },
  },
  {
    name: 'in a namespace whose LimitRange gives containers little memory the client gets what it needs, or the pod is refused',
    async run(world) {
      const { environment, namespace } = world;
      const range = (limits: object): object => ({
        apiVersion: 'v1',
        kind: 'LimitRange',
        metadata: { name: 'little', namespace },
        spec: { limits: [{ type: 'Container', ...limits }] },
      });
      const application = { name: 'limited', namespace, image: environment.image, command: idle, volumes: 'datasets=/data' };
      try {
        await apply(range({ max: { memory: '128Mi' } }));
        await until('the pod is refused for the LimitRange', 30, async () => {
          const { status, stderr } = await tryCreate(podOf(application));
          return status !== 0 && /LimitRange "little" leaves 128Mi of memory to juicepod-client/.test(stderr);
        });
        await kubectl(['delete', 'limitrange', 'little', `--namespace=${namespace}`]);
        await apply(range({ default: { memory: '128Mi' }, defaultRequest: { memory: '64Mi' } }));
        await until('the pod is accepted', 30, async () => (await tryCreate(podOf(application))).status === 0);
        const pod = await startPod(application);
        const memory = await kubectl([
          'get',
          'pod/limited',
          `--namespace=${namespace}`,
          `--output=jsonpath={.spec.initContainers[?(@.name=="${clientContainer}")].resources.limits.memory}`,
        ]);
        assert.equal(memory, '428Mi');
        await shell(pod, 'head -c 10000000 /dev/zero > /data/limited; rm /data/limited');
        await deletePod(pod);
      } finally {
        await kubectl(['delete', 'limitrange', 'little', `--namespace=${namespace}`, '--ignore-not-found']);
      }
    },
  },
  {
    name: 'a pod that slipped past the webhook runs without its volume, and an event says so',
    async run({ environment }) {
      // A namespace that the webhook leaves out.
      const pod = {
        name: 'slipped',
        namespace: 'kube-system',
        image: environment.shellImage,
        command: idle,
        volumes: 'datasets=/data',
      };
      await apply(podOf(pod));
      await until('the event is there', 60, async () => {
        const events = await kubectl([
          'get',
          'events',
          '--namespace=kube-system',
          '--field-selector=involvedObject.name=slipped',
        ]);
        return /Warning\s+NotInjected/.test(events);
      });
      // The event may come before the shell listens to SIGTERM: then the pod takes its whole grace period to end.
      await deletePod(await get<Pod>('kube-system', 'pod', 'slipped'));
    },
  },
];
