/** Names and attributes: what the kernel asks of the tree. Names are committed when their calls are answered. */
import type { FuseRequest, FuseSetAttr, Reply } from '../fuse/types.ts';
import type { Clock } from '../lib/clock.ts';
import { errno, FsError } from '../lib/errors.ts';
import { type Ino, isTrash, ROOT_INO } from '../lib/int64.ts';
import { type Attr, type Entry, type Meta, NodeType, type SetAttr, SYSTEM } from '../meta/types.ts';
import { NamesAhead } from './ahead.ts';
import { toFuseAttr, typeOfMode } from './attributes.ts';
import { FreshDirectories } from './fresh.ts';
import { interruptible } from './interruptible.ts';
import { context, type Nodes } from './nodes.ts';

/** Block size that statfs counts in, bytes. */
const STATFS_BLOCK = 4096;

export class NameOperations {
  readonly #meta: Meta;
  readonly #nodes: Nodes;
  readonly #fresh: FreshDirectories;
  readonly #clock: Clock;
  readonly #ahead: NamesAhead | undefined;

  constructor(meta: Meta, nodes: Nodes, clock: Clock) {
    this.#meta = meta;
    this.#nodes = nodes;
    this.#clock = clock;
    const { attrTimeout, entryTimeout, dirEntryTimeout } = nodes.options;
    this.#fresh = new FreshDirectories(clock, attrTimeout);
    // That there is no access control list is told by when the kernel was told of the attributes.
    if (nodes.tellsAcls) return;
    const { changes } = nodes.files;
    const ahead = new NamesAhead(meta, changes, clock, Math.min(attrTimeout, entryTimeout, dirEntryTimeout));
    changes.onName = (parent, name) => ahead.changed(parent, name);
    this.#ahead = ahead;
  }

  async lookup(request: FuseRequest, reply: Reply, parent: Ino, name: Buffer): Promise<void> {
    const nodes = this.#nodes;
    const file = nodes.virtual.named(name, parent === ROOT_INO);
    if (file)
      return reply.entry(
        nodes.entry({ ino: file.ino, attr: nodes.virtual.attr(file) }, nodes.moment, nodes.virtual.lifetime(file)),
      );
    const node = nodes.inside(parent);
    const told = request.checkPermission ? undefined : this.#ahead?.find(node, name);
    if (told) return reply.entry(nodes.entry(told.entry, told.moment, told.lifetime));
    const { moment } = nodes;
    let entry: Entry;
    try {
      entry = await this.#meta.lookup(context(request), node, name);
    } catch (error) {
      if (error instanceof FsError && error.errno === errno.ENOENT && nodes.options.negativeTimeout > 0)
        return reply.negative(nodes.options.negativeTimeout);
      throw error;
    }
    // What is removed goes to the trash without a word to anybody.
    if (!isTrash(node)) this.#ahead?.asked(node, name);
    reply.entry(nodes.entry(entry, moment));
  }

  async getattr(_request: FuseRequest, reply: Reply, ino: Ino): Promise<void> {
    const nodes = this.#nodes;
    const file = nodes.virtual.get(ino);
    if (file) return reply.attr(toFuseAttr(ino, nodes.virtual.attr(file)), nodes.virtual.lifetime(file));
    const node = nodes.inside(ino);
    const remaining = this.#fresh.remaining(node);
    const known = remaining > 0 ? this.#meta.lastSeen(node) : undefined;
    if (known?.type === NodeType.Directory) return reply.attr(toFuseAttr(ino, known), remaining);
    const { moment } = nodes;
    const attr = await this.#meta.getattr(SYSTEM, node);
    if (attr.type === NodeType.Directory) this.#fresh.fetched(node);
    nodes.replyAttr(reply, ino, attr, moment);
  }

