/**
 * The block layer of a mount: caches, reader, writers and their limits, put together.
 *
 * Bounds: everything by `bufferBytes` (budget.ts says whose share is what), of that clean data and downloads by `memoryBytes`. What
 * compresses and encrypts needs as much again for the blocks it is at, `maxUploads` at most.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Clock, systemClock } from '../lib/clock.ts';
import { nullLogger } from '../lib/log.ts';
import type { Family } from '../lib/metrics.ts';
import type { ObjectStore } from '../object/store.ts';
import { type Shares, sharesOf } from './budget.ts';
import { STAGING } from './cache-folder.ts';
import { codecFor, type Codec } from './compress.ts';
import { cacheSeconds } from './disk-figures.ts';
import { DiskCaches, foldersOf } from './disks.ts';
import { toFsError } from './errors.ts';
import { chunkFamilies } from './families.ts';
import { blockKey, BlockGeometry } from './key.ts';
import { Limiter } from './limiter.ts';
import { MemoryCache } from './memory.ts';
import type { ChunkStoreOptions, DiskCacheSettings } from './options.ts';
import { type Block, BufferPool } from './pool.ts';
import { SliceReader } from './reader.ts';
import { type StagedAmount, Staging } from './staging.ts';
import { StagingSet } from './staging-set.ts';
import type { ChunkStore, SliceId, SliceOptions, SliceWriter } from './types.ts';
import { BlockSliceWriter, type WriterHost } from './writer.ts';

/** Opens the block layer of a volume. Nothing is read or written before the first call, but the cache directory is. */
export function openChunkStore(options: ChunkStoreOptions): ChunkStore {
  return new BlockChunkStore(options);
}

/** Where there is a disk cache, clean blocks stay in memory for so long without being used, milliseconds (up to twice that). */
const CLEAN_MS = 5000;

class BlockChunkStore implements ChunkStore, WriterHost {
  readonly geometry: BlockGeometry;
  readonly pool: BufferPool;
  readonly #objects: ObjectStore;
  readonly #codec: Codec | undefined;
  readonly #hashPrefix: boolean;
  readonly #options: ChunkStoreOptions;
  readonly #memory: MemoryCache;
  readonly #disk: DiskCaches | undefined;
  readonly #staging: StagingSet | undefined;
  readonly #reader: SliceReader;
  readonly #uploads: Limiter;
  /** Blocks brought into the cache by themselves fill half of the memory for reading at most. */
  readonly #warming: Limiter;
  readonly #deletes: Limiter;
  readonly #shares: Shares;
  readonly #waiting: { readonly go: () => void; readonly relieve: (() => void) | undefined }[] = [];
  /** Blocks on their way to the store, or to the staging folder. */
  #uploading = 0;
  readonly #background = new Set<Promise<void>>();
  #cancelAging: (() => void) | undefined;
  #usedBufferBytes = 0;
  #dirtyBytes = 0;

