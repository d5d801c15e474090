/**
 * The scenarios on the cluster that KUBECONFIG names. Run beside a fresh cluster by
 * `node test/cluster/with-cluster.ts -- node --test test/cluster/scenarios/all.scenario.ts`, on others by `kind-e2e/run.ts`.
 *
 * Most of their time is the kubelet's, so several groups run side by side, each in a namespace of its own and there one after the other.
 * What needs the cluster for itself comes after them.
 */
import { after, before, describe, test } from 'node:test';
import { admission } from './admission.ts';
import { encryption } from './encryption.ts';
import { endings } from './endings.ts';
import { failover } from './failover.ts';
import { forced } from './forced.ts';
import { killing } from './killing.ts';
import { lists } from './lists.ts';
import { operator } from './operator.ts';
import { quotas } from './quotas.ts';
import { reboot } from './reboot.ts';
import { refusals } from './refusals.ts';
import { restarts } from './restarts.ts';
import { rollout } from './rollout.ts';
import { rotation } from './rotation.ts';
import type { Scenario } from './scenario.ts';
import { sharing } from './sharing.ts';
import { syncing } from './syncing.ts';
import { workloads } from './workloads.ts';
import { createWorlds, type Worlds } from './world.ts';

interface Group {
  readonly title: string;
  readonly namespace: string;
  readonly scenarios: readonly Scenario[];
}

const groups: readonly Group[] = [
  { title: 'files and pods', namespace: 'juicepod-e2e', scenarios: [...sharing, ...admission, ...encryption, ...quotas] },
  {
    title: 'workloads',
    namespace: 'juicepod-e2e-workloads',
    scenarios: [...workloads, ...endings, ...syncing, ...restarts, ...rotation, ...lists],
  },
  { title: 'clients that end', namespace: 'juicepod-e2e-clients', scenarios: [...killing, ...failover, ...forced, ...refusals] },
];
const later: readonly Group[] = [
  { title: 'a new client for all', namespace: 'juicepod-e2e-rollout', scenarios: rollout },
  { title: 'the operator', namespace: 'juicepod-e2e-operator', scenarios: operator },
  { title: 'the node', namespace: 'juicepod-e2e-reboot', scenarios: reboot },
];

let worlds: Worlds | undefined;

before(
  async () => {
    worlds = await createWorlds([...groups, ...later].map(({ namespace }) => namespace));
    await Promise.all([...worlds.in.values()].map((world) => world.createVolume('datasets')));
  },
  { timeout: 600_000 },
);

after(async () => await worlds?.[Symbol.asyncDispose](), { timeout: 300_000 });

function declare({ title, namespace, scenarios }: Group): void {
  describe(title, { concurrency: 1 }, () => {
    for (const scenario of scenarios)
      test(scenario.name, { timeout: 600_000, skip: scenario.skip ?? false }, async () => {
        const world = worlds?.in.get(namespace);
        if (!world) throw new Error('there is no cluster to run on');
        try {
          await scenario.run(world);
        } catch (error) {
          process.stderr.write(`\n# failed: ${scenario.name}\n${String(error)}\n`);
          await world.explain();
          throw error;
        }
      });
  });
}

describe('side by side', { concurrency: groups.length }, () => groups.forEach(declare));
describe('one after the other', { concurrency: 1 }, () => later.forEach(declare));
