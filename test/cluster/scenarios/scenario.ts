/** One thing that must be seen on a real cluster. Those of one world, with a ready volume `datasets`, run one after the other. */
import type { World } from './world.ts';

export interface Scenario {
  /** A sentence. */
  readonly name: string;
  /** Why it cannot be seen here. */
  readonly skip?: string | undefined;
  run(world: World): Promise<void>;
}
