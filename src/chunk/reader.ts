/**
 * Bytes of slices: from memory, from the disk cache, or downloaded. A block is downloaded once however many ask for it;
 * small reads within a block that is neither compressed nor encrypted are read as ranges, with the whole block fetched behind them
 * (source of the rule: the JuiceFS format, "Reader"). Downloads are bounded by the memory cache they end up in.
 */
import type { Clock } from '../lib/clock.ts';
import { type Limiter } from './limiter.ts';
import { crc32cOfPieces } from '../lib/crc32c.ts';
import { CHECKSUM_PIECE, ObjectError, type ObjectStore } from '../object/store.ts';
import type { Codec } from './compress.ts';
import type { DiskCaches } from './disks.ts';
import { abandonable, toFsError } from './errors.ts';
import { blockKey, type BlockGeometry } from './key.ts';
import type { MemoryCache } from './memory.ts';
import { type Block, type BufferPool, capacityFor } from './pool.ts';
import type { SliceId } from './types.ts';

export interface ReaderParts {
  readonly objects: ObjectStore;
  readonly geometry: BlockGeometry;
  readonly codec: Codec | undefined;
  readonly hashPrefix: boolean;
  readonly memory: MemoryCache;
  readonly disk: DiskCaches | undefined;
  readonly partialOnly: boolean;
  readonly pool: BufferPool;
  readonly downloads: Limiter;
  readonly readAheadBytes: number;
  readonly prefetch: number;
  readonly corruptRetries: number;
  readonly clock: Clock;
}

const CORRUPT_PAUSE_MS = 100;
/** Reads from this size on are a stream's (the kernel reads ahead for those). */
const STREAM_READ = 128 * 1024;
/** Ranges up to this size are read without a reservation, bytes. */
const SHORT_RANGE = 64 * 1024;

export class SliceReader {
  readonly #parts: ReaderParts;
  /** Whole blocks being downloaded. The promise's block is held once by this map, until it settles. */
  readonly #inFlight = new Map<number, Promise<Block>>();
  /** The same, and those that were forgotten meanwhile. */
  readonly #downloads = new Set<Promise<Block>>();
  /** Ranges being downloaded, by `block:offset:length`. */
  readonly #ranges = new Map<string, Promise<Block>>();
  #readAheadBytes = 0;
  #behind = 0;
  readonly counters = { hits: 0, hitBytes: 0, misses: 0, missBytes: 0 };

  constructor(parts: ReaderParts) {
    this.#parts = parts;
  }

  /** Bytes being read ahead now. */
  get readAheadBytes(): number {
    return this.#readAheadBytes;
  }

