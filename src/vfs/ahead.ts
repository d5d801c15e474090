/**
 * Names read ahead: a program that asks for one name of a directory after the other (`ls -l` of a shell's pattern, `git status`, a
 * walk that looks at each file) gets the rest out of one listing in place of a round trip each.
 *
 * What is told so is never older than the kernel may take it for anyway: the lifetimes it is told (`--entry-cache`, `--attr-cache`)
 * begin when the database was asked for the listing, and nothing is told in their last quarter. And it is never older than what
 * this client knows: a name is told once, where neither the name nor its node was changed from here since, and where nothing was
 * seen of the node by anybody here since (`lastSeen` is the very object of the listing). That a name does not exist is never told.
 *
 * A directory is read when `FIRST` names of it were asked for without a longer pause, and then at most `WORTH` names for each that
 * was asked for; one that turns out larger is tried again when four times as many were asked for. What was read in vain makes that
 * eight times rarer for a minute. Bounded: `MOST_NAMES` in all (some 0.6 KiB each, for a second), `MOST_DIRECTORIES` watched.
 */
import type { Clock } from '../lib/clock.ts';
import type { Ino } from '../lib/int64.ts';
import type { Entry, Meta } from '../meta/types.ts';
import type { Changes } from './changes.ts';

const FIRST = 16;
const WORTH = 32;
const MOST_NAMES = 16_384;
const MOST_DIRECTORIES = 256;
/** Names asked for with a longer pause in between do not follow each other, ms. */
const PAUSE_MS = 100;
const REPENT_MS = 60_000;
/** Of a listing, at least so much is to be asked for: a name costs so much less in it than alone. */
const USED = 16;
/** The part of the lifetimes in which names are told. */
const TELLING = 0.75;

interface Batch {
  /** When it was asked for, as own changes and as monotonic ms. */
  readonly moment: number;
  readonly asked: number;
  readonly size: number;
  readonly names: Map<string, Entry>;
  readonly cancel: () => void;
}

interface Directory {
  /** Names that the database was asked for, one soon after the other. */
  streak: number;
  last: number;
  /** The streak at which it is read. */
  wanted: number;
  /** When `wanted` was raised. */
  raised: number;
  /** While it is read: names that were changed from here or asked for meanwhile. */
  reading: Set<string> | undefined;
  batch: Batch | undefined;
}

/** A name that the kernel may be told of without asking. */
export interface Told {
  readonly entry: Entry;
  /** See Changes. */
  readonly moment: number;
  /** How long the kernel may trust it, seconds. */
  readonly lifetime: number;
}

const keyOf = (name: Buffer): string => name.toString('latin1');

export class NamesAhead {
  readonly #meta: Pick<Meta, 'entriesAhead' | 'lastSeen'>;
  readonly #changes: Changes;
  readonly #clock: Clock;
  readonly #lifetimeMs: number;
  readonly #directories = new Map<Ino, Directory>();
  #names = 0;

  /** `lifetime`: the shortest for which the kernel may trust names and attributes, seconds; 0 turns it off. */
  constructor(meta: Pick<Meta, 'entriesAhead' | 'lastSeen'>, changes: Changes, clock: Clock, lifetime: number) {
    this.#meta = meta;
    this.#changes = changes;
    this.#clock = clock;
    this.#lifetimeMs = lifetime * 1000;
  }

  /** What is known of a name; undefined where the database is to be asked. */
  find(parent: Ino, name: Buffer): Told | undefined {
    const directory = this.#directories.get(parent);
    const batch = directory?.batch;
    if (!batch) return undefined;
    const left = this.#lifetimeMs - (this.#clock.monotonic() - batch.asked);
    if (left < this.#lifetimeMs * (1 - TELLING)) {
      this.#end(directory, batch);
      return undefined;
    }
    const key = keyOf(name);
    const entry = batch.names.get(key);
    if (!entry) return undefined;
    this.#drop(batch, key);
    if (this.#changes.since(entry.ino, batch.moment) || this.#meta.lastSeen(entry.ino) !== entry.attr) return undefined;
    directory.last = this.#clock.monotonic();
    return { entry, moment: batch.moment, lifetime: left / 1000 };
  }

  /** The database was asked for a name in this directory, and had it. */
  asked(parent: Ino, name: Buffer): void {
    if (this.#lifetimeMs === 0) return;
    const now = this.#clock.monotonic();
    const directory = this.#directoryOf(parent);
    // What the listing says may be older than what was answered just now.
    directory.reading?.add(keyOf(name));
    if (now - directory.last > PAUSE_MS) directory.streak = 0;
    if (now - directory.raised > REPENT_MS) directory.wanted = FIRST;
    directory.last = now;
    directory.streak++;
    if (!directory.reading && !directory.batch && directory.streak >= directory.wanted) void this.#read(parent, directory);
  }

  /** A name was made, removed or replaced from here. */
  changed(parent: Ino, name: Buffer): void {
    const directory = this.#directories.get(parent);
    if (!directory) return;
    const key = keyOf(name);
    directory.reading?.add(key);
    if (directory.batch) this.#drop(directory.batch, key);
  }

  #directoryOf(parent: Ino): Directory {
    let directory = this.#directories.get(parent);
    if (!directory) {
      if (this.#directories.size >= MOST_DIRECTORIES) this.#forgetOldest();
      directory = { streak: 0, last: 0, wanted: FIRST, raised: -Infinity, reading: undefined, batch: undefined };
      this.#directories.set(parent, directory);
    }
    return directory;
  }

  #forgetOldest(): void {
    for (const [ino, directory] of this.#directories) {
      if (directory.batch) this.#end(directory, directory.batch);
      this.#directories.delete(ino);
      return;
    }
  }

  async #read(parent: Ino, directory: Directory): Promise<void> {
    const changed = new Set<string>();
    directory.reading = changed;
    const asked = this.#clock.monotonic();
    const { moment } = this.#changes;
    const most = Math.min(directory.streak * WORTH, MOST_NAMES);
    // Who asks for a name is told what is wrong.
    const entries = await this.#meta.entriesAhead(parent, most).catch(() => []);
    directory.reading = undefined;
    if (!entries) return this.#raise(directory, most === MOST_NAMES ? Infinity : directory.streak * 4);
    // Forgotten meanwhile.
    if (this.#directories.get(parent) !== directory) return;
    const names = new Map<string, Entry>();
    for (const { name, ino, attr } of entries) {
      const key = keyOf(name);
      if (attr && !changed.has(key)) names.set(key, { ino, attr });
    }
    const cancel = this.#clock.timer(this.#lifetimeMs, () => this.#end(directory, batch));
    const batch: Batch = { moment, asked, size: names.size, names, cancel };
    directory.batch = batch;
    this.#names += names.size;
    for (const other of this.#directories.values()) {
      if (this.#names <= MOST_NAMES) break;
      if (other.batch && other !== directory) this.#end(other, other.batch);
    }
  }

  #drop(batch: Batch, key: string): void {
    if (batch.names.delete(key)) this.#names--;
  }

  #end(directory: Directory, batch: Batch): void {
    if (directory.batch !== batch) return;
    directory.batch = undefined;
    batch.cancel();
    this.#names -= batch.names.size;
    const told = batch.size - batch.names.size;
    if (told * USED < batch.size) this.#raise(directory, directory.wanted * 8);
    // Who goes on gets the next listing at once.
    else directory.streak = directory.wanted;
  }

  #raise(directory: Directory, wanted: number): void {
    directory.wanted = wanted;
    directory.raised = this.#clock.monotonic();
  }
}
