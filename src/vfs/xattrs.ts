/**
 * Extended attributes. Access control lists are among them where the volume has those; the kernel asks for them so when it checks
 * permissions. Capabilities and labels of security modules answer as if never set where the mount was not asked to keep them.
 */
import type { FuseRequest, Reply } from '../fuse/types.ts';
import { errno, FsError } from '../lib/errors.ts';
import type { Ino } from '../lib/int64.ts';
import { ACL_ACCESS, isAclName } from '../meta/acl-xattrs.ts';
import type { Meta, XattrMode } from '../meta/types.ts';
import { context, type Nodes } from './nodes.ts';
import type { VfsOptions } from './options.ts';

const XATTR_CREATE = 1;
const XATTR_REPLACE = 2;
const MAX_XATTR = 65_536;

export class XattrOperations {
  readonly #meta: Meta;
  readonly #nodes: Nodes;
  readonly #kept: Kept;

  constructor(meta: Meta, nodes: Nodes, kept: Kept) {
    this.#meta = meta;
    this.#nodes = nodes;
    this.#kept = kept;
  }

  async getxattr(request: FuseRequest, reply: Reply, ino: Ino, name: string, size: number): Promise<void> {
    if (this.#nodes.virtual.get(ino) || !storedXattr(name, this.#kept)) throw new FsError('ENODATA');
    const node = this.#nodes.inside(ino);
    if (name === ACL_ACCESS && this.#nodes.hasNoAcl(node, this.#meta.lastSeen(node))) throw new FsError('ENODATA');
    answerXattr(reply, await this.#meta.getxattr(context(request), node, name), size);
  }

  async listxattr(request: FuseRequest, reply: Reply, ino: Ino, size: number): Promise<void> {
    const nodes = this.#nodes;
    const names = nodes.virtual.get(ino) ? [] : await this.#meta.listxattr(context(request), nodes.inside(ino));
    answerXattr(reply, Buffer.from(names.map((name) => `${name}\0`).join('')), size);
  }

  async setxattr(request: FuseRequest, reply: Reply, ino: Ino, name: string, value: Buffer, flags: number): Promise<void> {
    this.#nodes.requireWritable(ino);
    checkXattr(name, this.#kept);
    if (value.length > MAX_XATTR) throw new FsError('E2BIG');
    const mode: XattrMode = { create: (flags & XATTR_CREATE) !== 0, replace: (flags & XATTR_REPLACE) !== 0 };
    const node = this.#nodes.inside(ino);
    await this.#meta.setxattr(context(request), node, name, Buffer.from(value), mode);
    this.#changed(node, name);
    reply.ok();
  }

  async removexattr(request: FuseRequest, reply: Reply, ino: Ino, name: string): Promise<void> {
    this.#nodes.requireWritable(ino);
    checkXattr(name, this.#kept);
    const node = this.#nodes.inside(ino);
    await this.#meta.removexattr(context(request), node, name);
    this.#changed(node, name);
    reply.ok();
  }

  /** With an access control list, attributes have changed. */
  #changed(node: Ino, name: string): void {
    if (isAclName(name)) this.#nodes.files.changes.node(node);
  }
}

type Kept = Pick<VfsOptions, 'capabilities' | 'selinux'>;

function storedXattr(name: string, kept: Kept): boolean {
  if (name === 'security.capability') return kept.capabilities ?? false;
  if (name === 'security.selinux') return kept.selinux ?? false;
  return !name.startsWith('system.') || isAclName(name);
}

function checkXattr(name: string, kept: Kept): void {
  if (!storedXattr(name, kept)) throw new FsError('ENOTSUP');
  if (name.length === 0) throw new FsError('EINVAL');
  if (Buffer.byteLength(name) > 255) throw new FsError('ERANGE');
}

function answerXattr(reply: Reply, value: Buffer, size: number): void {
  if (size === 0) reply.xattrSize(value.length);
  else if (value.length > size) reply.error(errno.ERANGE);
  else reply.data(value);
}
