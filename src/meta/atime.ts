/**
 * Access times. `noatime`: as they were made or set. `relatime`: changed by a read where they are older than the last change, or than
 * a day. `strictatime`: changed by every read, once a second at most. Reads are opening, listing, reading a link, and reading
 * data that the kernel has not in its memory. Source: the JuiceFS format, mount option --atime-mode (touchAtime of the official
 * client).
 *
 * Bounded: at most LIMIT nodes at a time are being changed; a read beyond changes nothing. A failure is a line in the log.
 */
import type { Ino } from '../lib/int64.ts';
import { messageOf } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import type { ChangeLog } from './changelog.ts';
import type { Guesses } from './guesses.ts';
import type { OpenFiles } from './open-files.ts';
import type { Committed, Decide } from './transact.ts';
import type { Attr } from './types.ts';

export const atimeModes = ['noatime', 'relatime', 'strictatime'] as const;
export type AtimeMode = (typeof atimeModes)[number];

const LIMIT = 1000;
const DAY = 86_400;

type Times = Pick<Attr, 'atime' | 'atimensec' | 'mtime' | 'mtimensec' | 'ctime' | 'ctimensec'>;
type Moment = { readonly sec: number; readonly nsec: number };

/** What is needed of the volume. */
interface Surroundings {
  readonly guesses: Guesses;
  readonly files: OpenFiles;
  readonly logger: Logger;
  readonly readOnly: boolean;
  readonly log: Pick<ChangeLog, 'access'>;
  now(): Moment;
  change<T>(decide: Decide<T>): Promise<Committed<T>>;
}

const isLater = (sec: number, nsec: number, than: Times): boolean =>
  sec > than.atime || (sec === than.atime && nsec > than.atimensec);

/** Whether a read now changes the access time. */
export function needsTouch(mode: AtimeMode, attr: Times, now: Moment): boolean {
  if (mode === 'noatime') return false;
  if (isLater(attr.mtime, attr.mtimensec, attr) || isLater(attr.ctime, attr.ctimensec, attr)) return true;
  const age = now.sec - attr.atime + (now.nsec - attr.atimensec) / 1e9;
  return age > (mode === 'relatime' ? DAY : 1);
}

export class AccessTimes {
  readonly #volume: Surroundings;
  readonly #mode: AtimeMode;
  readonly #running = new Map<Ino, Promise<void>>();

  constructor(volume: Surroundings, mode: AtimeMode) {
    this.#volume = volume;
    this.#mode = mode;
  }

  /** Somebody reads this node. Returns at once. */
  touch(ino: Ino): void {
    const volume = this.#volume;
    if (this.#mode === 'noatime' || volume.readOnly || this.#running.has(ino) || this.#running.size >= LIMIT) return;
    const known = volume.guesses.node(ino);
    if (known && !needsTouch(this.#mode, known, volume.now())) return;
    const change = this.#change(ino)
      .catch((error: unknown) => volume.logger.warn('an access time was not stored', { ino, error: messageOf(error) }))
      .finally(() => this.#running.delete(ino));
    this.#running.set(ino, change);
  }

  async #change(ino: Ino): Promise<void> {
    const volume = this.#volume;
    const { value } = await volume.change<{ readonly before: Attr; readonly after: Attr } | undefined>((view) => {
      const before = view.node(ino, 'all');
      const now = volume.now();
      if (!before || !needsTouch(this.#mode, before, now)) return { writes: [], value: undefined };
      const after = { ...before, atime: now.sec, atimensec: now.nsec };
      return { writes: [{ kind: 'putNode', ino, attr: after }, ...volume.log.access(ino, now)], value: { before, after } };
    });
    if (value) volume.files.changed(ino, value.before, value.after);
  }

  /** Resolves when what was begun is stored. */
  async settled(): Promise<void> {
    await Promise.all(this.#running.values());
  }
}
