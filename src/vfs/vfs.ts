/**
 * The file system of one volume as the kernel calls it: names and attributes from the metadata, bytes through writer and
 * reader, virtual files beside them. Invariants:
 * - close-to-open: OPEN takes its attributes from the database, FLUSH and FSYNC answer when the data is committed;
 * - the kernel checks permissions (default_permissions), nobody checks them again here;
 * - a handle can be used by a client that never opened it (handles.ts), so a session survives its client.
 */
import type { ChunkStore } from '../chunk/types.ts';
import type { DirSink, FileSystem, HandleJournal, FuseEntry, FuseRequest, FuseSetAttr, Reply } from '../fuse/types.ts';
import { type Clock, systemClock } from '../lib/clock.ts';
import { errno, FsError, toErrno } from '../lib/errors.ts';
import { type Ino, ROOT_INO } from '../lib/int64.ts';
import { type Logger, nullLogger } from '../lib/log.ts';
import { type Attr, type Context, type Entry, type Meta, NodeType, type SetAttr, SYSTEM, type XattrMode } from '../meta/types.ts';
import type { AccessLog } from './accesslog.ts';
import { direntType, toFuseAttr, typeOfMode } from './attributes.ts';
import { type BufferPool, createBufferPool } from './buffers.ts';
import { DirectoryListing, dots, type ListedEntry } from './directory.ts';
import { OpenFiles } from './files.ts';
import { FreshDirectories } from './fresh.ts';
import { directoryHandle, type FileHandle, fileHandle, Handles } from './handles.ts';
import { interruptible } from './interruptible.ts';
import { type Journal, JournalFull, readJournal } from './journal.ts';
import { readAhead, readFile, type ReaderDependencies } from './reader.ts';
import { VirtualFiles } from './virtual.ts';
import { type FileWriter, tellFailure } from './writer.ts';

const O_ACCMODE = 3;
const O_TRUNC = 0o1000;
const O_EXCL = 0o200;
/** Virtual files do not change names or attributes, seconds. */
const VIRTUAL_TIMEOUT = 3600;
const XATTR_CREATE = 1;
const XATTR_REPLACE = 2;
const MAX_XATTR = 65_536;

type Extended = Required<Pick<FileSystem, 'getxattr' | 'setxattr' | 'listxattr' | 'removexattr'>>;

export interface VfsOptions {
  readonly meta: Meta;
  readonly chunks: ChunkStore;
  readonly accessLog: AccessLog;
  /** Figures of `.stats`, names without prefix. */
  readonly stats: () => Readonly<Record<string, number>>;
  /** Content of `.config`; must hold no secret. */
  readonly config: () => unknown;
  /** Name of the volume, and whether its keys have a hash prefix. */
  readonly volume: string;
  readonly hashPrefix: boolean;
  /** The directory that is shown as the root. @default the volume's root */
  readonly root?: Ino;
  /** Lifetimes of attributes, names and directory names in the kernel, and of "no such name"; seconds. */
  readonly attrTimeout: number;
  readonly entryTimeout: number;
  readonly dirEntryTimeout: number;
  readonly negativeTimeout: number;
  /** Bytes that one handle may read ahead. */
  readonly maxReadahead: number;
  readonly readOnly?: boolean;
  /** @default false: GETXATTR and its like answer ENOSYS, and the kernel does not ask again */
  readonly xattr?: boolean;
  /** Leaves the virtual files out of listings (they can still be opened). @default false */
  readonly hideInternal?: boolean;
  /** Where open handles are noted for a client that takes over. */
  readonly handles?: HandleJournal;
  readonly journal?: Journal;
  readonly clock?: Clock;
  readonly logger?: Logger;
}

export class Vfs implements FileSystem {
  readonly #meta: Meta;
  readonly #chunks: ChunkStore;
  readonly #clock: Clock;
  readonly #options: VfsOptions;
  readonly #root: Ino;
  readonly #files: OpenFiles;
  readonly #handles: Handles;
  readonly #fresh: FreshDirectories;
  readonly #virtual: VirtualFiles;
  readonly #reader: ReaderDependencies;
  readonly #buffers: BufferPool = createBufferPool();
  readonly getxattr?: Extended['getxattr'];
  readonly setxattr?: Extended['setxattr'];
  readonly listxattr?: Extended['listxattr'];
  readonly removexattr?: Extended['removexattr'];

