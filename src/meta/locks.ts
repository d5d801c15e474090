/**
 * Locks between all clients of a volume: of whole files (flock), and of ranges of bytes (fcntl). The database holds, for each
 * file, what every owner of every session has locked; a lock is taken by an optimistic change that rests on all of it.
 *
 * - Without contention a lock or unlock is one round trip: the first try rests on what is known, which is nothing where this
 *   session holds nothing. Only what was read makes a refusal.
 * - Operations on one file take turns in this client, so that they reach the database in the order in which they were asked for:
 *   the kernel gives the owner of a file that was closed to another one.
 * - A released lock is announced to who waits (lock-waits.ts).
 * - Locks belong to the session. A client that follows has its session, and goes on with its locks (`resume`). Where the session
 *   expired, others have taken the locks away: what is still free is taken again, and a lock that is not is lost, which the log
 *   says (`verify`).
 * - A lock whose session is not there any more is in nobody's way. (The official client leaves such behind: it does not note
 *   shared flocks, so nobody cleans them up with the session.)
 *
 * There is no detection of deadlocks between processes, as in JuiceFS.
 *
 * Source: the JuiceFS format, locks (pkg/meta/redis_lock.go, sql_lock.go).
 */
import type { Clock } from '../lib/clock.ts';
import { FsError, messageOf } from '../lib/errors.ts';
import type { Ino } from '../lib/int64.ts';
import type { Logger } from '../lib/log.ts';
import type { Random } from '../lib/random.ts';
import type { ChangeLog } from './changelog.ts';
import type { LockRecord, MetaEngine, Write } from './engine.ts';
import { decodeRanges, encodeRanges, lockInTheWay, withRange } from './lock-ranges.ts';
import { fileKey, LockWaits } from './lock-waits.ts';
import { type Context, type LockedFile, LockType, type RangeLock } from './types.ts';

const ATTEMPTS = 100;
const EAGER_ATTEMPTS = 5;
/** Sessions are asked for so often at most, for locks without one. */
const SESSIONS_MS = 5000;
const READ_BATCH = 100;
/** Pause before a lock that could not be released is tried again, ms. */
const RETRY_MS = 1000;

const LETTER_READ = Buffer.from('R');
const LETTER_WRITE = Buffer.from('W');
const END_OF_FILE = 2n ** 63n - 1n;
const NOTHING: readonly LockRecord[] = [];

type Me = Pick<LockRecord, 'sid' | 'owner'>;

/** What is to become of an owner's locks: `value` undefined is none; `released`: others may get something by it. */
interface Decision {
  readonly granted: boolean;
  readonly value: Buffer | undefined;
  readonly released: boolean;
  /** Whose locks are in the way. */
  readonly inTheWay: readonly LockRecord[];
}
/** How an owner's locks are to change, and the lock that was asked for, where that was one. */
interface Wanted {
  readonly decide: Decide;
  readonly lock?: RangeLock;
}
type Decide = (own: Buffer | undefined, others: readonly LockRecord[]) => Decision;

const isOf = (me: Me) => (lock: LockRecord) => lock.sid === me.sid && lock.owner === me.owner;
const refused = (own: Buffer | undefined, inTheWay: readonly LockRecord[]): Decision => ({
  granted: false,
  value: own,
  released: false,
  inTheWay,
});

/** flock(2). Before another type is taken the one that is held is given up, so that two that want it both cannot wait for ever. */
function flockTo(type: LockType): Decide {
  return (own, others) => {
    const done = { granted: true, inTheWay: NOTHING };
    if (type === LockType.None) return released(own, others);
    const letter = type === LockType.Read ? LETTER_READ : LETTER_WRITE;
    const inTheWay = type === LockType.Read ? others.filter(({ value }) => !value.equals(LETTER_READ)) : others;
    if (inTheWay.length === 0) return { ...done, value: letter, released: own?.equals(LETTER_WRITE) === true };
    if (own === undefined || own.equals(letter)) return refused(own, inTheWay);
    return { granted: false, value: undefined, released: true, inTheWay };
  };
}

