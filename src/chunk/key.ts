/**
 * Names of blocks. A slice of `size` bytes is cut into blocks of the volume's block size; block n is the object
 * `chunks/<id/1000000>/<id/1000>/<id>_<n>_<length>`, or with hash prefix `chunks/<id%256 as %02X>/<id/1000000>/<id>_<n>_<length>`
 * (below the volume's name). `length` is the plain length; only the last block is shorter. Source: the JuiceFS format
 * (pkg/chunk/cached_store.go, sliceKey).
 *
 * In memory a block is one number, id × (blocks per slice) + n.
 */

/** The longest slice, bytes. */
export const MAX_SLICE = 64 * 1024 * 1024;

/** The object's key, relative to the volume's prefix. */
export function blockKey(id: number, index: number, length: number, hashPrefix: boolean): string {
  const million = Math.floor(id / 1_000_000);
  const folder = hashPrefix
    ? `${(id % 256).toString(16).toUpperCase().padStart(2, '0')}/${million}`
    : `${million}/${Math.floor(id / 1000)}`;
  return `chunks/${folder}/${id}_${index}_${length}`;
}

/** What the last part of a block's key says; undefined where it is none. */
export function parseBlockName(
  name: string,
): { readonly id: number; readonly index: number; readonly length: number } | undefined {
  const match = /^([1-9]\d{0,15})_(0|[1-9]\d{0,4})_([1-9]\d{0,8})$/.exec(name);
  return match ? { id: Number(match[1]), index: Number(match[2]), length: Number(match[3]) } : undefined;
}

/** How the slices of a volume are cut. */
export class BlockGeometry {
  readonly blockSize: number;
  readonly blocksPerSlice: number;

  /** `blockSize` in bytes: a power of two from 64 KiB to 16 MiB. */
  constructor(blockSize: number) {
    if (!Number.isInteger(Math.log2(blockSize)) || blockSize < 64 * 1024 || blockSize > 16 * 1024 * 1024)
      throw new RangeError(`a block size must be a power of two from 64 KiB to 16 MiB, found ${blockSize} bytes`);
    this.blockSize = blockSize;
    this.blocksPerSlice = MAX_SLICE / blockSize;
  }

  /** Number of blocks of a slice. */
  count(size: number): number {
    return Math.ceil(size / this.blockSize);
  }

  /** Bytes of block `index` of a slice of `size` bytes. */
  length(size: number, index: number): number {
    return Math.min(this.blockSize, size - index * this.blockSize);
  }

  /** The number that stands for a block. Throws RangeError for ids beyond 2^43, which no counter reaches. */
  number(id: number, index: number): number {
    const number = id * this.blocksPerSlice + index;
    if (!Number.isSafeInteger(number)) throw new RangeError(`slice id ${id} is too large`);
    return number;
  }

  id(number: number): number {
    return Math.floor(number / this.blocksPerSlice);
  }

  index(number: number): number {
    return number % this.blocksPerSlice;
  }
}
