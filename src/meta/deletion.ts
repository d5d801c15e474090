/**
 * Deletion of file data after the last name is gone: the chunks' lists, then the blocks of slices that nothing refers to any
 * more, then the note in `delfiles`. Whatever is interrupted is found again by the hourly jobs, through `delfiles` and
 * through slices without references.
 *
 * Bounded: WORKERS files at once and QUEUE waiting; what does not fit is left to the hourly job.
 * Source: the JuiceFS format, deleting file data.
 */
import type { Clock } from '../lib/clock.ts';
import type { Ino } from '../lib/int64.ts';
import type { Logger } from '../lib/log.ts';
import type { ChangeLog } from './changelog.ts';
import type { MetaEngine, Write } from './engine.ts';
import { decodeSlices } from './records.ts';
import { CHUNK_SIZE, type MetaCallbacks } from './types.ts';

const WORKERS = 10;
const QUEUE = 10_000;
/** Lists read in one go. */
const CHUNKS_PER_READ = 64;
/** Beyond so many chunks (64 GiB) a file's lists are searched for instead of tried one by one. */
const CHUNKS_TO_TRY = 1024;

/** What is needed of the volume. */
interface Surroundings {
  readonly engine: MetaEngine;
  readonly log: Pick<ChangeLog, 'deleteChunk' | 'deleteSlice'>;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly callbacks: MetaCallbacks;
}

interface Deleted {
  readonly ino: Ino;
  readonly length: number;
}

export class Deletions {
  readonly #volume: Surroundings;
  readonly #queue: Deleted[] = [];
  #running = 0;
  #stopped = false;
  #idle: (() => void)[] = [];

  constructor(volume: Surroundings) {
    this.#volume = volume;
  }

  /** The data of this file may go (its node is gone and `delfiles` tells of it). Returns at once. */
  enqueue(ino: Ino, length: number): void {
    if (this.#stopped || this.#queue.length >= QUEUE) return;
    this.#queue.push({ ino, length });
    if (this.#running < WORKERS) void this.#work();
  }

  /** Resolves when nothing is waiting or being deleted. */
  async settled(): Promise<void> {
    if (this.#running > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  /**
   * Takes no more, and waits for what is left, at most `grace` ms; then drops what is still waiting (the hourly job finds
   * it) and waits for what is under way.
   */
  async stop(grace: number): Promise<void> {
    this.#stopped = true;
    const settled = this.settled();
    const waited = new AbortController();
    await Promise.race([settled, this.#volume.clock.sleep(grace, waited.signal).catch(() => {})]);
    waited.abort();
    this.#queue.length = 0;
    await settled;
  }

  async #work(): Promise<void> {
    this.#running++;
    for (let next = this.#queue.shift(); next; next = this.#queue.shift()) {
      try {
        await this.deleteFile(next.ino, next.length);
      } catch (error) {
        this.#volume.logger.warn('the data of a removed file could not be deleted; it is tried again later', { ...next, error });
      }
    }
    if (--this.#running > 0) return;
    for (const resolve of this.#idle) resolve();
    this.#idle = [];
  }

  /** Deletes the data of one removed file. `length` is as `delfiles` has it. */
  async deleteFile(ino: Ino, length: number): Promise<void> {
    const { engine } = this.#volume;
    let whole = true;
    for await (const indexes of this.#chunksOf(ino, length)) {
      const lists = await engine.read(indexes.map((index) => ({ kind: 'chunk', ino, index }) as const));
      for (const [at, records] of lists.entries())
        if (records.length > 0) whole = (await this.#deleteChunk(ino, indexes[at] ?? 0, records)) && whole;
    }
    if (whole) await engine.commit({ checks: [], writes: [{ kind: 'removeDelfile', ino, length }] });
  }

  async *#chunksOf(ino: Ino, length: number): AsyncIterable<readonly number[]> {
    const count = Math.max(1, Math.ceil(length / CHUNK_SIZE));
    let batch: number[] = [];
    const add = (index: number): boolean => batch.push(index) >= CHUNKS_PER_READ;
    if (count <= CHUNKS_TO_TRY) {
      for (let index = 0; index < count; index++)
        if (add(index)) {
          yield batch;
          batch = [];
        }
    } else {
      for await (const index of this.#volume.engine.scanChunks(ino))
        if (add(index)) {
          yield batch;
          batch = [];
        }
    }
    if (batch.length > 0) yield batch;
  }

  /** False where the list had changed meanwhile (somebody else deletes it as well). */
  async #deleteChunk(ino: Ino, index: number, records: Buffer): Promise<boolean> {
    const slices = decodeSlices(records).filter((record) => record.id > 0);
    const result = await this.#volume.engine.commit({
      checks: [{ kind: 'chunkPrefix', ino, index, records, whole: true }],
      writes: [
        { kind: 'removeChunk', ino, index },
        ...slices.map(({ id, size }) => dropReference(id, size)),
        ...this.#volume.log.deleteChunk(ino, index),
      ],
    });
    if (!result.ok) return false;
    const gone = slices.filter((_slice, at) => (result.results[at + 1] ?? 1) <= 0);
    await this.deleteSlices(gone);
    return true;
  }

  /** Deletes the blocks of slices without references, as far as the owner of the blocks takes part. */
  async deleteSlices(slices: readonly { readonly id: number; readonly size: number }[]): Promise<void> {
    const { callbacks, engine, log } = this.#volume;
    if (!callbacks.deleteSlice) return;
    // The same slice may have been in several records.
    for (const { id, size } of new Map(slices.map((slice) => [slice.id, slice])).values()) {
      await callbacks.deleteSlice(id, size);
      await engine.commit({ checks: [], writes: [{ kind: 'forgetSlice', id, size }, ...log.deleteSlice(id, size)] });
    }
  }
}

/** One reference less to a slice. */
export function dropReference(id: number, size: number): Write {
  return { kind: 'addSliceRef', id, size, delta: -1 };
}
