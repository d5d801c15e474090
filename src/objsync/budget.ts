/**
 * So many bytes in memory for all that is being copied: whoever wants more than is left waits, first come first served. One that wants
 * more than there is at all gets all. Bound of the queue: the callers, whose number is bounded.
 */
export class Budget {
  readonly #all: number;
  #left: number;
  readonly #waiting: { readonly bytes: number; readonly go: () => void }[] = [];

  constructor(bytes: number) {
    this.#all = bytes;
    this.#left = bytes;
  }

  /** Resolves to what has to be given back. */
  async take(bytes: number): Promise<number> {
    const wanted = Math.min(bytes, this.#all);
    if (this.#waiting.length === 0 && this.#left >= wanted) this.#left -= wanted;
    else await new Promise<void>((go) => this.#waiting.push({ bytes: wanted, go }));
    return wanted;
  }

  give(bytes: number): void {
    this.#left += bytes;
    for (let first = this.#waiting[0]; first && this.#left >= first.bytes; first = this.#waiting[0]) {
      this.#left -= first.bytes;
      this.#waiting.shift();
      first.go();
    }
  }
}
