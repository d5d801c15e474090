/**
 * What lies in the disk cache: block number → size, with the time of the last use. Made for hundreds of thousands of
 * entries: parallel typed arrays kept dense, one Map from number to slot. The entry to drop is the oldest of a few picked
 * at random (JuiceFS's "2-random", Redis's sampling), so a use is one store into an array and no list is kept in order.
 */
import type { Random } from '../lib/random.ts';

const SAMPLES = 5;

export class SampledIndex {
  readonly #slots = new Map<number, number>();
  readonly #random: Random;
  #keys = new Float64Array(1024);
  #sizes = new Uint32Array(1024);
  #used = new Float64Array(1024);
  #clock = 1;

  constructor(random: Random) {
    this.#random = random;
  }

  get count(): number {
    return this.#slots.size;
  }

  /** The size of the entry, or undefined. */
  size(key: number): number | undefined {
    const slot = this.#slots.get(key);
    return slot === undefined ? undefined : this.#sizes[slot];
  }

  /** Adds an entry, or changes its size. `fresh` is false for one found by a scan, which counts as never used. */
  add(key: number, size: number, fresh = true): void {
    let slot = this.#slots.get(key);
    if (slot === undefined) {
      slot = this.#slots.size;
      if (slot === this.#keys.length) this.#grow();
      this.#slots.set(key, slot);
      this.#keys[slot] = key;
    }
    this.#sizes[slot] = size;
    this.#used[slot] = fresh ? this.#clock++ : 0;
  }

  /** Marks the entry as just used. */
  touch(key: number): void {
    const slot = this.#slots.get(key);
    if (slot !== undefined) this.#used[slot] = this.#clock++;
  }

  delete(key: number): boolean {
    const slot = this.#slots.get(key);
    if (slot === undefined) return false;
    this.#slots.delete(key);
    const last = this.#slots.size;
    if (slot !== last) {
      const moved = this.#keys[last]!;
      this.#keys[slot] = moved;
      this.#sizes[slot] = this.#sizes[last]!;
      this.#used[slot] = this.#used[last]!;
      this.#slots.set(moved, slot);
    }
    return true;
  }

  /** The key to drop next; undefined where there is none. */
  victim(): number | undefined {
    const count = this.#slots.size;
    if (count === 0) return undefined;
    let best = Math.floor(this.#random.float() * count);
    for (let i = 1; i < SAMPLES; i++) {
      const other = Math.floor(this.#random.float() * count);
      if (this.#used[other]! < this.#used[best]!) best = other;
    }
    return this.#keys[best];
  }

  #grow(): void {
    const length = this.#keys.length * 2;
    const keys = new Float64Array(length);
    const sizes = new Uint32Array(length);
    const used = new Float64Array(length);
    keys.set(this.#keys);
    sizes.set(this.#sizes);
    used.set(this.#used);
    this.#keys = keys;
    this.#sizes = sizes;
    this.#used = used;
  }
}
