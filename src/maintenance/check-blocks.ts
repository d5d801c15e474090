/**
 * Whether every block that metadata names is in the store, with the size it must have.
 *
 * The whole volume: all slices are told to a census, the store is listed and the blocks are counted; slices that miss one are looked
 * at block by block (a block may have come after the listing passed), and the files that refer to a slice that is broken are
 * found by reading all lists again. Of a file or a tree: each block is asked for (`checkFiles`).
 *
 * Bounds: the census, MAX_BROKEN broken slices and as many broken files told by name; what is more is counted only. Data of
 * removed files is no loss, whether it is there or not.
 * Source: fsck of the official client 1.4.1, which does not look at sizes.
 */
import { type BlockGeometry, blockKey } from '../chunk/key.ts';
import { type Ino, formatIno } from '../lib/int64.ts';
import type { Logger } from '../lib/log.ts';
import { forEachParallel } from '../lib/parallel.ts';
import type { MetaEngine } from '../meta/engine.ts';
import type { Format } from '../meta/format.ts';
import { pathsOf } from '../meta/maintenance/where.ts';
import { decodeSlices, SLICE_RECORD } from '../meta/records.ts';
import { CHUNK_SIZE } from '../meta/types.ts';
import type { ObjectStore } from '../object/store.ts';
import { blockOf, BLOCKS, sizeFits, type StoredAs, storedAs, useOf } from './blocks.ts';
import { Census, type CountedSlice, SliceUse } from './census.ts';
import { type SliceFigures, tellReplaced, tellUsed } from './slices.ts';

const MAX_BROKEN = 10_000;
/** Chunk lists read at once. */
const LISTS_PER_READ = 64;
/** Beyond so many chunks (64 GiB) a file's lists are searched for instead of tried one by one. */
const CHUNKS_TO_TRY = 1024;

export interface LostBlock {
  /** Of the slice. */
  readonly id: number;
  readonly key: string;
  /** Plain bytes of the block. */
  readonly length: number;
  /** Bytes of the object that is there; undefined where there is none. */
  readonly found: number | undefined;
}

export interface BrokenFile {
  readonly ino: Ino;
  /** Undefined where it has no name. */
  readonly path: Buffer | undefined;
  /** Blocks of it that are lost or have another size. */
  readonly blocks: number;
}

export interface BlockReport extends SliceFigures {
  phase: 'slices' | 'objects' | 'lost' | 'files' | 'done';
  /** Blocks that are as they should be, and bytes of their objects. */
  blocks: number;
  bytes: number;
  lostBlocks: number;
  /** Plain bytes. */
  lostBytes: number;
  /** The first of them. */
  lost: readonly LostBlock[];
  /** Files that are broken, and the first of them by name. */
  brokenFiles: number;
  broken: readonly BrokenFile[];
  /** Lists that hold something else than records. */
  damagedLists: number;
}

export function newBlockReport(): BlockReport {
  return {
    phase: 'slices',
    listed: 0,
    replaced: 0,
    replacedBytes: 0,
    pending: 0,
    blocks: 0,
    bytes: 0,
    lostBlocks: 0,
    lostBytes: 0,
    lost: [],
    brokenFiles: 0,
    broken: [],
    damagedLists: 0,
  };
}

export interface CheckBlocksOptions {
  readonly engine: MetaEngine;
  readonly format: Format;
  readonly objects: ObjectStore;
  readonly geometry: BlockGeometry;
  readonly logger: Logger;
  /** Objects asked for at a time. @default 20 */
  readonly threads?: number;
  readonly temporary: string;
  /** For tests: slices kept in memory, see census.ts. */
  readonly pending?: number;
  readonly report?: BlockReport;
  readonly signal: AbortSignal;
}

/** Checks the blocks of the whole volume. */
export async function checkBlocks(options: CheckBlocksOptions): Promise<BlockReport> {
  const report = options.report ?? newBlockReport();
  const check = new BlockCheck(options, report);
  const { format, temporary, pending } = options;
  const census = new Census({ hashPrefix: format.hashPrefix, temporary, ...(pending ? { pending } : {}) });
  try {
    await check.tell(census);
    report.phase = 'objects';
    await check.count(census);
    report.phase = 'lost';
    await check.findLost(census);
  } finally {
    census.close();
  }
  report.phase = 'files';
  await check.findFiles();
  report.phase = 'done';
  return report;
}

