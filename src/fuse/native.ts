/**
 * The second transport: `fuse-native` (libfuse 2), for machines without /dev/fuse, such as macOS with macFUSE. It calls by
 * path, so each call walks the tree by LOOKUP, and gives the references back when it is done; open files keep theirs.
 *
 * What libfuse 2's path calls do not carry is missing: the caller's identity (calls come as the user of this process), renames
 * with flags, interruption, notifications, locks, take-over by another process. Optional; loaded only when used.
 */
import { errno as errnos, FsError, messageOf, toErrno, UserError } from '../lib/errors.ts';
import { type Ino, ROOT_INO } from '../lib/int64.ts';
import type { Logger } from '../lib/log.ts';
import { mountsAt } from './mountinfo.ts';
import { type Outcome, ValueReply } from './native-reply.ts';
import type { FileSystem, FuseAttr, FuseRequest, FuseSetAttr, FuseTransport, Reply, ServeEnd } from './types.ts';

/** Answers a call of fuse-native: 0 or a negative errno, then the value; READ and WRITE give the bytes instead of 0. */
type Done = (result: number, value?: unknown) => void;
type Handler = (...args: never[]) => void;
type Ask = (request: FuseRequest, reply: Reply) => void | Promise<void>;

interface NativeFuse {
  mount(done: (error: Error | null) => void): void;
  unmount(done: (error: Error | null) => void): void;
}
type NativeClass = new (target: string, handlers: Readonly<Record<string, Handler>>, options: object) => NativeFuse;

export interface NativeOptions {
  /** An existing, empty directory. */
  readonly target: string;
  readonly log: Logger;
  readonly onMounted?: () => void;
}

/** Loads the library. Throws UserError where it is not installed or does not load. */
export async function loadNative(): Promise<NativeClass> {
  try {
    const name = 'fuse-native';
    return ((await import(name)) as { default: NativeClass }).default;
  } catch (cause) {
    throw new UserError('FUSE_NATIVE', `fuse-native cannot be loaded: ${messageOf(cause)}`, {
      cause,
      hint: 'npm install fuse-native, and libfuse 2 (Debian: libfuse2, macOS: macFUSE); on Linux the raw transport needs neither',
    });
  }
}

interface Open {
  readonly ino: Ino;
  readonly handle: number;
  readonly flags: number;
}

/** How often it is looked whether the mount is still there, since libfuse does not say, ms. */
const LOOK_MS = 200;
const LISTING_BYTES = 128 << 10;
const O_RDWR = 2;

export class NativeTransport implements FuseTransport {
  readonly name = 'fuse-native';
  readonly notifier = {
    invalidateInode: (_ino: Ino, _offset: number, _length: number, done?: () => void): void => done?.(),
    invalidateEntry: (_parent: Ino, _name: Buffer, done?: () => void): void => done?.(),
  };
  readonly #options: NativeOptions;
  readonly #open = new Map<number, Open>();
  #nextId = 1;
  #unique = 1;

  constructor(options: NativeOptions) {
    this.#options = options;
  }

