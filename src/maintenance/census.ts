/**
 * Every slice that a volume's metadata names, to be compared with the objects there are: its size, what it is there for, and
 * how many of its blocks were seen. For volumes of any size: memory does not grow with them.
 *
 * Slices are told in any order and kept in *ranges* of a million numbers each, which are what one folder of objects holds; a listing of
 * the store goes through the ranges one after the other, so two of them in memory do. What is told goes to one file for each range,
 * in a folder of its own that is removed in the end. A volume with few slices needs no folder.
 *
 * Bounds: PENDING slices before they go to their files (3.4 MB), RANGES ranges in memory (7 MB each), one range's file while
 * it is read, a piece at a time. On disk 13 bytes for each slice that is told and 2 MB for each range that was looked at.
 * With a hash prefix a range is every 256th number: the folders of objects are cut that way there (chunk/key.ts).
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { appendFile, open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** What a slice is there for; of several the highest counts. */
export const SliceUse = {
  /** Nothing refers to it. */
  None: 0,
  /** Compaction replaced it, and it is kept for the trash. */
  Replaced: 1,
  /** Its blocks wait to be deleted. */
  Pending: 2,
  /** A file's data. */
  Used: 3,
} as const;
export type SliceUse = (typeof SliceUse)[keyof typeof SliceUse];

const RANGE = 1_000_000;
const HASHES = 256;
const PENDING = 262_144;
const RANGES = 2;
const RECORD = 13;
/** Bytes of a range's file read at a time. */
const PIECE = RECORD * 65_536;

/** A range in memory; `slot` is a slice's place in the arrays, which end behind the highest slice there is. */
export interface Range {
  readonly number: number;
  /** Bytes of the slice; 0 where it is not known. */
  readonly sizes: Uint32Array;
  readonly uses: Uint8Array;
  /** Blocks that were seen as they should be. */
  readonly found: Uint16Array;
  /** `found` was changed since the range was read. */
  counted: boolean;
}

const newRange = (number: number, length: number): Range => ({
  number,
  sizes: new Uint32Array(length),
  uses: new Uint8Array(length),
  found: new Uint16Array(length),
  counted: false,
});

/** The arrays of a range that has left memory, for another one. */
const emptied = ({ sizes, uses, found }: Range, number: number): Range => ({
  number,
  sizes: sizes.fill(0),
  uses: uses.fill(0),
  found: found.fill(0),
  counted: false,
});

export interface CountedSlice {
  readonly id: number;
  readonly size: number;
  readonly use: SliceUse;
  /** Its blocks that were seen. */
  readonly found: number;
}

export interface CensusOptions {
  readonly hashPrefix: boolean;
  /** Where the folder is made, if one is needed. */
  readonly temporary: string;
  /** Slices that are kept in memory before they go to files. @default 262144 */
  readonly pending?: number;
}

export class Census {
  readonly #options: CensusOptions;
  readonly #ids: Float64Array;
  readonly #sizes: Uint32Array;
  readonly #uses: Uint8Array;
  #count = 0;
  /** The highest number told. */
  #highest = 0;
  #folder: string | undefined;
  /** Ranges that have a slice; those whose file exists; those whose count exists. */
  readonly #known = new Set<number>();
  readonly #stored = new Set<number>();
  readonly #countStored = new Set<number>();
  /** The last used one is the last. */
  #ranges: Range[] = [];

  constructor(options: CensusOptions) {
    this.#options = options;
    const pending = options.pending ?? PENDING;
    this.#ids = new Float64Array(pending);
    this.#sizes = new Uint32Array(pending);
    this.#uses = new Uint8Array(pending);
  }

  /** Slices were put into files. */
  get spilled(): boolean {
    return this.#folder !== undefined;
  }