/** Checks the blocks of these files, which may be any number. */
export async function checkFiles(
  options: Omit<CheckBlocksOptions, 'temporary'>,
  files: AsyncIterable<{ readonly ino: Ino; readonly length: number; readonly path: Buffer }>,
): Promise<BlockReport> {
  const report = options.report ?? newBlockReport();
  await new BlockCheck({ ...options, temporary: '' }, report).checkEach(files);
  report.phase = 'done';
  return report;
}

interface Loss {
  readonly blocks: number;
  readonly bytes: number;
}

class BlockCheck {
  readonly #options: CheckBlocksOptions;
  readonly #report: BlockReport;
  readonly #threads: number;
  readonly #stored: StoredAs;
  /** Broken slices of files, with what is lost of them. */
  readonly #broken = new Map<number, Loss>();
  readonly #lost: LostBlock[] = [];

  constructor(options: CheckBlocksOptions, report: BlockReport) {
    this.#options = options;
    this.#report = report;
    this.#threads = options.threads ?? 20;
    this.#stored = storedAs(options.format);
  }

  #damaged(ino: Ino, index: number): void {
    this.#report.damagedLists++;
    this.#options.logger.error('a list of slices is damaged: it holds something else than whole records', {
      inode: formatIno(ino),
      chunk: index,
    });
  }

  async tell(census: Census): Promise<void> {
    const { engine, format, signal } = this.#options;
    const damaged = this.#damaged.bind(this);
    await tellUsed(engine, census, { figures: this.#report, damaged, signal });
    if (format.trashDays > 0) await tellReplaced(engine, census, this.#report, signal);
  }

  async count(census: Census): Promise<void> {
    const { objects, format, geometry, signal } = this.#options;
    for await (const info of objects.list(BLOCKS, { signal })) {
      const name = blockOf(info.key, format.hashPrefix);
      if (!name || !sizeFits(info, name.length, this.#stored)) continue;
      const range = census.inMemory(name.id) ?? (await census.range(name.id));
      const slot = census.slotOf(name.id);
      if (useOf(name, range, slot, geometry) === SliceUse.None) continue;
      range.found[slot] = (range.found[slot] ?? 0) + 1;
      range.counted = true;
      this.#report.blocks++;
      this.#report.bytes += info.size;
    }
  }

  async findLost(census: Census): Promise<void> {
    const { geometry } = this.#options;
    const suspects = async function* (): AsyncIterable<CountedSlice> {
      for await (const slice of census.all()) if (slice.found < geometry.count(slice.size)) yield slice;
    };
    await forEachParallel(suspects(), this.#threads, async ({ id, size, use, found }) => {
      const loss = await this.#look(id, size, found);
      if (loss.blocks > 0 && use === SliceUse.Used && this.#broken.size < MAX_BROKEN) this.#broken.set(id, loss);
    });
    this.#report.lost = this.#lost;
  }

  /** Asks for each block of a slice. `known` of them were counted already. */
  async #look(id: number, size: number, known: number): Promise<Loss> {
    const { objects, format, geometry, signal } = this.#options;
    const report = this.#report;
    let good = 0;
    let blocks = 0;
    let bytes = 0;
    for (let index = 0; index < geometry.count(size); index++) {
      signal.throwIfAborted();
      const length = geometry.length(size, index);
      const key = blockKey(id, index, length, format.hashPrefix);
      const info = await objects.head(key, signal);
      if (info && sizeFits(info, length, this.#stored)) {
        if (++good > known) {
          report.blocks++;
          report.bytes += info.size;
        }
        continue;
      }
      blocks++;
      bytes += length;
      if (this.#lost.length < MAX_BROKEN) this.#lost.push({ id, key, length, found: info?.size });
    }
    report.lostBlocks += blocks;
    report.lostBytes += bytes;
    return { blocks, bytes };
  }

  /** The files that refer to slices that are broken, but for those that are removed. */
  async findFiles(): Promise<void> {
    if (this.#broken.size === 0) return;
    const { engine, signal } = this.#options;
    const files = new Map<Ino, number>();
    const removed = await this.#removedFiles();
    const needed = new Set<number>();
    let more = 0;
    for await (const { ino, records } of engine.scanAllChunks()) {
      signal.throwIfAborted();
      if (records.length % SLICE_RECORD !== 0) continue;
      let blocks = 0;
      const broken = decodeSlices(records).filter(({ id }) => this.#broken.has(id));
      if (broken.length === 0 || removed.has(ino)) continue;
      for (const { id } of broken) {
        needed.add(id);
        blocks += this.#broken.get(id)?.blocks ?? 0;
      }
      if (files.has(ino) || files.size < MAX_BROKEN) files.set(ino, (files.get(ino) ?? 0) + blocks);
      else more++;
    }
    for (const [id, loss] of this.#broken) {
      if (needed.has(id)) continue;
      // Only removed files have it.
      this.#report.lostBlocks -= loss.blocks;
      this.#report.lostBytes -= loss.bytes;
    }
    this.#report.lost = this.#lost.filter(({ id }) => needed.has(id) || !this.#broken.has(id));
    const paths = await pathsOf(engine, files.keys(), signal);
    this.#report.brokenFiles = files.size + more;
    this.#report.broken = Array.from(files, ([ino, blocks]) => ({ ino, path: paths.get(ino), blocks }));
  }

  /** Those of the files with broken slices that are marked as removed. */
  async #removedFiles(): Promise<ReadonlySet<Ino>> {
    const { engine, signal } = this.#options;
    const suspects = new Set<Ino>();
    for await (const { ino, records } of engine.scanAllChunks()) {
      signal.throwIfAborted();
      if (suspects.size >= MAX_BROKEN) break;
      if (records.length % SLICE_RECORD === 0 && decodeSlices(records).some(({ id }) => this.#broken.has(id))) suspects.add(ino);
    }
    const removed = new Set<Ino>();
    for await (const batch of engine.allDelfiles()) for (const { ino } of batch) if (suspects.has(ino)) removed.add(ino);
    return removed;
  }

  async checkEach(files: AsyncIterable<{ readonly ino: Ino; readonly length: number; readonly path: Buffer }>): Promise<void> {
    const broken: BrokenFile[] = [];
    const withData = async function* () {
      for await (const file of files) if (file.length > 0) yield file;
    };
    await forEachParallel(withData(), this.#threads, async ({ ino, length, path }) => {
      let blocks = 0;
      for await (const records of this.#listsOf(ino, length)) {
        if (records.length % SLICE_RECORD !== 0) {
          this.#damaged(ino, -1);
          continue;
        }
        for (const { id, size } of decodeSlices(records)) {
          if (id === 0 || size === 0) continue;
          this.#report.listed++;
          blocks += (await this.#look(id, size, 0)).blocks;
        }
      }
      if (blocks === 0) return;
      this.#report.brokenFiles++;
      if (broken.length < MAX_BROKEN) broken.push({ ino, path, blocks });
    });
    this.#report.broken = broken;
    this.#report.lost = this.#lost;
  }

  async *#listsOf(ino: Ino, length: number): AsyncIterable<Buffer> {
    const { engine, signal } = this.#options;
    let batch: number[] = [];
    const read = async () => {
      const reads = batch.map((index) => ({ kind: 'chunk', ino, index }) as const);
      batch = [];
      return engine.read(reads);
    };
    const count = Math.ceil(length / CHUNK_SIZE);
    // To look for the lists of one file is expensive on Redis.
    const indexes = count <= CHUNKS_TO_TRY ? Array.from({ length: count }, (_, index) => index) : engine.scanChunks(ino);
    for await (const index of indexes) {
      signal.throwIfAborted();
      if (batch.push(index) >= LISTS_PER_READ) yield* await read();
    }
    if (batch.length > 0) yield* await read();
  }
}
