/**
 * Usage: the volume's two counters, and how much lies directly in each directory.
 *
 * A file is charged its length in steps of 4 KiB, but 4 KiB at least; everything else 4 KiB. Where the engine has the
 * counters inside each transaction, `writes` makes them; else they are summed up here and written once a second, as the
 * changes of directories always are. What is not written yet when a client dies is missing for ever; `juicefs fsck` repairs.
 *
 * Bounded: at most MAX_DIRECTORIES with changes not written; further ones are computed anew when they are next changed.
 * Source: the JuiceFS format, accounting.
 */
import { FsError } from '../lib/errors.ts';
import { type Ino, TRASH_INO } from '../lib/int64.ts';
import type { Logger } from '../lib/log.ts';
import type { ChangeLog } from './changelog.ts';
import type { DirStat, MetaEngine, Write } from './engine.ts';
import { type Attr, NodeType } from './types.ts';

const MAX_DIRECTORIES = 100_000;
const DIRECTORIES_PER_COMMIT = 200;
const ENTRIES_PER_READ = 4096;

/** What a file of this length is charged, bytes. */
export function charged(length: number): number {
  return length === 0 ? 4096 : Math.ceil(length / 4096) * 4096;
}

/** What a node adds to the directory it lies in. */
export function statOf(attr: Attr): DirStat {
  const length = attr.type === NodeType.File ? attr.length : 0;
  return { length, space: charged(length), inodes: 1 };
}

function sum(a: DirStat, b: DirStat): DirStat {
  return { length: a.length + b.length, space: a.space + b.space, inodes: a.inodes + b.inodes };
}

const zero: DirStat = { length: 0, space: 0, inodes: 0 };
const isZero = (stat: DirStat): boolean => stat.length === 0 && stat.space === 0 && stat.inodes === 0;

/** The other way round. */
export function minus(stat: DirStat): DirStat {
  return { length: -stat.length, space: -stat.space, inodes: -stat.inodes };
}

export class Stats {
  readonly #engine: MetaEngine;
  readonly #log: Pick<ChangeLog, 'dirStat'> | undefined;
  readonly #logger: Logger;
  #directories = new Map<Ino, DirStat>();
  #pendingSpace = 0;
  #pendingInodes = 0;
  #usedSpace = 0;
  #usedInodes = 0;
  #flushing: Promise<void> | undefined;
  /** Whether the volume keeps directory statistics. */
  directoryStats = true;
  /** Bytes and inodes the volume may hold, 0 = unlimited. */
  capacity = 0;
  inodes = 0;
  /** Bytes set aside for data that was accepted and is not committed yet. */
  reserved = 0;

  constructor(engine: MetaEngine, logger: Logger, log?: Pick<ChangeLog, 'dirStat'>) {
    this.#engine = engine;
    this.#log = log;
    this.#logger = logger;
  }

