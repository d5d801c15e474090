/**
 * What a JuiceVolume asks for, in JuiceFS's words: metadata URL, format, bucket. Pure. Two volumes are told apart by
 * `metadataIdentity` and `storageIdentity`: whoever shares one of them would write into the other's data.
 */
import { MOUNT_SECRET_FILES, type StorageOverride, type TlsFiles } from '../../api/mount.ts';
import { parseDuration, parseQuantity } from '../../api/units.ts';
import { type JuiceVolume, type VolumeSpec, volumeNameOf } from '../../api/volume.ts';
import type { EncryptionAlgorithm } from '../../object/envelope.ts';
import type { FormatInput } from '../../meta/format-input.ts';
import { describeMetaUrl, parseMetaUrl } from '../../meta/url.ts';
import { redisIdentity, redisUrl } from './redis-target.ts';
import type { ResolvedSecrets } from './secrets.ts';
import { sqlIdentity, sqlUrl } from './sql-target.ts';
import { storageKeys, storageTarget } from './storage-target.ts';

const DAY = 86_400_000;
const algorithms = { AES256GCM: 'aes256gcm-rsa', ChaCha20Poly1305: 'chacha20-rsa' } as const;
const compressions = { None: 'none', LZ4: 'lz4', Zstd: 'zstd' } as const;

export interface Target {
  /** For `newFormat`; secrets in plain text. */
  readonly input: FormatInput & {
    readonly storage: string;
    readonly blockSize: number;
    readonly compression: string;
    readonly trashDays: number;
  };
  /** How objects are to be encrypted; undefined where they are not. */
  readonly algorithm: EncryptionAlgorithm | undefined;
  /** How the store is reached beyond what `setting` can say. */
  readonly override: StorageOverride;
  /** Where the names lie, for people, without secrets: `postgres://host:5432/database`. */
  readonly metadata: string;
  /** For people, without secrets: `s3://bucket/name at host`, `/path/name`. */
  readonly storage: string;
}

/** The metadata URL. `files`: where the PEM texts lie, for whoever uses the URL. */
export function metaUrl(spec: VolumeSpec, secrets: ResolvedSecrets, files: TlsFiles = MOUNT_SECRET_FILES): string {
  const { redis, sqlite } = spec.metadata;
  if (sqlite) return `sqlite3://${sqlite.path}`;
  return redis ? redisUrl(redis, secrets, files) : sqlUrl(spec.metadata, secrets, files);
}

/** Which limits of the whole volume are the spec's to set and to remove. */
export function managedCapacity({ spec, status }: JuiceVolume): readonly ('capacity' | 'inodes')[] {
  return (['capacity', 'inodes'] as const).filter(
    (each) => spec.quota?.[each] !== undefined || status?.capacity?.managed?.includes(each),
  );
}

/** Limits of the whole volume that are the spec's to say: those it has, and none where it had one. */
function volumeLimits(volume: JuiceVolume): { readonly capacity?: number; readonly inodes?: number } {
  const { capacity, inodes } = volume.spec.quota ?? {};
  const managed = managedCapacity(volume);
  return {
    ...(managed.includes('capacity') ? { capacity: capacity === undefined ? 0 : parseQuantity(capacity) } : {}),
    ...(managed.includes('inodes') ? { inodes: inodes ?? 0 } : {}),
  };
}

/** What the spec says of the change log; nothing where it leaves that to others. */
function changeLogSettings({
  format: { changeLog },
}: VolumeSpec): Pick<FormatInput, 'changeLog' | 'changeLogMaxAge' | 'changeLogMaxLines'> {
  if (!changeLog) return {};
  const { enabled, maxAge, maxEntries } = changeLog;
  if (!enabled) return { changeLog: false };
  return { changeLog: true, changeLogMaxAge: Math.floor(parseDuration(maxAge) / 1000), changeLogMaxLines: maxEntries };
}

export function targetOf(volume: JuiceVolume, secrets: ResolvedSecrets): Target {
  const { spec } = volume;
  const name = volumeNameOf(volume);
  const { storage, bucket, override, description } = storageTarget(volume);
  return {
    input: {
      name,
      storage,
      bucket,
      ...storageKeys(spec.storage, secrets),
      blockSize: parseQuantity(spec.format.blockSize) / 1024,
      compression: compressions[spec.format.compression],
      trashDays: parseDuration(spec.format.trashRetention) / DAY,
      ...(spec.format.enableACL ? { enableAcl: true } : {}),
      ...changeLogSettings(spec),
      ...volumeLimits(volume),
    },
    algorithm: spec.encryption && algorithms[spec.encryption.algorithm],
    override,
    metadata: describeMetaUrl(parseMetaUrl(metaUrl(spec, {}))),
    storage: description,
  };
}

/** Names the database, whatever credentials are used for it. */
export function metadataIdentity(spec: VolumeSpec): string {
  const { redis, sqlite } = spec.metadata;
  if (sqlite) return `sqlite3://${sqlite.path}`;
  return redis ? redisIdentity(redis) : sqlIdentity(spec.metadata);
}

/** Names the place of the objects. */
export const storageIdentity = (volume: JuiceVolume): string => storageTarget(volume).identity;
