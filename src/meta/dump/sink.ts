/** Where a dump is written to: bytes in order, one wait at a time. Who writes waits, so nothing piles up. */
export type Sink = (bytes: Buffer) => Promise<void>;

/** Text gathered into pieces of this many characters. */
const PIECE = 64 * 1024;

/** Gathers text and hands it on in larger pieces. */
export class TextSink {
  readonly #sink: Sink;
  #parts: string[] = [];
  #length = 0;

  constructor(sink: Sink) {
    this.#sink = sink;
  }

  /** Undefined where nothing has to be waited for. */
  write(text: string): Promise<void> | undefined {
    this.#parts.push(text);
    this.#length += text.length;
    return this.#length < PIECE ? undefined : this.flush();
  }

  async flush(): Promise<void> {
    if (this.#length === 0) return;
    const text = this.#parts.join('');
    this.#parts = [];
    this.#length = 0;
    await this.#sink(Buffer.from(text));
  }
}

/**
 * Does `work` for each item and yields the results in order, while up to `ahead` further ones are under way. Ending early waits for those.
 */
export async function* inOrder<T, R>(items: AsyncIterable<T>, ahead: number, work: (item: T) => Promise<R>): AsyncGenerator<R> {
  const running: Promise<R>[] = [];
  try {
    for await (const item of items) {
      const promise = work(item);
      // Told when its turn comes.
      promise.catch(() => {});
      running.push(promise);
      if (running.length > ahead) yield await (running.shift() as Promise<R>);
    }
    while (running.length > 0) yield await (running.shift() as Promise<R>);
  } finally {
    await Promise.allSettled(running);
  }
}
