/** Doing several things at a time, but not too many. */

/** Tasks side by side, a bounded number at a time. The first failure stops new ones; it is told when all that run have ended. */
export class Crowd {
  readonly #limit: number;
  /** Those who wait for a place, or for the end of all. */
  readonly #waiting: (() => void)[] = [];
  #running = 0;
  #failure: { readonly error: unknown } | undefined;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Starts a task as soon as there is a place. False: an earlier one has failed, and this was not started. */
  async add(task: () => Promise<void>): Promise<boolean> {
    while (this.#running >= this.#limit) await this.#change();
    if (this.#failure) return false;
    this.#running++;
    void this.#run(task);
    return true;
  }

  async #run(task: () => Promise<void>): Promise<void> {
    try {
      await task();
    } catch (error) {
      this.#failure ??= { error };
    }
    this.#running--;
    for (const wake of this.#waiting.splice(0)) wake();
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Waits until none runs. Throws the first failure. */
  async ended(): Promise<void> {
    while (this.#running > 0) await this.#change();
    if (this.#failure) throw this.#failure.error;
  }
}

/** Counted places; those who find none wait in line. */
export class Places {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(free: number) {
    this.#free = free;
  }

  take(): Promise<void> | undefined {
    if (this.#free > 0) return void this.#free--;
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  give(): void {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#free++;
  }
}
