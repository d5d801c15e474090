/** `juicepod fsck`: whether a volume is whole. */
import { UserError } from '../../lib/errors.ts';
import { formatIno, type Ino, ROOT_INO } from '../../lib/int64.ts';
import { formatBytes } from '../../lib/units.ts';
import { type BlockReport, checkBlocks, checkFiles, newBlockReport } from '../../maintenance/check-blocks.ts';
import type { MetaEngine } from '../../meta/engine.ts';
import { inodeText } from '../../meta/maintenance/where.ts';
import { newTreeReport, type TreeReport } from '../../meta/maintenance/tree-report.ts';
import { checkTree, type TreeStart } from '../../meta/maintenance/tree.ts';
import { namesOf } from '../../meta/paths.ts';
import { NodeType } from '../../meta/types.ts';
import { stderrLogger } from '../logger.ts';
import { type OpenedVolume, printable, withVolume } from './maintain.ts';
import { wholeNumberOf } from '../options.ts';
import { showProgress } from '../progress.ts';
import { columns, type Output, print } from '../report.ts';

interface FsckOptions {
  readonly path?: string;
  readonly recursive?: boolean;
  readonly repair?: boolean;
  readonly syncDirStat?: boolean;
  readonly repairDirMode: string;
  readonly threads: string;
  readonly output: Output;
}

const MAX_THREADS = 1000;

function modeOf(text: string): number {
  if (/^[0-7]{1,4}$/.test(text)) return Number.parseInt(text, 8);
  throw new UserError('InvalidOption', `--repair-dir-mode: wanted octal permissions such as 0755, found ${JSON.stringify(text)}`);
}

function checkOptions({ path, recursive, repair, syncDirStat }: FsckOptions): void {
  if (path !== undefined && !path.startsWith('/'))
    throw new UserError('InvalidOption', `--path: wanted a path from the root of the volume on, found ${JSON.stringify(path)}`, {
      hint: 'Such as --path /projects/a; the whole tree is --path / --recursive.',
    });
  if (path !== undefined) return;
  const alone = repair ? '--repair' : recursive ? '--recursive' : syncDirStat ? '--sync-dir-stat' : undefined;
  if (alone === undefined) return;
  throw new UserError('InvalidOption', `${alone} is for the tree of names: say which part of it with --path`, {
    hint: 'The whole of it: --path / --recursive.',
  });
}

/** What a path names, as its entry says: its attributes may be lost. Throws UserError `PathMissing`, `NotADirectory`. */
async function startOf(engine: MetaEngine, path: string): Promise<TreeStart> {
  let start: TreeStart = {
    ino: ROOT_INO,
    type: NodeType.Directory,
    path: Buffer.from('/'),
    parent: ROOT_INO,
    name: undefined,
  };
  for (const name of namesOf(path)) {
    if (start.type !== NodeType.Directory)
      throw new UserError('NotADirectory', `${path}: ${printable(start.path)} is no directory`);
    const found = await engine.lookup(start.ino, name);
    if (!found) throw new UserError('PathMissing', `the volume has no ${path} (there is no ${name.toString()})`);
    const above = start.path.length === 1 ? '' : start.path.toString();
    start = { ...found.value, path: Buffer.from(`${above}/${name.toString()}`), parent: start.ino, name };
  }
  return start;
}

async function checkPath(
  { engine, volume, format, objects, geometry, signal }: OpenedVolume,
  path: string,
  options: FsckOptions,
  tree: TreeReport,
  blocks: BlockReport,
): Promise<void> {
  const { recursive = false, repair = false, syncDirStat = false } = options;
  const now = volume.seconds();
  const activeSessions = (await engine.sessions()).some(({ expire }) => expire >= now);
  const files = checkTree({
    volume,
    start: await startOf(engine, path),
    recursive,
    repair,
    syncDirStat,
    dirMode: modeOf(options.repairDirMode),
    activeSessions,
    report: tree,
    signal,
  });
  const threads = wholeNumberOf(options.threads, '--threads', 1, MAX_THREADS);
  await checkFiles({ engine, format, objects, geometry, logger: volume.logger, threads, report: blocks, signal }, files);
}

const doing: Readonly<Record<BlockReport['phase'], (report: BlockReport) => string>> = {
  slices: ({ listed }) => `reading slices: ${listed}`,
  objects: ({ blocks }) => `listing objects: ${blocks} blocks`,
  lost: ({ lostBlocks }) => `looking for lost blocks: ${lostBlocks}`,
  files: () => 'looking for the files that are broken',
  done: () => '',
};

