/**
 * The objects of one kind, by key and by named indexes.
 *
 * Invariant: an object is under exactly the index values that its index functions give for it as stored. Written by one
 * reflector only; everyone else sees `Store`.
 */
import type { IndexFunction, KubeObject, Store } from './types.ts';

export class IndexedStore<T extends KubeObject> implements Store<T> {
  readonly #objects = new Map<string, T>();
  readonly #functions: readonly (readonly [string, IndexFunction<T>])[];
  /** Index name to value to the key of the one object under it, or to the keys of several: most indexes are of names. */
  readonly #indexes = new Map<string, Map<string, string | Set<string>>>();

  constructor(indexes: Readonly<Record<string, IndexFunction<T>>> = {}) {
    this.#functions = Object.entries(indexes);
    for (const [name] of this.#functions) this.#indexes.set(name, new Map());
  }

  get size(): number {
    return this.#objects.size;
  }

  get(key: string): T | undefined {
    return this.#objects.get(key);
  }

  keys(): IterableIterator<string> {
    return this.#objects.keys();
  }

  values(): IterableIterator<T> {
    return this.#objects.values();
  }

  entries(): IterableIterator<[string, T]> {
    return this.#objects.entries();
  }

  byIndex(index: string, value: string): readonly T[] {
    const found = this.#indexes.get(index);
    if (!found)
      throw new RangeError(`no index ${JSON.stringify(index)}; there are: ${[...this.#indexes.keys()].join(', ') || 'none'}`);
    const keys = found.get(value);
    if (keys === undefined) return [];
    const objects: T[] = [];
    for (const key of typeof keys === 'string' ? [keys] : keys) {
      const object = this.#objects.get(key);
      if (object) objects.push(object);
    }
    return objects;
  }

  /** Stores an object; answers the one it replaces. */
  set(key: string, object: T): T | undefined {
    const old = this.delete(key);
    this.#objects.set(key, object);
    for (const [name, values] of this.#functions) {
      const index = this.#indexes.get(name);
      for (const value of values(object)) {
        const under = index?.get(value);
        if (under === undefined) index?.set(value, key);
        else if (typeof under !== 'string') under.add(key);
        else if (under !== key) index?.set(value, new Set([under, key]));
      }
    }
    return old;
  }

  /** Removes an object and answers it. */
  delete(key: string): T | undefined {
    const old = this.#objects.get(key);
    if (!old) return undefined;
    this.#objects.delete(key);
    for (const [name, values] of this.#functions) {
      const index = this.#indexes.get(name);
      for (const value of values(old)) {
        const under = index?.get(value);
        if (under === key) index?.delete(value);
        else if (under !== undefined && typeof under !== 'string') {
          under.delete(key);
          if (under.size === 0) index?.delete(value);
        }
      }
    }
    return old;
  }
}
