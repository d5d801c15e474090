/**
 * The file system of one volume as the kernel calls it: names and attributes from the metadata (names.ts, directories.ts,
 * xattrs.ts), bytes through writer and reader, virtual files beside them. Open files are here. Invariants:
 * - close-to-open: OPEN takes its attributes from the database, and has the kernel ask for them where it holds others; FLUSH and
 *   FSYNC answer when the data is committed;
 * - the kernel checks permissions (default_permissions), nobody checks them again here;
 * - a handle can be used by a client that never opened it (handles.ts), so a session survives its client.
 */
import type { ChunkStore } from '../chunk/types.ts';
import type { FileSystem, FuseRequest, Reply } from '../fuse/types.ts';
import { type Clock, systemClock } from '../lib/clock.ts';
import { FsError } from '../lib/errors.ts';
import { type Ino, ROOT_INO } from '../lib/int64.ts';
import { type Logger, nullLogger } from '../lib/log.ts';
import type { Meta } from '../meta/types.ts';
import { createBufferPool } from './buffers.ts';
import { Control } from './control/channel.ts';
import { DirectoryOperations } from './directories.ts';
import { type OpenFile, OpenFiles } from './files.ts';
import { type FileHandle, fileHandle, Handles } from './handles.ts';
import { interruptible } from './interruptible.ts';
import { LockOperations } from './locks.ts';
import { dropPrivileges, NameOperations } from './names.ts';
import { FlagOperations } from './node-flags.ts';
import { context, Nodes } from './nodes.ts';
import { recover, type Recovered } from './recovery.ts';
import { RangeOperations } from './ranges.ts';
import { Passthrough } from './passthrough.ts';
import type { Pieces } from './pieces.ts';
import { readAhead, readFile, type ReaderDependencies } from './reader.ts';
import type { VfsOptions } from './options.ts';
import { VirtualFiles } from './virtual.ts';
import { type FileWriter, tellFailure } from './writer.ts';
import { XattrOperations } from './xattrs.ts';

const O_ACCMODE = 3;
const O_TRUNC = 0o1000;
const O_EXCL = 0o200;
/** Files that the kernel reads past this process are asked after so often at most, ms. */
const SHORTEST_FOLLOW_MS = 1000;

export class Vfs implements FileSystem {
  readonly #meta: Meta;
  readonly #chunks: ChunkStore;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #options: VfsOptions;
  readonly #files: OpenFiles;
  readonly #handles: Handles;
  readonly #virtual: VirtualFiles;
  readonly #control: Control;
  readonly #nodes: Nodes;
  readonly #locks: LockOperations | undefined;
  /** Files that the kernel reads past this process. */
  readonly passthrough: Passthrough | undefined;
  readonly #reader: ReaderDependencies;
  // Operations that live in files of their own
  readonly lookup: FileSystem['lookup'];
  readonly getattr: FileSystem['getattr'];
  readonly setattr: FileSystem['setattr'];
  readonly access: Required<FileSystem>['access'];
  readonly readlink: FileSystem['readlink'];
  readonly symlink: FileSystem['symlink'];
  readonly mknod: FileSystem['mknod'];
  readonly mkdir: FileSystem['mkdir'];
  readonly unlink: FileSystem['unlink'];
  readonly rmdir: FileSystem['rmdir'];
  readonly rename: FileSystem['rename'];
  readonly link: FileSystem['link'];
  readonly statfs: FileSystem['statfs'];
  readonly opendir: FileSystem['opendir'];
  readonly readdir: FileSystem['readdir'];
  readonly releasedir: FileSystem['releasedir'];
  readonly fsyncdir: Required<FileSystem>['fsyncdir'];
  readonly fallocate: Required<FileSystem>['fallocate'];
  readonly copyFileRange: Required<FileSystem>['copyFileRange'];
  readonly lseek: Required<FileSystem>['lseek'];
  // Without them the kernel keeps the locks of a mount by itself
  readonly getlk?: Required<FileSystem>['getlk'];
  readonly setlk?: Required<FileSystem>['setlk'];
  readonly flock?: Required<FileSystem>['flock'];
  readonly getxattr?: Required<FileSystem>['getxattr'];
  readonly setxattr?: Required<FileSystem>['setxattr'];
  readonly listxattr?: Required<FileSystem>['listxattr'];
  readonly removexattr?: Required<FileSystem>['removexattr'];
  readonly ioctl?: Required<FileSystem>['ioctl'];