/** fcntl(2). */
function rangeTo(lock: RangeLock): Decide {
  return (own, others) => {
    const found = lock.type === LockType.None ? undefined : lockInTheWay(others, lock);
    if (found) return refused(own, [found.record]);
    const ranges = withRange(own ? decodeRanges(own) : [], lock);
    return {
      granted: true,
      value: ranges.length > 0 ? encodeRanges(ranges) : undefined,
      released: own !== undefined && lock.type !== LockType.Write,
      inTheWay: NOTHING,
    };
  };
}

/** What is needed of the volume. */
interface Surroundings {
  readonly engine: MetaEngine;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly readOnly: boolean;
  readonly log: Pick<ChangeLog, 'on' | 'flock' | 'setlk'>;
  /** The session. */
  readonly sid: number;
}

export class Locks {
  readonly #volume: Surroundings;
  readonly #waits: LockWaits;
  /** By file, where this session holds something: all locks as last seen. What is ours of it is so; the rest is a guess. */
  readonly #known = new Map<string, { readonly file: LockedFile; readonly locks: readonly LockRecord[] }>();
  /** Files of which it is not known what this session holds in them: the database did not answer. */
  readonly #doubtful = new Set<string>();
  /** The last of the operations on a file. */
  readonly #turns = new Map<string, Promise<unknown>>();
  #sessionsRead = -Infinity;
  #closed = false;

  constructor(volume: Surroundings) {
    this.#volume = volume;
    this.#waits = new LockWaits(volume);
  }

  async flock(ctx: Context, ino: Ino, owner: bigint, type: LockType, wait: boolean): Promise<void> {
    await this.#set(ctx, { of: 'flock', ino }, owner, { decide: flockTo(type) }, wait);
  }

  async setlk(ctx: Context, ino: Ino, owner: bigint, lock: RangeLock, wait: boolean): Promise<void> {
    if (lock.start > lock.end) throw new FsError('EINVAL', `a lock from byte ${lock.start} to ${lock.end}`);
    await this.#set(ctx, { of: 'posix', ino }, owner, { decide: rangeTo(lock), lock }, wait);
  }

