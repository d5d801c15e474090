/** What a mount asks of the volume that it serves. */
import type { HandleJournal } from '../fuse/types.ts';
import type { Logger } from '../lib/log.ts';
import type { JobName } from '../meta/jobs.ts';
import type { BackupRhythm } from './backups.ts';
import type { CacheOptions } from './cache-options.ts';
import type { ClientLimits } from './limits.ts';
import type { WritebackOptions } from './staged.ts';
import type { Semantics } from './semantics.ts';
import type { StorageChange } from './renewal.ts';

export interface VolumeOptions {
  readonly metaUrl: string;
  readonly mountPoint: string;
  /** The volume that must be found there; another is refused. */
  readonly expect?: { readonly name?: string; readonly uuid: string };
  /**
   * How long the database is waited for that has not answered yet, milliseconds; nothing is logged meanwhile, for who waits is told
   * the outcome. @default as long as later, and logged
   */
  readonly openPatience?: number;
  readonly storage?: StorageChange;
  /** The volume.json that these came from; what it says later is taken into use while the volume is mounted. */
  readonly configFile?: string;
  /** Names the credentials above, for those who look at sessions. */
  readonly generation?: string;
  /** What the key of an encrypted volume is under; the first that opens it counts. */
  readonly passphrases?: readonly string[];
  /** A directory of the volume that is shown as the root; empty for all. */
  readonly subPath: string;
  /** How `subPath` is made where it is missing. @default for everybody to write into, as JuiceFS does */
  readonly directory?: { readonly uid: number; readonly gid: number; readonly mode: number };
  readonly readOnly: boolean;
  readonly xattr: boolean;
  readonly hideInternal: boolean;
  /** What it does beyond the default. */
  readonly semantics?: Semantics;
  /** Seconds. */
  readonly attrTimeout: number;
  readonly entryTimeout: number;
  readonly dirEntryTimeout: number;
  readonly negativeTimeout: number;
  /** Undefined: no disk cache. */
  readonly cache?: CacheOptions;
  /** How much of the cache may hold whole files, for the kernel to read past this process; bytes. Needs `cache`. @default 0 */
  readonly wholeFiles?: number;
  /** Written blocks go to the cache directory first and are uploaded later. Needs `cache`. Absent: they are uploaded at once. */
  readonly writeback?: WritebackOptions;
  /** How what lies there of a client that had write-back is drained by one that has not. Absent: not. */
  readonly leftovers?: WritebackOptions;
  /** Shared by all volumes of the client. Absent: what the volume's format says. */
  readonly limits?: ClientLimits;
  readonly bufferBytes: number;
  readonly readaheadBytes: number;
  readonly maxUploads: number;
  readonly maxDownloads: number;
  /** Attempts of a request to the object store after the first one. @default 10 */
  readonly ioRetries?: number;
  readonly heartbeatMs: number;
  /** Whether the client takes part in cleaning for all, or in which of the jobs. */
  readonly backgroundJobs: boolean | readonly JobName[];
  /** Backs the metadata up into the object store, every so many ms. Absent: that is left to others. */
  readonly backup?: BackupRhythm;
  /** Where written data lies until it is stored, so that it outlives the process. Absent: it does not. */
  readonly journalFolder?: string;
  /** Open handles, for the next client. */
  readonly handles?: HandleJournal;
  /** The session of the client that this one follows; its journal is in `journalFolder`. */
  readonly resume?: number;
  readonly logger?: Logger;
  /** Where the client's metrics are served, `host:port`, for those who look into `.config`. */
  readonly metricsAddress?: () => string | undefined;
}
