/**
 * One volume, opened for serving: metadata, blocks, file system, and what ties them (compaction, deletion of blocks, figures).
 * Everything that one mount needs besides the kernel.
 */
import { rmSync } from 'node:fs';
import type { ChunkStore } from '../chunk/types.ts';
import type { WholeFolder } from '../chunk/whole-folder.ts';
import type { InitOptions } from '../fuse/init.ts';
import type { Backing, FileSystem } from '../fuse/types.ts';
import { systemClock } from '../lib/clock.ts';
import type { Ino } from '../lib/int64.ts';
import { messageOf, UserError } from '../lib/errors.ts';
import { heldBack, type Logger, nullLogger } from '../lib/log.ts';
import { type Family, statsLines } from '../lib/metrics.ts';
import { systemRandom } from '../lib/random.ts';
import { envelopeOf } from '../meta/encryption.ts';
import type { MetaEngine } from '../meta/engine.ts';
import { decryptSecrets } from '../meta/format-secrets.ts';
import { type Format, storageClassOf } from '../meta/format.ts';
import { VolumeMeta } from '../meta/meta.ts';
import type { Meta } from '../meta/types.ts';
import { openEngine, readFormat } from '../meta/open.ts';
import { Timings } from '../meta/timings.ts';
import { redactUrl } from '../meta/url.ts';
import { measured, RequestFigures } from '../object/measured.ts';
import { SwitchableStore } from '../object/switch.ts';
import { AccessLog } from '../vfs/accesslog.ts';
import { Compactor } from '../vfs/compactor.ts';
import { Journal } from '../vfs/journal.ts';
import { Pieces } from '../vfs/pieces.ts';
import { checkForm } from '../vfs/journal-version.ts';
import { observed, OperationStats } from '../vfs/observed.ts';
import { squashed } from '../vfs/squash.ts';
import { Vfs } from '../vfs/vfs.ts';
import { onAnsweringDisks } from './answering.ts';
import { backupOf, MountBackups } from './backups.ts';
import { VolumeLimits } from './limits.ts';
import { drainStaged } from './staged.ts';
import { findRoot } from './root.ts';
import { initOf } from './semantics.ts';
import { Renewal } from './renewal.ts';
import { openChunks, openStore, openWholeFiles, overStore } from './volume-blocks.ts';
import { configOf } from './volume-config.ts';
import { mountFamilies } from './volume-figures.ts';
import type { VolumeOptions } from './volume-options.ts';

const MIB = 1024 * 1024;

export interface OpenVolume {
  readonly name: string;
  readonly uuid: string;
  /** What the kernel must agree to. */
  readonly init: InitOptions;
  /** The session, for a client that follows; 0 where the mount is read-only. */
  readonly sid: number;
  readonly fileSystem: FileSystem;
  /** What the file system is made of, for who moves whole files. */
  readonly parts: { readonly meta: Meta; readonly chunks: ChunkStore; readonly root: Ino };
  /** `forget` is called where the kernel is to forget a name; the directory is what the kernel calls it. */
  onNameChanged(forget: (parent: Ino, name: Buffer) => void): void;
  /** `backing` says where the kernel is told which local files it reads. */
  onBacking(backing: () => Backing | undefined): void;
  /** What was taken over from an earlier client. */
  readonly recovered: { readonly handles: number; readonly writes: number } | undefined;
  /** Resolves with the reason when the volume is gone or was formatted anew: the mount must end. */
  readonly lost: Promise<string>;
  /** Files and directories that programs have open now. */
  openHandles(): number;
  /** Figures of the mount: the values of now, names without prefix. */
  readonly families: () => readonly Family[];
  /** How often written data could not be stored so far. */
  readonly failures: () => number;
  /** Commits all written data; the volume can still be served. */
  flush(): Promise<void>;
  /** For a time without work: lets go of what the next requests can get again. */
  trim(): void;
  /** Uploads what is staged, where a drain time was given. True where nothing is left. */
  drain(): Promise<boolean>;
  /** Ends. With `keep` the session, its open handles and their state stay for the next client. */
  close(keep: boolean): Promise<void>;
}

/** What runs beside the file system. */
interface Background {
  chunks?: ChunkStore;
  compactor?: Compactor;
  renewal?: Renewal;
  backups?: MountBackups;
  wholeFiles?: WholeFolder | undefined;
}

/** A volume whose database answers; `openVolume` goes on with it. */
export interface FoundVolume {
  readonly engine: MetaEngine;
  readonly format: Format;
  /** Filled by `openVolume`; what the engine reports goes there. */
  readonly background: Background;
}

