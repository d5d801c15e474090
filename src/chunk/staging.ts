/**
 * Write-back: blocks are written to `<cache-dir>/<UUID>/rawstaging/<block key>` first and uploaded behind the writer's back, by
 * this client or, after its death, by the next one over the same folder, ours or the official one. Source: the JuiceFS format,
 * "Local cache directory" and "Writeback"; pkg/chunk/disk_cache.go (stage, scanStaging).
 *
 * A block's life: written as `….tmp`, renamed, given a second name in `raw`; then its slice may be committed. Then uploaded; then
 * the name in `rawstaging` goes, and what is left is a cached block. A crash at any point leaves the block staged, or uploaded
 * and staged, which is uploaded again with the same bytes. A staged file is deleted only when it is uploaded or its slice is removed.
 *
 * A block that cannot be staged (no room, a disk that fails or hangs, more than `maxBytes` staged) is uploaded directly: `stage`
 * says false. Bounds: `maxBytes` on the disk, `parallel` uploads of `maxUploadBytes`, 16 files being written, one record in memory for each block.
 */
import { join } from 'node:path';
import type { Clock } from '../lib/clock.ts';
import { messageOf } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import { CorruptCacheFile } from './cache-file.ts';
import { LOCK } from './cache-folder.ts';
import type { DiskCache } from './disk.ts';
import { Limiter } from './limiter.ts';
import type { Block } from './pool.ts';
import { StagingFolder, type StagingFolderOptions } from './staging-folder.ts';
import { StagingGuard } from './staging-guard.ts';

export interface StagingOptions extends StagingFolderOptions {
  /** The part of the disk that stays free; below it uploads do not wait for `delayMs`, below half of it nothing is staged. */
  readonly freeRatio: number;
  /** Bytes staged at most; 0: nothing is staged, only what earlier clients have left is uploaded. */
  readonly maxBytes: number;
  /** How long a block stays before it is uploaded, milliseconds. */
  readonly delayMs: number;
  /** Uploads of staged blocks at a time. */
  readonly parallel: number;
  /** Bytes of blocks in memory while they are uploaded; a lone one is always uploaded. */
  readonly maxUploadBytes: number;
  /** Serves what is staged, and what was. */
  readonly disk: DiskCache;
  /** The block, where it is in memory; not retained. */
  readonly inMemory: (number: number) => Block | undefined;
  /** Makes the object; the block stays the caller's. Rejects when it could not, or when the signal aborts. */
  readonly upload: (number: number, block: Block, signal: AbortSignal) => Promise<void>;
  /** Whether there is an object of a block of this length. Rejects when that cannot be found out. */
  readonly stored: (number: number, length: number, signal: AbortSignal) => Promise<boolean>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What is staged. */
export interface StagedAmount {
  readonly blocks: number;
  readonly bytes: number;
}

interface Staged {
  readonly number: number;
  readonly length: number;
  /** When it was staged, wall clock, milliseconds. */
  readonly since: number;
  /** Not uploaded before this, monotonic milliseconds: its file could not be read. */
  notBefore: number;
  /** No upload was ever begun: there is no object. */
  untouched: boolean;
  /** Its slice is gone. */
  removed: boolean;
  /** The upload that is under way. */
  work: Promise<void> | undefined;
}

const MOST_WRITES = 16;
/** A file that is not written in this time is given up, and uploaded directly; JuiceFS's --put-timeout. */
const WRITE_TIMEOUT_MS = 60_000;
/** What a block takes on the disk besides its bytes, as JuiceFS counts it. */
const BLOCK_OVERHEAD = 4096;
/** Blocks staged by this client; some 200 bytes of memory each. */
const MOST_BLOCKS = 200_000;
/** Pauses of all uploads after one that failed for good (each has been tried several times already). */
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 60_000;
/** The same where somebody waits for the end. */
const LONGEST_DRAIN_PAUSE_MS = 2000;
/** Of blocks that cannot be read so many are named one by one. */
const TOLD_EACH = 10;
/** Uploads begin early when so much of `maxBytes` is staged. */
const PRESSED = 0.9;

export class Staging {
  readonly #options: StagingOptions;
  readonly #folder: StagingFolder;
  readonly #guard: StagingGuard;
  readonly #blocks = new Map<number, Staged>();
  /** Those without an upload under way, oldest first. */
  #waiting: Set<Staged> = new Set<Staged>();
  readonly #writers = new Limiter(MOST_WRITES);
  /** Files being written, blocks being uploaded. */
  readonly #works = new Set<Promise<unknown>>();
  readonly #closed = new AbortController();
  /** Removed before it was known what is staged. */
  readonly #removedEarly = new Set<number>();
  readonly #changed = new Set<() => void>();
  /** Those whose files could not be read when it was tried last. */
  readonly #unreadable = new Set<Staged>();
  #lost = 0;
  #quietUntil = -Infinity;
  #scanned = false;
  #bytes = 0;
  /** Of files that are being written, or are to be. */
  #writing = { blocks: 0, bytes: 0 };
  #running = { blocks: 0, bytes: 0 };
  #draining = false;
  #noUploadUntil = -Infinity;
  #uploadPause = 0;
  #cancelTimer: () => void = () => {};
  readonly counters = { writeBytes: 0, errors: 0, delaySeconds: 0 };
  /** Resolves when it is known what earlier clients have left. Never rejects. */
  readonly ready: Promise<void>;

