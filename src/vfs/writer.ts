/**
 * The written, not yet committed data of one file.
 *
 * A write goes into the newest slice of its chunk that can still take it, else into a new slice. A slice is *frozen* (takes
 * no more) when it is full, on flush, when it is old or idle, or when too many lie open behind it; a frozen slice
 * is uploaded, and when its blocks are durable it is committed to the metadata. Commits happen in the order in which
 * the slices were made, one after the other, so neither a newer write is hidden by an older one nor does the file's length ever
 * show a gap. Rules of appending: JuiceFS format, data path of the writer.
 *
 * Scattered writes would make an object each. Where several small slices lie open, the oldest becomes a *pack* (pack.ts): it
 * takes over the others and what is scattered after them. A write may join an earlier slice so only where no slice between the
 * two overlaps it, and within what the file's length is already.
 *
 * Room in the volume's limits and in quotas is asked for before a write is taken (`admit`), so that no commit is refused for it.
 *
 * An error (upload given up, a database that is full) is kept and told to each handle that was open when it happened: once to its next
 * write or fsync, and to every flush until then. Later writes go on.
 */
import type { BlockMemory, ChunkStore, SliceWriter, Taken } from '../chunk/types.ts';
import type { Clock } from '../lib/clock.ts';
import { errno, FsError, messageOf, toErrno } from '../lib/errors.ts';
import type { Ino } from '../lib/int64.ts';
import type { Logger } from '../lib/log.ts';
import { MOST_PARTS } from '../meta/slices.ts';
import { type Attr, CHUNK_SIZE, type Meta, type Room, SYSTEM } from '../meta/types.ts';
import type { LocalChange } from './attributes.ts';
import { type Journal, JournalFull, type Segment } from './journal.ts';
import { Pack } from './pack.ts';

/** Slices of one chunk that stay open for appending; older ones are frozen. */
const OPEN_SLICES = 3;
/** So many open slices of a file that are small enough become one before another is made, and how small that is, bytes. */
const SMALL_SLICES = 2;
const SMALL_SLICE = 64 * 1024;
/** Slices of one file that wait for upload or commit; a write beyond waits. */
const MAX_PENDING = 1000;
/**
 * Where the journal is pressed a slice ends at the next multiple of this in its chunk, bytes: many streams would else hold 64 MiB of it
 * each. Whole blocks of any size, and fewer slices than other clients merge when they read.
 */
const EARLY_END = 16 * 1024 * 1024;
/** A slice is frozen when it is so old, or so long without a write, milliseconds. */
const MAX_AGE_MS = 5000;
const MAX_IDLE_MS = 1000;

interface PendingSlice {
  readonly chunk: number;
  /** Where it begins in the chunk. */
  readonly start: number;
  readonly data: SliceWriter;
  /** Where its bytes belong in the file, where that is not one piece from `start` on. */
  pack: Pack | undefined;
  readonly created: number;
  /** Where its bytes lie in the journal, and where the first of them begin. */
  readonly segments: Segment[];
  firstSegment: number;
  firstPosition: number;
  id: number;
  lastWrite: number;
  mtimeNs: bigint;
  frozen: boolean;
  /** Resolves when the blocks are durable. */
  durable: Promise<void> | undefined;
}

export interface WriterDependencies {
  readonly meta: Meta;
  readonly chunks: ChunkStore;
  readonly clock: Clock;
  readonly journal: Journal | undefined;
  readonly logger: Logger;
  /** Told the attributes after each commit. */
  committed(ino: Ino, attr: Attr): void;
  /** Told that a slice could not be stored. */
  failed(): void;
}

const beginOf = (slice: PendingSlice): number => slice.chunk * CHUNK_SIZE + slice.start;

function covers(slice: PendingSlice, begin: number, end: number): boolean {
  if (slice.pack) return slice.pack.overlaps(begin, end);
  const start = beginOf(slice);
  return start < end && begin < start + slice.data.length;
}

/** Whether a write at `position` of a chunk goes on where the slice ends, or back to what is not uploaded of it. */
const continues = ({ chunk, start, data }: PendingSlice, of: number, position: number): boolean =>
  chunk === of && position >= start + data.uploaded && position <= start + data.length;

/** Whether it may become part of a pack. */
const isSmall = ({ frozen, pack, data }: PendingSlice): boolean => !frozen && !pack && data.length <= SMALL_SLICE;

