/**
 * A POSIX file system in memory, in the plainest way: what the metadata of a volume must amount to. Root asks, the kernel's
 * checks are done; permissions are not part of it. Inode numbers are the volume's: they are learned when a node is made.
 *
 * Content is kept in cells: what each says is which cell of which slice is seen there.
 */
import type { ErrnoName } from '../../src/lib/errors.ts';
import { CHUNK_SIZE, NodeType } from '../../src/meta/types.ts';

export const CELL = 4 * 1024 * 1024;
export const CELLS_PER_CHUNK = CHUNK_SIZE / CELL;
export const ROOT = 1;
export const ZERO = '';

export interface RefNode {
  readonly type: NodeType;
  mode: number;
  uid: number;
  gid: number;
  nlink: number;
  /** Of a file, in cells. */
  cells: string[];
  readonly target: string;
  readonly rdev: number;
  readonly xattrs: Map<string, string>;
  /** Of a directory. */
  readonly entries: Map<string, number>;
  parent: number;
  /** Nanoseconds; undefined where the rules leave it open. */
  mtime: bigint;
  ctime: bigint | undefined;
  opens: number;
}

/** Which name of which file lies in the trash; the trash's own directories are not modelled. */
export interface Trashed {
  readonly name: string;
  readonly ino: number;
}

const align4K = (length: number): number => Math.max(4096, Math.ceil(length / 4096) * 4096);

export class ReferenceFs {
  readonly nodes = new Map<number, RefNode>();
  readonly trash: Trashed[] = [];
  readonly keepsTrash: boolean;
  now = 0n;

  constructor(keepsTrash: boolean) {
    this.keepsTrash = keepsTrash;
    this.nodes.set(ROOT, this.#make(NodeType.Directory, 0o777, ROOT, {}));
  }

  #make(type: NodeType, mode: number, parent: number, more: { readonly target?: string; readonly rdev?: number }): RefNode {
    const directory = type === NodeType.Directory;
    return {
      type,
      mode,
      uid: 0,
      gid: 0,
      nlink: directory ? 2 : 1,
      cells: [],
      target: more.target ?? '',
      rdev: more.rdev ?? 0,
      xattrs: new Map(),
      entries: new Map(),
      parent,
      mtime: this.now,
      ctime: this.now,
      opens: 0,
    };
  }

  node(ino: number): RefNode {
    const node = this.nodes.get(ino);
    if (!node) throw new Error(`the model has no node ${ino}`);
    return node;
  }

  find(parent: number, name: string): number | undefined {
    return this.nodes.get(parent)?.entries.get(name);
  }

  length(node: RefNode): number {
    if (node.type === NodeType.Directory) return 4096;
    return node.type === NodeType.Symlink ? Buffer.byteLength(node.target) : node.cells.length * CELL;
  }

  /** What a node is charged, bytes. */
  space(node: RefNode): number {
    return node.type === NodeType.File ? align4K(this.length(node)) : 4096;
  }

