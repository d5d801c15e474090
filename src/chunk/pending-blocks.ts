/**
 * Blocks on their way to a cache directory: held until they are written or given up, a few written at a time, read from meanwhile.
 * Bounded in bytes.
 */
import { Limiter } from './limiter.ts';
import type { Block } from './pool.ts';

export interface PendingBlocksOptions {
  /** Bytes that may wait. */
  readonly maxBytes: number;
  /** Writes the block, if `wanted` still says so at the end. */
  readonly store: (number: number, block: Block, wanted: () => boolean) => Promise<void>;
  /** The block could not be written. */
  readonly failed: (error: unknown) => void;
}

const WRITERS = 2;

export class PendingBlocks {
  readonly #options: PendingBlocksOptions;
  readonly #writers = new Limiter(WRITERS);
  readonly #blocks = new Map<number, Block>();
  readonly #works = new Map<number, Promise<void>>();
  #bytes = 0;

  constructor(options: PendingBlocksOptions) {
    this.#options = options;
  }

  get bytes(): number {
    return this.#bytes;
  }

  has(number: number): boolean {
    return this.#blocks.has(number);
  }

  fits(length: number): boolean {
    return this.#bytes + length <= this.#options.maxBytes;
  }

  /** Holds the block and writes it. */
  add(number: number, block: Block): void {
    this.#blocks.set(number, block.retain());
    this.#bytes += block.length;
    const wanted = (): boolean => this.#blocks.get(number) === block;
    const work = this.#writers
      .run(async () => {
        if (wanted()) await this.#options.store(number, block, wanted);
      })
      .catch((error: unknown) => this.#options.failed(error))
      .finally(() => {
        if (wanted()) this.#blocks.delete(number);
        this.#bytes -= block.length;
        block.release();
        if (this.#works.get(number) === work) this.#works.delete(number);
      });
    this.#works.set(number, work);
  }

  /** It is not wanted any more. */
  drop(number: number): void {
    this.#blocks.delete(number);
  }

  /** Fills `target` from `offset` of the block, if one of this length waits. */
  read(number: number, length: number, offset: number, target: Buffer): boolean {
    const block = this.#blocks.get(number);
    if (block?.length !== length) return false;
    block.buffer.copy(target, 0, offset, offset + target.length);
    return true;
  }

  /** Resolves when the block is written or given up. Never rejects. */
  async written(number: number): Promise<void> {
    await this.#works.get(number);
  }

  /** Resolves when one of them is; at once where there is none. */
  async oneWritten(): Promise<void> {
    if (this.#works.size > 0) await Promise.race(this.#works.values());
  }

  /** Resolves when all are. */
  async settled(): Promise<void> {
    while (this.#works.size > 0) await Promise.all(this.#works.values());
  }
}
