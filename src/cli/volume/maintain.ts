/** What the commands that look after a volume have in common: its parts opened, an end by SIGINT, names as text. */
import { tmpdir } from 'node:os';
import { openChunkStore } from '../../chunk/store.ts';
import { BlockGeometry } from '../../chunk/key.ts';
import type { ChunkStore } from '../../chunk/types.ts';
import { systemClock } from '../../lib/clock.ts';
import { UserError } from '../../lib/errors.ts';
import { type Logger, nullLogger } from '../../lib/log.ts';
import { systemRandom } from '../../lib/random.ts';
import type { MetaEngine } from '../../meta/engine.ts';
import { envelopeOf } from '../../meta/encryption.ts';
import { checkVersion, type Format } from '../../meta/format.ts';
import { openEngine } from '../../meta/open.ts';
import { Volume } from '../../meta/volume.ts';
import { encrypted } from '../../object/encrypt.ts';
import { openObjectStore } from '../../object/open.ts';
import type { ObjectStore } from '../../object/store.ts';
import { endingSignal } from '../options.ts';
import { PASSPHRASE_VARIABLE } from '../mount/settings.ts';
import { storeError } from '../store.ts';
import { COMMAND_PATIENCE_MS, formatOf, plainFormat } from '../volume.ts';

export interface OpenedVolume {
  readonly engine: MetaEngine;
  /** Secrets in plain text. */
  readonly format: Format;
  /** Deletes blocks of slices that it lets go of, where the volume is to be changed. */
  readonly volume: Volume;
  readonly objects: ObjectStore;
  readonly geometry: BlockGeometry;
  readonly chunks: ChunkStore;
  /** Where large volumes put what does not fit into memory. */
  readonly temporary: string;
  readonly signal: AbortSignal;
}

export interface OpenOptions {
  /** Something of the volume is to be changed. */
  readonly writing: boolean;
  /** Blocks are to be read: an encrypted volume needs its passphrase. */
  readonly readsBlocks?: boolean;
  readonly logger?: Logger;
}

/**
 * Opens what a command works on, and closes it afterwards. Objects are listed and deleted as they are stored, so an encrypted volume
 * needs its passphrase only where blocks are read. Throws UserError; an interruption becomes one, too.
 */
export async function withVolume<T>(url: string, options: OpenOptions, work: (opened: OpenedVolume) => Promise<T>): Promise<T> {
  const { writing, readsBlocks = false, logger = nullLogger } = options;
  const signal = endingSignal();
  const engine = await openEngine(url, { existing: true, readOnly: !writing, patience: COMMAND_PATIENCE_MS });
  let chunks: ChunkStore | undefined;
  try {
    const format = plainFormat(await formatOf(engine, url));
    checkVersion(format);
    const { name, storage, bucket, accessKey, secretKey, sessionToken, shards, storageClass } = format;
    const stored = openObjectStore({ name, storage, bucket, accessKey, secretKey, sessionToken, shards, storageClass });
    const objects = readsBlocks ? encrypted(stored, envelopeOf(format, process.env[PASSPHRASE_VARIABLE])) : stored;
    const blockSize = format.blockSize * 1024;
    const { compression, hashPrefix, uuid } = format;
    const opened = openChunkStore({ objects, blockSize, compression, hashPrefix, uuid, leftovers: false, logger });
    chunks = opened;
    const volume = new Volume(engine, format, {
      clock: systemClock,
      random: systemRandom,
      logger,
      readOnly: !writing,
      callbacks: { deleteSlice: (id, size) => opened.remove({ id, size }) },
    });
    if (writing) await volume.reload();
    const geometry = new BlockGeometry(blockSize);
    return await work({ engine, format, volume, objects, geometry, chunks, temporary: tmpdir(), signal });
  } catch (error) {
    if (signal.aborted) throw interrupted();
    throw storeError(error);
  } finally {
    await chunks?.close();
    await engine.close();
  }
}

export function interrupted(): UserError {
  return new UserError('Interrupted', 'interrupted', { hint: 'What was done stays done. The same command goes on from there.' });
}

/** A name or path for people: UTF-8 as it is; what is not UTF-8, or would move the cursor, as `%XX`. */
export function printable(bytes: Buffer): string {
  const text = bytes.toString('utf8');
  const valid = Buffer.from(text).equals(bytes);
  const escape = (character: string): string => `%${character.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`;
  // oxlint-disable-next-line no-control-regex -- these are what is looked for
  return valid ? text.replaceAll(/[\x00-\x1f\x7f-\x9f]/g, escape) : bytes.toString('latin1').replaceAll(/[^\x20-\x7e]/g, escape);
}
