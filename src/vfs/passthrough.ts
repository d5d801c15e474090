/**
 * Files that the kernel reads past this process (FUSE passthrough): those that lie whole in the cache directory (src/chunk/whole-folder.ts).
 *
 * The kernel's rules (fs/fuse/iomode.c): all opens of an inode that are not closed are either bound to one and the same local file or go
 * through its page cache, else open(2) fails with EIO. So the first open of an inode decides, and the others follow it. A file is bound only
 * on mounts that are read-only: nobody writes to it here. (An open for writing of an inode that is bound could be given neither way: bound,
 * what is stored through a mapping would go to the local file alone.)
 *
 * What others write: an open finds what was closed before it (close-to-open). If the inode is bound, the local file is brought up to date in
 * place before that open is answered; if it cannot be within `OPEN_WAIT_MS`, the new handle reads through this process, and what it maps
 * is up to date as soon as the local file is. Handles that are open see changes as soon as this process has looked, `followMs` later
 * at most, and the time that fetching what is new takes, unless there is no room for a file that has grown; as through the kernel's page
 * cache, a reader may meet a change half done. A mapping that outlives its handle stays as it was then.
 *
 * Open handles, and what they are bound to, are in the journal of handles; a client that takes over goes on with them.
 *
 * Bounds: `MAX_BOUND` inodes bound; two brought up to date at a time, with a block of memory each.
 */
import { closeSync, openSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { Limiter } from '../chunk/limiter.ts';
import type { ChunkStore } from '../chunk/types.ts';
import type { WholeFile, WholeFolder } from '../chunk/whole-folder.ts';
import type { Backing } from '../fuse/types.ts';
import type { Clock } from '../lib/clock.ts';
import { messageOf } from '../lib/errors.ts';
import type { Ino } from '../lib/int64.ts';
import type { Logger } from '../lib/log.ts';
import { type Family, single } from '../lib/metrics.ts';
import { writeFully } from '../lib/write-fully.ts';
import type { Attr, Meta } from '../meta/types.ts';
import { changedRanges, copyRanges, type Range, stateOf } from './content.ts';
import type { Handle } from './handles.ts';
import { attributesOf, contentIn, SMALLEST, WholeMaker } from './whole.ts';

const O_ACCMODE = 3;
const O_DIRECT = 0o40000;
const MAX_BOUND = 10_000;
/** Files asked after at once. */
const BATCH = 256;
/** A file that was changed a moment ago will likely be changed again. */
const SETTLED_MS = 60_000;
/** Tries to copy a file that others change meanwhile. */
const TRIES = 5;
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
}

/** How a handle is opened that is bound to a local file. */
export interface Bound {
  readonly backing: number;
  /** Reads come here all the same. */
  readonly directIo: boolean;
}

/** An inode whose handles are bound. */
interface BoundInode {
  readonly ino: Ino;
  readonly id: number;
  handles: number;
  /** The state that the local file has; undefined where it is not known, or the file is not. */
  state: string | undefined;
  content: readonly Range[] | undefined;
  /** It is being brought up to date. */
  updating: Promise<void> | undefined;
  /** It was said that it cannot be. */
  warned: boolean;
}

export class Passthrough {
  readonly #with: PassthroughDependencies;
  readonly #bound = new Map<Ino, BoundInode>();
  /** With a folder. */
  readonly #maker: WholeMaker | undefined;
  readonly #updates = new Limiter(2);
  readonly #closing = new AbortController();
  #following: Promise<void> | undefined;
  #cancelFollow: (() => void) | undefined;
  #cancelTend: (() => void) | undefined;
  #refused = false;
  readonly counters = { opens: 0, updates: 0 };