  async setattr(request: FuseRequest, reply: Reply, ino: Ino, set: FuseSetAttr): Promise<void> {
    this.#nodes.requireWritable(ino);
    const node = this.#nodes.inside(ino);
    const ctx = context(request);
    const { files } = this.#nodes;
    if (set.size !== undefined || set.mtime !== undefined) await files.local?.collected(node);
    const writer = files.get(node)?.writer;
    // What is not committed yet would set length and times after this call.
    if (writer?.dirty && (set.size !== undefined || set.mtime !== undefined || set.atime !== undefined))
      await interruptible(writer.flush(), () => request.signal, this.#clock);
    let attr: Attr | undefined;
    if (set.size !== undefined) {
      attr = await this.#meta.truncate(ctx, node, set.size, set.handle !== undefined);
      files.changed(node, attr);
      await files.local?.refreshed(node);
    }
    const { mode, uid, gid, atime, mtime } = set;
    const changes: SetAttr = {
      ...(mode === undefined ? {} : { mode: mode & 0o7777 }),
      ...(uid === undefined ? {} : { uid }),
      ...(gid === undefined ? {} : { gid }),
      ...(atime === undefined ? {} : { atime }),
      ...(mtime === undefined ? {} : { mtime }),
    };
    const { moment } = this.#nodes;
    if (Object.keys(changes).length > 0) attr = await this.#meta.setattr(ctx, node, changes);
    if (set.killSuidGid) attr = (await dropPrivileges(this.#meta, node, attr)) ?? attr;
    files.changes.node(node);
    this.#nodes.replyAttr(reply, ino, attr ?? (await this.#meta.getattr(SYSTEM, node)), moment);
  }

  /** access(2), where the kernel does not check permissions. */
  async access(request: FuseRequest, reply: Reply, ino: Ino, mask: number): Promise<void> {
    if (!this.#nodes.virtual.get(ino)) await this.#meta.access(context(request), this.#nodes.inside(ino), mask);
    reply.ok();
  }

  async readlink(request: FuseRequest, reply: Reply, ino: Ino): Promise<void> {
    reply.data(await this.#meta.readlink(context(request), this.#nodes.inside(ino)));
  }

  async symlink(request: FuseRequest, reply: Reply, parent: Ino, name: Buffer, target: Buffer): Promise<void> {
    const nodes = this.#nodes;
    nodes.requireNewName(parent, name);
    const node = nodes.inside(parent);
    this.#created(reply, node, name, await this.#meta.symlink(context(request), node, name, target));
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
    const nodes = this.#nodes;
    nodes.requireNewName(parent, name);
    const type = typeOfMode(mode);
    if (type === undefined || type === NodeType.Directory || type === NodeType.Symlink) throw new FsError('EINVAL');
    const node = nodes.inside(parent);
    this.#created(
      reply,
      node,
      name,
      await this.#meta.mknod(context(request), node, name, type, mode & 0o7777, nodes.umask(umask), rdev),
    );
  }

  async mkdir(request: FuseRequest, reply: Reply, parent: Ino, name: Buffer, mode: number, umask: number): Promise<void> {
    const nodes = this.#nodes;
    nodes.requireNewName(parent, name);
    const node = nodes.inside(parent);
    this.#created(reply, node, name, await this.#meta.mkdir(context(request), node, name, mode & 0o7777, nodes.umask(umask)));
  }

  async unlink(request: FuseRequest, reply: Reply, parent: Ino, name: Buffer): Promise<void> {
    this.#nodes.requireNewName(parent, name);
    const node = this.#nodes.inside(parent);
    await this.#meta.unlink(context(request), node, name);
    this.#nodes.files.changes.name(node, name);
    reply.ok();
  }

  async rmdir(request: FuseRequest, reply: Reply, parent: Ino, name: Buffer): Promise<void> {
    this.#nodes.requireNewName(parent, name);
    const node = this.#nodes.inside(parent);
    await this.#meta.rmdir(context(request), node, name);
    this.#nodes.files.changes.name(node, name);
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
    const nodes = this.#nodes;
    nodes.requireNewName(parent, name);
    nodes.requireNewName(newParent, newName);
    const from = nodes.inside(parent);
    const to = nodes.inside(newParent);
    await this.#meta.rename(context(request), from, name, to, newName, flags);
    nodes.files.changes.name(from, name);
    nodes.files.changes.name(to, newName);
    reply.ok();
  }

  async link(request: FuseRequest, reply: Reply, ino: Ino, newParent: Ino, newName: Buffer): Promise<void> {
    const nodes = this.#nodes;
    nodes.requireNewName(newParent, newName);
    nodes.requireWritable(ino);
    const { moment } = nodes;
    const parent = nodes.inside(newParent);
    const attr = await this.#meta.link(context(request), ino, parent, newName);
    nodes.files.changes.name(parent, newName);
    nodes.files.changes.node(ino);
    reply.entry(nodes.entry({ ino, attr }, moment));
  }

  async statfs(request: FuseRequest, reply: Reply, ino: Ino): Promise<void> {
    const { totalBytes, availableBytes, usedInodes, availableInodes } = await this.#meta.statfs(
      context(request),
      ino < 0 ? this.#nodes.root : this.#nodes.inside(ino),
    );
    const free = Math.floor(availableBytes / STATFS_BLOCK);
    reply.statfs({
      blocks: Math.floor(totalBytes / STATFS_BLOCK),
      bfree: free,
      bavail: free,
      files: usedInodes + availableInodes,
      ffree: availableInodes,
      bsize: STATFS_BLOCK,
      namelen: 255,
    });
  }

  /** Answers a node that did not exist before. */
  #created(reply: Reply, parent: Ino, name: Buffer, entry: Entry): void {
    this.#nodes.files.changes.name(parent, name);
    reply.entry(this.#nodes.entry(entry, this.#nodes.moment));
  }
}

/**
 * Takes set-user-id, and set-group-id of an executable, from a file that somebody else changes; `known` are its attributes where
 * they are at hand. Answers the new ones, or undefined where there was nothing to take.
 */
export async function dropPrivileges(meta: Meta, ino: Ino, known: Attr | undefined): Promise<Attr | undefined> {
  const attr = known ?? (await meta.getattr(SYSTEM, ino));
  const drop = (attr.mode & 0o4000) | (attr.mode & 0o10 ? attr.mode & 0o2000 : 0);
  return attr.type === NodeType.File && drop !== 0 ? meta.setattr(SYSTEM, ino, { mode: attr.mode & ~drop }) : undefined;
}
