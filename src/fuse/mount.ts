/**
 * Mounts: makes one at a directory, ends one, finds and clears away a dead one.
 *
 * A privileged process calls mount(2) itself; anybody else goes through `fusermount3`, which is set-uid root, and gets the
 * descriptor back over a socket (_FUSE_COMMFD). System calls that walk a path run in another thread, since the path may
 * lead through a mount that this process serves. Options as the JuiceFS client's: nosuid, nodev, default_permissions,
 * allow_other for root; type `fuse.juicepod`.
 */
import { spawn } from 'node:child_process';
import { closeSync, constants, openSync, writeFileSync } from 'node:fs';
import { readdir, realpath, stat, statfs } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { messageOf, UserError } from '../lib/errors.ts';
import { isErrno, MountFlag, mountAt, setNonBlocking, unmountAt } from './libc.ts';
import { type MountEntry, mountsAt } from './mountinfo.ts';
import { receive, socketPair } from './socket.ts';

export const FUSE_TYPE = 'fuse.juicepod';

export interface MountOptions {
  /** An existing directory; `realTarget` has made it absolute. */
  readonly target: string;
  /** What the first column of `mount` shows. @default "Juicepod" */
  readonly source?: string;
  readonly readOnly?: boolean;
  /** Other users may enter. @default true for root, else false (fusermount3 wants user_allow_other in /etc/fuse.conf) */
  readonly allowOther?: boolean;
  /** Permission bits are checked by the kernel. @default true */
  readonly defaultPermissions?: boolean;
  /** Largest READ, bytes. @default 1048576 */
  readonly maxRead?: number;
  /** A directory with files in it may be covered. @default false */
  readonly nonEmpty?: boolean;
  /**
   * Whatever is mounted at the target is covered without being looked at: a dead mount, above all. Unmounted, it would stay for ever
   * in the namespaces of running containers; covered, the new mount reaches them. @default false
   */
  readonly onTop?: boolean;
  /** Only for tests: as if not privileged. */
  readonly unprivileged?: boolean;
}

/**
 * The absolute, real path of a mount target, without touching the target itself: what is mounted there may be dead, and
 * then even stat fails.
 */
export async function realTarget(target: string): Promise<string> {
  const absolute = join(process.cwd(), target.startsWith('/') ? '/' : '', target);
  const path = target.startsWith('/') ? join('/', target) : absolute;
  if (path === '/') throw new UserError('MOUNT_TARGET', 'the root directory cannot be mounted on');
  const clean = path.endsWith('/') ? path.slice(0, -1) : path;
  try {
    if (mountsAt(clean).length > 0) return clean;
    return await realpath(clean);
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw targetError(clean, error);
    try {
      return join(await realpath(dirname(clean)), basename(clean));
    } catch (cause) {
      throw targetError(clean, cause);
    }
  }
}

function targetError(target: string, cause: unknown): UserError {
  return new UserError('MOUNT_TARGET', `cannot use ${target} as a mount point: ${messageOf(cause)}`, {
    cause,
    hint: `create the directory first: mkdir -p ${target}`,
  });
}

async function checkTarget(options: MountOptions): Promise<void> {
  const { target } = options;
  if (options.onTop && mountsAt(target).length > 0) return;
  const info = await stat(target).catch((error: unknown) => {
    throw targetError(target, error);
  });
  if (!info.isDirectory())
    throw new UserError('MOUNT_TARGET', `cannot mount at ${target}: it is not a directory`, { hint: 'name a directory' });
  if (options.nonEmpty) return;
  const names = await readdir(target);
  if (names.length > 0)
    throw new UserError('MOUNT_TARGET', `cannot mount at ${target}: it is not empty (${names.length} entries would be hidden)`, {
      hint: 'name an empty directory, or allow a directory that is not empty',
    });
}