export class FileWriter {
  readonly #ino: Ino;
  readonly #with: WriterDependencies;
  /** In order of making; the first is the next to be committed. */
  readonly #pending: PendingSlice[] = [];
  readonly #room: Room;
  #committing: Promise<void> | undefined;
  #space: { readonly promise: Promise<void>; resolve(): void } | undefined;
  #length = 0;
  /** The file's length in the database, as far as it is known. */
  #committed = 0;
  #mtimeNs = 0n;
  /** Number of failures so far, and the last one's errno: a handle compares its own count. */
  #failures = 0;
  #lastErrno = 0;

  constructor(ino: Ino, dependencies: WriterDependencies) {
    this.#ino = ino;
    this.#with = dependencies;
    this.#room = dependencies.meta.room(ino);
  }

  get dirty(): boolean {
    return this.#pending.length > 0;
  }

  get failures(): number {
    return this.#failures;
  }

  get lastErrno(): number {
    return this.#lastErrno;
  }

  /** What is known here and not in the database; undefined where nothing is. */
  get local(): LocalChange | undefined {
    return this.#pending.length > 0 ? { length: this.#length, mtimeNs: this.#mtimeNs } : undefined;
  }

  /** True where a read of this range must wait for a flush. */
  overlaps(offset: number, length: number): boolean {
    return this.#pending.some((slice) => covers(slice, offset, offset + length));
  }

