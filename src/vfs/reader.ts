/**
 * Reads of one open file: file range → chunk views → slices. A read waits for the file's own uncommitted bytes where
 * they overlap. Where a block is gone, the slice list was old (another client compacted or deleted): the list is fetched
 * again and the whole read repeated, a bounded number of times. Other failures are not repeated here: store and database
 * have been tried again, with pauses, by the layers below, and repeating that would multiply their bounds.
 */
import type { ChunkStore } from '../chunk/types.ts';
import type { Clock } from '../lib/clock.ts';
import { errno, FsError, toErrno } from '../lib/errors.ts';
import type { Ino } from '../lib/int64.ts';
import { CHUNK_SIZE, type Meta, type Piece } from '../meta/types.ts';
import type { BufferPool } from './buffers.ts';
import { interruptible } from './interruptible.ts';

/** Tries of one read, the first included; before try n it waits (n-1) × 300 ms. */
const TRIES = 11;
const WAIT_MS = 300;
/** Read-ahead begins with this many bytes once a handle reads in sequence, and grows by this factor as it goes on. */
const FIRST_WINDOW = 4 * 1024 * 1024;
const WINDOW_GROWTH = 4;

export interface ReaderDependencies {
  readonly meta: Meta;
  readonly chunks: ChunkStore;
  readonly clock: Clock;
  readonly buffers: BufferPool;
  /** Bytes that a handle may have read ahead of its reader. */
  readonly maxReadahead: number;
}

/** Where a handle stands in its file, to tell a stream from random reads. */
export interface ReadPosition {
  /** End of the last read. */
  next: number;
  /** Bytes to keep ahead; 0 while reads are random. */
  window: number;
  /** End of what was asked for ahead. */
  ahead: number;
}

export const newReadPosition = (): ReadPosition => ({ next: 0, window: 0, ahead: 0 });

/** Fills `target` from `pieces` (positions relative to the chunk) for the range that begins at `from`. Zeros where nothing is. */
function overlap(
  piece: Piece,
  from: number,
  length: number,
): { readonly at: number; readonly skip: number; readonly bytes: number } | undefined {
  const begin = Math.max(piece.pos, from);
  const end = Math.min(piece.pos + piece.len, from + length);
  return begin < end ? { at: begin - from, skip: begin - piece.pos, bytes: end - begin } : undefined;
}

/** Index of the first piece that ends behind `from`; pieces are in order. */
function firstPiece(pieces: readonly Piece[], from: number): number {
  let low = 0;
  let high = pieces.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const piece = pieces[middle];
    if (piece && piece.pos + piece.len <= from) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Copies one chunk's part into `target`; synchronous (undefined) where all of it is in memory. */
function readPieces(
  chunks: ChunkStore,
  pieces: readonly Piece[],
  from: number,
  target: Buffer,
  signal?: AbortSignal,
): Promise<unknown> | undefined {
  let waits: Promise<void>[] | undefined;
  let filled = 0;
  for (let index = firstPiece(pieces, from); index < pieces.length; index++) {
    const piece = pieces[index];
    if (!piece) break;
    const part = overlap(piece, from, target.length);
    if (!part) break;
    if (part.at > filled) target.fill(0, filled, part.at);
    filled = part.at + part.bytes;
    if (piece.id === 0) {
      target.fill(0, part.at, filled);
      continue;
    }
    const into = part.bytes === target.length ? target : target.subarray(part.at, filled);
    if (!chunks.readCached(piece, piece.off + part.skip, into))
      (waits ??= []).push(chunks.read(piece, piece.off + part.skip, into, signal));
  }
  if (filled < target.length) target.fill(0, filled);
  if (!waits) return undefined;
  return waits.length === 1 ? waits[0] : settleAll(waits);
}

/** Waits for all, so that nothing writes into the buffer after the answer; then throws the first failure. */
async function settleAll(waits: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(waits)) if (result.status === 'rejected') throw result.reason;
}

/** The part of a slice that holds the whole range, if there is such a one. */
function onlyPiece(pieces: readonly Piece[], from: number, length: number): Piece | undefined {
  const piece = pieces[firstPiece(pieces, from)];
  return piece && piece.id !== 0 && piece.pos <= from && from + length <= piece.pos + piece.len ? piece : undefined;
}

/**
 * Shows `deliver` the file's `length` bytes from `offset` (the caller has clipped them to the file's length), once, before it
 * resolves; they are gone when `deliver` returns. Where they lie together in memory, or in a block on its way there, they are
 * not copied. `signal` is asked for only where the read has to wait.
 */
