/**
 * `juicepod umount`: unmounts and waits until the client has ended, so that everything written is stored, or, with write-back,
 * in the cache directory. With `--flush` it waits before for what is staged there to be uploaded, as `juicefs umount --flush`.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { shownFolders } from '../../client/cache-options.ts';
import { mountsAt } from '../../fuse/mountinfo.ts';
import { isFuse, realTarget, unmount } from '../../fuse/mount.ts';
import { UserError } from '../../lib/errors.ts';
import { formatBytes } from '../../lib/units.ts';
import { type Output, print } from '../report.ts';

/** How long the client may take to store what was written, milliseconds. */
const PATIENCE = 120_000;
const POLL_MS = 20;
const FLUSH_POLL_MS = 200;
const PROGRESS_MS = 5000;

interface Config {
  readonly Pid?: number;
  readonly Chunk?: { readonly Writeback?: boolean; readonly CacheDir?: string };
}

function configOf(target: string): Config | undefined {
  try {
    return JSON.parse(readFileSync(`${target}/.config`, 'utf8')) as Config;
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

interface Staged {
  readonly blocks: number;
  readonly bytes: number;
}

/** What lies in folders of staged blocks; it may change meanwhile. */
function stagedIn(folders: readonly string[]): Staged {
  let blocks = 0;
  let bytes = 0;
  const look = (path: string): void => {
    let entries;
    try {
      entries = readdirSync(path, { withFileTypes: true });
    } catch {
      return;
    }
    for (const entry of entries) {
      const inner = join(path, entry.name);
      if (entry.isDirectory()) look(inner);
      else if (entry.isFile() && !entry.name.endsWith('.tmp')) {
        bytes += statSync(inner, { throwIfNoEntry: false })?.size ?? 0;
        blocks++;
      }
    }
  };
  for (const folder of folders) look(folder);
  return { blocks, bytes };
}

const amount = ({ blocks, bytes }: Staged): string => `${blocks} ${blocks === 1 ? 'block' : 'blocks'} (${formatBytes(bytes)})`;

/** Waits until nothing is staged; says on standard error how far it is. */
async function flushed(folders: readonly string[]): Promise<void> {
  let said = -Infinity;
  for (let left = stagedIn(folders); left.blocks > 0; left = stagedIn(folders)) {
    if (performance.now() - said >= PROGRESS_MS) {
      process.stderr.write(`${amount(left)} to be uploaded\n`);
      said = performance.now();
    }
    await new Promise((done) => setTimeout(done, FLUSH_POLL_MS));
  }
}

export async function umountCommand(mountPoint: string, raw: Readonly<Record<string, unknown>>): Promise<void> {
  const options = raw as { readonly flush?: boolean; readonly force?: boolean; readonly output: Output };
  const target = await realTarget(mountPoint).catch(() => resolve(mountPoint));
  const top = mountsAt(target).at(-1);
  if (!top || !isFuse(top))
    throw new UserError('NotMounted', `${target} is not a mounted volume`, {
      hint: 'mount -t fuse.juicepod lists those that are.',
    });
  const config = options.force ? undefined : configOf(target);
  const pid = config?.Pid;
  const { Writeback = false, CacheDir = '' } = config?.Chunk ?? {};
  const staging = Writeback ? shownFolders(CacheDir).map((folder) => join(folder, 'rawstaging')) : [];
  if (options.flush) await flushed(staging);
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
  const left = stagedIn(staging);
  const remark =
    left.blocks === 0
      ? ''
      : `\n${amount(left)} are staged in ${staging.join(', ')} and not uploaded yet: only mounts with this cache directory can read them, and the next one uploads them.`;
  print(options.output, { unmounted: target, staged: left }, `Unmounted ${target}.${remark}`);
}
