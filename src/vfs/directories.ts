/**
 * Open directories: listings in the order of their offsets, with what the kernel is told along (READDIRPLUS). The kernel takes
 * the attributes of a READDIRPLUS for those of the moment, and makes a name exist by it: so what was fetched for an earlier
 * request is told without them where this client has changed the directory or the node since, or where it is no longer fresh.
 */
import type { DirSink, FuseRequest, Reply } from '../fuse/types.ts';
import type { Clock } from '../lib/clock.ts';
import { FsError } from '../lib/errors.ts';
import { type Ino, ROOT_INO } from '../lib/int64.ts';
import { type Meta, SYSTEM } from '../meta/types.ts';
import { direntType } from './attributes.ts';
import { type Asked, DirectoryListing, dots, type ListedEntry } from './directory.ts';
import { directoryHandle, type Handles } from './handles.ts';
import { context, type Nodes, VIRTUAL_TIMEOUT } from './nodes.ts';

/** How old attributes may be that are told as fresh, milliseconds. */
const FRESH_MS = 1000;

export class DirectoryOperations {
  readonly #meta: Meta;
  readonly #nodes: Nodes;
  readonly #handles: Handles;
  readonly #clock: Clock;
  readonly #hideInternal: boolean;

  /** `hideInternal` leaves the virtual files out of listings. */
  constructor(meta: Meta, nodes: Nodes, handles: Handles, clock: Clock, hideInternal: boolean) {
    this.#meta = meta;
    this.#nodes = nodes;
    this.#handles = handles;
    this.#clock = clock;
    this.#hideInternal = hideInternal;
  }

  opendir(_request: FuseRequest, reply: Reply, ino: Ino): void {
    reply.opened({ handle: this.#handles.add(directoryHandle(ino)) });
  }

  readdir(
    request: FuseRequest,
    reply: Reply,
    ino: Ino,
    handle: number,
    offset: number,
    _size: number,
    plus: boolean,
  ): Promise<void> {
    const open = this.#handles.get(handle);
    if (open?.kind !== 'directory') throw new FsError('EBADF');
    const listed = open.turn.then(async () => {
      open.listing ??= new DirectoryListing(this.#meta, this.#nodes.inside(ino), await this.#firstEntries(ino), () => ({
        moment: this.#nodes.moment,
        time: this.#clock.monotonic(),
      }));
      let next = offset;
      for (;;) {
        const entries = await open.listing.from(context(request), next, plus);
        if (entries.length === 0 || !this.#fill(reply.sink, entries, plus, this.#nodes.inside(ino), open.listing.asked)) break;
        next += entries.length;
      }
      reply.directory();
    });
    open.turn = listed.catch(() => {});
    return listed;
  }

  releasedir(_request: FuseRequest, reply: Reply, _ino: Ino, handle: number): void {
    const open = this.#handles.remove(handle);
    if (open?.kind === 'directory') open.listing?.close();
    reply.ok();
  }

  fsyncdir(_request: FuseRequest, reply: Reply): void {
    // Names are committed when their calls are answered.
    reply.ok();
  }

  async #firstEntries(ino: Ino): Promise<ReturnType<typeof dots>> {
    const attr = ino === ROOT_INO ? undefined : await this.#meta.getattr(SYSTEM, this.#nodes.inside(ino));
    const first = dots(ino, attr ? this.#nodes.outside(attr.parent) : ROOT_INO);
    return ino === ROOT_INO && !this.#hideInternal ? [...first, ...this.#nodes.virtual.entries()] : first;
  }

  /** False where the kernel's buffer is full. */
  #fill(sink: DirSink, entries: readonly ListedEntry[], plus: boolean, directory: Ino, { moment, time }: Asked): boolean {
    const nodes = this.#nodes;
    const { changes } = nodes.files;
    const fresh = plus && !changes.since(directory, moment) && this.#clock.monotonic() - time <= FRESH_MS;
    for (const { name, ino, type, attr, offset } of entries) {
      const virtual = nodes.virtual.get(ino);
      const taken =
        fresh && attr && !changes.since(ino, moment)
          ? sink.addPlus(name, nodes.entry({ ino, attr }, moment, virtual ? VIRTUAL_TIMEOUT : undefined), offset)
          : sink.add(name, nodes.outside(ino), direntType(type), offset);
      if (!taken) return false;
    }
    return true;
  }
}
