/**
 * Deletion of file data after the last name is gone: the chunks' lists, then the blocks of slices that nothing refers to any
 * more, then the note in `delfiles`. Whatever is interrupted is found again by the hourly jobs, through `delfiles` and
 * through slices without references.
 *
 * Files of one chunk, which most are, go many at a time: their lists are read together, and the notes of those without data removed
 * together. Bounded: WORKERS times FILES at once (blocks of WITH_DATA times WORKERS) and QUEUE waiting; what does not fit is left to the hourly job. Who removes very
 * many waits for `room`, at most until it sees that none is made.
 * Source: the JuiceFS format, deleting file data.
 */
import type { Clock } from '../lib/clock.ts';
import type { Ino } from '../lib/int64.ts';
import type { Logger } from '../lib/log.ts';
import { forEachParallel } from '../lib/parallel.ts';
import type { ChangeLog } from './changelog.ts';
import type { MetaEngine, Write } from './engine.ts';
import { decodeSlices } from './records.ts';
import { CHUNK_SIZE, type MetaCallbacks } from './types.ts';

const WORKERS = 10;
const QUEUE = 10_000;
/** Files of one chunk that are deleted together. */
const FILES = 128;
/** Of these, those with data at once. */
const WITH_DATA = 4;
/** How long who removes very many waits for room in the queue, ms: where no data can be deleted, names still can. */
const ROOM_WAIT = 2000;
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
  /** Those who wait for room. */
  #crowded: (() => void)[] = [];
  /** Nothing has been deleted while somebody waited. */
  #stuck = false;

  constructor(volume: Surroundings) {
    this.#volume = volume;
  }

  /** The data of this file may go (its node is gone and `delfiles` tells of it). Returns at once. */
  enqueue(ino: Ino, length: number): void {
    if (this.#stopped || this.#queue.length >= QUEUE) return;
    this.#queue.push({ ino, length });
    if (this.#running < WORKERS) void this.#work();
  }

  /** Resolves when there is room for as many again as wait, or none is made. */
  async room(signal?: AbortSignal): Promise<void> {
    if (this.#stopped || this.#stuck || this.#queue.length < QUEUE / 2) return;
    const over = new AbortController();
    const room = new Promise<boolean>((resolve) => this.#crowded.push(() => resolve(true)));
    const late = this.#volume.clock.sleep(ROOM_WAIT, over.signal).then(
      () => false,
      () => true,
    );
    this.#stuck = !(await Promise.race([room, late]));
    over.abort();
    signal?.throwIfAborted();
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
    // Who has removed many tells of them one after the other: they go together.
    await new Promise<void>((resolve) => void setImmediate(resolve));
    while (this.#queue.length > 0) {
      // A large file is for one worker.
      let count = 0;
      while (count < FILES && (this.#queue[count]?.length ?? Infinity) <= CHUNK_SIZE) count++;
      const files = this.#queue.splice(0, Math.max(1, count));
      try {
        await this.deleteFiles(files);
        this.#stuck = false;
      } catch (error) {
        const message = 'the data of removed files could not be deleted; it is tried again later';
        this.#volume.logger.warn(message, { files: files.length, first: files[0]?.ino, error });
      }
      if (this.#queue.length < QUEUE / 2) this.#wake();
    }
    if (--this.#running > 0) return;
    for (const resolve of this.#idle) resolve();
    this.#idle = [];
  }

  #wake(): void {
    for (const resolve of this.#crowded) resolve();
    this.#crowded = [];
  }

  /** Deletes the data of removed files, at most some hundred. All are tried; fails with the first failure. */
  async deleteFiles(files: readonly Deleted[]): Promise<void> {
    const { engine } = this.#volume;
    const failures: unknown[] = [];
    const attempt = async (work: () => Promise<boolean>): Promise<boolean> => {
      try {
        return await work();
      } catch (error) {
        failures.push(error);
        return false;
      }
    };
    const single = files.filter(({ length }) => length <= CHUNK_SIZE);
    const lists = await engine.read(single.map(({ ino }) => ({ kind: 'chunk', ino, index: 0 }) as const));
    const whole: Deleted[] = [];
    await forEachParallel(single.entries(), WITH_DATA, async ([at, file]) => {
      const records = lists[at];
      if (!records || records.length === 0 || (await attempt(() => this.#deleteChunk(file.ino, 0, records)))) whole.push(file);
    });
    if (whole.length > 0)
      await engine.commit({
        checks: [],
        writes: whole.map(({ ino, length }) => ({ kind: 'removeDelfile', ino, length }) as const),
      });
    for (const { ino, length } of files)
      if (length > CHUNK_SIZE) await attempt(() => this.deleteFile(ino, length).then(() => true));
    if (failures.length > 0) throw failures[0];
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
