/**
 * The block layer as its users see it: slices in, slices out. A slice is at most 64 MiB, cut into blocks of the
 * volume's block size; a block is one object. Who writes where in a file is not known here.
 */

import type { Family } from '../lib/metrics.ts';

/** A slice as metadata names it. `size` is the length of the uploaded slice; all its blocks exist. */
export interface SliceId {
  readonly id: number;
  readonly size: number;
}

/** Told of each part of a write: `length` bytes from `begin` on are in `buffer` now, at `within`. */
export type Taken = (buffer: Buffer, within: number, begin: number, length: number) => void;

/** Memory for blocks that are written, in place of the pool's own; the pool counts it. */
export interface BlockMemory {
  /** Bytes of its buffers that no block has. */
  readonly idleBytes: number;
  /** Bytes that no block is busy with, and that cannot be had before somebody has committed something. */
  readonly lingeringBytes: number;
  /** True where a buffer cannot be had before. */
  isHeld(buffer: Buffer): boolean;
  /** A buffer of just so many bytes, with arbitrary content; undefined where there is none, or `fresh` and no more can be made. */
  take(bytes: number, fresh: boolean): Buffer | undefined;
  give(buffer: Buffer): void;
  /** Only a cache has the block of this buffer now, or somebody else as well. */
  idle(buffer: Buffer, idle: boolean): void;
  /** Lets go of so many bytes that nobody has, as far as there are. */
  shrink(bytes: number): void;
  /** Called when less lingers. */
  freed: () => void;
}

export interface SliceWriter {
  /** Bytes written so far from the start of the slice (it may be written again behind that, up to `uploaded`). */
  readonly length: number;
  /** Bytes already handed to upload, a multiple of the block size: what lies before can no longer be rewritten. */
  readonly uploaded: number;
  /** Copies `data` to `offset` (`uploaded <= offset <= length`; slice end at most 64 MiB). Synchronous: memory only. `taken` must not throw. */
  write(data: Buffer, offset: number, taken?: Taken): void;
  /** The id under which the blocks go; full blocks are uploaded from then on. May be called once. */
  setId(id: number): void;
  /** All that was written, while it is less than a block; it stays the slice's, and changes with the next write. */
  peek(): Buffer | undefined;
  /** Starts uploading every full block (no-op before setId). */
  flushFull(): void;
  /** Uploads the rest and resolves when every block is durable in the store, or staged (write-back). Fails with FsError. The id must be set. */
  finish(signal?: AbortSignal): Promise<void>;
  /** Drops the slice; blocks that were already uploaded are deleted in the background. */
  abort(): void;
}

export interface SliceOptions {
  readonly direct?: boolean;
  /** Where its whole blocks gather, as far as there is room. One for all slices of a store that have one. */
  readonly memory?: BlockMemory | undefined;
}

export interface ChunkStore {
  readonly blockSize: number;
  /** Resolves when it is known what an earlier client has left staged (write-back): before it, that may be missing. Never rejects. */
  readonly ready: Promise<void>;
  /** Copies [offset, offset+target.length) of the slice into `target` if all of it lies in memory; else false. */
  readCached(slice: SliceId, offset: number, target: Buffer): boolean;
  /**
   * Copies [offset, offset+target.length) of the slice into `target`, from memory, disk cache or store. Equal reads share
   * one download. Fails with FsError: ENOENT where a block is gone (the caller re-reads its slice list and tries again).
   */
  read(slice: SliceId, offset: number, target: Buffer, signal?: AbortSignal): Promise<void>;
  /**
   * The same for bytes that are wanted once: whole blocks go straight into `target` and nothing is kept of them, or shared with who
   * asks at the same time. Answers the CRC-32C of `target` where it is known from checking what came. Nothing bounds the
   * blocks under way but the caller.
   */
  fetch(slice: SliceId, offset: number, target: Buffer, signal?: AbortSignal): Promise<number | undefined>;
  /**
   * The bytes [offset, offset+length) of the slice, where they lie in one block in memory. They stay the store's: use them
   * before the next await.
   */
  peek(slice: SliceId, offset: number, length: number): Buffer | undefined;
  /**
   * The same of a block that is on its way: `use` gets the bytes, which are its own until it returns. Undefined where
   * nothing is on its way. Fails as `read` does.
   */
  arriving(
    slice: SliceId,
    offset: number,
    length: number,
    use: (bytes: Buffer) => void,
    signal?: AbortSignal,
  ): Promise<void> | undefined;
  /**
   * Brings a block of a slice into the cache, on the disk where there is one; readers of it share the download. A few at a time, so
   * that there is room for readers. False where it found no room there. Fails as `read` does.
   */
  warm(slice: SliceId, index: number, signal?: AbortSignal): Promise<boolean>;
  /** Where a block of a slice is cached: a folder, or `memory`; undefined where it is not. */
  locate(slice: SliceId, index: number): string | undefined;
  /** Drops a block of a slice from the cache; what is not uploaded yet stays. */
  evict(slice: SliceId, index: number): void;
  /** Asks for the blocks that hold [offset, offset+length) to be brought near, bounded by the read-ahead budget. */
  prefetch(slice: SliceId, offset: number, length: number): void;
  /** With `direct` its blocks are uploaded before it is finished, also with write-back (what others are to read at once). */
  newSlice(options?: SliceOptions): SliceWriter;
  /** Deletes the blocks of a slice; missing ones are success. */
  remove(slice: SliceId): Promise<void>;
  /** Bytes of written data that are not durable yet, in all slices. */
  readonly dirtyBytes: number;
  /**
   * Resolves when new writes may go on (dirty bytes under the limit); at once in the ordinary case. `relieve` is called while that waits and
   * nothing is on its way to the store: there is no room before slices are finished.
   */
  throttle(signal?: AbortSignal, relieve?: () => void): Promise<void> | undefined;
  /** For a time without work: lets go of buffers that lie unused, and of clean blocks where the disk has a cache for them. */
  trim(): void;
  /** Figures by JuiceFS's names, without prefix. */
  stats(): Readonly<Record<string, number>>;
  /** The same, and more, for `.stats` and /metrics: the values of now. */
  families(): readonly Family[];
  /**
   * Uploads what is staged (write-back), without delay, and stages nothing more. Resolves when nothing is left or the signal
   * aborts, with what is left staged. At once without write-back.
   */
  drain(signal: AbortSignal): Promise<{ readonly blocks: number; readonly bytes: number }>;
  /** Ends. What is staged stays staged, for the next client. */
  close(): Promise<void>;
}
