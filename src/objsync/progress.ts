/**
 * How far a run has come, so that another one can go on from there (checkpoint.ts). A run is made of walks: each goes through the keys below
 * a prefix in their order, and begins what is to be done in that order. What is begun ends in any order; so of each walk the first key
 * counts that is not done, and what comes behind it is looked at again. Objects that failed are kept by name.
 *
 * Bounds: keys under way (as many as there are threads), walks under way, directories that wait for their removal (removals.ts), and
 * `MOST_FAILED_BYTES` of names of what failed: from then on the walk in which one more fails counts no further.
 */
import type { RemovalState } from './removals.ts';

const MOST_FAILED_BYTES = 4 * 2 ** 20;

export interface WalkState {
  readonly prefix: string;
  /** Levels of directories below it that have walks of their own. */
  readonly depth: number;
  /** Keys before it are done. */
  readonly from: string;
  /** Directories up to this one have got walks of their own. */
  readonly spawned: string;
  readonly extras: RemovalState;
  readonly copied: RemovalState;
}

export interface ProgressState {
  readonly walks: readonly WalkState[];
  /** Of --files-from, lines that are done. */
  readonly lines: number;
  readonly failed: readonly string[];
}

const nothing: RemovalState = { open: [], left: [] };

/** What is begun in an order, and ends in any: where the first is that has not ended. */
class Frontier<T> {
  readonly #running = new Set<T>();
  #last: T;
  #stopped: { readonly at: T } | undefined;

  constructor(first: T) {
    this.#last = first;
  }

  get at(): T {
    if (this.#stopped) return this.#stopped.at;
    const [first] = this.#running;
    return first ?? this.#last;
  }

  get idle(): boolean {
    return this.#running.size === 0 && !this.#stopped;
  }

  begun(step: T): void {
    this.#running.add(step);
    this.#last = step;
  }

  ended(step: T): void {
    this.#running.delete(step);
  }

  /** Goes no further. */
  stop(): void {
    this.#stopped ??= { at: this.at };
  }
}

export class Walk {
  readonly prefix: string;
  readonly depth: number;
  spawned: string;
  /** Directories that an earlier run was to remove. */
  readonly restored: Pick<WalkState, 'extras' | 'copied'>;
  /** Those that wait for that now. */
  removals: (() => Pick<WalkState, 'extras' | 'copied'>) | undefined;
  readonly #keys: Frontier<string>;

  constructor({ prefix, depth, from = '', spawned = '', extras = nothing, copied = nothing }: WalkOptions) {
    this.prefix = prefix;
    this.depth = depth;
    this.spawned = spawned;
    this.restored = { extras, copied };
    this.#keys = new Frontier(from);
  }

  /** The first key that may not be done. */
  get from(): string {
    return this.#keys.at;
  }

  get isDone(): boolean {
    return this.#keys.idle;
  }

  begun(key: string): void {
    this.#keys.begun(key);
  }

  ended(key: string): void {
    this.#keys.ended(key);
  }

  stop(): void {
    this.#keys.stop();
  }

  state(): WalkState {
    const { prefix, depth, from, spawned } = this;
    return { prefix, depth, from, spawned, ...(this.removals?.() ?? this.restored) };
  }
}

type WalkOptions = Pick<WalkState, 'prefix' | 'depth'> & Partial<WalkState>;

export class Progress {
  readonly #walks = new Set<Walk>();
  readonly #failed: Set<string>;
  readonly #lines: Frontier<number>;
  #failedBytes: number;

  constructor({ lines, failed }: Pick<ProgressState, 'lines' | 'failed'> = { lines: 0, failed: [] }) {
    this.#failed = new Set(failed);
    this.#failedBytes = failed.reduce((sum, { length }) => sum + length, 0);
    this.#lines = new Frontier(lines);
  }

  /** A walk that counts from now on. */
  add(options: WalkOptions): Walk {
    const walk = new Walk(options);
    this.#walks.add(walk);
    return walk;
  }

  /** The walk has come to its end. */
  finished(walk: Walk): void {
    if (walk.isDone) this.#walks.delete(walk);
  }

  failed(key: string, walk: Walk): void {
    if (this.#failed.has(key)) return;
    if (this.#failedBytes + key.length > MOST_FAILED_BYTES) return walk.stop();
    this.#failed.add(key);
    this.#failedBytes += key.length;
  }

  succeeded(key: string): void {
    if (this.#failed.delete(key)) this.#failedBytes -= key.length;
  }

  lineBegun(line: number): void {
    this.#lines.begun(line);
  }

  lineEnded(line: number): void {
    this.#lines.ended(line);
  }

  state(): ProgressState {
    return { walks: [...this.#walks].map((walk) => walk.state()), lines: this.#lines.at, failed: [...this.#failed] };
  }
}
