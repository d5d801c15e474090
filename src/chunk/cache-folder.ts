/** Making the cache directory, and finding what an earlier mount left in it. */
import { randomUUID } from 'node:crypto';
import { mkdir, readdir, rmdir, stat, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../lib/clock.ts';
import { parseBlockName } from './key.ts';

/** Temporary files younger than this may still be written by another client. */
const STALE_MS = 60_000;

/** The folder of blocks that are not uploaded yet, beside `raw`. */
export const STAGING = 'rawstaging';

/** Directories can be searched by whoever may read the files. */
export function folderMode(mode: number): number {
  const readers = mode & 0o444;
  return mode | (readers >> 2) | (readers >> 1);
}

/** Makes `<cache-dir>/<UUID>/raw` and the `.lock` that tells this disk from the empty mount point beneath it. */
export async function prepareCacheFolder(root: string, mode: number): Promise<void> {
  await mkdir(join(root, 'raw'), { recursive: true, mode: folderMode(mode) });
  await writeFile(join(root, '.lock'), randomUUID(), { flag: 'wx', mode: 0o666 }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
  });
}

/**
 * Walks the tree of cached blocks, a directory at a time, and tells of each block. Leftovers of interrupted writes that
 * are older than a minute are deleted, and empty directories. Names that are no blocks are left alone.
 */
export async function scanCache(
  folder: string,
  clock: Clock,
  signal: AbortSignal,
  found: (block: { readonly id: number; readonly index: number; readonly length: number }) => void,
): Promise<void> {
  if (signal.aborted) return;
  const entries = await readdir(folder, { withFileTypes: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  for (const entry of entries) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) {
      await scanCache(path, clock, signal, found);
      // Refused where something is in it.
      if (await isStale(path, clock)) await rmdir(path).catch(() => undefined);
    } else if (entry.name.endsWith('.tmp')) {
      if (await isStale(path, clock)) await unlink(path).catch(() => undefined);
    } else {
      const block = entry.isFile() ? parseBlockName(entry.name) : undefined;
      if (block) found(block);
    }
  }
}

async function isStale(path: string, clock: Clock): Promise<boolean> {
  try {
    return clock.now() - (await stat(path)).mtimeMs > STALE_MS;
  } catch {
    return false;
  }
}
