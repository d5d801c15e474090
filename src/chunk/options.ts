/** What a chunk store is made of; the defaults are JuiceFS's mount options of the same names where there is one. */
import type { Clock } from '../lib/clock.ts';
import type { Logger } from '../lib/log.ts';
import type { Random } from '../lib/random.ts';
import type { ObjectStore } from '../object/store.ts';
import type { ChecksumLevel } from './cache-file.ts';
import type { Eviction } from './cache-index.ts';
import type { BlockFiles } from './disk-files.ts';

export interface DiskCacheSettings {
  /** --cache-dir: one directory, or several. */
  readonly folder: string | readonly string[];
  /** --cache-size, bytes; of all directories together. @default 100 GiB */
  readonly maxBytes?: number;
  /**
   * --cache-items: blocks at most in all directories together, 37 bytes of memory each at most (47 with lru); 0: what the disks have
   * inodes for, 5 million a directory at most. @default 500000
   */
  readonly maxItems?: number;
  /** --cache-eviction: what makes room. @default '2-random' */
  readonly eviction?: Eviction;
  /** --cache-expire, milliseconds: blocks that are not used for so long are dropped; 0: never. @default 0 */
  readonly expireMs?: number;
  /** --cache-scan-interval, milliseconds: how often it is looked at what others have changed there; 0: once, at the start. @default 1 h */
  readonly scanIntervalMs?: number;
  /** --free-space-ratio. @default 0.1 */
  readonly freeRatio?: number;
  /** --verify-cache-checksum. @default 'extend' */
  readonly checksum?: ChecksumLevel;
  /** --cache-mode. @default 0o600 */
  readonly mode?: number;
  /** --cache-large-write: whole blocks that were written go to the disk cache too. @default false */
  readonly largeWrites?: boolean;
  /** --cache-partial-only: only blocks shorter than the block size are cached. @default false */
  readonly partialOnly?: boolean;
  /** How long a read of the disk may take before the directory is left, milliseconds; a write three times that. @default 10 s */
  readonly waitMs?: number;
  /** For tests. @default the file system */
  readonly files?: BlockFiles;
}

/** --writeback: written blocks go to the disk first. See staging.ts. */
export interface WritebackSettings {
  /** Bytes staged at most, in all directories together; more is uploaded directly. @default the size of the disk cache */
  readonly maxBytes?: number;
  /** --upload-delay, milliseconds. @default 0 */
  readonly delayMs?: number;
  /** For tests. @default that of the disk cache */
  readonly files?: BlockFiles;
}

export interface ChunkStoreOptions {
  /** The volume's store, prefix and retries applied. */
  readonly objects: ObjectStore;
  /** Bytes; the format's BlockSize × 1024. @default 4 MiB */
  readonly blockSize?: number;
  /** The format's Compression. @default 'none' */
  readonly compression?: string;
  /** The format's HashPrefix. @default false */
  readonly hashPrefix?: boolean;
  /** The format's UUID; names the volume's part of the cache directory. */
  readonly uuid: string;
  /** Undefined: no disk cache. */
  readonly disk?: DiskCacheSettings | undefined;
  /** Needs the disk cache. Undefined: a written block is uploaded before its slice is committed. */
  readonly writeback?: WritebackSettings | undefined;
  /** Blocks that an earlier client has left staged in the disk cache's folder are uploaded, also without `writeback`. @default true */
  readonly leftovers?: boolean;
  /** --buffer-size: bytes of all blocks in memory, whatever they are there for (budget.ts). @default 300 MiB */
  readonly bufferBytes?: number;
  /** Bytes of clean blocks and of downloads under way, of those. @default 128 MiB, at most half of them */
  readonly memoryBytes?: number;
  /** Bytes of read-ahead under way at most. @default half of memoryBytes */
  readonly readAheadBytes?: number;
  /** --max-uploads. @default 20 */
  readonly maxUploads?: number;
  /** --max-downloads, for reads of parts of blocks; whole blocks are bounded by memoryBytes. @default 200 */
  readonly maxDownloads?: number;
  /** --max-deletes. @default 10 */
  readonly maxDeletes?: number;
  /** --prefetch: whole blocks fetched behind small random reads, at a time; 0 turns it off. @default 1 */
  readonly prefetch?: number;
  /** Attempts after a first one for a block that came damaged. @default 3 */
  readonly corruptRetries?: number;
  readonly clock?: Clock;
  readonly random?: Random;
  readonly logger?: Logger;
}
