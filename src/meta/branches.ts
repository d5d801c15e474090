/**
 * Work on a tree, several parts of it at once. Who comes upon more of it hands it to a free place, and works on it himself where
 * there is none; so nobody waits for a place, nothing queues up, and what is under way is bounded by the places and the depth.
 * The first failure stops all of it.
 */
export class Branches {
  readonly #signal: AbortSignal | undefined;
  #free: number;
  #failures: unknown[] = [];

  /** With so many places besides the one who begins; an abort of the signal is a failure. */
  constructor(places: number, signal?: AbortSignal) {
    this.#free = Math.max(0, places);
    this.#signal = signal;
  }

  /** Works on each item. Resolves when all of it is done; rejects with the first failure of the whole tree. */
  async each<T>(items: Iterable<T>, work: (item: T) => Promise<void>): Promise<void> {
    const running: Promise<void>[] = [];
    for (const item of items) {
      if (this.#stopped) break;
      if (this.#free > 0) {
        this.#free--;
        running.push(this.#run(item, work).finally(() => this.#free++));
      } else await this.#run(item, work);
    }
    await Promise.all(running);
    this.throwIfStopped();
  }

  throwIfStopped(): void {
    if (this.#failures.length > 0) throw this.#failures[0];
    this.#signal?.throwIfAborted();
  }

  get #stopped(): boolean {
    return this.#failures.length > 0 || this.#signal?.aborted === true;
  }

  async #run<T>(item: T, work: (item: T) => Promise<void>): Promise<void> {
    try {
      await work(item);
    } catch (error) {
      if (this.#failures.length === 0) this.#failures.push(error);
    }
  }
}
