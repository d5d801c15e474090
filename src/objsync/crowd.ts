/** Tasks that run side by side, so many at a time over all crowds that share the places; each crowd can be waited for by itself. */
export class Places {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  async take(): Promise<void> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((go) => this.#waiting.push(go));
  }

  give(): void {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#free++;
  }
}

export class Crowd {
  readonly #places: Places;
  readonly #running = new Set<Promise<void>>();

  constructor(places: Places) {
    this.#places = places;
  }

  /** Waits for a place, and starts the task, which must not fail. */
  async add(task: () => Promise<void>): Promise<void> {
    await this.#places.take();
    const running = task().finally(() => {
      this.#places.give();
      this.#running.delete(running);
    });
    this.#running.add(running);
  }

  /** Resolves when all that was added so far has ended. */
  async ended(): Promise<void> {
    await Promise.all(this.#running);
  }
}
