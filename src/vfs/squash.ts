/**
 * Requests of root, or of everybody, made as somebody else (`--root-squash`, `--all-squash`). The kernel has checked what the caller
 * may do, root everything; so the permissions of whom he is taken for are checked by the metadata. Of groups he has the one alone.
 */
import type { FileSystem, FuseRequest, Reply } from '../fuse/types.ts';

export interface Account {
  readonly uid: number;
  readonly gid: number;
}

export interface Squash {
  /** Whom root is taken for, or (`everybody`) whoever asks; never root. */
  readonly account: Account;
  readonly everybody: boolean;
}

class SquashedRequest implements FuseRequest {
  readonly checkPermission = true;
  readonly uid: number;
  readonly gid: number;
  readonly #inner: FuseRequest;

  constructor(inner: FuseRequest, { uid, gid }: Account) {
    this.#inner = inner;
    this.uid = uid;
    this.gid = gid;
  }

  get unique(): number | bigint {
    return this.#inner.unique;
  }

  get pid(): number {
    return this.#inner.pid;
  }

  get resent(): boolean {
    return this.#inner.resent;
  }

  get signal(): AbortSignal {
    return this.#inner.signal;
  }

  park(): void {
    this.#inner.park();
  }
}

type Operation = (request: FuseRequest, ...rest: unknown[]) => void | Promise<void>;

/** The operations that have a request. */
const operations = [
  'lookup',
  'getattr',
  'setattr',
  'readlink',
  'symlink',
  'mknod',
  'mkdir',
  'unlink',
  'rmdir',
  'rename',
  'link',
  'open',
  'create',
  'read',
  'tmpfile',
  'write',
  'flush',
  'fsync',
  'release',
  'opendir',
  'readdir',
  'releasedir',
  'fsyncdir',
  'statfs',
  'access',
  'getxattr',
  'setxattr',
  'listxattr',
  'removexattr',
  'fallocate',
  'ioctl',
  'lseek',
  'copyFileRange',
  'getlk',
  'setlk',
  'flock',
] as const satisfies readonly Exclude<keyof FileSystem, 'forget' | 'destroy'>[];

/** The same file system for whom the callers are taken for. */
export function squashed(inner: FileSystem, { account, everybody }: Squash): FileSystem {
  const outer: Record<string, unknown> = { forget: inner.forget?.bind(inner), destroy: inner.destroy?.bind(inner) };
  for (const name of operations) {
    const method = inner[name] as Operation | undefined;
    if (!method) continue;
    const call = method.bind(inner);
    outer[name] = (request: FuseRequest, reply: Reply, ...rest: unknown[]): void | Promise<void> =>
      call(everybody || request.uid === 0 ? new SquashedRequest(request, account) : request, reply, ...rest);
  }
  return outer as unknown as FileSystem;
}
