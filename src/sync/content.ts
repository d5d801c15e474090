/**
 * Contents of files between the pod's disk and the volume: straight from slices and blocks to a descriptor and back, holes kept.
 *
 * A content's digest tells whether bytes changed where only times or links did. It is made of the CRC-32C of each 4 MiB (which
 * the processor computes on the way) and the length: 16 bytes of their SHA-256. It guards against accidents, not attackers, and is
 * only asked where length and, for the decision to keep a copy, kind are equal.
 *
 * Memory: 16 regions of 4 MiB under way at most, for all files together, and one small buffer a file below 64 KiB.
 */
import { hash } from 'node:crypto';
import { read as readCallback, readSync, write as writeCallback, writeSync } from 'node:fs';
import { promisify } from 'node:util';
import type { ChunkStore, SliceWriter } from '../chunk/types.ts';
import { type Clock, systemClock } from '../lib/clock.ts';
import { crc32c } from '../lib/crc32c.ts';
import { errno, FsError, toErrno } from '../lib/errors.ts';
import type { Ino } from '../lib/int64.ts';
import { CHUNK_SIZE, type Meta, type Piece, SYSTEM } from '../meta/types.ts';
import { Crowd, Places } from './crowd.ts';
import { allocate, dataRanges } from './local.ts';

const read = promisify(readCallback);
const write = promisify(writeCallback);

export const REGION = 4 * 1024 * 1024;
const REGIONS_UNDER_WAY = 16;
const SLICES_UNDER_WAY = 4;
/** Small files that are fetched at once. */
const GETS_UNDER_WAY = 64;
/** Up to so many bytes a call on the page cache is cheaper than a thread. */
const SMALL = 64 * 1024;
/** From so many bytes of a chunk on, room on the disk is set aside before they are written. */
const ALLOCATED = 8 * 1024 * 1024;
/** Tries of a region whose blocks were gone: the list was old. */
const TRIES = 5;
const PAUSE_MS = 200;

/** The file changed while it was read; what was made of it must not be used. */
export class Torn extends Error {
  override readonly name = 'Torn';
}

export interface Content {
  readonly digest: Buffer;
  /** Checksum of the slice lists it was read from. */
  readonly slices: number;
}

const zeros = new Map<number, number>();
/** The checksum of so many zeros. */
function zeroSum(length: number): number {
  let sum = zeros.get(length);
  if (sum === undefined) {
    sum = crc32c(Buffer.alloc(length));
    if (length === REGION) zeros.set(length, sum);
  }
  return sum;
}

/** The digest of a content from the checksums of its regions. */
export function digestOf(sums: Uint32Array, size: number): Buffer {
  const regions = Buffer.from(sums.buffer, sums.byteOffset, sums.byteLength);
  return hash('sha256', Buffer.concat([regions, Buffer.from(String(size))]), 'buffer').subarray(0, 16);
}

/** The checksum of slice lists: `previous` is that of the chunks before. */
function addSlices(pieces: readonly Piece[], previous: number): number {
  const list = new Float64Array(pieces.length * 5);
  for (const [index, { pos, id, size, off, len }] of pieces.entries()) list.set([pos, id, size, off, len], index * 5);
  return crc32c(new Uint8Array(list.buffer), previous);
}

/** True where a chunk's pieces leave no hole before `length`. */
function isFull(pieces: readonly Piece[], length: number): boolean {
  const end = pieces.at(-1);
  return end !== undefined && end.pos + end.len >= length && pieces.every(({ id }) => id !== 0);
}

const regionLength = (size: number, region: number): number => Math.min(REGION, size - region * REGION);

export interface Progress {
  (bytes: number): void;
}

export class Contents {
  readonly #meta: Meta;
  readonly #chunks: ChunkStore;
  readonly #clock: Clock;
  readonly #places = new Places(REGIONS_UNDER_WAY);
  readonly #gets = new Places(GETS_UNDER_WAY);
  readonly #buffers: Buffer[] = [];