  /** Resolves when the file may take another write; undefined where it may at once. */
  room(): Promise<void> | undefined {
    if (this.#pending.length < MAX_PENDING) return undefined;
    this.#space ??= Promise.withResolvers<void>();
    return this.#space.promise;
  }

  /**
   * Sets room aside, in the volume's limits and in quotas, for a write that ends at `end` of a file with `committed` bytes, so that
   * what is accepted is not refused later. Undefined where that is done at once; rejects with ENOSPC or EDQUOT.
   */
  admit(end: number, committed: number): Promise<void> | undefined {
    this.#committed = committed;
    return this.#room.extend(end, committed);
  }

  /** Nothing will be written any more: what was set aside and not used is given back. */
  close(): void {
    if (this.#pending.length === 0) this.#room.end();
  }

  /**
   * Takes the bytes (they are copied) as written at `timeNs`. False where the journal had no room for some of them: they are taken, but
   * outlive this process only when they are committed.
   */
  write(offset: number, data: Buffer, timeNs: bigint): boolean {
    return this.#take(offset, data, timeNs, this.#with.journal);
  }

  /** The same without the journal: a write of a dead client, whose journal holds it until all are committed. */
  repeat(offset: number, data: Buffer, timeNs: bigint): void {
    this.#take(offset, data, timeNs, undefined);
  }

  #take(offset: number, data: Buffer, timeNs: bigint, journal: Journal | undefined): boolean {
    this.#mtimeNs = timeNs;
    let journaled = true;
    const pressed = this.#with.journal?.pressed === true;
    let done = 0;
    while (done < data.length) {
      const at = offset + done;
      const chunk = Math.floor(at / CHUNK_SIZE);
      const position = at - chunk * CHUNK_SIZE;
      // Chunks end there, too.
      const end = pressed ? EARLY_END : CHUNK_SIZE;
      const part = Math.min(data.length - done, end - (position % end));
      const slice = this.#sliceFor(chunk, position, part, journal?.pieces);
      const bytes = part === data.length ? data : data.subarray(done, done + part);
      const taken: Taken | undefined =
        journal &&
        ((buffer, within, begin, length) => {
          journaled &&= this.#journal(journal, slice, at + begin, timeNs, bytes.subarray(begin, begin + length), buffer, within);
        });
      slice.data.write(bytes, this.#placeOf(slice, at, part), taken);
      slice.mtimeNs = timeNs;
      slice.lastWrite = this.#with.clock.monotonic();
      if (slice.pack ? slice.pack.size >= MOST_PARTS : (slice.start + slice.data.length) % end === 0) this.#freeze(slice);
      else slice.data.flushFull();
      done += part;
    }
    this.#length = Math.max(this.#length, offset + data.length);
    return journaled;
  }

  /** Puts bytes down that a slice has in a buffer now. */
  #journal(
    journal: Journal,
    slice: PendingSlice,
    offset: number,
    timeNs: bigint,
    data: Buffer,
    buffer: Buffer,
    within: number,
  ): boolean {
    let segment: Segment;
    try {
      segment = journal.write(this.#ino, offset, timeNs, data, buffer, within);
    } catch (error) {
      if (error instanceof JournalFull) return false;
      throw error;
    }
    if (slice.segments.includes(segment)) return true;
    if (slice.segments.length === 0) {
      slice.firstSegment = segment.index;
      slice.firstPosition = journal.position;
    }
    slice.segments.push(segment);
    journal.hold(segment);
    return true;
  }

  /** Commits everything written until now. Errors are kept for the handles, not thrown. */
  async flush(): Promise<void> {
    // A frozen slice stays what it is.
    this.freezeAll();
    const last = this.#pending.at(-1);
    if (!last) return;
    while (this.#pending.includes(last)) await this.#committing;
  }

  /** Freezes everything: its memory is wanted. */
  freezeAll(): void {
    this.#gather();
    for (const slice of this.#pending) this.#freeze(slice);
  }

  /** Freezes what is old or idle; called every so often while the file is dirty. */
  tick(now: number): void {
    const isDue = (slice: PendingSlice): boolean =>
      !slice.frozen && (now - slice.created > MAX_AGE_MS || now - slice.lastWrite > MAX_IDLE_MS);
    if (this.#pending.some(isDue)) this.#gather();
    for (const slice of this.#pending) if (isDue(slice)) this.#freeze(slice);
  }

  /** Where bytes for `at` of the file go in a slice that takes them. */
  #placeOf({ chunk, start, data, pack }: PendingSlice, at: number, length: number): number {
    if (!pack) return at - chunk * CHUNK_SIZE - start;
    const known = pack.whereIs(at, at + length);
    // What is on its way to the store stays as it is.
    if (known !== undefined && known >= data.uploaded) return known;
    const end = data.length;
    pack.put(at, at + length, end);
    return end;
  }

  /** Makes one slice of the small ones that lie open, as far as nothing between them forbids it. */
  #gather(): void {
    const candidates = this.#pending.filter((slice) => (isSmall(slice) && this.#mayMove(slice)) || (slice.pack && !slice.frozen));
    const [into, ...others] = candidates;
    if (!into || others.length === 0) return;
    into.pack ??= Pack.of(beginOf(into), into.data.length);
    for (const slice of others) if (!slice.pack) this.#absorb(into, slice);
  }

  /** Within the file: beyond its length the order of commits is what others see it grow by. */
  #mayMove(slice: PendingSlice): boolean {
    return beginOf(slice) + slice.data.length <= this.#committed;
  }

  #absorb(into: PendingSlice, slice: PendingSlice): void {
    const { pack } = into;
    const bytes = slice.data.peek();
    const begin = beginOf(slice);
    if (!pack || !bytes || pack.size >= MOST_PARTS || into.data.length + bytes.length > CHUNK_SIZE) return;
    const at = this.#pending.indexOf(slice);
    for (let index = this.#pending.indexOf(into) + 1; index < at; index++) {
      const between = this.#pending[index];
      if (between && covers(between, begin, begin + bytes.length)) return;
    }
    into.data.write(bytes, this.#placeOf(into, begin, bytes.length));
    into.mtimeNs = slice.mtimeNs > into.mtimeNs ? slice.mtimeNs : into.mtimeNs;
    into.lastWrite = Math.max(into.lastWrite, slice.lastWrite);
    for (const segment of slice.segments)
      if (into.segments.includes(segment)) this.#with.journal?.release(segment);
      else into.segments.push(segment);
    slice.data.abort();
    this.#pending.splice(at, 1);
  }

  #sliceFor(chunk: number, position: number, length: number, memory: BlockMemory | undefined): PendingSlice {
    const found = this.#openSlice(chunk, position, length);
    if (found) return found;
    if (this.#pending.filter(isSmall).length >= SMALL_SLICES) {
      this.#gather();
      const pack = this.#openSlice(chunk, position, length);
      if (pack) return pack;
    }
    let open = 0;
    for (let index = this.#pending.length - 1; index >= 0; index--) {
      const slice = this.#pending[index];
      if (slice?.chunk === chunk && !slice.frozen && !slice.pack && ++open >= OPEN_SLICES) this.#freeze(slice);
    }
    return this.#newSlice(chunk, position, memory);
  }

  /**
   * The slice that takes a write; undefined where a new one must be made. An older slice must not take what a newer one overlaps: it
   * is committed first and would be hidden.
   */
  #openSlice(chunk: number, position: number, length: number): PendingSlice | undefined {
    const begin = chunk * CHUNK_SIZE + position;
    const end = begin + length;
    let pack: PendingSlice | undefined;
    for (let index = this.#pending.length - 1; index >= 0; index--) {
      const slice = this.#pending[index];
      if (!slice) continue;
      if (!slice.frozen && slice.pack && this.#fits(slice, slice.pack, begin, end)) pack ??= slice;
      if (!slice.frozen && !slice.pack && continues(slice, chunk, position)) return slice;
      if (covers(slice, begin, end)) break;
    }
    return pack;
  }

  /** Whether a pack takes a write: a scattered one. What goes on where another write ended becomes a slice of its own. */
  #fits({ data }: PendingSlice, pack: Pack, begin: number, end: number): boolean {
    if (end - begin > SMALL_SLICE || end > this.#committed || data.length + end - begin > CHUNK_SIZE) return false;
    return !pack.continues(begin, data.length);
  }

  #newSlice(chunk: number, position: number, memory: BlockMemory | undefined): PendingSlice {
    const { meta, chunks, clock } = this.#with;
    const now = clock.monotonic();
    const data = chunks.newSlice({ memory });
    const slice: PendingSlice = {
      chunk,
      start: position,
      data,
      pack: undefined,
      created: now,
      segments: [],
      firstSegment: 0,
      firstPosition: 0,
      id: 0,
      lastWrite: now,
      mtimeNs: 0n,
      frozen: false,
      durable: undefined,
    };
    slice.durable = meta.newSliceId().then((id) => {
      slice.id = id;
      data.setId(id);
    });
    slice.durable.catch(() => {});
    if (this.#pending.length === 0) this.#length = 0;
    this.#pending.push(slice);
    return slice;
  }

  #freeze(slice: PendingSlice): void {
    if (slice.frozen) return;
    slice.frozen = true;
    slice.durable = (slice.durable ?? Promise.resolve()).then(() => slice.data.finish());
    slice.durable.catch(() => {});
    if (this.#pending[0]?.frozen) this.#committing ??= this.#commitAll();
  }

  async #commitAll(): Promise<void> {
    for (let slice = this.#pending[0]; slice?.frozen; slice = this.#pending[0]) {
      let stored = false;
      try {
        await slice.durable;
        stored = true;
        const attr = await this.#commit(slice);
        this.#committed = attr.length;
        this.#with.committed(this.#ino, attr);
      } catch (error) {
        // A commit that ends with EIO may have been made: then the metadata names these blocks. `gc` finds them otherwise.
        if (!stored || toErrno(error) !== errno.EIO) slice.data.abort();
        this.#fail(error);
        this.#with.logger.error('written data could not be stored', {
          inode: this.#ino,
          offset: slice.chunk * CHUNK_SIZE + slice.start,
          bytes: slice.data.length,
          error: messageOf(error),
        });
      }
      this.#pending.shift();
      if (this.#pending.length === 0) this.#room.end();
      this.#forget(slice);
      if (this.#pending.length < MAX_PENDING) {
        this.#space?.resolve();
        this.#space = undefined;
      }
    }
    this.#committing = undefined;
  }

