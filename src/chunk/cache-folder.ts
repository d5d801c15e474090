/**
 * Making a cache directory, and finding what an earlier mount left in it. Its `.lock` holds its id, by which blocks are given to it
 * (hash-ring.ts), and tells the disk from the empty mount point beneath it.
 */
import { randomUUID } from 'node:crypto';
import { dirname, join } from 'node:path';
import type { Clock } from '../lib/clock.ts';
import type { BlockFiles } from './disk-files.ts';
import { parseBlockName } from './key.ts';

/** Temporary files younger than this may still be written by another client. */
const STALE_MS = 60_000;

/** The folder of blocks that are not uploaded yet, beside `raw`. */
export const STAGING = 'rawstaging';
/** The file in a cache directory that holds its id. */
export const LOCK = '.lock';

/** Directories can be searched by whoever may read the files. */
export function folderMode(mode: number): number {
  const readers = mode & 0o444;
  return mode | (readers >> 2) | (readers >> 1);
}

/** Makes `<cache-dir>/<UUID>/raw` and the `.lock`. Says the directory's id and the device it is on. Fails with the system's error. */
export async function prepareCacheFolder(
  root: string,
  mode: number,
  files: BlockFiles,
): Promise<{ readonly id: string; readonly device: number }> {
  const lock = join(root, LOCK);
  await files.mkdir(join(root, 'raw'), folderMode(mode));
  const made = randomUUID();
  await files.create(lock, made, 0o666).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
  });
  let id = (await files.text(lock)).trim();
  // Made by somebody who died before the next line, or is on it.
  if (id === '') {
    await files.write(lock, [Buffer.from(made)], 0o666);
    id = made;
  }
  return { id, device: (await files.stat(root)).dev };
}

/** The device of the nearest folder above that is there. */
export async function deviceAbove(path: string, files: BlockFiles): Promise<number> {
  for (let folder = path; ; folder = dirname(folder)) {
    try {
      return (await files.stat(folder)).dev;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || folder === dirname(folder)) throw error;
    }
  }
}

/** A block that lies in a folder. */
export interface FoundBlock {
  readonly id: number;
  readonly index: number;
  readonly length: number;
  readonly path: string;
}

/**
 * Walks the tree of cached blocks, some names at a time, and tells of each block. Leftovers of interrupted writes that
 * are older than a minute are deleted, and empty directories. Names that are no blocks are left alone.
 */
export async function scanCache(
  folder: string,
  parts: { readonly clock: Clock; readonly files: BlockFiles; readonly signal: AbortSignal },
  found: (block: FoundBlock) => Promise<void> | void,
): Promise<void> {
  const { clock, files, signal } = parts;
  if (signal.aborted) return;
  try {
    for await (const entry of await files.list(folder)) {
      if (signal.aborted) return;
      const path = join(folder, entry.name);
      if (entry.isDirectory()) {
        await scanCache(path, parts, found);
        // Refused where something is in it.
        if (await isStale(path, clock, files)) await files.rmdir(path).catch(() => undefined);
      } else if (entry.name.endsWith('.tmp')) {
        if (await isStale(path, clock, files)) await files.unlink(path).catch(() => undefined);
      } else {
        const block = entry.isFile() ? parseBlockName(entry.name) : undefined;
        if (block) await found({ ...block, path });
      }
    }
  } catch (error) {
    // Nothing there, or somebody removed it meanwhile.
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

async function isStale(path: string, clock: Clock, files: BlockFiles): Promise<boolean> {
  try {
    return clock.now() - (await files.stat(path)).mtimeMs > STALE_MS;
  } catch {
    return false;
  }
}
