/**
 * What this client last saw of nodes and entries, to guess with. A guess is never an answer: a transaction that rests on
 * one checks it when it commits, and a wrong one costs a second round trip. So nothing here needs to be invalidated.
 *
 * Bounded: two generations of `LIMIT` nodes and as many entries; when the young one is full, the old one is forgotten.
 */
import { Generations } from '../lib/generations.ts';
import type { Ino } from '../lib/int64.ts';
import type { EntryValue } from './engine.ts';
import type { Attr } from './types.ts';

const LIMIT = 16_384;

/** One string for a name in a directory; names are bytes. */
export function entryKey(parent: Ino, name: Buffer): string {
  return `${parent}/${name.toString('latin1')}`;
}

export class Guesses {
  readonly #nodes = new Generations<Ino, Attr>(LIMIT);
  readonly #entries = new Generations<string, EntryValue>(LIMIT);

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
