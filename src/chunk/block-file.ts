/**
 * Writing a block into the cache directory, as cached block or as staged one: plain bytes and their checksums (cache-file.ts) into
 * `….tmp`, then renamed, so that whoever sees the name sees all of the block. Nothing is synced: a block survives the death of
 * the process, not of the machine. Source: the JuiceFS format, "Local cache directory".
 */
import { dirname, join } from 'node:path';
import { crc32cPieces } from '../lib/crc32c.ts';
import { type ChecksumLevel, PIECE, trailerLength } from './cache-file.ts';
import { folderMode, LOCK } from './cache-folder.ts';
import { blockFiles, type BlockFiles } from './disk-files.ts';
import type { Block } from './pool.ts';

export interface BlockFileOptions {
  /** The cache directory: folders are made below it, but only while it is there (cache-folder.ts). */
  readonly root: string;
  /** Of files; folders can be searched by whoever may read them. */
  readonly mode: number;
  /** @default the file system */
  readonly files?: BlockFiles;
}

/** Does it again where the folder was missing, with the folder. Nothing is made where a disk is not mounted any more. */
async function inFolder(path: string, options: BlockFileOptions, action: () => Promise<void>): Promise<void> {
  const { root, mode, files = blockFiles } = options;
  try {
    await action();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    await files.stat(join(root, LOCK));
    await files.mkdir(dirname(path), folderMode(mode));
    await action();
  }
}

/** Writes a block to `path`; folders are made. Where it fails nothing is left but what a dead disk keeps. */
export async function writeBlock(
  path: string,
  block: Block,
  options: BlockFileOptions & { readonly level: ChecksumLevel },
): Promise<void> {
  const { level, mode, files = blockFiles } = options;
  const temporary = `${path}.${process.pid}.tmp`;
  const parts: Uint8Array[] = [block.data];
  if (level !== 'none') {
    const trailer = Buffer.allocUnsafe(trailerLength(block.length));
    for (const [piece, sum] of (block.sums ?? crc32cPieces(block.data, PIECE)).entries()) trailer.writeUInt32BE(sum, piece * 4);
    parts.push(trailer);
  }
  try {
    await inFolder(path, options, () => files.write(temporary, parts, mode));
    await files.rename(temporary, path);
  } catch (error) {
    await files.unlink(temporary).catch(() => undefined);
    throw error;
  }
}

/** A second name for a file; one that is there already is left. */
export async function linkBlock(from: string, to: string, options: BlockFileOptions): Promise<void> {
  const { files = blockFiles } = options;
  await inFolder(to, options, () => files.link(from, to)).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
  });
}
