/**
 * A volume.json that changes while its volume is mounted. The kubelet replaces all files of a Secret at once, by renaming the link
 * `..data` in their folder: a watch on the folder tells of that, and a slow poll covers file systems and moments that tell nothing.
 *
 * Bounded: one check at a time, at most one a second; checks asked for meanwhile are that one. A content that is not accepted is
 * tried again at every poll (a user may be made after its password was told), and said once.
 */
import { type FSWatcher, readFileSync, watch } from 'node:fs';
import { dirname, join } from 'node:path';
import { MOUNT_SECRET_CA, type MountConfig, parseMountConfig } from '../api/mount.ts';
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

export interface WatchedConfigOptions {
  /** Path of volume.json. */
  readonly path: string;
  /** Takes a new configuration into use; throws where it cannot be used, and has changed nothing then. */
  readonly accept: (config: MountConfig) => Promise<void>;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

function contentOf(path: string): string {
  let ca = '';
  try {
    ca = readFileSync(join(dirname(path), MOUNT_SECRET_CA), 'utf8');
  } catch {
    // Most databases need none.
  }
  return `${readFileSync(path, 'utf8')}\0${ca}`;
}

export class WatchedConfig {
  readonly #options: WatchedConfigOptions;
  /** Stops the timer that is out. */
  #cancel: () => void = () => {};
  #watcher: FSWatcher | undefined;
  #used: string;
  #checking: Promise<void> | undefined;
  #lastCheck = -Infinity;
  #problem: string | undefined;
  readonly #ending = new AbortController();

  /** `volume.json` is as it was read just before, and in use. */
  constructor(options: WatchedConfigOptions) {
    this.#options = options;
    this.#used = contentOf(options.path);
    try {
      this.#watcher = watch(dirname(options.path), { persistent: false }, () => this.#soon(SETTLE_MS));
      this.#watcher.on('error', () => this.#watcher?.close());
    } catch (error) {
      options.logger.info('the folder of the credentials cannot be watched; it is looked at every half minute', {
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
    const { path, accept, logger } = this.#options;
    try {
      const content = contentOf(path);
      if (content === this.#used) {
        if (this.#problem !== undefined) logger.info('the credentials are again those in use', { path });
        this.#problem = undefined;
        return;
      }
      const config = parseMountConfig(content.slice(0, content.indexOf('\0')), dirname(path));
      await accept(config);
      this.#used = content;
      this.#problem = undefined;
      logger.info('new credentials are in use', { path, ...(config.generation ? { generation: config.generation } : {}) });
    } catch (error) {
      const problem = messageOf(error);
      if (problem !== this.#problem && !this.#ending.signal.aborted)
        logger.error('the new credentials cannot be used, the old ones stay in use', { path, error: problem });
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