  #touch(ino: number, links = 0): void {
    const node = this.node(ino);
    node.mtime = this.now;
    node.ctime = this.now;
    node.nlink += links;
  }

  canAdd(parent: number, name: string): ErrnoName | undefined {
    if (this.node(parent).type !== NodeType.Directory) return 'ENOTDIR';
    return this.find(parent, name) === undefined ? undefined : 'EEXIST';
  }

  add(
    parent: number,
    name: string,
    ino: number,
    type: NodeType,
    mode: number,
    more: { readonly target?: string; readonly rdev?: number } = {},
  ): void {
    this.nodes.set(ino, this.#make(type, mode, parent, more));
    this.node(parent).entries.set(name, ino);
    this.#touch(parent, type === NodeType.Directory ? 1 : 0);
  }

  /** A file that is open and has no name. */
  addUnnamed(parent: number, ino: number, mode: number): void {
    this.nodes.set(ino, { ...this.#make(NodeType.File, mode, parent, {}), nlink: 0, opens: 1 });
  }

  canLink(ino: number, parent: number, name: string): ErrnoName | undefined {
    if (this.node(ino).type === NodeType.Directory) return 'EPERM';
    return this.canAdd(parent, name);
  }

  link(ino: number, parent: number, name: string): void {
    const node = this.node(ino);
    if (node.nlink === 0) node.parent = parent;
    node.nlink++;
    node.ctime = this.now;
    this.node(parent).entries.set(name, ino);
    this.#touch(parent);
  }

  canUnlink(parent: number, name: string): ErrnoName | undefined {
    const ino = this.find(parent, name);
    if (ino === undefined) return 'ENOENT';
    return this.node(ino).type === NodeType.Directory ? 'EPERM' : undefined;
  }

  canRmdir(parent: number, name: string): ErrnoName | undefined {
    const ino = this.find(parent, name);
    if (ino === undefined) return 'ENOENT';
    const node = this.node(ino);
    if (node.type !== NodeType.Directory) return 'ENOTDIR';
    return node.entries.size > 0 ? 'ENOTEMPTY' : undefined;
  }

  /** What becomes of a node when the name `name` in `parent` goes. */
  #drop(parent: number, name: string, ino: number): void {
    const node = this.node(ino);
    node.ctime = this.now;
    const trashName = `${parent}-${ino}-${name}`.slice(0, 255);
    const twice = node.nlink > 1 && node.type !== NodeType.Directory && this.trash.some((each) => each.name === trashName);
    if (this.keepsTrash && !twice) {
      this.trash.push({ name: trashName, ino });
      return;
    }
    if (node.type !== NodeType.Directory && --node.nlink > 0) return;
    node.nlink = 0;
    node.xattrs.clear();
    if (node.opens === 0) this.nodes.delete(ino);
  }

  unlink(parent: number, name: string): void {
    const ino = this.find(parent, name)!;
    this.node(parent).entries.delete(name);
    this.#touch(parent);
    this.#drop(parent, name, ino);
  }

  rmdir(parent: number, name: string): void {
    const ino = this.find(parent, name)!;
    this.node(parent).entries.delete(name);
    this.#touch(parent, -1);
    this.#drop(parent, name, ino);
  }

  /** Whether `ino` is `directory` or lies above it. */
  #isAbove(ino: number, directory: number): boolean {
    for (let at = directory; ; at = this.node(at).parent) {
      if (at === ino) return true;
      if (at === ROOT) return false;
    }
  }

  canRename(
    parent: number,
    name: string,
    newParent: number,
    newName: string,
    flag: 'none' | 'noReplace' | 'exchange',
  ): ErrnoName | undefined {
    const ino = this.find(parent, name);
    if (ino === undefined) return 'ENOENT';
    const target = this.find(newParent, newName);
    const node = this.node(ino);
    if (target === undefined && flag === 'exchange') return 'ENOENT';
    if (target !== undefined && flag === 'noReplace') return 'EEXIST';
    if (target === ino) return undefined;
    const other = target === undefined ? undefined : this.node(target);
    const directory = node.type === NodeType.Directory;
    if (other && flag === 'none') {
      if (directory && other.type !== NodeType.Directory) return 'ENOTDIR';
      if (!directory && other.type === NodeType.Directory) return 'EISDIR';
    }
    if (directory && this.#isAbove(ino, newParent)) return 'EINVAL';
    if (other?.type === NodeType.Directory && flag === 'exchange' && this.#isAbove(target!, parent)) return 'EINVAL';
    return other && flag === 'none' && other.entries.size > 0 ? 'ENOTEMPTY' : undefined;
  }

  rename(parent: number, name: string, newParent: number, newName: string, exchange: boolean): void {
    const ino = this.find(parent, name)!;
    const target = this.find(newParent, newName);
    if (target === ino) return;
    const links = (from: number, to: number, node: RefNode): void => {
      if (node.type !== NodeType.Directory || from === to) return;
      this.node(from).nlink--;
      this.node(to).nlink++;
      node.parent = to;
    };
    const node = this.node(ino);
    if (target !== undefined && !exchange && this.node(target).type === NodeType.Directory) this.node(newParent).nlink--;
    links(parent, newParent, node);
    node.ctime = this.now;
    this.#touch(parent);
    this.#touch(newParent);
    this.node(newParent).entries.set(newName, ino);
    if (target !== undefined && exchange) {
      const other = this.node(target);
      links(newParent, parent, other);
      other.ctime = this.now;
      this.node(parent).entries.set(name, target);
      return;
    }
    this.node(parent).entries.delete(name);
    if (target !== undefined) this.#drop(newParent, newName, target);
  }

  setattr(
    ino: number,
    set: { readonly mode?: number; readonly uid?: number; readonly gid?: number; readonly mtime?: bigint },
  ): void {
    const node = this.node(ino);
    const before = [node.mode, node.uid, node.gid, node.mtime].join();
    if (set.mode !== undefined) node.mode = set.mode;
    if (set.uid !== undefined) node.uid = set.uid;
    if (set.gid !== undefined) node.gid = set.gid;
    if (set.mtime !== undefined) node.mtime = set.mtime;
    // A change to what is there already may leave ctime alone, or not.
    node.ctime = before === [node.mode, node.uid, node.gid, node.mtime].join() ? undefined : this.now;
  }

  isFile(ino: number): boolean {
    return this.node(ino).type === NodeType.File;
  }

  #resize(node: RefNode, cells: number): void {
    node.cells.length = Math.min(node.cells.length, cells);
    while (node.cells.length < cells) node.cells.push(ZERO);
  }

  truncate(ino: number, cells: number): void {
    const node = this.node(ino);
    if (node.cells.length === cells) return;
    this.#resize(node, cells);
    this.#touch(ino);
  }

  /** `extend`: the file grows to the end of the range; `zero`: what it has of the range becomes zeros. */
  fallocate(ino: number, from: number, count: number, extend: boolean, zero: boolean): void {
    const node = this.node(ino);
    if (zero) for (let cell = from; cell < Math.min(from + count, node.cells.length); cell++) node.cells[cell] = ZERO;
    if (extend) this.#resize(node, Math.max(node.cells.length, from + count));
    this.#touch(ino);
  }

  write(ino: number, from: number, count: number, slice: number, mtime: bigint): void {
    const node = this.node(ino);
    this.#resize(node, Math.max(node.cells.length, from + count));
    for (let cell = 0; cell < count; cell++) node.cells[from + cell] = `${slice}:${cell}`;
    node.mtime = mtime;
    node.ctime = this.now;
  }

  /** Copies cells, as many as the source has; answers how many. */
  copy(source: number, from: number, target: number, to: number, count: number): number {
    const cells = this.node(source).cells.slice(from, from + count);
    if (cells.length === 0) return 0;
    const node = this.node(target);
    this.#resize(node, Math.max(node.cells.length, to + cells.length));
    for (const [at, cell] of cells.entries()) node.cells[to + at] = cell;
    this.#touch(target);
    return cells.length;
  }

  /** A slice took the place of others; what is seen has not changed, only how it is called. */
  compacted(ino: number, from: number, count: number, slice: number): void {
    const { cells } = this.node(ino);
    for (let cell = 0; cell < count && from + cell < cells.length; cell++) cells[from + cell] = `${slice}:${cell}`;
  }

  open(ino: number): void {
    this.node(ino).opens++;
  }

  release(ino: number): void {
    const node = this.node(ino);
    if (--node.opens === 0 && node.nlink === 0) this.nodes.delete(ino);
  }

  /** What the counters of the volume say, without the root and without directories of the trash. */
  usage(): { readonly bytes: number; readonly inodes: number } {
    const nodes = [...this.nodes].filter(([ino]) => ino !== ROOT).map(([, node]) => node);
    return { bytes: nodes.reduce((sum, node) => sum + this.space(node), 0), inodes: nodes.length };
  }

  /** What lies directly in a directory. */
  dirStat(ino: number): { readonly length: number; readonly space: number; readonly inodes: number } {
    const children = [...this.node(ino).entries.values()].map((child) => this.node(child));
    return {
      length: children.reduce((sum, node) => sum + (node.type === NodeType.File ? this.length(node) : 0), 0),
      space: children.reduce((sum, node) => sum + this.space(node), 0),
      inodes: children.length,
    };
  }
}
