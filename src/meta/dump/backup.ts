/**
 * Backup of the metadata into the object store of the volume, as an official mount makes it: a JSON dump without the keys of the store,
 * `meta/dump-<time>.json.gz`, of which rotation.ts keeps some. Restored with `load`.
 *
 * One client of the volume does it: the attribute `lastBackup` of the root says when it was last begun, by whichever client, and of our
 * clients a counter lets one through. One that fails is taken back, and tried again at the next look. In a large volume it is done less
 * often: every `interval` for each million of files, but once a day.
 *
 * Memory: one part of an upload (PART), where the store takes objects in parts; else the whole compressed dump, up to LARGEST.
 * Source: the JuiceFS format, automatic backup (pkg/vfs/backup.go of 1.4.1).
 */
import { once } from 'node:events';
import { constants, createGzip } from 'node:zlib';
import type { Clock } from '../../lib/clock.ts';
import { messageOf, UserError } from '../../lib/errors.ts';
import { ROOT_INO } from '../../lib/int64.ts';
import type { Logger } from '../../lib/log.ts';
import type { Random } from '../../lib/random.ts';
import type { ObjectStore, Upload } from '../../object/store.ts';
import type { MetaEngine } from '../engine.ts';
import { Rhythm } from '../rhythm.ts';
import { logFor, readSetting } from '../setting.ts';
import { dumpJson } from './json-dump.ts';
import { backupName, outdated } from './rotation.ts';

/** The attribute of the root that says when one was last begun: RFC 3339. */
export const LAST_BACKUP = 'lastBackup';
const COUNTER = 'juicepodLastBackup';
const PREFIX = 'meta/';
const DAY_MS = 86_400_000;
const INODES_PER_INTERVAL = 1_000_000;
const PART = 8 * 1024 * 1024;
const LARGEST = 256 * 1024 * 1024;
/** Requests at once: programs come first. */
const THREADS = 2;

export interface BackupOptions {
  readonly engine: MetaEngine;
  /** The volume's own: with its prefix, encrypted where the volume is. */
  readonly store: ObjectStore;
  /** ms between two backups of a volume of up to a million files. */
  readonly interval: number;
  readonly skipTrash: boolean;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly signal?: AbortSignal;
}

/** Gathers a stream into an object. */
class ObjectWriter {
  readonly #store: ObjectStore;
  readonly #key: string;
  readonly #signal: AbortSignal | undefined;
  #upload: Upload | undefined;
  #waiting: Buffer[] = [];
  #bytes = 0;
  #parts = 0;

  constructor(store: ObjectStore, key: string, signal: AbortSignal | undefined) {
    this.#store = store;
    this.#key = key;
    this.#signal = signal;
  }

