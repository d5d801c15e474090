/**
 * Encrypts objects on their way into a store: each in an envelope of its own (envelope.ts). Keys, sizes in listings and the
 * number of objects stay visible; so does what `head` tells, which is the size as stored.
 *
 * An object that does not open is `Corrupt`, and none of its bytes are given out. A range is cut out of the whole object, which
 * must be fetched for it: `wholeReads` tells the layers above not to ask for ranges.
 *
 * Memory: one buffer beside the caller's for each call under way, which the callers bound; unused ones are kept up to 32 MiB.
 */
import { messageOf } from '../lib/errors.ts';
import { type Envelope, MAX_OVERHEAD } from './envelope.ts';
import { type GetOptions, ObjectError, type ObjectStore } from './store.ts';

const MAX_FREE_BYTES = 32 * 1024 * 1024;
/** Below this a buffer is not worth keeping. */
const SMALLEST = 64 * 1024;

/** Buffers used again: a fresh one of 4 MiB costs more page faults than the cipher takes. */
class Scratch {
  readonly #free: Buffer[] = [];
  #freeBytes = 0;

  take(length: number): Buffer {
    const at = this.#free.findIndex((each) => each.length >= length && each.length <= 2 * length);
    const [found] = at < 0 ? [] : this.#free.splice(at, 1);
    if (!found) return Buffer.allocUnsafeSlow(Math.ceil(length / 4096) * 4096);
    this.#freeBytes -= found.length;
    return found;
  }

  give(buffer: Buffer): void {
    if (buffer.length < SMALLEST || this.#freeBytes + buffer.length > MAX_FREE_BYTES) return;
    this.#free.push(buffer);
    this.#freeBytes += buffer.length;
  }
}

/** The store with what is in its objects encrypted; without an envelope, the store itself. Closing it closes the store. */
export function encrypted(store: ObjectStore, envelope: Envelope | undefined): ObjectStore {
  if (!envelope) return store;
  const scratch = new Scratch();

  /** Decrypts an object into `into`, or into a new buffer. */
  const open = async (key: string, sealed: Buffer, into: Buffer | undefined): Promise<Buffer> => {
    try {
      const length = envelope.lengthOf(sealed);
      if (into && length > into.length)
        throw new ObjectError('Invalid', `object ${key} gives ${length} bytes, the buffer has ${into.length}`);
      return await envelope.open(sealed, into ?? Buffer.allocUnsafeSlow(length));
    } catch (error) {
      if (error instanceof ObjectError) throw error;
      const message = `object ${key} of ${store.description} cannot be decrypted: ${messageOf(error)}`;
      // On the way it may have been changed: once more may help.
      throw new ObjectError('Corrupt', message, { cause: error, retryable: true });
    }
  };

  const getRange = async (key: string, { offset = 0, length, into, signal }: GetOptions): Promise<Buffer> => {
    const whole = await open(key, await store.get(key, signal ? { signal } : {}), undefined);
    const part = whole.subarray(offset, length === undefined ? undefined : offset + length);
    if (!into) return part;
    if (part.length > into.length)
      throw new ObjectError('Invalid', `object ${key} gives ${part.length} bytes, the buffer has ${into.length}`);
    return into.subarray(0, part.copy(into));
  };

  return {
    description: `${store.description}, encrypted`,
    wholeReads: true,
    create: (signal) => store.create(signal),

    async put(key, body, signal) {
      const buffer = scratch.take(body.length + envelope.overhead);
      await store.put(key, envelope.seal(body, buffer), signal);
      // Only now: after a failure somebody might still be sending it.
      scratch.give(buffer);
    },

    async get(key, options = {}) {
      const { into, signal } = options;
      if (options.length === 0) return (into ?? Buffer.alloc(0)).subarray(0, 0);
      if ((options.offset ?? 0) > 0 || options.length !== undefined) return getRange(key, options);
      if (!into) return open(key, await store.get(key, signal ? { signal } : {}), undefined);
      const buffer = scratch.take(into.length + MAX_OVERHEAD);
      const plain = await open(key, await store.get(key, { into: buffer, ...(signal ? { signal } : {}) }), into);
      scratch.give(buffer);
      return plain;
    },

    head: (key, signal) => store.head(key, signal),
    delete: (key, signal) => store.delete(key, signal),
    list: (prefix, options) => store.list(prefix, options),
    close: () => store.close(),
  };
}
