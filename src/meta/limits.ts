/**
 * What may still be held, and who is charged: the limits of the volume (ENOSPC) and the quotas of directories, users and groups
 * (EDQUOT). Something new is checked before it is committed, and charged after.
 *
 * Numbers are those of this client, behind others by a heartbeat at most; before anything is refused they are read anew (once
 * a second at most), so that whoever was given more room, or made some, can use it at once. Several clients together can go
 * over a limit by what they write within that time, as with JuiceFS.
 *
 * In a volume without quotas nothing here costs a round trip. In one with quotas of directories, the way from a directory
 * up to the root is known from what this client saw of the directories; those it used are read anew with each heartbeat.
 */
import type { Clock } from '../lib/clock.ts';
import { FsError } from '../lib/errors.ts';
import { type Ino, ROOT_INO } from '../lib/int64.ts';
import { type Account, Accounts, exceeds } from './accounts.ts';
import type { MetaEngine } from './engine.ts';
import type { Guesses } from './guesses.ts';
import { charged, type Stats } from './stats.ts';
import type { Attr, Room } from './types.ts';

/** Numbers of this age are good enough to refuse with, ms. */
const FRESH_MS = 1000;
/** Directories whose way up is refreshed with the quotas. */
const MAX_WALKED = 10_000;
/** Deeper trees are not looked at further up. */
const MAX_DEPTH = 4096;

/** Who is charged; either may be left out. */
export interface Owner {
  readonly uid?: number;
  readonly gid?: number;
}

/** What an operation needs. */
export interface Demand {
  /** Bytes, in steps of 4096. */
  readonly space: number;
  readonly inodes: number;
  /** Whether it is the volume that grows, not only a directory, user or group. @default true */
  readonly volume?: boolean;
  /** Where users and groups are counted: whose. */
  readonly owner?: Owner;
  /** Directories with a quota that it lies in, once per name. */
  readonly places?: readonly Account[];
}

/** What is needed of the volume. */
interface Surroundings {
  readonly engine: MetaEngine;
  readonly guesses: Guesses;
  readonly stats: Stats;
  readonly clock: Clock;
  /** Reads format, counters and quotas anew. */
  reload(): Promise<unknown>;
}

const NOWHERE: readonly Account[] = [];

function nameOf({ quota }: Account): string {
  return quota.kind === 'directory' ? `the directory with inode ${quota.id}` : `${quota.kind} ${quota.id}`;
}

function overQuota(account: Account): FsError {
  const { space, inodes } = account.limits;
  const limits = [...(space > 0 ? [`${space} bytes`] : []), ...(inodes > 0 ? [`${inodes} inodes`] : [])];
  return new FsError('EDQUOT', `the quota of ${nameOf(account)} is ${limits.join(' and ')}`);
}

/** An account that is there several times (a file with several names) is asked for all of it at once. */
function times(accounts: readonly Account[], account: Account): number {
  let count = 0;
  for (const each of accounts) if (each === account) count++;
  return count;
}

export class Limits {
  readonly accounts: Accounts;
  readonly #volume: Surroundings;
  readonly #walked = new Set<Ino>();
  #loaded = -Infinity;
  #reloading: Promise<void> | undefined;

  constructor(volume: Surroundings) {
    this.#volume = volume;
    this.accounts = new Accounts(volume.engine);
  }

  /** Reads the quotas, and where the directories now lie that were on the way to one. */
  async load(): Promise<void> {
    const inos = [...this.#walked];
    this.#walked.clear();
    await this.accounts.load();
    this.#loaded = this.#volume.clock.monotonic();
    if (inos.length === 0 || !this.accounts.directories) return;
    for (const [at, attr] of (await this.#volume.engine.nodes(inos)).entries())
      this.#volume.guesses.setNode(inos[at] as Ino, attr);
  }

  /** The quotas that something in this directory counts for, nearest first; none in the trash. */
  above(directory: Ino): readonly Account[] | Promise<readonly Account[]> {
    if (!this.accounts.directories) return NOWHERE;
    return this.#walk(directory, []);
  }

  /** The quotas that the growth of a file counts for, one that several names lie in several times. */
  around(ino: Ino, attr: Attr): readonly Account[] | Promise<readonly Account[]> {
    // A file that is only open any more lies in no directory, though its node still names the last one.
    if (!this.accounts.directories || attr.nlink === 0) return NOWHERE;
    return attr.parent === 0 ? this.#aroundAll(ino) : this.#walk(attr.parent, []);
  }

  async #aroundAll(ino: Ino): Promise<readonly Account[]> {
    const [parents] = await this.#volume.engine.read([{ kind: 'parents', ino }]);
    const found: Account[] = [];
    for (const [parent, names] of parents) {
      const accounts = await this.above(parent);
      for (let name = 0; name < names; name++) found.push(...accounts);
    }
    return found;
  }

  #walk(start: Ino, found: Account[]): readonly Account[] | Promise<readonly Account[]> {
    let directory = start;
    for (let depth = 0; depth < MAX_DEPTH && directory > 0; depth++) {
      const account = this.accounts.directory(directory);
      if (account) found.push(account);
      if (directory === ROOT_INO) return found;
      if (this.#walked.size < MAX_WALKED) this.#walked.add(directory);
      const attr = this.#volume.guesses.node(directory);
      if (!attr) return this.#walkUnknown(directory, found);
      directory = attr.parent;
    }
    // The trash has negative numbers: what is in it counts for no directory.
    return directory < 0 ? NOWHERE : found;
  }

  async #walkUnknown(directory: Ino, found: Account[]): Promise<readonly Account[]> {
    const [attr] = await this.#volume.engine.nodes([directory]);
    this.#volume.guesses.setNode(directory, attr);
    return attr ? this.#walk(attr.parent, found) : found;
  }

  #owners(owner: Owner | undefined): readonly Account[] {
    if (!owner || !this.accounts.owners) return NOWHERE;
    const { uid, gid } = owner;
    return [
      ...(uid === undefined ? [] : [this.accounts.owner('user', uid)]),
      ...(gid === undefined ? [] : [this.accounts.owner('group', gid)]),
    ];
  }