/** Opens /dev/fuse for a new session. */
function openDevice(path = '/dev/fuse'): number {
  try {
    return openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  } catch (cause) {
    if (isErrno(cause, 'ENOENT', 'ENODEV', 'ENXIO'))
      throw new UserError(
        'FUSE_MISSING',
        `${path} is not there: the kernel has no FUSE, or this container was not given the device`,
        {
          cause,
          hint: 'load the module (modprobe fuse); in a container, run privileged or pass the device in',
        },
      );
    throw new UserError('FUSE_DENIED', `${path} cannot be opened: ${messageOf(cause)}`, {
      cause,
      hint: 'run as root or in a privileged container, or install fuse3 so that fusermount3 can do it',
    });
  }
}

/**
 * Mounts and returns the descriptor of the new session, non-blocking. The caller serves it (INIT is waiting already).
 * Throws UserError where it cannot be.
 */
export async function mount(options: MountOptions, signal?: AbortSignal): Promise<number> {
  await checkTarget(options);
  const root = process.geteuid?.() === 0 && !options.unprivileged;
  return root ? await mountPrivileged(options) : await mountByHelper(options, signal);
}

async function mountPrivileged(options: MountOptions): Promise<number> {
  const { target, source = 'Juicepod', readOnly = false, allowOther = true, defaultPermissions = true } = options;
  const fd = openDevice();
  const data = [
    `fd=${fd}`,
    'rootmode=40000',
    `user_id=${process.geteuid?.() ?? 0}`,
    `group_id=${process.getegid?.() ?? 0}`,
    `max_read=${options.maxRead ?? 1 << 20}`,
    ...(defaultPermissions ? ['default_permissions'] : []),
    ...(allowOther ? ['allow_other'] : []),
  ].join(',');
  const flags = MountFlag.NOSUID | MountFlag.NODEV | (readOnly ? MountFlag.RDONLY : 0);
  try {
    await mountAt(source, target, FUSE_TYPE, flags, data);
    return fd;
  } catch (cause) {
    closeSync(fd);
    if (isErrno(cause, 'EPERM', 'EACCES'))
      throw new UserError('MOUNT_DENIED', `not permitted to mount at ${target}: mounting needs CAP_SYS_ADMIN`, {
        cause,
        hint: 'run as root with CAP_SYS_ADMIN (in Kubernetes: privileged), or as an ordinary user with fuse3 installed',
      });
    if (isErrno(cause, 'ENODEV'))
      throw new UserError('FUSE_MISSING', 'the kernel has no FUSE', { cause, hint: 'load the module: modprobe fuse' });
    throw new UserError('MOUNT_FAILED', `mounting at ${target} failed: ${messageOf(cause)}`, { cause });
  }
}

interface Ended {
  readonly code: number;
  readonly errors: string;
}

/** Runs fusermount3; `channel` becomes its descriptor 3. */
function fusermount(args: readonly string[], channel?: number, signal?: AbortSignal): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn('fusermount3', args, {
      env: { ...process.env, _FUSE_COMMFD: '3' },
      stdio: ['ignore', 'ignore', 'pipe', channel ?? 'ignore'],
      ...(signal && { signal }),
    });
    let errors = '';
    child.stderr?.on('data', (data: Buffer) => (errors = (errors + data.toString()).slice(-1000)));
    child.once('error', (cause) =>
      reject(
        isErrno(cause, 'ENOENT')
          ? new UserError('FUSERMOUNT_MISSING', 'mounting without privilege needs fusermount3, which is not installed', {
              cause,
              hint: 'install the package fuse3, or run as root',
            })
          : cause,
      ),
    );
    child.once('close', (code) => resolve({ code: code ?? -1, errors: errors.trim() }));
  });
}