  async write(bytes: Buffer): Promise<void> {
    this.#waiting.push(bytes);
    this.#bytes += bytes.length;
    if (!this.#store.upload) {
      if (this.#bytes > LARGEST)
        throw new UserError(
          'BackupTooLarge',
          `The backup is longer than ${LARGEST} bytes, and this store takes it only in one piece.`,
          {
            hint: 'Use `juicepod dump` instead, and switch this off with --backup-meta 0, or metadata.backup.interval: 0s of the JuiceVolume.',
          },
        );
      return;
    }
    if (this.#bytes < Math.max(PART, this.#store.partLimits?.minBytes ?? 0)) return;
    this.#upload ??= await this.#store.upload(this.#key, this.#signal);
    await this.#upload.part(this.#parts++, this.#take(), this.#signal);
  }

  #take(): Buffer {
    const bytes = Buffer.concat(this.#waiting);
    this.#waiting = [];
    this.#bytes = 0;
    return bytes;
  }

  async end(): Promise<void> {
    if (!this.#upload) return this.#store.put(this.#key, this.#take(), this.#signal);
    if (this.#bytes > 0) await this.#upload.part(this.#parts++, this.#take(), this.#signal);
    await this.#upload.complete(this.#signal);
  }

  async abort(): Promise<void> {
    await this.#upload?.abort();
  }
}

/** Dumps the volume into its store; answers the key of the object. */
async function backupNow(options: BackupOptions): Promise<string> {
  const { engine, store, skipTrash, clock, signal } = options;
  const key = PREFIX + backupName(clock.now());
  const writer = new ObjectWriter(store, key, signal);
  const gzip = createGzip({ level: constants.Z_BEST_SPEED });
  const stored = (async () => {
    for await (const piece of gzip as AsyncIterable<Buffer>) await writer.write(piece);
  })();
  stored.catch(() => gzip.destroy());
  const failed = new Promise<never>((_resolve, reject) => void stored.catch(reject));
  failed.catch(() => {});
  try {
    const dump = async (bytes: Buffer): Promise<void> => {
      if (gzip.destroyed) await failed;
      if (!gzip.write(bytes)) await Promise.race([once(gzip, 'drain'), failed]);
    };
    await dumpJson(engine, dump, { skipTrash, threads: THREADS, ...(signal ? { signal } : {}) });
    gzip.end();
    await stored;
    await writer.end();
    return key;
  } catch (error) {
    gzip.destroy();
    await stored.catch(() => {});
    await writer.abort();
    throw error;
  }
}

/** Deletes backups whose time is over. */
async function rotateBackups({ store, clock, signal }: Pick<BackupOptions, 'store' | 'clock' | 'signal'>): Promise<void> {
  const names: string[] = [];
  // There are some hundred at most.
  for await (const { key } of store.list(PREFIX, signal ? { signal } : {})) names.push(key.slice(PREFIX.length));
  for (const name of outdated(names, clock.now())) await store.delete(PREFIX + name, signal);
}

/** Makes a backup where one is due and nobody else makes it. Answers its key, or undefined. */
export async function backupIfDue(options: BackupOptions): Promise<string | undefined> {
  const { engine, clock, logger, signal } = options;
  const [before, inodes] = await engine.read([
    { kind: 'xattr', ino: ROOT_INO, name: LAST_BACKUP },
    { kind: 'counter', name: 'totalInodes' },
  ]);
  const now = clock.now();
  const longest = Math.max(DAY_MS, options.interval);
  const interval = Math.min(longest, options.interval * Math.max(1, inodes / INODES_PER_INTERVAL));
  const last = before ? Date.parse(before.toString()) : 0;
  // What cannot be read is taken for long ago. One of the future is of a clock that is wrong.
  if (now - last < interval && last <= now + DAY_MS) return undefined;
  const time = `${new Date(now).toISOString().slice(0, 19)}Z`;
  const log = logFor(engine, (await readSetting(engine)).format, clock);
  const claimed = await engine.commit({
    checks: [{ kind: 'counterAtMost', name: COUNTER, value: Math.floor((now - 0.9 * interval) / 1000) }],
    writes: [
      { kind: 'setCounter', name: COUNTER, value: Math.floor(now / 1000) },
      { kind: 'putXattr', ino: ROOT_INO, name: LAST_BACKUP, value: Buffer.from(time) },
      ...log.setxattr(ROOT_INO, LAST_BACKUP, Buffer.from(time), {}),
    ],
  });
  if (!claimed.ok) return undefined;
  try {
    const key = await backupNow(options);
    logger.info('metadata was backed up', { key, inodes, ms: clock.now() - now });
    await rotateBackups(options).catch((error: unknown) => {
      if (!signal?.aborted) logger.warn('old backups of the metadata could not be deleted', { error: messageOf(error) });
    });
    return key;
  } catch (error) {
    // For the next look, of this client or another.
    await engine.commit({
      checks: [],
      writes: [
        { kind: 'setCounter', name: COUNTER, value: 0 },
        before
          ? { kind: 'putXattr', ino: ROOT_INO, name: LAST_BACKUP, value: before }
          : { kind: 'removeXattr', ino: ROOT_INO, name: LAST_BACKUP },
        ...(before ? log.setxattr(ROOT_INO, LAST_BACKUP, before, {}) : log.removexattr(ROOT_INO, LAST_BACKUP)),
      ],
    });
    throw error;
  }
}

/** Looks ten times in each interval whether a backup is due, until it is closed. */
export class Backups {
  readonly #ending = new AbortController();
  readonly #rhythm: Rhythm;

  constructor(options: Omit<BackupOptions, 'signal'> & { readonly random: Random }) {
    const { clock, random, logger, interval } = options;
    const { signal } = this.#ending;
    const run = async (): Promise<void> => void (await backupIfDue({ ...options, signal }));
    this.#rhythm = new Rhythm({ clock, random, logger, name: 'the backup of the metadata', pause: interval / 10, run });
  }

  async close(): Promise<void> {
    this.#ending.abort();
    await this.#rhythm.stop();
  }
}
