/**
 * The quotas of a volume as one client knows them: an account for each, with its limits, the usage that is recorded, and what
 * this client has charged since. Charges are written every three seconds; recorded usage and limits are read anew with
 * each heartbeat, as JuiceFS does, so that clients come to know of each other. What is not written yet when a client
 * dies is missing; `quota check --repair` mends that.
 *
 * Memory: one account per quota of the volume, and where users and groups are counted, one per user and group.
 * Source: the JuiceFS format, accounting and quotas.
 */
import type { Ino } from '../lib/int64.ts';
import type { MetaEngine, Write } from './engine.ts';
import { NO_LIMITS, type QuotaKey, type QuotaLimits, type QuotaRecord, type QuotaUsage } from './quota.ts';

const CHANGES_PER_COMMIT = 200;

/** One quota. The same object as long as the quota is there. */
export interface Account {
  readonly quota: QuotaKey;
  limits: QuotaLimits;
  /** As recorded. */
  used: QuotaUsage;
  /** Charged here and not written yet. */
  space: number;
  inodes: number;
  /** Bytes set aside for data that was accepted and not committed yet. */
  reserved: number;
}

/** True where the account has no room for so much more; only growth is ever refused. */
export function exceeds(account: Account, space: number, inodes: number): boolean {
  const { limits, used } = account;
  if (space > 0 && limits.space > 0 && used.space + account.space + account.reserved + space > limits.space) return true;
  return inodes > 0 && limits.inodes > 0 && used.inodes + account.inodes + inodes > limits.inodes;
}

export class Accounts {
  readonly #engine: MetaEngine;
  readonly #kinds: Readonly<Record<QuotaKey['kind'], Map<number, Account>>> = {
    directory: new Map(),
    user: new Map(),
    group: new Map(),
  };
  /** Reading and writing take turns: usage that is read must not miss what is being written. */
  #turn: Promise<void> = Promise.resolve();
  #directories = false;
  #owners = false;

  constructor(engine: MetaEngine) {
    this.#engine = engine;
  }

  /** Whether the volume counts for directories, and for users and groups. What is no longer counted is forgotten. */
  count(directories: boolean, owners: boolean): void {
    this.#directories = directories;
    this.#owners = owners;
    if (!directories) this.#kinds.directory.clear();
    if (owners) return;
    this.#kinds.user.clear();
    this.#kinds.group.clear();
  }

  /** Whether users and groups are counted. */
  get owners(): boolean {
    return this.#owners;
  }

  /** Whether any directory has a quota. */
  get directories(): boolean {
    return this.#kinds.directory.size > 0;
  }

  directory(ino: Ino): Account | undefined {
    return this.#kinds.directory.get(ino);
  }

  /** The account of a user or group; made where there is none yet. Only where they are counted. */
  owner(kind: 'user' | 'group', id: number): Account {
    let account = this.#kinds[kind].get(id);
    if (!account) {
      account = this.#open({ quota: { kind, id }, limits: NO_LIMITS, used: { space: 0, inodes: 0 } });
      this.#kinds[kind].set(id, account);
    }
    return account;
  }

  /** The quotas with what is used of them, charges that are not written yet included. */
  records(): QuotaRecord[] {
    return Object.values(this.#kinds).flatMap((accounts) =>
      Array.from(accounts.values(), ({ quota, limits, used, space, inodes }) => ({
        quota,
        limits,
        used: { space: Math.max(0, used.space + space), inodes: Math.max(0, used.inodes + inodes) },
      })),
    );
  }

  /** The directory is gone. */
  forget(ino: Ino): void {
    this.#kinds.directory.delete(ino);
  }

  #open({ quota, limits, used }: QuotaRecord): Account {
    return { quota, limits, used, space: 0, inodes: 0, reserved: 0 };
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => {});
    return done;
  }

  /** Reads limits and usage of all quotas. */
  load(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#directories) await this.#load('directory');
      if (!this.#owners) return;
      await this.#load('user');
      await this.#load('group');
    });
  }

  async #load(kind: QuotaKey['kind']): Promise<void> {
    const accounts = this.#kinds[kind];
    const seen = new Set<number>();
    for await (const batch of this.#engine.scanQuotas(kind)) {
      for (const record of batch) {
        const { id } = record.quota;
        seen.add(id);
        const account = accounts.get(id);
        if (account) {
          account.limits = record.limits;
          account.used = record.used;
        } else accounts.set(id, this.#open(record));
      }
    }
    for (const [id, account] of accounts) {
      if (seen.has(id)) continue;
      // Who still holds the account of a quota that was removed finds no limits in it.
      account.limits = NO_LIMITS;
      if (kind === 'directory') accounts.delete(id);
      else account.used = { space: 0, inodes: 0 };
    }
  }

  /** Writes what was charged. What fails is tried again with the next flush. */
  flush(): Promise<void> {
    return this.#inTurn(async () => {
      const changed: { readonly account: Account; readonly delta: QuotaUsage }[] = [];
      for (const accounts of Object.values(this.#kinds))
        for (const account of accounts.values())
          if (account.space !== 0 || account.inodes !== 0)
            changed.push({ account, delta: { space: account.space, inodes: account.inodes } });
      for (let from = 0; from < changed.length; from += CHANGES_PER_COMMIT) {
        const part = changed.slice(from, from + CHANGES_PER_COMMIT);
        const writes = part.map(({ account, delta }): Write => ({ kind: 'addQuotaUsage', quota: account.quota, delta }));
        await this.#engine.commit({ checks: [], writes });
        for (const { account, delta } of part) {
          account.space -= delta.space;
          account.inodes -= delta.inodes;
          account.used = { space: account.used.space + delta.space, inodes: account.used.inodes + delta.inodes };
        }
      }
    });
  }
}