  /** In JuiceFS's order: user, group, volume, directories. */
  #refusal({ space, inodes, volume = true, owner, places = NOWHERE }: Demand): FsError | undefined {
    for (const account of this.#owners(owner)) if (exceeds(account, space, inodes)) return overQuota(account);
    const full = volume ? this.#volume.stats.refusal(space, inodes) : undefined;
    if (full) return full;
    for (const account of places) {
      const count = places.length === 1 ? 1 : times(places, account);
      if (exceeds(account, space * count, inodes * count)) return overQuota(account);
    }
    return undefined;
  }

  /**
   * Nothing where there is room; else a promise that looks again with fresh numbers, and rejects with ENOSPC or EDQUOT where
   * there is still none.
   */
  require(demand: Demand): Promise<void> | undefined {
    if (demand.space <= 0 && demand.inodes <= 0) return undefined;
    const refusal = this.#refusal(demand);
    return refusal && this.#requireFresh(demand, refusal);
  }

  async #requireFresh(demand: Demand, refusal: FsError): Promise<void> {
    if (this.#volume.clock.monotonic() - this.#loaded < FRESH_MS) throw refusal;
    this.#reloading ??= this.#volume
      .reload()
      .then(
        () => {},
        // The database does not answer: what is known counts.
        () => {},
      )
      .finally(() => (this.#reloading = undefined));
    await this.#reloading;
    const still = this.#refusal(demand);
    if (still) throw still;
  }

  /** Takes note of what was committed. The volume's own counters are charged apart (stats.ts). */
  charge({ space, inodes, owner, places = NOWHERE }: Demand): void {
    if (space === 0 && inodes === 0) return;
    for (const account of this.charged(owner, places)) {
      account.space += space;
      account.inodes += inodes;
    }
  }

  /** Room for the data of a file that is written later. */
  room(ino: Ino): FileRoom {
    return new FileRoom(this, this.#volume, ino);
  }

  /** The accounts that a file of this owner at these places is charged to. */
  charged(owner: Owner | undefined, places: readonly Account[]): readonly Account[] {
    const owners = this.#owners(owner);
    return owners.length === 0 ? places : [...owners, ...places];
  }

  /** Adds to (or, negative, takes from) what is set aside. */
  reserve(space: number, accounts: readonly Account[]): void {
    this.#volume.stats.reserved += space;
    for (const account of accounts) account.reserved += space;
  }

  /** Whether anything could refuse a file to grow. */
  get limitsSpace(): boolean {
    return this.#volume.stats.capacity > 0 || this.accounts.owners || this.accounts.directories;
  }
}

/**
 * Room set aside for one file: what is written into it is accepted before it is committed, and what was accepted must find
 * room then, whatever others write meanwhile.
 */
class FileRoom implements Room {
  readonly #limits: Limits;
  readonly #volume: Pick<Surroundings, 'guesses' | 'engine'>;
  readonly #ino: Ino;
  /** What the file may be charged in all, and what of it is set aside now and with whom. */
  #granted = 0;
  #held = 0;
  #accounts: readonly Account[] = NOWHERE;

  constructor(limits: Limits, volume: Pick<Surroundings, 'guesses' | 'engine'>, ino: Ino) {
    this.#limits = limits;
    this.#volume = volume;
    this.#ino = ino;
  }

  /**
   * Sets aside what the file needs to become `length` bytes long, beyond the `committed` bytes it has in the database.
   * Undefined where that is done at once; the promise rejects with ENOSPC or EDQUOT, and nothing is set aside then.
   */
  extend(length: number, committed: number): Promise<void> | undefined {
    if (length <= this.#granted || length <= committed || !this.#limits.limitsSpace) return undefined;
    const attr = this.#volume.guesses.node(this.#ino);
    if (!attr) return this.#extendUnknown(length, committed);
    const places = this.#limits.around(this.#ino, attr);
    return places instanceof Promise
      ? places.then((found) => this.#extend(length, committed, attr, found))
      : this.#extend(length, committed, attr, places);
  }

  async #extendUnknown(length: number, committed: number): Promise<void> {
    const [attr] = await this.#volume.engine.nodes([this.#ino]);
    // A file that is gone fails when its data is committed.
    if (attr) await this.#extend(length, committed, attr, await this.#limits.around(this.#ino, attr));
  }

  #extend(length: number, committed: number, attr: Attr, places: readonly Account[]): Promise<void> | undefined {
    const wanted = charged(length);
    const space = wanted - Math.max(this.#granted, charged(committed));
    const grant = (): void => {
      const held = this.#held + space;
      this.end();
      this.#accounts = this.#limits.charged(attr, places);
      this.#held = held;
      this.#granted = wanted;
      this.#limits.reserve(held, this.#accounts);
    };
    const late = this.#limits.require({ space, inodes: 0, owner: attr, places });
    if (late) return late.then(grant);
    grant();
    return undefined;
  }

  /** So much of it was committed, and is charged now. */
  settle(space: number): void {
    const settled = Math.min(this.#held, Math.max(0, space));
    if (settled === 0) return;
    this.#held -= settled;
    this.#limits.reserve(-settled, this.#accounts);
  }

  /** Nothing waits any more: gives back what is left. */
  end(): void {
    this.settle(this.#held);
    this.#granted = 0;
  }
}
