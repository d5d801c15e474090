/**
 * Inode numbers and slice ids: taken from a counter in batches, so that most operations need no round trip for one. Numbers
 * of a batch that are not used are lost. The next batch is fetched when a tenth of one is left.
 */
import type { ChangeLog } from './changelog.ts';
import type { MetaEngine } from './engine.ts';

export class Ids {
  readonly #engine: MetaEngine;
  readonly #log: Pick<ChangeLog, 'addCounter'> | undefined;
  readonly #counter: string;
  readonly #batch: number;
  readonly #first: number;
  #next = 0;
  #end = 0;
  #spare: { readonly next: number; readonly end: number } | undefined;
  #fetching: Promise<void> | undefined;

  /** `first` is the smallest number that may be given out. */
  constructor(engine: MetaEngine, counter: string, batch: number, first: number, log?: Pick<ChangeLog, 'addCounter'>) {
    this.#engine = engine;
    this.#log = log;
    this.#counter = counter;
    this.#batch = batch;
    this.#first = first;
  }

  /** The next number, at once where there is one. */
  take(): number | Promise<number> {
    if (this.#next >= this.#end && this.#spare) {
      ({ next: this.#next, end: this.#end } = this.#spare);
      this.#spare = undefined;
    }
    if (this.#next >= this.#end) return this.#wait();
    if (!this.#spare && this.#end - this.#next <= this.#batch / 10) this.#fetch().catch(() => {});
    return this.#next++;
  }

  async #wait(): Promise<number> {
    await this.#fetch();
    return this.take();
  }

  #fetch(): Promise<void> {
    this.#fetching ??= this.#fetchBatch().finally(() => (this.#fetching = undefined));
    return this.#fetching;
  }

  async #fetchBatch(): Promise<void> {
    const result = await this.#engine.commit({
      checks: [],
      writes: [
        { kind: 'addCounter', name: this.#counter, delta: this.#batch },
        ...(this.#log?.addCounter(this.#counter, this.#batch) ?? []),
      ],
    });
    const value = (result.ok ? result.results[0] : undefined) ?? 0;
    const end = this.#engine.idCountersHold === 'last' ? value + 1 : value;
    this.#spare = { next: Math.max(end - this.#batch, this.#first), end };
  }
}