  #commit({ id, chunk, start, data, pack, mtimeNs }: PendingSlice): Promise<Attr> {
    const { meta } = this.#with;
    const slice = { id, size: data.length };
    return pack
      ? meta.writeParts(SYSTEM, this.#ino, slice, pack.parts(), mtimeNs, this.#room)
      : meta.writeSlice(SYSTEM, this.#ino, chunk, start, slice, mtimeNs, this.#room);
  }

  /** Tells the journal that a slice is no longer to be written again. */
  #forget(slice: PendingSlice): void {
    const { journal } = this.#with;
    const [next] = this.#pending;
    try {
      if (!next) journal?.clean(this.#ino);
      else if (next.segments.length > 0) journal?.over(this.#ino, next.firstSegment, next.firstPosition);
      for (const segment of slice.segments) journal?.release(segment);
    } catch {
      // The disk is full or gone: a client that follows would repeat committed writes, and the next write here fails.
    }
  }

  #fail(error: unknown): void {
    const code = toErrno(error);
    this.#failures++;
    this.#with.failed();
    // The file or the right to it is gone: the descriptor is what is bad, as JuiceFS says it.
    this.#lastErrno = code === errno.ENOENT || code === errno.EPERM || code === errno.EINVAL ? errno.EBADF : code;
  }
}

/**
 * Throws the writer's failure where this handle has not been told of it. FLUSH leaves it to be told again (`told` false): a child
 * that closes the descriptors it was born with would else take it away from its parent's fsync.
 */
export function tellFailure(writer: FileWriter, handle: { failuresSeen: number }, told = true): void {
  if (writer.failures <= handle.failuresSeen) return;
  if (told) handle.failuresSeen = writer.failures;
  const name = (Object.entries(errno).find(([, value]) => value === writer.lastErrno)?.[0] ?? 'EIO') as keyof typeof errno;
  throw new FsError(name, 'data written earlier could not be stored');
}
