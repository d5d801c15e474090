/**
 * Clean blocks in memory, least recently used ones dropped first, bounded in bytes together with the downloads that will
 * fill it: a download reserves its bytes before it begins and turns them into a resident block at the end.
 */
import type { Block } from './pool.ts';

/** Blocks kept after a stream has passed them. */
const SPENT_BLOCKS = 2;

interface Waiter {
  readonly bytes: number;
  readonly resolve: () => void;
}

export class MemoryCache {
  readonly #maxBytes: number;
  readonly #blocks = new Map<number, Block>();
  /** Those that a stream has read to their end, in that order. */
  readonly #spent = new Set<number>();
  /** FIFO; as long as the demand reads that wait, which the kernel bounds. */
  readonly #waiters: Waiter[] = [];
  #residentBytes = 0;
  #reservedBytes = 0;
  evictions = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
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
    if (this.bytes + block.capacity > this.#maxBytes) return;
    this.#blocks.set(key, block.retain());
    this.#residentBytes += block.capacity;
  }

  delete(key: number): void {
    const block = this.#blocks.get(key);
    if (!block) return;
    this.#blocks.delete(key);
    this.#spent.delete(key);
    this.#residentBytes -= block.capacity;
    block.release();
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

  /** Gives a reservation back. */
  unreserve(bytes: number): void {
    this.#reservedBytes -= bytes;
    for (let first = this.#waiters[0]; first && this.#fits(first.bytes); first = this.#waiters[0]) {
      this.#waiters.shift();
      this.#take(first.bytes);
      first.resolve();
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
    return this.#reservedBytes === 0 || this.#reservedBytes + bytes <= this.#maxBytes;
  }

  #take(bytes: number): void {
    this.#reservedBytes += bytes;
    this.#evictFor(0);
  }

  #evictFor(bytes: number): void {
    for (const key of this.#blocks.keys()) {
      if (this.bytes + bytes <= this.#maxBytes) return;
      this.delete(key);
      this.evictions++;
    }
  }
}
