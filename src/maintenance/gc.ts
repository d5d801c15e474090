/**
 * Garbage collection: objects that nothing refers to, data that waits to be deleted, and chunks in many pieces.
 *
 * What is deleted must be garbage for sure, also while clients work. Objects that were written within the last hour are left alone,
 * for their slice may not be committed yet. And what seems to be leaked is looked for once more in the lists of all files, read anew
 * after the objects were listed: a file that was copied (its slices shared) and removed while the lists were read first would be
 * missed otherwise.
 *
 * Bounded: the census (census.ts); keys of leaked objects are kept in a file until they are looked for again; `threads` deletions
 * and compactions at a time. Interrupted at any point it can be run again.
 * Source: gc of the official client 1.4.1, whose figures have the same names and meaning.
 */
import type { BlockGeometry } from '../chunk/key.ts';
import type { ChunkStore } from '../chunk/types.ts';
import { type Ino, formatIno } from '../lib/int64.ts';
import { forEachParallel } from '../lib/parallel.ts';
import { planCompaction, commitCompaction } from '../meta/data.ts';
import { cleanDetached } from '../meta/detached.ts';
import { cleanTrashBefore, dropDelayed } from '../meta/jobs.ts';
import { decodeDelayed, SLICE_RECORD } from '../meta/records.ts';
import { CHUNK_SIZE } from '../meta/types.ts';
import type { Volume } from '../meta/volume.ts';
import type { ObjectInfo, ObjectStore } from '../object/store.ts';
import { type Compactable, compactChunk } from '../vfs/compactor.ts';
import { blockOf, BLOCKS, useOf } from './blocks.ts';
import { Census, SliceUse } from './census.ts';
import { KeyFile } from './key-file.ts';
import { type SliceFigures, tellPending, tellReplaced, tellUsed } from './slices.ts';

const DAY = 86_400;
/** Rounds of compaction of one chunk: each takes a thousand slices, and writers may add some. */
const COMPACTIONS = 20;
/** Lists without a file that are removed in one run; the next run goes on. */
const STRAYS = 100_000;
/** Removed files whose data is deleted together: shared by the places at once, so that a few large ones are not one behind the other. */
const FILES = 32;

export interface Amount {
  objects: number;
  bytes: number;
}

/** What was found and done; counts up while it is under way. */
export interface GarbageReport extends SliceFigures {
  phase: 'trash' | 'files' | 'compaction' | 'slices' | 'objects' | 'leaked' | 'done';
  scanned: number;
  readonly valid: Amount;
  readonly pendingDelete: Amount;
  readonly compacted: Amount;
  readonly leaked: Amount;
  /** Too young to tell. */
  readonly skipped: Amount;
  /** Not ours: left alone. */
  readonly foreign: Amount;
  /** Removed files whose data is still there. */
  deletedFiles: number;
  deletedFileBytes: number;
  /** Lists of slices without a file. */
  strayChunks: number;
  /** What was done about it. */
  readonly cleaned: {
    trash: number;
    files: number;
    fileBytes: number;
    slices: number;
    replaced: number;
    leaked: number;
    strayChunks: number;
    chunks: number;
  };
}

export function newGarbageReport(): GarbageReport {
  const none = (): Amount => ({ objects: 0, bytes: 0 });
  return {
    phase: 'trash',
    scanned: 0,
    valid: none(),
    pendingDelete: none(),
    compacted: none(),
    leaked: none(),
    skipped: none(),
    foreign: none(),
    listed: 0,
    replaced: 0,
    replacedBytes: 0,
    pending: 0,
    deletedFiles: 0,
    deletedFileBytes: 0,
    strayChunks: 0,
    cleaned: { trash: 0, files: 0, fileBytes: 0, slices: 0, replaced: 0, leaked: 0, strayChunks: 0, chunks: 0 },
  };
}

export interface GarbageOptions {
  /** Its callback `deleteSlice` deletes the blocks of a slice. */
  readonly volume: Volume;
  /** The volume's store, its prefix applied. */
  readonly objects: ObjectStore;
  readonly geometry: BlockGeometry;
  /** Needed to compact. */
  readonly chunks?: ChunkStore;
  /** Deletes what is found. */
  readonly delete?: boolean;
  /** Compacts every chunk that gets fewer slices by it. */
  readonly compact?: boolean;
  /** @default 10 */
  readonly threads?: number;
  /** Objects younger than so many seconds are left alone. @default 3600 */
  readonly minAge?: number;
  /** Where files go that are needed for large volumes only. */
  readonly temporary: string;
  /** For tests: slices kept in memory, see census.ts. */
  readonly pending?: number;
  /** Counts up while it is under way. */
  readonly report?: GarbageReport;
  readonly signal: AbortSignal;
}

