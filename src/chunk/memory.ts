/**
 * Clean blocks in memory, least recently used ones dropped first, bounded in bytes together with the downloads that will
 * fill it: a download reserves its bytes before it begins and turns them into a resident block at the end.
 *
 * It is a part of a bound for everything (pool.ts): it gives up what others need, and beyond `sureBytes` a download begins only where
 * what is busy leaves room (budget.ts).
 */
import type { Block, BufferPool } from './pool.ts';

/** Blocks kept after a stream has passed them. */
const SPENT_BLOCKS = 2;

export interface MemoryOptions {
  /** Blocks that are kept and downloads together, bytes. */
  readonly maxBytes: number;
  readonly pool: Pick<BufferPool, 'busyBytes'>;
  /** Busy bytes of the pool up to which downloads begin. @default no bound */
  readonly gatedBytes?: number;
  /** Bytes of downloads that begin whatever is busy. @default none */
  readonly sureBytes?: number;
}

interface Waiter {
  readonly bytes: number;
  readonly resolve: () => void;
}

export class MemoryCache {
  readonly #options: MemoryOptions;
  readonly #blocks = new Map<number, Block>();
  /** Those that a stream has read to their end, in that order. */
  readonly #spent = new Set<number>();
  /** FIFO; as long as the demand reads that wait, which the kernel bounds. */
  readonly #waiters: Waiter[] = [];
  #residentBytes = 0;
  #reservedBytes = 0;
  /** Of those, what has no buffer in the pool yet. */
  #grantedBytes = 0;
  /** Counts calls of `age`. */
  #now = 0;
  evictions = 0;
  /** Told when a block has come. */
  filled: (() => void) | undefined;

  constructor(options: MemoryOptions) {
    this.#options = options;
  }

  get blocks(): number {
    return this.#blocks.size;
  }

  /** Bytes of resident blocks and of reservations. */
  get bytes(): number {
    return this.#residentBytes + this.#reservedBytes;
  }

  /** The block, which stays the cache's: use it before the next await, or retain it. */
  get(key: number): Block | undefined {
    const block = this.#blocks.get(key);
    if (block) {
      this.#blocks.delete(key);
      this.#blocks.set(key, block);
      block.usedAt = this.#now;
    }
    return block;
  }

  has(key: number): boolean {
    return this.#blocks.has(key);
  }

  /** Keeps the block too (retained), unless it is larger than the whole cache. */
  put(key: number, block: Block): void {
    this.delete(key);
    this.#evictFor(block.capacity);
    if (this.bytes + block.capacity > this.#options.maxBytes) return;
    block.cache();
    block.usedAt = this.#now;
    this.#blocks.set(key, block);
    this.#residentBytes += block.capacity;
    this.filled?.();
  }

  delete(key: number): void {
    const block = this.#blocks.get(key);
    if (!block) return;
    this.#blocks.delete(key);
    this.#spent.delete(key);
    this.#residentBytes -= block.capacity;
    block.uncache();
  }

  /** Takes `bytes` of the bound for a download, if they can be had at once. A lone one is always let through. */
  tryReserve(bytes: number): boolean {
    if (this.#waiters.length > 0 || !this.#fits(bytes)) return false;
    this.#take(bytes);
    return true;
  }

  /** As `tryReserve`, waiting its turn. */
  reserve(bytes: number): Promise<void> | undefined {
    if (this.tryReserve(bytes)) return undefined;
    return new Promise((resolve) => this.#waiters.push({ bytes, resolve }));
  }

  /** The download takes its buffers from the pool now; once, after it was let through. */
  started(bytes: number): void {
    this.#grantedBytes -= bytes;
  }

  /** Gives a reservation back. */
  unreserve(bytes: number): void {
    this.#reservedBytes -= bytes;
    this.retry();
  }

  /** Lets those begin who waited for less to be busy. */
  retry(): void {
    for (let first = this.#waiters[0]; first && this.#fits(first.bytes); first = this.#waiters[0]) {
      this.#waiters.shift();
      this.#take(first.bytes);
      first.resolve();
    }
  }

  /** Drops blocks that nobody else holds (those with lent buffers only) until `bytes` are free, or there are none. */
  reclaim(bytes: number, lent = false): void {
    let left = bytes;
    for (const [key, block] of this.#blocks) {
      if (left <= 0) return;
      if (!block.reclaimable || (lent && !block.lent)) continue;
      left -= block.capacity;
      this.delete(key);
      this.evictions++;
    }
  }

  /** Drops what was not used since the call before the last one. */
  age(): void {
    this.#now++;
    for (const [key, block] of this.#blocks) {
      if (block.usedAt + 1 >= this.#now) return;
      this.delete(key);
    }
  }

  /**
   * The block has served a stream. The kernel keeps its bytes now; here only the last few such blocks stay, so that the
   * buffers that the stream's next blocks go into are still in the processor's cache.
   */
  spend(key: number): void {
    if (!this.#blocks.has(key)) return;
    this.#spent.delete(key);
    this.#spent.add(key);
    if (this.#spent.size <= SPENT_BLOCKS) return;
    const [first] = this.#spent;
    if (first !== undefined) this.delete(first);
  }

  clear(): void {
    for (const key of this.#blocks.keys()) this.delete(key);
  }

  #fits(bytes: number): boolean {
    if (this.#reservedBytes === 0) return true;
    const { maxBytes, pool, gatedBytes = Infinity, sureBytes = 0 } = this.#options;
    const reserved = this.#reservedBytes + bytes;
    return reserved <= maxBytes && (reserved <= sureBytes || pool.busyBytes + this.#grantedBytes + bytes <= gatedBytes);
  }

  #take(bytes: number): void {
    this.#reservedBytes += bytes;
    this.#grantedBytes += bytes;
    this.#evictFor(0);
  }

  #evictFor(bytes: number): void {
    for (const key of this.#blocks.keys()) {
      if (this.bytes + bytes <= this.#options.maxBytes) return;
      this.delete(key);
      this.evictions++;
    }
  }
}
