/**
 * What lies in a cache directory: block number → size and time of the last use, and which block goes next. Made for millions of blocks:
 * typed arrays kept dense, and a hash table of places in them (open addressing, linear probing), so that a block takes 37 bytes of
 * memory at most, 47 with `lru`, whatever the garbage collector thinks.
 *
 * What goes next (--cache-eviction; source: JuiceFS, pkg/chunk/cache_eviction.go): with `2-random` the oldest of a few picked at
 * random, with `lru` the oldest of all (a heap), with `none` nothing.
 */
import type { Clock } from '../lib/clock.ts';
import type { Random } from '../lib/random.ts';

export const evictions = ['none', '2-random', 'lru'] as const;
export type Eviction = (typeof evictions)[number];

const SAMPLES = 5;
const SMALLEST = 1024;
const GROWTH = 1.25;
/** Part of the table that is filled at most. */
const LOAD = 0.75;
/** Uses are this many ms apart at least, so that no two are at the same time; the times stay true to the millisecond. */
const TICK = 2 ** -10;

export interface CacheIndexOptions {
  /** @default '2-random' */
  readonly eviction?: Eviction;
  readonly clock: Clock;
  readonly random: Random;
}

export class CacheIndex {
  readonly eviction: Eviction;
  readonly #clock: Clock;
  readonly #random: Random;
  #count = 0;
  #keys = new Float64Array(SMALLEST);
  #sizes = new Uint32Array(SMALLEST);
  #used = new Float64Array(SMALLEST);
  /** The scan that has seen the block last. */
  #seen = new Uint8Array(SMALLEST);
  /** Place + 1; 0 where there is none. The length is a power of two. */
  #table = new Uint32Array(SMALLEST * 2);
  /** With `lru`: places, the oldest first; and where each stands there. */
  #heap = new Uint32Array(0);
  #position = new Uint32Array(0);
  #scan = 0;
  #last = 0;

  constructor({ eviction = '2-random', clock, random }: CacheIndexOptions) {
    this.eviction = eviction;
    this.#clock = clock;
    this.#random = random;
    if (eviction === 'lru') {
      this.#heap = new Uint32Array(SMALLEST);
      this.#position = new Uint32Array(SMALLEST);
    }
  }

  get count(): number {
    return this.#count;
  }

