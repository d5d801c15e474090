/**
 * A file of a Secret or of the pod's own description that changes while it is in use. The kubelet replaces all files of such a volume
 * at once, by renaming the link `..data` in their folder: a watch on the folder tells of that, and a slow poll covers file systems
 * and moments that tell nothing.
 *
 * Bounded: one check at a time, at most one a second; checks asked for meanwhile are that one. A content that is not accepted is
 * tried again at every poll (a user may be made after its password was told), and said once.
 */
import { type FSWatcher, watch } from 'node:fs';
import { dirname } from 'node:path';
import type { Clock } from '../lib/clock.ts';
import { messageOf } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import type { Random } from '../lib/random.ts';

/** Pause between two polls, ms; up to a half is added at random, so that the pods of a node do not all look at once. */
const POLL_MS = 30_000;
/** Events come several at a time. */
const SETTLE_MS = 100;
/** Least pause between two checks, ms. */
const LEAST_PAUSE_MS = 1000;

export interface WatchedFileOptions {
  readonly path: string;
  /** Reads it, and whatever belongs to it. */
  readonly read: (path: string) => string;
  /** What is in use now. @default what is there now */
  readonly used?: string;
  /** Takes a new content into use, and answers what is to be logged of it; throws where it cannot be used, and has changed nothing then. */
  readonly accept: (content: string) => Promise<Readonly<Record<string, string>>>;
  readonly messages: {
    readonly taken: string;
    readonly refused: string;
    /** The content is again the one in use, after one that was refused. */
    readonly restored: string;
  };
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

export class WatchedFile {
  readonly #options: WatchedFileOptions;
  /** Stops the timer that is out. */
  #cancel: () => void = () => {};
  #watcher: FSWatcher | undefined;
  #used: string;
  #checking: Promise<void> | undefined;
  #lastCheck = -Infinity;
  #problem: string | undefined;
  readonly #ending = new AbortController();

  constructor(options: WatchedFileOptions) {
    this.#options = options;
    this.#used = options.used ?? options.read(options.path);
    try {
      this.#watcher = watch(dirname(options.path), { persistent: false }, () => this.#soon(SETTLE_MS));
      this.#watcher.on('error', () => this.#watcher?.close());
    } catch (error) {
      options.logger.info('the folder of a file cannot be watched; it is looked at every half minute', {
        path: options.path,
        error: messageOf(error),
      });
    }
    this.#schedule();
  }

  /** Why the content that is there is not in use; undefined where it is. */
  get problem(): string | undefined {
    return this.#problem;
  }

  #schedule(): void {
    const { clock, random } = this.#options;
    this.#soon(POLL_MS * (1 + random.float() / 2), clock);
  }

  #soon(pause: number, clock = this.#options.clock): void {
    if (this.#ending.signal.aborted) return;
    this.#cancel();
    this.#cancel = clock.timer(pause, () => {
      this.#schedule();
      void this.check();
    });
  }

  /** Looks at once, or a second after the last look. Resolves when that is done; never throws. */
  check(): Promise<void> {
    if (this.#ending.signal.aborted) return Promise.resolve();
    this.#checking ??= this.#spaced().finally(() => (this.#checking = undefined));
    return this.#checking;
  }

  async #spaced(): Promise<void> {
    const { clock } = this.#options;
    const early = this.#lastCheck + LEAST_PAUSE_MS - clock.monotonic();
    try {
      if (early > 0) await clock.sleep(early, this.#ending.signal);
    } catch {
      return;
    }
    await this.#check();
    this.#lastCheck = clock.monotonic();
  }

  async #check(): Promise<void> {
    const { path, read, accept, messages, logger } = this.#options;
    try {
      const content = read(path);
      if (content === this.#used) {
        if (this.#problem !== undefined) logger.info(messages.restored, { path });
        this.#problem = undefined;
        return;
      }
      const about = await accept(content);
      this.#used = content;
      this.#problem = undefined;
      logger.info(messages.taken, { path, ...about });
    } catch (error) {
      const problem = messageOf(error);
      if (problem !== this.#problem && !this.#ending.signal.aborted) logger.error(messages.refused, { path, error: problem });
      this.#problem = problem;
    }
  }

  /** Ends; waits for a check under way. */
  async close(): Promise<void> {
    this.#ending.abort();
    this.#cancel();
    this.#watcher?.close();
    await this.#checking;
  }
}