  /** `handles`: what an earlier client has left open. */
  constructor(dependencies: PassthroughDependencies, handles: Iterable<Handle>) {
    this.#with = dependencies;
    for (const handle of handles) {
      if (handle.kind !== 'file' || handle.backing === undefined) continue;
      const { ino, backing: id } = handle;
      const bound = this.#bound.get(ino);
      if (bound) bound.handles++;
      else {
        const state = dependencies.folder?.get(ino)?.key;
        this.#bound.set(ino, { ino, id, handles: 1, state, content: undefined, updating: undefined, warned: false });
        dependencies.folder?.pin(ino, true);
      }
    }
    if (this.#bound.size > 0) this.#follow();
    const { folder } = dependencies;
    if (!folder) return;
    this.#maker = new WholeMaker({ ...dependencies, folder });
    this.#tend();
  }

  /**
   * How an open is to be answered; undefined: as any other. `attr` is fresh, `others` the handles of the inode that are open now,
   * `again`: it was opened before and has not changed since. What is undefined at once, or has a value at once, has been decided:
   * there must be no wait between it and the count of the handle.
   */
  open(ino: Ino, flags: number, attr: Attr, others: number, again: boolean): Bound | Promise<Bound> | undefined {
    const bound = this.#bound.get(ino);
    if (!bound) {
      if ((flags & (O_ACCMODE | O_DIRECT)) !== 0 || attr.length < SMALLEST) return undefined;
      return this.#bind(ino, attr, others, again);
    }
    bound.handles++;
    this.counters.opens++;
    // The local disk may want what direct reads of our files need not heed: whole sectors.
    if ((flags & O_DIRECT) !== 0) return { backing: bound.id, directIo: true };
    if (bound.state === stateOf(attr)) return { backing: bound.id, directIo: false };
    return this.#current(bound, attr).then((current) => ({ backing: bound.id, directIo: !current }));
  }

  /** Whether the local file could be brought up to date in the time that an open may take. */
  async #current(bound: BoundInode, attr: Attr): Promise<boolean> {
    const waited = new AbortController();
    const late = this.#with.clock.sleep(OPEN_WAIT_MS, waited.signal).then(
      () => false,
      () => false,
    );
    const current = await Promise.race([this.#update(bound, attr), late]);
    waited.abort();
    return current;
  }

  /** A handle that was bound was closed. The kernel has let go of it before it says so. */
  released(ino: Ino): void {
    const bound = this.#bound.get(ino);
    if (!bound || --bound.handles > 0) return;
    this.#bound.delete(ino);
    this.#with.folder?.pin(ino, false);
    this.#with.backing()?.close(bound.id);
  }

  families(): readonly Family[] {
    const { folder } = this.#with;
    return passthroughFamilies({
      ...this.counters,
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
    await Promise.all([this.#maker?.close(), this.#following, ...[...this.#bound.values()].map(({ updating }) => updating)]);
    this.#with.folder?.close();
  }

  /** Binds the first handle of an inode, where its file lies here whole; else has it made, for later opens. */
  #bind(ino: Ino, attr: Attr, others: number, again: boolean): Bound | undefined {
    const { folder, clock } = this.#with;
    const backing = this.#with.backing();
    if (!folder || !backing || this.#refused || this.#bound.size >= MAX_BOUND) return undefined;
    const state = stateOf(attr);
    const file = folder.find(ino, state);
    if (!file) {
      const settled = clock.now() - attr.mtime * 1000 > SETTLED_MS;
      if (folder.get(ino)?.key === state || (again && settled)) this.#maker?.want(ino);
      return undefined;
    }
    if (others > 0) return undefined;
    const id = this.#register(backing, file);
    if (id === undefined) {
      // Somebody has emptied the cache directory, perhaps.
      void folder.drop(ino);
      return undefined;
    }
    const content = this.#maker?.content(ino);
    this.#bound.set(ino, { ino, id, handles: 1, state, content, updating: undefined, warned: false });
    folder.pin(ino, true);
    this.counters.opens++;
    this.#follow();
    return { backing: id, directIo: false };
  }

  #register(backing: Backing, file: WholeFile): number | undefined {
    const { logger } = this.#with;
    try {
      const fd = openSync(file.path, 'r');
      try {
        return backing.open(fd);
      } finally {
        closeSync(fd);
      }
    } catch (error) {
      // Without CAP_SYS_ADMIN, or on a file system that lies over another one: that stays so.
      const code = (error as NodeJS.ErrnoException).code ?? '';
      this.#refused = ['EPERM', 'ELOOP', 'EOPNOTSUPP', 'ENOTTY', 'EINVAL'].includes(code);
      logger.warn(
        this.#refused
          ? 'the kernel does not read files of the cache directory in our place; all reads come here'
          : 'a whole file in the cache cannot be used',
        { path: file.path, error: messageOf(error) },
      );
      return undefined;
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
          if (attr && this.#bound.get(bound.ino) === bound && bound.state !== stateOf(attr))
            updates.push(this.#update(bound, attr));
        }
      }
    } catch (error) {
      logger.debug('files that are open could not be asked after', { error: messageOf(error) });
    }
    await Promise.all(updates);
  }

  /** Brings the local file up to date with these attributes, or newer ones. False where that could not be. Never rejects. */
  async #update(bound: BoundInode, attr: Attr): Promise<boolean> {
    const { folder, logger } = this.#with;
    const wanted = stateOf(attr);
    while (bound.updating) await bound.updating;
    if (bound.state === wanted) return true;
    if (!folder?.get(bound.ino)) return false;
    const update = async (): Promise<boolean> => {
      for (let attempt = 0, target: Attr | undefined = attr; attempt < TRIES && target; attempt++) {
        const content = await contentIn(this.#with.meta, bound.ino, target);
        if (content) {
          await this.#copy(folder, bound, target, content);
          return true;
        }
        target = await attributesOf(this.#with.meta, bound.ino);
      }
      return false;
    };
    let current = false;
    bound.updating = this.#updates
      .run(update)
      .then((done) => void (current = done))
      .catch((error: unknown) => {
        if (this.#closing.signal.aborted || bound.warned) return;
        bound.warned = true;
        logger.warn('a whole file could not be brought up to date; who opens it now reads through this process', {
          ino: bound.ino,
          error: messageOf(error),
        });
      });
    await bound.updating;
    bound.updating = undefined;
    return current;
  }

  async #copy(folder: WholeFolder, bound: BoundInode, attr: Attr, content: readonly Range[]): Promise<void> {
    const { ino } = bound;
    const changed = changedRanges(bound.content, content);
    const state = stateOf(attr);
    const file = folder.get(ino);
    if (this.#bound.get(ino) !== bound) return;
    if (changed.length === 0 && file?.key !== undefined && file.bytes === attr.length) {
      await folder.rekey(ino, state);
      this.#maker?.consists(ino, content);
    } else {
      this.#maker?.consists(ino, undefined);
      const path = await folder.change(ino, attr.length);
      bound.state = undefined;
      bound.content = undefined;
      const local = await open(path, 'r+');
      try {
        await local.truncate(attr.length);
        await copyRanges(this.#with.chunks, changed, (bytes, at) => writeFully(local, bytes, at), this.#closing.signal);
      } finally {
        await local.close();
      }
      this.counters.updates++;
    }
    bound.state = state;
    bound.content = content;
  }
}

export interface PassthroughFigures {
  readonly opens: number;
  readonly files: number;
  readonly updates: number;
  readonly whole: number;
  readonly wholeBytes: number;
  readonly made: number;
  readonly evicted: number;
}

/** Figures of what is read past this process: of files, for their bytes are not seen here. None is a name of JuiceFS. */
export function passthroughFamilies(now: PassthroughFigures): readonly Family[] {
  const figure = (type: 'counter' | 'gauge', name: string, help: string, value: number): Family =>
    single(type, name, `${help} (not a name of JuiceFS)`, () => value);
  return [
    figure('counter', 'passthrough_opens', 'Opened files that the kernel reads past the client', now.opens),
    figure('gauge', 'passthrough_files', 'Files that are open so', now.files),
    figure('counter', 'passthrough_updates', 'Whole files brought up to date under their readers', now.updates),
    figure('gauge', 'whole_files', 'Whole files in the cache directory', now.whole),
    figure('gauge', 'whole_files_bytes', 'Bytes of whole files in the cache directory', now.wholeBytes),
    figure('counter', 'whole_files_made', 'Whole files made', now.made),
    figure('counter', 'whole_files_evicts', 'Whole files dropped for room', now.evicted),
  ];
}
