/** An operator that is killed at each of its writes (killing.ts), over an API server in memory; test/cluster does it over a real one. */
import { JuiceCachePolicies, JuiceVolumes } from '../../src/api/kinds.ts';
import { after, before, describe, test } from 'node:test';
import { FakeApiServer } from '../../src/kube/testing/fake-apiserver.ts';
import { FakeFrontend } from '../../src/kube/testing/fake-transport.ts';
import { Ground, killAtEachWrite, works } from './killing.ts';

let ground: Ground;
before(async () => {
  const server = new FakeApiServer({ resources: [JuiceVolumes, JuiceCachePolicies] });
  ground = await Ground.open(new FakeFrontend(server).transport(), ['data', 'training', 'serving']);
});
after(() => ground[Symbol.asyncDispose]());

describe('an operator that is killed at each of its writes', () => {
  for (const [what, work] of Object.entries(works))
    test(`ends as one that is not: ${what}`, async () => {
      await killAtEachWrite(ground, work);
    });
});
