/** What all operations on one volume share: the engine, what was seen and what is counted, and the volume's format. */
import type { Clock } from '../lib/clock.ts';
import { FsError } from '../lib/errors.ts';
import { type Ino, ino } from '../lib/int64.ts';
import type { Logger } from '../lib/log.ts';
import type { Random } from '../lib/random.ts';
import { Acls } from './acls.ts';
import { AccessTimes, type AtimeMode } from './atime.ts';
import { ChangeLog } from './changelog.ts';
import { Deletions } from './deletion.ts';
import type { MetaEngine, Write } from './engine.ts';
import type { Format } from './format.ts';
import { Guesses } from './guesses.ts';
import { Ids } from './ids.ts';
import { Limits } from './limits.ts';
import { Locks } from './locks.ts';
import { OpenFiles } from './open-files.ts';
import { Stats } from './stats.ts';
import { type Committed, type Decide, Transactor } from './transact.ts';
import { Trash } from './trash.ts';
import type { Timings } from './timings.ts';
import type { Attr, MetaCallbacks, Moment } from './types.ts';

const INODE_BATCH = 1024;
const SLICE_BATCH = 4096;

export interface VolumeOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly readOnly: boolean;
  readonly callbacks: MetaCallbacks;
  /** Where it is counted what is done, and how long it takes. */
  readonly timings?: Timings | undefined;
  /** See MetaOptions. */
  readonly atimeMode?: AtimeMode;
  readonly openCacheMs?: number;
  readonly openCacheLimit?: number;
  readonly skipDirMtimeMs?: number;
  readonly sortDir?: boolean;
  readonly fastStatfs?: boolean;
}

export class Volume {
  readonly engine: MetaEngine;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly readOnly: boolean;
  readonly callbacks: MetaCallbacks;
  readonly timings: Timings | undefined;
  readonly guesses = new Guesses();
  readonly log: ChangeLog;
  readonly files: OpenFiles;
  readonly atimes: AccessTimes;
  /** What the mount asked for. */
  readonly options: VolumeOptions;
  readonly stats: Stats;
  readonly limits: Limits;
  readonly trash: Trash;
  readonly deletions: Deletions;
  readonly locks: Locks;
  readonly acls: Acls;
  readonly #inodes: Ids;
  readonly #slices: Ids;
  readonly #transactor: Transactor;
  #format: Format;
  /** The session's id, 0 while there is none. */
  sid = 0;
  /** Reads anew what others may have changed of limits and usage; a session also looks at the format. */
  reload: () => Promise<unknown> = () => Promise.all([this.stats.used(), this.limits.load()]);

  constructor(engine: MetaEngine, format: Format, options: VolumeOptions) {
    this.engine = engine;
    this.clock = options.clock;
    this.random = options.random;
    this.logger = options.logger;
    this.readOnly = options.readOnly;
    this.callbacks = options.callbacks;
    this.timings = options.timings;
    this.options = options;
    this.log = new ChangeLog(options.clock, () => this.sid, engine.longestEntry);
    this.files = new OpenFiles(options.clock, options.openCacheMs, options.openCacheLimit);
    this.atimes = new AccessTimes(this, options.atimeMode ?? 'noatime');
    this.#format = format;
    this.#transactor = new Transactor(engine, this.guesses, options.clock, options.random, options.timings);
    // Inode 1 is the root.
    this.#inodes = new Ids(engine, 'nextInode', INODE_BATCH, 2, this.log);
    this.#slices = new Ids(engine, 'nextChunk', SLICE_BATCH, 1, this.log);
    this.stats = new Stats(engine, options.logger, this.log);
    this.limits = new Limits(this);
    this.trash = new Trash(this);
    this.deletions = new Deletions(this);
    this.locks = new Locks(this);
    this.acls = new Acls(engine, this.log);
    this.format = format;
  }

  get format(): Format {
    return this.#format;
  }

  set format(format: Format) {
    this.#format = format;
    this.log.on = format.changeLog;
    this.stats.directoryStats = format.dirStats;
    this.stats.capacity = format.capacity;
    this.stats.inodes = format.inodes;
    this.limits.accounts.count(format.dirStats, format.userGroupQuota);
  }

  /** The wall clock, to the nanosecond. */
  now(): Moment {
    const ns = this.clock.nowNs();
    const sec = ns / 1_000_000_000n;
    return { sec: Number(sec), nsec: Number(ns - sec * 1_000_000_000n) };
  }

  /** Unix seconds. */
  seconds(): number {
    return Math.floor(this.clock.now() / 1000);
  }

  async newInode(): Promise<Ino> {
    return ino(await this.#inodes.take());
  }

  newSlice(): number | Promise<number> {
    return this.#slices.take();
  }

  /**
   * A directory's times become these, and it has so many links more. Nothing is to be written where only times would change, and by
   * less than the mount wants to see (`above` is what is known of the directory).
   */
  touch(directory: Ino, above: Attr | undefined, { sec, nsec }: Moment, nlink = 0): Write[] {
    const skip = this.options.skipDirMtimeMs ?? 0;
    if (nlink === 0 && skip > 0 && above) {
      const age = (sec - above.mtime) * 1000 + (nsec - above.mtimensec) / 1e6;
      if (Math.abs(age) < skip) return [];
    }
    return [{ kind: 'touchNode', ino: directory, sec, nsec, nlink }];
  }

  /** Carries out a change; EROFS on a read-only mount. */
  async change<T>(decide: Decide<T>, signal?: AbortSignal): Promise<Committed<T>> {
    if (this.readOnly) throw new FsError('EROFS');
    return this.#transactor.run(decide, signal);
  }

  /** Takes note of attributes that the engine has just answered. */
  seen(node: Ino, attr: Attr): void {
    this.guesses.setNode(node, attr);
    this.files.note(node, attr);
  }

  /** Adds to the usage of every directory that holds a name of this node. */
  async addToParents(node: Ino, attr: Attr, length: number, space: number): Promise<void> {
    // A file that is only open any more lies in no directory, though its node still names the last one.
    if (!this.stats.directoryStats || attr.nlink === 0 || (length === 0 && space === 0)) return;
    if (attr.parent !== 0) return this.stats.add(attr.parent, { length, space, inodes: 0 });
    const [parents] = await this.engine.read([{ kind: 'parents', ino: node }]);
    for (const [parent, names] of parents) this.stats.add(parent, { length: length * names, space: space * names, inodes: 0 });
  }
}