export async function fsckCommand(url: string, raw: Readonly<Record<string, unknown>>): Promise<void> {
  const options = raw as unknown as FsckOptions;
  checkOptions(options);
  const { path, repair = false, output } = options;
  const threads = wholeNumberOf(options.threads, '--threads', 1, MAX_THREADS);
  modeOf(options.repairDirMode);
  const blocks = newBlockReport();
  const tree = newTreeReport();
  const logger = stderrLogger();
  await withVolume(url, { writing: repair, logger }, async (opened) => {
    const { engine, format, objects, geometry, temporary, signal } = opened;
    const line = showProgress(() =>
      path === undefined
        ? doing[blocks.phase](blocks)
        : `checking: ${tree.directories} directories, ${tree.files} files, ${blocks.blocks} blocks`,
    );
    try {
      if (path !== undefined) await checkPath(opened, path, options, tree, blocks);
      else await checkBlocks({ engine, format, objects, geometry, logger, threads, temporary, report: blocks, signal });
    } finally {
      line.end();
    }
  });
  print(output, shown(tree, blocks, path !== undefined), text(tree, blocks, path !== undefined));
  const left = tree.found - tree.repaired;
  if (left === 0 && blocks.lostBlocks === 0 && blocks.damagedLists === 0) return;
  const wrong = [
    ...(blocks.lostBlocks > 0 ? [`${blocks.lostBlocks} blocks are lost, ${blocks.brokenFiles} files broken`] : []),
    ...(blocks.damagedLists > 0 ? [`${blocks.damagedLists} lists of slices are damaged`] : []),
    ...(left > 0 ? [`${left} problems in the tree of names`] : []),
  ];
  const hint =
    left > 0 && !repair
      ? `While clients write, the last seconds may be missing. Else mend it: juicepod fsck META-URL --path ${path} ${options.recursive ? '--recursive ' : ''}${options.syncDirStat ? '--sync-dir-stat ' : ''}--repair`
      : 'Bring broken files back from a backup, or remove them.';
  throw new UserError('VolumeBroken', wrong.join('; '), { hint });
}

const pathText = (ino: Ino, path: Buffer | undefined): string => (path ? printable(path) : inodeText(ino));

function shown(tree: TreeReport, { phase: _phase, ...blocks }: BlockReport, withTree: boolean): unknown {
  return {
    ...(withTree
      ? {
          directories: tree.directories,
          files: tree.files,
          problems: tree.problems.map(({ kind, ino, path, detail, repaired }) => ({
            kind,
            ...(ino === undefined ? {} : { inode: formatIno(ino) }),
            ...(path ? { path: printable(path) } : {}),
            detail,
            repaired,
          })),
          problemsFound: tree.found,
          problemsRepaired: tree.repaired,
        }
      : {}),
    slices: blocks.listed,
    blocks: blocks.blocks,
    bytes: blocks.bytes,
    lostBlocks: blocks.lostBlocks,
    lostBytes: blocks.lostBytes,
    lost: blocks.lost.map(({ key, length, found }) => ({ key, length, found: found ?? null })),
    brokenFiles: blocks.brokenFiles,
    broken: blocks.broken.map(({ ino, path, blocks: lost }) => ({
      inode: formatIno(ino),
      ...(path ? { path: printable(path) } : {}),
      blocks: lost,
    })),
    damagedLists: blocks.damagedLists,
  };
}

function text(tree: TreeReport, blocks: BlockReport, withTree: boolean): string {
  const lines: string[] = [];
  if (withTree) {
    lines.push(`Checked ${tree.directories} directories and ${tree.files} files.\n`);
    for (const { ino, path, detail, repaired } of tree.problems)
      lines.push(`${ino === undefined ? 'the volume' : pathText(ino, path)}: ${detail}${repaired ? ' (repaired)' : ''}\n`);
    if (tree.found > tree.problems.length) lines.push(`… and ${tree.found - tree.problems.length} more\n`);
  }
  lines.push(`Found ${blocks.blocks} blocks (${formatBytes(blocks.bytes)}) of ${blocks.listed} slices.\n`);
  for (const { key, length, found } of blocks.lost)
    lines.push(
      found === undefined
        ? `lost: ${key}\n`
        : `damaged: ${key}: its object has ${found} bytes, which cannot be a block of ${length}\n`,
    );
  if (blocks.lostBlocks > blocks.lost.length) lines.push(`… and ${blocks.lostBlocks - blocks.lost.length} more\n`);
  if (blocks.broken.length > 0) {
    const rows = blocks.broken.map(({ ino, path, blocks: lost }) => [formatIno(ino), String(lost), pathText(ino, path)]);
    lines.push(columns([['INODE', 'BLOCKS', 'BROKEN FILE'], ...rows.toSorted(([, , a = ''], [, , b = '']) => (a < b ? -1 : 1))]));
    if (blocks.brokenFiles > blocks.broken.length) lines.push(`… and ${blocks.brokenFiles - blocks.broken.length} more\n`);
  }
  if (blocks.lostBlocks === 0 && blocks.damagedLists === 0 && tree.found === tree.repaired)
    lines.push('Nothing is lost or broken.\n');
  return lines.join('');
}
