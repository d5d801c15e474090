/**
 * Buffers of blocks, used again. A fresh 4 MiB buffer costs a millisecond of page faults; a pooled one costs nothing.
 *
 * Capacities are multiples of an eighth of the power of two below them, at least 4 KiB. What lies free is bounded by `maxFreeBytes`; what is in use is bounded by the
 * users (dirty bytes, memory cache, downloads). A block is counted: who keeps it beyond a call retains it, and the last
 * release gives the buffer back. After that the bytes are someone else's.
 */
const SMALLEST = 4096;

export class Block {
  /** The whole buffer; the first `length` bytes are the block. */
  readonly buffer: Buffer;
  length: number;
  /** The CRC-32C of every 32 KiB, where somebody has them already. */
  sums: Uint32Array | undefined;
  #references = 1;
  readonly #pool: BufferPool | undefined;

  constructor(buffer: Buffer, length: number, pool?: BufferPool) {
    this.buffer = buffer;
    this.length = length;
    this.#pool = pool;
  }

  get data(): Buffer {
    return this.length === this.buffer.length ? this.buffer : this.buffer.subarray(0, this.length);
  }

  /** What it costs in memory. */
  get capacity(): number {
    return this.buffer.length;
  }

  retain(): this {
    if (this.#references <= 0) throw new Error('a block was used after its last release');
    this.#references++;
    return this;
  }

  release(): void {
    if (this.#references <= 0) throw new Error('a block was released twice');
    if (--this.#references === 0) this.#pool?.take(this.buffer);
  }
}

export class BufferPool {
  readonly #maxFreeBytes: number;
  readonly #free = new Map<number, Buffer[]>();
  #freeBytes = 0;
  #usedBytes = 0;

  /** @param maxFreeBytes how much may lie unused. */
  constructor(maxFreeBytes = 64 * 1024 * 1024) {
    this.#maxFreeBytes = maxFreeBytes;
  }

  get freeBytes(): number {
    return this.#freeBytes;
  }

  /** Bytes of buffers that are handed out. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** A block of `length` bytes with arbitrary content, held once. */
  acquire(length: number): Block {
    const capacity = capacityFor(length);
    const buffer = this.#free.get(capacity)?.pop();
    if (buffer) this.#freeBytes -= capacity;
    this.#usedBytes += capacity;
    return new Block(buffer ?? Buffer.allocUnsafeSlow(capacity), length, this);
  }

  /** Lets go of what lies unused. */
  trim(): void {
    this.#free.clear();
    this.#freeBytes = 0;
  }

  /** Called by a block at its last release. */
  take(buffer: Buffer): void {
    this.#usedBytes -= buffer.length;
    if (this.#freeBytes + buffer.length > this.#maxFreeBytes) return;
    const list = this.#free.get(buffer.length);
    if (list) list.push(buffer);
    else this.#free.set(buffer.length, [buffer]);
    this.#freeBytes += buffer.length;
  }
}

/** The capacity that a block of this length gets; at most an eighth (or 4 KiB) more. */
export function capacityFor(length: number): number {
  if (length <= SMALLEST) return SMALLEST;
  const step = Math.max(SMALLEST, 2 ** Math.floor(Math.log2(length - 1)) / 8);
  return Math.ceil(length / step) * step;
}
