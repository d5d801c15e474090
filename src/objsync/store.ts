/**
 * An object store as a side: keys are UTF-8, a key that ends with `/` stands for a directory. What is too long for one request goes in
 * parts; where a store has none, as far as a buffer of 256 MiB reaches.
 */
import { isUtf8 } from 'node:buffer';
import { ObjectError, type ObjectStore } from '../object/store.ts';
import {
  bytesOf,
  type Entry,
  Gone,
  keyOf,
  type ListOptions,
  MIB,
  PART_BYTES,
  type PartWriter,
  type Side,
  shown,
} from './side.ts';

const MAX_WHOLE = 256 * MIB;

/** The key as the store has it. Throws where it cannot have it. */
function nameOf(key: string): string {
  const bytes = bytesOf(key);
  if (!isUtf8(bytes)) throw new Error('an object store takes keys in UTF-8 only');
  if (bytes.length > 1024) throw new Error(`an object store takes keys of 1024 bytes at most, this one has ${bytes.length}`);
  return bytes.toString('utf8');
}

export class Objects implements Side {
  readonly description: string;
  readonly #store: ObjectStore;
  readonly level?: NonNullable<Side['level']>;

  /** Closing it closes the store. */
  constructor(store: ObjectStore) {
    this.#store = store;
    this.description = store.description;
    if (store.level) this.level = (prefix, options) => this.#level(store.level!.bind(store), prefix, options);
  }

  list(prefix: string, options: ListOptions): AsyncIterable<Entry> {
    return this.#list(prefix, options, (name, from) => this.#store.list(name, from));
  }

  async *#list(
    prefix: string,
    { start, end, signal }: ListOptions,
    list: NonNullable<ObjectStore['list']>,
  ): AsyncGenerator<Entry> {
    if (end !== '' && start > end) return;
    const after = start === '' || start < prefix ? undefined : start;
    // A listing begins behind a key.
    const first = after?.startsWith(prefix) ? await this.head(after, true, signal) : undefined;
    if (first) yield first;
    let last = after ?? '';
    for await (const { key, size, modified } of list(nameOf(prefix), {
      ...(after === undefined ? {} : { after: nameOf(after) }),
      signal,
    })) {
      const entry = this.#entry(keyOf(key), size, modified);
      if (entry.key < last)
        throw new ObjectError(
          'Unavailable',
          `${this.description} does not list in the order of keys: ${shown(entry.key)} came after ${shown(last)}`,
        );
      last = entry.key;
      if (end !== '' && entry.key > end) return;
      yield entry;
    }
  }

  /** What leads to the first key comes before it: a level is listed from its beginning. */
  async *#level(level: NonNullable<ObjectStore['level']>, prefix: string, options: ListOptions): AsyncGenerator<Entry> {
    const { start } = options;
    for await (const entry of this.#list(prefix, { ...options, start: '' }, level))
      if (entry.key >= start || (entry.isDirectory && start.startsWith(entry.key))) yield entry;
  }

  #entry(key: string, size: number, mtimeMs: number): Entry {
    return { key, size, mtimeMs, isDirectory: key === '' || key.endsWith('/'), isLink: false };
  }

  async head(key: string, _followLinks: boolean, signal: AbortSignal): Promise<Entry | undefined> {
    if (key === '') return undefined;
    const found = await this.#store.head(nameOf(key), signal);
    return found && this.#entry(key, found.size, found.modified);
  }

  async read({ key }: Entry, offset: number, length: number, signal: AbortSignal): Promise<Buffer> {
    try {
      return await this.#store.get(nameOf(key), { offset, length, signal });
    } catch (error) {
      if (error instanceof ObjectError && error.code === 'NotFound') throw new Gone('it is not there any more', { cause: error });
      throw error;
    }
  }

  partBytes(size: number): number {
    const limits = this.#store.partLimits;
    if (!limits) return PART_BYTES;
    return Math.max(PART_BYTES, Math.ceil(size / limits.maxCount / MIB) * MIB);
  }

  async put(key: string, body: Buffer, signal: AbortSignal): Promise<void> {
    if (key === '') return;
    await this.#store.put(nameOf(key), body, signal);
  }

  async begin(key: string, size: number, signal: AbortSignal): Promise<PartWriter> {
    const name = nameOf(key);
    if (this.#store.upload) {
      const upload = await this.#store.upload(name, signal);
      return {
        part: (number, body) => upload.part(number, body, signal),
        finish: () => upload.complete(signal),
        abort: () => upload.abort(),
      };
    }
    if (size > MAX_WHOLE)
      throw new Error(
        `${this.description} takes objects in one piece only, which may have ${MAX_WHOLE / MIB} MiB at most; this one has ${Math.ceil(size / MIB)} MiB`,
      );
    const whole = Buffer.allocUnsafeSlow(size);
    return {
      part: async (number, body) => void body.copy(whole, number * PART_BYTES),
      finish: () => this.#store.put(name, whole, signal),
      abort: async () => {},
    };
  }

  async remove(key: string, signal: AbortSignal): Promise<boolean> {
    if (key !== '') await this.#store.delete(nameOf(key), signal);
    return true;
  }

  close(): Promise<void> {
    return this.#store.close();
  }
}