  constructor(meta: Meta, chunks: ChunkStore, clock: Clock = systemClock) {
    this.#meta = meta;
    this.#chunks = chunks;
    this.#clock = clock;
  }

  /** The checksum of a file's slice lists. */
  async slices(ino: Ino, size: number): Promise<number> {
    let sum = 0;
    for (let index = 0; index * CHUNK_SIZE < size; index++) sum = addSlices(await this.#meta.readChunk(ino, index), sum);
    return sum;
  }

  /** Bytes of a file that are not holes. */
  async dataBytes(ino: Ino, size: number): Promise<number> {
    let bytes = 0;
    for (let index = 0; index * CHUNK_SIZE < size; index++)
      for (const piece of await this.#meta.readChunk(ino, index)) if (piece.id !== 0) bytes += piece.len;
    return bytes;
  }

  /**
   * Reads small files whole, each into its target, which has the file's size: one round trip for all lists, then the blocks side by
   * side. Undefined where that does not do (several pieces, holes, a block that is gone): such a file is to be downloaded.
   */
  async gather(
    files: readonly { readonly ino: Ino; readonly target: Buffer }[],
    signal?: AbortSignal,
    progress?: Progress,
  ): Promise<readonly (Content | undefined)[]> {
    const lists = await this.#meta.readChunks(files.map(({ ino }) => ({ ino, index: 0 })));
    const results = await Promise.allSettled(files.map(({ target }, at) => this.#small(lists[at], target, signal, progress)));
    return results.map((result) => {
      if (result.status === 'rejected') throw result.reason;
      return result.value;
    });
  }

  async #small(
    list: readonly Piece[] | undefined,
    target: Buffer,
    signal: AbortSignal | undefined,
    progress: Progress | undefined,
  ): Promise<Content | undefined> {
    const size = target.length;
    if (size === 0) return { digest: digestOf(new Uint32Array(0), 0), slices: 0 };
    const [piece, ...more] = list ?? [];
    if (!list || !piece || more.length > 0 || piece.id === 0 || piece.pos > 0 || piece.len < size) return undefined;
    await this.#gets.take();
    try {
      signal?.throwIfAborted();
      const sum = (await this.#chunks.fetch(piece, piece.off, target, signal)) ?? crc32c(target);
      progress?.(size);
      return { digest: digestOf(Uint32Array.of(sum), size), slices: addSlices(list, 0) };
    } catch (error) {
      if (toErrno(error) !== errno.ENOENT) throw error;
      return undefined;
    } finally {
      this.#gets.give();
    }
  }

  /** Reads a file of the volume; its data goes to `fd` at the same places, where one is given. `fd` must be empty. */
  async download(
    ino: Ino,
    size: number,
    fd: number | undefined,
    signal?: AbortSignal,
    progress?: Progress,
    sink: (fd: number) => Sink = inTurn,
  ): Promise<Content> {
    const sums = new Uint32Array(Math.ceil(size / REGION));
    let slices = 0;
    const crowd = new Crowd(REGIONS_UNDER_WAY);
    const write = fd === undefined ? undefined : sink(fd);
    let pieces: readonly Piece[] = [];
    for (let region = 0, going = true; region < sums.length && going; region++) {
      const chunk = Math.floor((region * REGION) / CHUNK_SIZE);
      signal?.throwIfAborted();
      if ((region * REGION) % CHUNK_SIZE === 0) {
        pieces = await this.#meta.readChunk(ino, chunk);
        slices = addSlices(pieces, slices);
        const length = Math.min(CHUNK_SIZE, size - chunk * CHUNK_SIZE);
        if (fd !== undefined && length >= ALLOCATED && isFull(pieces, length)) await allocate(fd, chunk * CHUNK_SIZE, length);
      }
      const list = pieces;
      const length = regionLength(size, region);
      const task = async (): Promise<void> => {
        sums[region] = await this.#region(ino, chunk, list, region * REGION, length, write, signal);
        progress?.(length);
      };
      if (length <= SMALL && sums.length === 1) await task();
      else {
        await this.#places.take();
        going = await crowd.add(() => task().finally(() => this.#places.give()));
        if (!going) this.#places.give();
      }
    }
    await crowd.ended();
    return { digest: digestOf(sums, size), slices };
  }

  async #region(
    ino: Ino,
    chunk: number,
    pieces: readonly Piece[],
    from: number,
    length: number,
    write: Sink | undefined,
    signal: AbortSignal | undefined,
  ): Promise<number> {
    const base = from - chunk * CHUNK_SIZE;
    const parts = (
      list: readonly Piece[],
    ): readonly (Piece & { readonly at: number; readonly skip: number; readonly bytes: number })[] =>
      list.flatMap((piece) => {
        const begin = Math.max(piece.pos, base);
        const end = Math.min(piece.pos + piece.len, base + length);
        return piece.id !== 0 && begin < end ? [{ ...piece, at: begin - base, skip: begin - piece.pos, bytes: end - begin }] : [];
      });
    if (parts(pieces).length === 0) return zeroSum(length);
    const buffer = this.#take(length);
    let back: Buffer | undefined = buffer;
    try {
      for (let attempt = 1, list = pieces; ; attempt++) {
        const wanted = parts(list);
        let filled = 0;
        for (const { at, bytes } of wanted) {
          if (at > filled) buffer.fill(0, filled, at);
          filled = at + bytes;
        }
        if (filled < length) buffer.fill(0, filled, length);
        const results = await Promise.allSettled(
          wanted.map((part) =>
            this.#chunks.fetch(part, part.off + part.skip, buffer.subarray(part.at, part.at + part.bytes), signal),
          ),
        );
        const failed = results.find((result) => result.status === 'rejected');
        if (!failed) {
          const [only] = results;
          const known =
            wanted.length === 1 && wanted[0]?.bytes === length && only?.status === 'fulfilled' ? only.value : undefined;
          const sum = known ?? crc32c(buffer.subarray(0, length));
          if (write) {
            back = undefined;
            back = await write(
              buffer,
              wanted.map(({ at, bytes }) => ({ at, bytes, position: from + at })),
            );
          }
          return sum;
        }
        if (toErrno(failed.reason) !== errno.ENOENT || attempt === TRIES) throw failed.reason;
        await this.#clock.sleep(PAUSE_MS * (attempt - 1), signal);
        this.#meta.invalidateChunk(ino, chunk);
        list = await this.#meta.readChunk(ino, chunk);
      }
    } finally {
      if (back) this.#give(back);
    }
  }

  /** The digest of a file on the disk. */
  async digest(fd: number, size: number, signal?: AbortSignal): Promise<Buffer> {
    return this.#regions(fd, size, async () => {}, signal);
  }

  /** Writes the first `size` bytes of `fd` into a file of the volume that is empty. Throws Torn where the file is shorter by now. */
  async upload(fd: number, size: number, ino: Ino, signal?: AbortSignal, progress?: Progress): Promise<Buffer> {
    const crowd = new Crowd(SLICES_UNDER_WAY);
    let open: { readonly writer: SliceWriter; readonly chunk: number; readonly start: number; readonly id: number } | undefined;
    const writers: SliceWriter[] = [];
    let stored = 0;
    const finish = async (): Promise<void> => {
      if (!open) return;
      const { writer, chunk, start, id } = open;
      open = undefined;
      const going = await crowd.add(async () => {
        await writer.finish(signal);
        await this.#meta.writeSlice(SYSTEM, ino, chunk, start, { id, size: writer.length }, this.#clock.nowNs());
        writers.splice(writers.indexOf(writer), 1);
      });
      if (!going) await crowd.ended();
    };
    try {
      const digest = await this.#regions(
        fd,
        size,
        async (buffer, at, from, to) => {
          const chunk = Math.floor(from / CHUNK_SIZE);
          const position = from - chunk * CHUNK_SIZE;
          if (open && (open.chunk !== chunk || open.start + open.writer.length !== position)) await finish();
          if (!open) {
            const writer = this.#chunks.newSlice();
            writers.push(writer);
            const id = await this.#meta.newSliceId();
            writer.setId(id);
            open = { writer, chunk, start: position, id };
          }
          open.writer.write(buffer.subarray(at, at + to - from), open.writer.length);
          stored = to;
          progress?.(to - from);
          await this.#chunks.throttle(signal);
        },
        signal,
      );
      await finish();
      await crowd.ended();
      if (stored < size) await this.#meta.truncate(SYSTEM, ino, size);
      return digest;
    } catch (error) {
      for (const writer of writers) writer.abort();
      await crowd.ended().catch(() => {});
      throw error;
    }
  }

  /** Reads a file region by region, hands its data over, and answers the digest. */
  async #regions(
    fd: number,
    size: number,
    data: (buffer: Buffer, at: number, from: number, to: number) => Promise<void>,
    signal?: AbortSignal,
  ): Promise<Buffer> {
    const sums = new Uint32Array(Math.ceil(size / REGION));
    const ranges = dataRanges(fd, size);
    let range = ranges.next();
    const buffer = this.#take(Math.min(size, REGION));
    try {
      for (let region = 0; region < sums.length; region++) {
        signal?.throwIfAborted();
        const from = region * REGION;
        const length = regionLength(size, region);
        const parts: { readonly from: number; readonly to: number }[] = [];
        while (!range.done && range.value.from < from + length) {
          parts.push({ from: Math.max(range.value.from, from), to: Math.min(range.value.to, from + length) });
          if (range.value.to > from + length) break;
          range = ranges.next();
        }
        if (parts.length === 0) {
          sums[region] = zeroSum(length);
          continue;
        }
        await readAll(fd, buffer, length, from);
        sums[region] = crc32c(buffer.subarray(0, length));
        for (const part of parts) await data(buffer, part.from - from, part.from, part.to);
      }
      return digestOf(sums, size);
    } finally {
      this.#give(buffer);
    }
  }

  #take(bytes: number): Buffer {
    if (bytes <= SMALL) return Buffer.allocUnsafe(bytes);
    return this.#buffers.pop() ?? Buffer.allocUnsafeSlow(REGION);
  }

  #give(buffer: Buffer): void {
    if (buffer.length === REGION && this.#buffers.length < REGIONS_UNDER_WAY) this.#buffers.push(buffer);
  }
}

/** The parts of a buffer that go to a file, and where. */
export interface Part {
  readonly at: number;
  readonly bytes: number;
  readonly position: number;
}

/** Writes parts of a buffer; answers the buffer, or another view of its bytes: the first one may no longer be used. */
export type Sink = (buffer: Buffer, parts: readonly Part[]) => Promise<Buffer>;

/** Writes by the thread pool, one region at a time: the kernel lets only one write into a file, and has the others spin. */
function inTurn(fd: number): Sink {
  const turn = new Places(1);
  return async (buffer, parts) => {
    await turn.take();
    try {
      for (const { at, bytes, position } of parts) await writeAll(fd, buffer, at, bytes, position);
    } finally {
      turn.give();
    }
    return buffer;
  };
}

async function writeAll(fd: number, buffer: Buffer, at: number, length: number, position: number): Promise<void> {
  for (let done = 0; done < length;) {
    done +=
      length <= SMALL
        ? writeSync(fd, buffer, at + done, length - done, position + done)
        : (await write(fd, buffer, at + done, length - done, position + done)).bytesWritten;
  }
}

async function readAll(fd: number, buffer: Buffer, length: number, position: number): Promise<void> {
  for (let done = 0; done < length;) {
    const count =
      length <= SMALL
        ? readSync(fd, buffer, done, length - done, position + done)
        : (await read(fd, buffer, done, length - done, position + done)).bytesRead;
    if (count === 0) throw new Torn('the file became shorter while it was read');
    done += count;
  }
}

/** True for what says that a file of the volume is no longer there. */
export const isGone = (error: unknown): boolean => error instanceof FsError && error.code === 'ENOENT';