  /** As the seam says, but stopping ends the mount, since nobody can take it over. */
  async serve(fs: FileSystem, signal?: AbortSignal): Promise<ServeEnd> {
    const { target, onMounted } = this.#options;
    const Fuse = await loadNative();
    const root = process.geteuid?.() === 0;
    const fuse = new Fuse(target, this.#handlers(fs), {
      // Ours are the deadlines; 0 would not do.
      timeout: false,
      allowOther: root,
      defaultPermissions: true,
      fsname: 'Juicepod',
      subtype: 'juicepod',
    });
    await new Promise<void>((resolve, reject) => fuse.mount((error) => (error ? reject(error) : resolve())));
    onMounted?.();
    const ended = Promise.withResolvers<ServeEnd>();
    const looking = setInterval(() => {
      if (process.platform === 'linux' && mountsAt(target).length === 0) ended.resolve('unmounted');
    }, LOOK_MS);
    const stop = (): void => fuse.unmount((error) => (error ? ended.reject(error) : ended.resolve('stopped')));
    if (signal?.aborted) stop();
    else signal?.addEventListener('abort', stop, { once: true });
    try {
      const end = await ended.promise;
      if (end === 'unmounted') fs.destroy?.();
      return end;
    } finally {
      clearInterval(looking);
      signal?.removeEventListener('abort', stop);
    }
  }

  /** One call of the file system as a promise; rejects with the errno. */
  async #ask(ask: Ask, limit = 0): Promise<Outcome> {
    const outcome = await new Promise<Outcome>((resolve, reject) => {
      const request: FuseRequest = {
        unique: this.#unique++,
        uid: process.geteuid?.() ?? 0,
        gid: process.getegid?.() ?? 0,
        pid: 0,
        resent: false,
        signal: new AbortController().signal,
        park() {},
      };
      const answer = ask(request, new ValueReply(limit, resolve));
      if (answer) answer.catch(reject);
    });
    if (outcome.errno !== 0) throw new Refusal(outcome.errno);
    return outcome;
  }

  /** Walks to a path; the references are given back after `use`, but for the last one if that calls `keep`. */
  async #at<T>(fs: FileSystem, path: string, use: (ino: Ino, keep: () => void) => Promise<T>): Promise<T> {
    const taken: Ino[] = [];
    try {
      for (const name of path.split('/').filter(Boolean)) {
        const parent = taken.at(-1) ?? ROOT_INO;
        const { entry } = await this.#ask((request, reply) => fs.lookup(request, reply, parent, Buffer.from(name)));
        if (!entry) throw new FsError('ENOENT');
        taken.push(entry.attr.ino);
      }
      return await use(taken.at(-1) ?? ROOT_INO, () => void taken.pop());
    } finally {
      for (const ino of taken) fs.forget?.(ino, 1);
    }
  }

  /** Walks to the parent of a path. */
  #in<T>(fs: FileSystem, path: string, use: (parent: Ino, name: Buffer) => Promise<T>): Promise<T> {
    const slash = path.lastIndexOf('/');
    return this.#at(fs, path.slice(0, slash), (parent) => use(parent, Buffer.from(path.slice(slash + 1))));
  }

  /** Makes an entry; libfuse asks for its attributes by itself. */
  #make(fs: FileSystem, path: string, ask: (parent: Ino, name: Buffer) => Ask): Promise<void> {
    return this.#in(fs, path, async (parent, name) => {
      const { entry } = await this.#ask(ask(parent, name));
      if (entry) fs.forget?.(entry.attr.ino, 1);
    });
  }

  /** Numbers given to libfuse are ours, since it has 32 bits for them. */
  #remember(open: Open): number {
    const id = this.#nextId;
    this.#nextId = (this.#nextId % 0x3fff_ffff) + 1;
    this.#open.set(id, open);
    return id;
  }

  #opened(id: number): Open {
    const open = this.#open.get(id);
    if (!open) throw new FsError('EBADF');
    return open;
  }

  /** Answers with the value of an action. */
  #value(done: Done, action: () => Promise<unknown>): void {
    action().then(
      (value) => done(0, value),
      (error: unknown) => this.#refuse(done, error),
    );
  }

  /** Answers with the number of bytes of an action. */
  #count(done: Done, action: () => Promise<number>): void {
    action().then(done, (error: unknown) => this.#refuse(done, error));
  }

  #refuse(done: Done, error: unknown): void {
    done(-(error instanceof Refusal ? error.errno : toErrno(error)));
  }

  #handlers(fs: FileSystem): Readonly<Record<string, Handler>> {
    const change = (path: string, done: Done, set: FuseSetAttr): void =>
      this.#value(done, () => this.#at(fs, path, async (ino) => void (await this.#ask((r, a) => fs.setattr(r, a, ino, set)))));
    const remove =
      (which: 'unlink' | 'rmdir') =>
      (path: string, done: Done): void =>
        this.#value(done, () =>
          this.#in(fs, path, async (parent, name) => void (await this.#ask((r, a) => fs[which](r, a, parent, name)))),
        );
    const getattr = (path: string, done: Done): void =>
      this.#value(done, () =>
        this.#at(fs, path, async (ino) => statOf((await this.#ask((r, a) => fs.getattr(r, a, ino, undefined))).attr)),
      );
    return {
      getattr,
      fgetattr: (path: string, _id: number, done: Done) => getattr(path, done),
      statfs: (path: string, done: Done) => this.#value(done, () => this.#statfs(fs, path)),
      readdir: (path: string, done: Done) => this.#value(done, () => this.#at(fs, path, (ino) => this.#list(fs, ino))),
      truncate: (path: string, size: number, done: Done) => change(path, done, { size }),
      ftruncate: (path: string, _id: number, size: number, done: Done) => change(path, done, { size }),
      utimens: (path: string, atime: number, mtime: number, done: Done) =>
        change(path, done, { atime: timeOf(atime), mtime: timeOf(mtime) }),
      chown: (path: string, uid: number, gid: number, done: Done) =>
        change(path, done, { ...(isId(uid) && { uid }), ...(isId(gid) && { gid }) }),
      chmod: (path: string, mode: number, done: Done) => change(path, done, { mode: mode & 0o7777 }),
      readlink: (path: string, done: Done) =>
        this.#value(done, () =>
          this.#at(fs, path, async (ino) => (await this.#ask((r, a) => fs.readlink(r, a, ino), 4095)).data?.toString() ?? ''),
        ),
      mknod: (path: string, mode: number, device: number, done: Done) =>
        this.#value(done, () => this.#make(fs, path, (parent, name) => (r, a) => fs.mknod(r, a, parent, name, mode, device, 0))),
      mkdir: (path: string, mode: number, done: Done) =>
        this.#value(done, () => this.#make(fs, path, (parent, name) => (r, a) => fs.mkdir(r, a, parent, name, mode, 0))),
      symlink: (to: string, path: string, done: Done) =>
        this.#value(done, () =>
          this.#make(fs, path, (parent, name) => (r, a) => fs.symlink(r, a, parent, name, Buffer.from(to))),
        ),
      link: (from: string, path: string, done: Done) =>
        this.#value(done, () =>
          this.#at(fs, from, (ino) => this.#make(fs, path, (parent, name) => (r, a) => fs.link(r, a, ino, parent, name))),
        ),
      unlink: remove('unlink'),
      rmdir: remove('rmdir'),
      rename: (from: string, to: string, done: Done) =>
        this.#value(done, () =>
          this.#in(fs, from, (parent, name) =>
            this.#in(
              fs,
              to,
              async (target, newName) => void (await this.#ask((r, a) => fs.rename(r, a, parent, name, target, newName, 0))),
            ),
          ),
        ),
      open: (path: string, flags: number, done: Done) =>
        this.#value(done, () =>
          this.#at(fs, path, async (ino, keep) => {
            const { opened } = await this.#ask((r, a) => fs.open(r, a, ino, flags));
            keep();
            return this.#remember({ ino, handle: opened?.handle ?? 0, flags });
          }),
        ),
      create: (path: string, mode: number, done: Done) =>
        this.#value(done, () =>
          this.#in(fs, path, async (parent, name) => {
            const { entry, opened } = await this.#ask((r, a) => fs.create(r, a, parent, name, O_RDWR, mode, 0));
            if (!entry) throw new FsError('EIO');
            return this.#remember({ ino: entry.attr.ino, handle: opened?.handle ?? 0, flags: O_RDWR });
          }),
        ),
      read: (_path: string, id: number, into: Buffer, length: number, offset: number, done: Done) =>
        this.#count(done, async () => {
          const { ino, handle } = this.#opened(id);
          const { data } = await this.#ask((r, a) => fs.read(r, a, ino, handle, offset, length), length);
          return data?.copy(into) ?? 0;
        }),
      write: (_path: string, id: number, from: Buffer, length: number, offset: number, done: Done) =>
        this.#count(done, async () => {
          const { ino, handle } = this.#opened(id);
          const { number } = await this.#ask((r, a) => fs.write(r, a, ino, handle, offset, from.subarray(0, length), false));
          return number ?? 0;
        }),
      flush: (_path: string, id: number, done: Done) =>
        this.#value(done, async () => {
          const { ino, handle } = this.#opened(id);
          await this.#ask((r, a) => fs.flush(r, a, ino, handle, 0n));
        }),
      fsync: (_path: string, dataOnly: number, id: number, done: Done) =>
        this.#value(done, async () => {
          const { ino, handle } = this.#opened(id);
          await this.#ask((r, a) => fs.fsync(r, a, ino, handle, dataOnly !== 0));
        }),
      release: (_path: string, id: number, done: Done) =>
        this.#value(done, async () => {
          const { ino, handle, flags } = this.#opened(id);
          this.#open.delete(id);
          await this.#ask((r, a) => fs.release(r, a, ino, handle, flags, 0n, false));
          fs.forget?.(ino, 1);
        }),
    };
  }

  #statfs(fs: FileSystem, path: string): Promise<object> {
    return this.#at(fs, path, async (ino) => {
      const { statfs } = await this.#ask((r, a) => fs.statfs(r, a, ino));
      if (!statfs) throw new FsError('EIO');
      const { blocks, bfree, bavail, files, ffree, bsize, namelen } = statfs;
      return { bsize, frsize: bsize, blocks, bfree, bavail, files, ffree, favail: ffree, fsid: 0, flag: 0, namemax: namelen };
    });
  }

  async #list(fs: FileSystem, ino: Ino): Promise<string[]> {
    const { opened } = await this.#ask((r, a) => fs.opendir(r, a, ino, 0));
    const handle = opened?.handle ?? 0;
    const names: string[] = [];
    try {
      for (let offset = 0; ;) {
        const at = offset;
        const ask: Ask = (r, a) => fs.readdir(r, a, ino, handle, at, LISTING_BYTES, false);
        const { listing = [] } = await this.#ask(ask, LISTING_BYTES);
        const last = listing.at(-1);
        if (!last) return names;
        names.push(...listing.map(({ name }) => name));
        ({ offset } = last);
      }
    } finally {
      await this.#ask((r, a) => fs.releasedir(r, a, ino, handle));
    }
  }
}

/** A call was answered with an errno. */
class Refusal extends Error {
  readonly errno: number;

  constructor(errno: number) {
    super(`errno ${errno}`);
    this.errno = errno > 0 ? errno : errnos.EIO;
  }
}

/** chown's "leave it": -1, as signed or unsigned number. */
const isId = (id: number): boolean => id >= 0 && id !== 0xffff_ffff;

function timeOf(ms: number): { sec: number; nsec: number } {
  const sec = Math.floor(ms / 1000);
  return { sec, nsec: Math.round((ms - sec * 1000) * 1e6) };
}

/** The stat object of fuse-native; its times are Dates, so they end at milliseconds. */
function statOf(attr: FuseAttr | undefined): object {
  if (!attr) throw new FsError('EIO');
  const date = (sec: number, nsec: number): Date => new Date(sec * 1000 + nsec / 1e6);
  const { ino, size, blocks, mode, nlink, uid, gid, rdev, blksize } = attr;
  const times = {
    atime: date(attr.atime, attr.atimensec),
    mtime: date(attr.mtime, attr.mtimensec),
    ctime: date(attr.ctime, attr.ctimensec),
  };
  return { ino, size, blocks, mode, nlink, uid, gid, rdev, blksize, dev: 0, ...times };
}
