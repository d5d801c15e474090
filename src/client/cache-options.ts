/** The cache of blocks on disk as a mount asks for it; one type from the command line and the plan of a pod to the block layer. */
import { accessSync, constants, existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { DiskCacheSettings } from '../chunk/options.ts';

type Tuning = 'maxItems' | 'eviction' | 'expireMs' | 'scanIntervalMs' | 'checksum' | 'mode' | 'partialOnly' | 'largeWrites';

export interface CacheOptions extends Pick<DiskCacheSettings, Tuning> {
  /** One directory, or several that share what they are given; absolute. */
  readonly folder: string | readonly string[];
  /** What all of them may hold. 0: nothing is cached. */
  readonly bytes: number;
  /** The part of each disk that stays free. */
  readonly freeRatio: number;
}

export const cacheFolders = ({ folder }: Pick<CacheOptions, 'folder'>): readonly string[] =>
  typeof folder === 'string' ? [folder] : folder;

/** For the block layer; undefined for no cache. */
export function diskOf(cache: CacheOptions | undefined): DiskCacheSettings | undefined {
  if (!cache || cache.bytes === 0) return undefined;
  const { bytes, ...rest } = cache;
  return { ...rest, maxBytes: bytes };
}

/** As `.config` shows it, with the official client's names; durations in nanoseconds. */
export function shownCache(cache: CacheOptions | undefined, uuid: string): object {
  return {
    CacheDir: cache
      ? cacheFolders(cache)
          .map((folder) => join(folder, uuid))
          .join(':')
      : 'memory',
    CacheMode: cache?.mode ?? 0o600,
    CacheSize: cache?.bytes ?? 0,
    CacheItems: cache?.maxItems ?? 500_000,
    CacheChecksum: cache?.checksum ?? 'extend',
    CacheEviction: cache?.eviction ?? '2-random',
    CacheScanInterval: (cache?.scanIntervalMs ?? 3_600_000) * 1e6,
    CacheExpire: (cache?.expireMs ?? 0) * 1e6,
    FreeSpace: cache?.freeRatio ?? 0,
    CacheFullBlock: cache?.partialOnly !== true,
    CacheLargeWrite: cache?.largeWrites === true,
  };
}

function isWritable(folder: string): boolean {
  try {
    mkdirSync(folder, { recursive: true });
    accessSync(folder, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** The directories that `.config` of a mount names: each of the volume itself, below a cache directory. */
export function shownFolders(cacheDir: string): readonly string[] {
  return existsSync(cacheDir) ? [cacheDir] : cacheDir.split(':').filter((folder) => folder.startsWith('/'));
}

/** The directory of a mount's cache where its own files lie: that which has the child already, or can be written to. */
export function ownFolder(cache: Pick<CacheOptions, 'folder'>, child: string): string {
  const folders = cacheFolders(cache);
  return folders.find((folder) => existsSync(join(folder, child))) ?? folders.find(isWritable) ?? folders[0] ?? '';
}
