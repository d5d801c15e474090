/**
 * Locks as the kernel asks for them. They are taken in the database, between all clients; the kernel itself keeps none.
 *
 * A lock is a promise about data as well: before one is released (or a file with one is closed), what was written is committed, and
 * after one was granted the file is as others left it, though it was open all the time.
 *
 * What closing releases: FLUSH tells of each close of a descriptor, by which a process gives up all its locks on bytes of the file;
 * RELEASE of the end of an open file, by which a flock ends, and locks on bytes that belong to the open file itself (F_OFD_SETLK).
 * Two cases need help. Descriptors that only read send no FLUSH as long as nobody holds locks in the file (it would cost every
 * `open, read, close` a round trip through the kernel): a lock taken through one of those ends with its RELEASE. And after a client
 * died its successor does not know which open file took a lock: with the last RELEASE of a file everything goes.
 */
import type { FuseLock, FuseRequest, Reply } from '../fuse/types.ts';
import type { Clock } from '../lib/clock.ts';
import { FsError } from '../lib/errors.ts';
import type { Ino } from '../lib/int64.ts';
import { type Context, LockType, type Meta, type RangeLock, SYSTEM } from '../meta/types.ts';
import type { Handles } from './handles.ts';
import { interruptible } from './interruptible.ts';
import { context, type Nodes } from './nodes.ts';

export class LockOperations {
  readonly #meta: Meta;
  readonly #handles: Handles;
  readonly #nodes: Nodes;
  readonly #clock: Clock;
  /** Who has locked bytes through which handle, by file. Only of files with locks: bounded by those. */
  readonly #owners = new Map<Ino, Map<number, Set<bigint>>>();

  constructor(meta: Meta, handles: Handles, nodes: Nodes, clock: Clock) {
    this.#meta = meta;
    this.#handles = handles;
    this.#nodes = nodes;
    this.#clock = clock;
  }

  async getlk(request: FuseRequest, reply: Reply, ino: Ino, handle: number, owner: bigint, lock: FuseLock): Promise<void> {
    const wanted = this.#check(ino, handle, lock);
    const found = await this.#meta.getlk(context(request), ino, owner, wanted);
    reply.lock(found ?? { type: LockType.None, start: 0n, end: 0n, pid: 0 });
  }

  async setlk(
    request: FuseRequest,
    reply: Reply,
    ino: Ino,
    handle: number,
    owner: bigint,
    lock: FuseLock,
    wait: boolean,
  ): Promise<void> {
    const wanted = this.#check(ino, handle, lock);
    await this.#commit(request, ino, wanted.type);
    await this.#meta.setlk(this.#context(request, wait), ino, owner, wanted, wait);
    if (wanted.type !== LockType.None) this.#note(ino, handle, owner);
    await this.#granted(reply, ino, wanted.type);
  }

  async flock(
    request: FuseRequest,
    reply: Reply,
    ino: Ino,
    handle: number,
    owner: bigint,
    type: number,
    wait: boolean,
  ): Promise<void> {
    const wanted = this.#check(ino, handle, { type, start: 0n, end: 0n, pid: 0 });
    await this.#commit(request, ino, wanted.type);
    await this.#meta.flock(this.#context(request, wait), ino, flockOwner(owner, handle), wanted.type, wait);
    await this.#granted(reply, ino, wanted.type);
  }

  /** True where locks on bytes of the file may be held here. */
  holds(ino: Ino): boolean {
    return this.#meta.holdsLocks(ino);
  }

  /**
   * A descriptor was closed by a process, which so gives up its locks on bytes of the file: when its data is committed, for then
   * whoever waits may read it. Rejects as `committed` does.
   */
  async closed(ino: Ino, owner: bigint, committed: Promise<void> | undefined): Promise<void> {
    try {
      await committed;
    } finally {
      await this.#closed(ino, owner);
    }
  }

  async #closed(ino: Ino, owner: bigint): Promise<void> {
    for (const [handle, owners] of this.#owners.get(ino) ?? []) if (owners.delete(owner)) this.#tidy(ino, handle, owners);
    await this.#meta.dropLocks({ of: 'posix', ino }, owner);
  }

  /**
   * An open file has ended, `last`: no other one of this file is left. `flock` is who held its flock, if it had one. Undefined where
   * there is nothing to unlock.
   */
  released(ino: Ino, handle: number, last: boolean, flock: bigint | undefined): Promise<unknown> | undefined {
    const owners = this.#owners.get(ino)?.get(handle);
    const work: (Promise<void> | undefined)[] = [];
    if (last) work.push(this.#meta.dropLocks({ of: 'flock', ino }), this.#meta.dropLocks({ of: 'posix', ino }));
    else {
      if (flock !== undefined) work.push(this.#meta.dropLocks({ of: 'flock', ino }, flockOwner(flock, handle)));
      for (const owner of owners ?? []) work.push(this.#meta.dropLocks({ of: 'posix', ino }, owner));
    }
    if (owners) {
      owners.clear();
      this.#tidy(ino, handle, owners);
    }
    const pending = work.filter((each) => each !== undefined);
    return pending.length === 0 ? undefined : Promise.all(pending);
  }

  #check(ino: Ino, handle: number, { type, start, end, pid }: FuseLock): RangeLock {
    if (this.#nodes.virtual.get(ino)) throw new FsError('EPERM');
    const open = this.#handles.get(handle);
    if (open?.kind !== 'file' || open.ino !== ino) throw new FsError('EBADF');
    if (type !== LockType.Read && type !== LockType.Write && type !== LockType.None)
      throw new FsError('EINVAL', `lock type ${type}`);
    return { type, start, end, pid };
  }

  /** What waits for a lock ends when the kernel says so, and is left to the next client when this one ends. */
  #context(request: FuseRequest, wait: boolean): Context {
    if (!wait) return context(request);
    request.park();
    return { ...context(request), signal: request.signal };
  }

  /** What was written under a lock is committed before the lock is released, or made weaker. */
  async #commit(request: FuseRequest, ino: Ino, type: LockType): Promise<void> {
    const writer = this.#nodes.files.get(ino)?.writer;
    if (type !== LockType.Write && writer?.dirty) await interruptible(writer.flush(), () => request.signal, this.#clock);
  }

  /** Answers, after the file was looked at anew where it was locked. */
  async #granted(reply: Reply, ino: Ino, type: LockType): Promise<void> {
    if (type === LockType.None) return reply.ok();
    const nodes = this.#nodes;
    const before = this.#meta.lastSeen(ino);
    const { moment } = nodes;
    const attr = await this.#meta.getattr(SYSTEM, ino);
    nodes.files.refresh(ino, attr, moment);
    reply.ok(!nodes.knows(ino, before, attr));
  }

  #note(ino: Ino, handle: number, owner: bigint): void {
    const handles = this.#owners.get(ino) ?? new Map<number, Set<bigint>>();
    this.#owners.set(ino, handles);
    handles.set(handle, (handles.get(handle) ?? new Set()).add(owner));
  }

  #tidy(ino: Ino, handle: number, owners: ReadonlySet<bigint>): void {
    if (owners.size > 0) return;
    const handles = this.#owners.get(ino);
    handles?.delete(handle);
    if (handles?.size === 0) this.#owners.delete(ino);
  }
}

/**
 * The owner of a flock is the open file. The kernel may give the number of one that was closed to another before it has told of the
 * close; with the handle's number, which is free only after that, there is no doubt.
 */
function flockOwner(owner: bigint, handle: number): bigint {
  return BigInt.asUintN(64, owner ^ BigInt(handle));
}