export async function readFile(
  inode: Ino,
  offset: number,
  length: number,
  dependencies: ReaderDependencies,
  signal: () => AbortSignal,
  deliver: (bytes: Buffer) => void,
): Promise<void> {
  const { meta, chunks, clock, buffers } = dependencies;
  const index = Math.floor(offset / CHUNK_SIZE);
  const from = offset - index * CHUNK_SIZE;
  if (from + length <= CHUNK_SIZE) {
    const piece = onlyPiece(await meta.readChunk(inode, index), from, length);
    if (piece) {
      const at = piece.off + from - piece.pos;
      const bytes = chunks.peek(piece, at, length);
      if (bytes) return deliver(bytes);
      let delivered = false;
      const wait = chunks.arriving(piece, at, length, (arrived) => {
        // The caller may have given up: then nobody waits for this.
        if (delivered) return;
        delivered = true;
        deliver(arrived);
      });
      if (wait) {
        try {
          return await interruptible(wait, signal, clock);
        } catch (error) {
          if (delivered || toErrno(error) !== errno.ENOENT) {
            delivered = true;
            throw error;
          }
        }
      }
    }
  }
  const buffer = buffers.take(length);
  const target = buffer.length === length ? buffer : buffer.subarray(0, length);
  try {
    await copyFile(inode, offset, target, dependencies, signal);
    deliver(target);
  } catch (error) {
    // Of a read that was given up, something may still be on its way into the buffer: that one is not used again.
    if (toErrno(error) !== errno.EINTR) buffers.give(buffer);
    throw error;
  }
  buffers.give(buffer);
}

/**
 * Fills `target` with the file's bytes from `offset` (the caller has clipped it to the file's length). `signal` is asked
 * for only where the read has to wait.
 */
async function copyFile(
  inode: Ino,
  offset: number,
  target: Buffer,
  dependencies: ReaderDependencies,
  signal: () => AbortSignal,
): Promise<void> {
  const { meta, chunks, clock } = dependencies;
  for (let attempt = 1; ; attempt++) {
    try {
      let done = 0;
      while (done < target.length) {
        const at = offset + done;
        const index = Math.floor(at / CHUNK_SIZE);
        const from = at - index * CHUNK_SIZE;
        const length = Math.min(target.length - done, CHUNK_SIZE - from);
        const pieces = await meta.readChunk(inode, index);
        const wait = readPieces(
          chunks,
          pieces,
          from,
          length === target.length ? target : target.subarray(done, done + length),
          attempt > 1 ? signal() : undefined,
        );
        if (wait) await interruptible(wait, signal, clock);
        done += length;
      }
      return;
    } catch (error) {
      if (toErrno(error) !== errno.ENOENT) throw error;
      if (attempt >= TRIES)
        throw new FsError('EIO', `blocks of inode ${inode} are missing in the object store`, { cause: error });
      // The list is fetched anew at once; only what still fails then is worth a wait.
      for (let index = Math.floor(offset / CHUNK_SIZE); index * CHUNK_SIZE < offset + target.length; index++)
        meta.invalidateChunk(inode, index);
      if (attempt > 1) await clock.sleep((attempt - 1) * WAIT_MS, signal());
    }
  }
}

/** Notes a read, and asks for what a stream will want next. Answers at once; what it starts runs by itself. */
export function readAhead(
  inode: Ino,
  position: ReadPosition,
  offset: number,
  length: number,
  fileLength: number,
  dependencies: ReaderDependencies,
): void {
  const sequential =
    offset === position.next || (position.window > 0 && offset > position.next - position.window && offset < position.ahead);
  position.next = Math.max(offset + length, sequential ? position.next : 0);
  if (!sequential) {
    position.window = 0;
    position.ahead = 0;
    return;
  }
  if (offset === 0 && length >= fileLength) return;
  position.window = Math.min(dependencies.maxReadahead, position.window === 0 ? Math.max(FIRST_WINDOW, length) : position.window);
  if (position.window === 0) return;
  // Ask again when half of what was asked for is used up.
  const wanted = Math.min(fileLength, position.next + position.window);
  if (position.ahead - position.next > position.window / 2 || wanted <= position.ahead) return;
  const from = Math.max(position.ahead, position.next);
  position.ahead = wanted;
  position.window = Math.min(dependencies.maxReadahead, position.window * WINDOW_GROWTH);
  void prefetch(inode, from, wanted, dependencies);
}

async function prefetch(inode: Ino, from: number, to: number, { meta, chunks }: ReaderDependencies): Promise<void> {
  try {
    for (let at = from; at < to;) {
      const index = Math.floor(at / CHUNK_SIZE);
      const begin = at - index * CHUNK_SIZE;
      const length = Math.min(to - at, CHUNK_SIZE - begin);
      for (const piece of await meta.readChunk(inode, index)) {
        const part = piece.id === 0 ? undefined : overlap(piece, begin, length);
        if (part) chunks.prefetch(piece, piece.off + part.skip, part.bytes);
      }
      at += length;
    }
  } catch {
    // Only a guess failed; the read itself will say what is wrong.
  }
}