  rangeOf(id: number): number {
    if (!this.#options.hashPrefix) return Math.floor(id / RANGE);
    return Math.floor(id / (RANGE * HASHES)) * HASHES + (id % HASHES);
  }

  slotOf(id: number): number {
    return this.#options.hashPrefix ? Math.floor(id / HASHES) % RANGE : id % RANGE;
  }

  idOf(range: number, slot: number): number {
    if (!this.#options.hashPrefix) return range * RANGE + slot;
    return (Math.floor(range / HASHES) * RANGE + slot) * HASHES + (range % HASHES);
  }

  /** Slots of every range: none behind the highest number where there is but one group of them, so that few slices need little. */
  #slots(): number {
    const group = this.#options.hashPrefix ? RANGE * HASHES : RANGE;
    return this.#highest >= group ? RANGE : this.slotOf(this.#highest) + 1;
  }

  /** Tells of a slice; any number of times. Await the answer where there is one. Not after the first `range`. */
  add(id: number, size: number, use: SliceUse): Promise<void> | undefined {
    const at = this.#count++;
    this.#ids[at] = id;
    this.#sizes[at] = size;
    this.#uses[at] = use;
    if (id > this.#highest) this.#highest = id;
    this.#known.add(this.rangeOf(id));
    return this.#count === this.#ids.length ? this.#spill() : undefined;
  }

  #path(range: number, what: 'slices' | 'found'): string {
    this.#folder ??= mkdtempSync(join(this.#options.temporary, 'juicepod-slices-'));
    return join(this.#folder, `${range}.${what}`);
  }

  async #spill(): Promise<void> {
    const counts = new Map<number, number>();
    for (let at = 0; at < this.#count; at++) {
      const range = this.rangeOf(this.#ids[at] ?? 0);
      counts.set(range, (counts.get(range) ?? 0) + 1);
    }
    const parts = new Map<number, { readonly bytes: Buffer; end: number }>();
    for (const [range, count] of counts) parts.set(range, { bytes: Buffer.allocUnsafe(count * RECORD), end: 0 });
    for (let at = 0; at < this.#count; at++) {
      const id = this.#ids[at] ?? 0;
      const part = parts.get(this.rangeOf(id));
      if (!part) continue;
      part.bytes.writeDoubleLE(id, part.end);
      part.bytes.writeUInt32LE(this.#sizes[at] ?? 0, part.end + 8);
      part.bytes[part.end + 12] = this.#uses[at] ?? 0;
      part.end += RECORD;
    }
    for (const [range, { bytes }] of parts) {
      await appendFile(this.#path(range, 'slices'), bytes);
      this.#stored.add(range);
    }
    this.#count = 0;
  }

  /** The range of a slice, if it is in memory. */
  inMemory(id: number): Range | undefined {
    const number = this.rangeOf(id);
    const last = this.#ranges.at(-1);
    return last?.number === number ? last : this.#ranges.find((range) => range.number === number);
  }

  /** The range of a slice. The one that was used longest ago leaves memory: it must not be used any more. */
  async range(id: number): Promise<Range> {
    return this.#load(this.rangeOf(id));
  }

  async #load(number: number): Promise<Range> {
    const there = this.#ranges.find((range) => range.number === number);
    if (there) {
      this.#ranges = [...this.#ranges.filter((range) => range !== there), there];
      return there;
    }
    let left: Range | undefined;
    while (this.#ranges.length >= RANGES) {
      const [oldest, ...rest] = this.#ranges;
      if (oldest?.counted) await this.#keepCount(oldest);
      this.#ranges = rest;
      left = oldest;
    }
    // 7 MB each: left to V8, those of several ranges would lie about before it looks.
    const range: Range = left ? emptied(left, number) : newRange(number, this.#slots());
    if (this.#countStored.has(number)) await this.#readCount(number, range.found);
    if (this.#stored.has(number)) await this.#read(range);
    for (let at = 0; at < this.#count; at++) {
      const id = this.#ids[at] ?? 0;
      if (this.rangeOf(id) === number) this.#put(range, id, this.#sizes[at] ?? 0, this.#uses[at] ?? 0);
    }
    this.#ranges.push(range);
    return range;
  }

  #put(range: Range, id: number, size: number, use: number): void {
    const slot = this.slotOf(id);
    if (use < (range.uses[slot] ?? 0)) return;
    range.sizes[slot] = size;
    range.uses[slot] = use;
  }

  async #read(range: Range): Promise<void> {
    const file = await open(this.#path(range.number, 'slices'));
    try {
      const piece = Buffer.allocUnsafe(PIECE);
      for (let from = 0; ;) {
        let have = 0;
        while (have < PIECE) {
          const { bytesRead } = await file.read(piece, have, PIECE - have, from + have);
          if (bytesRead === 0) break;
          have += bytesRead;
        }
        for (let at = 0; at + RECORD <= have; at += RECORD)
          this.#put(range, piece.readDoubleLE(at), piece.readUInt32LE(at + 8), piece[at + 12] ?? 0);
        if (have < PIECE) return;
        from += have;
      }
    } finally {
      await file.close();
    }
  }

  async #keepCount({ number, found }: Range): Promise<void> {
    await writeFile(this.#path(number, 'found'), Buffer.from(found.buffer, found.byteOffset, found.byteLength));
    this.#countStored.add(number);
  }

  async #readCount(number: number, into: Uint16Array): Promise<void> {
    const file = await open(this.#path(number, 'found'));
    try {
      const bytes = new Uint8Array(into.buffer);
      for (let at = 0, more = 1; at < bytes.length && more > 0; at += more) {
        more = (await file.read(bytes, at, bytes.length - at, at)).bytesRead;
      }
    } finally {
      await file.close();
    }
  }

  /** All slices, range by range. */
  async *all(): AsyncIterable<CountedSlice> {
    for (const number of [...this.#known].toSorted((a, b) => a - b)) {
      const { uses, sizes, found } = await this.#load(number);
      for (let slot = 0; slot < uses.length; slot++) {
        const use = uses[slot] as SliceUse;
        if (use !== SliceUse.None) yield { id: this.idOf(number, slot), use, size: sizes[slot] ?? 0, found: found[slot] ?? 0 };
      }
    }
  }

  /** Removes the folder. */
  close(): void {
    if (this.#folder !== undefined) rmSync(this.#folder, { recursive: true, force: true });
    this.#folder = undefined;
    this.#ranges = [];
  }
}