/** Finds the volume, and writes nothing. Throws UserError where it is not there, is another one, or its key cannot be opened. */
export async function findVolume(options: VolumeOptions): Promise<FoundVolume> {
  const background: Background = {};
  const { logger, release } = heldBack(options.logger ?? nullLogger);
  // Where somebody waits for the answer, a failure is one sentence.
  if (options.openPatience === undefined) release();
  const onRefused = (): void => background.renewal?.lookAtFile();
  const engine = await openEngine(options.metaUrl, {
    logger,
    existing: true,
    ...(options.openPatience === undefined ? {} : { openPatience: options.openPatience }),
    ...(options.configFile === undefined ? {} : { onRefused }),
  });
  try {
    const format = await readFormat(engine);
    release();
    if (!format)
      throw new UserError('NoVolume', `${redactUrl(options.metaUrl)} holds no volume`, {
        hint: `Make one with: juicepod format '${redactUrl(options.metaUrl)}' NAME`,
      });
    checkExpected(format, options);
    if (format.encryptKey !== '') envelopeOf(decryptSecrets(format), options.passphrases);
    return { engine, format, background };
  } catch (error) {
    await engine.close().catch(() => {});
    throw error;
  }
}

/**
 * Opens the volume and registers a session; folders whose disks do not answer are left out. Throws UserError where that cannot be; what was
 * `found` is closed then, too.
 */
export async function openVolume(wanted: VolumeOptions, found?: FoundVolume): Promise<OpenVolume> {
  const logger = wanted.logger ?? nullLogger;
  const { engine, format, background } = found ?? (await findVolume(wanted));
  const lost = Promise.withResolvers<string>();
  let meta: VolumeMeta | undefined;
  let chunks: ChunkStore | undefined;
  try {
    const options = await onAnsweringDisks(wanted, logger);
    const limits = new VolumeLimits(options.limits, format);
    const store = new SwitchableStore(openStore(format, options.storage), async (refusal, signal) =>
      background.renewal?.refused(refusal, signal),
    );
    const requests = new RequestFigures(storageClassOf(format));
    const timings = new Timings();
    const objects = overStore(format, options, limits, measured(store, requests), logger);
    chunks = openChunks(format, options, objects, logger);
    background.chunks = chunks;
    meta = new VolumeMeta(engine, format, {
      ...options.semantics,
      readOnly: options.readOnly,
      heartbeat: options.heartbeatMs,
      backgroundJobs: options.backgroundJobs,
      logger,
      timings,
      callbacks: {
        deleteSlice: async (id, size) => background.chunks?.remove({ id, size }),
        compactChunk: (ino, index) => background.compactor?.add(ino, index) ?? Promise.resolve(),
        lost: (reason) => lost.resolve(reason),
        formatChanged: () => {
          limits.follow(current.format);
          void background.renewal?.settingsChanged(current.format);
        },
      },
    });
    const current = meta;
    background.renewal = new Renewal({
      ...options,
      engine,
      store,
      openStore,
      format,
      storage: options.storage,
      onSwitch: (generation) =>
        void current.describeSession(generation).catch((error: unknown) => {
          logger.warn('the session could not be told of the new credentials', { error: messageOf(error) });
        }),
      onConfig: (config) => background.backups?.follow(backupOf(config).backup),
      clock: systemClock,
      random: systemRandom,
      logger,
    });
    if (options.backgroundJobs && !options.readOnly) {
      const common = { clock: systemClock, random: systemRandom, logger };
      background.backups = new MountBackups({ engine, store: objects, ...common }, options.backup);
    }
    const measuring = { requests, timings };
    return await serveVolume(meta, chunks, format, limits, options, lost.promise, background, measuring, logger);
  } catch (error) {
    await background.renewal?.close();
    await background.backups?.close();
    await chunks?.close();
    background.wholeFiles?.close();
    // A session to follow is the next try's, with all that its programs have open.
    await (meta ? meta.close({ keepSession: wanted.resume !== undefined }) : engine.close()).catch(() => {});
    throw error;
  }
}

