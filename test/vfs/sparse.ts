/** The bytes of a sparse file, for a model: all zeros but in a few regions, which are kept. */

export const REGION = 512 * 1024;
const CHUNK = 64 * 1024 * 1024;

/** Where the regions begin: the start, and across the borders of two chunks. */
export const REGIONS: readonly number[] = [0, CHUNK - REGION / 2, 2 * CHUNK - REGION / 2];

export class SparseBytes {
  length = 0;
  readonly #regions: readonly Buffer[] = REGIONS.map(() => Buffer.alloc(REGION));

  /** Writes within one region. */
  write(offset: number, data: Buffer): void {
    const at = REGIONS.findIndex((start) => offset >= start && offset + data.length <= start + REGION);
    const start = REGIONS[at];
    if (start === undefined) throw new RangeError(`${data.length} bytes at ${offset} are in no region`);
    data.copy(this.#regions[at] ?? Buffer.alloc(0), offset - start);
    this.length = Math.max(this.length, offset + data.length);
  }

  truncate(length: number): void {
    this.zero(length, Number.MAX_SAFE_INTEGER);
    this.length = length;
  }

  zero(from: number, to: number): void {
    for (const [index, start] of REGIONS.entries()) {
      const begin = Math.max(0, from - start);
      const end = Math.min(REGION, to - start);
      if (begin < end) this.#regions[index]?.fill(0, begin, end);
    }
  }

  read(offset: number, size: number): Buffer {
    const data = Buffer.alloc(Math.max(0, Math.min(size, this.length - offset)));
    for (const [index, start] of REGIONS.entries()) {
      const begin = Math.max(start, offset);
      const end = Math.min(start + REGION, offset + data.length);
      if (begin < end) this.#regions[index]?.copy(data, begin - offset, begin - start, end - start);
    }
    return data;
  }
}
