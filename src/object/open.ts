/** From a volume's format to its object store, decorators applied: raw → sharded → prefix → retry → encryption, as JuiceFS orders them. */
import type { Clock } from '../lib/clock.ts';
import { AzureObjectStore } from './azure.ts';
import { parseContainer } from './azure-account.ts';
import { encrypted } from './encrypt.ts';
import type { Envelope } from './envelope.ts';
import { FileObjectStore } from './file.ts';
import { withPrefix } from './prefix.ts';
import { type RetryOptions, withRetry } from './retry.ts';
import { isNamed, namedAddress, namedKeys, namedStorages } from './s3-names.ts';
import { parseBucketUrl } from './s3-url.ts';
import { S3ObjectStore } from './s3.ts';
import { sharded } from './shard.ts';
import { ObjectError, type ObjectStore } from './store.ts';
import { WebdavObjectStore } from './webdav.ts';

export interface ObjectStoreOptions {
  /** One of `storageNames`; JuiceFS's name of the driver. */
  readonly storage: string;
  /** The bucket as JuiceFS spells it; with `%d` where there are shards. */
  readonly bucket: string;
  readonly accessKey?: string | undefined;
  readonly secretKey?: string | undefined;
  readonly sessionToken?: string | undefined;
  /** Of the objects that are written; the store's own names. @default the bucket's */
  readonly storageClass?: string | undefined;
  /** The volume's name; its objects are under `<name>/`. Empty for the bucket itself. */
  readonly name: string;
  /** Buckets that the keys are spread over. @default 0, no sharding */
  readonly shards?: number | undefined;
  /** What its objects are encrypted with. @default they are not */
  readonly encryption?: Envelope | undefined;
  /** One request, milliseconds. @default 60000 */
  readonly timeoutMs?: number;
  readonly retry?: RetryOptions;
  /** @default process.env */
  readonly environment?: Readonly<Record<string, string | undefined>>;
  readonly clock?: Clock;
}

/** Names of all storages that can be opened. */
export const storageNames: readonly string[] = ['file', 's3', 'minio', ...namedStorages, 'wasb', 'webdav'];

function openBucket(options: ObjectStoreOptions, bucket: string): ObjectStore {
  const environment = options.environment ?? process.env;
  const { storage, clock, timeoutMs, accessKey, secretKey, sessionToken } = options;
  const timing = { ...(timeoutMs === undefined ? {} : { timeoutMs }), ...(clock ? { clock } : {}) };
  if (storage === 'file') return new FileObjectStore(bucket);
  if (storage === 'wasb')
    return new AzureObjectStore({
      address: parseContainer(bucket, { accountName: accessKey, accountKey: secretKey, sas: sessionToken }, environment),
      storageClass: options.storageClass,
      ...timing,
    });
  if (storage === 'webdav') return new WebdavObjectStore({ url: bucket, user: accessKey, password: secretKey, ...timing });
  const named = isNamed(storage);
  if (!named && storage !== 's3' && storage !== 'minio')
    throw new ObjectError(
      'Invalid',
      `storage ${JSON.stringify(storage)} is not supported; the supported ones are ${storageNames.join(', ')}`,
    );
  const minio = storage === 'minio';
  const own =
    named && !accessKey
      ? namedKeys(storage, environment)
      : {
          accessKey: accessKey || (minio ? environment['MINIO_ACCESS_KEY'] : undefined),
          secretKey: secretKey || (minio ? environment['MINIO_SECRET_KEY'] : undefined),
          sessionToken,
        };
  return new S3ObjectStore({
    address: named ? namedAddress(storage, bucket, environment) : parseBucketUrl(bucket, storage, environment),
    ...own,
    storageClass: options.storageClass,
    ...timing,
  });
}

/** A volume's store that makes single attempts and does not decrypt. Nothing is connected yet. Throws ObjectError `Invalid` for what cannot be opened. */
export function openSingleAttempts(options: ObjectStoreOptions): ObjectStore {
  const { bucket, shards = 0, name } = options;
  let raw: ObjectStore;
  if (shards > 1) {
    if (shards > 256 || !bucket.includes('%d'))
      throw new ObjectError('Invalid', `${shards} shards: at most 256 are possible, and the bucket must contain %d`);
    raw = sharded(Array.from({ length: shards }, (_, index) => openBucket(options, bucket.replace('%d', String(index)))));
  } else raw = openBucket(options, bucket);
  return withPrefix(raw, name === '' ? '' : `${name}/`);
}

/** Opens a volume's store. Nothing is connected yet. Throws ObjectError `Invalid` for what cannot be opened. */
export function openObjectStore(options: ObjectStoreOptions): ObjectStore {
  const retry = { ...(options.clock ? { clock: options.clock } : {}), ...options.retry };
  return encrypted(withRetry(openSingleAttempts(options), retry), options.encryption);
}
