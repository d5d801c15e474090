/** `juicepod info`: what a file or directory of a mounted volume is made of, asked of the client that serves it. */
import { statSync } from 'node:fs';
import { UserError } from '../../lib/errors.ts';
import { formatBytes } from '../../lib/units.ts';
import type { ObjectShown, SliceShown } from '../../vfs/control/info.ts';
import { requests } from '../../vfs/control/protocol.ts';
import { endingSignal } from '../options.ts';
import { showProgress } from '../progress.ts';
import { columns, type Output, print, table } from '../report.ts';
import { dataOf, MountControl } from './ask.ts';
import { argumentBytes, find, shown } from './paths.ts';

interface Lock {
  readonly Sid: number;
  readonly Owner: number;
  readonly Type: number | string;
  readonly Pid?: number;
  readonly Start?: number;
  readonly End?: number;
}

interface Info {
  readonly Ino: number;
  readonly Failed: boolean;
  readonly Reason: string;
  readonly Summary: { readonly Length: number; readonly Size: number; readonly Files: number; readonly Dirs: number };
  readonly Paths: readonly string[] | null;
  readonly Chunks: readonly SliceShown[] | null;
  readonly Objects: readonly ObjectShown[] | null;
  readonly PLocks: readonly Lock[] | null;
  readonly FLocks: readonly Lock[] | null;
}

interface Options {
  readonly inode?: boolean;
  readonly recursive?: boolean;
  readonly strict?: boolean;
  readonly raw?: boolean;
  readonly output: Output;
}

export async function infoCommand(paths: readonly string[], raw: Readonly<Record<string, unknown>>): Promise<void> {
  const options = raw as unknown as Options;
  const signal = endingSignal();
  const answers: Info[] = [];
  for (const path of paths) answers.push(await ask(argumentBytes(path), options, signal));
  const texts = answers.map((info, index) => describe(argumentBytes(paths[index] ?? ''), info));
  print(options.output, answers, texts.join('\n'));
}

/** The inode that an argument names, and where to ask for it. */
function target(path: Buffer, isInode: boolean): { readonly inode: bigint; readonly where: ReturnType<typeof find> } {
  if (!isInode) {
    const where = find(path);
    return { inode: where.stat.ino, where };
  }
  const text = path.toString();
  if (!/^\d{1,19}$/.test(text) || BigInt(text) < 1n)
    throw new UserError('InvalidInode', `wanted an inode number, found ${JSON.stringify(text)}`);
  const folder = Buffer.from(process.cwd());
  return { inode: BigInt(text), where: { path: folder, stat: statSync(folder, { bigint: true }), folder } };
}

async function ask(path: Buffer, options: Options, signal: AbortSignal): Promise<Info> {
  const { inode, where } = target(path, options.inode === true);
  await using control = await MountControl.open(where, signal);
  let told = '';
  const progress = showProgress(() => told);
  try {
    const request = requests.info(inode, options.recursive === true, options.raw === true, options.strict === true);
    const answer = await control.ask(
      request,
      (files, bytes) => void (told = `${shown(path)}: ${files} files, ${formatBytes(bytes)}`),
    );
    const info = dataOf(path, answer) as Info;
    if (info.Failed) throw new UserError('InfoFailed', `${shown(path)}: ${info.Reason}`);
    return info;
  } finally {
    progress.end();
  }
}

function describe(path: Buffer, info: Info): string {
  const head = table([
    ['path', info.Paths?.map((each) => shown(Buffer.from(each))).join(', ') || shown(path)],
    ['inode', info.Ino],
    ['files', info.Summary.Files],
    ['directories', info.Summary.Dirs],
    ['length', `${formatBytes(info.Summary.Length)} (${info.Summary.Length} bytes)`],
    ['space', `${formatBytes(info.Summary.Size)} (${info.Summary.Size} bytes)`],
  ]);
  const objects = (info.Objects ?? []).map(
    ({ ChunkIndex, Key, Off, Len }) => `  chunk ${ChunkIndex}  ${Key === '' ? '(hole)' : Key}  ${Off}+${Len}\n`,
  );
  const slices = (info.Chunks ?? []).map(
    ({ ChunkIndex, Id, Size, Off, Len }) =>
      `  chunk ${ChunkIndex}  ${Id === 0 ? '(hole)' : `slice ${Id} of ${Size} bytes`}  ${Off}+${Len}\n`,
  );
  const whole = (info.FLocks ?? []).map(({ Sid, Owner, Type }) => [`  session ${Sid}`, `owner ${Owner}`, String(Type)]);
  const ranges = (info.PLocks ?? []).map(({ Sid, Owner, Type, Pid, Start, End }) => [
    `  session ${Sid}`,
    `owner ${Owner}`,
    Type === 0 ? 'R' : 'W',
    `process ${Pid}`,
    `${Start}-${End}`,
  ]);
  const part = (title: string, text: string): string => (text === '' ? '' : `${title}\n${text}`);
  return [
    head,
    part('objects', objects.join('')),
    part('slices', slices.join('')),
    part('locks of the whole file', columns(whole)),
    part('locks of ranges', columns(ranges)),
  ].join('');
}
