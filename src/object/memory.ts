/** Objects in memory, for tests and play. Bodies are copied in and out, as a real store would. */
import { type Clock, systemClock } from '../lib/clock.ts';
import { ObjectError, type ObjectStore } from './store.ts';

export class MemoryObjectStore implements ObjectStore {
  readonly description = 'mem://';
  readonly #objects = new Map<string, { readonly body: Buffer; readonly modified: number }>();
  readonly #clock: Clock;

  constructor(clock: Clock = systemClock) {
    this.#clock = clock;
  }

  async create(): Promise<void> {
    await Promise.resolve();
  }

  async put(key: string, body: Buffer, signal?: AbortSignal): Promise<void> {
    await Promise.resolve();
    signal?.throwIfAborted();
    if (key === '') throw new ObjectError('Invalid', 'an object needs a key');
    this.#objects.set(key, { body: Buffer.from(body), modified: this.#clock.now() });
  }

  async get(
    key: string,
    options: { offset?: number; length?: number; into?: Buffer; signal?: AbortSignal } = {},
  ): Promise<Buffer> {
    await Promise.resolve();
    options.signal?.throwIfAborted();
    const object = this.#objects.get(key);
    if (!object) throw new ObjectError('NotFound', `there is no object ${key} in memory`);
    const offset = options.offset ?? 0;
    const part = object.body.subarray(offset, offset + (options.length ?? object.body.length));
    if (!options.into) return Buffer.from(part);
    if (part.length > options.into.length)
      throw new ObjectError('Invalid', `object ${key} gives ${part.length} bytes, the buffer has ${options.into.length}`);
    part.copy(options.into);
    return options.into.subarray(0, part.length);
  }

  async head(key: string): Promise<{ key: string; size: number; modified: number } | undefined> {
    await Promise.resolve();
    const object = this.#objects.get(key);
    return object && { key, size: object.body.length, modified: object.modified };
  }

  async delete(key: string): Promise<void> {
    await Promise.resolve();
    this.#objects.delete(key);
  }

  async *list(prefix: string, options: { readonly after?: string; readonly signal?: AbortSignal } = {}) {
    const { after = '' } = options;
    for (const key of [...this.#objects.keys()].toSorted((a, b) => (a < b ? -1 : 1))) {
      if (!key.startsWith(prefix) || key <= after) continue;
      options.signal?.throwIfAborted();
      const info = await this.head(key);
      if (info) yield info;
    }
  }

  async *level(prefix: string, options: { readonly after?: string; readonly signal?: AbortSignal } = {}) {
    let last = '';
    for await (const info of this.list(prefix, options)) {
      const cut = info.key.indexOf('/', prefix.length) + 1;
      const key = cut === 0 ? info.key : info.key.slice(0, cut);
      if (key === last || key <= (options.after ?? '')) continue;
      last = key;
      yield cut === 0 ? info : { key, size: 0, modified: 0 };
    }
  }

  async close(): Promise<void> {
    await Promise.resolve();
  }
}
