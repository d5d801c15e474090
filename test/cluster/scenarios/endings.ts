/** Programs that fail: the sidecars keep neither a Job that gives up nor one that is tried again in its pod. */
import assert from 'node:assert/strict';
import { apply, get, kubectl } from './kubectl.ts';
import { type Application, clientContainer, holderContainer, jobOf, type Pod } from './pods.ts';
import type { Scenario } from './scenario.ts';

/** The one pod of a Job. */
async function podOfJob(namespace: string, job: string): Promise<Pod> {
  const list = JSON.parse(
    await kubectl(['get', 'pods', `--namespace=${namespace}`, `--selector=job-name=${job}`, '--output=json']),
  ) as { items: readonly Pod[] };
  assert.equal(list.items.length, 1, `${job} has one pod`);
  return list.items[0] as Pod;
}

/** A Job whose container may be started again in its pod. The restarts of all containers of a pod count, and must stay below the limit. */
function retrying(application: Application): object {
  const job = jobOf(application) as { readonly spec: object };
  return { ...job, spec: { ...job.spec, backoffLimit: 3 } };
}

export const endings: readonly Scenario[] = [
  {
    name: 'a Job whose program fails is told as failed, one that is tried again in its pod completes: the sidecars end with both, in time',
    async run({ environment, namespace, nodes }) {
      const application = { namespace, image: environment.shellImage };
      const volumes = (subPath: string): string => JSON.stringify([{ name: 'datasets', mountPath: '/data', subPath }]);
      await apply(
        jobOf({
          ...application,
          name: 'failing',
          volumes: volumes('failing'),
          command: ['sh', '-c', 'echo done > /data/before; exit 7'],
        }),
        retrying({
          ...application,
          name: 'retried',
          volumes: volumes('retried'),
          command: ['sh', '-c', 'test -e /data/tried && exit 0; echo 1 > /data/tried; exit 9'],
          // Tried again by the kubelet, in the same pod.
          spec: { restartPolicy: 'OnFailure' },
        }),
      );
      const wait = (condition: string, job: string): Promise<string> =>
        kubectl(['wait', `--for=condition=${condition}`, `job/${job}`, `--namespace=${namespace}`, '--timeout=90s']);
      await wait('Failed', 'failing');
      await wait('Complete', 'retried');
      for (const [job, exitCode, restarts] of [
        ['failing', 7, 0],
        ['retried', 0, 1],
      ] as const) {
        const pod = await podOfJob(namespace, job);
        const { status, spec, metadata } = await get<Pod>(namespace, 'pod', pod.metadata.name);
        assert.equal(status.phase, exitCode === 0 ? 'Succeeded' : 'Failed', job);
        const [app] = status.containerStatuses ?? [];
        assert.deepEqual([app?.state.terminated?.exitCode, app?.restartCount], [exitCode, restarts], job);
        for (const sidecar of [clientContainer, holderContainer]) {
          const found = status.initContainerStatuses?.find(({ name }) => name === sidecar);
          assert.deepEqual([found?.state.terminated?.exitCode, found?.restartCount], [0, 0], `${job}: ${sidecar}`);
        }
        assert.deepEqual(await nodes.mounts(spec.nodeName ?? '', metadata.uid), [], job);
      }
      await kubectl(['delete', 'job/failing', 'job/retried', `--namespace=${namespace}`]);
    },
  },
];