  async getlk(ctx: Context, ino: Ino, owner: bigint, lock: RangeLock): Promise<RangeLock | undefined> {
    if (lock.type === LockType.None) return undefined;
    const me = { sid: this.#volume.sid, owner };
    const file: LockedFile = { of: 'posix', ino };
    for (;;) {
      const [locks] = await this.#volume.engine.read([{ kind: 'locks', ...file }], ctx.signal);
      const mine = isOf(me);
      const found = lockInTheWay(
        locks.filter((each) => !mine(each)),
        lock,
      );
      if (!found) return undefined;
      if (await this.#turn(file, () => this.#removeForsaken(file, locks, [found.record]))) continue;
      return { ...found.lock, pid: found.record.sid === me.sid ? found.lock.pid : 0 };
    }
  }

  /** Nobody here locks anything: what most closes of most clients find. */
  get #idle(): boolean {
    return this.#known.size + this.#turns.size + this.#doubtful.size === 0;
  }

  /** True where this session holds, or may hold, locks on bytes of the file. */
  holds(ino: Ino): boolean {
    if (this.#idle) return false;
    const key = fileKey({ of: 'posix', ino });
    return this.#known.has(key) || this.#doubtful.has(key);
  }

  /**
   * Releases what one owner, or all of this session, hold in a file that they have closed; undefined where that is nothing.
   * Never rejects: where the database does not answer, it goes on in the background until it is done.
   */
  drop(file: LockedFile, owner?: bigint): Promise<void> | undefined {
    if (this.#idle) return undefined;
    const key = fileKey(file);
    if (!this.#known.has(key) && !this.#turns.has(key) && !this.#doubtful.has(key)) return undefined;
    return this.#turn(file, () => this.#drop(file, owner)).catch((error: unknown) => {
      const { clock, logger } = this.#volume;
      if (this.#closed) return;
      logger.warn('a lock is still to be released', { inode: file.ino, error: messageOf(error) });
      clock.timer(RETRY_MS, () => void this.drop(file, owner));
    });
  }

  async #drop(file: LockedFile, owner: bigint | undefined): Promise<void> {
    const { sid } = this.#volume;
    const locks = this.#doubtful.has(fileKey(file)) ? await this.#read(file) : this.#known.get(fileKey(file))?.locks;
    const mine = (locks ?? NOTHING).filter((lock) => lock.sid === sid && (owner === undefined || lock.owner === owner));
    for (const me of mine) await this.#change(file, me, { decide: released });
  }

  /** Reads all locks of a file, after which nothing is in doubt. */
  async #read(file: LockedFile, signal?: AbortSignal): Promise<readonly LockRecord[]> {
    const [locks] = await this.#volume.engine.read([{ kind: 'locks', ...file }], signal);
    this.#know(file, locks);
    return locks;
  }

  async #set(ctx: Context, file: LockedFile, owner: bigint, wanted: Wanted, wait: boolean): Promise<void> {
    if (this.#volume.readOnly) throw new FsError('EROFS');
    const me = { sid: this.#volume.sid, owner };
    const attempt = (): Promise<boolean> => this.#turn(file, () => this.#change(file, me, wanted, ctx.signal));
    if (await attempt()) return;
    if (!wait) throw new FsError('EAGAIN', 'somebody else holds the lock');
    await this.#waits.until(file, attempt, ctx.signal);
  }

  /** Does something when everything that was asked of the file before is done. */
  #turn<T>(file: LockedFile, work: () => Promise<T>): Promise<T> {
    const key = fileKey(file);
    const turn = (this.#turns.get(key) ?? Promise.resolve()).then(work);
    const settled = turn.then(
      () => {},
      () => {},
    );
    this.#turns.set(key, settled);
    void settled.then(() => {
      if (this.#turns.get(key) === settled) this.#turns.delete(key);
    });
    return turn;
  }

  #know(file: LockedFile, locks: readonly LockRecord[]): void {
    this.#doubtful.delete(fileKey(file));
    if (locks.some(({ sid }) => sid === this.#volume.sid)) this.#known.set(fileKey(file), { file, locks });
    else this.#known.delete(fileKey(file));
  }

  /** Changes what an owner holds, as it is decided. True where that was granted. */
  async #change(file: LockedFile, me: Me, { decide, lock }: Wanted, signal?: AbortSignal): Promise<boolean> {
    const { engine, clock, random } = this.#volume;
    const mine = isOf(me);
    const key = fileKey(file);
    let fresh = this.#doubtful.has(key);
    let locks = fresh ? await this.#read(file, signal) : (this.#known.get(key)?.locks ?? NOTHING);
    for (let count = 0; count < ATTEMPTS; count++) {
      if (count > EAGER_ATTEMPTS) await clock.sleep(random.float() * Math.min(count * count, 200), signal);
      const own = locks.find(mine)?.value;
      const others = locks.filter((lock) => !mine(lock));
      const decision = decide(own, others);
      if (!decision.granted && !fresh && decision.inTheWay.every(({ sid }) => sid !== me.sid)) {
        locks = await this.#read(file, signal);
        fresh = true;
        continue;
      }
      const same = own === decision.value || (own && decision.value?.equals(own)) === true;
      if (same) {
        if (!decision.granted && (await this.#removeForsaken(file, locks, decision.inTheWay))) fresh = false;
        else return decision.granted;
        continue;
      }
      const after = decision.value ? [...others, { ...me, value: decision.value }] : others;
      const writes: Write[] = [
        decision.value
          ? { kind: 'putLock', ...file, ...me, value: decision.value }
          : { kind: 'removeLock', ...file, ...me, last: others.every(({ sid }) => sid !== me.sid) },
      ];
      if (decision.released) writes.push({ kind: 'announceLocks', ...file });
      writes.push(...this.#entries(file, me.owner, decision.value, lock));
      // Where no answer comes, it may have been done all the same.
      this.#doubtful.add(key);
      const result = await engine.commit({ checks: [{ kind: 'locks', ...file, expect: locks }], writes }, signal);
      if (result.ok) {
        this.#know(file, after);
        if (decision.released) this.#waits.wake(file);
        return decision.granted;
      }
      locks = await this.#read(file, signal);
      fresh = true;
    }
    throw new FsError('EIO', `gave up a lock after ${ATTEMPTS} attempts, each of which met a change by others`, {
      retryable: true,
    });
  }

  /** What the change log says of a change: what was asked for, or what an owner holds now. */
  #entries({ of, ino }: LockedFile, owner: bigint, value: Buffer | undefined, lock: RangeLock | undefined): readonly Write[] {
    const { log } = this.#volume;
    if (!log.on) return [];
    if (of === 'flock')
      return log.flock(ino, owner, value ? (value.equals(LETTER_READ) ? LockType.Read : LockType.Write) : LockType.None);
    const locks = lock ? [lock] : value ? decodeRanges(value) : [{ type: LockType.None, start: 0n, end: END_OF_FILE, pid: 0 }];
    return locks.flatMap((each) => log.setlk(ino, owner, each));
  }

  /** Takes locks away whose sessions are no more, where they are in the way. True where there were such, or others were faster. */
  async #removeForsaken(file: LockedFile, locks: readonly LockRecord[], inTheWay: readonly LockRecord[]): Promise<boolean> {
    const { engine, clock, logger, sid: own } = this.#volume;
    const foreign = inTheWay.filter(({ sid }) => sid !== own && sid !== 0);
    if (foreign.length === 0 || clock.monotonic() - this.#sessionsRead < SESSIONS_MS) return false;
    this.#sessionsRead = clock.monotonic();
    // Read after the locks: a session is there before its locks are.
    const live = new Set((await engine.sessions()).map(({ sid }) => sid));
    const forsaken = foreign.filter(({ sid }) => !live.has(sid));
    if (forsaken.length === 0) return false;
    for (const { sid } of forsaken) logger.info('removing a lock whose session is over', { inode: file.ino, session: sid });
    const writes: Write[] = forsaken.map(({ sid, owner }) => ({ kind: 'removeLock', ...file, sid, owner, last: false }));
    await engine.commit({
      checks: [{ kind: 'locks', ...file, expect: locks }],
      writes: [...writes, { kind: 'announceLocks', ...file }],
    });
    return true;
  }

  /** Goes on with the locks of this session, which an earlier client took. */
  async resume(): Promise<void> {
    const { engine, sid } = this.#volume;
    const files = await engine.lockedFiles(sid);
    for (let from = 0; from < files.length; from += READ_BATCH) {
      const batch = files.slice(from, from + READ_BATCH);
      const found = await engine.read(batch.map((file) => ({ kind: 'locks', ...file }) as const));
      batch.forEach((file, at) => this.#know(file, found[at] ?? NOTHING));
    }
  }

  /** After this session was thought dead: takes again what others have taken away, and tells of what they have locked since. */
  async verify(): Promise<void> {
    const { sid, logger } = this.#volume;
    const before = Array.from(this.#known.values());
    for (const { file, locks } of before)
      await this.#turn(file, async () => {
        for (const lock of locks.filter((each) => each.sid === sid)) {
          this.#doubtful.add(fileKey(file));
          const kept = await this.#change(file, lock, { decide: again(file, lock.value) });
          if (kept) continue;
          logger.error('a lock is lost: the database was away for too long, and somebody else has the lock now', {
            inode: file.ino,
            kind: file.of,
          });
        }
      });
  }

  /** Leaves the locks to the session, and who waits to the client that follows. */
  close(): void {
    this.#closed = true;
    this.#waits.close();
  }
}

/** Nothing, however it was locked. */
const released: Decide = (own) => ({ granted: true, value: undefined, released: own !== undefined, inTheWay: NOTHING });

/** The locks of an owner as they were, where nobody has taken any of them. */
function again(file: LockedFile, value: Buffer): Decide {
  return (own, others) => {
    const inTheWay =
      file.of === 'flock'
        ? others.filter((other) => value.equals(LETTER_WRITE) || !other.value.equals(LETTER_READ))
        : decodeRanges(value).flatMap((lock) => lockInTheWay(others, lock)?.record ?? []);
    return inTheWay.length > 0 ? refused(own, inTheWay) : { granted: true, value, released: false, inTheWay };
  };
}
