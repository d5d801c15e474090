/**
 * One open directory being listed. Offsets that the kernel sees count entries of this listing, beginning with `.` and `..`. The
 * listing is streamed: one batch is in memory. Offset 0 starts over; an offset before what is in memory, or a batch that
 * could not be had, starts over and skips. Attributes are not part of it: the kernel wants those of few entries (the first of a listing, and of
 * listings whose entries it then looks at), and they are the dearer part.
 */
import type { Ino } from '../lib/int64.ts';
import { type Context, type DirEntry, type Meta, NodeType } from '../meta/types.ts';

/** When a batch was asked for: own changes (see Changes), and monotonic milliseconds. */
export interface Asked {
  readonly moment: number;
  readonly time: number;
}

/** A batch that was asked for. */
interface Coming {
  readonly asked: Asked;
  readonly batch: Promise<IteratorResult<readonly DirEntry[]>>;
}

export class DirectoryListing {
  readonly #meta: Meta;
  readonly #ino: Ino;
  readonly #first: () => Promise<readonly DirEntry[]>;
  readonly #now: () => Asked;
  #batches: AsyncIterator<readonly DirEntry[]> | undefined;
  /** The next batch: asked for while the one before it is told. */
  #coming: Coming | undefined;
  /** Entries in memory, and the number of the first of them. */
  #buffer: readonly DirEntry[] = [];
  #start = 0;
  #ended = false;
  #asked: Asked;

  /** `first` gives the entries that stand before those of the database (`.`, `..`, virtual files). */
  constructor(meta: Meta, ino: Ino, first: () => Promise<readonly DirEntry[]>, now: () => Asked) {
    this.#now = now;
    this.#asked = now();
    this.#meta = meta;
    this.#ino = ino;
    this.#first = first;
  }

  /** The entries in memory from `offset` on, at most `limit`, at least one unless the listing has ended. */
  async from(ctx: Context, offset: number, limit: number): Promise<readonly DirEntry[]> {
    if (offset === 0 || offset < this.#start || !this.#batches) await this.#restart(ctx);
    while (offset >= this.#start + this.#buffer.length && !this.#ended) await this.#next();
    const skip = offset - this.#start;
    return this.#buffer.slice(skip, skip + limit);
  }

  /** When the entries in memory were asked for. */
  get asked(): Asked {
    return this.#asked;
  }

  close(): void {
    void this.#batches?.return?.();
    this.#batches = undefined;
    this.#coming = undefined;
  }

  async #restart(ctx: Context): Promise<void> {
    this.close();
    this.#asked = this.#now();
    const batches = this.#meta.readdir(ctx, this.#ino, false)[Symbol.asyncIterator]();
    this.#batches = batches;
    this.#ask(batches);
    this.#start = 0;
    this.#ended = false;
    this.#buffer = [];
    // With the first batch the directory itself was looked at; what is wrong with it is thrown when the batch is wanted.
    await this.#coming?.batch.catch(() => undefined);
    this.#buffer = await this.#first();
  }

  #ask(batches: AsyncIterator<readonly DirEntry[]>): void {
    const batch = batches.next();
    batch.catch(() => undefined);
    this.#coming = { asked: this.#now(), batch };
  }

  async #next(): Promise<void> {
    const { batch, asked } = this.#coming ?? {};
    let result: IteratorResult<readonly DirEntry[]> | undefined;
    try {
      result = await batch;
    } catch (error) {
      // An iteration that failed has ended: going on with it would look like the end of the directory.
      this.#batches = undefined;
      throw error;
    }
    if (asked) this.#asked = asked;
    this.#start += this.#buffer.length;
    this.#buffer = result && !result.done ? result.value : [];
    this.#ended = !result || result.done === true;
    if (this.#batches && !this.#ended) this.#ask(this.#batches);
  }
}

/** The two entries that every directory has. */
export function dots(ino: Ino, parent: Ino): DirEntry[] {
  return [
    { name: Buffer.from('.'), ino, type: NodeType.Directory, attr: undefined },
    { name: Buffer.from('..'), ino: parent, type: NodeType.Directory, attr: undefined },
  ];
}
