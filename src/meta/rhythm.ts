/** Something done again and again: one run at a time, a pause before each. */
import type { Clock } from '../lib/clock.ts';
import type { Logger } from '../lib/log.ts';
import type { Random } from '../lib/random.ts';

export interface RhythmOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** For the log. */
  readonly name: string;
  /** Pause between the end of a run and the next, ms; up to a tenth is added at random. */
  readonly pause: number;
  /** Pause before the first run, ms. @default `pause` */
  readonly first?: number;
  readonly run: () => Promise<void>;
}

export class Rhythm {
  readonly #options: RhythmOptions;
  #cancel: () => void = () => {};
  #running: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(options: RhythmOptions) {
    this.#options = options;
    this.#schedule(options.first ?? options.pause);
  }

  #schedule(pause: number): void {
    const { clock, random } = this.#options;
    if (this.#stopped) return;
    this.#cancel = clock.timer(pause * (1 + random.float() / 10), () => {
      this.#running = this.#once();
    });
  }

  async #once(): Promise<void> {
    try {
      await this.#options.run();
    } catch (error) {
      if (!this.#stopped) this.#options.logger.warn(`${this.#options.name} failed; it is tried again`, { error });
    }
    this.#schedule(this.#options.pause);
  }

  /** Ends it; resolves when a run under way is over. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancel();
    await this.#running;
  }
}
