/**
 * How blocks are stored: as they are, as one raw LZ4 block, or as one zstd frame of level 1 with its content size. Always
 * compressed, even where that makes the object longer. The length of the plain block is in the object's key; a reader
 * must get exactly that. Source: the JuiceFS format, "Compression".
 *
 * Both codecs work in the thread pool. lz4-napi puts the plain length (u32, little-endian) before the raw block and wants
 * it there to decompress, so objects are read behind four free bytes (`lead`) and no byte is moved.
 */
import { createRequire } from 'node:module';
import { promisify } from 'node:util';
import { constants, zstdCompress, type ZstdOptions } from 'node:zlib';
import * as zlib from 'node:zlib';
import type * as lz4Types from 'lz4-napi';
import { UserError } from '../lib/errors.ts';

export type Compression = 'none' | 'lz4' | 'zstd';

export interface Codec {
  readonly name: Compression;
  /** Bytes to leave free before a stored object when it is read for `decompress`. */
  readonly lead: number;
  /** The longest object that a block of this length may make. */
  bound(length: number): number;
  compress(data: Buffer): Promise<Buffer>;
  /** `stored` begins with `lead` bytes that are free. Fails where the result is not `length` bytes long. */
  decompress(stored: Buffer, length: number): Promise<Buffer>;
}

const zstdCompressAsync = promisify<Buffer, ZstdOptions, Buffer>(zstdCompress);
const zstdDecompressAsync = promisify<Buffer, ZstdOptions & { maxOutputLength?: number }, Buffer>(zlib.zstdDecompress);

type Lz4 = typeof lz4Types;
let lz4Loaded: Lz4 | undefined;

/** The native module, loaded for the volumes that need it only. */
function lz4(): Lz4 {
  lz4Loaded ??= createRequire(import.meta.url)('lz4-napi') as Lz4;
  return lz4Loaded;
}

function exactly(data: Buffer, length: number): Buffer {
  if (data.length !== length) throw new RangeError(`a block of ${length} bytes was expected, its object holds ${data.length}`);
  return data;
}

const codecs: Readonly<Record<Compression, Codec | undefined>> = {
  none: undefined,
  lz4: {
    name: 'lz4',
    lead: 4,
    bound: (length) => length + Math.floor(length / 255) + 16,
    compress: async (data) => (await lz4().compress(data)).subarray(4),
    async decompress(stored, length) {
      stored.writeUInt32LE(length, 0);
      return exactly(await lz4().uncompress(stored), length);
    },
  },
  zstd: {
    name: 'zstd',
    lead: 0,
    bound: (length) => length + (length >> 8) + (length < 128 * 1024 ? (128 * 1024 - length) >> 11 : 0),
    compress: (data) =>
      zstdCompressAsync(data, {
        params: { [constants.ZSTD_c_compressionLevel]: 1, [constants.ZSTD_c_contentSizeFlag]: 1 },
        pledgedSrcSize: data.length,
        // One output buffer that holds it all.
        chunkSize: Math.max(1024, data.length + (data.length >> 8) + 64),
      }),
    async decompress(stored, length) {
      return exactly(await zstdDecompressAsync(stored, { chunkSize: Math.max(64, length + 1), maxOutputLength: length }), length);
    },
  },
};

/** The codec of a volume's `Compression`; undefined for blocks as they are (ranges can be read). */
export function codecFor(compression: string): Codec | undefined {
  const name = compression === '' ? 'none' : compression.toLowerCase();
  if (name !== 'none' && name !== 'lz4' && name !== 'zstd')
    throw new UserError(
      'UnknownCompression',
      `compression ${JSON.stringify(compression)} is not known; known are none, lz4 and zstd`,
    );
  return codecs[name];
}
