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
  /** Index name to value to key to object. */
  readonly #indexes = new Map<string, Map<string, Map<string, T>>>();

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
    const objects = found.get(value);
    return objects ? [...objects.values()] : [];
  }

  /** Stores an object; answers the one it replaces. */
  set(key: string, object: T): T | undefined {
    const old = this.delete(key);
    this.#objects.set(key, object);
    for (const [name, values] of this.#functions) {
      const index = this.#indexes.get(name);
      for (const value of values(object)) {
        const under = index?.get(value);
        if (under) under.set(key, object);
        else index?.set(value, new Map([[key, object]]));
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
        under?.delete(key);
        if (under?.size === 0) index?.delete(value);
      }
    }
    return old;
  }
}
