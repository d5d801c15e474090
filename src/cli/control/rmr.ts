/** `juicepod rmr`: removes trees of a mounted volume, in parallel and without a round trip of this process per name. */
import { lstatSync, statSync } from 'node:fs';
import { messageOf, UserError } from '../../lib/errors.ts';
import { requests } from '../../vfs/control/protocol.ts';
import { endingSignal, wholeNumberOf } from '../options.ts';
import { showProgress } from '../progress.ts';
import { type Output, print } from '../report.ts';
import { MountControl, requireDone } from './ask.ts';
import { absolute, argumentBytes, shown, split } from './paths.ts';

/** Of the root of every volume. */
const ROOT_INO = 1n;

interface Options {
  readonly skipTrash?: boolean;
  readonly threads: string;
  readonly output: Output;
}

export async function rmrCommand(paths: readonly string[], raw: Readonly<Record<string, unknown>>): Promise<void> {
  const options = raw as unknown as Options;
  const threads = wholeNumberOf(options.threads, '--threads', 1, 255);
  if (options.skipTrash && process.getuid?.() !== 0)
    throw new UserError('RootRequired', '--skip-trash: only root may remove files without the trash');
  const signal = endingSignal();
  const removed: { path: string; entries: number }[] = [];
  let told = '';
  const progress = showProgress(() => told);
  try {
    for (const text of paths) {
      const path = argumentBytes(text);
      let entries = 0;
      try {
        entries = await remove(path, options.skipTrash === true, threads, signal, (count) => {
          entries = count;
          told = `${shown(path)}: ${count} removed`;
        });
      } catch (error) {
        if (error instanceof UserError && error.code === 'Interrupted')
          throw new UserError('Interrupted', `${shown(path)}: interrupted when ${entries} entries were removed`, {
            hint: 'Run it again to remove the rest.',
          });
        if (!(error instanceof UserError) || removed.length === 0) throw error;
        const hint = `Before it, ${removed.map((each) => each.path).join(', ')} ${removed.length === 1 ? 'was' : 'were'} removed.`;
        throw new UserError(error.code, error.message, { hint, cause: error });
      }
      removed.push({ path: shown(path), entries });
    }
  } finally {
    progress.end();
  }
  print(
    options.output,
    removed,
    removed.map(({ path, entries }) => `${path}: ${entries} ${entries === 1 ? 'entry' : 'entries'} removed\n`).join(''),
  );
}

async function remove(
  path: Buffer,
  skipTrash: boolean,
  threads: number,
  signal: AbortSignal,
  onProgress: (count: number) => void,
): Promise<number> {
  const { folder, name } = split(path);
  let stat;
  let own;
  try {
    stat = statSync(folder, { bigint: true });
    own = lstatSync(absolute(path), { bigint: true, throwIfNoEntry: false });
  } catch (error) {
    throw new UserError('PathMissing', `${shown(path)}: the directory it should lie in cannot be had: ${messageOf(error)}`);
  }
  if (own?.isDirectory() && own.ino === ROOT_INO && own.dev !== stat.dev)
    throw new UserError('MountPoint', `${shown(path)} is a mount point, whose volume keeps its root`, {
      hint: `Name what lies in it: juicepod rmr ${shown(path)}/*`,
    });
  await using control = await MountControl.open({ path, folder, stat }, signal);
  let count = 0;
  const answer = await control.ask(requests.rmr(stat.ino, name, skipTrash, threads), (entries) => {
    count = entries;
    onProgress(entries);
  });
  requireDone(path, answer);
  return count;
}
