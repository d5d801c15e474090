/**
 * From what a person gives to a format, and from one format to the next: the rules of names, sizes and numbers, and what
 * must not change once there is data.
 *
 * Source: the JuiceFS format, §1.1 and §1.2 (cmd/format.go of 1.4.1).
 */
import { resolve } from 'node:path';
import { UserError } from '../lib/errors.ts';
import type { Random } from '../lib/random.ts';
import { type EncryptionAlgorithm, encryptionAlgorithms } from '../object/envelope.ts';
import { isSameKey, openEncryptionKey, storedEncryptionKey } from '../object/rsa-key.ts';
import { type Format, jsonName, MAX_META_VERSION } from './format.ts';
import { encryptSecrets } from './format-secrets.ts';

/** How the objects of a volume are to be encrypted. */
export interface EncryptionInput {
  /** PEM of a private RSA key of 2048 bits or more. */
  readonly key: string;
  /** What the key is under. A key in the clear is put under it. Without one, a key in the clear is stored as it is. */
  readonly passphrase?: string;
  /** @default `aes256gcm-rsa` */
  readonly algorithm?: EncryptionAlgorithm;
}

/** What may be given for a new volume; secrets in plain text. */
export interface FormatInput {
  /** 3 to 63 lower-case letters, digits and `-`. */
  readonly name: string;
  /** @default `file` */
  readonly storage?: string;
  readonly bucket: string;
  readonly accessKey?: string;
  readonly secretKey?: string;
  readonly sessionToken?: string;
  readonly storageClass?: string;
  /** KiB; rounded down to a power of two and into 64 … 16384. @default 4096 */
  readonly blockSize?: number;
  /** `none`, `lz4`, `zstd`. @default `none` */
  readonly compression?: string;
  /** 0 … 256. @default 0 */
  readonly shards?: number;
  /** @default false */
  readonly hashPrefix?: boolean;
  /** Bytes, 0 = unlimited. @default 0 */
  readonly capacity?: number;
  /** 0 = unlimited. @default 0 */
  readonly inodes?: number;
  /** Days. @default 1 */
  readonly trashDays?: number;
  /** With what objects are to be encrypted. @default they are not */
  readonly encryption?: EncryptionInput;
  /** @default false */
  readonly enableAcl?: boolean;
  /** Whether the volume keeps a log of its changes. @default false */
  readonly changeLog?: boolean;
  /** How long entries of the log are kept, seconds; 0 = for ever. @default 7200 where the log is switched on */
  readonly changeLogMaxAge?: number;
  /** How many entries are kept; 0 = all. @default 0 */
  readonly changeLogMaxLines?: number;
}

const MIN_BLOCK = 64;
const MAX_BLOCK = 16_384;
const compressions = ['none', 'lz4', 'zstd'];
const DEFAULT_ENCRYPTION = 'aes256gcm-rsa';

function invalid(field: string, wanted: string, found: unknown): UserError {
  return new UserError('InvalidFormat', `${field} should be ${wanted}, it is ${JSON.stringify(found)}.`);
}

/** The block size that is used for a wanted one, both KiB: the power of two at or below it, within 64 … 16384. */
export function roundBlockSize(wanted: number): number {
  if (!Number.isFinite(wanted) || wanted <= 0) throw invalid('The block size', 'a number of KiB above 0', wanted);
  return Math.min(MAX_BLOCK, Math.max(MIN_BLOCK, 2 ** Math.floor(Math.log2(wanted))));
}

function wholeNumber(field: string, value: number, max: number = Number.MAX_SAFE_INTEGER): number {
  if (!Number.isSafeInteger(value) || value < 0 || value > max) throw invalid(field, `a whole number in 0 … ${max}`, value);
  return value;
}

function oneOf(field: string, value: string, allowed: readonly string[]): string {
  if (!allowed.includes(value)) throw invalid(field, `one of ${allowed.join(', ')}`, value);
  return value;
}

/** The address of a bucket as it is stored: a local folder as an absolute path that ends with a slash. */
function bucketOf(storage: string, bucket: string): string {
  if (bucket === '') throw invalid('The bucket', 'the address of the object storage, or a folder for storage "file"', bucket);
  return storage === 'file' ? `${resolve(bucket).replace(/\/$/, '')}/` : bucket;
}

