/**
 * `juicepod warmup`: brings files of a mounted volume into the cache of its client, drops them, or tells what is there. Files are named
 * to the client by inode, so their names may be anything.
 */
import { UserError } from '../../lib/errors.ts';
import { formatBytes } from '../../lib/units.ts';
import { CacheAction, type CacheAnswer, requests } from '../../vfs/control/protocol.ts';
import { readFileSync } from 'node:fs';
import { endingSignal, wholeNumberOf } from '../options.ts';
import { showProgress } from '../progress.ts';
import { columns, type Output, print } from '../report.ts';
import { dataOf, MountControl } from './ask.ts';
import { argumentBytes, find, type Found, shown } from './paths.ts';

/** Paths of one request. */
const BATCH = 10_240;
const NEWLINE = 0x0a;

interface Options {
  readonly file?: string;
  readonly threads: string;
  readonly background?: boolean;
  readonly evict?: boolean;
  readonly check?: boolean;
  readonly output: Output;
}

/** The paths of a list, one a line; empty lines are left out. */
function listed(file: string): readonly Buffer[] {
  let bytes: Buffer;
  try {
    bytes = readFileSync(file === '-' ? 0 : file);
  } catch (error) {
    throw new UserError('FileUnreadable', `--file: ${file} cannot be read: ${(error as Error).message}`);
  }
  const lines: Buffer[] = [];
  for (let from = 0; from < bytes.length;) {
    const end = bytes.indexOf(NEWLINE, from);
    const line = bytes.subarray(from, end < 0 ? bytes.length : end);
    if (line.toString('latin1').trim() !== '') lines.push(line);
    from += line.length + 1;
  }
  return lines;
}

export async function warmupCommand(paths: readonly string[], raw: Readonly<Record<string, unknown>>): Promise<void> {
  const options = raw as unknown as Options;
  const threads = wholeNumberOf(options.threads, '--threads', 1, 65_535);
  if (options.evict && options.check)
    throw new UserError('InvalidOptions', '--evict and --check are two things to do: give one of them');
  const all = [...paths.map(argumentBytes), ...(options.file === undefined ? [] : listed(options.file))];
  if (all.length === 0)
    throw new UserError('NoPath', 'wanted a path, found none', { hint: 'Give paths, or a list of them with --file.' });
  const action = options.evict ? CacheAction.Evict : options.check ? CacheAction.Check : CacheAction.Warm;
  const total = { files: 0, slices: 0, bytes: 0, missed: 0, locations: {} as Record<string, number> };
  const first = find(all[0] as Buffer);
  await using control = await MountControl.open(first, endingSignal());
  let told = '';
  const progress = showProgress(() => told);
  try {
    for (let from = 0; from < all.length; from += BATCH) {
      const batch = all.slice(from, from + BATCH).map((path) => inodeIn(path, first));
      const request = requests.fillCache(batch, threads, options.background === true, action);
      const answer = await control.ask(
        request,
        (files, bytes) => void (told = `${total.files + files} files, ${formatBytes(total.bytes + bytes)}`),
      );
      const part = dataOf(first.path, answer) as CacheAnswer;
      total.files += part.FileCount;
      total.slices += part.SliceCount;
      total.bytes += part.TotalBytes;
      total.missed += part.MissBytes;
      for (const [place, bytes] of Object.entries(part.Locations ?? {}))
        total.locations[place] = (total.locations[place] ?? 0) + bytes;
    }
  } finally {
    progress.end();
  }
  if (options.background) return print(options.output, { background: true, paths: all.length }, 'The client goes on by itself.');
  print(options.output, total, describe(action, total));
}

/** What the client is told in the place of a path. */
function inodeIn(path: Buffer, first: Found): string {
  const { stat } = find(path);
  if (stat.dev !== first.stat.dev)
    throw new UserError('OtherMount', `${shown(path)} does not lie in the mount of ${shown(first.path)}`, {
      hint: 'Give the paths of each mount to a command of its own.',
    });
  return `inode:${stat.ino}`;
}

function describe(
  action: CacheAction,
  { files, bytes, missed, locations }: { files: number; bytes: number; missed: number; locations: Record<string, number> },
): string {
  const what = `${files} ${files === 1 ? 'file' : 'files'}`;
  if (action === CacheAction.Evict) return `${what}, ${formatBytes(bytes)}: not cached any more`;
  if (action === CacheAction.Warm) {
    const left =
      missed > 0 ? `; ${formatBytes(missed)} found no room in the cache, or could not be read (see the client's log)` : '';
    return `${what}, ${formatBytes(bytes - missed)} in the cache${left}`;
  }
  const share = bytes === 0 ? 100 : ((bytes - missed) * 100) / bytes;
  const rows = Object.entries(locations)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([place, part]) => [`  ${place}`, formatBytes(part)]);
  return `${what}: ${formatBytes(bytes - missed)} of ${formatBytes(bytes)} cached (${share.toFixed(1)} %)\n${columns(rows)}`;
}
