/**
 * What is done to a cache directory in the background: it is scanned when it is taken into use and now and then, for others put blocks
 * there and take them away (--cache-scan-interval), and what was not used for long is dropped (--cache-expire). Both go on in small steps
 * between which others have their turn; the index serves meanwhile. Source: JuiceFS, pkg/chunk/disk_cache.go (scanCached, cleanupExpire).
 */
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import type { Clock } from '../lib/clock.ts';
import { scanCache } from './cache-folder.ts';
import type { CacheIndex } from './cache-index.ts';
import type { BlockFiles } from './disk-files.ts';
import type { BlockGeometry } from './key.ts';

export interface CacheUpkeepOptions {
  /** `<cache-dir>/<UUID>`. */
  readonly root: string;
  readonly geometry: BlockGeometry;
  readonly index: CacheIndex;
  /** Of blocks that are not used, milliseconds; 0: they stay. */
  readonly expireMs: number;
  /** Between two scans, milliseconds; 0: none but the first. */
  readonly scanIntervalMs: number;
  /** Whether a block that was found and is not in the index is wanted there. */
  readonly wanted: (number: number, length: number) => boolean;
  /** A block was found. Resolves when the next one may be. */
  readonly found: (number: number, length: number, usedAt: number) => Promise<void> | void;
  /** A block is not there any more. */
  readonly gone: (number: number) => void;
  /** A block was not used for long. Never rejects. */
  readonly expired: (number: number) => Promise<void>;
  /** Something could not be read. */
  readonly failed: (error: unknown) => void;
  readonly files: BlockFiles;
  readonly clock: Clock;
}

/** Blocks of the index that are looked at in one go. */
const STEP = 10_000;
const LONGEST_EXPIRY_STEP_MS = 60_000;
const SHORTEST_EXPIRY_STEP_MS = 1000;

export class CacheUpkeep {
  readonly #options: CacheUpkeepOptions;
  readonly #closed = new AbortController();
  #scanning: Promise<void> | undefined;
  #expiring: Promise<void> = Promise.resolve();
  #cancelScan: () => void = () => {};
  #cancelExpiry: () => void = () => {};

  constructor(options: CacheUpkeepOptions) {
    this.#options = options;
    this.#expireLater();
  }

  /** Scans now, or waits for the scan that is under way; then again after the interval. Never rejects. */
  scan(): Promise<void> {
    this.#cancelScan();
    this.#scanning ??= this.#scan()
      .catch((error: unknown) => this.#options.failed(error))
      .finally(() => {
        this.#scanning = undefined;
        const { scanIntervalMs, clock } = this.#options;
        if (scanIntervalMs > 0 && !this.#closed.signal.aborted)
          this.#cancelScan = clock.timer(scanIntervalMs, () => void this.scan());
      });
    return this.#scanning;
  }

  async close(): Promise<void> {
    this.#closed.abort();
    this.#cancelScan();
    this.#cancelExpiry();
    await this.#scanning;
    await this.#expiring;
  }

  async #scan(): Promise<void> {
    const { root, geometry, index, expireMs, wanted, found, gone, files } = this.#options;
    const { signal } = this.#closed;
    const withTimes = expireMs > 0 || index.eviction === 'lru';
    index.beginScan();
    await scanCache(join(root, 'raw'), { ...this.#options, signal }, async (block) => {
      if (block.index >= geometry.blocksPerSlice || block.length > geometry.blockSize) return;
      const number = geometry.number(block.id, block.index);
      if (index.saw(number) || !wanted(number, block.length)) return;
      let usedAt = 0;
      if (withTimes) {
        const times = await files.stat(block.path).catch(() => undefined);
        // It may be gone by now, or in the index.
        if (!times || index.saw(number) || !wanted(number, block.length)) return;
        usedAt = Math.max(times.atimeMs, times.mtimeMs);
      }
      await found(number, block.length, usedAt);
    });
    await this.#eachStale(undefined, (number) => gone(number));
  }

  /** Does something to each block that the scan has not seen, or that was used last before that time. */
  async #eachStale(usedBefore: number | undefined, action: (number: number) => Promise<void> | void): Promise<void> {
    const { index } = this.#options;
    for (let from = index.count; from > 0 && !this.#closed.signal.aborted;) {
      const { keys, next } = index.stale(from, STEP, usedBefore);
      for (const key of keys) await action(key);
      from = next;
      if (from > 0) await setImmediate();
    }
  }

  #expireLater(): void {
    const { expireMs, clock, expired } = this.#options;
    if (expireMs <= 0) return;
    const pause = Math.max(SHORTEST_EXPIRY_STEP_MS, Math.min(LONGEST_EXPIRY_STEP_MS, expireMs / 4));
    this.#cancelExpiry = clock.timer(pause, () => {
      this.#expiring = this.#eachStale(clock.now() - expireMs, expired).then(() => {
        if (!this.#closed.signal.aborted) this.#expireLater();
      });
    });
  }
}