function checkShards(shards: number, bucket: string): void {
  if (shards > 1 && !bucket.includes('%d'))
    throw invalid('The bucket', `an address with %d for the number of the shard (there are ${shards} shards)`, bucket);
}

/**
 * The format of a new volume, secrets encrypted. Throws UserError InvalidFormat, which names the field, and what is wrong with a
 * key as `checkEncryptionKey` does.
 */
export function newFormat(input: FormatInput, random: Random): Format {
  if (!/^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$/.test(input.name))
    throw invalid('The volume name', '3 to 63 lower-case letters, digits and "-", with no "-" at the ends', input.name);
  const storage = input.storage ?? 'file';
  const bucket = bucketOf(storage, input.bucket);
  const shards = wholeNumber('The number of shards', input.shards ?? 0, 256);
  checkShards(shards, bucket);
  const format: Format = {
    name: input.name,
    uuid: random.uuid(),
    storage,
    storageClass: input.storageClass ?? '',
    tiers: [{ id: 0, storageClass: input.storageClass ?? '', tag: '' }],
    bucket,
    accessKey: input.accessKey ?? '',
    secretKey: input.secretKey ?? '',
    sessionToken: input.sessionToken ?? '',
    blockSize: roundBlockSize(input.blockSize ?? 4096),
    compression: oneOf('The compression', input.compression ?? 'none', compressions),
    shards,
    hashPrefix: input.hashPrefix ?? false,
    capacity: wholeNumber('The capacity', input.capacity ?? 0),
    inodes: wholeNumber('The number of inodes', input.inodes ?? 0),
    encryptKey: input.encryption ? storedEncryptionKey(input.encryption.key, input.encryption.passphrase) : '',
    // JuiceFS writes it for volumes that are not encrypted, too.
    encryptAlgo: oneOf('The encryption', input.encryption?.algorithm ?? DEFAULT_ENCRYPTION, encryptionAlgorithms),
    keyEncrypted: false,
    uploadLimit: 0,
    downloadLimit: 0,
    trashDays: wholeNumber('The number of days in the trash', input.trashDays ?? 1, 36_500),
    metaVersion: MAX_META_VERSION,
    minClientVersion: input.enableAcl ? '1.2.0-A' : '1.1.0-A',
    maxClientVersion: '',
    dirStats: true,
    userGroupQuota: false,
    enableAcl: input.enableAcl ?? false,
    rangerRestUrl: '',
    rangerService: '',
    ...logSettings({ changeLog: false, changeLogMaxAge: 0, changeLogMaxLines: 0 }, input),
    kerbConf: '',
    unknown: [],
  };
  return encryptSecrets(format, random);
}

/** A field in which two formats differ, as people know it. */
export interface FormatDifference {
  readonly field: string;
  readonly wanted: string | number | boolean;
  readonly found: string | number | boolean;
}

/** What fixes the names and the form of the objects, and so cannot change while there are any. */
const fixed = ['name', 'blockSize', 'compression', 'shards', 'hashPrefix', 'metaVersion'] as const;
type Fixed = (typeof fixed)[number];

/** In what of the unchangeable `wanted` differs from the volume that is there; empty where it could be adopted. */
export function fixedDifferences(found: Format, wanted: Partial<Pick<Format, Fixed>>): readonly FormatDifference[] {
  const plain = (field: Fixed, value: string | number | boolean): string | number | boolean =>
    field === 'compression' && value === '' ? 'none' : value;
  return fixed.flatMap((field) => {
    const value = wanted[field];
    if (value === undefined || plain(field, value) === plain(field, found[field])) return [];
    return [{ field: jsonName(field), wanted: plain(field, value), found: plain(field, found[field]) }];
  });
}

/**
 * Throws UserError EncryptionFixed where the encryption asked for is not the one that the volume has, and as `openEncryptionKey`
 * where either key does not open. A volume stays as it was made: its objects are there.
 */
