/**
 * A file system called as the kernel calls it, without one: each method sends one request and resolves with its answer, or
 * rejects with an `Errno`. Data is copied when it is answered (its buffer is the file system's again), and every request must
 * be answered exactly once.
 */
import type {
  FileSystem,
  FuseAttr,
  FuseEntry,
  FuseLock,
  FuseOpened,
  FuseRequest,
  FuseSetAttr,
  FuseStatFs,
  Reply,
} from '../../src/fuse/types.ts';
import { errnoName, toErrno } from '../../src/lib/errors.ts';
import { type Ino, ROOT_INO } from '../../src/lib/int64.ts';

export class Errno extends Error {
  override readonly name = 'Errno';
  readonly code: string;

  constructor(code: string, cause?: unknown) {
    super(code, { cause });
    this.code = code;
  }
}

export interface Listed {
  readonly name: string;
  readonly ino: Ino;
  readonly offset: number;
  /** Present where the kernel was given attributes (READDIRPLUS). */
  readonly entry: FuseEntry | undefined;
}

interface Answer {
  entry?: FuseEntry;
  attr?: FuseAttr;
  opened?: FuseOpened;
  data?: Buffer;
  written?: number;
  statfs?: FuseStatFs;
  size?: number;
  negative?: number;
  listed?: Listed[];
  lock?: FuseLock;
  forgetAttributes?: boolean;
}

export interface LockOptions {
  readonly start?: bigint;
  readonly end?: bigint;
  readonly wait?: boolean;
  readonly pid?: number;
  readonly signal?: AbortSignal;
}

type Call = (request: FuseRequest, reply: Reply) => void | Promise<void>;

export const OWNER = { uid: 0, gid: 0, pid: 4242 };

export class TestKernel {
  readonly fileSystem: FileSystem;
  #unique = 0;

  constructor(fileSystem: FileSystem) {
    this.fileSystem = fileSystem;
  }

  lookup(parent: Ino, name: string): Promise<FuseEntry> {
    return this.#entry((request, reply) => this.fileSystem.lookup(request, reply, parent, Buffer.from(name)));
  }

