/** Where the blocks of a mount's volume are and are kept: its store with patience, encryption and limits, its cache, its whole files. */
import { join } from 'node:path';
import { openChunkStore } from '../chunk/store.ts';
import type { ChunkStore } from '../chunk/types.ts';
import { WholeFolder } from '../chunk/whole-folder.ts';
import { mayPassThrough } from '../fuse/backing.ts';
import { systemClock } from '../lib/clock.ts';
import { messageOf } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import { envelopeOf } from '../meta/encryption.ts';
import { type Format, storageClassOf } from '../meta/format.ts';
import { decryptSecrets } from '../meta/format-secrets.ts';
import { encrypted } from '../object/encrypt.ts';
import { openSingleAttempts } from '../object/open.ts';
import { withRetry } from '../object/retry.ts';
import type { ObjectStore } from '../object/store.ts';
import { type CacheOptions, diskOf, ownFolder } from './cache-options.ts';
import type { VolumeLimits } from './limits.ts';
import type { StorageChange } from './renewal.ts';
import type { VolumeOptions } from './volume-options.ts';

const MIB = 1024 * 1024;
/** Time between two warnings of a store that fails, milliseconds. */
const RETRY_WARNING_MS = 10_000;

/** The store as settings and options say, making single attempts. */
export function openStore(format: Format, change: StorageChange | undefined): ObjectStore {
  const plain = decryptSecrets(format);
  return openSingleAttempts({
    storage: change?.storage ?? plain.storage,
    bucket: change?.bucket ?? plain.bucket,
    accessKey: change?.accessKey ?? plain.accessKey,
    secretKey: change?.secretKey ?? plain.secretKey,
    sessionToken: change?.sessionToken ?? plain.sessionToken,
    storageClass: storageClassOf(plain),
    name: plain.name,
    shards: plain.shards,
    environment: { ...process.env, ...change?.environment },
  });
}

/** The store with patience, the volume's encryption and its limits. */
export function overStore(
  format: Format,
  options: VolumeOptions,
  limits: VolumeLimits,
  store: ObjectStore,
  logger: Logger,
): ObjectStore {
  const patient = withRetry(store, {
    ...(options.ioRetries === undefined ? {} : { retries: options.ioRetries }),
    onRetry: retryWarnings(logger, limits),
  });
  return limits.overStore(encrypted(patient, envelopeOf(decryptSecrets(format), options.passphrases)));
}

/** The one of the cache's folders that holds the volume's whole files. */
const wholeFolder = (format: Format, cache: CacheOptions): string => ownFolder(cache, join(format.uuid, 'whole'));

/** How much of the cache is left to whole files. */
function wholeBytes(format: Format, { cache, wholeFiles = 0 }: VolumeOptions): number {
  if (!cache || wholeFiles === 0) return 0;
  return mayPassThrough(wholeFolder(format, cache)) ? Math.min(wholeFiles, cache.bytes) : 0;
}

/** The folder of whole files; undefined where none are wanted, or possible. */
export function openWholeFiles(format: Format, options: VolumeOptions, logger: Logger): Promise<WholeFolder | undefined> {
  const maxBytes = wholeBytes(format, options);
  const { cache, mountPoint: mount, handles } = options;
  const held = (handles?.entries() ?? []).flatMap(({ ino, backing }) => (backing === undefined ? [] : [ino]));
  if (!cache || (maxBytes === 0 && held.length === 0)) return Promise.resolve(undefined);
  const root = join(wholeFolder(format, cache), format.uuid);
  return WholeFolder.open({ root, mount, maxBytes, freeRatio: cache.freeRatio, held, writable: !options.readOnly, logger });
}

export function openChunks(format: Format, options: VolumeOptions, objects: ObjectStore, logger: Logger): ChunkStore {
  const { cache } = options;
  const blockBytes = (cache?.bytes ?? 0) - wholeBytes(format, options);
  return openChunkStore({
    objects,
    blockSize: format.blockSize * 1024,
    compression: format.compression || 'none',
    hashPrefix: format.hashPrefix,
    uuid: format.uuid,
    disk: diskOf(cache && { ...cache, bytes: blockBytes }),
    writeback: options.readOnly ? undefined : options.writeback,
    leftovers: !options.readOnly,
    // The rest is for the bytes of requests: of writes that wait, and of answers that are put together.
    bufferBytes: options.bufferBytes - Math.min(32 * MIB, options.bufferBytes / 8),
    maxUploads: options.maxUploads,
    maxDownloads: options.maxDownloads,
    logger,
  });
}

/** Says that the store fails in passing: once every so often, however many requests there are. */
function retryWarnings(logger: Logger, limits: VolumeLimits): (error: Error, attempt: number, bytes: number) => void {
  let quietUntil = -Infinity;
  return (error, attempt, bytes) => {
    limits.sentAgain(bytes);
    const now = systemClock.monotonic();
    if (now < quietUntil) return;
    quietUntil = now + RETRY_WARNING_MS;
    logger.warn('the object store failed, trying again', { error: messageOf(error), attempt });
  };
}
