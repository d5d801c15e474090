/** One thing that must be seen on a real cluster. Scenarios run in order, in one world with a ready volume `datasets`. */
import type { World } from './world.ts';

export interface Scenario {
  /** A sentence. */
  readonly name: string;
  run(world: World): Promise<void>;
}
