/**
 * What a mount does beyond the default, where somebody asks for it: options of the official client, under its names. All of them
 * are the mount's own; other clients of the volume do not notice.
 */
import type { InitOptions } from '../fuse/init.ts';
import type { AtimeMode } from '../meta/atime.ts';
import type { Squash } from '../vfs/squash.ts';

export interface Semantics {
  /** When reading changes access times. @default noatime */
  readonly atimeMode?: AtimeMode;
  /** Permission bits that new nodes do not get, in place of the program's umask. */
  readonly umask?: number;
  /** Whose requests are somebody else's. */
  readonly squash?: Squash;
  /** chattr and lsattr. @default false */
  readonly ioctl?: boolean;
  /** File capabilities (`security.capability`), and labels of SELinux (`security.selinux`). @default false */
  readonly capabilities?: boolean;
  readonly selinux?: boolean;
  /** The kernel keeps listings while the directory's times stay as they are. @default false */
  readonly readdirCache?: boolean;
  /** How long a file may be opened again by what is known of it, ms; others' changes show so much later. @default 0 */
  readonly openCacheMs?: number;
  /** Closed files of which something is remembered. @default 10000 */
  readonly openCacheLimit?: number;
  /** A directory's times stay where they would change by less, ms. @default 0 */
  readonly skipDirMtimeMs?: number;
  /** Listings in the order of names. @default false */
  readonly sortDir?: boolean;
  /** What is free and used is told as last seen, a heartbeat old at most. @default false */
  readonly fastStatfs?: boolean;
  /** Largest request to read or write, bytes; whole pages, up to 1 MiB. @default 1 MiB */
  readonly maxIo?: number;
}

/** How much of the bytes of a cache may hold whole files where nothing else is said: on mounts that are read-only. */
export const wholeFilesShare = (cacheBytes: number): number => Math.floor(cacheBytes / 2);

/** What the kernel must agree to when it is mounted; `acl`: the volume has access control lists. */
export function initOf(acl: boolean, { umask, capabilities, maxIo, squash }: Semantics): InitOptions {
  // With lists the kernel always checks permissions itself, which it cannot for whom everybody is taken for.
  const posixAcl = acl && !squash?.everybody;
  return {
    posixAcl,
    ...(umask === undefined && acl === posixAcl ? {} : { keepMode: true }),
    // Else it would be our part to take a file's capabilities away with every write.
    ...(capabilities ? { handleKillPriv: false } : {}),
    ...(maxIo === undefined ? {} : { maxWrite: maxIo }),
  };
}