  constructor(options: ChunkStoreOptions) {
    const { clock = systemClock, logger = nullLogger, random, disk } = options;
    this.#options = options;
    this.#objects = options.objects;
    this.geometry = new BlockGeometry(options.blockSize ?? 4 * 1024 * 1024);
    const bufferBytes = options.bufferBytes ?? 300 * 1024 * 1024;
    this.pool = new BufferPool({ maxBytes: bufferBytes, clock });
    this.#codec = codecFor(options.compression ?? 'none');
    this.#hashPrefix = options.hashPrefix ?? false;
    const stagingFolders = disk ? this.#stagingFolders(foldersOf(disk).map((folder) => join(folder, options.uuid))) : [];
    this.#shares = sharesOf(bufferBytes, this.geometry.blockSize, stagingFolders.length > 0);
    const memoryBytes = options.memoryBytes ?? Math.min(128 * 1024 * 1024, bufferBytes / 2);
    const { gated: gatedBytes, reads: sureBytes } = this.#shares;
    this.#memory = new MemoryCache({ maxBytes: memoryBytes, pool: this.pool, gatedBytes, sureBytes });
    this.pool.reclaim = (bytes, lent) => this.#memory.reclaim(bytes, lent);
    this.pool.eased = () => this.#eased();
    // Without a disk cache this one is the cache that was asked for.
    if (disk) this.#memory.filled = () => this.#age(clock);
    this.#warming = new Limiter(Math.floor(memoryBytes / 2 / this.geometry.blockSize));
    this.#uploads = new Limiter(options.maxUploads ?? 20);
    this.#deletes = new Limiter(options.maxDeletes ?? 10);
    if (disk) {
      const { geometry } = this;
      this.#disk = new DiskCaches({
        ...disk,
        uuid: options.uuid,
        geometry,
        hashPrefix: this.#hashPrefix,
        maxPendingBytes: this.#shares.pending,
        clock,
        logger,
        ...(random ? { random } : {}),
      });
      this.#staging = this.#stageTo(this.#disk, disk, stagingFolders);
    }
    this.#reader = new SliceReader({
      objects: this.#objects,
      geometry: this.geometry,
      codec: this.#codec,
      hashPrefix: this.#hashPrefix,
      memory: this.#memory,
      disk: this.#disk,
      partialOnly: disk?.partialOnly ?? false,
      pool: this.pool,
      downloads: new Limiter(options.maxDownloads ?? 200),
      readAheadBytes: options.readAheadBytes ?? memoryBytes / 2,
      prefetch: options.prefetch ?? 1,
      corruptRetries: options.corruptRetries ?? 3,
      clock,
    });
  }

  get ready(): Promise<void> {
    return this.#staging?.ready ?? Promise.resolve();
  }

  get blockSize(): number {
    return this.geometry.blockSize;
  }

  get dirtyBytes(): number {
    return this.#dirtyBytes;
  }

  readCached(slice: SliceId, offset: number, target: Buffer): boolean {
    return this.#reader.readCached(slice, offset, target);
  }

  read(slice: SliceId, offset: number, target: Buffer, signal?: AbortSignal): Promise<void> {
    return this.#reader.read(slice, offset, target, signal);
  }

  fetch(slice: SliceId, offset: number, target: Buffer, signal?: AbortSignal): Promise<number | undefined> {
    return this.#reader.fetch(slice, offset, target, signal);
  }

  peek(slice: SliceId, offset: number, length: number): Buffer | undefined {
    return this.#reader.peek(slice, offset, length);
  }

  arriving(
    slice: SliceId,
    offset: number,
    length: number,
    use: (bytes: Buffer) => void,
    signal?: AbortSignal,
  ): Promise<void> | undefined {
    return this.#reader.arriving(slice, offset, length, use, signal);
  }

  prefetch(slice: SliceId, offset: number, length: number): void {
    this.#reader.prefetch(slice, offset, length);
  }

  warm(slice: SliceId, index: number, signal?: AbortSignal): Promise<boolean> {
    return this.#warming.run(() => {
      signal?.throwIfAborted();
      return this.#reader.warm(slice, index, signal);
    });
  }

  locate(slice: SliceId, index: number): string | undefined {
    const number = this.geometry.number(slice.id, index);
    return this.#disk?.locate(number) ?? (this.#memory.has(number) ? 'memory' : undefined);
  }

  evict(slice: SliceId, index: number): void {
    const number = this.geometry.number(slice.id, index);
    this.#memory.delete(number);
    this.#disk?.evict(number, this.geometry.length(slice.size, index));
  }

  newSlice({ direct = false, memory }: SliceOptions = {}): SliceWriter {
    return new BlockSliceWriter(this, direct, memory);
  }

  async remove(slice: SliceId): Promise<void> {
    const removals = Array.from({ length: this.geometry.count(slice.size) }, (_, index) => {
      const number = this.geometry.number(slice.id, index);
      const length = this.geometry.length(slice.size, index);
      this.#reader.forget(number);
      this.#memory.delete(number);
      const staged = this.#staging?.remove(number, length);
      this.#disk?.remove(number, length);
      const key = blockKey(slice.id, index, length, this.#hashPrefix);
      return this.#deletes.run(async () => {
        if (staged && !(await staged)) return;
        try {
          await this.#objects.delete(key);
        } catch (error) {
          throw toFsError(error);
        }
      });
    });
    for (const result of await Promise.allSettled(removals)) if (result.status === 'rejected') throw result.reason;
  }

  throttle(signal?: AbortSignal, relieve?: () => void): Promise<void> | undefined {
    if (!this.#isFull) return undefined;
    if (this.#uploading === 0) relieve?.();
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason as Error);
      const go = (): void => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      };
      const onAbort = (): void => {
        const at = this.#waiting.findIndex((each) => each.go === go);
        if (at >= 0) this.#waiting.splice(at, 1);
        reject(signal?.reason as Error);
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiting.push({ go, relieve });
    });
  }

  get #isFull(): boolean {
    const { writes, gated } = this.#shares;
    // What waits for its slice's commit is memory of writers, too, but does not stop them: they are to commit it.
    const used = this.#usedBufferBytes + Math.min(this.pool.lingeringBytes, writes / 2);
    return used >= writes || this.pool.busyBytes >= gated;
  }

  /** Less is busy than before. */
  #eased(): void {
    this.#memory.retry();
    this.#wake();
  }

  /** Looks every so often for clean blocks that nobody uses, while there are any. */
  #age(clock: Clock): void {
    this.#cancelAging ??= clock.timer(CLEAN_MS, () => {
      this.#cancelAging = undefined;
      this.#memory.age();
      if (this.#memory.blocks > 0) this.#age(clock);
    });
  }

  trim(): void {
    if (this.#disk) this.#memory.clear();
    this.pool.trim();
  }

  stats(): Readonly<Record<string, number>> {
    const { counters: reads } = this.#reader;
    const disk = this.#disk;
    return {
      blockcache_blocks: this.#memory.blocks + (disk?.blocks ?? 0),
      blockcache_bytes: this.#memory.bytes + (disk?.bytes ?? 0),
      blockcache_hits: reads.hits,
      blockcache_hit_bytes: reads.hitBytes,
      blockcache_miss: reads.misses,
      blockcache_miss_bytes: reads.missBytes,
      blockcache_writes: disk?.figures.writes ?? 0,
      blockcache_write_bytes: disk?.figures.writeBytes ?? 0,
      blockcache_drops: disk?.figures.drops ?? 0,
      blockcache_evicts: this.#memory.evictions + (disk?.figures.evicts ?? 0),
      blockcache_io_errors: disk?.figures.errors ?? 0,
      blockcache_corrupt: disk?.figures.corrupt ?? 0,
      blockcache_failing_dirs: disk?.failing ?? 0,
      used_buffer_size_bytes: this.#usedBufferBytes,
      used_read_buffer_size_bytes: this.#reader.readAheadBytes,
      store_cache_size_bytes: this.#memory.bytes,
      block_memory_bytes: this.pool.usedBytes + this.pool.freeBytes + this.pool.lentIdleBytes,
      dirty_bytes: this.#dirtyBytes,
      object_request_uploading: this.#uploads.running,
      ...this.#staging?.stats(),
    };
  }

  families(): readonly Family[] {
    const cache = {
      reads: this.#disk?.figures.readSeconds ?? cacheSeconds(),
      writes: this.#disk?.figures.writeSeconds ?? cacheSeconds(),
    };
    return chunkFamilies(this.stats(), cache);
  }

  async drain(signal: AbortSignal): Promise<StagedAmount> {
    return (await this.#staging?.drain(signal)) ?? { blocks: 0, bytes: 0 };
  }

  async close(): Promise<void> {
    while (this.#background.size > 0) await Promise.all(this.#background);
    await this.#reader.settled();
    await this.#staging?.close();
    await this.#disk?.close();
    this.#memory.filled = undefined;
    this.#cancelAging?.();
    this.#memory.clear();
    this.pool.trim();
  }

  async upload(id: number, index: number, block: Block, wanted: () => boolean, direct: boolean): Promise<void> {
    const number = this.geometry.number(id, index);
    this.#uploading++;
    try {
      if (this.#staging && !direct && wanted()) {
        // Before it is staged: then its upload finds it there.
        this.#memory.put(number, block);
        if (await this.#staging.stage(number, block)) return;
      }
      await this.#uploads.run(async () => {
        if (!wanted()) return;
        await this.#put(id, index, block);
        if (wanted()) this.#keep(number, block);
      });
    } finally {
      block.release();
      // When this one is counted no more.
      if (--this.#uploading === 0) setImmediate(() => this.#relieve());
    }
  }

  /** Asks for slices to be finished where writers wait and nothing else would let them go on. */
  #relieve(): void {
    if (this.#uploading === 0 && this.#waiting.length > 0 && this.#isFull) this.#waiting[0]?.relieve?.();
  }

  async #put(id: number, index: number, block: Block, signal?: AbortSignal): Promise<void> {
    const key = blockKey(id, index, block.length, this.#hashPrefix);
    if (!this.#codec) return this.#objects.put(key, block.data, signal);
    const stored = this.pool.adopt(await this.#codec.compress(block.data));
    try {
      signal?.throwIfAborted();
      await this.#objects.put(key, stored.data, signal);
    } finally {
      stored.release();
    }
  }

  /** Those of the cache's folders that have a staging folder, or get one. */
  #stagingFolders(folders: readonly string[]): readonly string[] {
    const { writeback, leftovers } = this.#options;
    return folders.filter((folder) => writeback !== undefined || (leftovers !== false && existsSync(join(folder, STAGING))));
  }

  /** `folders`: those with a staging folder. Undefined where nothing is staged, nor to be. */
  #stageTo(disks: DiskCaches, settings: DiskCacheSettings, folders: readonly string[]): StagingSet | undefined {
    const { clock = systemClock, logger = nullLogger, maxUploads = 20, writeback } = this.#options;
    const used = disks.disks.filter(({ folder }) => folders.includes(folder));
    if (used.length === 0) return undefined;
    const maxBytes = writeback ? (writeback.maxBytes ?? settings.maxBytes ?? 100 * 2 ** 30) : 0;
    const stagings = used.map(
      (disk) =>
        new Staging({
          root: disk.folder,
          geometry: this.geometry,
          hashPrefix: this.#hashPrefix,
          level: settings.checksum ?? 'extend',
          mode: settings.mode ?? 0o600,
          freeRatio: settings.freeRatio ?? 0.1,
          maxBytes: Math.floor(maxBytes / used.length),
          delayMs: writeback?.delayMs ?? 0,
          parallel: maxUploads,
          maxUploadBytes: this.#shares.staging / used.length,
          disk,
          pool: this.pool,
          inMemory: (number) => this.#memory.get(number),
          upload: (number, block, signal) =>
            this.#uploads.run(() => this.#put(this.geometry.id(number), this.geometry.index(number), block, signal)),
          stored: async (number, length, signal) => {
            const key = blockKey(this.geometry.id(number), this.geometry.index(number), length, this.#hashPrefix);
            return (await this.#objects.head(key, signal)) !== undefined;
          },
          clock,
          logger,
          files: writeback?.files ?? disk.files,
        }),
    );
    return new StagingSet(disks, stagings);
  }

  discard(id: number, size: number, after: Promise<unknown>): void {
    const running = after
      .then(() => this.remove({ id, size }))
      .catch((error: unknown) => {
        // The objects are garbage that `gc` finds; nothing refers to them.
        (this.#options.logger ?? nullLogger).warn('could not delete the blocks of a dropped slice', { id, error });
      })
      .finally(() => void this.#background.delete(running));
    this.#background.add(running);
  }

  account(bufferBytes: number, dataBytes: number): void {
    this.#usedBufferBytes += bufferBytes;
    this.#dirtyBytes += dataBytes;
    if (bufferBytes < 0) this.#wake();
  }

  /**
   * Lets one writer go on, then looks again: it has written by then, or will not, and in both cases the next one must not
   * be left waiting for an upload that nobody starts.
   */
  #wake(): void {
    if (this.#waiting.length === 0 || this.#isFull) return;
    this.#waiting.shift()?.go();
    if (this.#waiting.length > 0) setImmediate(() => this.#wake());
  }

  /** What was written is likely read soon: into memory, and onto the disk where the options say so. */
  #keep(number: number, block: Block): void {
    const disk = block.length < this.blockSize || this.#options.disk?.largeWrites ? this.#disk : undefined;
    // A short block in a buffer for a whole one takes more than it is worth where the disk has it, too: files of 1 MiB would each want new memory.
    if (!disk || block.length * 2 > block.capacity) this.#memory.put(number, block);
    disk?.write(number, block);
  }
}
