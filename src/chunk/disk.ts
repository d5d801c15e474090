/**
 * Blocks in one local directory, laid out as JuiceFS lays out its cache, so that both can use one directory:
 * `<cache-dir>/<UUID>/raw/<block key>`, written as `….tmp` and renamed. Source: the JuiceFS format, "Local cache directory".
 *
 * The cache is never the reason that a read or write fails: what is missing, damaged or unreadable is a miss, what cannot be
 * written is dropped, and a directory that keeps failing, or does not answer in time (bounded-files.ts), is left alone for a while
 * (cache-health.ts). Bounds: `maxBytes` (4 KiB counted per
 * block besides its bytes), `maxItems`, the share of the disk that stays free, the bytes of blocks waiting to be written, and the
 * number of open files.
 */
import { dirname } from 'node:path';
import type { Clock } from '../lib/clock.ts';
import { messageOf } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import type { Random } from '../lib/random.ts';
import { writeBlock } from './block-file.ts';
import { BoundedFiles, type Lanes } from './bounded-files.ts';
import { CacheFile, type ChecksumLevel, CorruptCacheFile } from './cache-file.ts';
import { STAGING } from './cache-folder.ts';
import { CacheHealth, type DiskState } from './cache-health.ts';
import { CacheIndex, type Eviction } from './cache-index.ts';
import { CachePresence } from './cache-presence.ts';
import { CacheUpkeep } from './cache-upkeep.ts';
import type { DiskFigures } from './disk-figures.ts';
import type { BlockFiles, Space } from './disk-files.ts';
import type { FreeSpace, FreeSpaces, SpaceUser } from './free-space.ts';
import { blockKey, type BlockGeometry } from './key.ts';
import { OpenFiles } from './open-files.ts';
import { PendingBlocks } from './pending-blocks.ts';
import type { Block } from './pool.ts';

/** What a directory does, whatever its place among others. */
export interface DiskCacheOptions {
  /** `<cache-dir>/<UUID>`. */
  readonly root: string;
  readonly geometry: BlockGeometry;
  readonly hashPrefix: boolean;
  readonly maxBytes: number;
  /** Blocks at most; 0: what the disk has inodes for, 5 million at most. */
  readonly maxItems: number;
  /** The share of the disk's space and inodes that stays free, 0 to 1. */
  readonly freeRatio: number;
  readonly eviction: Eviction;
  /** Blocks that are not used for so long are dropped, milliseconds; 0: never. */
  readonly expireMs: number;
  /** Between two looks at what others have put there or taken away, milliseconds; 0: never. */
  readonly scanIntervalMs: number;
  readonly checksum: ChecksumLevel;
  /** Mode of the files; directories get search permission with it. */
  readonly mode: number;
  /** Bytes of blocks waiting to be written; more are not cached. */
  readonly maxPendingBytes: number;
  /** Cached blocks kept open. */
  readonly maxOpenFiles: number;
  /** How long a read of the disk may take, milliseconds (bounded-files.ts), and what may be under way at a time. */
  readonly waitMs: number;
  readonly lanes: Lanes;
  readonly spaces: FreeSpaces;
  readonly figures: DiskFigures;
  /** Called when the directory can be used, or no longer. */
  readonly onState: () => void;
  readonly files: BlockFiles;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** What a block costs besides its bytes, as JuiceFS counts it. */
const BLOCK_OVERHEAD = 4096;
/** --cache-items 0: some 37 bytes of memory each (47 with lru). */
const MOST_ITEMS = 5_000_000;
/** Found beyond the bound before room is made. */
const FOUND_BEYOND = 1000;
/** Whether the directory is still there is looked at so often, milliseconds. */
const LOCK_INTERVAL_MS = 1000;
/** After "no space" nothing is written for this long. */
const FULL_PAUSE_MS = 1000;

export class DiskCache implements SpaceUser {
  readonly #options: DiskCacheOptions;
  readonly #root: string;
  /** The directory's files: what hangs fails. */
  readonly files: BoundedFiles;
  readonly #figures: DiskFigures;
  readonly #index: CacheIndex;
  readonly #open: OpenFiles;
  readonly #health: CacheHealth;
  readonly #background = new Set<Promise<void>>();
  readonly #pending: PendingBlocks;
  /** Length of blocks that lie in the staging folder (staging.ts): read from there, and neither counted nor dropped here. */
  readonly #staged = new Map<number, number>();
  /** Removed before the scan was done: their files may still be there for a moment, and are not to be found. */
  readonly #removed = new Set<number>();
  readonly #presence: CachePresence;
  readonly #upkeep: CacheUpkeep;
  #ready: Promise<void> = Promise.resolve();
  #space: FreeSpace | undefined;
  #leaveSpace: () => void = () => {};
  #maxItems: number;
  #usedBytes = 0;
  #scanned = false;
  #closed = false;
  #lookedAt = -Infinity;
  #looking: Promise<void> = Promise.resolve();
  #pausedUntil = -Infinity;

