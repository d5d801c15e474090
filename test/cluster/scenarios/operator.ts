/** The operator dies in the middle of its work, on the cluster's own API server. Nobody else may need the operator meanwhile. */
import { findAccess } from '../../../src/kube/kubeconfig.ts';
import { HttpTransport } from '../../../src/kube/transport.ts';
import { Ground, killAtEachWrite, works } from '../../operator/killing.ts';
import { get, kubectl, tryKubectl, until } from './kubectl.ts';
import type { Scenario } from './scenario.ts';

const system = 'juicepod-system';
const deployment = 'deployment/juicepod-operator';
const namespaces = ['juicepod-e2e-killed', 'juicepod-e2e-killed-1', 'juicepod-e2e-killed-2'] as const;

const scale = (replicas: number): Promise<string> =>
  kubectl(['scale', deployment, `--namespace=${system}`, `--replicas=${replicas}`]);

export const operator: readonly Scenario[] = [
  {
    name: 'an operator that is killed at each of its writes is followed by one that ends where one ends that was not killed',
    async run() {
      const { spec } = await get<{ spec: { replicas: number } }>(system, 'deployment', 'juicepod-operator');
      await scale(0);
      // Operators of this process take their place: they die at a write that is counted, which no signal can be timed for.
      const transport = new HttpTransport(findAccess(), { requestsPerSecond: 1000, burst: 1000 });
      try {
        await until('no operator runs', 60, async () => {
          const pods = await kubectl(['get', 'pods', `--namespace=${system}`, '--output=name']);
          return !pods.includes('juicepod-operator');
        });
        await using ground = await Ground.open(transport, [...namespaces]);
        for (const [what, work] of Object.entries(works)) {
          const writes = await killAtEachWrite(ground, work);
          process.stderr.write(`# operator killed at each of ${writes} writes: ${what}\n`);
        }
      } finally {
        await transport.close();
        await tryKubectl(['delete', 'namespace', ...namespaces, '--ignore-not-found', '--wait=false']);
        await scale(spec.replicas);
        await kubectl(['rollout', 'status', deployment, `--namespace=${system}`, '--timeout=120s'], { seconds: 130 });
      }
    },
  },
];
