/**
 * Where the data and the holes of a file are (lseek with SEEK_DATA and SEEK_HOLE): a hole is what no slice covers, or zeros that a
 * truncation, a punched or zeroed range left; the file's end is a hole, too. (The official client does not tell: to it, all is data.)
 *
 * Memory is bounded by READ lists at once. Beyond TRY chunks without a list the lists that there are get searched for.
 */
import { FsError } from '../lib/errors.ts';
import type { Ino } from '../lib/int64.ts';
import { decodeSlices } from './records.ts';
import { viewOf } from './slices.ts';
import { CHUNK_SIZE, type Context, NodeType, type Piece } from './types.ts';
import type { Volume } from './volume.ts';

/** Chunks whose lists are read in one go. */
const READ = 16;
/** Empty chunks in a row that are looked at one by one. */
const TRY = 256;

/** Where the first piece of that kind begins at or behind `from` in a chunk; undefined where there is none. */
export function findPiece(view: readonly Piece[], from: number, want: 'data' | 'hole'): number | undefined {
  let end = 0;
  for (const piece of view) {
    end = piece.pos + piece.len;
    if (end > from && (piece.id === 0) === (want === 'hole')) return Math.max(piece.pos, from);
  }
  return want === 'hole' && Math.max(end, from) < CHUNK_SIZE ? Math.max(end, from) : undefined;
}

/** The first chunk from `index` on, below `last`, that has a list; undefined where there is none. */
async function nextList(volume: Volume, ino: Ino, index: number, last: number): Promise<number | undefined> {
  let found: number | undefined;
  for await (const each of volume.engine.scanChunks(ino))
    if (each >= index && each <= last && (found === undefined || each < found)) found = each;
  return found;
}

/**
 * The first offset of data, or of a hole, at or behind `offset`, in bytes. ENXIO at or behind the end of the file, and where no data
 * follows.
 */
export async function seek(volume: Volume, ctx: Context, ino: Ino, offset: number, want: 'data' | 'hole'): Promise<number> {
  const { engine } = volume;
  const [attr] = await engine.read([{ kind: 'node', ino }], ctx.signal);
  if (!attr) throw new FsError('ENOENT');
  if (attr.type !== NodeType.File) throw new FsError('EINVAL');
  const { length } = attr;
  if (offset < 0 || offset >= length) throw new FsError('ENXIO');
  const last = Math.floor((length - 1) / CHUNK_SIZE);
  let empty = 0;
  for (let index = Math.floor(offset / CHUNK_SIZE); index <= last;) {
    const count = Math.min(READ, last - index + 1);
    const reads = Array.from({ length: count }, (_, at) => ({ kind: 'chunk', ino, index: index + at }) as const);
    for (const [at, records] of (await engine.read(reads, ctx.signal)).entries()) {
      const base = (index + at) * CHUNK_SIZE;
      const found = findPiece(viewOf(decodeSlices(records)), Math.max(0, offset - base), want);
      if (found !== undefined && base + found < length) return base + found;
      empty = records.length === 0 ? empty + 1 : 0;
    }
    index += count;
    if (empty < TRY) continue;
    const next = await nextList(volume, ino, index, last);
    if (next === undefined) break;
    index = next;
    empty = 0;
  }
  if (want === 'hole') return length;
  throw new FsError('ENXIO');
}
