/**
 * Buffers of blocks, used again, within one bound for everything: what is being written, downloaded, kept in memory, on its way to
 * the disk, and what lies free. A fresh 4 MiB buffer costs a millisecond of page faults; a pooled one costs nothing.
 *
 * `maxBytes` bounds buffers in use and free ones together. Where a new one would exceed it, free ones of other sizes go first, then
 * what `reclaim` can do without (blocks that only the memory cache keeps). What is *busy* nobody can take back: those who make it so
 * ask before (`busyBytes`: writers in ChunkStore.throttle, downloads in MemoryCache.reserve), and `acquire` itself never fails. What
 * goes is given back to the system at once, not when V8 next collects; and what lay free for a second or two and was not wanted goes too.
 *
 * Buffers may also be *lent*: from memory that is another's (BlockMemory), which lies within the bound all the same. They go back there.
 *
 * Capacities are multiples of an eighth of the power of two below them, at least 4 KiB. A block is counted: who keeps it beyond a
 * call retains it, and the last release gives the buffer back. After that the bytes are someone else's, or nobody's.
 */
import { freeBuffer } from '../lib/free-buffer.ts';
import { type Clock, systemClock } from '../lib/clock.ts';
import type { BlockMemory } from './types.ts';

const SMALLEST = 4096;
/** How long a buffer may lie unused, milliseconds (up to twice that). */
const SPARE_MS = 1000;

/** Where a buffer comes from: the pool, elsewhere and counted only, or memory that is another's. */
type Origin = 'own' | 'adopted' | 'lent';

export class Block {
  /** The whole buffer; the first `length` bytes are the block. */
  readonly buffer: Buffer;
  length: number;
  /** The CRC-32C of every 32 KiB, where somebody has them already. */
  sums: Uint32Array | undefined;
  /** The cache's: when it was used last. */
  usedAt = 0;
  #references = 1;
  #cached = false;
  readonly #pool: BufferPool | undefined;
  readonly #origin: Origin;

  constructor(buffer: Buffer, length: number, pool?: BufferPool, origin: Origin = 'own') {
    this.buffer = buffer;
    this.length = length;
    this.#pool = pool;
    this.#origin = origin;
  }

  get data(): Buffer {
    return this.length === this.buffer.length ? this.buffer : this.buffer.subarray(0, this.length);
  }

  /** What it costs in memory. */
  get capacity(): number {
    return this.buffer.length;
  }

  /** True where only the cache keeps it. */
  get idle(): boolean {
    return this.#cached && this.#references === 1;
  }