  constructor(options: VfsOptions) {
    this.#options = options;
    this.#meta = options.meta;
    this.#chunks = options.chunks;
    this.#clock = options.clock ?? systemClock;
    this.#logger = options.logger ?? nullLogger;
    this.#files = new OpenFiles({
      meta: options.meta,
      chunks: options.chunks,
      clock: this.#clock,
      journal: options.journal,
      logger: this.#logger,
    });
    this.#handles = new Handles(options.handles);
    this.passthrough = this.#passing();
    const control = new Control({
      ...options,
      root: options.root ?? ROOT_INO,
      readOnly: options.readOnly ?? false,
      clock: this.#clock,
      logger: this.#logger,
      commitAll: () => this.#files.commitAll(),
      nameChanged: (parent, name) => {
        this.#files.changes.name(parent, name);
        options.forgetName?.(this.#nodes.outside(parent), name);
      },
    });
    this.#control = control;
    this.#virtual = new VirtualFiles(options.accessLog, options.stats, options.config, control);
    this.#reader = {
      meta: options.meta,
      chunks: options.chunks,
      clock: this.#clock,
      buffers: createBufferPool(),
      maxReadahead: options.maxReadahead,
    };
    const aclClock = options.acl ? this.#clock : undefined;
    this.#nodes = new Nodes(options, options.root ?? ROOT_INO, this.#files, this.#virtual, aclClock);
    const names = new NameOperations(options.meta, this.#nodes, this.#clock);
    this.lookup = names.lookup.bind(names);
    this.getattr = names.getattr.bind(names);
    this.setattr = names.setattr.bind(names);
    this.access = names.access.bind(names);
    this.readlink = names.readlink.bind(names);
    this.symlink = names.symlink.bind(names);
    this.mknod = names.mknod.bind(names);
    this.mkdir = names.mkdir.bind(names);
    this.unlink = names.unlink.bind(names);
    this.rmdir = names.rmdir.bind(names);
    this.rename = names.rename.bind(names);
    this.link = names.link.bind(names);
    this.statfs = names.statfs.bind(names);
    const directories = new DirectoryOperations(options.meta, this.#nodes, this.#handles, this.#clock, options);
    this.opendir = directories.opendir.bind(directories);
    this.readdir = directories.readdir.bind(directories);
    this.releasedir = directories.releasedir.bind(directories);
    this.fsyncdir = directories.fsyncdir.bind(directories);
    const ranges = new RangeOperations(options.meta, this.#nodes, this.#handles, this.#clock);
    this.fallocate = ranges.fallocate.bind(ranges);
    this.copyFileRange = ranges.copyFileRange.bind(ranges);
    this.lseek = ranges.lseek.bind(ranges);
    if (!options.readOnly) {
      const locks = new LockOperations(options.meta, this.#handles, this.#nodes, this.#clock);
      this.#locks = locks;
      this.getlk = locks.getlk.bind(locks);
      this.setlk = locks.setlk.bind(locks);
      this.flock = locks.flock.bind(locks);
    }
    if (options.ioctl) {
      const flags = new FlagOperations(options.meta, this.#nodes);
      this.ioctl = flags.ioctl.bind(flags);
    }
    if (options.xattr) {
      const xattrs = new XattrOperations(options.meta, this.#nodes, options);
      this.getxattr = xattrs.getxattr.bind(xattrs);
      this.setxattr = xattrs.setxattr.bind(xattrs);
      this.listxattr = xattrs.listxattr.bind(xattrs);
      this.removexattr = xattrs.removexattr.bind(xattrs);
    }
  }

  /** Also without whole files to come: an earlier client may have left some that are open. */
  #passing(): Passthrough | undefined {
    const { wholeFiles: folder, backing = () => undefined, attrTimeout, meta, chunks } = this.#options;
    const handles = [...this.#handles.all()];
    if (!folder && !handles.some((handle) => handle.kind === 'file' && handle.backing !== undefined)) return undefined;
    const followMs = Math.max(SHORTEST_FOLLOW_MS, attrTimeout * 1000);
    return new Passthrough({ meta, chunks, clock: this.#clock, logger: this.#logger, folder, backing, followMs }, handles);
  }

  /** See recovery.ts. */
  recover(journalFolder: string | undefined, pieces?: Pieces): Promise<Recovered> {
    const room = (writer: FileWriter): Promise<void> | undefined => this.#room(writer);
    return recover({ meta: this.#meta, files: this.#files, handles: this.#handles, room }, journalFolder, pieces);
  }

  readonly #relieve = (): void => this.#files.relieve();

  /** What a write has to wait for; undefined where nothing. */
  #room(writer: FileWriter): Promise<void> | undefined {
    const full = writer.room();
    if (!full) return this.#chunks.throttle(undefined, this.#relieve);
    this.#relieve();
    return full;
  }

  /** Commits everything that was written. */
  /** For a time without work: lets go of buffers that lie unused. */
  trim(): void {
    this.#reader.buffers.trim();
  }

  flushAll(): Promise<void> {
    return this.#files.flushAll();
  }

  /** Ends the commands that were given through `.control`; they may write. Before `flushAll`. */
  endCommands(): Promise<void> {
    return this.#control.close();
  }

  /** Ends after `flushAll`. */
  async close(): Promise<void> {
    this.#files.close();
    await this.passthrough?.close();
  }

  /** How often written data could not be stored so far. */
  get failures(): number {
    return this.#files.failures;
  }

  get openHandles(): number {
    return this.#handles.count;
  }

  // Files

  async open(request: FuseRequest, reply: Reply, ino: Ino, flags: number): Promise<void> {
    const virtual = this.#virtual.get(ino);
    if (virtual) {
      if ((flags & O_ACCMODE) !== 0 && (virtual.mode & 0o222) === 0) throw new FsError('EACCES');
      return reply.opened({ handle: this.#handles.add(virtual.open()), directIo: true, noFlush: true });
    }
    if (this.#options.readOnly && (flags & O_ACCMODE) !== 0) throw new FsError('EROFS');
    const { moment } = this.#nodes;
    const before = this.#meta.lastSeen(ino);
    const attr = await this.#meta.open(context(request), ino, flags);
    const keepCache = this.#files.unchanged(ino, attr);
    const file = this.#files.opened(ino, attr, moment);
    const opening = this.passthrough?.open(ino, flags, attr, file.handles - 1, keepCache);
    const bound = opening instanceof Promise ? await opening : opening;
    const handle = fileHandle(ino, flags, bound?.backing);
    handle.failuresSeen = file.writer?.failures ?? 0;
    reply.opened({
      handle: this.#handles.add(handle),
      ...(bound ?? { keepCache }),
      // Or it would take a file for as long as it was when it last asked.
      forgetAttributes: !keepCache && !this.#nodes.knows(ino, before, attr),
      // A reader that may have locked something is to tell when it closes: that unlocks it.
      noFlush: (flags & O_ACCMODE) === 0 && !this.#meta.holdsLocks(ino),
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
    this.#nodes.requireNewName(parent, name);
    const ctx = context(request);
    const node = this.#nodes.inside(parent);
    const { moment } = this.#nodes;
    const entry = await this.#meta.create(ctx, node, name, mode & 0o7777, this.#nodes.umask(umask), (flags & O_EXCL) !== 0);
    // The name may have appeared since the kernel looked: then this is an open, and truncating is left to us.
    const file = this.#files.opened(entry.ino, entry.attr, moment);
    this.#files.changes.name(node, name);
    try {
      if ((flags & O_TRUNC) !== 0 && this.#files.length(file) > 0) {
        await file.writer?.flush();
        this.#files.changed(entry.ino, await this.#meta.truncate(ctx, entry.ino, 0));
      }
    } catch (error) {
      this.#files.released(entry.ino);
      throw error;
    }
    const handle = fileHandle(entry.ino, flags);
    handle.failuresSeen = file.writer?.failures ?? 0;
    reply.created(this.#nodes.entry(entry, moment), { handle: this.#handles.add(handle) });
  }

  async tmpfile(request: FuseRequest, reply: Reply, parent: Ino, flags: number, mode: number, umask: number): Promise<void> {
    this.#nodes.requireWritable(parent);
    const { moment } = this.#nodes;
    const entry = await this.#meta.tmpfile(context(request), this.#nodes.inside(parent), mode & 0o7777, this.#nodes.umask(umask));
    this.#files.opened(entry.ino, entry.attr, moment);
    reply.created(this.#nodes.entry(entry, moment), { handle: this.#handles.add(fileHandle(entry.ino, flags)) });
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
      open.write(data, offset, request);
      return reply.written(data.length);
    }
    const file = this.#files.get(ino);
    if (open?.kind !== 'file' || !file) throw new FsError('EBADF');
    if (this.#options.readOnly) throw new FsError('EROFS');
    const writer = this.#files.writer(file);
    const wait = this.#room(writer) ?? writer.admit(offset + data.length, file.length);
    if (wait || killSuidGid) return this.#writeSlowly(request, reply, open, file, offset, data, killSuidGid, wait);
    return this.#write(request, reply, open, writer, offset, data);
  }

  flush(request: FuseRequest, reply: Reply, ino: Ino, handle: number, lockOwner: bigint): void | Promise<void> {
    const commit = (): void | Promise<void> => this.#commit(request, reply, ino, handle, false);
    if (!this.#locks?.holds(ino)) return commit();
    const writer = this.#files.get(ino)?.writer;
    return this.#locks.closed(ino, lockOwner, writer?.dirty ? this.#flushed(request, writer) : undefined).then(commit);
  }

  fsync(request: FuseRequest, reply: Reply, ino: Ino, handle: number): void | Promise<void> {
    return this.#commit(request, reply, ino, handle, true);
  }

  release(
    _request: FuseRequest,
    reply: Reply,
    ino: Ino,
    handle: number,
    _flags: number,
    lockOwner: bigint,
    flockUnlock: boolean,
  ): void | Promise<void> {
    const last = this.#files.get(ino)?.handles === 1;
    const unlocked = this.#locks?.released(ino, handle, last, flockUnlock ? lockOwner : undefined);
    // Only then the number may be given to another handle.
    if (unlocked) return unlocked.then(() => this.#release(reply, ino, handle));
    this.#release(reply, ino, handle);
  }

  #release(reply: Reply, ino: Ino, handle: number): void {
    const open = this.#handles.remove(handle, ino);
    if (open?.kind === 'virtual') open.close();
    else if (open?.kind === 'file') {
      if (open.backing !== undefined) this.passthrough?.released(ino);
      this.#files.released(ino);
    }
    reply.ok();
  }

  // Inside

  async #readVirtual(_request: FuseRequest, reply: Reply, data: Buffer | Promise<Buffer>): Promise<void> {
    reply.data(await data);
  }

  async #read(request: FuseRequest, reply: Reply, handle: FileHandle, offset: number, size: number): Promise<void> {
    const file = this.#files.get(handle.ino);
    const length = file ? this.#files.length(file) : 0;
    const bytes = Math.min(size, length - offset);
    if (bytes <= 0) return reply.data(Buffer.alloc(0));
    readAhead(handle.ino, handle.position, offset, bytes, length, this.#reader);
    await readFile(
      handle.ino,
      offset,
      bytes,
      this.#reader,
      () => request.signal,
      (data) => reply.data(data),
    );
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
    tellFailure(writer, handle);
    const timeNs = this.#clock.nowNs();
    if (!writer.write(offset, data, timeNs)) return this.#writeThrough(request, reply, handle, writer, data.length);
    reply.written(data.length);
  }

  /**
   * A write that the journal has no room for is answered when it is committed, with everything else, which makes room. Slow, but nothing
   * that was answered can be lost with the process, and nothing fails for a local disk.
   */
  async #writeThrough(request: FuseRequest, reply: Reply, handle: FileHandle, writer: FileWriter, length: number): Promise<void> {
    await interruptible(this.#files.commitAll(), () => request.signal, this.#clock);
    tellFailure(writer, handle);
    reply.written(length);
  }

  async #writeSlowly(
    request: FuseRequest,
    reply: Reply,
    handle: FileHandle,
    file: OpenFile,
    offset: number,
    data: Buffer,
    killSuidGid: boolean,
    wait: Promise<void> | undefined,
  ): Promise<void> {
    const writer = this.#files.writer(file);
    const signal = (): AbortSignal => request.signal;
    if (wait) await interruptible(wait, signal, this.#clock);
    if (killSuidGid) await dropPrivileges(this.#meta, handle.ino, undefined);
    for (let room = writer.room(); room; room = writer.room()) await interruptible(room, signal, this.#clock);
    const admitted = writer.admit(offset + data.length, file.length);
    if (admitted) await interruptible(admitted, signal, this.#clock);
    await this.#write(request, reply, handle, writer, offset, data);
  }

  /** FLUSH and FSYNC: at once where the file is clean. */
  #commit(request: FuseRequest, reply: Reply, ino: Ino, handle: number, told: boolean): void | Promise<void> {
    const open = this.#handles.get(handle);
    const writer = this.#files.get(ino)?.writer;
    if (open?.kind !== 'file' || !writer) return reply.ok();
    const answer = (): void => {
      tellFailure(writer, open, told);
      reply.ok();
    };
    return writer.dirty ? this.#flushed(request, writer).then(answer) : answer();
  }
}
