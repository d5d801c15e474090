/**
 * A plan that changes under a client: the roll-out writes it into the pod's annotation, and the kubelet into the file that the client
 * was started with. What can be taken up at once is; for the rest the client leaves its mounts to the one that follows it.
 */
import { readFileSync } from 'node:fs';
import { parsePlan, type Plan } from '../api/plan.ts';
import { endsWriteback, planChange } from '../api/plan-change.ts';
import { systemClock } from '../lib/clock.ts';
import { UserError } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import { systemRandom } from '../lib/random.ts';
import { changeClientLimits, type ClientLimits } from './limits.ts';
import { WatchedFile } from './watched-file.ts';

export interface PlanWatchOptions {
  readonly path: string;
  /** What the client runs by, and its text. */
  readonly plan: Plan;
  readonly text: string;
  readonly limits: ClientLimits;
  readonly onLogLevel: (level: Plan['logLevel']) => void;
  /** The client is to end for the next one. `drain`: when nothing is staged any more. */
  readonly onRestart: (how: { readonly drain: boolean }) => void;
  readonly logger: Logger;
}

/** Follows the plan until it is closed. */
export function watchPlan(options: PlanWatchOptions): WatchedFile {
  const { path, text, limits, onLogLevel, onRestart, logger } = options;
  let { plan } = options;
  return new WatchedFile({
    path,
    read: (from) => readFileSync(from, 'utf8'),
    used: text,
    async accept(content) {
      const next = parsePlan(content);
      const change = planChange(plan, next);
      if (change === 'never')
        throw new UserError('MountsChanged', 'what is mounted where cannot change in a pod that runs', {
          hint: 'Make the pod anew.',
        });
      if (change === 'restart') onRestart({ drain: endsWriteback(plan, next) });
      else {
        changeClientLimits(limits, next);
        onLogLevel(next.logLevel);
        plan = next;
      }
      return { change: change === 'restart' ? 'taken up by the next client, which this one makes room for' : 'taken up' };
    },
    messages: {
      taken: 'the plan of the pod has changed',
      refused: 'the plan of the pod has changed and cannot be taken up',
      restored: 'the plan of the pod is again the one in use',
    },
    clock: systemClock,
    random: systemRandom,
    logger,
  });
}
