/**
 * Blocks in a local directory, laid out as JuiceFS lays out its cache, so that both can use one directory:
 * `<cache-dir>/<UUID>/raw/<block key>`, written as `….tmp` and renamed. Source: the JuiceFS format, "Local cache directory".
 *
 * The cache is never the reason that a read or write fails: what is missing, damaged or unreadable is a miss, what cannot be
 * written is dropped. Bounds: `maxBytes` (4 KiB counted per block besides its bytes), `maxItems`, the share of the disk
 * that stays free, the bytes of blocks waiting to be written, and the number of open files.
 */
import { rmdir, statfs, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Clock, systemClock } from '../lib/clock.ts';
import { messageOf } from '../lib/errors.ts';
import { type Logger, nullLogger } from '../lib/log.ts';
import { exponential, Histogram } from '../lib/metrics.ts';
import { type Random, systemRandom } from '../lib/random.ts';
import { writeBlock } from './block-file.ts';
import { CacheFile, type ChecksumLevel, CorruptCacheFile } from './cache-file.ts';
import { prepareCacheFolder, scanCache, STAGING } from './cache-folder.ts';
import { blockKey, type BlockGeometry } from './key.ts';
import { Limiter } from './limiter.ts';
import type { Block } from './pool.ts';
import { SampledIndex } from './sampled-index.ts';

export interface DiskCacheOptions {
  /** The cache directory; blocks go below its child named by the volume's UUID. */
  readonly folder: string;
  readonly uuid: string;
  readonly geometry: BlockGeometry;
  readonly hashPrefix: boolean;
  /** @default 100 GiB */
  readonly maxBytes?: number;
  /** Blocks at most; some 60 bytes of memory each. @default 500000 */
  readonly maxItems?: number;
  /** The share of the disk's space and inodes that stays free, 0 to 1. @default 0.1 */
  readonly freeRatio?: number;
  /** @default 'extend' */
  readonly checksum?: ChecksumLevel;
  /** Mode of the files; directories get search permission with it. @default 0o600 */
  readonly mode?: number;
  /** Bytes of blocks waiting to be written; more are not cached. @default 64 MiB */
  readonly maxPendingBytes?: number;
  /** Cached blocks kept open. @default 256 */
  readonly maxOpenFiles?: number;
  readonly clock?: Clock;
  readonly random?: Random;
  readonly logger?: Logger;
}

/** What a block costs besides its bytes, as JuiceFS counts it. */
const BLOCK_OVERHEAD = 4096;
const STATFS_INTERVAL_MS = 1000;
/** So many failures within a minute, and the disk is left alone for a minute. */
const MAX_FAILURES = 3;
const FAILURE_WINDOW_MS = 60_000;
/** After "no space" nothing is written for this long. */
const FULL_PAUSE_MS = 1000;

/** Of the time that blocks take to and from the cache directory, seconds. */
export const cacheSeconds = (): Histogram => new Histogram(exponential(0.00001, 2, 20));

export class DiskCache {
  readonly #root: string;
  readonly #geometry: BlockGeometry;
  readonly #hashPrefix: boolean;
  readonly #maxBytes: number;
  readonly #maxItems: number;
  readonly #freeRatio: number;
  readonly #level: ChecksumLevel;
  readonly #mode: number;
  readonly #maxPendingBytes: number;
  readonly #maxOpenFiles: number;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #index: SampledIndex;
  /** Least recently used first. */
  readonly #open = new Map<number, CacheFile>();
  readonly #writers = new Limiter(2);
  readonly #background = new Set<Promise<void>>();
  readonly #pending = new Map<number, Block>();
  readonly #writing = new Map<number, Promise<void>>();
  /** Length of blocks that lie in the staging folder (staging.ts): read from there, and neither counted nor dropped here. */
  readonly #staged = new Map<number, number>();
  /** Removed before the scan was done: their files may still be there for a moment, and are not to be found. */
  readonly #removed = new Set<number>();
  readonly #closed = new AbortController();
  #ready: Promise<void> = Promise.resolve();
  #room: Promise<boolean> = Promise.resolve(true);
  #usedBytes = 0;
  #pendingBytes = 0;
  #scanned = false;
  #pausedUntil = -Infinity;
  #failures: number[] = [];
  #lastStatfs = -Infinity;
  readonly counters = { writes: 0, writeBytes: 0, drops: 0, evicts: 0, errors: 0, corrupt: 0 };
  /** How long blocks took to be read from the disk (or from the page cache of the kernel), and to be written; seconds. */
  readonly readSeconds = cacheSeconds();
  readonly writeSeconds = cacheSeconds();

