/**
 * An inode that the kernel reads from a local file, and what is done to that file while it does: made ready for writers, brought up to date with
 * the volume, and what was stored through mappings collected. One of these at a time for each inode; two files are copied to at a time.
 */
import { closeSync, openSync } from 'node:fs';
import { Limiter } from '../chunk/limiter.ts';
import type { ChunkStore } from '../chunk/types.ts';
import { isUsed } from '../chunk/users.ts';
import type { WholeFolder } from '../chunk/whole-folder.ts';
import type { Clock } from '../lib/clock.ts';
import { messageOf } from '../lib/errors.ts';
import type { Ino } from '../lib/int64.ts';
import type { Logger } from '../lib/log.ts';
import type { Attr, Meta } from '../meta/types.ts';
import { changedRanges, copyRanges, type Range, stateOf } from './content.ts';
import { LiveFile } from './live.ts';
import { attributesOf, contentIn, type WholeMaker } from './whole.ts';

/** Tries to copy a file that others change meanwhile. */
const TRIES = 5;
/** How often a file that may be mapped for writing is looked through, ms, and by which multiple of the time that it takes. */
const COLLECT_MS = 5000;
const COLLECT_SHARE = 20;

/** What writes of this mount come by. */
export interface Writers {
  /** Commits what was written to a file, whoever has it open; answers how often that has failed so far. */
  commit(ino: Ino): Promise<number>;
  /** Writes to the volume, at `offset`, what `take` answers, in the turn of the event loop in which it is called. `end`: where that ends at most. */
  record(ino: Ino, offset: number, end: number, take: () => Buffer): Promise<void>;
}

/** An inode whose handles are bound. */
export interface BoundInode {
  readonly ino: Ino;
  /** Its number in the session; undefined while no handle is open. */
  id: number | undefined;
  handles: number;
  /** The local file, open for reading: from the beginning where programs may write, else while it is changed. */
  fd: number | undefined;
  /** Present as soon as it is, or may be, changed in place. */
  live: LiveFile | undefined;
  /** The state that the local file has; undefined where it is not known, or the file is not. */
  state: string | undefined;
  content: readonly Range[] | undefined;
  /** The state that a commit of ours has given the volume's file. */
  ours: string | undefined;
  /** Something is done to it. */
  busy: Promise<void> | undefined;
  /** Failures of its writer that the local file was mended after. */
  failures: number;
  /** When it is to be looked through for stores. */
  collectAt: number;
  /** It was said that it cannot be brought up to date. */
  warned: boolean;
}

export const newBound = (ino: Ino, id: number | undefined, handles: number): BoundInode => ({
  ino,
  id,
  handles,
  fd: undefined,
  live: undefined,
  state: undefined,
  content: undefined,
  ours: undefined,
  busy: undefined,
  failures: 0,
  collectAt: 0,
  warned: false,
});

export interface BoundDependencies {
  readonly meta: Meta;
  readonly chunks: ChunkStore;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly folder: WholeFolder | undefined;
  readonly writers: Writers;
}

export class BoundFiles {
  readonly #with: BoundDependencies;
  readonly #maker: WholeMaker | undefined;
  readonly #copies = new Limiter(2);
  readonly #closing: AbortSignal;
  readonly counters = { updates: 0, stores: 0 };

  constructor(dependencies: BoundDependencies, maker: WholeMaker | undefined, closing: AbortSignal) {
    this.#with = dependencies;
    this.#maker = maker;
    this.#closing = closing;
  }

  /** Opens the local file where it is to be kept open. */
  hold(bound: BoundInode): number {
    const file = this.#with.folder?.get(bound.ino);
    if (bound.fd === undefined) {
      if (!file) throw new Error('the whole file is not there any more');
      bound.fd = openSync(file.path, 'r');
    }
    if (file && file.key === undefined) bound.live ??= new LiveFile(bound.fd, this.#with.folder?.sumsPath(bound.ino) ?? '');
    return bound.fd;
  }

  /** Whether a program has it open, or mapped. */
  isUsed(bound: BoundInode): boolean {
    if (bound.fd === undefined || !this.#with.folder?.writable) return false;
    try {
      return bound.live?.used ?? isUsed(bound.fd);
    } catch (error) {
      this.#with.logger.debug('it cannot be told who has a whole file open', { ino: bound.ino, error: messageOf(error) });
      return false;
    }
  }

  /** Makes it one that may be changed in place; with `mapped` it may be mapped for writing then. */
  async forWriter(bound: BoundInode, mapped: boolean): Promise<void> {
    await this.#alone(bound, async () => {
      const live = await this.#changeable(bound);
      if (mapped) await live.watch();
    });
  }

