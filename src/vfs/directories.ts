/**
 * Open directories: listings in the order of their offsets, with what the kernel is told along (READDIRPLUS). By an entry with
 * attributes the kernel makes the name exist: so names that were fetched for an earlier request are told without where this
 * client has changed the directory since, or where they are no longer fresh.
 */
import type { DirSink, FuseRequest, Reply } from '../fuse/types.ts';
import type { Clock } from '../lib/clock.ts';
import { FsError } from '../lib/errors.ts';
import { type Ino, ROOT_INO } from '../lib/int64.ts';
import { isDots } from '../meta/names.ts';
import { type Attr, type DirEntry, type Meta, SYSTEM } from '../meta/types.ts';
import { direntType } from './attributes.ts';
import { DirectoryListing, dots } from './directory.ts';
import { directoryHandle, type Handles } from './handles.ts';
import { context, type Nodes } from './nodes.ts';
import type { VfsOptions } from './options.ts';

/** Bytes that an entry takes in the kernel's buffer at least: header and a name of up to 8 bytes, with attributes or without. */
const SMALLEST = 32;
const SMALLEST_PLUS = 160;

/** How old a name may be that is told with attributes, milliseconds. */
const FRESH_MS = 1000;

export class DirectoryOperations {
  readonly #meta: Meta;
  readonly #nodes: Nodes;
  readonly #handles: Handles;
  readonly #clock: Clock;
  readonly #options: Pick<VfsOptions, 'hideInternal' | 'readdirCache'>;

  constructor(
    meta: Meta,
    nodes: Nodes,
    handles: Handles,
    clock: Clock,
    options: Pick<VfsOptions, 'hideInternal' | 'readdirCache'>,
  ) {
    this.#meta = meta;
    this.#nodes = nodes;
    this.#handles = handles;
    this.#clock = clock;
    this.#options = options;
  }

  opendir(_request: FuseRequest, reply: Reply, ino: Ino): void {
    // The kernel takes a listing for good as long as the directory's times are those it was made under: only with both flags.
    const kept = this.#options.readdirCache ? { cacheDir: true, keepCache: true } : {};
    reply.opened({ handle: this.#handles.add(directoryHandle(ino)), ...kept });
  }

  readdir(
    request: FuseRequest,
    reply: Reply,
    ino: Ino,
    handle: number,
    offset: number,
    size: number,
    plus: boolean,
  ): Promise<void> {
    const open = this.#handles.get(handle);
    if (open?.kind !== 'directory') throw new FsError('EBADF');
    const listed = open.turn.then(async () => {
      open.listing ??= new DirectoryListing(
        this.#meta,
        this.#nodes.inside(ino),
        () => this.#firstEntries(ino),
        () => ({ moment: this.#nodes.moment, time: this.#clock.monotonic() }),
      );
      let next = offset;
      const limit = Math.max(1, Math.floor(size / (plus ? SMALLEST_PLUS : SMALLEST)));
      for (;;) {
        const entries = await open.listing.from(context(request), next, limit);
        const { asked } = open.listing;
        const { moment } = this.#nodes;
        const isFresh =
          plus &&
          !this.#nodes.files.changes.since(this.#nodes.inside(ino), asked.moment) &&
          this.#clock.monotonic() - asked.time <= FRESH_MS;
        if (entries.length === 0) break;
        const attributes = isFresh ? await this.#meta.attributes(inosOf(entries)) : undefined;
        if (!this.#fill(reply.sink, entries, next, attributes, moment)) break;
        next += entries.length;
      }
      reply.directory();
    });
    open.turn = listed.catch(() => {});
    return listed;
  }

  releasedir(_request: FuseRequest, reply: Reply, ino: Ino, handle: number): void {
    const open = this.#handles.remove(handle, ino);
    if (open?.kind === 'directory') open.listing?.close();
    reply.ok();
  }

  fsyncdir(_request: FuseRequest, reply: Reply): void {
    // Names are committed when their calls are answered.
    reply.ok();
  }

  /** Once the listing has begun, which has looked at the directory. */
  async #firstEntries(ino: Ino): Promise<ReturnType<typeof dots>> {
    const node = this.#nodes.inside(ino);
    const attr = ino === ROOT_INO ? undefined : (this.#meta.lastSeen(node) ?? (await this.#meta.getattr(SYSTEM, node)));
    const first = dots(ino, attr ? this.#nodes.outside(attr.parent) : ROOT_INO);
    return ino === ROOT_INO && !this.#options.hideInternal ? [...first, ...this.#nodes.virtual.entries()] : first;
  }

  /**
   * False where the kernel's buffer is full. `first` is the number of the first entry. `attributes`: those of `inosOf(entries)`, asked for
   * at `moment`, where they are to be told.
   */
  #fill(
    sink: DirSink,
    entries: readonly DirEntry[],
    first: number,
    attributes: readonly (Attr | undefined)[] | undefined,
    moment: number,
  ): boolean {
    const nodes = this.#nodes;
    const { changes } = nodes.files;
    let asked = 0;
    for (let index = 0; index < entries.length; index++) {
      const { name, ino, type, attr: known } = entries[index] as DirEntry;
      const offset = first + index + 1;
      const attr = attributes && (isWanted(entries[index] as DirEntry) ? attributes[asked++] : known);
      let taken: boolean;
      if (!attr || (changes.moment !== moment && changes.since(ino, moment)))
        taken = sink.add(name, nodes.outside(ino), direntType(type), offset);
      else {
        const virtual = ino < 0 ? nodes.virtual.get(ino) : undefined;
        taken = sink.addPlus(name, nodes.entry({ ino, attr }, moment, virtual && nodes.virtual.lifetime(virtual)), offset);
      }
      if (!taken) return false;
    }
    return true;
  }
}

/** True for an entry whose attributes the database has: not `.`, `..` and virtual files. */
function isWanted({ name, ino, attr }: DirEntry): boolean {
  return !attr && ino > 0 && !isDots(name);
}

function inosOf(entries: readonly DirEntry[]): readonly Ino[] {
  const inos: Ino[] = [];
  for (let at = 0; at < entries.length; at++) {
    const entry = entries[at] as DirEntry;
    if (isWanted(entry)) inos.push(entry.ino);
  }
  return inos;
}
