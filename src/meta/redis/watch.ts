/**
 * Looks whether commands are answered, and asks where the server is while none is: a master that is frozen says nothing of its
 * being replaced. For some seconds after such a stall it goes on asking, since a master that slept learns only some seconds
 * after it wakes that it has been replaced; else it asks now and then.
 */
import type { Clock } from '../../lib/clock.ts';

/** Between two looks, ms; how many of them ask after a stall, and each how many do in any case. */
const LOOK_MS = 1000;
const LOOKS_AFTER_STALL = 15;
const LOOKS_AT_MOST = 30;

export interface Progress {
  /** Something is to be answered. */
  readonly waiting: boolean;
  /** Counts answers. */
  readonly answered: number;
}

export class Watch {
  readonly #clock: Clock;
  readonly #progress: () => Progress;
  readonly #ask: () => Promise<void>;
  #cancel = (): void => {};
  #closed = false;
  #stalled = 0;
  #calm = 0;
  #answered = 0;

  constructor(clock: Clock, progress: () => Progress, ask: () => Promise<void>) {
    this.#clock = clock;
    this.#progress = progress;
    this.#ask = ask;
    this.#again();
  }

  /** There was a stall that somebody else noticed. */
  stalled(): void {
    this.#stalled = LOOKS_AFTER_STALL;
  }

  #again(): void {
    this.#cancel = this.#clock.timer(LOOK_MS, () => void this.#look().then(() => this.#closed || this.#again()));
  }

  async #look(): Promise<void> {
    const { waiting, answered } = this.#progress();
    if (waiting && answered === this.#answered) this.stalled();
    this.#answered = answered;
    if (this.#stalled === 0 && ++this.#calm < LOOKS_AT_MOST) return;
    this.#stalled = Math.max(0, this.#stalled - 1);
    this.#calm = 0;
    await this.#ask();
  }

  close(): void {
    this.#closed = true;
    this.#cancel();
  }
}
