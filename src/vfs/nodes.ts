/**
 * What every operation needs to tell the kernel of a node, or to ask first: the directory that is shown as the root, entries and
 * attributes with their lifetimes (with what was written here and is not committed yet), and what must not be changed.
 */
import type { FuseEntry, FuseRequest, Reply } from '../fuse/types.ts';
import type { Clock } from '../lib/clock.ts';
import { FsError } from '../lib/errors.ts';
import { Generations } from '../lib/generations.ts';
import { type Ino, ROOT_INO } from '../lib/int64.ts';
import { type Attr, type Context, type Entry, NodeType } from '../meta/types.ts';
import { toFuseAttr } from './attributes.ts';
import type { OpenFiles } from './files.ts';
import type { VirtualFiles } from './virtual.ts';

/** Nodes of which it is remembered what the kernel was told: twice as many at most. A forgotten one is asked for once more. */
const TOLD_LIMIT = 8192;

export interface NodeOptions {
  /** Lifetimes of attributes, names and directory names in the kernel, and of "no such name"; seconds. */
  readonly attrTimeout: number;
  readonly entryTimeout: number;
  readonly dirEntryTimeout: number;
  readonly negativeTimeout: number;
  readonly readOnly?: boolean;
  /** In place of what programs have. */
  readonly umask?: number;
}

export class Nodes {
  readonly options: NodeOptions;
  /** The directory that is shown as the root. */
  readonly root: Ino;
  readonly files: OpenFiles;
  readonly virtual: VirtualFiles;
  /**
   * Attributes of files, the very objects, that the kernel was told of last. (By number and not in a WeakSet, in which a name of a
   * listing cost five times as much, most of it in the collection of garbage.)
   */
  readonly #told = new Generations<Ino, Attr>(TOLD_LIMIT);
  readonly #clock: Clock | undefined;
  /** Attributes without an access control list, and when the kernel was told. */
  readonly #plain = new Generations<Ino, { readonly attr: Attr; readonly time: number }>(TOLD_LIMIT);

  /** With `aclClock` the kernel asks for access control lists. */
  constructor(options: NodeOptions, root: Ino, files: OpenFiles, virtual: VirtualFiles, aclClock?: Clock) {
    this.#clock = aclClock;
    this.options = options;
    this.root = root;
    this.files = files;
    this.virtual = virtual;
  }

  /** The kernel asks for access control lists. */
  get tellsAcls(): boolean {
    return this.#clock !== undefined;
  }

  /** Notes attributes that the kernel now has. */
  #tell(node: Ino, attr: Attr): Attr {
    if (attr.type === NodeType.File) this.#told.set(node, attr);
    if (this.#clock && attr.accessAcl === 0) this.#plain.set(node, { attr, time: this.#clock.monotonic() });
    return attr;
  }

  /**
   * True where these attributes, last seen of the node, have no access control list, and the kernel trusts them still: it asks for the list
   * of every node on the way to a name, just after it was told of its attributes.
   */
  hasNoAcl(node: Ino, seen: Attr | undefined): boolean {
    if (!seen || !this.#clock) return false;
    const told = this.#plain.get(node);
    return told?.attr === seen && this.#clock.monotonic() - told.time < this.options.attrTimeout * 1000;
  }

  /**
   * True where the kernel has been told what `attr` says of the file's size and times, and of nothing else since. `before` is what
   * was last seen of the node before `attr` was asked for.
   */
  knows(node: Ino, before: Attr | undefined, attr: Attr): boolean {
    return (
      before !== undefined &&
      this.#told.get(node) === before &&
      before.length === attr.length &&
      before.mtime === attr.mtime &&
      before.mtimensec === attr.mtimensec &&
      before.ctime === attr.ctime &&
      before.ctimensec === attr.ctimensec
    );
  }

  /** The inode in the database of a node that the kernel names. */
  inside(ino: Ino): Ino {
    return ino === ROOT_INO ? this.root : ino;
  }

  /** The number by which the kernel knows a node of the database. */
  outside(ino: Ino): Ino {
    return ino === this.root ? ROOT_INO : ino;
  }

  /** See Changes: taken before the database is asked for what the kernel will be told. */
  get moment(): number {
    return this.files.changes.moment;
  }

  /** What the kernel is told of a node, asked for at `moment`; `timeout` in place of the configured lifetimes. */
  entry({ ino, attr }: Entry, moment: number, timeout?: number): FuseEntry {
    const current = this.#tell(ino, this.files.refresh(ino, attr, moment));
    return {
      attr: toFuseAttr(this.outside(ino), current, this.files.get(ino)?.writer?.local),
      generation: 1,
      entryTimeout: timeout ?? (attr.type === NodeType.Directory ? this.options.dirEntryTimeout : this.options.entryTimeout),
      attrTimeout: timeout ?? this.options.attrTimeout,
    };
  }

  /** Answers attributes, asked for at `moment`, of the node that the kernel calls `ino`. */
  replyAttr(reply: Reply, ino: Ino, attr: Attr, moment: number): void {
    const node = this.inside(ino);
    const current = this.#tell(node, this.files.refresh(node, attr, moment));
    reply.attr(toFuseAttr(ino, current, this.files.get(node)?.writer?.local), this.options.attrTimeout);
  }

  /** The umask of a request that makes something. */
  umask(asked: number): number {
    return this.options.umask ?? asked;
  }

  /** Throws where the node must not be changed: EROFS, EPERM of a virtual file. */
  requireWritable(ino: Ino): void {
    if (this.options.readOnly) throw new FsError('EROFS', 'the volume is mounted read-only');
    if (this.virtual.get(ino)) throw new FsError('EPERM');
  }

  /** Names of virtual files can neither be made nor removed. */
  requireNewName(parent: Ino, name: Buffer): void {
    if (this.options.readOnly) throw new FsError('EROFS');
    if (this.virtual.named(name, parent === ROOT_INO)) throw new FsError('EPERM');
  }
}

export function context(request: FuseRequest): Context {
  const { uid, gid, pid } = request;
  return request.checkPermission ? { uid, gid, pid, checkPermission: true } : { uid, gid, pid };
}
