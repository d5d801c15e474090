/** `juicepod summary`: the largest parts of a tree of a mounted volume. */
import { UserError } from '../../lib/errors.ts';
import { formatBytes } from '../../lib/units.ts';
import { requests } from '../../vfs/control/protocol.ts';
import { endingSignal, wholeNumberOf } from '../options.ts';
import { showProgress } from '../progress.ts';
import { columns, type Output, print } from '../report.ts';
import { dataOf, failure, MountControl } from './ask.ts';
import { argumentBytes, find, shown } from './paths.ts';

const DIRECTORY = 2;

interface Options {
  readonly depth: string;
  readonly entries: string;
  readonly strict?: boolean;
  readonly csv?: boolean;
  readonly output: Output;
}

interface Tree {
  readonly Path: string;
  readonly Type: number;
  readonly Size: number;
  readonly Files: number;
  readonly Dirs: number;
  readonly Children?: readonly Tree[];
}

export async function summaryCommand(path: string, raw: Readonly<Record<string, unknown>>): Promise<void> {
  const options = raw as unknown as Options;
  const depth = wholeNumberOf(options.depth, '--depth', 0, 10);
  const entries = wholeNumberOf(options.entries, '--entries', 0, 100);
  if (options.csv && options.output === 'json')
    throw new UserError('InvalidOptions', '--csv and --output json are two forms: give one of them');
  const target = find(argumentBytes(path));
  await using control = await MountControl.open(target, endingSignal());
  let told = '';
  const progress = showProgress(() => told);
  let answer;
  try {
    const request = requests.summary(target.stat.ino, depth, entries, options.strict === true);
    answer = await control.ask(
      request,
      (files, bytes) => void (told = `${shown(target.path)}: ${files} files, ${formatBytes(bytes)}`),
    );
  } finally {
    progress.end();
  }
  const { Errno, Tree: tree } = dataOf(target.path, answer) as { readonly Errno: number; readonly Tree: Tree };
  if (Errno !== 0) throw failure(target.path, Errno);
  const rows = [['PATH', 'SIZE', 'DIRS', 'FILES'], ...rowsOf(tree, options.csv ? String : formatBytes)];
  print(options.output, tree, options.csv ? rows.map((row) => `${row.map(quoted).join(',')}\n`).join('') : columns(rows));
}

function rowsOf(tree: Tree, size: (bytes: number) => string): string[][] {
  const path = tree.Type === DIRECTORY && !tree.Path.endsWith('/') ? `${tree.Path}/` : tree.Path;
  const name = size === String ? path : shown(Buffer.from(path));
  return [
    [name, size(tree.Size), String(tree.Dirs), String(tree.Files)],
    ...(tree.Children ?? []).flatMap((child) => rowsOf(child, size)),
  ];
}

/** RFC 4180. */
const quoted = (field: string): string => (/[",\r\n]/.test(field) ? `"${field.replaceAll('"', '""')}"` : field);
