/**
 * Files that the kernel reads past this process (FUSE passthrough): those that lie whole in the cache directory (src/chunk/whole-folder.ts).
 *
 * The kernel's rules (fs/fuse/iomode.c): all opens of an inode that are not closed are either bound to one and the same local file or go
 * through its page cache, else open(2) fails with EIO. So the first open of an inode decides, and the others follow it; the first binds it where it
 * is for reading alone, the file lies here whole, and nothing of it waits to be committed.
 *
 * What this mount writes to an inode that is bound: the writer's handle is bound for mappings alone, so each WRITE comes here, and goes to the
 * local file, which has left the cache for that, and to the volume (live.ts). What is stored through a mapping is in the local file at
 * once, and is collected from there: on FLUSH and FSYNC of handles that may do that, every few seconds, and when nobody has the file mapped any more.
 * Truncations and the like are done to the local file before they are answered. So handles and mappings of this mount all see one
 * file. That a mapping outlives its handle is seen by leases (src/chunk/users.ts): as long as anybody has the local file mapped, the
 * inode stays with it.
 *
 * What others write: an open finds what was closed before it (close-to-open). If the inode is bound, the local file is brought up to date in
 * place before that open is answered; if it cannot be within `OPEN_WAIT_MS`, the new handle reads through this process, and what it maps
 * is up to date as soon as the local file is. Handles that are open see changes as soon as this process has looked, `followMs` later
 * at most, and the time that fetching what is new takes, unless there is no room for a file that has grown; as through the kernel's page
 * cache, a reader may meet a change half done. On a mount that is read-only a mapping that outlives its handle stays as it was then.
 *
 * Open handles, and what they are bound to, are in the journal of handles; a client that takes over goes on with them.
 *
 * Bounds: `MAX_BOUND` inodes bound, of which `MAX_HELD` with a descriptor or two; two brought up to date at a time, with a block of memory each.
 */
import { closeSync, openSync } from 'node:fs';
import type { ChunkStore } from '../chunk/types.ts';
import type { WholeFolder } from '../chunk/whole-folder.ts';
import type { Backing } from '../fuse/types.ts';
import type { Clock } from '../lib/clock.ts';
import { FsError, messageOf } from '../lib/errors.ts';
import type { Ino } from '../lib/int64.ts';
import type { Logger } from '../lib/log.ts';
import type { Family } from '../lib/metrics.ts';
import type { Attr, Meta } from '../meta/types.ts';
import { BoundFiles, type BoundInode, newBound, type Writers } from './bound.ts';
import { stateOf } from './content.ts';
import type { Handle } from './handles.ts';
import type { LiveFile } from './live.ts';
import { passthroughFamilies } from './passthrough-figures.ts';
import { attributesOf, SMALLEST, WholeMaker } from './whole.ts';

const O_ACCMODE = 3;
const O_RDWR = 2;
const O_DIRECT = 0o40000;
const MAX_BOUND = 10_000;
const MAX_HELD = 1000;
/** Files asked after at once. */
const BATCH = 256;
/** A file that was changed a moment ago will likely be changed again. */
const SETTLED_MS = 60_000;
/** How long an open waits for its file to be brought up to date. */
const OPEN_WAIT_MS = 5000;
/** How often it is looked whether the disk has room still. */
const TEND_MS = 10_000;

export interface PassthroughDependencies {
  readonly meta: Meta;
  readonly chunks: ChunkStore;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Absent: what an earlier client has bound is served, nothing new is bound. */
  readonly folder: WholeFolder | undefined;
  /** Where the kernel can be told; undefined as long as it cannot. */
  readonly backing: () => Backing | undefined;
  /** How often files that are bound are asked after, ms. */
  readonly followMs: number;
  readonly writers: Writers;
}

/** How a handle is opened that is bound to a local file. */
export interface Bound {
  readonly backing: number;
  /** Reads come here all the same. */
  readonly directIo: boolean;
}

export class Passthrough {
  readonly #with: PassthroughDependencies;
  readonly #bound = new Map<Ino, BoundInode>();
  /** With a folder. */
  readonly #maker: WholeMaker | undefined;
  readonly #local: BoundFiles;
  readonly #closing = new AbortController();
  readonly #settling = new Set<Promise<void>>();
  #following: Promise<void> | undefined;
  #cancelFollow: (() => void) | undefined;
  #cancelTend: (() => void) | undefined;
  #refused = false;
  readonly counters = { opens: 0 };

