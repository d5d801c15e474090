/** Metadata attributes as the kernel wants them. */
import type { FuseAttr } from '../fuse/types.ts';
import { type Ino, TRASH_INO } from '../lib/int64.ts';
import { type Attr, NodeType } from '../meta/types.ts';

/** S_IFMT bits by node type. */
const typeBits: Readonly<Record<NodeType, number>> = {
  [NodeType.File]: 0o100000,
  [NodeType.Directory]: 0o040000,
  [NodeType.Symlink]: 0o120000,
  [NodeType.Fifo]: 0o010000,
  [NodeType.BlockDevice]: 0o060000,
  [NodeType.CharDevice]: 0o020000,
  [NodeType.Socket]: 0o140000,
};

/** JuiceFS reports 64 KiB as the preferred I/O size. */
const BLKSIZE = 0x10000;

/** What an open file adds to the attributes in the database: bytes written here and not committed yet. */
export interface LocalChange {
  /** End of the locally known data, bytes. */
  readonly length: number;
  /** When it was written. */
  readonly mtimeNs: bigint;
}

/** Type and permission bits together. */
function fullMode(type: NodeType, mode: number): number {
  return typeBits[type] | mode;
}

/** The node type of S_IFMT bits, or undefined. */
export function typeOfMode(mode: number): NodeType | undefined {
  const bits = mode & 0o170000;
  if (bits === 0) return NodeType.File;
  for (const type of Object.values(NodeType)) if (typeBits[type] === bits) return type;
  return undefined;
}

/** d_type of a directory entry: the S_IFMT bits shifted. */
export function direntType(type: NodeType): number {
  return typeBits[type] >> 12;
}

/** Builds the kernel's attributes; `ino` is the number the kernel knows the node by. */
export function toFuseAttr(ino: Ino, attr: Attr, local?: LocalChange): FuseAttr {
  const trash = ino === TRASH_INO;
  const size = trash ? 0 : local && local.length > attr.length ? local.length : attr.length;
  let { mtime, mtimensec, ctime, ctimensec } = attr;
  if (local) {
    mtime = ctime = Number(local.mtimeNs / 1_000_000_000n);
    mtimensec = ctimensec = Number(local.mtimeNs % 1_000_000_000n);
  }
  return {
    ino,
    size,
    blocks: Math.ceil(size / 512),
    atime: attr.atime,
    mtime,
    ctime,
    atimensec: attr.atimensec,
    mtimensec,
    ctimensec,
    mode: fullMode(attr.type, attr.mode),
    nlink: trash ? 2 : attr.nlink,
    uid: attr.uid,
    gid: attr.gid,
    rdev: attr.rdev,
    blksize: BLKSIZE,
  };
}
