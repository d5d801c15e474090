/**
 * What this client last saw of nodes and entries, to guess with. A guess is never an answer: a transaction that rests on
 * one checks it when it commits, and a wrong one costs a second round trip. So nothing here needs to be invalidated.
 *
 * Bounded: two generations of `LIMIT` nodes and as many entries; when the young one is full, the old one is forgotten.
 */
import type { Ino } from '../lib/int64.ts';
import type { EntryValue } from './engine.ts';
import type { Attr } from './types.ts';

const LIMIT = 16_384;

class Generations<K, V> {
  #young = new Map<K, V>();
  #old = new Map<K, V>();

  get(key: K): V | undefined {
    const young = this.#young.get(key);
    if (young !== undefined) return young;
    const old = this.#old.get(key);
    if (old !== undefined) this.set(key, old);
    return old;
  }

  set(key: K, value: V): void {
    if (this.#young.size >= LIMIT && !this.#young.has(key)) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(key, value);
  }

  delete(key: K): void {
    this.#young.delete(key);
    this.#old.delete(key);
  }
}

/** One string for a name in a directory; names are bytes. */
export function entryKey(parent: Ino, name: Buffer): string {
  return `${parent}/${name.toString('latin1')}`;
}

export class Guesses {
  readonly #nodes = new Generations<Ino, Attr>();
  readonly #entries = new Generations<string, EntryValue>();

  node(ino: Ino): Attr | undefined {
    return this.#nodes.get(ino);
  }

  setNode(ino: Ino, attr: Attr | undefined): void {
    if (attr) this.#nodes.set(ino, attr);
    else this.#nodes.delete(ino);
  }

  entry(parent: Ino, name: Buffer): EntryValue | undefined {
    return this.#entries.get(entryKey(parent, name));
  }

  setEntry(parent: Ino, name: Buffer, value: EntryValue | undefined): void {
    if (value) this.#entries.set(entryKey(parent, name), value);
    else this.#entries.delete(entryKey(parent, name));
  }
}