  /** `handles`: what an earlier client has left open. */
  constructor(dependencies: PassthroughDependencies, handles: Iterable<Handle>) {
    const { folder } = dependencies;
    this.#with = dependencies;
    if (folder) this.#maker = new WholeMaker({ ...dependencies, folder });
    this.#local = new BoundFiles(dependencies, this.#maker, this.#closing.signal);
    for (const handle of handles) {
      if (handle.kind !== 'file' || handle.backing === undefined) continue;
      const bound = this.#bound.get(handle.ino);
      if (bound) bound.handles++;
      else this.#adopt(newBound(handle.ino, handle.backing, 1));
    }
    for (const ino of folder?.mapped ?? []) if (!this.#bound.has(ino)) this.#adopt(newBound(ino, undefined, 0));
    if (this.#bound.size > 0) this.#follow();
    if (folder) this.#tend();
  }

  /** Goes on with what an earlier client has bound. */
  #adopt(bound: BoundInode): void {
    const { folder, logger } = this.#with;
    bound.state = folder?.get(bound.ino)?.key;
    this.#bound.set(bound.ino, bound);
    folder?.pin(bound.ino, true);
    if (!folder?.writable) return;
    try {
      this.#local.hold(bound);
    } catch (error) {
      logger.warn('a whole file that programs have open cannot be opened', { ino: bound.ino, error: messageOf(error) });
    }
  }

  /**
   * How an open is to be answered; undefined: as any other. `attr` is fresh, `others` the handles of the inode that are open now,
   * `again`: it was opened before and has not changed since. What is undefined at once, or has a value at once, has been decided:
   * there must be no wait between it and the count of the handle.
   */
  open(ino: Ino, flags: number, attr: Attr, others: number, again: boolean): Bound | Promise<Bound> | undefined {
    const bound = this.#bound.get(ino);
    const access = flags & O_ACCMODE;
    if (!bound || (bound.id === undefined && !this.#register(bound))) {
      if (bound) this.#end(bound);
      if (access !== 0 || (flags & O_DIRECT) !== 0 || attr.length < SMALLEST) return undefined;
      return this.#bind(ino, attr, others, again);
    }
    bound.handles++;
    this.counters.opens++;
    const { id: backing = 0 } = bound;
    // The local disk may want what direct reads of our files need not heed: whole sectors.
    if (access !== 0 || ((flags & O_DIRECT) !== 0 && bound.live)) return this.#prepare(bound, backing, access, attr);
    if ((flags & O_DIRECT) !== 0) return { backing, directIo: true };
    if (bound.state === stateOf(attr)) return { backing, directIo: false };
    return this.#current(bound, attr).then((current) => ({ backing, directIo: !current }));
  }

  /** Makes the local file ready for a handle that does not read it by the kernel alone. */
  async #prepare(bound: BoundInode, backing: number, access: number, attr: Attr): Promise<Bound> {
    try {
      if (access !== 0) await this.#local.forWriter(bound, access === O_RDWR);
      if (bound.state !== stateOf(attr)) await this.#current(bound, attr);
      return { backing, directIo: true };
    } catch (error) {
      this.released(bound.ino);
      throw new FsError('EIO', 'the local file that programs read cannot be changed', { cause: error });
    }
  }

  /** Whether opens of the inode have to be bound, too. */
  isBound(ino: Ino): boolean {
    return this.#bound.has(ino);
  }

  /** The local file of an inode that is bound, where it may be changed in place. */
  live(ino: Ino): LiveFile | undefined {
    return this.#bound.get(ino)?.live;
  }

  /** A write to the local file has failed: some of it may be there. */
  spoilt(ino: Ino): void {
    const bound = this.#bound.get(ino);
    if (bound) bound.state = bound.content = undefined;
  }

  /** Programs have written beyond the end of the local file. */
  grown(ino: Ino, length: number): void {
    this.#with.folder?.resized(ino, length);
  }

  /** A commit of this mount has given the file these attributes: its local file needs no looking after for that. */
  committed(ino: Ino, attr: Attr): void {
    const bound = this.#bound.get(ino);
    if (bound) bound.ours = stateOf(attr);
  }

  /** Writes to the volume what was stored through mappings of an inode; undefined where nothing can have been. Rejects where the volume does not take it. */
  collected(ino: Ino): Promise<void> | undefined {
    const bound = this.#bound.get(ino);
    return bound?.live?.watched ? this.#local.collect(bound) : undefined;
  }

  /** The volume's file was changed otherwise than by writing: brings the local one up to date; undefined where there is none. Rejects where that cannot be. */
  refreshed(ino: Ino): Promise<void> | undefined {
    const bound = this.#bound.get(ino);
    return bound && this.#refresh(bound);
  }

  async #refresh(bound: BoundInode): Promise<void> {
    const attr = await attributesOf(this.#with.meta, bound.ino);
    if (attr && !(await this.#local.update(bound, attr)))
      throw new FsError('EIO', 'the local file that programs read could not be brought up to date');
  }

  /** Whether the local file could be brought up to date in the time that an open may take. */
  async #current(bound: BoundInode, attr: Attr): Promise<boolean> {
    const waited = new AbortController();
    const late = this.#with.clock.sleep(OPEN_WAIT_MS, waited.signal).then(
      () => false,
      () => false,
    );
    const current = await Promise.race([this.#local.update(bound, attr), late]);
    waited.abort();
    return current;
  }

  /** A handle that was bound was closed. The kernel has let go of it before it says so. */
  released(ino: Ino): void {
    const bound = this.#bound.get(ino);
    if (!bound || --bound.handles > 0) return;
    const settling = this.#settle(bound)?.finally(() => this.#settling.delete(settling as Promise<void>));
    if (settling) this.#settling.add(settling);
  }

  /** Ends what no handle needs, and no mapping: at once where it can. */
  #settle(bound: BoundInode): Promise<void> | undefined {
    const { backing } = this.#with;
    if (bound.handles > 0 || this.#bound.get(bound.ino) !== bound) return undefined;
    if (bound.id !== undefined) backing()?.close(bound.id);
    bound.id = undefined;
    if (bound.busy) return bound.busy.then(() => this.#settle(bound));
    if (this.#local.isUsed(bound)) return void this.#follow();
    if (bound.live?.watched) return this.#collectLast(bound);
    this.#end(bound);
    return undefined;
  }

  #end(bound: BoundInode): void {
    this.#bound.delete(bound.ino);
    this.#local.close(bound);
    this.#with.folder?.pin(bound.ino, false);
  }

  /** Nothing can be stored any more. */
  async #collectLast(bound: BoundInode): Promise<void> {
    try {
      await this.#local.collect(bound);
      await this.#with.writers.commit(bound.ino);
    } catch (error) {
      if (this.#closing.signal.aborted) return;
      this.#with.logger.error('what was stored through a mapping could not be written to the volume', {
        ino: bound.ino,
        error: messageOf(error),
      });
      return this.#follow();
    }
    if (bound.handles > 0 || bound.busy) return this.#settle(bound);
    this.#end(bound);
  }

  /** Collects what was stored through mappings of any file. Failures are logged. */
  async collectAll(): Promise<void> {
    for (const bound of this.#bound.values()) {
      if (!bound.live?.watched) continue;
      await this.#local.collect(bound).catch((error: unknown) => {
        const { ino } = bound;
        this.#with.logger.error('what was stored through a mapping could not be written to the volume', {
          ino,
          error: messageOf(error),
        });
      });
    }
  }

  families(): readonly Family[] {
    const { folder } = this.#with;
    return passthroughFamilies({
      ...this.counters,
      ...this.#local.counters,
      files: this.#bound.size,
      whole: folder?.count ?? 0,
      wholeBytes: folder?.bytes ?? 0,
      made: folder?.counters.made ?? 0,
      evicted: folder?.counters.evicted ?? 0,
    });
  }

  /** Ends what runs; what is bound stays so, for the next client. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#cancelFollow?.();
    this.#cancelTend?.();
    await Promise.all([
      this.#maker?.close(),
      this.#following,
      ...this.#settling,
      ...[...this.#bound.values()].map(({ busy }) => busy),
    ]);
    for (const bound of this.#bound.values()) this.#local.close(bound);
    this.#with.folder?.close();
  }

  /** Binds the first handle of an inode, where its file lies here whole; else has it made, for later opens. */
  #bind(ino: Ino, attr: Attr, others: number, again: boolean): Bound | undefined {
    const { folder, clock } = this.#with;
    const backing = this.#with.backing();
    if (!folder || !backing || this.#refused || this.#bound.size >= (folder.writable ? MAX_HELD : MAX_BOUND)) return undefined;
    const state = stateOf(attr);
    const file = folder.find(ino, state);
    if (!file) {
      const settled = clock.now() - attr.mtime * 1000 > SETTLED_MS;
      if (folder.get(ino)?.key === state || (again && settled)) this.#maker?.want(ino);
      return undefined;
    }
    if (others > 0) return undefined;
    const bound: BoundInode = { ...newBound(ino, undefined, 1), state, content: this.#maker?.content(ino) };
    if (!this.#register(bound)) {
      this.#local.close(bound);
      // Somebody has emptied the cache directory, perhaps.
      void folder.drop(ino);
      return undefined;
    }
    this.#bound.set(ino, bound);
    folder.pin(ino, true);
    this.counters.opens++;
    this.#follow();
    return { backing: bound.id ?? 0, directIo: false };
  }

  /** Registers the local file of an inode with the kernel. */
  #register(bound: BoundInode): boolean {
    const { logger, folder } = this.#with;
    const backing = this.#with.backing();
    const path = folder?.get(bound.ino)?.path;
    if (!folder || !backing || path === undefined) return false;
    try {
      const fd = folder.writable ? this.#local.hold(bound) : (bound.fd ?? openSync(path, 'r'));
      try {
        bound.id = backing.open(fd);
      } finally {
        if (fd !== bound.fd) closeSync(fd);
      }
      return true;
    } catch (error) {
      // Without CAP_SYS_ADMIN, or on a file system that lies over another one: that stays so.
      const code = (error as NodeJS.ErrnoException).code ?? '';
      this.#refused = ['EPERM', 'ELOOP', 'EOPNOTSUPP', 'ENOTTY', 'EINVAL'].includes(code);
      logger.warn(
        this.#refused
          ? 'the kernel does not read files of the cache directory in our place; all reads come here'
          : 'a whole file in the cache cannot be used',
        { path, error: messageOf(error) },
      );
      return false;
    }
  }

  // Following changes

  #tend(): void {
    const { clock, folder, logger } = this.#with;
    this.#cancelTend = clock.timer(TEND_MS, () => {
      void folder
        ?.tend()
        .catch((error: unknown) => logger.debug('the cache of whole files could not be tended', { error: messageOf(error) }))
        .then(() => this.#closing.signal.aborted || this.#tend());
    });
  }

  /** Looks after a while at what is bound, and again as long as anything is. */
  #follow(): void {
    if (this.#cancelFollow || this.#following || this.#closing.signal.aborted) return;
    this.#cancelFollow = this.#with.clock.timer(this.#with.followMs, () => {
      this.#cancelFollow = undefined;
      this.#following = this.#look().finally(() => {
        this.#following = undefined;
        if (this.#bound.size > 0) this.#follow();
      });
    });
  }

  async #look(): Promise<void> {
    const { meta, logger } = this.#with;
    const all = [...this.#bound.values()];
    const updates: Promise<boolean>[] = [];
    try {
      for (let from = 0; from < all.length && !this.#closing.signal.aborted; from += BATCH) {
        const batch = all.slice(from, from + BATCH);
        const attributes = await meta.attributes(batch.map(({ ino }) => ino));
        for (const [index, bound] of batch.entries()) {
          // What was removed is read to the end by who has it open.
          const attr = attributes[index];
          const state = attr && stateOf(attr);
          if (attr && this.#bound.get(bound.ino) === bound && bound.state !== state && bound.ours !== state)
            updates.push(this.#local.update(bound, attr));
        }
      }
    } catch (error) {
      logger.debug('files that are open could not be asked after', { error: messageOf(error) });
    }
    await Promise.all(updates);
    for (const bound of all) await this.#lookThrough(bound);
  }

  /** Collects what was stored where it is time to, and ends what nobody needs any more. Never rejects. */
  async #lookThrough(bound: BoundInode): Promise<void> {
    const { clock, logger } = this.#with;
    if (this.#closing.signal.aborted || this.#bound.get(bound.ino) !== bound || bound.busy) return;
    try {
      if (bound.live?.watched && clock.monotonic() >= bound.collectAt && bound.live.writable) {
        await this.#local.collect(bound);
        if (bound.handles === 0) await this.#with.writers.commit(bound.ino);
      }
      await this.#settle(bound);
    } catch (error) {
      logger.warn('what was stored through a mapping could not be written to the volume', {
        ino: bound.ino,
        error: messageOf(error),
      });
    }
  }
}