  constructor(options: DiskCacheOptions) {
    this.#root = join(options.folder, options.uuid);
    this.#geometry = options.geometry;
    this.#hashPrefix = options.hashPrefix;
    this.#maxBytes = options.maxBytes ?? 100 * 2 ** 30;
    this.#maxItems = options.maxItems ?? 500_000;
    this.#freeRatio = options.freeRatio ?? 0.1;
    this.#level = options.checksum ?? 'extend';
    this.#mode = options.mode ?? 0o600;
    this.#maxPendingBytes = options.maxPendingBytes ?? 64 * 1024 * 1024;
    this.#maxOpenFiles = options.maxOpenFiles ?? 256;
    this.#clock = options.clock ?? systemClock;
    this.#logger = options.logger ?? nullLogger;
    this.#index = new SampledIndex(options.random ?? systemRandom);
  }

  get blocks(): number {
    return this.#index.count;
  }

  /** Bytes on the disk, as counted. */
  get bytes(): number {
    return this.#usedBytes;
  }

  get pendingBytes(): number {
    return this.#pendingBytes;
  }

  /** Makes the directory and begins to look for what it holds; blocks are found meanwhile too. Never fails. */
  start(): void {
    this.#ready = prepareCacheFolder(this.#root, this.#mode);
    void this.#inBackground(async () => {
      try {
        await this.#ready;
        await scanCache(join(this.#root, 'raw'), this.#clock, this.#closed.signal, ({ id, index, length }) => {
          if (index >= this.#geometry.blocksPerSlice || length > this.#geometry.blockSize) return;
          const number = this.#geometry.number(id, index);
          if (this.#size(number) === undefined && !this.#removed.has(number)) this.#add(number, length, false);
        });
        this.#scanned = true;
        this.#removed.clear();
        await this.#evict();
      } catch (error) {
        this.#failed('read the cache directory', error);
        this.#scanned = true;
      }
    });
  }

  /** True where the block is likely there. */
  has(number: number): boolean {
    return this.#size(number) !== undefined || this.#pending.has(number);
  }

