/** `juicepod info`: what a file or directory of a mounted volume is made of, asked of the client that serves it. */
import { closeSync, openSync, readSync, statSync, writeSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { UserError } from '../lib/errors.ts';
import { formatBytes } from '../lib/units.ts';
import { infoRequest, readAnswer } from '../vfs/control.ts';
import { type Output, print, table } from './report.ts';

/** How long the client may take, milliseconds: counting a large tree takes a while. */
const PATIENCE = 600_000;
const POLL_MS = 10;

interface Info {
  readonly Ino: number;
  readonly Failed: boolean;
  readonly Reason: string;
  readonly Summary: { readonly Length: number; readonly Size: number; readonly Files: number; readonly Dirs: number };
  readonly Paths: readonly string[] | null;
  readonly Objects:
    | readonly {
        readonly ChunkIndex: number;
        readonly Key: string;
        readonly Size: number;
        readonly Off: number;
        readonly Len: number;
      }[]
    | null;
}

export async function infoCommand(paths: readonly string[], raw: Readonly<Record<string, unknown>>): Promise<void> {
  const output = raw['output'] as Output;
  const answers: Info[] = [];
  for (const path of paths) answers.push(await ask(path, raw['inode'] === true, raw['recursive'] === true));
  print(output, answers, answers.map((info, index) => describe(paths[index] ?? '', info)).join('\n'));
}

async function ask(path: string, isInode: boolean, recursive: boolean): Promise<Info> {
  let inode: bigint;
  let folder: string;
  if (isInode) {
    if (!/^\d{1,20}$/.test(path)) throw new UserError('InvalidInode', `wanted an inode number, found ${JSON.stringify(path)}`);
    inode = BigInt(path);
    folder = process.cwd();
  } else {
    let stat;
    try {
      stat = statSync(path, { bigint: true });
    } catch (error) {
      throw new UserError(
        'PathMissing',
        `${path}: ${(error as NodeJS.ErrnoException).code === 'ENOENT' ? 'there is no such file or directory' : (error as Error).message}`,
      );
    }
    inode = stat.ino;
    folder = stat.isDirectory() ? path : dirname(resolve(path));
  }
  let control: number;
  try {
    control = openSync(`${folder}/.control`, 'r+');
  } catch {
    throw new UserError('NotMounted', `${path} does not lie in a mounted volume`, {
      hint: 'Give a path below a mount point of juicepod or juicefs.',
    });
  }
  try {
    const request = infoRequest(inode, recursive, false);
    writeSync(control, request);
    let answer = Buffer.alloc(0);
    const buffer = Buffer.alloc(65_536);
    for (const deadline = performance.now() + PATIENCE; performance.now() < deadline;) {
      const count = readSync(control, buffer, 0, buffer.length, request.length + answer.length);
      answer = Buffer.concat([answer, buffer.subarray(0, count)]);
      const info = readAnswer(answer) as Info | undefined;
      if (info?.Failed) throw new UserError('InfoFailed', `${path}: ${info.Reason}`);
      if (info) return info;
      if (count === 0) await new Promise((done) => setTimeout(done, POLL_MS));
    }
    throw new UserError('InfoTimeout', `${path}: the client did not answer within ${PATIENCE / 60_000} minutes`);
  } finally {
    closeSync(control);
  }
}

function describe(path: string, info: Info): string {
  const head = table([
    ['path', info.Paths?.join(', ') || path],
    ['inode', info.Ino],
    ['files', info.Summary.Files],
    ['directories', info.Summary.Dirs],
    ['length', `${formatBytes(info.Summary.Length)} (${info.Summary.Length} bytes)`],
    ['space', `${formatBytes(info.Summary.Size)} (${info.Summary.Size} bytes)`],
  ]);
  if (!info.Objects) return head;
  const objects = info.Objects.map(
    ({ ChunkIndex, Key, Off, Len }) => `  chunk ${ChunkIndex}  ${Key === '' ? '(hole)' : Key}  ${Off}+${Len}\n`,
  );
  return `${head}objects\n${objects.join('')}`;
}
