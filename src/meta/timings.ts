/**
 * Operations of the metadata, counted and timed by JuiceFS's names for them. What is answered from what this client knows already
 * costs nothing and is not counted where JuiceFS does not count it either (the slices of a chunk that are known).
 *
 * A restart of a transaction is an attempt that met a change by others. JuiceFS labels it with the name of the function inside its
 * engine; here there is one place where transactions are carried out, and one label.
 */
import type { Clock } from '../lib/clock.ts';
import { Durations, exponential, type Family, Histogram, single } from '../lib/metrics.ts';
import type { Meta } from './types.ts';

const BOUNDS = (): Float64Array => exponential(0.0001, 1.5, 30);

/** What each operation counts as. */
const METHODS = {
  statfs: 'StatFS',
  lookup: 'Lookup',
  getattr: 'GetAttr',
  // It reads the attributes, and no more, unless the file is to be made.
  open: 'GetAttr',
  setattr: 'SetAttr',
  truncate: 'Truncate',
  fallocate: 'Fallocate',
  mknod: 'Mknod',
  mkdir: 'Mknod',
  create: 'Mknod',
  tmpfile: 'Mknod',
  symlink: 'Mknod',
  readlink: 'ReadLink',
  link: 'Link',
  unlink: 'Unlink',
  rmdir: 'Rmdir',
  rename: 'Rename',
  writeSlice: 'Write',
  writeParts: 'Write',
  copyFileRange: 'CopyFileRange',
  getxattr: 'GetXattr',
  setxattr: 'SetXattr',
  listxattr: 'ListXattr',
  removexattr: 'RemoveXattr',
} as const satisfies Partial<Readonly<Record<keyof Meta, string>>>;

/** Reading a chunk's slices is counted where they are read (data.ts), a listing by its beginning and all its batches. */
const OTHERS = ['Read', 'NewDirHandler'] as const;
type Method = (typeof METHODS)[keyof typeof METHODS] | (typeof OTHERS)[number];

export class Timings {
  readonly #operations = new Durations([...new Set([...Object.values(METHODS), ...OTHERS])], BOUNDS());
  /** Seconds. */
  readonly transactions = new Histogram(BOUNDS());
  restarts = 0;

  /** The operation ran from `begin` to `end`, monotonic milliseconds. */
  done(method: Method, begin: number, end: number): void {
    this.#operations.done(this.#operations.names.indexOf(method), (end - begin) / 1000);
  }

  families(): readonly Family[] {
    const operations = this.#operations;
    return [
      {
        type: 'counter',
        name: 'meta_ops_total',
        help: 'Operations of the metadata',
        samples: () => operations.samples(operations.counts, 'method'),
      },
      {
        type: 'counter',
        name: 'meta_ops_duration_seconds',
        help: 'Time that operations of the metadata took, seconds',
        samples: () => operations.samples(operations.seconds, 'method'),
      },
      single(
        'histogram',
        'meta_ops_durations_histogram_seconds',
        'How long operations of the metadata took, seconds',
        () => operations.histogram,
      ),
      single(
        'histogram',
        'transaction_durations_histogram_seconds',
        'How long transactions of the metadata took, with all their attempts, seconds',
        () => this.transactions,
      ),
      {
        type: 'counter',
        name: 'transaction_restart',
        help: 'Attempts of transactions that met a change by others',
        samples: () => (this.restarts > 0 ? [{ labels: { method: 'commit' }, value: this.restarts }] : []),
      },
    ];
  }
}

type Operation = (...args: readonly unknown[]) => Promise<unknown>;

/** Counts the operations of this metadata from now on, those that it asks of itself included. */
export function timeOperations(meta: Meta, timings: Timings, clock: Clock): void {
  // Such as can be replaced again: who wraps the metadata in a proxy (limit.ts) must be able to show another.
  const replace = (name: keyof Meta, value: unknown): void =>
    void Object.defineProperty(meta, name, { value, writable: true, configurable: true });
  for (const [name, method] of Object.entries(METHODS) as [keyof typeof METHODS, Method][]) {
    const operation = (meta[name] as unknown as Operation).bind(meta);
    replace(name, (...args: readonly unknown[]): Promise<unknown> => {
      const begin = clock.monotonic();
      const result = operation(...args);
      const done = (): void => timings.done(method, begin, clock.monotonic());
      // Beside it, not before it: who waits for the result gets it no later.
      result.then(done, done);
      return result;
    });
  }
  const readdir = meta.readdir.bind(meta);
  replace('readdir', async function* (...args: Parameters<Meta['readdir']>): ReturnType<Meta['readdir']> {
    let spent = 0;
    let begin = clock.monotonic();
    try {
      for await (const batch of readdir(...args)) {
        spent += clock.monotonic() - begin;
        yield batch;
        begin = clock.monotonic();
      }
      spent += clock.monotonic() - begin;
    } finally {
      timings.done('NewDirHandler', 0, spent);
    }
  });
}