  /** True where only the cache keeps it, and its buffer comes free when that does not. */
  get reclaimable(): boolean {
    return this.idle && !(this.lent && this.#pool?.isHeld(this.buffer));
  }

  /** True where the buffer is lent. */
  get lent(): boolean {
    return this.#origin === 'lent';
  }

  retain(): this {
    if (this.#references <= 0) throw new Error('a block was used after its last release');
    if (this.idle) this.#pool?.busier(this, true);
    this.#references++;
    return this;
  }

  release(): void {
    if (this.#references <= 0) throw new Error('a block was released twice');
    if (--this.#references === 0) this.#pool?.take(this.buffer, this.#origin);
    else if (this.idle) this.#pool?.busier(this, false);
  }

  /** The cache keeps it, with a hold of its own. */
  cache(): void {
    this.retain();
    this.#cached = true;
  }

  /** The cache keeps it no longer. */
  uncache(): void {
    if (this.idle) this.#pool?.busier(this, true);
    this.#cached = false;
    this.release();
  }
}

export interface PoolOptions {
  /** Buffers in use and free ones together, bytes. @default 300 MiB */
  readonly maxBytes?: number;
  readonly clock?: Clock;
}

export class BufferPool {
  readonly maxBytes: number;
  readonly #clock: Clock;
  readonly #free = new Map<number, Buffer[]>();
  #freeBytes = 0;
  #usedBytes = 0;
  #busyBytes = 0;
  /** The least that lay free since the last look, and the timer of the next one. */
  #leastFree = 0;
  #memory: BlockMemory | undefined;
  #cancelTimer: (() => void) | undefined;
  /** Lets go of idle blocks (only of those with `lent` buffers) until `bytes` came free, or there are none. */
  reclaim: (bytes: number, lent?: boolean) => void = () => {};
  /** Told when less is busy than before. */
  eased: () => void = () => {};

  constructor({ maxBytes = 300 * 1024 * 1024, clock = systemClock }: PoolOptions = {}) {
    this.maxBytes = maxBytes;
    this.#clock = clock;
  }

  get freeBytes(): number {
    return this.#freeBytes;
  }

  /** Bytes of buffers that are handed out. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** What somebody but the cache holds, or nobody can have. */
  get busyBytes(): number {
    return this.#busyBytes + this.lingeringBytes;
  }

  /** Bytes of lent memory that can only be had when something is committed. */
  get lingeringBytes(): number {
    return this.#memory?.lingeringBytes ?? 0;
  }

  /** Bytes of lent memory that is in no block. */
  get lentIdleBytes(): number {
    return this.#memory?.idleBytes ?? 0;
  }

  /** A block of `length` bytes with arbitrary content, held once; in a buffer of `memory`, if that has one of the size. */
  acquire(length: number, memory?: BlockMemory): Block {
    const lent = memory && this.#borrow(length, memory);
    if (lent) {
      this.#usedBytes += length;
      this.#busyBytes += length;
      return new Block(lent, length, this, 'lent');
    }
    const capacity = capacityFor(length);
    let buffer = this.#pop(capacity);
    if (!buffer) {
      this.#makeRoom(capacity);
      // What the cache let go of may be of this size.
      buffer = this.#pop(capacity) ?? Buffer.allocUnsafeSlow(capacity);
    }
    this.#usedBytes += capacity;
    this.#busyBytes += capacity;
    return new Block(buffer, length, this);
  }

  /** A block of bytes that came from elsewhere: counted, held once, never used again. */
  adopt(buffer: Buffer): Block {
    this.#makeRoom(buffer.length);
    this.#usedBytes += buffer.length;
    this.#busyBytes += buffer.length;
    return new Block(buffer, buffer.length, this, 'adopted');
  }

  /** Lets go of what lies unused. */
  trim(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#dropFree(this.#freeBytes);
    this.#memory?.shrink(Infinity);
  }

  /** Called by a block: others than the cache hold it now, or no longer. */
  busier({ buffer, lent }: Block, busy: boolean): void {
    this.#busyBytes += busy ? buffer.length : -buffer.length;
    if (lent) this.#memory?.idle(buffer, !busy);
    if (!busy) this.eased();
  }

  /** Whether a lent buffer would not come free with its block. */
  isHeld(buffer: Buffer): boolean {
    return this.#memory?.isHeld(buffer) === true;
  }

  /** Called by a block at its last release. */
  take(buffer: Buffer, origin: Origin): void {
    const { length } = buffer;
    this.#usedBytes -= length;
    if (origin === 'lent') this.#memory?.give(buffer);
    else if (origin === 'own' && this.#usedBytes + this.#freeBytes + this.lentIdleBytes + length > this.maxBytes)
      freeBuffer(buffer);
    else if (origin === 'own') {
      const list = this.#free.get(length);
      if (list) list.push(buffer);
      else this.#free.set(length, [buffer]);
      this.#freeBytes += length;
      this.#watch();
    }
    this.#busyBytes -= length;
    this.eased();
  }

  #pop(capacity: number): Buffer | undefined {
    const buffer = this.#free.get(capacity)?.pop();
    if (!buffer) return undefined;
    this.#freeBytes -= capacity;
    this.#leastFree = Math.min(this.#leastFree, this.#freeBytes);
    return buffer;
  }

  /** A buffer of just `bytes`: one that lies free, a new one, or that of a block which only the cache keeps. */
  #borrow(bytes: number, memory: BlockMemory): Buffer | undefined {
    if (this.#memory !== memory) {
      this.#memory = memory;
      memory.freed = () => this.eased();
    }
    const free = memory.take(bytes, false);
    if (free) return free;
    this.#makeRoom(bytes);
    for (;;) {
      const buffer = memory.take(bytes, true);
      if (buffer) return buffer;
      const before = memory.idleBytes;
      this.reclaim(bytes, true);
      if (memory.idleBytes === before) return undefined;
    }
  }

  /** For a new buffer of `bytes`, as far as that goes. */
  #makeRoom(bytes: number): void {
    const over = (): number => this.#usedBytes + this.#freeBytes + this.lentIdleBytes + bytes - this.maxBytes;
    if (over() <= 0) return;
    this.#dropFree(over());
    if (over() > 0) this.#memory?.shrink(over());
    if (over() > 0) this.reclaim(over());
    if (over() > 0) this.#memory?.shrink(over());
    // What the cache let go of lies free now; a buffer of the size that is wanted is used as it is.
    if (over() > 0 && !this.#free.get(bytes)?.length) this.#dropFree(over());
  }

  /** At least `bytes` of what lies free, or all. */
  #dropFree(bytes: number): void {
    let left = bytes;
    for (const [capacity, list] of this.#free) {
      while (left > 0) {
        const buffer = list.pop();
        if (!buffer) break;
        left -= capacity;
        this.#freeBytes -= capacity;
        freeBuffer(buffer);
      }
      if (list.length === 0) this.#free.delete(capacity);
    }
    this.#leastFree = Math.min(this.#leastFree, this.#freeBytes);
  }

  #watch(): void {
    if (this.#cancelTimer || this.#freeBytes === 0) return;
    this.#leastFree = this.#freeBytes;
    this.#cancelTimer = this.#clock.timer(SPARE_MS, () => {
      this.#cancelTimer = undefined;
      this.#dropFree(this.#leastFree);
      this.#watch();
    });
  }
}

/** The capacity that a block of this length gets; at most an eighth (or 4 KiB) more. */
export function capacityFor(length: number): number {
  if (length <= SMALLEST) return SMALLEST;
  const step = Math.max(SMALLEST, 2 ** Math.floor(Math.log2(length - 1)) / 8);
  return Math.ceil(length / step) * step;
}