async function mountByHelper(options: MountOptions, signal?: AbortSignal): Promise<number> {
  const { target, source = 'Juicepod', readOnly = false, allowOther = false, defaultPermissions = true } = options;
  const escape = (text: string): string => text.replaceAll(/[\\,]/g, String.raw`\$&`);
  const list = [
    `fsname=${escape(source)}`,
    'subtype=juicepod',
    'nosuid',
    'nodev',
    `max_read=${options.maxRead ?? 1 << 20}`,
    ...(readOnly ? ['ro'] : []),
    ...(defaultPermissions ? ['default_permissions'] : []),
    ...(allowOther ? ['allow_other'] : []),
  ].join(',');
  const [ours, theirs] = socketPair();
  try {
    const { code, errors } = await fusermount(['-o', list, '--', target], theirs, signal);
    if (code !== 0)
      throw new UserError('MOUNT_DENIED', `fusermount3 could not mount at ${target}: ${errors || `exit code ${code}`}`, {
        hint: 'the directory must belong to you; "allow_other" needs user_allow_other in /etc/fuse.conf; /dev/fuse must exist',
      });
    const [fd] = receive(ours, Buffer.alloc(1)).descriptors;
    if (fd === undefined) throw new UserError('MOUNT_FAILED', `fusermount3 gave no descriptor for ${target}`);
    setNonBlocking(fd);
    return fd;
  } finally {
    closeSync(ours);
    closeSync(theirs);
  }
}

/**
 * Ends the mount at a target. `lazy`: it leaves the tree at once and ends when its last user does; else EBUSY where it is
 * in use. A target with no mount is left alone.
 */
export async function unmount(target: string, options: { readonly lazy?: boolean } = {}): Promise<void> {
  const { lazy = true } = options;
  if (mountsAt(target).length === 0) return;
  try {
    return await unmountAt(target, { lazy });
  } catch (cause) {
    if (isErrno(cause, 'EINVAL', 'ENOENT')) return;
    if (isErrno(cause, 'EBUSY'))
      throw new UserError('MOUNT_BUSY', `${target} is in use`, {
        cause,
        hint: 'end the programs that use it, or unmount lazily',
      });
    if (!isErrno(cause, 'EPERM')) throw cause;
  }
  const { code, errors } = await fusermount(['-u', '-q', ...(lazy ? ['-z'] : []), '--', target]);
  if (code !== 0 && mountsAt(target).length > 0)
    throw new UserError('UNMOUNT_DENIED', `not permitted to unmount ${target}: ${errors || `fusermount3 ended with ${code}`}`, {
      hint: 'unmount as the user who mounted, or as root',
    });
}

/** True for a FUSE mount of any kind. */
export const isFuse = (entry: MountEntry): boolean => entry.type === 'fuse' || entry.type.startsWith('fuse.');

/** The state of the topmost mount at a target: nothing there, served by somebody, or without a server. */
export async function mountState(target: string, timeoutMs = 5000): Promise<'none' | 'alive' | 'dead'> {
  const top = mountsAt(target).at(-1);
  if (!top || !isFuse(top)) return 'none';
  // statfs always asks the server, where stat may be answered from the kernel's cache. One that does not answer is not
  // dead: somebody holds its descriptor.
  const answer = statfs(target).then(
    () => 'alive' as const,
    (error: unknown) => (isErrno(error, 'ENOTCONN', 'ECONNABORTED', 'EIO') ? ('dead' as const) : ('alive' as const)),
  );
  const late = Promise.withResolvers<'alive'>();
  const timer = setTimeout(() => late.resolve('alive'), timeoutMs);
  try {
    return await Promise.race([answer, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** Takes away FUSE mounts at a target whose servers are gone. Returns how many there were. */
export async function clearDead(target: string): Promise<number> {
  let cleared = 0;
  while ((await mountState(target)) === 'dead') {
    await unmount(target);
    cleared++;
  }
  return cleared;
}

/** Lets the kernel read ahead so far in files of the mount; without the right to, it stays as it was. */
export function raiseReadAhead(target: string, kib: number): boolean {
  const top = mountsAt(target).at(-1);
  if (!top) return false;
  try {
    writeFileSync(`/sys/class/bdi/${top.device}/read_ahead_kb`, String(kib));
    return true;
  } catch {
    return false;
  }
}

/**
 * Ends the session at a target by force: everybody who waits for it gets an error. Where the mount is in use it stays, dead,
 * else it goes too. (The same as writing to `abort` in /sys/fs/fuse/connections, which need not be mounted.)
 */
export async function abortSession(target: string): Promise<void> {
  await unmountAt(target, { lazy: false, force: true }).catch((error: unknown) => {
    if (!isErrno(error, 'EBUSY', 'EINVAL')) throw error;
  });
}