/** Throws FsError, ObjectError. */
export async function collectGarbage(options: GarbageOptions): Promise<GarbageReport> {
  const report = options.report ?? newGarbageReport();
  const { volume, signal, temporary } = options;
  const collection = new Collection(options, report);
  try {
    if (options.delete) await collection.cleanTrash();
    report.phase = 'files';
    await collection.deletedFiles();
    if (options.compact) {
      report.phase = 'compaction';
      await collection.compactAll();
    }
    report.phase = 'slices';
    const hashPrefix = volume.format.hashPrefix;
    const census = new Census({ hashPrefix, temporary, ...(options.pending ? { pending: options.pending } : {}) });
    const leaked = new KeyFile(temporary);
    try {
      await collection.tellAll(census);
      report.phase = 'objects';
      await collection.listObjects(census, leaked);
      census.close();
      report.phase = 'leaked';
      if (options.delete && leaked.count > 0) await collection.deleteLeaked(leaked);
    } finally {
      census.close();
      await leaked.close();
    }
    signal.throwIfAborted();
    report.phase = 'done';
  } finally {
    // What was removed counts for usage and quotas.
    await volume.stats.flushAll();
    await volume.limits.accounts.flush();
  }
  return report;
}

class Collection {
  readonly #options: GarbageOptions;
  readonly #report: GarbageReport;
  readonly #threads: number;
  /** Unix seconds. */
  readonly #edge: number;
  /** Milliseconds; what was written later is left alone. */
  readonly #youngest: number;

  constructor(options: GarbageOptions, report: GarbageReport) {
    const { volume, threads = 10, minAge = 3600 } = options;
    this.#options = options;
    this.#report = report;
    this.#threads = threads;
    this.#edge = volume.seconds() - volume.format.trashDays * DAY;
    this.#youngest = volume.clock.now() - minAge * 1000;
  }

  async cleanTrash(): Promise<void> {
    const { volume, signal } = this.#options;
    await cleanTrashBefore(volume, this.#edge, signal, (count) => (this.#report.cleaned.trash += count));
    await cleanDetached(volume, signal);
    // Their data goes with that of all removed files, below.
    await volume.deletions.settled();
  }

  /** Removed files whose data is still there. */
  async deletedFiles(): Promise<void> {
    const { volume, signal } = this.#options;
    const report = this.#report;
    for await (const batch of volume.engine.allDelfiles()) {
      signal.throwIfAborted();
      report.deletedFiles += batch.length;
      for (const { length } of batch) report.deletedFileBytes += length;
      if (!this.#options.delete) continue;
      const groups = Array.from({ length: Math.ceil(batch.length / FILES) }, (_, at) =>
        batch.slice(at * FILES, (at + 1) * FILES),
      );
      await forEachParallel(groups, this.#threads, async (files) => {
        signal.throwIfAborted();
        await volume.deletions.deleteFiles(files);
        report.cleaned.files += files.length;
        for (const { length } of files) report.cleaned.fileBytes += length;
      });
    }
  }

  async compactAll(): Promise<void> {
    const { volume, chunks, signal } = this.#options;
    if (!chunks) throw new TypeError('a compaction needs the blocks');
    const meta: Compactable = {
      planCompaction: (ino, index) => planCompaction(volume, ino, index),
      newSliceId: async () => volume.newSlice(),
      commitCompaction: (plan, slice) => commitCompaction(volume, plan, slice),
    };
    const compact = async (ino: Ino, index: number): Promise<void> => {
      for (let round = 0; round < COMPACTIONS; round++) {
        signal.throwIfAborted();
        if (!(await compactChunk(meta, chunks, ino, index))) return;
        if (round === 0) this.#report.cleaned.chunks++;
      }
    };
    const failed = (ino: Ino, index: number) => (error: unknown) => {
      if (signal.aborted) throw error;
      volume.logger.warn('a chunk could not be compacted', { inode: formatIno(ino), chunk: index, error });
    };
    const engine = volume.engine;
    const long = async function* (): AsyncIterable<{ readonly ino: Ino; readonly index: number }> {
      for await (const { ino, index, records } of engine.scanAllChunks())
        if (records.length >= 2 * SLICE_RECORD && records.length % SLICE_RECORD === 0) yield { ino, index };
    };
    await forEachParallel(long(), this.#threads, ({ ino, index }) => compact(ino, index).catch(failed(ino, index)));
  }

  /** Tells the census of all slices, and lets go of what is to be let go. */
  async tellAll(census: Census): Promise<void> {
    const { volume, signal } = this.#options;
    const { engine } = volume;
    const report = this.#report;
    const strays = new Map<Ino, number>();
    await tellUsed(engine, census, {
      figures: report,
      damaged: (ino, index) => volume.logger.warn('a list of slices is damaged', { inode: formatIno(ino), chunk: index }),
      stray: (lists) => {
        for (const { ino, index } of lists)
          if (strays.has(ino) || strays.size < STRAYS) strays.set(ino, Math.max(index, strays.get(ino) ?? 0));
      },
      signal,
    });
    await this.#removeStrays(strays);
    if (this.#options.delete) {
      await this.#dropUnreferenced();
      for await (const batch of engine.allDelayed()) {
        const old = batch.filter(({ time }) => time < this.#edge);
        await forEachParallel(old, this.#threads, async (delayed) => {
          signal.throwIfAborted();
          await dropDelayed(volume, delayed, 'gc');
          report.cleaned.replaced += decodeDelayed(delayed.slices).length;
        });
      }
    }
    await tellPending(engine, census, report, signal);
    await tellReplaced(engine, census, report, signal);
  }

  async #dropUnreferenced(): Promise<void> {
    const { volume, signal } = this.#options;
    if (!volume.callbacks.deleteSlice) return;
    for await (const batch of volume.engine.allUnreferenced())
      await forEachParallel(batch, this.#threads, async (slice) => {
        signal.throwIfAborted();
        await volume.deletions.deleteSlices([slice]);
        this.#report.cleaned.slices++;
      });
  }

