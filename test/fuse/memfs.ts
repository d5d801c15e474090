/**
 * A small file system in memory for the tests of the FUSE layer: a tree of nodes, files up to what memory holds, handles
 * kept in a journal. It counts what the kernel was given and gave back, so that a test can look for leaks. Some names do
 * special things: reads of a file named `block*` wait until they are interrupted.
 *
 * With a folder for `store` the contents of regular files live in files there, by inode number, and the tree in a file of
 * its own, so that a second process can go on where a killed one stopped.
 */
import {
  closeSync,
  existsSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import type {
  FileSystem,
  FuseAttr,
  FuseEntry,
  FuseRequest,
  FuseSetAttr,
  HandleJournal,
  OpenHandle,
  Reply,
} from '../../src/fuse/types.ts';
import { FsError } from '../../src/lib/errors.ts';
import { type Ino, ino as asIno } from '../../src/lib/int64.ts';

const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;

interface Time {
  readonly sec: number;
  readonly nsec: number;
}

function wallTime(): Time {
  const now = Date.now();
  return { sec: Math.floor(now / 1000), nsec: (now % 1000) * 1_000_000 };
}

interface Node {
  readonly ino: Ino;
  mode: number;
  uid: number;
  gid: number;
  nlink: number;
  rdev: number;
  atime: Time;
  mtime: Time;
  ctime: Time;
  parent: Ino;
  readonly children?: Map<string, Ino>;
  data: Buffer;
  size: number;
  fd?: number;
  target?: Buffer;
  readonly xattrs: Map<string, Buffer>;
}

export interface MemfsOptions {
  /** Lifetimes the kernel gets, seconds. @default 1 */
  readonly timeout?: number;
  readonly journal?: HandleJournal;
  /** Folder for contents that outlive the process. */
  readonly store?: string;
  /** Answer only after the event loop turned. */
  readonly delayed?: boolean;
}

export class Memfs implements FileSystem {
  readonly nodes = new Map<Ino, Node>();
  /** References that the kernel holds, by inode. */
  readonly lookups = new Map<Ino, number>();
  readonly open_ = new Map<number, OpenHandle>();
  readonly #listings = new Map<number, readonly (readonly [string, Ino])[]>();
  readonly #options: MemfsOptions;
  #nextIno = 2;
  #nextHandle = 1;
  interrupted = 0;
  resent = 0;
  destroyed = false;

  constructor(options: MemfsOptions = {}) {
    this.#options = options;
    this.#make(asIno(1), S_IFDIR | 0o755, process.geteuid?.() ?? 0, process.getegid?.() ?? 0, asIno(1));
    this.#load();
    for (const open of options.journal?.entries() ?? []) {
      this.open_.set(open.handle, open);
      this.#nextHandle = Math.max(this.#nextHandle, open.handle + 1);
    }
  }

  #tree(): string {
    return join(this.#options.store ?? '', 'tree.json');
  }

  #load(): void {
    const { store } = this.#options;
    if (!store || !existsSync(this.#tree())) return;
    type Saved = { ino: number; mode: number; nlink: number; parent: number; names: [string, number][] };
    for (const saved of JSON.parse(readFileSync(this.#tree(), 'utf8')) as Saved[]) {
      const node = this.#make(asIno(saved.ino), saved.mode, 0, 0, asIno(saved.parent));
      node.nlink = saved.nlink;
      for (const [name, child] of saved.names) node.children?.set(name, asIno(child));
      if (node.fd !== undefined) node.size = readFileSync(join(store, String(saved.ino))).length;
      this.#nextIno = Math.max(this.#nextIno, saved.ino + 1);
    }
  }

  #save(): void {
    if (!this.#options.store) return;
    const saved = [...this.nodes.values()].map((node) => ({
      ino: node.ino,
      mode: node.mode,
      nlink: node.nlink,
      parent: node.parent,
      names: [...(node.children ?? [])],
    }));
    writeFileSync(`${this.#tree()}.new`, JSON.stringify(saved));
    renameSync(`${this.#tree()}.new`, this.#tree());
  }

  #make(ino: Ino, mode: number, uid: number, gid: number, parent: Ino, rdev = 0): Node {
    const now = wallTime();
    const directory = (mode & S_IFMT) === S_IFDIR;
    const node: Node = {
      ino,
      mode,
      uid,
      gid,
      nlink: directory ? 2 : 1,
      rdev,
      atime: now,
      mtime: now,
      ctime: now,
      parent,
      data: Buffer.alloc(0),
      size: 0,
      xattrs: new Map(),
      ...(directory && { children: new Map<string, Ino>() }),
    };
    const { store } = this.#options;
    if (store && (mode & S_IFMT) === S_IFREG) {
      const path = join(store, String(ino));
      node.fd = openSync(path, existsSync(path) ? 'r+' : 'w+');
    }
    this.nodes.set(ino, node);
    return node;
  }

  #node(ino: Ino): Node {
    const node = this.nodes.get(ino);
    if (!node) throw new FsError('ESTALE', `node ${ino}`);
    return node;
  }

  #directory(ino: Ino): Map<string, Ino> {
    const { children } = this.#node(ino);
    if (!children) throw new FsError('ENOTDIR');
    return children;
  }

  #child(parent: Ino, name: Buffer): Node {
    const ino = this.#directory(parent).get(name.toString());
    if (ino === undefined) throw new FsError('ENOENT');
    return this.#node(ino);
  }

  #attr(node: Node): FuseAttr {
    return {
      ino: node.ino,
      size: node.size,
      blocks: Math.ceil(node.size / 512),
      atime: node.atime.sec,
      mtime: node.mtime.sec,
      ctime: node.ctime.sec,
      atimensec: node.atime.nsec,
      mtimensec: node.mtime.nsec,
      ctimensec: node.ctime.nsec,
      mode: node.mode,
      nlink: node.nlink,
      uid: node.uid,
      gid: node.gid,
      rdev: node.rdev,
      blksize: 4096,
    };
  }

  #entry(node: Node): FuseEntry {
    const timeout = this.#options.timeout ?? 1;
    return { attr: this.#attr(node), generation: 0, entryTimeout: timeout, attrTimeout: timeout };
  }

  #give(node: Node): FuseEntry {
    this.lookups.set(node.ino, (this.lookups.get(node.ino) ?? 0) + 1);
    return this.#entry(node);
  }

  #turn(): void | Promise<void> {
    return this.#options.delayed ? new Promise((resolve) => setImmediate(resolve)) : undefined;
  }

  /** Runs now, or after a turn of the event loop. */
  #do(action: () => void): void | Promise<void> {
    const turn = this.#turn();
    return turn ? turn.then(action) : action();
  }

  lookup(_request: FuseRequest, reply: Reply, parent: Ino, name: Buffer): void | Promise<void> {
    return this.#do(() => reply.entry(this.#give(this.#child(parent, name))));
  }

  forget(ino: Ino, count: number): void {
    const left = (this.lookups.get(ino) ?? 0) - count;
    if (left === 0) this.lookups.delete(ino);
    else this.lookups.set(ino, left);
  }

  getattr(_request: FuseRequest, reply: Reply, ino: Ino): void | Promise<void> {
    return this.#do(() => reply.attr(this.#attr(this.#node(ino)), this.#options.timeout ?? 1));
  }

  setattr(_request: FuseRequest, reply: Reply, ino: Ino, set: FuseSetAttr): void {
    const node = this.#node(ino);
    const now = wallTime();
    const time = (value: FuseSetAttr['atime'], old: Time): Time => (value === undefined ? old : value === 'now' ? now : value);
    if (set.mode !== undefined) node.mode = (node.mode & S_IFMT) | (set.mode & 0o7777);
    if (set.uid !== undefined) node.uid = set.uid;
    if (set.gid !== undefined) node.gid = set.gid;
    if (set.size !== undefined) this.#resize(node, set.size);
    if (set.killSuidGid) node.mode &= ~0o6000;
    node.atime = time(set.atime, node.atime);
    node.mtime = time(set.mtime, set.size === undefined ? node.mtime : now);
    node.ctime = now;
    reply.attr(this.#attr(node), this.#options.timeout ?? 1);
  }

  #resize(node: Node, size: number): void {
    if (node.fd !== undefined) ftruncateSync(node.fd, size);
    else {
      if (size > node.data.length) {
        const grown = Buffer.alloc(Math.max(size, node.data.length * 2));
        node.data.copy(grown, 0, 0, node.size);
        node.data = grown;
      }
      if (size < node.size) node.data.fill(0, size, node.size);
    }
    node.size = size;
  }

  readlink(_request: FuseRequest, reply: Reply, ino: Ino): void {
    reply.data(this.#node(ino).target ?? Buffer.alloc(0));
  }

  #add(request: FuseRequest, parent: Ino, name: Buffer, mode: number, rdev = 0): Node {
    const children = this.#directory(parent);
    if (name.length > 255) throw new FsError('ENAMETOOLONG');
    const existing = children.get(name.toString());
    // A request that is sent again may have been done already.
    if (existing !== undefined && request.resent) return this.#node(existing);
    if (existing !== undefined) throw new FsError('EEXIST');
    const node = this.#make(asIno(this.#nextIno++), mode, request.uid, request.gid, parent, rdev);
    children.set(name.toString(), node.ino);
    if (node.children) this.#node(parent).nlink++;
    this.#node(parent).mtime = wallTime();
    this.#save();
    return node;
  }

  symlink(request: FuseRequest, reply: Reply, parent: Ino, name: Buffer, target: Buffer): void {
    const node = this.#add(request, parent, name, S_IFLNK | 0o777);
    node.target = target;
    node.size = target.length;
    reply.entry(this.#give(node));
  }

  mknod(request: FuseRequest, reply: Reply, parent: Ino, name: Buffer, mode: number, rdev: number): void {
    reply.entry(this.#give(this.#add(request, parent, name, mode, rdev)));
  }

  mkdir(request: FuseRequest, reply: Reply, parent: Ino, name: Buffer, mode: number): void {
    reply.entry(this.#give(this.#add(request, parent, name, S_IFDIR | mode)));
  }

  unlink(_request: FuseRequest, reply: Reply, parent: Ino, name: Buffer): void {
    const node = this.#child(parent, name);
    if (node.children) throw new FsError('EISDIR');
    this.#directory(parent).delete(name.toString());
    node.nlink--;
    this.#save();
    reply.ok();
  }

  rmdir(_request: FuseRequest, reply: Reply, parent: Ino, name: Buffer): void {
    const node = this.#child(parent, name);
    if (!node.children) throw new FsError('ENOTDIR');
    if (node.children.size > 0) throw new FsError('ENOTEMPTY');
    this.#directory(parent).delete(name.toString());
    this.#node(parent).nlink--;
    this.#save();
    reply.ok();
  }

  rename(_request: FuseRequest, reply: Reply, parent: Ino, name: Buffer, newParent: Ino, newName: Buffer, flags: number): void {
    const node = this.#child(parent, name);
    const target = this.#directory(newParent).get(newName.toString());
    if ((flags & 1) !== 0 && target !== undefined) throw new FsError('EEXIST');
    if ((flags & ~1) !== 0) throw new FsError('EINVAL');
    if (target !== undefined) this.#node(target).nlink--;
    this.#directory(parent).delete(name.toString());
    this.#directory(newParent).set(newName.toString(), node.ino);
    node.parent = newParent;
    this.#save();
    reply.ok();
  }

  link(_request: FuseRequest, reply: Reply, ino: Ino, newParent: Ino, newName: Buffer): void {
    const children = this.#directory(newParent);
    if (children.has(newName.toString())) throw new FsError('EEXIST');
    const node = this.#node(ino);
    children.set(newName.toString(), ino);
    node.nlink++;
    this.#save();
    reply.entry(this.#give(node));
  }

  #openHandle(ino: Ino, flags: number): number {
    const open = { handle: this.#nextHandle++, ino, flags };
    this.open_.set(open.handle, open);
    this.#options.journal?.add(open);
    return open.handle;
  }

  #closeHandle(handle: number): void {
    this.open_.delete(handle);
    this.#listings.delete(handle);
    this.#options.journal?.remove(handle);
  }

  #checkHandle(handle: number): void {
    if (!this.open_.has(handle)) throw new FsError('EBADF', `handle ${handle}`);
  }

  open(_request: FuseRequest, reply: Reply, ino: Ino, flags: number): void {
    this.#node(ino);
    reply.opened({ handle: this.#openHandle(ino, flags) });
  }

  create(request: FuseRequest, reply: Reply, parent: Ino, name: Buffer, flags: number, mode: number): void {
    const node = this.#add(request, parent, name, S_IFREG | (mode & 0o7777));
    reply.created(this.#give(node), { handle: this.#openHandle(node.ino, flags) });
  }

  read(request: FuseRequest, reply: Reply, ino: Ino, handle: number, offset: number, size: number): void | Promise<void> {
    this.#checkHandle(handle);
    const node = this.#node(ino);
    const name = [...this.#directory(node.parent)].find(([, child]) => child === ino)?.[0] ?? '';
    if (name.startsWith('block')) {
      const { signal } = request;
      return new Promise((_resolve, reject) => {
        const give = (): void => {
          this.interrupted++;
          reject(signal.reason as Error);
        };
        if (signal.aborted) give();
        else signal.addEventListener('abort', give, { once: true });
      });
    }
    return this.#do(() => {
      const length = Math.max(0, Math.min(size, node.size - offset));
      if (node.fd === undefined) return reply.data(node.data.subarray(offset, offset + length));
      const data = Buffer.alloc(length);
      readSync(node.fd, data, 0, length, offset);
      reply.data(data);
    });
  }

  write(request: FuseRequest, reply: Reply, ino: Ino, handle: number, offset: number, data: Buffer): void | Promise<void> {
    this.#checkHandle(handle);
    if (request.resent) this.resent++;
    return this.#do(() => {
      const node = this.#node(ino);
      if (offset + data.length > node.size) this.#resize(node, offset + data.length);
      if (node.fd === undefined) data.copy(node.data, offset);
      else writeSync(node.fd, data, 0, data.length, offset);
      node.mtime = wallTime();
      reply.written(data.length);
    });
  }

  flush(_request: FuseRequest, reply: Reply, _ino: Ino, handle: number): void {
    this.#checkHandle(handle);
    reply.ok();
  }

  fsync(_request: FuseRequest, reply: Reply, ino: Ino, handle: number): void {
    this.#checkHandle(handle);
    const { fd } = this.#node(ino);
    if (fd !== undefined) fsyncSync(fd);
    reply.ok();
  }

  release(_request: FuseRequest, reply: Reply, _ino: Ino, handle: number): void {
    this.#closeHandle(handle);
    reply.ok();
  }

  opendir(_request: FuseRequest, reply: Reply, ino: Ino, flags: number): void {
    this.#directory(ino);
    reply.opened({ handle: this.#openHandle(ino, flags) });
  }

  readdir(_request: FuseRequest, reply: Reply, ino: Ino, handle: number, offset: number, _size: number, plus: boolean): void {
    this.#checkHandle(handle);
    let listing = this.#listings.get(handle);
    if (!listing || offset === 0) {
      listing = [['.', ino], ['..', this.#node(ino).parent], ...this.#directory(ino)];
      this.#listings.set(handle, listing);
    }
    for (let at = offset; at < listing.length; at++) {
      const [name, child] = listing[at] ?? ['', ino];
      const node = this.#node(child);
      const bytes = Buffer.from(name);
      const taken = plus ? reply.sink.addPlus(bytes, this.#entry(node), at + 1) : reply.sink.add(bytes, child, node.mode, at + 1);
      if (!taken) break;
      if (plus && at >= 2) this.#give(node);
    }
    reply.directory();
  }

  releasedir(_request: FuseRequest, reply: Reply, _ino: Ino, handle: number): void {
    this.#closeHandle(handle);
    reply.ok();
  }

  statfs(_request: FuseRequest, reply: Reply): void {
    reply.statfs({ blocks: 1 << 20, bfree: 1 << 19, bavail: 1 << 19, files: 1 << 20, ffree: 1 << 19, bsize: 4096, namelen: 255 });
  }

  getxattr(_request: FuseRequest, reply: Reply, ino: Ino, name: string, size: number): void {
    const value = this.#node(ino).xattrs.get(name);
    if (!value) throw new FsError('ENODATA');
    if (size === 0) reply.xattrSize(value.length);
    else reply.data(value);
  }

  setxattr(_request: FuseRequest, reply: Reply, ino: Ino, name: string, value: Buffer): void | Promise<void> {
    return this.#do(() => {
      this.#node(ino).xattrs.set(name, Buffer.from(value));
      reply.ok();
    });
  }

  listxattr(_request: FuseRequest, reply: Reply, ino: Ino, size: number): void {
    const names = Buffer.from([...this.#node(ino).xattrs.keys()].map((name) => `${name}\0`).join(''));
    if (size === 0) reply.xattrSize(names.length);
    else reply.data(names);
  }

  removexattr(_request: FuseRequest, reply: Reply, ino: Ino, name: string): void {
    if (!this.#node(ino).xattrs.delete(name)) throw new FsError('ENODATA');
    reply.ok();
  }

  destroy(): void {
    this.destroyed = true;
    for (const node of this.nodes.values()) if (node.fd !== undefined) closeSync(node.fd);
  }
}