  constructor(options: DiskCacheOptions) {
    const files = new BoundedFiles({
      ...options,
      onHang: (reason) => {
        this.#figures.errors++;
        this.#health.leave('down', reason);
      },
    });
    this.#options = { ...options, files };
    this.files = files;
    this.#root = options.root;
    this.#figures = options.figures;
    this.#maxItems = options.maxItems;
    this.#index = new CacheIndex(options);
    this.#open = new OpenFiles(options.maxOpenFiles);
    this.#pending = new PendingBlocks({
      maxBytes: options.maxPendingBytes,
      store: (number, block, wanted) => this.#store(number, block, wanted),
      failed: (error) => {
        this.#figures.drops++;
        this.#failed('write', error);
      },
    });
    this.#health = new CacheHealth({
      ...options,
      folder: this.#root,
      probe: async () => {
        await this.#presence.probe();
        await this.#settle();
      },
      onChange: (state) => {
        if (state === 'down') this.#open.closeAll();
        if (state === 'up') void this.#upkeep.scan();
        options.onState();
      },
    });
    this.#presence = new CachePresence(this.#root, options.mode, files);
    this.#upkeep = new CacheUpkeep({
      ...options,
      files,
      index: this.#index,
      wanted: (number, length) =>
        !this.#staged.has(number) && (this.#scanned || !this.#removed.has(number)) && this.#mayGrow(length),
      found: (number, length, usedAt) => {
        this.#add(number, length, usedAt);
        return this.#index.count > this.#maxItems + FOUND_BEYOND ? this.#evict() : undefined;
      },
      gone: (number) => this.#forget(number),
      expired: (number) => this.#unlink(number),
      failed: (error) => this.#failed('read', error),
    });
  }

  get folder(): string {
    return this.#root;
  }

  get blocks(): number {
    return this.#index.count;
  }

  /** Bytes on the disk, as counted. */
  get bytes(): number {
    return this.#usedBytes;
  }

  get pendingBytes(): number {
    return this.#pending.bytes;
  }

  get state(): DiskState {
    return this.#health.state;
  }

  /** What its `.lock` says; undefined before `ready`, and where that could not be read. */
  get id(): string | undefined {
    return this.#presence.id;
  }

  /** Resolves when the directory has been made, or could not be. Never rejects. */
  get ready(): Promise<void> {
    return this.#ready;
  }

  /** Makes the directory and begins to look for what it holds; blocks are found meanwhile too. Never fails. */
  start(): void {
    this.#ready = this.#prepare();
    void this.#inBackground('read', async () => {
      await this.#ready;
      await this.#upkeep.scan();
      this.#scanned = true;
      this.#removed.clear();
      await this.#evict();
    });
  }

  /** True where the block is likely there. */
  has(number: number): boolean {
    return this.#size(number) !== undefined || this.#pending.has(number);
  }

  /** Fills `target` from `offset` of a block of `length` bytes if that needs no waiting. */
  readSync(number: number, length: number, offset: number, target: Buffer): boolean {
    let file = this.#open.get(number);
    if (!file && this.#size(number) !== length) return this.#pending.read(number, length, offset, target);
    const { checksum, files, clock } = this.#options;
    try {
      if (!file) {
        file = CacheFile.openSync(this.#path(number, length), length, checksum, files);
        if (!file) return false;
        this.#open.keep(number, file);
      }
      const begin = clock.monotonic();
      if (file.length !== length || !file.readSync(offset, target)) return false;
      this.#figures.readSeconds.observe((clock.monotonic() - begin) / 1000);
      this.#index.touch(number);
      return true;
    } catch (error) {
      this.#unreadable(number, length, error);
      return false;
    }
  }

  /**
   * Fills `target` as `readSync` does, waiting for the disk. False where the block is not there or not sound; with `own` the target's memory must
   * not be used again then, by anybody. Never rejects.
   */
  async read(number: number, length: number, offset: number, target: Buffer, own = false): Promise<boolean> {
    const size = this.#size(number);
    if (size !== undefined ? size !== length : this.#scanned || this.state === 'down' || this.#removed.has(number))
      return this.#pending.read(number, length, offset, target);
    const { checksum, files, clock } = this.#options;
    const begin = clock.monotonic();
    try {
      let file = this.#open.get(number);
      if (!file) {
        file = this.#open.keep(number, await CacheFile.open(this.#path(number, length), length, checksum, files));
        if (this.#size(number) === undefined) this.#add(number, length);
      }
      await file.read(offset, target, own);
      this.#figures.readSeconds.observe((clock.monotonic() - begin) / 1000);
      this.#index.touch(number);
      return true;
    } catch (error) {
      this.#unreadable(number, length, error);
      return false;
    }
  }

  /** Writes the block in the background; drops it where the disk is full, broken or slow. Holds the block meanwhile. */
  write(number: number, block: Block): void {
    if (this.has(number) || this.#closed) return;
    const paused = this.#options.clock.monotonic() < this.#pausedUntil;
    if (this.state === 'up' && !paused && this.#pending.fits(block.length) && this.#mayGrow(block.length))
      this.#pending.add(number, block);
    else this.#figures.drops++;
  }

  /** Writes the block and waits until it is there, first for room among those to be written. False where it could not be kept. */
  async keep(number: number, block: Block): Promise<boolean> {
    while (this.#pending.bytes > 0 && !this.has(number) && !this.#pending.fits(block.length)) await this.#pending.oneWritten();
    this.write(number, block);
    return this.holds(number);
  }

  /** Whether the block lies there, once what is being written of it is. */
  async holds(number: number): Promise<boolean> {
    await this.#pending.written(number);
    return this.#size(number) !== undefined;
  }

  /** Drops the block of `length` bytes, unless it is the only copy there is. */
  evict(number: number, length: number): void {
    if (!this.#staged.has(number)) this.remove(number, length);
  }

  /** Forgets the block of `length` bytes and deletes its file. */
  remove(number: number, length: number): void {
    this.#pending.drop(number);
    if (!this.#scanned) this.#removed.add(number);
    if (!this.#scanned || this.#index.size(number) !== undefined) this.#drop(number, length);
  }

  /** The block lies in the staging folder from now on. A cached file of it would be counted no longer, so it goes. */
  stage(number: number, length: number): void {
    if (this.#index.size(number) !== undefined) this.#drop(number, length);
    this.#staged.set(number, length);
  }

  /** The block has left the staging folder; with `cached` its file is an ordinary cached block. */
  unstage(number: number, length: number, cached: boolean): void {
    if (!this.#staged.delete(number)) return;
    if (!cached || !this.#mayGrow(length)) return void this.#forget(number);
    this.#add(number, length);
    void this.#inBackground('write', () => this.#evict());
  }

  /** For the guard of the disk's free space. */
  space(): Promise<Space> {
    return this.files.space(this.#root);
  }

  /** The same. */
  async free(bytes: number, files: number): Promise<void> {
    const enough = { bytes: this.#usedBytes - bytes, blocks: this.#index.count - files };
    await this.#evict(() => this.#usedBytes <= enough.bytes && this.#index.count <= enough.blocks);
  }

  /** Resolves when nothing is being written, read or scanned. */
  async settled(): Promise<void> {
    await this.#pending.settled();
    while (this.#background.size > 0) await Promise.all(this.#background);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#health.close();
    this.#leaveSpace();
    await this.#upkeep.close();
    await this.settled();
    this.#open.closeAll();
  }

  async #prepare(): Promise<void> {
    try {
      await this.#presence.prepare();
      await this.#settle();
    } catch (error) {
      this.#figures.errors++;
      this.#health.leave('read', messageOf(error));
    }
    this.#options.onState();
  }

  /** The directory is there: what its disk says of it counts. */
  async #settle(): Promise<void> {
    const { spaces, files, maxItems, freeRatio } = this.#options;
    const { device } = this.#presence;
    if (device === undefined) return;
    if (maxItems === 0) {
      const { files: inodes } = await files.space(this.#root);
      this.#maxItems = inodes > 0 ? Math.min(MOST_ITEMS, Math.floor((1 - freeRatio) * inodes)) : MOST_ITEMS;
    }
    this.#leaveSpace();
    this.#space = spaces.of(device);
    if (!this.#closed) this.#leaveSpace = this.#space.join(this);
  }

  /** Looks whether the directory is still there, once a second at most. */
  #look(): Promise<void> {
    const now = this.#options.clock.monotonic();
    if (now - this.#lookedAt >= LOCK_INTERVAL_MS && this.state !== 'down') {
      this.#lookedAt = now;
      this.#looking = this.#lookForFolder();
    }
    return this.#looking;
  }

  async #lookForFolder(): Promise<void> {
    const found = await this.#presence.look();
    if (found === 'here') return;
    this.#open.closeAll();
    this.#index.clear();
    this.#usedBytes = 0;
    if (found === 'unmounted') return this.#health.leave('down', 'its disk is not mounted any more');
    this.#options.logger.warn('a cache directory was removed, and is made anew', { folder: this.#root });
    await this.#prepare();
    void this.#upkeep.scan();
  }

  #size(number: number): number | undefined {
    const staged = this.#staged.size > 0 ? this.#staged.get(number) : undefined;
    return staged ?? (this.state === 'down' ? undefined : this.#index.size(number));
  }

  async #store(number: number, block: Block, wanted: () => boolean): Promise<void> {
    await this.#ready;
    const { clock, checksum, mode, files } = this.#options;
    if (!(await this.#hasRoom()) || !this.#mayGrow(block.length)) {
      this.#figures.drops++;
      return;
    }
    const path = this.#path(number, block.length);
    const begin = clock.monotonic();
    await writeBlock(path, block, { root: this.#root, level: checksum, mode, files });
    this.#figures.writeSeconds.observe((clock.monotonic() - begin) / 1000);
    // Removed while it was written: the slice is gone, so is its block.
    if (!wanted()) return void (await files.unlink(path).catch(() => undefined));
    this.#add(number, block.length);
    this.#figures.writes++;
    this.#figures.writeBytes += block.length;
    await this.#evict();
  }

  async #hasRoom(): Promise<boolean> {
    await this.#look();
    const { clock } = this.#options;
    return (
      this.state === 'up' &&
      (this.#space === undefined || (await this.#space.hasRoom(this))) &&
      clock.monotonic() >= this.#pausedUntil
    );
  }

  /** With `none` nothing makes room for others. */
  #mayGrow(length: number): boolean {
    if (this.#options.eviction !== 'none') return true;
    return this.#usedBytes + length + BLOCK_OVERHEAD <= this.#options.maxBytes && this.#index.count < this.#maxItems;
  }

  /** Drops blocks until the bounds are kept and, besides, enough is done. */
  async #evict(enough: () => boolean = () => true): Promise<void> {
    while (this.#usedBytes > this.#options.maxBytes || this.#index.count > this.#maxItems || !enough()) {
      const victim = this.#index.victim();
      if (victim === undefined) return;
      await this.#unlink(victim);
    }
  }

  /** Drops a block that makes room. */
  async #unlink(number: number): Promise<void> {
    const path = this.#path(number, this.#index.size(number) ?? 0);
    this.#forget(number);
    this.#figures.evicts++;
    await this.#options.files.unlink(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') this.#failed('write', error);
    });
  }

  #add(number: number, length: number, usedAt?: number): void {
    const before = this.#index.size(number);
    if (before !== undefined) this.#usedBytes -= before + BLOCK_OVERHEAD;
    this.#index.add(number, length, usedAt);
    this.#usedBytes += length + BLOCK_OVERHEAD;
  }

  #forget(number: number): void {
    this.#open.close(number);
    const length = this.#index.size(number);
    if (length === undefined) return;
    this.#index.delete(number);
    this.#usedBytes -= length + BLOCK_OVERHEAD;
  }

  #drop(number: number, length: number): void {
    const path = this.#path(number, length);
    const { files } = this.#options;
    this.#forget(number);
    void this.#inBackground('write', async () => {
      await files.unlink(path).catch(() => undefined);
      // Empty folders of deleted slices do not pile up; a folder in use refuses.
      await files.rmdir(dirname(path)).catch(() => undefined);
    });
  }

  #unreadable(number: number, length: number, error: unknown): void {
    if (error instanceof CorruptCacheFile) {
      this.#figures.corrupt++;
      const path = this.#path(number, length);
      this.#options.logger.warn('a cached block is damaged and is not used', { path, reason: error.message });
    } else if ((error as NodeJS.ErrnoException).code !== 'ENOENT') this.#failed('read', error);
    else if (this.#size(number) === undefined) return;
    else void this.#inBackground('read', () => this.#look());
    // The only copy there is stays where it is.
    if (this.#staged.has(number)) this.#forget(number);
    else this.#drop(number, length);
  }

  #failed(kind: 'read' | 'write', error: unknown): void {
    this.#figures.errors++;
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOSPC' && code !== 'EDQUOT') return this.#health.failed(kind, error);
    this.#pausedUntil = this.#options.clock.monotonic() + FULL_PAUSE_MS;
    void this.#inBackground('write', () => this.free(2 * this.#options.geometry.blockSize, 0));
  }

  #path(number: number, length: number): string {
    const { geometry, hashPrefix } = this.#options;
    const folder = this.#staged.size > 0 && this.#staged.has(number) ? STAGING : 'raw';
    return `${this.#root}/${folder}/${blockKey(geometry.id(number), geometry.index(number), length, hashPrefix)}`;
  }

  #inBackground(kind: 'read' | 'write', action: () => Promise<void>): Promise<void> {
    const running = action().catch((error: unknown) => this.#failed(kind, error));
    this.#background.add(running);
    void running.finally(() => this.#background.delete(running));
    return running;
  }
}