  /** See ChunkStore.readCached. Bytes of `target` may have been written where the answer is false. */
  readCached(slice: SliceId, offset: number, target: Buffer): boolean {
    const { blockSize } = this.#parts.geometry;
    const within = offset % blockSize;
    if (within + target.length <= blockSize) {
      if (!this.#partSync(slice, Math.floor(offset / blockSize), within, target)) return false;
    } else {
      for (let done = 0; done < target.length;) {
        const at = offset + done;
        const part = Math.min(target.length - done, blockSize - (at % blockSize));
        if (!this.#partSync(slice, Math.floor(at / blockSize), at % blockSize, target.subarray(done, done + part))) return false;
        done += part;
      }
    }
    this.#count(true, target.length);
    return true;
  }

  /** See ChunkStore.peek. */
  peek(slice: SliceId, offset: number, length: number): Buffer | undefined {
    const { geometry, memory } = this.#parts;
    const within = offset % geometry.blockSize;
    const number = geometry.number(slice.id, Math.floor(offset / geometry.blockSize));
    const block = memory.get(number);
    if (!block || within + length > block.length) return undefined;
    this.#noteStream(number, block, within, length);
    this.#count(true, length);
    return block.buffer.subarray(within, within + length);
  }

  /** See ChunkStore.arriving. */
  arriving(
    slice: SliceId,
    offset: number,
    length: number,
    use: (bytes: Buffer) => void,
    signal: AbortSignal | undefined,
  ): Promise<void> | undefined {
    const { geometry } = this.#parts;
    const index = Math.floor(offset / geometry.blockSize);
    const within = offset % geometry.blockSize;
    if (!this.#inFlight.has(geometry.number(slice.id, index))) return undefined;
    if (within + length > geometry.length(slice.size, index)) return undefined;
    this.#count(this.#parts.disk?.has(geometry.number(slice.id, index)) === true, length);
    return this.#lend(slice, index, within, length, use, signal);
  }

  async read(slice: SliceId, offset: number, target: Buffer, signal?: AbortSignal): Promise<void> {
    if (offset < 0 || offset + target.length > slice.size)
      throw new RangeError(`a read of ${target.length} bytes at ${offset} leaves slice ${slice.id} of ${slice.size} bytes`);
    const { blockSize } = this.#parts.geometry;
    const waiting: Promise<void>[] = [];
    for (let done = 0; done < target.length;) {
      const at = offset + done;
      const length = Math.min(target.length - done, blockSize - (at % blockSize));
      const index = Math.floor(at / blockSize);
      const part = target.subarray(done, done + length);
      if (this.#partSync(slice, index, at % blockSize, part)) {
        this.#count(true, length);
      } else waiting.push(this.#part(slice, index, at % blockSize, part, signal));
      done += length;
    }
    if (waiting.length === 0) return;
    try {
      if (waiting.length === 1) await waiting[0];
      else {
        // The target is the caller's again when we answer: all parts must have ended.
        const results = await Promise.allSettled(waiting);
        for (const result of results) if (result.status === 'rejected') throw result.reason;
      }
    } catch (error) {
      throw toFsError(error);
    }
  }

  /** See ChunkStore.fetch. */
  async fetch(slice: SliceId, offset: number, target: Buffer, signal?: AbortSignal): Promise<number | undefined> {
    const { geometry, codec, disk } = this.#parts;
    const { blockSize } = geometry;
    // A block may be staged on the disk only; one that is compressed is unpacked in a buffer of its own anyway.
    if (codec || disk) return void (await this.read(slice, offset, target, signal));
    const index = Math.floor(offset / blockSize);
    if (offset % blockSize === 0 && target.length === geometry.length(slice.size, index))
      return this.#direct(slice, index, target, signal);
    const parts: Promise<unknown>[] = [];
    for (let done = 0; done < target.length;) {
      const at = offset + done;
      const part = target.subarray(done, done + Math.min(target.length - done, blockSize - (at % blockSize)));
      const block = Math.floor(at / blockSize);
      const whole = at % blockSize === 0 && part.length === geometry.length(slice.size, block);
      parts.push(whole ? this.#direct(slice, block, part, signal) : this.read(slice, at, part, signal));
      done += part.length;
    }
    for (const result of await Promise.allSettled(parts)) if (result.status === 'rejected') throw result.reason;
    return undefined;
  }

  async #direct(slice: SliceId, index: number, target: Buffer, signal: AbortSignal | undefined): Promise<number | undefined> {
    const { objects } = this.#parts;
    const key = this.#key(slice, index);
    this.#count(false, target.length);
    let sum: number | undefined;
    const onSums = (sums: Uint32Array): void => void (sum = crc32cOfPieces(target, CHECKSUM_PIECE, sums));
    try {
      await this.#whole(async () => {
        const body = await objects.get(key, { into: target, onSums, ...(signal ? { signal } : {}) });
        if (body.length !== target.length) throw short(key, body.length, target.length);
      });
    } catch (error) {
      throw toFsError(error);
    }
    return sum;
  }

  prefetch(slice: SliceId, offset: number, length: number): void {
    const { geometry, memory, readAheadBytes } = this.#parts;
    const end = Math.min(offset + length, slice.size);
    for (let index = Math.floor(offset / geometry.blockSize); index * geometry.blockSize < end; index++) {
      const number = geometry.number(slice.id, index);
      if (memory.has(number) || this.#inFlight.has(number)) continue;
      const bytes = geometry.length(slice.size, index);
      if (this.#readAheadBytes > 0 && this.#readAheadBytes + bytes > readAheadBytes) return;
      const fetching = this.#fetch(slice, index, false);
      if (!fetching) return;
      this.#readAheadBytes += bytes;
      fetching
        .then((block) => block.release())
        .catch(() => undefined)
        .finally(() => (this.#readAheadBytes -= bytes));
    }
  }

  /** See ChunkStore.warm. */
  async warm(slice: SliceId, index: number, signal?: AbortSignal): Promise<boolean> {
    const { geometry, memory, disk } = this.#parts;
    const number = geometry.number(slice.id, index);
    if (disk ? await disk.holds(number) : memory.has(number)) return true;
    const block = memory.get(number)?.retain() ?? (await this.#demanded(slice, index, signal));
    try {
      return disk ? await disk.keep(number, block) : memory.has(number);
    } finally {
      block.release();
    }
  }

  /** A block that is on its way shall not be kept: its slice was removed. */
  forget(number: number): void {
    this.#inFlight.delete(number);
  }

  /** Resolves when no download is under way. */
  async settled(): Promise<void> {
    while (this.#downloads.size + this.#ranges.size > 0) await Promise.allSettled([...this.#downloads, ...this.#ranges.values()]);
  }

  #near(slice: SliceId, index: number): boolean {
    const { geometry, memory, disk } = this.#parts;
    const number = geometry.number(slice.id, index);
    return memory.has(number) || this.#inFlight.has(number) || disk?.has(number) === true;
  }

  #partSync(slice: SliceId, index: number, within: number, target: Buffer): boolean {
    const { geometry, memory, disk } = this.#parts;
    const number = geometry.number(slice.id, index);
    const block = memory.get(number);
    if (block) {
      if (block.length < within + target.length) return false;
      block.buffer.copy(target, 0, within, within + target.length);
      return true;
    }
    return disk?.readSync(number, geometry.length(slice.size, index), within, target) === true;
  }

  async #part(slice: SliceId, index: number, within: number, target: Buffer, signal: AbortSignal | undefined): Promise<void> {
    const { geometry, disk, codec, objects } = this.#parts;
    const number = geometry.number(slice.id, index);
    const length = geometry.length(slice.size, index);
    if (disk && !this.#inFlight.has(number) && (await disk.read(number, length, within, target))) {
      this.#count(true, target.length);
      return;
    }
    signal?.throwIfAborted();
    this.#count(false, target.length);
    if (!codec && !objects.wholeReads && within > 0 && target.length <= length / 4 && !this.#inFlight.has(number)) {
      const block = await this.#held(this.#range(slice, index, within, target.length), signal);
      block.buffer.copy(target, 0, 0, target.length);
      block.release();
      this.#fetchBehind(slice, index);
      return;
    }
    await this.#lend(slice, index, within, target.length, (bytes) => bytes.copy(target), signal);
  }

  /** Waits for a whole block and shows `use` a part of it. */
  async #lend(
    slice: SliceId,
    index: number,
    within: number,
    length: number,
    use: (bytes: Buffer) => void,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const block = await this.#demanded(slice, index, signal);
    try {
      this.#noteStream(this.#parts.geometry.number(slice.id, index), block, within, length);
      use(block.buffer.subarray(within, within + length));
    } finally {
      block.release();
    }
  }

  /** Waits for a whole block, held once for the caller. */
  #demanded(slice: SliceId, index: number, signal: AbortSignal | undefined): Promise<Block> {
    const fetching = this.#fetch(slice, index, true);
    if (!fetching) throw new Error('a read that waits for memory was turned away');
    return this.#held(fetching, signal);
  }

  /** Waits for a block that is held once for the caller; who gives up holds nothing. */
  async #held(coming: Promise<Block>, signal: AbortSignal | undefined): Promise<Block> {
    try {
      return await abandonable(coming, signal);
    } catch (error) {
      coming.then(
        (late) => late.release(),
        () => undefined,
      );
      throw toFsError(error);
    }
  }

  #count(hit: boolean, bytes: number): void {
    if (hit) {
      this.counters.hits++;
      this.counters.hitBytes += bytes;
    } else {
      this.counters.misses++;
      this.counters.missBytes += bytes;
    }
  }

  /** A stream that comes to the end of a block will not come back soon. */
  #noteStream(number: number, block: Block, within: number, length: number): void {
    if (length >= STREAM_READ && within + length === block.length) this.#parts.memory.spend(number);
  }

