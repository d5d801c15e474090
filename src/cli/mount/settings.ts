/** What a mount on this machine is to be, from the command that checked it to the processes that serve it: JSON in a variable. */
import type { CacheOptions } from '../../client/cache-options.ts';
import type { MetricsAddress } from '../../client/metrics-server.ts';
import type { Labels } from '../../lib/metrics.ts';
import type { LimitRates } from '../../client/limits.ts';
import type { VolumeOptions } from '../../client/volume-options.ts';
import type { StorageOptions } from '../volume.ts';

/** Only this user can read the environment of a process; arguments everybody can. */
export const SETTINGS_VARIABLE = 'JUICEPOD_MOUNT';

/** What the key of an encrypted volume is under, as the official client has it: inherited by the processes that serve the mount. */
export const PASSPHRASE_VARIABLE = 'JFS_RSA_PASSPHRASE';

type Passed =
  | 'metaUrl'
  | 'subPath'
  | 'readOnly'
  | 'xattr'
  | 'hideInternal'
  | 'semantics'
  | 'attrTimeout'
  | 'entryTimeout'
  | 'dirEntryTimeout'
  | 'negativeTimeout'
  | 'bufferBytes'
  | 'readaheadBytes'
  | 'maxUploads'
  | 'maxDownloads'
  | 'ioRetries'
  | 'writeback'
  | 'wholeFiles'
  | 'heartbeatMs'
  | 'backgroundJobs'
  | 'backup';

export interface FoundVolume {
  readonly name: string;
  readonly uuid: string;
}

export interface MountSettings extends Pick<VolumeOptions, Passed>, LimitRates {
  /** The volume that was found; another is refused. Absent: the client looks which it is, before it mounts. */
  readonly found?: FoundVolume;
  /** Absolute. */
  readonly target: string;
  /** Folders that were made for it, the deepest first. */
  readonly made?: readonly string[];
  readonly allowOther: boolean;
  readonly storage: StorageOptions;
  /** Absent: metrics are not served. */
  readonly metrics?: MetricsAddress;
  /** Of all samples. */
  readonly customLabels?: Labels;
  readonly cache: CacheOptions | undefined;
}

/** What the first column of `mount` shows, as the official client has it. */
export const sourceOf = (volume: string): string => `JuiceFS:${volume}`;

/** Reads the settings that the mount command left. */
export function readSettings(env: NodeJS.ProcessEnv = process.env): MountSettings {
  const text = env[SETTINGS_VARIABLE];
  if (text === undefined) throw new Error('supervise and serve are started by juicepod mount, not by hand');
  return JSON.parse(text) as MountSettings;
}
