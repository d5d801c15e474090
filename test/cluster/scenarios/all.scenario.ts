/**
 * The scenarios on the cluster that KUBECONFIG names, in one world and in order. Run beside a fresh cluster by
 * `node test/cluster/with-cluster.ts -- node --test test/cluster/scenarios/all.scenario.ts`, on others by `kind-e2e/run.ts`.
 */
import { after, before, test } from 'node:test';
import { admission } from './admission.ts';
import { endings } from './endings.ts';
import { failover } from './failover.ts';
import { rollout } from './rollout.ts';
import { rotation } from './rotation.ts';
import { sharing } from './sharing.ts';
import { syncing } from './syncing.ts';
import { workloads } from './workloads.ts';
import { createWorld, type World } from './world.ts';

let world: World | undefined;

before(
  async () => {
    world = await createWorld();
    await world.createVolume('datasets', 1);
    const { environment, s3 } = world;
    process.stderr.write(
      `# cluster scenarios: image ${environment.image}, Redis on ${environment.host}, S3 at ${s3.endpoint} (versitygw)\n`,
    );
  },
  { timeout: 600_000 },
);

after(async () => await world?.[Symbol.asyncDispose](), { timeout: 300_000 });

for (const scenario of [...sharing, ...admission, ...workloads, ...endings, ...syncing, ...failover, ...rotation, ...rollout])
  test(scenario.name, { timeout: 600_000 }, async () => {
    if (!world) throw new Error('there is no cluster to run on');
    try {
      await scenario.run(world);
    } catch (error) {
      process.stderr.write(`\n# failed: ${scenario.name}\n${String(error)}\n`);
      await world.explain();
      throw error;
    }
  });