  /** Fills `target` from `offset` of a block of `length` bytes if that needs no waiting. */
  readSync(number: number, length: number, offset: number, target: Buffer): boolean {
    let file = this.#open.get(number);
    if (file) {
      if (this.#open.size > this.#maxOpenFiles / 2) {
        this.#open.delete(number);
        this.#open.set(number, file);
      }
    } else {
      if (this.#size(number) !== length) return this.#readPending(number, length, offset, target);
    }
    try {
      if (!file) {
        file = CacheFile.openSync(this.#path(number, length), length, this.#level);
        if (!file) return false;
        this.#keepOpen(number, file);
      }
      const begin = this.#clock.monotonic();
      if (file.length !== length || !file.readSync(offset, target)) return false;
      this.readSeconds.observe((this.#clock.monotonic() - begin) / 1000);
      this.#index.touch(number);
      return true;
    } catch (error) {
      this.#unreadable(number, length, error);
      return false;
    }
  }

  /** Fills `target` as `readSync` does, waiting for the disk. False where the block is not there or not sound. */
  async read(number: number, length: number, offset: number, target: Buffer): Promise<boolean> {
    const size = this.#size(number);
    if (size !== undefined ? size !== length : this.#scanned || this.#removed.has(number))
      return this.#readPending(number, length, offset, target);
    const begin = this.#clock.monotonic();
    try {
      let file = this.#open.get(number);
      if (!file) {
        file = await CacheFile.open(this.#path(number, length), length, this.#level);
        const other = this.#open.get(number);
        if (other) {
          file.close();
          file = other;
        } else this.#keepOpen(number, file);
        if (this.#size(number) === undefined) this.#add(number, length, true);
      }
      await file.read(offset, target);
      this.readSeconds.observe((this.#clock.monotonic() - begin) / 1000);
      this.#index.touch(number);
      return true;
    } catch (error) {
      this.#unreadable(number, length, error);
      return false;
    }
  }

  /** Writes the block in the background; drops it where the disk is full, broken or slow. Holds the block meanwhile. */
  write(number: number, block: Block): void {
    if (this.has(number) || this.#closed.signal.aborted) return;
    if (this.#clock.monotonic() < this.#pausedUntil || this.#pendingBytes + block.length > this.#maxPendingBytes) {
      this.counters.drops++;
      return;
    }
    this.#pending.set(number, block.retain());
    this.#pendingBytes += block.length;
    const writing = this.#inBackground(() =>
      this.#writers.run(async () => {
        try {
          if (this.#pending.get(number) === block) await this.#store(number, block);
        } catch (error) {
          this.counters.drops++;
          this.#failed('write to the cache directory', error);
        } finally {
          if (this.#pending.get(number) === block) this.#pending.delete(number);
          this.#pendingBytes -= block.length;
          block.release();
        }
      }),
    );
    this.#writing.set(number, writing);
    void writing.then(() => this.#writing.get(number) === writing && this.#writing.delete(number));
  }

  /** Writes the block and waits until it is there, first for room among those to be written. False where it could not be kept. */
  async keep(number: number, block: Block): Promise<boolean> {
    while (this.#writing.size > 0 && !this.has(number) && this.#pendingBytes + block.length > this.#maxPendingBytes)
      await Promise.race(this.#writing.values());
    this.write(number, block);
    return this.holds(number);
  }

  /** Whether the block lies there, once what is being written of it is. */
  async holds(number: number): Promise<boolean> {
    await this.#writing.get(number);
    return this.#size(number) !== undefined;
  }

  /** Where the block lies; undefined where it does not. */
  locate(number: number): string | undefined {
    return this.has(number) ? this.#root : undefined;
  }

  /** Drops the block of `length` bytes, unless it is the only copy there is. */
  evict(number: number, length: number): void {
    if (!this.#staged.has(number)) this.remove(number, length);
  }

  /** Forgets the block of `length` bytes and deletes its file. */
  remove(number: number, length: number): void {
    this.#pending.delete(number);
    if (!this.#scanned) this.#removed.add(number);
    if (!this.#scanned || this.#index.size(number) !== undefined) this.#drop(number, length);
  }

  /** The block lies in the staging folder from now on. */
  stage(number: number, length: number): void {
    this.#forget(number, length);
    this.#staged.set(number, length);
  }

  /** The block has left the staging folder; with `cached` its file is an ordinary cached block. */
  unstage(number: number, length: number, cached: boolean): void {
    if (!this.#staged.delete(number)) return;
    if (!cached) return void this.#forget(number, length);
    this.#add(number, length, true);
    void this.#inBackground(() => this.#evict());
  }

  /** Resolves when the directory has been made; rejects where it cannot be. */
  get ready(): Promise<void> {
    return this.#ready;
  }

  /** Resolves when nothing is being written, read or scanned. */
  async settled(): Promise<void> {
    while (this.#background.size > 0) await Promise.all(this.#background);
  }

  async close(): Promise<void> {
    this.#closed.abort();
    await this.settled();
    for (const file of this.#open.values()) file.close();
    this.#open.clear();
  }

  #size(number: number): number | undefined {
    return this.#index.size(number) ?? (this.#staged.size > 0 ? this.#staged.get(number) : undefined);
  }

  #readPending(number: number, length: number, offset: number, target: Buffer): boolean {
    const block = this.#pending.get(number);
    if (block?.length !== length) return false;
    block.buffer.copy(target, 0, offset, offset + target.length);
    return true;
  }

  async #store(number: number, block: Block): Promise<void> {
    await this.#ready;
    if (!(await this.#hasRoom())) {
      this.counters.drops++;
      return;
    }
    const path = this.#path(number, block.length);
    const begin = this.#clock.monotonic();
    await writeBlock(path, block, { level: this.#level, mode: this.#mode });
    this.writeSeconds.observe((this.#clock.monotonic() - begin) / 1000);
    // Removed while it was written: the slice is gone, so is its block.
    if (this.#pending.get(number) !== block) return void (await unlink(path).catch(() => undefined));
    this.#add(number, block.length, true);
    this.counters.writes++;
    this.counters.writeBytes += block.length;
    await this.#evict();
  }

  /** Looks at the disk now and then; makes room, and says whether there is some. */
  #hasRoom(): Promise<boolean> {
    const now = this.#clock.monotonic();
    if (now - this.#lastStatfs >= STATFS_INTERVAL_MS) {
      this.#lastStatfs = now;
      this.#room = this.#lookForRoom(now);
    }
    return this.#room.then((room) => room && this.#clock.monotonic() >= this.#pausedUntil);
  }

  async #lookForRoom(now: number): Promise<boolean> {
    const info = await statfs(this.#root);
    const missing = Math.ceil(this.#freeRatio * info.blocks - info.bavail) * info.bsize;
    const inodesLow = info.files > 0 && info.ffree / info.files < this.#freeRatio;
    if (missing <= 0 && !inodesLow) return true;
    this.#pausedUntil = now + FULL_PAUSE_MS;
    const items = inodesLow ? Math.ceil(this.#index.count / 100) : 0;
    await this.#evict(Math.max(missing, 0) + this.#geometry.blockSize, items);
    return false;
  }

  /** Drops blocks until the bounds are kept and, besides, so many bytes or blocks are freed. */
  async #evict(bytes = 0, items = 0): Promise<void> {
    const before = { bytes: this.#usedBytes, items: this.#index.count };
    while (
      this.#usedBytes > this.#maxBytes ||
      this.#index.count > this.#maxItems ||
      before.bytes - this.#usedBytes < bytes ||
      before.items - this.#index.count < items
    ) {
      const victim = this.#index.victim();
      if (victim === undefined) return;
      const path = this.#forget(victim, this.#index.size(victim) ?? 0);
      this.counters.evicts++;
      await unlink(path).catch(() => undefined);
    }
  }

  #add(number: number, length: number, fresh: boolean): void {
    const before = this.#index.size(number);
    if (before !== undefined) this.#usedBytes -= before + BLOCK_OVERHEAD;
    this.#index.add(number, length, fresh);
    this.#usedBytes += length + BLOCK_OVERHEAD;
  }

  #forget(number: number, length: number): string {
    const file = this.#open.get(number);
    if (file) {
      this.#open.delete(number);
      file.close();
    }
    if (this.#index.delete(number)) this.#usedBytes -= length + BLOCK_OVERHEAD;
    return this.#path(number, length);
  }

  #drop(number: number, length: number): void {
    const path = this.#forget(number, length);
    void this.#inBackground(async () => {
      await unlink(path).catch(() => undefined);
      // Empty folders of deleted slices do not pile up; a folder in use refuses.
      await rmdir(dirname(path)).catch(() => undefined);
    });
  }

  #unreadable(number: number, length: number, error: unknown): void {
    if (error instanceof CorruptCacheFile) {
      this.counters.corrupt++;
      this.#logger.warn('a cached block is damaged and is not used', { path: this.#path(number, length), reason: error.message });
    } else if ((error as NodeJS.ErrnoException).code !== 'ENOENT') this.#failed('read the cache directory', error);
    else if (this.#size(number) === undefined) return;
    // The only copy there is stays where it is.
    if (this.#staged.has(number)) this.#forget(number, length);
    else this.#drop(number, length);
  }

  #keepOpen(number: number, file: CacheFile): void {
    this.#open.set(number, file);
    if (this.#open.size <= this.#maxOpenFiles) return;
    const [oldest] = this.#open;
    if (!oldest) return;
    this.#open.delete(oldest[0]);
    oldest[1].close();
  }

  #failed(what: string, error: unknown): void {
    this.counters.errors++;
    const now = this.#clock.monotonic();
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOSPC' || code === 'EDQUOT') {
      this.#pausedUntil = now + FULL_PAUSE_MS;
      void this.#inBackground(() => this.#evict(2 * this.#geometry.blockSize));
      return;
    }
    this.#failures = [...this.#failures.filter((at) => now - at < FAILURE_WINDOW_MS), now];
    if (this.#failures.length < MAX_FAILURES) return;
    this.#failures = [];
    this.#pausedUntil = now + FAILURE_WINDOW_MS;
    this.#logger.warn(`could not ${what}; nothing is cached there for a minute`, {
      folder: this.#root,
      reason: messageOf(error),
    });
  }

  #path(number: number, length: number): string {
    const folder = this.#staged.size > 0 && this.#staged.has(number) ? STAGING : 'raw';
    return `${this.#root}/${folder}/${blockKey(this.#geometry.id(number), this.#geometry.index(number), length, this.#hashPrefix)}`;
  }

  #inBackground(action: () => Promise<void>): Promise<void> {
    const running = action().catch((error: unknown) => this.#failed('tend the cache directory', error));
    this.#background.add(running);
    void running.finally(() => this.#background.delete(running));
    return running;
  }
}