function checkEncryptionStays(old: Format, { key, passphrase, algorithm = DEFAULT_ENCRYPTION }: EncryptionInput): void {
  const refuse = (sentence: string): UserError =>
    new UserError('EncryptionFixed', `The volume "${old.name}" is there already, and ${sentence}.`, {
      hint: 'Encryption is chosen when a volume is made. To change it, make another volume and copy the files. Another passphrase for the same key: juicepod rotate-passphrase.',
    });
  if (old.encryptKey === '') throw refuse('it is not encrypted');
  const found = old.encryptAlgo || DEFAULT_ENCRYPTION;
  if (found !== algorithm) throw refuse(`it is encrypted with ${found}, not ${algorithm}`);
  if (old.encryptKey !== key && !isSameKey(openEncryptionKey(old.encryptKey, passphrase), openEncryptionKey(key, passphrase)))
    throw refuse('it is encrypted with another key');
}

type LogSettings = Pick<Format, 'changeLog' | 'changeLogMaxAge' | 'changeLogMaxLines'>;

/** How long entries of the change log are kept where nobody says, seconds; also the official client's. */
const LOG_AGE = 7200;

/** The settings of the change log after a change of some. Where it is switched on and nobody ever said how long, it gets an age. */
export function logSettings(old: LogSettings, changes: Partial<LogSettings>): LogSettings {
  const changeLog = changes.changeLog ?? old.changeLog;
  const age =
    changes.changeLogMaxAge ?? (changeLog && !old.changeLog && old.changeLogMaxAge === 0 ? LOG_AGE : old.changeLogMaxAge);
  return {
    changeLog,
    changeLogMaxAge: wholeNumber('The age of the change log in seconds', age),
    changeLogMaxLines: wholeNumber('The number of lines of the change log', changes.changeLogMaxLines ?? old.changeLogMaxLines),
  };
}

/** What changes in a volume that gets access control lists, which cannot be undone: clients too old for them are kept out. */
export function aclSettings(old: Format): Pick<Format, 'enableAcl' | 'minClientVersion'> {
  const tooOld = !old.enableAcl && /^(0|1\.[01])\./.test(old.minClientVersion);
  return { enableAcl: true, minClientVersion: tooOld ? '1.2.0-A' : old.minClientVersion };
}

/**
 * The format after a second `format` of a volume: what is given is taken over, the UUID stays.
 * `old` must have its secrets in plain text (decryptSecrets); the answer has them encrypted.
 * Throws UserError FormatMismatch where something is to change that cannot, with wanted and found.
 */
export function changedFormat(old: Format, changes: Partial<FormatInput>, random: Random): Format {
  if (old.keyEncrypted) throw new TypeError('the secrets of the old format must be decrypted first');
  const wanted = {
    ...changes,
    ...(changes.blockSize === undefined ? {} : { blockSize: roundBlockSize(changes.blockSize) }),
  };
  const differences = fixedDifferences(old, wanted);
  if (differences.length > 0)
    throw new UserError(
      'FormatMismatch',
      `The volume "${old.name}" is there already and cannot be changed in this: ${differences
        .map(({ field, wanted, found }) => `${field} from ${JSON.stringify(found)} to ${JSON.stringify(wanted)}`)
        .join(', ')}.`,
      { hint: 'Leave these as they are, or format another volume with another database.' },
    );
  if (changes.encryption) checkEncryptionStays(old, changes.encryption);
  const storage = changes.storage ?? old.storage;
  const bucket =
    changes.bucket === undefined && changes.storage === undefined ? old.bucket : bucketOf(storage, changes.bucket ?? old.bucket);
  checkShards(old.shards, bucket);
  return encryptSecrets(
    {
      ...old,
      storage,
      bucket,
      accessKey: changes.accessKey ?? old.accessKey,
      secretKey: changes.secretKey ?? old.secretKey,
      sessionToken: changes.sessionToken ?? old.sessionToken,
      capacity: wholeNumber('The capacity', changes.capacity ?? old.capacity),
      inodes: wholeNumber('The number of inodes', changes.inodes ?? old.inodes),
      trashDays: wholeNumber('The number of days in the trash', changes.trashDays ?? old.trashDays, 36_500),
      ...(changes.enableAcl ? aclSettings(old) : {}),
      ...logSettings(old, changes),
    },
    random,
  );
}