  /** Brings the local file up to date with these attributes, or newer ones. False where that could not be. Never rejects. */
  async update(bound: BoundInode, wanted: Attr): Promise<boolean> {
    if (!this.#with.folder?.get(bound.ino)) return false;
    try {
      return await this.#alone(bound, async () => bound.state === stateOf(wanted) || this.#copies.run(() => this.#update(bound)));
    } catch (error) {
      if (this.#closing.aborted || bound.warned) return false;
      bound.warned = true;
      this.#with.logger.warn('a whole file could not be brought up to date; who opens it now reads through this process', {
        ino: bound.ino,
        error: messageOf(error),
      });
      return false;
    }
  }

  /** Writes to the volume what was stored through mappings. Rejects where the volume does not take it. */
  async collect(bound: BoundInode): Promise<void> {
    const { clock, writers } = this.#with;
    await this.#alone(bound, async () => {
      const begun = clock.monotonic();
      const record = (offset: number, end: number, take: () => Buffer): Promise<void> => {
        this.counters.stores++;
        return writers.record(bound.ino, offset, end, take);
      };
      await bound.live?.stores(record, this.#closing);
      const now = clock.monotonic();
      bound.collectAt = now + Math.max(COLLECT_MS, (now - begun) * COLLECT_SHARE);
    });
  }

  /** Lets go of the local file. Nothing may be done to it any more. */
  close(bound: BoundInode): void {
    bound.live?.close();
    bound.live = undefined;
    if (bound.fd !== undefined) closeSync(bound.fd);
    bound.fd = undefined;
  }

  async #alone<T>(bound: BoundInode, work: () => Promise<T>): Promise<T> {
    while (bound.busy) await bound.busy;
    const { promise, resolve } = Promise.withResolvers<void>();
    bound.busy = promise;
    try {
      return await work();
    } finally {
      bound.busy = undefined;
      resolve();
    }
  }

  async #changeable(bound: BoundInode): Promise<LiveFile> {
    if (bound.live) return bound.live;
    const { folder } = this.#with;
    const { ino } = bound;
    const fd = this.hold(bound);
    if (!folder) throw new Error('there is no folder of whole files');
    await folder.change(ino, folder.get(ino)?.bytes ?? 0);
    this.#maker?.consists(ino, undefined);
    return (bound.live ??= new LiveFile(fd, folder.sumsPath(ino)));
  }

  async #update(bound: BoundInode): Promise<boolean> {
    const { meta } = this.#with;
    // A file that is not live yet cannot be written to before this has ended.
    bound.live?.begin();
    try {
      const failures = await this.#with.writers.commit(bound.ino);
      // What was written here and could not be stored is not in the volume.
      if (failures > bound.failures) bound.state = bound.content = undefined;
      for (let attempt = 0; attempt < TRIES; attempt++) {
        const target = await attributesOf(meta, bound.ino);
        // What was removed is read to the end by who has it open.
        if (!target || stateOf(target) === bound.state) return true;
        const content = await contentIn(meta, bound.ino, target);
        if (!content) continue;
        await this.#copy(bound, target, content);
        bound.failures = failures;
        return true;
      }
      return false;
    } finally {
      bound.live?.end();
    }
  }

  async #copy(bound: BoundInode, attr: Attr, content: readonly Range[]): Promise<void> {
    const { folder, chunks } = this.#with;
    const { ino } = bound;
    if (!folder) return;
    const changed = changedRanges(bound.content, content);
    const state = stateOf(attr);
    const file = folder.get(ino);
    if (changed.length === 0 && file?.key !== undefined && file.bytes === attr.length) {
      await folder.rekey(ino, state);
      this.#maker?.consists(ino, content);
    } else if (changed.length > 0 || (bound.live?.length ?? file?.bytes) !== attr.length) {
      const live = await this.#changeable(bound);
      live.begin();
      // Where this mount writes, what has grown is there already: others have to make room for it.
      if (attr.length > live.length && !folder.writable) await folder.change(ino, attr.length);
      bound.state = undefined;
      bound.content = undefined;
      live.resize(attr.length);
      await copyRanges(
        chunks,
        changed,
        async (bytes, at) => {
          live.apply(bytes, at);
          // Requests are served between two blocks.
          await new Promise((done) => setImmediate(done));
        },
        this.#closing,
      );
      folder.resized(ino, live.length);
      this.counters.updates++;
    }
    bound.state = state;
    bound.content = content;
  }
}
