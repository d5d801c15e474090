/** What a file system is made of, and how it is to behave. */
import type { ChunkStore } from '../chunk/types.ts';
import type { WholeFolder } from '../chunk/whole-folder.ts';
import type { Backing, HandleJournal } from '../fuse/types.ts';
import type { Clock } from '../lib/clock.ts';
import type { Ino } from '../lib/int64.ts';
import type { Logger } from '../lib/log.ts';
import type { Meta } from '../meta/types.ts';
import type { AccessLog } from './accesslog.ts';
import type { Journal } from './journal.ts';
import type { NodeOptions } from './nodes.ts';

export interface VfsOptions extends NodeOptions {
  readonly meta: Meta;
  readonly chunks: ChunkStore;
  readonly accessLog: AccessLog;
  /** Content of `.stats`. */
  readonly stats: () => string;
  /** Content of `.config`; must hold no secret. */
  readonly config: () => unknown;
  /** Name of the volume, and whether its keys have a hash prefix. */
  readonly volume: string;
  readonly hashPrefix: boolean;
  /** Tells the kernel that a name in a directory, by the kernel's numbers, is not what it was. */
  readonly forgetName?: (parent: Ino, name: Buffer) => void;
  /** The directory that is shown as the root. @default the volume's root */
  readonly root?: Ino;
  /** Bytes that one handle may read ahead. */
  readonly maxReadahead: number;
  /** The kernel keeps listings while a directory's times stay as they are. @default false */
  readonly readdirCache?: boolean;
  /** File capabilities, and labels of SELinux, are extended attributes like others. @default false: as if never set */
  readonly capabilities?: boolean;
  readonly selinux?: boolean;
  /** @default false: GETXATTR and its like answer ENOSYS, and the kernel does not ask again */
  readonly xattr?: boolean;
  /** chattr and lsattr. @default false: they are told that there are no such flags */
  readonly ioctl?: boolean;
  /** The volume has access control lists. @default false */
  readonly acl?: boolean;
  /** Leaves the virtual files out of listings (they can still be opened). @default false */
  readonly hideInternal?: boolean;
  /** Where open handles are noted for a client that takes over. */
  readonly handles?: HandleJournal;
  readonly journal?: Journal;
  /** Where files lie whole for the kernel to read past this process; only where nothing is written here. See passthrough.ts. */
  readonly wholeFiles?: WholeFolder;
  /** Where the kernel is told which local file it reads; undefined as long as it cannot. @default never */
  readonly backing?: () => Backing | undefined;
  readonly clock?: Clock;
  readonly logger?: Logger;
}
