/**
 * A slice being written: bytes gather in block buffers, full blocks are uploaded as soon as the slice has its id, the rest
 * at `finish`. The first failure is final for the slice: nothing more is uploaded, `finish` tells it.
 *
 * Memory: a block's buffer grows from 4 KiB to 256 KiB by doubling and from there to the block size at once, so a small
 * file does not hold 4 MiB and a large one is hardly copied. Those of whole blocks come from the `memory` that is given, while it has some. All
 * buffers are counted until their block is durable.
 */
import { FsError } from '../lib/errors.ts';
import { abandonable, toFsError } from './errors.ts';
import type { BlockGeometry } from './key.ts';
import { MAX_SLICE } from './key.ts';
import type { Block, BufferPool } from './pool.ts';
import type { BlockMemory, SliceWriter, Taken } from './types.ts';

const SMALL_BUFFER = 256 * 1024;

/** What a writer needs of its store. */
export interface WriterHost {
  readonly geometry: BlockGeometry;
  readonly pool: BufferPool;
  /** Uploads (or, unless `direct`, stages) the block, and releases it in any case. */
  upload(id: number, index: number, block: Block, wanted: () => boolean, direct: boolean): Promise<void>;
  /** Deletes blocks of a slice that will never be, in the background. */
  discard(id: number, size: number, after: Promise<unknown>): void;
  /** Buffer bytes and data bytes that a slice holds have changed by so much. */
  account(bufferBytes: number, dataBytes: number): void;
}

export class BlockSliceWriter implements SliceWriter {
  readonly #host: WriterHost;
  readonly #direct: boolean;
  readonly #memory: BlockMemory | undefined;
  readonly #blocks: (Block | undefined)[] = [];
  readonly #uploads = new Set<Promise<void>>();
  #id: number | undefined;
  #length = 0;
  #uploaded = 0;
  #error: Error | undefined;
  #finishing: Promise<void> | undefined;
  #aborted = false;

  constructor(host: WriterHost, direct = false, memory?: BlockMemory) {
    this.#host = host;
    this.#direct = direct;
    this.#memory = memory;
  }

  get length(): number {
    return this.#length;
  }

  get uploaded(): number {
    return this.#uploaded;
  }

  peek(): Buffer | undefined {
    return this.#length < this.#host.geometry.blockSize ? this.#blocks[0]?.buffer.subarray(0, this.#length) : undefined;
  }

  write(data: Buffer, offset: number, taken?: Taken): void {
    if (this.#finishing || this.#aborted) throw new FsError('EINVAL', 'the slice is finished and cannot be written to');
    if (offset < this.#uploaded || offset > this.#length || offset + data.length > MAX_SLICE)
      throw new FsError(
        'EINVAL',
        `${data.length} bytes at ${offset} do not fit a slice of ${this.#length} bytes, ${this.#uploaded} of them uploaded`,
      );
    const { blockSize } = this.#host.geometry;
    for (let done = 0; done < data.length;) {
      const at = offset + done;
      const within = at % blockSize;
      const part = Math.min(data.length - done, blockSize - within);
      const block = this.#room(Math.floor(at / blockSize), within + part);
      data.copy(block.buffer, within, done, done + part);
      // After the copy: what is recorded is there.
      taken?.(block.buffer, within, done, part);
      if (within + part > block.length) {
        this.#host.account(0, within + part - block.length);
        block.length = within + part;
      }
      done += part;
    }
    this.#length = Math.max(this.#length, offset + data.length);
    this.flushFull();
  }

  setId(id: number): void {
    if (this.#id !== undefined) throw new Error(`the slice has the id ${this.#id} already`);
    this.#id = id;
    this.flushFull();
  }

  flushFull(): void {
    const { blockSize } = this.#host.geometry;
    while (this.#id !== undefined && this.#uploaded + blockSize <= this.#length) this.#upload(this.#uploaded + blockSize);
  }

  finish(signal?: AbortSignal): Promise<void> {
    this.#finishing ??= this.#finish();
    return abandonable(this.#finishing, signal);
  }

  abort(): void {
    if (this.#aborted) return;
    this.#aborted = true;
    for (const [index, block] of this.#blocks.entries()) if (block) this.#drop(index, block);
    if (this.#id !== undefined && this.#uploaded > 0)
      this.#host.discard(this.#id, this.#uploaded, Promise.allSettled(this.#uploads));
  }

  async #finish(): Promise<void> {
    if (this.#aborted) throw new FsError('EINVAL', 'the slice was dropped and cannot be finished');
    if (this.#id === undefined) throw new FsError('EINVAL', 'a slice needs its id before it can be finished');
    this.flushFull();
    if (this.#uploaded < this.#length) this.#upload(this.#length);
    while (this.#uploads.size > 0) await Promise.all(this.#uploads);
    if (this.#error) throw this.#error;
  }

  /** Hands the block that ends at `end` to the store. */
  #upload(end: number): void {
    const index = Math.floor(this.#uploaded / this.#host.geometry.blockSize);
    const block = this.#blocks[index];
    if (!block || this.#id === undefined) throw new Error('a block to upload is missing');
    this.#uploaded = end;
    if (this.#error) return this.#drop(index, block);
    this.#blocks[index] = undefined;
    const { capacity, length } = block;
    const running = this.#host
      .upload(this.#id, index, block, () => !this.#aborted && !this.#error, this.#direct)
      .catch((error: unknown) => {
        this.#error ??= toFsError(error);
      })
      .finally(() => {
        this.#uploads.delete(running);
        this.#host.account(-capacity, -length);
      });
    this.#uploads.add(running);
  }

  /** The buffer of a block, with room for `end` bytes. */
  #room(index: number, end: number): Block {
    const { pool, geometry } = this.#host;
    const block = this.#blocks[index];
    if (block && block.capacity >= end) return block;
    const size = end > SMALL_BUFFER || index > 0 ? geometry.blockSize : Math.max(end, (block?.capacity ?? 0) * 2);
    const larger = pool.acquire(size, size === geometry.blockSize ? this.#memory : undefined);
    larger.length = 0;
    this.#host.account(larger.capacity, 0);
    if (block) {
      block.buffer.copy(larger.buffer, 0, 0, block.length);
      larger.length = block.length;
      this.#host.account(-block.capacity, 0);
      block.release();
    }
    this.#blocks[index] = larger;
    return larger;
  }

  #drop(index: number, block: Block): void {
    this.#blocks[index] = undefined;
    this.#host.account(-block.capacity, -block.length);
    block.release();
  }
}