  constructor(options: VfsOptions) {
    this.#options = options;
    this.#meta = options.meta;
    this.#chunks = options.chunks;
    this.#clock = options.clock ?? systemClock;
    this.#root = options.root ?? ROOT_INO;
    this.#files = new OpenFiles({
      meta: options.meta,
      chunks: options.chunks,
      clock: this.#clock,
      journal: options.journal,
      logger: options.logger ?? nullLogger,
    });
    this.#handles = new Handles(options.handles);
    this.#fresh = new FreshDirectories(this.#clock, options.attrTimeout);
    this.#virtual = new VirtualFiles(options.accessLog, options.stats, options.config, options);
    this.#reader = { meta: options.meta, chunks: options.chunks, clock: this.#clock, maxReadahead: options.maxReadahead };
    if (options.xattr) {
      this.getxattr = this.#getxattr.bind(this);
      this.setxattr = this.#setxattr.bind(this);
      this.listxattr = this.#listxattr.bind(this);
      this.removexattr = this.#removexattr.bind(this);
    }
  }

  /**
   * Takes over what a dead client left: its open handles (the metadata counts them again) and the written data that it had
   * not committed, which is durable when this resolves.
   */
  async recover(journalFolder: string | undefined): Promise<{ readonly handles: number; readonly writes: number }> {
    let handles = 0;
    let writes = 0;
    for (const handle of this.#handles.all()) {
      if (handle.kind !== 'file') continue;
      handles++;
      // A file that is gone all the same answers its errors by itself, call by call.
      const attr = await this.#meta.open(SYSTEM, handle.ino, handle.flags & O_ACCMODE).catch(() => undefined);
      if (attr) this.#files.opened(handle.ino, attr);
    }
    if (journalFolder === undefined) return { handles, writes };
    const left = readJournal(journalFolder);
    const touched = new Set<FileWriter>();
    for (const { ino, offset, data, timeNs } of left.writes()) {
      const file = this.#files.get(ino) ?? this.#files.opened(ino, await this.#meta.open(SYSTEM, ino, 1));
      const writer = this.#files.writer(file);
      await (writer.room() ?? this.#chunks.throttle());
      writer.write(offset, data, timeNs);
      touched.add(writer);
      writes++;
    }
    for (const writer of touched) await writer.flush();
    left.forget();
    return { handles, writes };
  }

  /** Commits everything that was written. */
  flushAll(): Promise<void> {
    return this.#files.flushAll();
  }

  /** Ends after `flushAll`. */
  close(): void {
    this.#files.close();
  }

  get openHandles(): number {
    return this.#handles.count;
  }

  // Names and attributes

  async lookup(request: FuseRequest, reply: Reply, parent: Ino, name: Buffer): Promise<void> {
    const file = this.#virtual.named(name, parent === ROOT_INO);
    if (file) return reply.entry(this.#entry({ ino: file.ino, attr: this.#virtual.attr(file) }, VIRTUAL_TIMEOUT));
    let entry: Entry;
    try {
      entry = await this.#meta.lookup(context(request), this.#in(parent), name);
    } catch (error) {
      if (error instanceof FsError && error.errno === errno.ENOENT && this.#options.negativeTimeout > 0)
        return reply.negative(this.#options.negativeTimeout);
      throw error;
    }
    reply.entry(this.#entry(entry));
  }

  async getattr(_request: FuseRequest, reply: Reply, ino: Ino): Promise<void> {
    const file = this.#virtual.get(ino);
    if (file) return reply.attr(toFuseAttr(ino, this.#virtual.attr(file)), VIRTUAL_TIMEOUT);
    const node = this.#in(ino);
    const remaining = this.#fresh.remaining(node);
    const known = remaining > 0 ? this.#meta.lastSeen(node) : undefined;
    if (known?.type === NodeType.Directory) return reply.attr(toFuseAttr(ino, known), remaining);
    const attr = await this.#meta.getattr(SYSTEM, node);
    if (attr.type === NodeType.Directory) this.#fresh.fetched(node);
    this.#replyAttr(reply, ino, attr);
  }

  async setattr(request: FuseRequest, reply: Reply, ino: Ino, set: FuseSetAttr): Promise<void> {
    this.#writable(ino);
    const node = this.#in(ino);
    const ctx = context(request);
    const writer = this.#files.get(node)?.writer;
    // What is not committed yet would set length and times after this call.
    if (writer?.dirty && (set.size !== undefined || set.mtime !== undefined || set.atime !== undefined))
      await this.#flushed(request, writer);
    let attr: Attr | undefined;
    if (set.size !== undefined) {
      attr = await this.#meta.truncate(ctx, node, set.size);
      this.#files.refresh(node, attr);
    }
    const { mode, uid, gid, atime, mtime } = set;
    const changes: SetAttr = {
      ...(mode === undefined ? {} : { mode: mode & 0o7777 }),
      ...(uid === undefined ? {} : { uid }),
      ...(gid === undefined ? {} : { gid }),
      ...(atime === undefined ? {} : { atime }),
      ...(mtime === undefined ? {} : { mtime }),
    };
    if (Object.keys(changes).length > 0) attr = await this.#meta.setattr(ctx, node, changes);
    if (set.killSuidGid) attr = (await this.#dropPrivileges(node, attr)) ?? attr;
    this.#replyAttr(reply, ino, attr ?? (await this.#meta.getattr(SYSTEM, node)));
  }

  async readlink(request: FuseRequest, reply: Reply, ino: Ino): Promise<void> {
    reply.data(await this.#meta.readlink(context(request), this.#in(ino)));
  }

  async symlink(request: FuseRequest, reply: Reply, parent: Ino, name: Buffer, target: Buffer): Promise<void> {
    this.#newName(parent, name);
    reply.entry(this.#entry(await this.#meta.symlink(context(request), this.#in(parent), name, target)));
  }

  async mknod(
    request: FuseRequest,
    reply: Reply,
    parent: Ino,
    name: Buffer,
    mode: number,
    rdev: number,
    umask: number,
  ): Promise<void> {
    this.#newName(parent, name);
    const type = typeOfMode(mode);
    if (type === undefined || type === NodeType.Directory || type === NodeType.Symlink) throw new FsError('EINVAL');
    reply.entry(this.#entry(await this.#meta.mknod(context(request), this.#in(parent), name, type, mode & 0o7777, umask, rdev)));
  }

  async mkdir(request: FuseRequest, reply: Reply, parent: Ino, name: Buffer, mode: number, umask: number): Promise<void> {
    this.#newName(parent, name);
    reply.entry(this.#entry(await this.#meta.mkdir(context(request), this.#in(parent), name, mode & 0o7777, umask)));
  }

  async unlink(request: FuseRequest, reply: Reply, parent: Ino, name: Buffer): Promise<void> {
    this.#newName(parent, name);
    await this.#meta.unlink(context(request), this.#in(parent), name);
    reply.ok();
  }

  async rmdir(request: FuseRequest, reply: Reply, parent: Ino, name: Buffer): Promise<void> {
    this.#newName(parent, name);
    await this.#meta.rmdir(context(request), this.#in(parent), name);
    reply.ok();
  }

  async rename(
    request: FuseRequest,
    reply: Reply,
    parent: Ino,
    name: Buffer,
    newParent: Ino,
    newName: Buffer,
    flags: number,
  ): Promise<void> {
    this.#newName(parent, name);
    this.#newName(newParent, newName);
    await this.#meta.rename(context(request), this.#in(parent), name, this.#in(newParent), newName, flags);
    reply.ok();
  }

  async link(request: FuseRequest, reply: Reply, ino: Ino, newParent: Ino, newName: Buffer): Promise<void> {
    this.#newName(newParent, newName);
    this.#writable(ino);
    const attr = await this.#meta.link(context(request), ino, this.#in(newParent), newName);
    reply.entry(this.#entry({ ino, attr }));
  }

  // Files

  async open(request: FuseRequest, reply: Reply, ino: Ino, flags: number): Promise<void> {
    const virtual = this.#virtual.get(ino);
    if (virtual) {
      if ((flags & O_ACCMODE) !== 0 && (virtual.mode & 0o222) === 0) throw new FsError('EACCES');
      return reply.opened({ handle: this.#handles.add(virtual.open()), directIo: true, noFlush: true });
    }
    if (this.#options.readOnly && (flags & O_ACCMODE) !== 0) throw new FsError('EROFS');
    const attr = await this.#meta.open(context(request), ino, flags);
    const keepCache = this.#files.unchanged(ino, attr);
    const file = this.#files.opened(ino, attr);
    const handle = fileHandle(ino, flags);
    handle.failuresSeen = file.writer?.failures ?? 0;
    reply.opened({
      handle: this.#handles.add(handle),
      keepCache: keepCache || file.writer?.dirty === true,
      noFlush: (flags & O_ACCMODE) === 0,
    });
  }

  async create(
    request: FuseRequest,
    reply: Reply,
    parent: Ino,
    name: Buffer,
    flags: number,
    mode: number,
    umask: number,
  ): Promise<void> {
    this.#newName(parent, name);
    const ctx = context(request);
    let entry = await this.#meta.create(ctx, this.#in(parent), name, mode & 0o7777, umask, (flags & O_EXCL) !== 0);
    // The name may have appeared since the kernel looked: then this is an open, and truncating is left to us.
    if ((flags & O_TRUNC) !== 0 && entry.attr.length > 0)
      entry = { ino: entry.ino, attr: await this.#meta.truncate(ctx, entry.ino, 0) };
    this.#files.opened(entry.ino, entry.attr);
    reply.created(this.#entry(entry), { handle: this.#handles.add(fileHandle(entry.ino, flags)) });
  }

  read(request: FuseRequest, reply: Reply, ino: Ino, handle: number, offset: number, size: number): void | Promise<void> {
    const open = this.#handles.get(handle);
    if (open?.kind === 'virtual') return this.#readVirtual(request, reply, open.read(offset, size, request.signal));
    const file = this.#files.get(ino);
    if (open?.kind !== 'file' || !file) throw new FsError('EBADF');
    if (file.writer?.overlaps(offset, size))
      return this.#flushed(request, file.writer).then(() => this.#read(request, reply, open, offset, size));
    return this.#read(request, reply, open, offset, size);
  }

  write(
    request: FuseRequest,
    reply: Reply,
    ino: Ino,
    handle: number,
    offset: number,
    data: Buffer,
    killSuidGid: boolean,
  ): void | Promise<void> {
    const open = this.#handles.get(handle);
    if (open?.kind === 'virtual' && open.write) {
      open.write(data);
      return reply.written(data.length);
    }
    const file = this.#files.get(ino);
    if (open?.kind !== 'file' || !file) throw new FsError('EBADF');
    const writer = this.#files.writer(file);
    const wait = writer.room() ?? this.#chunks.throttle(undefined);
    if (wait) this.#files.relieve();
    if (wait || killSuidGid) return this.#writeSlowly(request, reply, open, writer, offset, data, killSuidGid, wait);
    return this.#write(request, reply, open, writer, offset, data);
  }

  flush(request: FuseRequest, reply: Reply, ino: Ino, handle: number): void | Promise<void> {
    return this.#commit(request, reply, ino, handle);
  }

  fsync(request: FuseRequest, reply: Reply, ino: Ino, handle: number): void | Promise<void> {
    return this.#commit(request, reply, ino, handle);
  }

  release(_request: FuseRequest, reply: Reply, ino: Ino, handle: number): void {
    const open = this.#handles.remove(handle);
    if (open?.kind === 'virtual') open.close();
    else if (open?.kind === 'file') this.#files.released(ino);
    reply.ok();
  }

  async fallocate(
    request: FuseRequest,
    reply: Reply,
    ino: Ino,
    _handle: number,
    offset: number,
    length: number,
    mode: number,
  ): Promise<void> {
    this.#writable(ino);
    const writer = this.#files.get(ino)?.writer;
    if (writer?.dirty) await this.#flushed(request, writer);
    const attr = await this.#meta.fallocate(context(request), ino, mode, offset, length);
    this.#files.refresh(ino, attr);
    reply.ok();
  }

  // Directories

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
      open.listing ??= new DirectoryListing(this.#meta, this.#in(ino), await this.#firstEntries(ino));
      let next = offset;
      for (;;) {
        const entries = await open.listing.from(context(request), next, plus);
        if (entries.length === 0 || !this.#fill(reply.sink, entries, plus)) break;
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

  async statfs(request: FuseRequest, reply: Reply, ino: Ino): Promise<void> {
    const bsize = 4096;
    const { totalBytes, availableBytes, usedInodes, availableInodes } = await this.#meta.statfs(
      context(request),
      ino < 0 ? this.#root : this.#in(ino),
    );
    const free = Math.floor(availableBytes / bsize);
    reply.statfs({
      blocks: Math.floor(totalBytes / bsize),
      bfree: free,
      bavail: free,
      files: usedInodes + availableInodes,
      ffree: availableInodes,
      bsize,
      namelen: 255,
    });
  }

  // Inside

  #in(ino: Ino): Ino {
    return ino === ROOT_INO ? this.#root : ino;
  }

  #entry({ ino, attr }: Entry, timeout?: number): FuseEntry {
    const known = ino === this.#root ? ROOT_INO : ino;
    this.#files.refresh(ino, attr);
    return {
      attr: toFuseAttr(known, attr, this.#files.get(ino)?.writer?.local),
      generation: 1,
      entryTimeout: timeout ?? (attr.type === NodeType.Directory ? this.#options.dirEntryTimeout : this.#options.entryTimeout),
      attrTimeout: timeout ?? this.#options.attrTimeout,
    };
  }

  #replyAttr(reply: Reply, ino: Ino, attr: Attr): void {
    this.#files.refresh(this.#in(ino), attr);
    reply.attr(toFuseAttr(ino, attr, this.#files.get(this.#in(ino))?.writer?.local), this.#options.attrTimeout);
  }

  #writable(ino: Ino): void {
    if (this.#options.readOnly) throw new FsError('EROFS', 'the volume is mounted read-only');
    if (this.#virtual.get(ino)) throw new FsError('EPERM');
  }

  /** Names of virtual files can neither be made nor removed. */
  #newName(parent: Ino, name: Buffer): void {
    if (this.#options.readOnly) throw new FsError('EROFS');
    if (this.#virtual.named(name, parent === ROOT_INO)) throw new FsError('EPERM');
  }

  async #readVirtual(_request: FuseRequest, reply: Reply, data: Buffer | Promise<Buffer>): Promise<void> {
    reply.data(await data);
  }

  async #read(request: FuseRequest, reply: Reply, handle: FileHandle, offset: number, size: number): Promise<void> {
    const file = this.#files.get(handle.ino);
    const length = file ? this.#files.length(file) : 0;
    const bytes = Math.min(size, length - offset);
    if (bytes <= 0) return reply.data(Buffer.alloc(0));
    readAhead(handle.ino, handle.position, offset, bytes, length, this.#reader);
    const buffer = this.#buffers.take(bytes);
    try {
      const target = buffer.length === bytes ? buffer : buffer.subarray(0, bytes);
      await readFile(handle.ino, offset, target, this.#reader, () => request.signal);
      reply.data(target);
    } catch (error) {
      // Of a read that was given up, something may still be on its way into the buffer: that one is not used again.
      if (toErrno(error) !== errno.EINTR) this.#buffers.give(buffer);
      throw error;
    }
    this.#buffers.give(buffer);
  }

  /** Commits a file's data for somebody who waits, and who may be ended meanwhile. */
  #flushed(request: FuseRequest, writer: FileWriter): Promise<void> {
    return interruptible(writer.flush(), () => request.signal, this.#clock);
  }

  #write(
    request: FuseRequest,
    reply: Reply,
    handle: FileHandle,
    writer: FileWriter,
    offset: number,
    data: Buffer,
  ): void | Promise<void> {
    handle.failuresSeen = tellFailure(writer, handle.failuresSeen);
    const timeNs = this.#clock.nowNs();
    try {
      writer.write(offset, data, timeNs);
    } catch (error) {
      if (!(error instanceof JournalFull)) throw error;
      return this.#writeThrough(request, reply, handle, writer, offset, data, timeNs);
    }
    reply.written(data.length);
  }

  /**
   * A write that the journal has no room for. Committing everything empties the journal, so there is room again, or else the
   * disk is full of other things: then the write is answered when its own bytes are committed. Slow, but nothing that was
   * answered can be lost with the process, and nothing fails for a local disk.
   */
  async #writeThrough(
    request: FuseRequest,
    reply: Reply,
    handle: FileHandle,
    writer: FileWriter,
    offset: number,
    data: Buffer,
    timeNs: bigint,
  ): Promise<void> {
    await interruptible(this.#files.commitAll(), () => request.signal, this.#clock);
    try {
      writer.write(offset, data, timeNs);
    } catch (error) {
      if (!(error instanceof JournalFull)) throw error;
      writer.write(offset, data, timeNs, false);
      await this.#flushed(request, writer);
      handle.failuresSeen = tellFailure(writer, handle.failuresSeen);
    }
    reply.written(data.length);
  }

  async #writeSlowly(
    request: FuseRequest,
    reply: Reply,
    handle: FileHandle,
    writer: FileWriter,
    offset: number,
    data: Buffer,
    killSuidGid: boolean,
    wait: Promise<void> | undefined,
  ): Promise<void> {
    if (killSuidGid) await this.#dropPrivileges(handle.ino, undefined);
    const signal = (): AbortSignal => request.signal;
    if (wait) await interruptible(wait, signal, this.#clock);
    for (let room = writer.room(); room; room = writer.room()) await interruptible(room, signal, this.#clock);
    await this.#write(request, reply, handle, writer, offset, data);
  }

  /** Takes set-user-id, and set-group-id of an executable, from a file that somebody else changes. */
  async #dropPrivileges(ino: Ino, known: Attr | undefined): Promise<Attr | undefined> {
    const attr = known ?? (await this.#meta.getattr(SYSTEM, ino));
    const drop = (attr.mode & 0o4000) | (attr.mode & 0o10 ? attr.mode & 0o2000 : 0);
    return attr.type === NodeType.File && drop !== 0 ? this.#meta.setattr(SYSTEM, ino, { mode: attr.mode & ~drop }) : undefined;
  }

  /** FLUSH and FSYNC: at once where the file is clean. */
  #commit(request: FuseRequest, reply: Reply, ino: Ino, handle: number): void | Promise<void> {
    const open = this.#handles.get(handle);
    const writer = this.#files.get(ino)?.writer;
    if (open?.kind !== 'file' || !writer) return reply.ok();
    const answer = (): void => {
      open.failuresSeen = tellFailure(writer, open.failuresSeen);
      reply.ok();
    };
    return writer.dirty ? this.#flushed(request, writer).then(answer) : answer();
  }

  async #firstEntries(ino: Ino): Promise<ReturnType<typeof dots>> {
    const attr = ino === ROOT_INO ? undefined : await this.#meta.getattr(SYSTEM, this.#in(ino));
    const parent = attr && attr.parent !== this.#root ? attr.parent : ROOT_INO;
    const first = dots(ino, parent);
    return ino === ROOT_INO && !this.#options.hideInternal ? [...first, ...this.#virtual.entries()] : first;
  }

  /** False where the kernel's buffer is full. */
  #fill(sink: DirSink, entries: readonly ListedEntry[], plus: boolean): boolean {
    for (const { name, ino, type, attr, offset } of entries) {
      const virtual = this.#virtual.get(ino);
      const taken =
        plus && attr
          ? sink.addPlus(name, this.#entry({ ino, attr }, virtual ? VIRTUAL_TIMEOUT : undefined), offset)
          : sink.add(name, ino === this.#root ? ROOT_INO : ino, direntType(type), offset);
      if (!taken) return false;
    }
    return true;
  }

  // Extended attributes

  async #getxattr(request: FuseRequest, reply: Reply, ino: Ino, name: string, size: number): Promise<void> {
    if (this.#virtual.get(ino) || !storedXattr(name)) throw new FsError('ENODATA');
    answerXattr(reply, await this.#meta.getxattr(context(request), this.#in(ino), name), size);
  }

  async #listxattr(request: FuseRequest, reply: Reply, ino: Ino, size: number): Promise<void> {
    const names = this.#virtual.get(ino) ? [] : await this.#meta.listxattr(context(request), this.#in(ino));
    answerXattr(reply, Buffer.from(names.map((name) => `${name}\0`).join('')), size);
  }

  async #setxattr(request: FuseRequest, reply: Reply, ino: Ino, name: string, value: Buffer, flags: number): Promise<void> {
    this.#writable(ino);
    checkXattr(name);
    if (value.length > MAX_XATTR) throw new FsError('E2BIG');
    const mode: XattrMode = { create: (flags & XATTR_CREATE) !== 0, replace: (flags & XATTR_REPLACE) !== 0 };
    await this.#meta.setxattr(context(request), this.#in(ino), name, Buffer.from(value), mode);
    reply.ok();
  }

  async #removexattr(request: FuseRequest, reply: Reply, ino: Ino, name: string): Promise<void> {
    this.#writable(ino);
    checkXattr(name);
    await this.#meta.removexattr(context(request), this.#in(ino), name);
    reply.ok();
  }
}

function context(request: FuseRequest): Context {
  return { uid: request.uid, gid: request.gid, pid: request.pid };
}

/** ACLs and capabilities are not kept as plain attributes. */
function storedXattr(name: string): boolean {
  return !name.startsWith('system.') && name !== 'security.capability' && name !== 'security.selinux';
}

function checkXattr(name: string): void {
  if (!storedXattr(name)) throw new FsError('ENOTSUP');
  if (name.length === 0) throw new FsError('EINVAL');
  if (Buffer.byteLength(name) > 255) throw new FsError('ERANGE');
}

function answerXattr(reply: Reply, value: Buffer, size: number): void {
  if (size === 0) reply.xattrSize(value.length);
  else if (value.length > size) reply.error(errno.ERANGE);
  else reply.data(value);
}