  /** The lifetime of "no such name", or undefined where the name was found. */
  async negative(parent: Ino, name: string): Promise<number | undefined> {
    return (await this.#send((request, reply) => this.fileSystem.lookup(request, reply, parent, Buffer.from(name)))).negative;
  }

  async getattr(ino: Ino): Promise<FuseAttr> {
    return required((await this.#send((request, reply) => this.fileSystem.getattr(request, reply, ino, undefined))).attr);
  }

  async setattr(ino: Ino, set: FuseSetAttr): Promise<FuseAttr> {
    return required((await this.#send((request, reply) => this.fileSystem.setattr(request, reply, ino, set))).attr);
  }

  async create(parent: Ino, name: string, flags = 0o2): Promise<{ readonly ino: Ino; readonly handle: number }> {
    const answer = await this.#send((request, reply) =>
      this.fileSystem.create(request, reply, parent, Buffer.from(name), flags, 0o100644, 0o022),
    );
    return { ino: required(answer.entry).attr.ino, handle: required(answer.opened).handle };
  }

  /** open(2) with O_TMPFILE. */
  async tmpfile(parent: Ino): Promise<{ readonly ino: Ino; readonly handle: number; readonly attr: FuseAttr }> {
    const answer = await this.#send((request, reply) => this.fileSystem.tmpfile?.(request, reply, parent, 0o2, 0o100600, 0o022));
    const { attr } = required(answer.entry);
    return { ino: attr.ino, attr, handle: required(answer.opened).handle };
  }

  async ioctl(ino: Ino, command: number, input: Buffer, size: number): Promise<Buffer> {
    const answer = await this.#send((request, reply) => this.fileSystem.ioctl?.(request, reply, ino, 0, command, input, size));
    return required(answer.data);
  }

  mkdir(parent: Ino, name: string): Promise<FuseEntry> {
    return this.#entry((request, reply) => this.fileSystem.mkdir(request, reply, parent, Buffer.from(name), 0o755, 0o022));
  }

  symlink(parent: Ino, name: string, target: string): Promise<FuseEntry> {
    return this.#entry((request, reply) =>
      this.fileSystem.symlink(request, reply, parent, Buffer.from(name), Buffer.from(target)),
    );
  }

  mknod(parent: Ino, name: string, mode: number): Promise<FuseEntry> {
    return this.#entry((request, reply) => this.fileSystem.mknod(request, reply, parent, Buffer.from(name), mode, 0, 0o022));
  }

  link(ino: Ino, parent: Ino, name: string): Promise<FuseEntry> {
    return this.#entry((request, reply) => this.fileSystem.link(request, reply, ino, parent, Buffer.from(name)));
  }

  async readlink(ino: Ino): Promise<string> {
    return required((await this.#send((request, reply) => this.fileSystem.readlink(request, reply, ino))).data).toString();
  }

  async unlink(parent: Ino, name: string): Promise<void> {
    await this.#send((request, reply) => this.fileSystem.unlink(request, reply, parent, Buffer.from(name)));
  }

  async rmdir(parent: Ino, name: string): Promise<void> {
    await this.#send((request, reply) => this.fileSystem.rmdir(request, reply, parent, Buffer.from(name)));
  }

  async rename(parent: Ino, name: string, newParent: Ino, newName: string, flags = 0): Promise<void> {
    await this.#send((request, reply) =>
      this.fileSystem.rename(request, reply, parent, Buffer.from(name), newParent, Buffer.from(newName), flags),
    );
  }

  async open(ino: Ino, flags = 0o2): Promise<FuseOpened> {
    return required((await this.#send((request, reply) => this.fileSystem.open(request, reply, ino, flags))).opened);
  }

  async read(ino: Ino, handle: number, offset: number, size: number, signal?: AbortSignal): Promise<Buffer> {
    return required(
      (await this.#send((request, reply) => this.fileSystem.read(request, reply, ino, handle, offset, size), signal)).data,
    );
  }

  async write(ino: Ino, handle: number, offset: number, data: Buffer | string, killSuidGid = false): Promise<number> {
    // A view that is overwritten once the answer is there, as the transport's request buffer is.
    const view = Buffer.from(data);
    const answer = await this.#send((request, reply) =>
      this.fileSystem.write(request, reply, ino, handle, offset, view, killSuidGid),
    );
    view.fill(0xdd);
    return required(answer.written);
  }

  async flush(ino: Ino, handle: number, owner = 0n): Promise<void> {
    await this.#send((request, reply) => this.fileSystem.flush(request, reply, ino, handle, owner));
  }

  async fsync(ino: Ino, handle: number): Promise<void> {
    await this.#send((request, reply) => this.fileSystem.fsync(request, reply, ino, handle, false));
  }

  /** `flock`: the owner of the open file, where it was ever asked for a flock. */
  async release(ino: Ino, handle: number, flock?: bigint): Promise<void> {
    await this.#send((request, reply) =>
      this.fileSystem.release(request, reply, ino, handle, 0, flock ?? 0n, flock !== undefined),
    );
  }

  /** Locks bytes, or unlocks them (type 2). True where the kernel was told to ask for the file's attributes anew. */
  async setlk(
    ino: Ino,
    handle: number,
    owner: bigint,
    type: number,
    { start = 0n, end = 0x7fff_ffff_ffff_ffffn, wait = false, pid = OWNER.pid, signal }: LockOptions = {},
  ): Promise<boolean> {
    const lock = { type, start, end, pid };
    const answer = await this.#send(
      (request, reply) => this.fileSystem.setlk?.(request, reply, ino, handle, owner, lock, wait),
      signal,
    );
    return answer.forgetAttributes ?? false;
  }

  async getlk(ino: Ino, handle: number, owner: bigint, type: number, start = 0n, end = start): Promise<FuseLock> {
    const lock = { type, start, end, pid: OWNER.pid };
    return required(
      (await this.#send((request, reply) => this.fileSystem.getlk?.(request, reply, ino, handle, owner, lock))).lock,
    );
  }

  async flock(ino: Ino, handle: number, owner: bigint, type: number, wait = false, signal?: AbortSignal): Promise<void> {
    await this.#send((request, reply) => this.fileSystem.flock?.(request, reply, ino, handle, owner, type, wait), signal);
  }

  async fallocate(ino: Ino, handle: number, offset: number, length: number, mode: number): Promise<void> {
    await this.#send((request, reply) => this.fileSystem.fallocate?.(request, reply, ino, handle, offset, length, mode));
  }

  async copyFileRange(
    from: { readonly ino: Ino; readonly handle: number; readonly offset: number },
    to: { readonly ino: Ino; readonly handle: number; readonly offset: number },
    length: number,
  ): Promise<number> {
    const answer = await this.#send((request, reply) =>
      this.fileSystem.copyFileRange?.(request, reply, from.ino, from.handle, from.offset, to.ino, to.handle, to.offset, length),
    );
    return required(answer.written);
  }

  /** Where the first data, or hole, is from `offset` on. */
  async seek(ino: Ino, handle: number, offset: number, want: 'data' | 'hole'): Promise<number> {
    const whence = want === 'data' ? 3 : 4;
    return required(
      (await this.#send((request, reply) => this.fileSystem.lseek?.(request, reply, ino, handle, offset, whence))).size,
    );
  }

  async opendir(ino: Ino): Promise<number> {
    return required((await this.#send((request, reply) => this.fileSystem.opendir(request, reply, ino, 0))).opened).handle;
  }

  /** One READDIR or READDIRPLUS, in a buffer of so many entries. */
  async readdir(ino: Ino, handle: number, offset: number, room = 1000, plus = true): Promise<Listed[]> {
    const listed: Listed[] = [];
    const add = (name: Buffer, entryIno: Ino, at: number, entry?: FuseEntry): boolean => {
      if (listed.length >= room) return false;
      listed.push({ name: name.toString(), ino: entryIno, offset: at, entry });
      return true;
    };
    await this.#send(
      (request, reply) => this.fileSystem.readdir(request, reply, ino, handle, offset, Math.max(room * 160, 160), plus),
      undefined,
      {
        add: (name, entryIno, _type, at) => add(name, entryIno, at),
        addPlus: (name, entry, at) => add(name, entry.attr.ino, at, entry),
      },
    );
    return listed;
  }

  async releasedir(ino: Ino, handle: number): Promise<void> {
    await this.#send((request, reply) => this.fileSystem.releasedir(request, reply, ino, handle));
  }

  /** Names of a directory, as an application lists it; without `.` and `..`. */
  async list(ino: Ino, room = 1000): Promise<string[]> {
    const handle = await this.opendir(ino);
    const names: string[] = [];
    for (let offset = 0; ;) {
      const batch = await this.readdir(ino, handle, offset, room);
      if (batch.length === 0) break;
      names.push(...batch.map(({ name }) => name));
      offset = batch.at(-1)?.offset ?? offset;
    }
    await this.releasedir(ino, handle);
    return names.filter((name) => name !== '.' && name !== '..');
  }

  async statfs(): Promise<FuseStatFs> {
    return required((await this.#send((request, reply) => this.fileSystem.statfs(request, reply, ROOT_INO))).statfs);
  }

  async setxattr(ino: Ino, name: string, value: Buffer | string, flags = 0): Promise<void> {
    const view = Buffer.from(value);
    await this.#send((request, reply) => this.fileSystem.setxattr?.(request, reply, ino, name, view, flags));
    view.fill(0xdd);
  }

  async getxattr(ino: Ino, name: string, size: number): Promise<Buffer | number> {
    const answer = await this.#send((request, reply) => this.fileSystem.getxattr?.(request, reply, ino, name, size));
    return answer.data ?? required(answer.size);
  }

  async listxattr(ino: Ino, size: number): Promise<Buffer | number> {
    const answer = await this.#send((request, reply) => this.fileSystem.listxattr?.(request, reply, ino, size));
    return answer.data ?? required(answer.size);
  }

  async removexattr(ino: Ino, name: string): Promise<void> {
    await this.#send((request, reply) => this.fileSystem.removexattr?.(request, reply, ino, name));
  }

  async #entry(call: Call): Promise<FuseEntry> {
    return required((await this.#send(call)).entry);
  }

  #send(call: Call, signal?: AbortSignal, sink?: Reply['sink']): Promise<Answer> {
    const request: FuseRequest = {
      unique: ++this.#unique,
      ...OWNER,
      resent: false,
      signal: signal ?? new AbortController().signal,
      park() {},
    };
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    let answers = 0;
    const give = (answer: Answer): void => {
      if (++answers > 1) throw new Error('a request was answered twice');
      resolve(answer);
    };
    const fail = (code: string, cause?: unknown): void => {
      if (++answers > 1) throw new Error(`a request was answered twice, then with ${code}`);
      reject(new Errno(code, cause));
    };
    const reply: Reply = {
      get answered() {
        return answers > 0;
      },
      code: 0,
      bytes: 0,
      sink: sink ?? { add: () => false, addPlus: () => false },
      error: (code) => fail(errnoName(code)),
      ok: (forgetAttributes = false) => give({ forgetAttributes }),
      entry: (entry) => give({ entry }),
      negative: (negative) => give({ negative }),
      attr: (attr) => give({ attr }),
      opened: (opened) => give({ opened }),
      created: (entry, opened) => give({ entry, opened }),
      data: (data) => give({ data: Buffer.from(data) }),
      dataParts: (parts) => give({ data: Buffer.concat(parts) }),
      written: (written) => give({ written }),
      statfs: (statfs) => give({ statfs }),
      xattrSize: (size) => give({ size }),
      lseek: (size) => give({ size }),
      directory: () => give({}),
      lock: (lock) => give({ lock }),
      ioctl: (output) => give({ data: output }),
    };
    const thrown = (error: unknown): void => fail(errnoName(toErrno(error)), error);
    try {
      const running = call(request, reply);
      if (running) running.then(() => answers === 0 && reject(new Error('a request ended without an answer')), thrown);
      else if (answers === 0) reject(new Error('a request ended without an answer'));
    } catch (error) {
      thrown(error);
    }
    return promise;
  }
}

function required<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('the answer is of another kind');
  return value;
}

/** For assert.rejects: the request was answered with this errno. */
export const refused = (code: string) => (error: unknown) => {
  if (error instanceof Errno && error.code === code) return true;
  throw error;
};
