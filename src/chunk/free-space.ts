/**
 * The part of a file system that stays free of caches (--free-space-ratio), bytes and inodes. All caches of a client on one file
 * system share one guard: it is looked at once a second at most, and what is missing is freed by each according to what it holds, so
 * that two directories on one disk do not both free all of it. Source: JuiceFS, pkg/chunk/disk_cache.go (checkFreeSpace).
 */
import type { Clock } from '../lib/clock.ts';
import type { Space } from './disk-files.ts';

/** A cache on a file system. */
export interface SpaceUser {
  /** What its file system says of itself. Rejects where that does not answer. */
  space(): Promise<Space>;
  /** Bytes that it could free, and files. */
  readonly bytes: number;
  readonly blocks: number;
  /** Frees so many bytes or more, and files, as far as it can. Never rejects. */
  free(bytes: number, files: number): Promise<void>;
}

export interface FreeSpaceOptions {
  /** The part that stays free, 0 to 1. */
  readonly ratio: number;
  /** Bytes that are freed besides what is missing, so that a block has room. */
  readonly spare: number;
  readonly clock: Clock;
}

const INTERVAL_MS = 1000;
/** While nobody asks, it is looked at now and then: others fill the disk too. */
const IDLE_INTERVAL_MS = 10_000;

export class FreeSpace {
  readonly #options: FreeSpaceOptions;
  readonly #users = new Set<SpaceUser>();
  #room: Promise<boolean> = Promise.resolve(true);
  #lookedAt = -Infinity;
  #asked: SpaceUser | undefined;
  #cancelTimer: () => void = () => {};

  constructor(options: FreeSpaceOptions) {
    this.#options = options;
  }

  /** A cache is on this file system until the function that is returned is called. */
  join(user: SpaceUser): () => void {
    this.#users.add(user);
    if (this.#users.size === 1) this.#later();
    return () => {
      this.#users.delete(user);
      if (this.#users.size === 0) this.#cancelTimer();
    };
  }

  /**
   * Whether the part is free, asked by one of its users; where it is not, room is made, and there is none until the next look.
   * Rejects where the disk does not say.
   */
  async hasRoom(user: SpaceUser): Promise<boolean> {
    const now = this.#options.clock.monotonic();
    if (now - this.#lookedAt >= INTERVAL_MS) {
      this.#lookedAt = now;
      this.#asked = user;
      this.#room = this.#look(user);
    }
    const asked = this.#asked;
    try {
      return await this.#room;
    } catch (error) {
      // It may be that one's folder alone.
      this.#lookedAt = -Infinity;
      if (asked === user) throw error;
      return this.hasRoom(user);
    }
  }

  async #look(asking: SpaceUser): Promise<boolean> {
    const { ratio, spare } = this.#options;
    const space = await asking.space();
    const bytes = Math.ceil(ratio * space.blocks - space.bavail) * space.bsize;
    const inodes = space.files > 0 ? Math.ceil(ratio * space.files - space.ffree) : 0;
    if (bytes <= 0 && inodes <= 0) return true;
    const users = [...this.#users];
    const total = (of: (user: SpaceUser) => number): number =>
      Math.max(
        1,
        users.reduce((sum, user) => sum + of(user), 0),
      );
    const [allBytes, allBlocks] = [total(({ bytes: held }) => held), total(({ blocks }) => blocks)];
    const wantedBytes = bytes > 0 ? bytes + spare : 0;
    const wantedFiles = Math.max(0, inodes);
    await Promise.all(
      users.map((user) =>
        user.free(Math.ceil((wantedBytes * user.bytes) / allBytes), Math.ceil((wantedFiles * user.blocks) / allBlocks)),
      ),
    );
    return false;
  }

  #later(): void {
    this.#cancelTimer = this.#options.clock.timer(IDLE_INTERVAL_MS, () => {
      const holder = [...this.#users].find(({ blocks }) => blocks > 0);
      // Who writes is told that the disk does not answer; nobody else needs to be.
      if (holder) void this.hasRoom(holder).catch(() => false);
      this.#later();
    });
  }
}

/** The guards of a client, one for each file system. */
export class FreeSpaces {
  readonly #options: FreeSpaceOptions;
  readonly #guards = new Map<number, FreeSpace>();

  constructor(options: FreeSpaceOptions) {
    this.#options = options;
  }

  /** The guard of the file system with this number (`st_dev`). */
  of(device: number): FreeSpace {
    let guard = this.#guards.get(device);
    if (!guard) this.#guards.set(device, (guard = new FreeSpace(this.#options)));
    return guard;
  }
}
