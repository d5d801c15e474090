/**
 * The client process: of one mount on this machine (`serve`, started by src/cli/supervise.ts) or of a pod
 * (`mount --plan FILE --socket PATH`, started by the kubelet). Loads only what serving needs: no parser of commands, no
 * winston (17 MiB of resident memory), a store's or an engine's library only where the volume has one.
 */
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { HolderLink } from '../client/handover.ts';
import { clientLimits } from '../client/limits.ts';
import { plainLogger } from '../client/hold.ts';
import { serveAll, type ServeOptions } from '../client/mount.ts';
import { readPlan } from '../client/plan.ts';
import { UserError } from '../lib/errors.ts';
import { explain } from './report.ts';
import { type MountSettings, PASSPHRASE_VARIABLE, readSettings, sourceOf } from './settings.ts';

export async function serveCommand(argv: readonly string[]): Promise<void> {
  const ending = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => ending.abort());
  try {
    const { values } = parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: { socket: { type: 'string' }, plan: { type: 'string' } },
    });
    const { socket, plan } = values;
    if (socket === undefined)
      throw new UserError('SocketMissing', '--socket is missing: the socket of the holder that keeps the mounts');
    const { log, mounts } = plan === undefined ? alone(readSettings(), socket) : ofPod(plan);
    using link = new HolderLink(socket, log);
    process.exit(await serveAll(mounts, { link, kept: plan !== undefined, log }, ending.signal));
  } catch (error) {
    process.stderr.write(explain(error));
    process.exit(1);
  }
}

function ofPod(path: string): { readonly log: ReturnType<typeof plainLogger>; readonly mounts: readonly ServeOptions[] } {
  const { plan, mounts } = readPlan(path);
  const log = plainLogger({ component: 'client' });
  return {
    log: plan.logLevel === 'error' ? { ...log, info() {}, warn() {} } : plan.logLevel === 'warn' ? { ...log, info() {} } : log,
    mounts,
  };
}

function alone(
  settings: MountSettings,
  socket: string,
): { readonly log: ReturnType<typeof plainLogger>; readonly mounts: readonly ServeOptions[] } {
  const { volume, uuid, target, allowOther, storage, cache, uploadLimit, downloadLimit, maxMetadataOps, ...options } = settings;
  const limits = clientLimits({ uploadLimit, downloadLimit, maxMetadataOps });
  if (cache) sweepJournals(cache.folder);
  const journalFolder = join(cache?.folder ?? dirname(socket), `journal-${process.ppid}`);
  const mount = {
    target,
    source: sourceOf(volume),
    readOnly: options.readOnly,
    nonEmpty: true,
    ...(allowOther ? { allowOther } : {}),
  };
  const passphrase = process.env[PASSPHRASE_VARIABLE];
  return {
    log: plainLogger(),
    mounts: [
      {
        mount,
        volume: {
          ...options,
          expect: { name: volume, uuid },
          storage,
          ...(passphrase === undefined ? {} : { passphrases: [passphrase] }),
          journalFolder,
          limits,
          ...(cache ? { cache } : {}),
        },
      },
    ],
  };
}

/** Journals of mounts whose holder is gone: nobody will ask for them. */
function sweepJournals(folder: string): void {
  if (!existsSync(folder)) return;
  for (const name of readdirSync(folder)) {
    const pid = /^journal-(\d+)$/.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) rmSync(join(folder, name), { recursive: true, force: true });
  }
}
