/** `juicepod sync-sidecar`: the sidecar of `sync` mode. Started by the kubelet; loads no parser of commands. */
import { parseArgs } from 'node:util';
import { plainLogger } from '../client/hold.ts';
import { endProcess } from '../lib/end-process.ts';
import { UserError } from '../lib/errors.ts';
import { runSidecar } from '../sync/run.ts';
import { endingSignal } from './options.ts';
import { explain } from './report.ts';

const HELP = `juicepod sync-sidecar --plan FILE --ready FILE [--pod NAME] [--share none|group|all] [--termination FILE]

Copies the volumes of the plan's mounts of mode sync into their directories, makes the --ready file, then writes changes back (and brings
those of others) until SIGTERM; then writes back the rest, within the time the plan gives it.
`;

export async function syncSidecarCommand(argv: readonly string[]): Promise<void> {
  const ending = endingSignal();
  try {
    const { values } = parseArgs({
      args: [...argv],
      options: {
        plan: { type: 'string' },
        ready: { type: 'string' },
        pod: { type: 'string' },
        share: { type: 'string', default: 'none' },
        termination: { type: 'string', default: '/dev/termination-log' },
        help: { type: 'boolean', short: 'h' },
      },
    });
    if (values.help) return void process.stdout.write(HELP);
    const { plan, ready, pod, termination } = values;
    if (plan === undefined || ready === undefined)
      throw new UserError('ArgumentMissing', `--${plan === undefined ? 'plan' : 'ready'} is missing`, {
        hint: 'juicepod sync-sidecar --help',
      });
    const { share } = values;
    if (share !== 'none' && share !== 'group' && share !== 'all')
      throw new UserError('ArgumentInvalid', '--share must be none, group or all');
    const log = plainLogger({ component: 'sync' });
    endProcess(await runSidecar({ plan, ready, termination, log, share, signal: ending, ...(pod === undefined ? {} : { pod }) }));
  } catch (error) {
    process.stderr.write(explain(error));
    endProcess(1);
  }
}