  /** Writes to be part of the transaction; `charge` with the same numbers once it is committed. */
  writes(space: number, inodes: number): Write[] {
    if (this.#engine.usageCounters === 'deferred') return [];
    const writes: Write[] = [];
    if (space !== 0) writes.push({ kind: 'addCounter', name: 'usedSpace', delta: space });
    if (inodes !== 0) writes.push({ kind: 'addCounter', name: 'totalInodes', delta: inodes });
    return writes;
  }

  charge(space: number, inodes: number): void {
    this.#usedSpace += space;
    this.#usedInodes += inodes;
    if (this.#engine.usageCounters === 'inline') return;
    this.#pendingSpace += space;
    this.#pendingInodes += inodes;
  }

  /** ENOSPC where the volume's limits leave no room. What others have written lately may be missing. */
  refusal(space: number, inodes: number): FsError | undefined {
    if (space > 0 && this.capacity > 0 && this.#usedSpace + this.reserved + space > this.capacity)
      return new FsError('ENOSPC', `the volume is limited to ${this.capacity} bytes`);
    if (inodes > 0 && this.inodes > 0 && this.#usedInodes + inodes > this.inodes)
      return new FsError('ENOSPC', `the volume is limited to ${this.inodes} inodes`);
    return undefined;
  }

  /** The counters as last read, with what this client has changed since. */
  get known(): { readonly space: number; readonly inodes: number } {
    return { space: Math.max(0, this.#usedSpace), inodes: Math.max(0, this.#usedInodes) };
  }

  /** Reads the counters, as of now with what is not written yet; never negative. */
  async used(): Promise<{ readonly space: number; readonly inodes: number }> {
    const [space, inodes] = await this.#engine.read([
      { kind: 'counter', name: 'usedSpace' },
      { kind: 'counter', name: 'totalInodes' },
    ]);
    this.#usedSpace = Math.max(0, space + this.#pendingSpace);
    this.#usedInodes = Math.max(0, inodes + this.#pendingInodes);
    return { space: this.#usedSpace, inodes: this.#usedInodes };
  }

  /** Changes the usage of a directory. The root of the trash has none. */
  add(directory: Ino, delta: DirStat): void {
    if (!this.directoryStats || directory === TRASH_INO || isZero(delta)) return;
    const before = this.#directories.get(directory);
    if (!before && this.#directories.size >= MAX_DIRECTORIES) return;
    this.#directories.set(directory, sum(before ?? zero, delta));
  }

  /** The directory is gone: nothing of it is written any more. */
  forget(directory: Ino): void {
    this.#directories.delete(directory);
  }

  /** Writes what has come together. What fails is tried again with the next flush. */
  flush(): Promise<void> {
    this.#flushing ??= this.#flush().finally(() => (this.#flushing = undefined));
    return this.#flushing;
  }

  /** Writes everything charged until now, also what a flush under way does not hold. */
  async flushAll(): Promise<void> {
    if (this.#flushing) await this.#flushing;
    await this.flush();
  }

  async #flush(): Promise<void> {
    await this.#flushCounters();
    if (this.#directories.size === 0) return;
    const changes = [...this.#directories].filter(([, delta]) => !isZero(delta));
    this.#directories = new Map();
    for (let from = 0; from < changes.length; from += DIRECTORIES_PER_COMMIT) {
      const part = changes.slice(from, from + DIRECTORIES_PER_COMMIT);
      try {
        const writes = part.map(([ino, delta]) => ({ kind: 'addDirStat', ino, delta }) as const);
        const result = await this.#engine.commit({ checks: [], writes });
        if (!result.ok) continue;
        for (const [index, [ino]] of part.entries()) if (result.results[index] === 0) await this.#recompute(ino);
      } catch (error) {
        for (const [ino, delta] of changes.slice(from)) this.add(ino, delta);
        throw error;
      }
    }
  }

  async #flushCounters(): Promise<void> {
    const [space, inodes] = [this.#pendingSpace, this.#pendingInodes];
    if (space === 0 && inodes === 0) return;
    const writes: Write[] = [];
    if (space !== 0) writes.push({ kind: 'addCounter', name: 'usedSpace', delta: space });
    if (inodes !== 0) writes.push({ kind: 'addCounter', name: 'totalInodes', delta: inodes });
    await this.#engine.commit({ checks: [], writes });
    this.#pendingSpace -= space;
    this.#pendingInodes -= inodes;
  }

  /**
   * Sees to it that there is a record. A new volume has none of its root; were it first counted when several clients have
   * changes that are not written yet, these would be counted twice.
   */
  async ensure(directory: Ino): Promise<void> {
    if (!this.directoryStats) return;
    const [stat] = await this.#engine.read([{ kind: 'dirStat', ino: directory }]);
    if (!stat) await this.#recompute(directory);
  }

  /** Counts what lies in a directory without a record, or with one lost, and records it. */
  async #recompute(ino: Ino): Promise<void> {
    const [attr] = await this.#engine.read([{ kind: 'node', ino }]);
    if (attr?.type !== NodeType.Directory) return;
    let stat = zero;
    for await (const batch of this.#engine.scanEntries(ino, ENTRIES_PER_READ)) {
      const attrs = await this.#engine.nodes(batch.map((entry) => entry.ino));
      for (const each of attrs) if (each) stat = sum(stat, statOf(each));
    }
    await this.#engine.commit({
      checks: [{ kind: 'node', ino, expect: attr, scope: 'exists' }],
      writes: [{ kind: 'putDirStat', ino, value: stat }, ...(this.#log?.dirStat(ino, stat) ?? [])],
    });
    this.#logger.debug('counted a directory anew', { ino, ...stat });
  }
}
