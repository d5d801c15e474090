/**
 * A store whose requests are counted and timed, each attempt by itself: goes below retries. Source of the names: JuiceFS.
 */
import { exponential, type Family, Histogram, single } from '../lib/metrics.ts';
import { ObjectError, type ObjectStore } from './store.ts';
import { uploadsOf } from './uploads.ts';

const METHODS = ['GET', 'PUT', 'DELETE', 'HEAD', 'LIST'] as const;
type Method = (typeof METHODS)[number];

/** Requests of one volume to its store. */
export class RequestFigures {
  readonly #durations = METHODS.map(() => new Histogram(exponential(0.01, 1.5, 25)));
  readonly #bytes = METHODS.map(() => 0);
  readonly #storageClass: string;
  #errors = 0;

  /** @param storageClass what objects are stored as; empty for the store's own choice */
  constructor(storageClass: string) {
    this.#storageClass = storageClass === '' ? 'STANDARD' : storageClass;
  }

  /** Requests of a method that have ended. */
  count(method: Method): number {
    return this.#durations[METHODS.indexOf(method)]?.count ?? 0;
  }

  bytes(method: Method): number {
    return this.#bytes[METHODS.indexOf(method)] ?? 0;
  }

  get errors(): number {
    return this.#errors;
  }

  /** A request that began then (monotonic milliseconds) has ended, after it moved so many bytes of an object. */
  done(method: Method, begin: number, bytes: number): void {
    const at = METHODS.indexOf(method);
    this.#durations[at]?.observe((performance.now() - begin) / 1000);
    this.#bytes[at] = (this.#bytes[at] ?? 0) + bytes;
  }

  failed(): void {
    this.#errors++;
  }

  families(): readonly Family[] {
    const labels = METHODS.map((method) => ({ method, storage_class: this.#storageClass }));
    return [
      {
        type: 'histogram',
        name: 'object_request_durations_histogram_seconds',
        help: 'How long requests to the object store took, seconds',
        samples: () => this.#durations.flatMap((value, at) => (value.count > 0 ? [{ labels: labels[at] ?? {}, value }] : [])),
      },
      {
        type: 'counter',
        name: 'object_request_data_bytes',
        help: 'Bytes of objects that were sent and received',
        samples: () => this.#bytes.flatMap((value, at) => (value > 0 ? [{ labels: labels[at] ?? {}, value }] : [])),
      },
      single('counter', 'object_request_errors', 'Requests to the object store that failed', () => this.#errors),
    ];
  }
}

/** The same store, counted. What was given up by whoever asked is no failure. */
export function measured(store: ObjectStore, figures: RequestFigures): ObjectStore {
  const timed = async <T>(method: Method, request: () => Promise<T>, bytes: (result: T | undefined) => number): Promise<T> => {
    const begin = performance.now();
    let result: T | undefined;
    try {
      return (result = await request());
    } catch (error) {
      if (error instanceof ObjectError) figures.failed();
      throw error;
    } finally {
      figures.done(method, begin, bytes(result));
    }
  };
  const none = (): number => 0;
  return {
    description: store.description,
    ...(store.wholeReads ? { wholeReads: true } : {}),
    create: (signal) => store.create(signal),
    put: (key, body, signal) =>
      timed(
        'PUT',
        () => store.put(key, body, signal),
        () => body.length,
      ),
    get: (key, options) =>
      timed(
        'GET',
        () => store.get(key, options),
        (body) => body?.length ?? 0,
      ),
    head: (key, signal) => timed('HEAD', () => store.head(key, signal), none),
    delete: (key, signal) => timed('DELETE', () => store.delete(key, signal), none),
    ...uploadsOf(store, (upload) => ({
      part: (number, body, signal) =>
        timed(
          'PUT',
          () => upload.part(number, body, signal),
          () => body.length,
        ),
    })),
    // A listing is as many requests as its pages, which are not seen here: it counts once.
    async *list(prefix, options) {
      const begin = performance.now();
      try {
        yield* store.list(prefix, options);
      } catch (error) {
        if (error instanceof ObjectError) figures.failed();
        throw error;
      } finally {
        figures.done('LIST', begin, 0);
      }
    },
    close: () => store.close(),
  };
}