  /** A range, shared by equal reads; held once for the caller. */
  #range(slice: SliceId, index: number, within: number, length: number): Promise<Block> {
    const name = `${this.#parts.geometry.number(slice.id, index)}:${within}:${length}`;
    let running = this.#ranges.get(name);
    if (!running) {
      const key = this.#key(slice, index);
      const started = this.#parts.downloads.run(() => this.#getRange(key, within, length));
      running = started;
      this.#ranges.set(name, started);
      const done = (): boolean => this.#ranges.delete(name);
      started.then((block) => {
        done();
        queueMicrotask(() => block.release());
      }, done);
    }
    return running.then((block) => block.retain());
  }

  async #getRange(key: string, within: number, length: number): Promise<Block> {
    const { objects, memory, pool } = this.#parts;
    // Short ones are bounded by their number, and do not wait behind whole blocks.
    const reserved = length > SHORT_RANGE ? capacityFor(length) : 0;
    if (reserved > 0) {
      await memory.reserve(reserved);
      memory.started(reserved);
    }
    const block = pool.acquire(length);
    try {
      await this.#whole(async () => {
        const body = await objects.get(key, { offset: within, length, into: block.data });
        if (body.length !== length) throw short(key, body.length, length);
      });
      return block;
    } catch (error) {
      block.release();
      throw error;
    } finally {
      if (reserved > 0) memory.unreserve(reserved);
    }
  }

  /** The whole block comes near after a small read in it; a few at a time, others are left out. */
  #fetchBehind(slice: SliceId, index: number): void {
    if (this.#behind >= this.#parts.prefetch || this.#near(slice, index)) return;
    const fetching = this.#fetch(slice, index, false);
    if (!fetching) return;
    this.#behind++;
    fetching
      .then((block) => block.release())
      .catch(() => undefined)
      .finally(() => this.#behind--);
  }

  /**
   * The whole block, held once for the caller. With `demand` it waits for memory; without, undefined is the answer
   * where there is none.
   */
  #fetch(slice: SliceId, index: number, demand: boolean): Promise<Block> | undefined {
    const { geometry, memory } = this.#parts;
    const number = geometry.number(slice.id, index);
    let running = this.#inFlight.get(number);
    if (!running) {
      const length = geometry.length(slice.size, index);
      const bytes = capacityFor(this.#stored(length)) + (this.#parts.codec ? length : 0);
      let room: Promise<void> | undefined;
      if (demand) room = memory.reserve(bytes);
      else if (!memory.tryReserve(bytes)) return undefined;
      const started = this.#download(slice, index, length, bytes, room);
      running = started;
      this.#inFlight.set(number, started);
      this.#downloads.add(started);
      // The download's own hold on the block ends when all who waited at that moment have taken theirs.
      const done = (): boolean => {
        this.#downloads.delete(started);
        return this.#inFlight.get(number) === started && this.#inFlight.delete(number);
      };
      started.then((block) => {
        if (done()) this.#keep(number, length, block);
        queueMicrotask(() => block.release());
      }, done);
    }
    return running.then((block) => block.retain());
  }

  /** Bytes that an object may have, with what must lie free before it. */
  #stored(length: number): number {
    const { codec } = this.#parts;
    return codec ? codec.lead + codec.bound(length) : length;
  }

  async #download(slice: SliceId, index: number, length: number, bytes: number, room: Promise<void> | undefined): Promise<Block> {
    if (room) await room;
    const { memory, pool, geometry, codec, disk } = this.#parts;
    // At once: what was let through counts as busy from now on.
    memory.started(bytes);
    const number = geometry.number(slice.id, index);
    let block = pool.acquire(disk?.has(number) ? length : this.#stored(length));
    try {
      block.length = length;
      if (disk?.has(number)) {
        if (await disk.read(number, length, 0, block.data, true)) return block;
        block.giveUp();
        block = pool.acquire(this.#stored(length));
        block.length = length;
      }
      const key = this.#key(slice, index);
      if (!codec) {
        await this.#whole(() => this.#getBlock(key, block));
        return block;
      }
      if (block.capacity < this.#stored(length)) {
        block.release();
        block = pool.acquire(this.#stored(length));
        block.length = length;
      }
      return await this.#whole(() => this.#unpacked(codec, key, block));
    } catch (error) {
      block.release();
      throw error;
    } finally {
      memory.unreserve(bytes);
    }
  }

  #keep(number: number, length: number, block: Block): void {
    const { memory, disk, geometry, partialOnly } = this.#parts;
    memory.put(number, block);
    if (disk && (!partialOnly || length < geometry.blockSize)) disk.write(number, block);
  }

  async #getBlock(key: string, block: Block): Promise<void> {
    // Those of an attempt that failed are of other bytes.
    block.sums = undefined;
    const onSums = (sums: Uint32Array): void => void (block.sums = sums);
    const body = await this.#parts.objects.get(key, { into: block.data, onSums });
    if (body.length !== block.length) throw short(key, body.length, block.length);
  }

  /** The plain block of an object that is read into `stored`, which is released where that goes well. */
  async #unpacked(codec: Codec, key: string, stored: Block): Promise<Block> {
    const { objects, pool } = this.#parts;
    const { length } = stored;
    try {
      const body = await objects.get(key, { into: stored.buffer.subarray(codec.lead, this.#stored(length)) });
      const plain = await codec.decompress(stored.buffer.subarray(0, codec.lead + body.length), length);
      stored.release();
      return pool.adopt(plain);
    } catch (error) {
      if (error instanceof ObjectError || (error instanceof Error && error.name === 'AbortError')) throw error;
      throw new ObjectError('Corrupt', `object ${key} cannot be decompressed to ${length} bytes`, {
        cause: error,
        retryable: true,
      });
    }
  }

  /** Once more where the object came damaged: on the way it may have been cut short or changed. */
  async #whole<T>(action: () => Promise<T>): Promise<T> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await action();
      } catch (error) {
        const damaged = error instanceof ObjectError && error.code === 'Corrupt';
        if (!damaged || attempt >= this.#parts.corruptRetries) throw error;
        await this.#parts.clock.sleep(CORRUPT_PAUSE_MS * 2 ** attempt);
      }
    }
  }

  #key(slice: SliceId, index: number): string {
    const { geometry, hashPrefix } = this.#parts;
    return blockKey(slice.id, index, geometry.length(slice.size, index), hashPrefix);
  }
}

function short(key: string, found: number, wanted: number): ObjectError {
  return new ObjectError('Corrupt', `object ${key} gave ${found} bytes where ${wanted} were expected`, { retryable: true });
}
