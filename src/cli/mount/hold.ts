/** `juicepod hold`: the holder of a pod. Loads nothing that it does not need: it lives as long as the pod. */
import { parseArgs } from 'node:util';
import { runHolder } from '../../client/hold.ts';
import { whenIdle } from '../../client/idle.ts';
import { giveBackMemory } from '../../fuse/resident.ts';
import { systemClock } from '../../lib/clock.ts';
import { endProcess } from '../../lib/end-process.ts';
import { UserError } from '../../lib/errors.ts';
import { explain } from '../report.ts';

const HELP = `juicepod hold --socket PATH [--mount DIR]... [--no-guard]

Keeps the FUSE descriptors of a pod's mounts while the client is restarted or replaced, and unmounts at the end (SIGTERM).
Each --mount is made, and covered by an empty read-only file system: nobody can write there while nothing is mounted.
`;

export async function holdCommand(argv: readonly string[]): Promise<void> {
  try {
    const { values } = parseArgs({
      args: [...argv],
      options: {
        socket: { type: 'string' },
        mount: { type: 'string', multiple: true, default: [] },
        'no-guard': { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h' },
      },
    });
    if (values.help) return void process.stdout.write(HELP);
    if (values.socket === undefined)
      throw new UserError('SocketMissing', '--socket is missing', { hint: 'juicepod hold --help' });
    whenIdle({ clock: systemClock, giveBack: giveBackMemory });
    endProcess(await runHolder({ socket: values.socket, targets: values.mount, guard: !values['no-guard'] }));
  } catch (error) {
    process.stderr.write(explain(error));
    endProcess(1);
  }
}
