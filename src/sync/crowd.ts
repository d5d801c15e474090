/** Tasks side by side, a bounded number at a time. The first failure stops new ones; it is told when all that run have ended. */
export class Crowd {
  readonly #limit: number;
  readonly #running = new Set<Promise<void>>();
  #failure: { readonly error: unknown } | undefined;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Starts a task as soon as there is a place. False: an earlier one has failed, and this was not started. */
  async add(task: () => Promise<void>): Promise<boolean> {
    while (this.#running.size >= this.#limit) await Promise.race(this.#running);
    if (this.#failure) return false;
    const one: Promise<void> = task()
      .catch((error: unknown) => void (this.#failure ??= { error }))
      .finally(() => this.#running.delete(one));
    this.#running.add(one);
    return true;
  }

  /** Waits until none runs. Throws the first failure. */
  async ended(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
    if (this.#failure) throw this.#failure.error;
  }
}