async function serveVolume(
  meta: VolumeMeta,
  chunks: ChunkStore,
  format: Format,
  limits: VolumeLimits,
  options: VolumeOptions,
  lost: Promise<string>,
  background: Background,
  { requests, timings }: { readonly requests: RequestFigures; readonly timings: Timings },
  logger: Logger,
): Promise<OpenVolume> {
  const { journalFolder, resume, semantics = {} } = options;
  const { capabilities = false, selinux = false, squash } = semantics;
  const { renewal } = background;
  if (journalFolder !== undefined && resume !== undefined && !options.readOnly) checkForm(journalFolder);
  const sid = await meta.newSession(options.mountPoint, resume, renewal?.report.Generation || undefined);
  // What lies there without a session to follow is of a mount that is over: nobody was told that it is safe.
  if (journalFolder !== undefined && resume === undefined) rmSync(journalFolder, { recursive: true, force: true });
  await chunks.ready;
  const stats = new OperationStats();
  const accessLog = new AccessLog(systemClock);
  const compactor = new Compactor(meta, chunks, logger);
  if (!options.readOnly) background.compactor = compactor;
  const root = await findRoot(meta, options);
  const kept = options.readOnly ? undefined : options.handles?.file;
  const pieces = kept && new Pieces(kept, { maxBytes: Math.min(192 * MIB, options.bufferBytes * 0.6) });
  const journal =
    journalFolder === undefined || options.readOnly ? undefined : openJournal(journalFolder, options.bufferBytes, pieces, logger);
  let forgetName: ((parent: Ino, name: Buffer) => void) | undefined;
  let backing: (() => Backing | undefined) | undefined;
  const wholeFiles = await openWholeFiles(format, options, logger);
  background.wholeFiles = wholeFiles;
  const families = (): readonly Family[] =>
    mountFamilies({
      parts: [stats, timings, chunks, requests, ...(vfs.passthrough ? [vfs.passthrough] : [])],
      fullness: meta.known(),
      subPath: options.subPath,
      openHandles: vfs.openHandles,
      compacted: compactor.sizes,
      switches: renewal?.report.Switches ?? 0,
      refused: Boolean(renewal?.report.Problem),
    });
  const vfs: Vfs = new Vfs({
    forgetName: (parent, name) => forgetName?.(parent, name),
    meta: limits.overMeta(meta),
    chunks,
    accessLog,
    root,
    volume: format.name,
    hashPrefix: format.hashPrefix,
    stats: () => statsLines('juicefs_', families()),
    config: () => ({ ...configOf(format, limits, options, sid), Credentials: renewal?.report }),
    attrTimeout: options.attrTimeout,
    entryTimeout: options.entryTimeout,
    dirEntryTimeout: options.dirEntryTimeout,
    negativeTimeout: options.negativeTimeout,
    maxReadahead: options.readaheadBytes,
    readOnly: options.readOnly,
    // The kernel asks for access control lists as extended attributes.
    xattr: options.xattr || format.enableAcl || capabilities || selinux,
    capabilities,
    selinux,
    ioctl: semantics.ioctl ?? false,
    readdirCache: semantics.readdirCache ?? false,
    ...(semantics.umask === undefined ? {} : { umask: semantics.umask }),
    acl: format.enableAcl,
    hideInternal: options.hideInternal,
    ...(options.handles ? { handles: options.handles } : {}),
    ...(journal ? { journal } : {}),
    ...(wholeFiles ? { wholeFiles } : {}),
    backing: () => backing?.(),
    logger,
  });
  const fileSystem = observed(vfs, stats, accessLog);
  const recovered = resume === undefined ? undefined : await vfs.recover(options.readOnly ? undefined : journalFolder, pieces);
  return {
    name: format.name,
    uuid: format.uuid,
    init: { ...initOf(format.enableAcl, semantics), ...(wholeFiles ? { passthrough: true } : {}) },
    sid,
    fileSystem: squash ? squashed(fileSystem, squash) : fileSystem,
    parts: { meta, chunks, root },
    onNameChanged(forget) {
      forgetName = forget;
    },
    onBacking(told) {
      backing = told;
    },
    recovered,
    lost,
    openHandles: () => vfs.openHandles,
    families,
    failures: () => vfs.failures,
    flush: () => vfs.flushAll(),
    trim() {
      vfs.trim();
      chunks.trim();
    },
    // What a client with write-back left is no less to be stored when the pod ends than what one with it wrote.
    drain: () => drainStaged(chunks, options.writeback ?? options.leftovers, { clock: systemClock, logger, volume: format.name }),
    async close(keep) {
      await vfs.endCommands();
      await vfs.flushAll();
      await vfs.close();
      await compactor.close();
      await renewal?.close();
      await background.backups?.close();
      await meta.close({ keepSession: keep });
      await chunks.close();
      journal?.close();
      if (!keep && journalFolder !== undefined) rmSync(journalFolder, { recursive: true, force: true });
    },
  };
}

function checkExpected(format: Format, { expect, metaUrl }: VolumeOptions): void {
  const { name, uuid } = expect ?? format;
  if ((name ?? format.name) !== format.name || uuid !== format.uuid)
    throw new UserError(
      'OtherVolume',
      `${redactUrl(metaUrl)} holds the volume "${format.name}" (${format.uuid}), not ${name === undefined ? uuid : `"${name}" (${uuid})`}`,
      {
        hint: 'The database was formatted anew, or the Secret is of another volume. Look at the conditions of the JuiceVolume.',
      },
    );
}

/** The journal of written data; a mount can do without where its folder cannot be written to. */
function openJournal(folder: string, bufferBytes: number, pieces: Pieces | undefined, logger: Logger): Journal | undefined {
  try {
    // What is kept for later writes comes out of what written data may take anyway: so much disk is asked for.
    return new Journal(folder, { keepBytes: Math.min(192 * MIB, bufferBytes), pieces, logger });
  } catch (error) {
    logger.warn('no journal of written data can be kept: what is not stored yet would be lost with this process', {
      folder,
      error: messageOf(error),
    });
    return undefined;
  }
}
