/**
 * Writing a block into the cache directory, as cached block or as staged one: plain bytes and their checksums (cache-file.ts) into
 * `….tmp`, then renamed, so that whoever sees the name sees all of the block. Nothing is synced: a block survives the death of
 * the process, not of the machine. Source: the JuiceFS format, "Local cache directory".
 */
import { link, mkdir, open, rename, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { crc32cPieces } from '../lib/crc32c.ts';
import { type ChecksumLevel, PIECE, trailerLength } from './cache-file.ts';
import { folderMode } from './cache-folder.ts';
import type { Block } from './pool.ts';

/** What is done to the cache directory, so that tests can have it fail. Each fails with the system's error. */
export interface BlockFiles {
  /** Writes a new file, replacing one that is there. */
  write(path: string, parts: readonly Uint8Array[], mode: number): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  link(from: string, to: string): Promise<void>;
  unlink(path: string): Promise<void>;
}

export const blockFiles: BlockFiles = {
  async write(path, parts, mode) {
    const file = await open(path, 'w', mode);
    try {
      const total = parts.reduce((sum, part) => sum + part.length, 0);
      const { bytesWritten } = await file.writev(parts);
      if (bytesWritten !== total) throw Object.assign(new Error(`wrote ${bytesWritten} of ${total} bytes`), { code: 'ENOSPC' });
    } finally {
      await file.close();
    }
  },
  rename,
  link,
  unlink,
};

/** Does it again where the folder was missing, with the folder. */
async function inFolder(path: string, mode: number, action: () => Promise<void>): Promise<void> {
  try {
    await action();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    await mkdir(dirname(path), { recursive: true, mode: folderMode(mode) });
    await action();
  }
}

/** Writes a block to `path`; folders are made. Where it fails nothing is left but what a dead disk keeps. */
export async function writeBlock(
  path: string,
  block: Block,
  { level, mode, files = blockFiles }: { readonly level: ChecksumLevel; readonly mode: number; readonly files?: BlockFiles },
): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  const parts: Uint8Array[] = [block.data];
  if (level !== 'none') {
    const trailer = Buffer.allocUnsafe(trailerLength(block.length));
    for (const [piece, sum] of (block.sums ?? crc32cPieces(block.data, PIECE)).entries()) trailer.writeUInt32BE(sum, piece * 4);
    parts.push(trailer);
  }
  try {
    await inFolder(path, mode, () => files.write(temporary, parts, mode));
    await files.rename(temporary, path);
  } catch (error) {
    await files.unlink(temporary).catch(() => undefined);
    throw error;
  }
}

/** A second name for a file; one that is there already is left. */
export async function linkBlock(from: string, to: string, mode: number, files: BlockFiles = blockFiles): Promise<void> {
  await inFolder(to, mode, () => files.link(from, to)).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
  });
}
