/** `juicepod umount`: unmounts and waits until the client has ended, so that everything written is stored. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { mountsAt } from '../fuse/mountinfo.ts';
import { isFuse, realTarget, unmount } from '../fuse/mount.ts';
import { UserError } from '../lib/errors.ts';
import { type Output, print } from './report.ts';

/** How long the client may take to store what was written, milliseconds. */
const PATIENCE = 120_000;
const POLL_MS = 20;

function clientOf(target: string): number | undefined {
  try {
    return (JSON.parse(readFileSync(`${target}/.config`, 'utf8')) as { readonly Pid?: number }).Pid;
  } catch {
    return undefined;
  }
}

function lives(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

export async function umountCommand(mountPoint: string, raw: Readonly<Record<string, unknown>>): Promise<void> {
  const options = raw as { readonly force?: boolean; readonly output: Output };
  const target = await realTarget(mountPoint).catch(() => resolve(mountPoint));
  const top = mountsAt(target).at(-1);
  if (!top || !isFuse(top))
    throw new UserError('NotMounted', `${target} is not a mounted volume`, {
      hint: 'mount -t fuse.juicepod lists those that are.',
    });
  const pid = options.force ? undefined : clientOf(target);
  await unmount(target, { lazy: options.force === true });
  const deadline = performance.now() + PATIENCE;
  // oxlint-disable-next-line no-unmodified-loop-condition -- the process ends by itself
  while (pid !== undefined && lives(pid)) {
    if (performance.now() > deadline)
      throw new UserError(
        'ClientBusy',
        `${target} is unmounted, but its client (process ${pid}) is still storing what was written`,
      );
    await new Promise((done) => setTimeout(done, POLL_MS));
  }
  print(options.output, { unmounted: target }, `Unmounted ${target}.`);
}