  /** Begins to look for what is staged, and to upload it. */
  constructor(options: StagingOptions) {
    this.#options = options;
    this.#folder = new StagingFolder(options);
    this.#guard = new StagingGuard(options);
    this.ready = this.#scan();
  }

  /** The cache of the same directory. */
  get disk(): DiskCache {
    return this.#options.disk;
  }

  get staged(): StagedAmount {
    return { blocks: this.#blocks.size, bytes: this.#bytes };
  }

  /** Figures by JuiceFS's names. */
  stats(): Readonly<Record<string, number>> {
    return {
      staging_blocks: this.#blocks.size,
      staging_block_bytes: this.#bytes,
      staging_writing_blocks: this.#writing.blocks,
      staging_write_bytes: this.counters.writeBytes,
      staging_block_errors: this.counters.errors,
      staging_block_delay_seconds: this.counters.delaySeconds,
      staging_unreadable_blocks: this.#unreadable.size,
      staging_lost_blocks: this.#lost,
    };
  }

  /** Stages the block. False where it has to be uploaded by the caller. Never rejects; the block stays the caller's. */
  async stage(number: number, block: Block): Promise<boolean> {
    const { clock, disk } = this.#options;
    if (this.#draining || this.#closed.signal.aborted || disk.state !== 'up') return false;
    if (!this.#guard.open || !this.#fits(block.length)) return false;
    const attempt = { abandoned: false };
    const { promise: late, resolve } = Promise.withResolvers<'late'>();
    const cancel = clock.timer(WRITE_TIMEOUT_MS, () => resolve('late'));
    const writing = this.#write(number, block.retain(), attempt);
    this.#track(writing);
    const result = await Promise.race([writing, late]);
    cancel();
    if (result !== 'late') return result;
    attempt.abandoned = true;
    this.counters.errors++;
    this.#guard.hung();
    return false;
  }

  /**
   * The slice of the block is gone: drops it. Undefined where it is not staged here; else resolves when its file is gone, with
   * whether there may be an object. Never rejects.
   */
  remove(number: number, length: number): Promise<boolean> | undefined {
    const entry = this.#blocks.get(number);
    if (!entry) {
      if (this.#scanned) return undefined;
      this.#removedEarly.add(number);
      return this.#unlink(number, length).then(() => true);
    }
    entry.removed = true;
    this.#forget(entry, true);
    return (async () => {
      const { work } = entry;
      await work;
      const was = await this.#unlink(number, length);
      // It may have been given this name after the cache had dropped it.
      if (work) await this.#folder.uncache(number, length);
      // Where the file was gone, another client over the same folder has uploaded it.
      return !entry.untouched || !was;
    })();
  }

  /**
   * Uploads everything without delay, and stages nothing from now on. Resolves when nothing is left, or the signal aborts, with
   * what is left then.
   */
  async drain(signal: AbortSignal): Promise<StagedAmount> {
    this.#draining = true;
    this.#noUploadUntil = -Infinity;
    for (const entry of this.#waiting) entry.notBefore = -Infinity;
    const aborted = new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      else signal.addEventListener('abort', () => resolve(), { once: true });
    });
    await Promise.race([this.ready, aborted]);
    this.#pump();
    while (!signal.aborted && this.#blocks.size + this.#writing.blocks + this.#running.blocks > 0) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#changed.add(resolve);
      await Promise.race([promise, aborted]);
      this.#changed.delete(resolve);
    }
    return this.staged;
  }

  /** Ends uploads that are under way; what is staged stays so, for the next client. */
  async close(): Promise<void> {
    this.#closed.abort();
    this.#cancelTimer();
    await this.ready;
    while (this.#works.size > 0) await Promise.all(this.#works);
  }

  #track(work: Promise<unknown>): void {
    this.#works.add(work);
    void work.finally(() => this.#works.delete(work));
  }

  async #scan(): Promise<void> {
    const { root, clock, disk, delayMs, logger } = this.#options;
    const failed = (error: unknown): void => {
      this.counters.errors++;
      logger.warn('the folder of staged blocks cannot be read', { root, error: messageOf(error) });
    };
    await disk.ready;
    // When they were staged matters only to those who wait.
    const found = await this.#folder.scan(clock, this.#closed.signal, delayMs > 0, failed);
    const younger = this.#waiting;
    this.#waiting = new Set();
    for (const { number, length, since } of found)
      if (!this.#blocks.has(number) && !this.#removedEarly.has(number)) this.#add(number, length, since, false);
    if (this.#waiting.size > 0)
      logger.info('found blocks that an earlier client has not uploaded', { blocks: this.#waiting.size, bytes: this.#bytes });
    for (const entry of younger) this.#waiting.add(entry);
    this.#scanned = true;
    this.#removedEarly.clear();
    this.#pump();
  }

  /** Whether so many bytes more are within the bounds. */
  #fits(bytes: number): boolean {
    const blocks = this.#blocks.size + this.#writing.blocks + 1;
    const total = this.#bytes + this.#writing.bytes + bytes + blocks * BLOCK_OVERHEAD;
    return blocks <= MOST_BLOCKS && total <= this.#options.maxBytes;
  }

  /** Releases the block. */
  async #write(number: number, block: Block, attempt: { readonly abandoned: boolean }): Promise<boolean> {
    const { length } = block;
    this.#writing = { blocks: this.#writing.blocks + 1, bytes: this.#writing.bytes + length };
    try {
      return await this.#writers.run(async () => {
        if (attempt.abandoned) return false;
        await this.#options.disk.ready;
        if (!(await this.#guard.hasRoom())) return false;
        await this.#folder.write(number, block);
        if (attempt.abandoned) {
          await this.#unlink(number, length);
          return false;
        }
        await this.#folder.cache(number, length);
        // The look at what earlier clients have left may have found it.
        if (!this.#blocks.has(number)) this.#add(number, length, this.#options.clock.now(), true);
        this.counters.writeBytes += length;
        return true;
      });
    } catch (error) {
      this.counters.errors++;
      this.#guard.failed(error);
      return false;
    } finally {
      block.release();
      this.#writing = { blocks: this.#writing.blocks - 1, bytes: this.#writing.bytes - length };
      this.#pump();
      this.#tell();
    }
  }

  #add(number: number, length: number, since: number, untouched: boolean): void {
    const entry = { number, length, since, notBefore: -Infinity, untouched, removed: false, work: undefined };
    this.#blocks.set(number, entry);
    this.#bytes += length;
    this.#waiting.add(entry);
    this.#options.disk.stage(number, length);
    this.#pump();
  }

  #forget(entry: Staged, cached: boolean): void {
    this.#waiting.delete(entry);
    this.#unreadable.delete(entry);
    if (this.#blocks.get(entry.number) !== entry) return;
    this.#blocks.delete(entry.number);
    this.#bytes -= entry.length;
    this.#options.disk.unstage(entry.number, entry.length, cached);
    this.#tell();
  }

  /** Begins as many uploads as may be now, and sets a timer for the next one. */
  #pump(): void {
    const { parallel, maxUploadBytes, delayMs, clock } = this.#options;
    this.#cancelTimer();
    if (this.#closed.signal.aborted || !this.#scanned) return;
    const now = clock.monotonic();
    if (now < this.#noUploadUntil) return this.#later(this.#noUploadUntil - now);
    const hurried =
      this.#draining ||
      this.#guard.low ||
      this.#bytes > PRESSED * this.#options.maxBytes ||
      this.#blocks.size > PRESSED * MOST_BLOCKS;
    let pause = Infinity;
    for (const entry of this.#waiting) {
      const { blocks, bytes } = this.#running;
      if (blocks >= parallel || (blocks > 0 && bytes + entry.length > maxUploadBytes)) return;
      const wait = Math.max(entry.notBefore - now, hurried ? 0 : entry.since + delayMs - clock.now());
      if (wait <= 0) this.#start(entry);
      else pause = Math.min(pause, wait);
      // Those behind it are younger, but for a few that could not be read.
      if (pause < Infinity && wait > 0 && entry.notBefore <= now) break;
    }
    if (pause < Infinity) this.#later(pause);
  }

  #later(pause: number): void {
    this.#cancelTimer = this.#options.clock.timer(Math.max(1, Math.ceil(pause)), () => this.#pump());
  }

  #start(entry: Staged): void {
    this.#waiting.delete(entry);
    this.#running = { blocks: this.#running.blocks + 1, bytes: this.#running.bytes + entry.length };
    entry.work = this.#upload(entry).finally(() => {
      this.#running = { blocks: this.#running.blocks - 1, bytes: this.#running.bytes - entry.length };
      entry.work = undefined;
      this.#pump();
      this.#tell();
    });
    this.#track(entry.work);
  }

  /** Never rejects. */
  async #upload(entry: Staged): Promise<void> {
    const { number, length } = entry;
    const { clock, logger, inMemory, upload } = this.#options;
    let block: Block | undefined;
    try {
      block = inMemory(number)?.retain() ?? (await this.#folder.read(number, length));
      if (entry.removed || this.#closed.signal.aborted) return;
      entry.untouched = false;
      this.counters.delaySeconds += Math.max(0, clock.now() - entry.since) / 1000;
      await upload(number, block, this.#closed.signal);
      this.#uploadPause = 0;
      if (entry.removed) return;
      // It may be read meanwhile: the name in `raw` is there before the other one goes.
      await this.#folder.cache(number, length);
      // Whoever removes it waits for us, and deletes both.
      if (entry.removed) return;
      this.#forget(entry, true);
      await this.#unlink(number, length);
    } catch (error) {
      if (entry.removed) return;
      if (!block && (await this.#isGone(entry, error))) return;
      if (entry.removed) return;
      this.#waiting.add(entry);
      if (this.#closed.signal.aborted) return;
      const now = clock.monotonic();
      if (!block) {
        this.counters.errors++;
        entry.notBefore = now + LONGEST_PAUSE_MS;
        return this.#tellUnreadable(entry, error);
      }
      if (now >= this.#noUploadUntil)
        this.#uploadPause = Math.min(
          this.#draining ? LONGEST_DRAIN_PAUSE_MS : LONGEST_PAUSE_MS,
          this.#uploadPause === 0 ? FIRST_PAUSE_MS : this.#uploadPause * 2,
        );
      this.#noUploadUntil = now + this.#uploadPause;
      logger.warn('a staged block could not be uploaded; it is tried again', {
        error: messageOf(error),
        blocks: this.#blocks.size,
        bytes: this.#bytes,
        pauseMs: this.#uploadPause,
      });
    } finally {
      block?.release();
    }
  }

  /**
   * Whether a block that cannot be read need not be tried again: its file is gone from a directory that is there. Then another client
   * over the folder has uploaded it, or removed its slice, or it is lost: that is said and stays counted. Never rejects.
   */
  async #isGone(entry: Staged, error: unknown): Promise<boolean> {
    const { number, length } = entry;
    const { logger, stored, root, files } = this.#options;
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') return false;
    const path = this.#folder.path(number, length);
    try {
      const isStored = await stored(number, length, this.#closed.signal);
      if (!isStored) await files.stat(join(root, LOCK));
      if (entry.removed) return true;
      if (isStored) logger.info('a staged block is gone: another client over the folder has uploaded it', { path });
      else {
        this.#lost++;
        this.counters.errors++;
        this.#told(
          'a staged block is gone and there is no object: lost, unless another client over the folder has removed its slice',
          path,
          error,
        );
      }
      this.#forget(entry, false);
      return true;
    } catch {
      // The store does not answer, or the whole directory is away: it may come back.
      return false;
    }
  }

  /** It stays counted as staged. */
  #tellUnreadable(entry: Staged, error: unknown): void {
    const isNew = !this.#unreadable.has(entry);
    this.#unreadable.add(entry);
    const why = error instanceof CorruptCacheFile ? 'is damaged' : 'cannot be read';
    if (isNew)
      this.#told(
        `a staged block ${why}, so not uploaded; it is tried again`,
        this.#folder.path(entry.number, entry.length),
        error,
      );
  }

  /** Some one by one; then once a minute, with how many there are. */
  #told(what: string, path: string, error: unknown): void {
    const { clock, logger } = this.#options;
    const unreadable = this.#unreadable.size;
    const now = clock.monotonic();
    if (unreadable + this.#lost > TOLD_EACH && now < this.#quietUntil) return;
    this.#quietUntil = now + LONGEST_PAUSE_MS;
    logger.error(what, { path, error: messageOf(error), unreadable, lost: this.#lost });
  }

  /** False where there was no such file. Never rejects. */
  #unlink(number: number, length: number): Promise<boolean> {
    return this.#folder.remove(number, length).catch((error: unknown) => {
      this.counters.errors++;
      this.#options.logger.warn('a staged block cannot be deleted; the next client uploads it once more', {
        path: this.#folder.path(number, length),
        error: messageOf(error),
      });
      return true;
    });
  }

  #tell(): void {
    for (const resolve of this.#changed) resolve();
  }
}