  /** Lists of files that are neither there nor marked as removed. */
  async #removeStrays(strays: Map<Ino, number>): Promise<void> {
    const { volume, signal } = this.#options;
    if (strays.size === 0) return;
    for await (const batch of volume.engine.allDelfiles()) for (const { ino } of batch) strays.delete(ino);
    this.#report.strayChunks = strays.size;
    if (!this.#options.delete) return;
    const inos = [...strays.keys()];
    const attrs = await volume.engine.nodes(inos);
    await forEachParallel(
      inos.filter((_ino, at) => !attrs[at]),
      this.#threads,
      async (ino) => {
        signal.throwIfAborted();
        await volume.deletions.deleteFile(ino, ((strays.get(ino) ?? 0) + 1) * CHUNK_SIZE);
        this.#report.cleaned.strayChunks++;
      },
    );
  }

  /** Counts every object; keys of those that seem leaked go to `leaked`. */
  async listObjects(census: Census, leaked: KeyFile): Promise<void> {
    const { volume, objects, geometry, signal } = this.#options;
    const report = this.#report;
    const { hashPrefix } = volume.format;
    const amounts: readonly Amount[] = [report.leaked, report.compacted, report.pendingDelete, report.valid];
    const add = (amount: Amount | undefined, { size }: ObjectInfo): void => {
      if (!amount) return;
      amount.objects++;
      amount.bytes += size;
    };
    for await (const listed of objects.list(BLOCKS, { signal })) {
      if (listed.key.endsWith('/')) continue;
      const name = blockOf(listed.key, hashPrefix);
      if (!name) {
        add(report.foreign, listed);
        continue;
      }
      report.scanned++;
      // Some stores do not tell everything in a listing.
      const info = listed.size === 0 || listed.modified === 0 ? await objects.head(listed.key, signal) : listed;
      if (!info || info.modified === 0 || info.modified > this.#youngest) {
        add(report.skipped, info ?? listed);
        continue;
      }
      const range = census.inMemory(name.id) ?? (await census.range(name.id));
      const use = useOf(name, range, census.slotOf(name.id), geometry);
      add(amounts[use], info);
      if (use === SliceUse.None) await leaked.add(info.key);
    }
  }

  /** Looks for what seems leaked once more, and deletes what is. */
  async deleteLeaked(leaked: KeyFile): Promise<void> {
    const { volume, objects, geometry, temporary, signal } = this.#options;
    const { hashPrefix } = volume.format;
    const census = new Census({ hashPrefix, temporary });
    try {
      const figures: SliceFigures = { listed: 0, replaced: 0, replacedBytes: 0, pending: 0 };
      await tellUsed(volume.engine, census, { figures, damaged: () => {}, signal });
      await tellPending(volume.engine, census, figures, signal);
      await tellReplaced(volume.engine, census, figures, signal);
      const sure = async function* (): AsyncIterable<string> {
        for await (const key of leaked.keys()) {
          const name = blockOf(key, hashPrefix);
          if (!name) continue;
          const range = census.inMemory(name.id) ?? (await census.range(name.id));
          if (useOf(name, range, census.slotOf(name.id), geometry) === SliceUse.None) yield key;
        }
      };
      await forEachParallel(sure(), this.#threads, async (key) => {
        signal.throwIfAborted();
        await objects.delete(key, signal);
        this.#report.cleaned.leaked++;
      });
    } finally {
      census.close();
    }
  }
}