  /** Memory of the arrays. */
  get memoryBytes(): number {
    const arrays = [this.#keys, this.#sizes, this.#used, this.#seen, this.#table, this.#heap, this.#position];
    return arrays.reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  /** The size of the block, or undefined. */
  size(key: number): number | undefined {
    const place = this.#placeOf(key);
    return place < 0 ? undefined : this.#sizes[place];
  }

  /** When it was used last, wall clock, milliseconds; undefined where it is not there. */
  usedAt(key: number): number | undefined {
    const place = this.#placeOf(key);
    return place < 0 ? undefined : this.#used[place];
  }

  /** Adds a block, or changes its size. `usedAt` (milliseconds, the past) for one that was found; else it is used now. */
  add(key: number, size: number, usedAt?: number): void {
    let place = this.#placeOf(key);
    if (place < 0) {
      place = this.#count;
      if (place === this.#keys.length) this.#grow();
      if (place + 1 > this.#table.length * LOAD) this.#enlargeTable();
      this.#count++;
      this.#keys[place] = key;
      this.#enter(key, place);
      if (this.eviction === 'lru') {
        this.#used[place] = -Infinity;
        this.#heap[place] = place;
        this.#position[place] = place;
        this.#rise(place);
      }
    }
    this.#sizes[place] = size;
    this.#seen[place] = this.#scan;
    this.#use(place, usedAt ?? this.#now());
  }

  /** Marks the block as just used. */
  touch(key: number): void {
    const place = this.#placeOf(key);
    if (place >= 0) this.#use(place, this.#now());
  }

  delete(key: number): boolean {
    const slot = this.#slotOf(key);
    const place = (this.#table[slot] ?? 0) - 1;
    if (place < 0) return false;
    this.#vacate(slot);
    if (this.eviction === 'lru') this.#leaveHeap(place);
    const last = --this.#count;
    if (place === last) return true;
    const moved = this.#keys[last] ?? 0;
    this.#table[this.#slotOf(moved)] = place + 1;
    this.#keys[place] = moved;
    this.#sizes[place] = this.#sizes[last] ?? 0;
    this.#used[place] = this.#used[last] ?? 0;
    this.#seen[place] = this.#seen[last] ?? 0;
    if (this.eviction === 'lru') {
      const position = this.#position[last] ?? 0;
      this.#position[place] = position;
      this.#heap[position] = place;
    }
    return true;
  }

  clear(): void {
    this.#count = 0;
    this.#table.fill(0);
  }

  /** The block to drop next; undefined where nothing is to be dropped. */
  victim(): number | undefined {
    if (this.#count === 0 || this.eviction === 'none') return undefined;
    if (this.eviction === 'lru') return this.#keys[this.#heap[0] ?? 0];
    let best = Math.floor(this.#random.float() * this.#count);
    for (let i = 1; i < SAMPLES; i++) {
      const other = Math.floor(this.#random.float() * this.#count);
      if (this.#used[other]! < this.#used[best]!) best = other;
    }
    return this.#keys[best];
  }

  /** A scan begins: blocks that are neither added nor `saw` from now on count as unseen. */
  beginScan(): void {
    this.#scan = (this.#scan + 1) & 0xff;
  }

  /** The scan has found the block. False where it is not known. */
  saw(key: number): boolean {
    const place = this.#placeOf(key);
    if (place >= 0) this.#seen[place] = this.#scan;
    return place >= 0;
  }

  /**
   * Blocks that the scan has not seen, or that were used last before `usedBefore` (milliseconds): among `most` of them from the place
   * `from` downwards. What is asked for may be deleted meanwhile, so one begins at `count` and goes on at `next` until that is 0.
   */
  stale(from: number, most: number, usedBefore?: number): { readonly keys: readonly number[]; readonly next: number } {
    const keys: number[] = [];
    const begin = Math.min(from, this.#count);
    const next = Math.max(0, begin - most);
    for (let place = begin - 1; place >= next; place--)
      if (usedBefore === undefined ? this.#seen[place] !== this.#scan : this.#used[place]! < usedBefore)
        keys.push(this.#keys[place]!);
    return { keys, next };
  }

  #now(): number {
    this.#last = Math.max(this.#last + TICK, this.#clock.now());
    return this.#last;
  }

  #use(place: number, at: number): void {
    const before = this.#used[place]!;
    this.#used[place] = at;
    if (this.eviction !== 'lru') return;
    if (at < before) this.#rise(this.#position[place]!);
    else this.#sink(this.#position[place]!);
  }

  // The table.

  #slotOf(key: number): number {
    const mask = this.#table.length - 1;
    let slot = hash(key) & mask;
    for (;;) {
      const place = this.#table[slot]! - 1;
      if (place < 0 || this.#keys[place] === key) return slot;
      slot = (slot + 1) & mask;
    }
  }

  #placeOf(key: number): number {
    return this.#table[this.#slotOf(key)]! - 1;
  }

  #enter(key: number, place: number): void {
    const mask = this.#table.length - 1;
    let slot = hash(key) & mask;
    while (this.#table[slot] !== 0) slot = (slot + 1) & mask;
    this.#table[slot] = place + 1;
  }

  /** Empties a slot; those behind it that it kept from their own move up. */
  #vacate(slot: number): void {
    const mask = this.#table.length - 1;
    let hole = slot;
    for (let at = (slot + 1) & mask; this.#table[at] !== 0; at = (at + 1) & mask) {
      const home = hash(this.#keys[this.#table[at]! - 1]!) & mask;
      if (((at - home) & mask) < ((at - hole) & mask)) continue;
      this.#table[hole] = this.#table[at]!;
      hole = at;
    }
    this.#table[hole] = 0;
  }

  #enlargeTable(): void {
    this.#table = new Uint32Array(this.#table.length * 2);
    for (let place = 0; place < this.#count; place++) this.#enter(this.#keys[place]!, place);
  }

  /** One array after the other, so that little lies there twice. */
  #grow(): void {
    const length = Math.ceil(this.#keys.length * GROWTH);
    this.#keys = longer(this.#keys, new Float64Array(length));
    this.#sizes = longer(this.#sizes, new Uint32Array(length));
    this.#used = longer(this.#used, new Float64Array(length));
    this.#seen = longer(this.#seen, new Uint8Array(length));
    if (this.eviction !== 'lru') return;
    this.#heap = longer(this.#heap, new Uint32Array(length));
    this.#position = longer(this.#position, new Uint32Array(length));
  }

  // The heap.

  #set(position: number, place: number): void {
    this.#heap[position] = place;
    this.#position[place] = position;
  }

  #rise(from: number): void {
    const place = this.#heap[from]!;
    const used = this.#used[place]!;
    let at = from;
    while (at > 0) {
      const above = (at - 1) >>> 1;
      if (this.#used[this.#heap[above]!]! <= used) break;
      this.#set(at, this.#heap[above]!);
      at = above;
    }
    this.#set(at, place);
  }

  #sink(from: number): void {
    const place = this.#heap[from]!;
    const used = this.#used[place]!;
    let at = from;
    for (;;) {
      let below = 2 * at + 1;
      if (below >= this.#count) break;
      if (below + 1 < this.#count && this.#used[this.#heap[below + 1]!]! < this.#used[this.#heap[below]!]!) below++;
      if (this.#used[this.#heap[below]!]! >= used) break;
      this.#set(at, this.#heap[below]!);
      at = below;
    }
    this.#set(at, place);
  }

  /** Before the number of blocks is one less. */
  #leaveHeap(place: number): void {
    const position = this.#position[place]!;
    const last = this.#count - 1;
    const moved = this.#heap[last]!;
    if (position === last) return;
    this.#set(position, moved);
    // What stands last now must not be compared with itself: it is the one that leaves.
    this.#heap[last] = place;
    this.#used[place] = Infinity;
    this.#rise(position);
    this.#sink(this.#position[moved]!);
  }
}

function longer<A extends Float64Array | Uint32Array | Uint8Array>(from: A, to: A): A {
  to.set(from);
  return to;
}

/** Numbers of blocks are whole, below 2^53, and mostly follow each other. */
function hash(key: number): number {
  let mixed = (key >>> 0) ^ Math.imul(Math.floor(key / 2 ** 32), 0x9e3779b1);
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}
