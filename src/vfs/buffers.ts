/**
 * Buffers for the answers of reads, used again: a read of 1 MiB would else make garbage faster than it is collected. At
 * most 16 of each size are kept, others go back to the system at once; more may be in use (the kernel bounds the reads under way).
 */
import { freeBuffer } from '../lib/free-buffer.ts';

export interface BufferPool {
  /** A buffer of at least `bytes`; its content is arbitrary. */
  take(bytes: number): Buffer;
  give(buffer: Buffer): void;
  /** Lets go of those that are kept. */
  trim(): void;
}

const SIZES = [4096, 131_072, 1_048_576] as const;
const KEPT = 16;

export function createBufferPool(): BufferPool {
  const free = new Map<number, Buffer[]>(SIZES.map((size) => [size, []]));
  return {
    take(bytes) {
      const size = SIZES.find((each) => each >= bytes);
      return (size === undefined ? undefined : free.get(size)?.pop()) ?? Buffer.allocUnsafeSlow(size ?? bytes);
    },
    give(buffer) {
      const list = free.get(buffer.length);
      if (list && list.length < KEPT) list.push(buffer);
      else freeBuffer(buffer);
    },
    trim() {
      for (const list of free.values()) list.length = 0;
    },
  };
}
