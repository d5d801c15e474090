/**
 * One open directory being listed. Offsets that the kernel sees count entries of this listing, beginning with `.` and `..`. The
 * listing is streamed: one batch is in memory. Offset 0 starts over; an offset before what is in memory, or a batch that
 * could not be had, starts over and skips. Attributes are not part of it: the kernel wants those of few entries (the first of a listing, and of
 * listings whose entries it then looks at), and they are the dearer part.
 */
import type { Ino } from '../lib/int64.ts';
import { type Context, type DirEntry, type Meta, NodeType } from '../meta/types.ts';

/** A directory entry with the offset at which the listing goes on behind it. */
export interface ListedEntry extends DirEntry {
  readonly offset: number;
}

/** When a batch was asked for: own changes (see Changes), and monotonic milliseconds. */
export interface Asked {
  readonly moment: number;
  readonly time: number;
}

export class DirectoryListing {
  readonly #meta: Meta;
  readonly #ino: Ino;
  readonly #first: readonly DirEntry[];
  #batches: AsyncIterator<readonly DirEntry[]> | undefined;
  /** Entries in memory, and the number of the first of them. */
  #buffer: readonly DirEntry[] = [];
  #start = 0;
  #ended = false;
  readonly #now: () => Asked;
  #asked: Asked;

  /** `first` are the entries that stand before those of the database (`.`, `..`, virtual files). */
  constructor(meta: Meta, ino: Ino, first: readonly DirEntry[], now: () => Asked) {
    this.#now = now;
    this.#asked = now();
    this.#meta = meta;
    this.#ino = ino;
    this.#first = first;
  }

  /** The entries in memory from `offset` on, at most `limit`, at least one unless the listing has ended. */
  async from(ctx: Context, offset: number, limit: number): Promise<readonly ListedEntry[]> {
    if (offset === 0 || offset < this.#start || !this.#batches) this.#restart(ctx);
    while (offset >= this.#start + this.#buffer.length && !this.#ended) await this.#next();
    const skip = offset - this.#start;
    return this.#buffer.slice(skip, skip + limit).map((entry, index) => ({ ...entry, offset: offset + index + 1 }));
  }

  /** When the entries in memory were asked for. */
  get asked(): Asked {
    return this.#asked;
  }

  close(): void {
    void this.#batches?.return?.();
    this.#batches = undefined;
  }

  #restart(ctx: Context): void {
    this.close();
    this.#asked = this.#now();
    this.#batches = this.#meta.readdir(ctx, this.#ino, false)[Symbol.asyncIterator]();
    this.#buffer = this.#first;
    this.#start = 0;
    this.#ended = false;
  }

  async #next(): Promise<void> {
    const asked = this.#now();
    let result: IteratorResult<readonly DirEntry[]> | undefined;
    try {
      result = await this.#batches?.next();
    } catch (error) {
      // An iteration that failed has ended: going on with it would look like the end of the directory.
      this.#batches = undefined;
      throw error;
    }
    this.#asked = asked;
    this.#start += this.#buffer.length;
    this.#buffer = result && !result.done ? result.value : [];
    this.#ended = !result || result.done === true;
  }
}

/** The two entries that every directory has. */
export function dots(ino: Ino, parent: Ino): DirEntry[] {
  return [
    { name: Buffer.from('.'), ino, type: NodeType.Directory, attr: undefined },
    { name: Buffer.from('..'), ino: parent, type: NodeType.Directory, attr: undefined },
  ];
}
