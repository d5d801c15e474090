/**
 * What a file consists of, as a list of ranges in order that covers it from 0 to its length: parts of slices, and holes. Slices never
 * change, so equal ranges hold equal bytes, and of two lists of one file the difference tells what was changed.
 */
import type { ChunkStore } from '../chunk/types.ts';
import type { Ino } from '../lib/int64.ts';
import { CHUNK_SIZE, type Attr, type Meta, type Piece } from '../meta/types.ts';

/** Bytes of a file from `at` on; `id` 0: zeros. Else they lie in that slice of `size` bytes, at `off`. */
export interface Range {
  readonly at: number;
  readonly length: number;
  readonly id: number;
  readonly size: number;
  readonly off: number;
}

/** Lists of slices read at once. */
const CHUNKS_PER_READ = 64;

/** The state of a file's content, as far as its attributes tell: as long as they stay, so does the content. At most 128 characters, hex and `-`. */
export function stateOf({ length, mtime, mtimensec, ctime, ctimensec }: Attr): string {
  return [length, mtime, mtimensec, ctime, ctimensec].map((value) => value.toString(16)).join('-');
}

/** Adds the ranges of one chunk, whose first byte is at `start`, up to `end`. */
function addChunk(ranges: Range[], pieces: readonly Piece[], start: number, end: number): void {
  let at = start;
  const add = (to: number, piece?: Piece): void => {
    if (to <= at) return;
    const slice =
      piece && piece.id !== 0 ? { id: piece.id, size: piece.size, off: piece.off + at - start - piece.pos } : undefined;
    ranges.push({ at, length: to - at, ...(slice ?? { id: 0, size: 0, off: 0 }) });
    at = to;
  };
  for (const piece of pieces) {
    add(Math.min(start + piece.pos, end));
    add(Math.min(start + piece.pos + piece.len, end), piece);
  }
  add(end);
}

/** What the first `length` bytes of a file consist of now, as the engine has it. */
export async function contentOf(meta: Meta, ino: Ino, length: number): Promise<readonly Range[]> {
  const ranges: Range[] = [];
  const count = Math.ceil(length / CHUNK_SIZE);
  for (let from = 0; from < count; from += CHUNKS_PER_READ) {
    const chunks = Array.from({ length: Math.min(CHUNKS_PER_READ, count - from) }, (_, index) => ({ ino, index: from + index }));
    for (const [index, pieces] of (await meta.readChunks(chunks)).entries()) {
      const start = (from + index) * CHUNK_SIZE;
      addChunk(ranges, pieces ?? [], start, Math.min(start + CHUNK_SIZE, length));
    }
  }
  return ranges;
}

/** The ranges of `now` that `before` has not; all where nothing is known of it. */
export function changedRanges(before: readonly Range[] | undefined, now: readonly Range[]): readonly Range[] {
  if (!before) return now;
  const name = ({ at, length, id, off }: Range): string => `${at}:${length}:${id}:${off}`;
  const known = new Set(before.map(name));
  return now.filter((range) => !known.has(name(range)));
}

/** True where all of it is near: nothing would have to be fetched from the store. */
export function isCached(chunks: ChunkStore, ranges: readonly Range[]): boolean {
  const { blockSize } = chunks;
  return ranges.every(({ id, size, off, length }) => {
    if (id === 0) return true;
    for (let index = Math.floor(off / blockSize); index * blockSize < off + length; index++)
      if (chunks.locate({ id, size }, index) === undefined) return false;
    return true;
  });
}

/**
 * Reads ranges in order and hands their bytes on, a block at most at a time, in a buffer that is used again when `take` resolves. Holes come
 * as zeros. Fails as ChunkStore.read.
 */
export async function copyRanges(
  chunks: ChunkStore,
  ranges: readonly Range[],
  take: (bytes: Buffer, at: number, hole: boolean) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const { blockSize } = chunks;
  const buffer = Buffer.allocUnsafeSlow(blockSize);
  for (const { at, length, id, size, off } of ranges)
    for (let done = 0; done < length;) {
      signal.throwIfAborted();
      // Whole blocks where the slice has them: those are read, and their sums verified, without a copy.
      const bytes = Math.min(length - done, blockSize - ((off + done) % blockSize));
      const target = buffer.subarray(0, bytes);
      if (id === 0) target.fill(0);
      else await chunks.read({ id, size }, off + done, target, signal);
      await take(target, at + done, id === 0);
      done += bytes;
    }
}
