/**
 * The flags of chattr(1) and lsattr(1), by ioctl: immutable, append only, and `s` (FS_SECRM_FL), by which JuiceFS removes without the
 * trash. The kernel asks who may set them (CAP_LINUX_IMMUTABLE) before it asks here.
 *
 * Source: the kernel's include/uapi/linux/fs.h; which flags: Ioctl of the official client, which sets them by the first kind of call
 * alone.
 */
import type { FuseRequest, Reply } from '../fuse/types.ts';
import { FsError } from '../lib/errors.ts';
import type { Ino } from '../lib/int64.ts';
import { type Meta, NodeFlag, SYSTEM } from '../meta/types.ts';
import { context, type Nodes } from './nodes.ts';

/** The first two ask and set 32 or 64 bits, depending on who calls. */
export const Command = {
  GETFLAGS: 0x8008_6601,
  SETFLAGS: 0x4008_6602,
  GETFLAGS_32: 0x8004_6601,
  SETFLAGS_32: 0x4004_6602,
  FSGETXATTR: 0x801c_581f,
  FSSETXATTR: 0x401c_5820,
} as const;

type Pairs = readonly (readonly [number, number])[];

/** Bits of JuiceFS and the caller's, of FS_IOC_GETFLAGS and its like, and in struct fsxattr. */
const flags: Pairs = [
  [NodeFlag.SkipTrash, 0x1],
  [NodeFlag.Immutable, 0x10],
  [NodeFlag.Append, 0x20],
];
const extended: Pairs = [
  [NodeFlag.Immutable, 0x8],
  [NodeFlag.Append, 0x10],
];
const FSXATTR_BYTES = 28;

const outside = (stored: number, pairs: Pairs): number =>
  pairs.reduce((sum, [ours, theirs]) => (stored & ours ? sum | theirs : sum), 0);

/** The stored flags with these of the caller's; throws ENOTSUP where he sets others. */
function inside(stored: number, given: number, pairs: Pairs): number {
  const known = pairs.reduce((sum, [, theirs]) => sum | theirs, 0);
  if (given & ~known) throw new FsError('ENOTSUP', 'only the flags i, a and s are kept');
  return pairs.reduce((sum, [ours, theirs]) => (given & theirs ? sum | ours : sum & ~ours), stored);
}

/** What is answered to a command about these flags; undefined where it is no question. */
export function flagsAnswer(command: number, stored: number, size: number): Buffer | undefined {
  const answer = Buffer.alloc(size);
  switch (command) {
    case Command.GETFLAGS:
    case Command.GETFLAGS_32:
      if (size !== 4 && size !== 8) throw new FsError('EINVAL');
      answer.writeUInt32LE(outside(stored, flags), 0);
      return answer;
    case Command.FSGETXATTR:
      if (size !== FSXATTR_BYTES) throw new FsError('EINVAL');
      answer.writeUInt32LE(outside(stored, extended), 0);
      return answer;
    default:
      return undefined;
  }
}

/** The flags after a command that sets them; undefined where it is another one. */
export function flagsAfter(command: number, stored: number, input: Buffer): number | undefined {
  switch (command) {
    case Command.SETFLAGS:
    case Command.SETFLAGS_32:
      if (input.length !== 4 && input.length !== 8) throw new FsError('EINVAL');
      if (input.length === 8 && input.readUInt32LE(4) !== 0) throw new FsError('ENOTSUP');
      return inside(stored, input.readUInt32LE(0), flags);
    case Command.FSSETXATTR:
      if (input.length !== FSXATTR_BYTES) throw new FsError('EINVAL');
      // Extent sizes and projects.
      if (input.subarray(4).some((byte) => byte !== 0)) throw new FsError('ENOTSUP');
      return inside(stored, input.readUInt32LE(0), extended);
    default:
      return undefined;
  }
}

export class FlagOperations {
  readonly #meta: Meta;
  readonly #nodes: Nodes;

  constructor(meta: Meta, nodes: Nodes) {
    this.#meta = meta;
    this.#nodes = nodes;
  }

  async ioctl(
    request: FuseRequest,
    reply: Reply,
    ino: Ino,
    _handle: number,
    command: number,
    input: Buffer,
    size: number,
  ): Promise<void> {
    if (!Object.values<number>(Command).includes(command)) throw new FsError('ENOTTY');
    if (this.#nodes.virtual.get(ino)) throw new FsError('EPERM');
    const node = this.#nodes.inside(ino);
    const { flags: stored } = await this.#meta.getattr(SYSTEM, node);
    const answer = flagsAnswer(command, stored, size);
    if (answer) return reply.ioctl(answer);
    this.#nodes.requireWritable(ino);
    const after = flagsAfter(command, stored, input);
    if (after !== undefined && after !== stored) await this.#meta.setattr(context(request), node, { flags: after });
    this.#nodes.files.changes.node(node);
    reply.ioctl(Buffer.alloc(0));
  }
}
