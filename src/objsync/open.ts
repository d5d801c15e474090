/** From a place to a side: a folder, a volume with a session of its own, or an object store that tries again. */
import { openVolume } from '../client/volume.ts';
import { UserError } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import { openEngine, readFormat } from '../meta/open.ts';
import { redactUrl } from '../meta/url.ts';
import { openObjectStore } from '../object/open.ts';
import { withPrefix } from '../object/prefix.ts';
import { Folder } from './folder.ts';
import type { Place } from './place.ts';
import { keyOf, MIB, type Side } from './side.ts';
import { Objects } from './store.ts';
import { VolumeFiles } from './volume.ts';

const PATIENCE_MS = 10_000;

export interface OpenOptions {
  /** Files are written in their place. */
  readonly inPlace: boolean;
  /** What is written to a volume is read by nobody else meanwhile, and nothing is written to one that is only read. */
  readonly readOnly: boolean;
  readonly storageClass?: string;
  readonly threads: number;
  readonly passphrases: readonly string[];
  readonly logger: Logger;
}

/** Opens a place. A store is not asked for anything yet. Throws ObjectError, UserError. */
export async function openSide(place: Place, options: OpenOptions): Promise<Side> {
  const { inPlace, readOnly, storageClass, threads, passphrases, logger } = options;
  if (place.kind === 'folder') return new Folder(place.path, { inPlace });
  if (place.kind === 'store') {
    const { storage, bucket, prefix, accessKey, secretKey, sessionToken } = place;
    const store = openObjectStore({ storage, bucket, accessKey, secretKey, sessionToken, storageClass, name: '' });
    return new Objects(prefix === '' ? store : withPrefix(store, prefix));
  }
  await requireVolume(place.metaUrl);
  const volume = await openVolume({
    metaUrl: place.metaUrl,
    mountPoint: 'sync',
    subPath: '',
    readOnly,
    xattr: false,
    hideInternal: true,
    attrTimeout: 0,
    entryTimeout: 0,
    dirEntryTimeout: 0,
    negativeTimeout: 0,
    bufferBytes: 300 * MIB,
    readaheadBytes: 0,
    maxUploads: Math.max(20, threads),
    maxDownloads: Math.max(20, threads),
    heartbeatMs: 12_000,
    backgroundJobs: false,
    passphrases,
    logger,
  });
  return new VolumeFiles({
    ...volume.parts,
    name: volume.name,
    prefix: keyOf(place.prefix),
    inPlace,
    close: () => volume.close(false),
  });
}

/** A server that does not answer is waited for no longer than a person waits. Throws UserError `NoVolume` where there is none. */
async function requireVolume(metaUrl: string): Promise<void> {
  const engine = await openEngine(metaUrl, { patience: PATIENCE_MS, existing: true });
  try {
    if (await readFormat(engine)) return;
    throw new UserError('NoVolume', `${redactUrl(metaUrl)} holds no volume`, { hint: 'Make one with juicepod format.' });
  } finally {
    await engine.close();
  }
}
