/**
 * A file system that counts and logs what passes through it. While nobody reads the access log, an operation costs two
 * clock readings and some additions in arrays (bench/metrics.ts); the log's line is made only when a reader is there. Reads of
 * virtual files are neither logged nor counted.
 */
import type { FileSystem, FuseAttr, FuseLock, FuseRequest, FuseSetAttr, Reply } from '../fuse/types.ts';
import { errno, errnoName, toErrno } from '../lib/errors.ts';
import { formatIno, type Ino } from '../lib/int64.ts';
import { Durations, exponential, type Family, Histogram, linear, single } from '../lib/metrics.ts';
import { type AccessLog, loggedName } from './accesslog.ts';

/** What passed through, by JuiceFS's metric names. */
export class OperationStats {
  readonly #ops = new Durations([...new Set(Object.values(operations).map(({ name }) => name))], exponential(0.00001, 1.8, 29));
  readonly #errors = new Map<string, number>();
  readonly readSizes = new Histogram(linear(4096, 4096, 32));
  readonly writtenSizes = new Histogram(linear(4096, 4096, 32));

  /** The place of an operation's name, for `done`. */
  placeOf(name: string): number {
    return this.#ops.names.indexOf(name);
  }

  done(place: number, seconds: number, code: number): void {
    this.#ops.done(place, seconds);
    if (code === 0) return;
    const name = errnoName(code);
    this.#errors.set(name, (this.#errors.get(name) ?? 0) + 1);
  }

  families(): readonly Family[] {
    const ops = this.#ops;
    const errors = this.#errors;
    return [
      {
        type: 'counter',
        name: 'fuse_ops_total',
        help: 'Operations of programs',
        samples: () => ops.samples(ops.counts, 'method'),
      },
      {
        type: 'counter',
        name: 'fuse_ops_durations_seconds',
        help: 'Time that operations of programs took, seconds',
        samples: () => ops.samples(ops.seconds, 'method'),
      },
      {
        type: 'counter',
        name: 'fuse_ops_io_errors',
        help: 'Operations that were answered with an error, also where that is in order (no such file)',
        samples: () => Array.from(errors, ([name, value]) => ({ labels: { errno: name }, value })),
      },
      single(
        'histogram',
        'fuse_ops_durations_histogram_seconds',
        'How long operations of programs took, seconds',
        () => ops.histogram,
      ),
      single('histogram', 'fuse_read_size_bytes', 'Bytes that reads brought', () => this.readSizes),
      single('histogram', 'fuse_written_size_bytes', 'Bytes of writes', () => this.writtenSizes),
    ];
  }
}

type Operation = Exclude<keyof FileSystem, 'forget' | 'destroy'>;
type Arguments = readonly unknown[];

/** Operation name in log and metrics, and how its arguments are printed. */
const operations: Readonly<
  Record<
    Operation,
    {
      readonly name: string;
      readonly print: (args: Arguments) => string;
      /** How the data of the answer is printed. @default its length */
      readonly data?: (data: Buffer) => string;
    }
  >
> = {
  lookup: { name: 'lookup', print: list },
  getattr: { name: 'getattr', print: ([ino]) => text(ino) },
  setattr: {
    name: 'setattr',
    print: ([ino, set]) => `${text(ino)}${changes(set as FuseSetAttr)}`,
  },
  readlink: { name: 'readlink', print: list, data: text },
  symlink: { name: 'symlink', print: list },
  mknod: {
    name: 'mknod',
    print: ([parent, name, mode, rdev]) => `${text(parent)},${text(name)},${modeText(mode)},0x${hex(rdev, 8)}`,
  },
  mkdir: { name: 'mkdir', print: ([parent, name, mode]) => `${text(parent)},${text(name)},${modeText(mode)}` },
  unlink: { name: 'unlink', print: list },
  rmdir: { name: 'rmdir', print: list },
  rename: { name: 'rename', print: list },
  link: { name: 'link', print: list },
  open: { name: 'open', print: ([ino, flags]) => `${text(ino)},0x${Number(flags).toString(16)}` },
  create: { name: 'create', print: ([parent, name, , mode]) => `${text(parent)},${text(name)},${modeText(mode)}` },
  read: { name: 'read', print: ([ino, handle, offset, size]) => list([ino, size, offset, handle]) },
  write: { name: 'write', print: ([ino, handle, offset, data]) => list([ino, (data as Buffer).length, offset, handle]) },
  flush: {
    name: 'flush',
    print: ([ino, handle, owner]) => `${list([ino, handle])},${owner16(owner)}`,
  },
  fsync: { name: 'fsync', print: ([ino, , dataOnly]) => `${text(ino)},${dataOnly ? 1 : 0}` },
  release: { name: 'release', print: ([ino, handle]) => list([ino, handle]) },
  opendir: { name: 'opendir', print: ([ino]) => text(ino) },
  readdir: { name: 'readdir', print: ([ino, , offset, size, plus]) => list([ino, size, offset, plus]) },
  releasedir: { name: 'releasedir', print: ([ino]) => text(ino) },
  fsyncdir: { name: 'fsyncdir', print: ([ino]) => text(ino) },
  statfs: { name: 'statfs', print: list },
  access: { name: 'access', print: list },
  getxattr: { name: 'getxattr', print: list },
  setxattr: { name: 'setxattr', print: ([ino, name, value, flags]) => list([ino, name, (value as Buffer).length, flags]) },
  listxattr: { name: 'listxattr', print: list },
  removexattr: { name: 'removexattr', print: list },
  fallocate: { name: 'fallocate', print: ([ino, , offset, length, mode]) => list([ino, mode, offset, length]) },
  lseek: { name: 'lseek', print: list },
  ioctl: {
    name: 'ioctl',
    print: ([ino, , command, input, size]) => `${text(ino)},0x${hex(command)},${(input as Buffer).length},${Number(size)}`,
  },
  copyFileRange: { name: 'copy_file_range', print: list },
  tmpfile: { name: 'create', print: ([parent, , mode]) => `${text(parent)},,${modeText(mode)}` },
  getlk: { name: 'getlk', print: ([ino, handle, owner]) => `${list([ino, handle])},${owner16(owner)}` },
  setlk: {
    name: 'setlk',
    print: ([ino, handle, owner, lock, wait]) => {
      const { start, end, type, pid } = lock as FuseLock;
      return `${list([ino, handle])},${owner16(owner)},${list([start, end, lockTypes[type] ?? 'X', wait, pid])}`;
    },
  },
  flock: {
    name: 'flock',
    print: ([ino, handle, owner, type, wait]) =>
      `${list([ino, handle])},${owner16(owner)},${flockTypes[Number(type)] ?? ''},${String(wait)}`,
  },
};

function text(value: unknown): string {
  if (Buffer.isBuffer(value)) return loggedName(value);
  if (typeof value === 'number') return value < 0 ? formatIno(value as Ino) : String(value);
  if (typeof value === 'string' || typeof value === 'bigint' || typeof value === 'boolean') return String(value);
  return JSON.stringify(value);
}

const lockTypes = ['R', 'W', 'U'];
const flockTypes = ['LOCKSH', 'LOCKEX', 'UNLOCK'];

function owner16(owner: unknown): string {
  return (owner as bigint).toString(16).toUpperCase().padStart(16, '0');
}

function list(args: Arguments): string {
  return args.map(text).join(',');
}

function hex(value: unknown, digits = 1): string {
  return Number(value).toString(16).toUpperCase().padStart(digits, '0');
}

/** `-rw-r--r--:0100644` */
function modeText(mode: unknown, mask = 0o177777): string {
  return `${symbolic(Number(mode))}:0${(Number(mode) & mask).toString(8).padStart(4, '0')}`;
}

/** `[0],0x1,[mode=-rw-------:00600]`: the handle, which members are set (bits as in the request), and their values. */
function changes({ mode, uid, gid, size, atime, mtime, handle, killSuidGid }: FuseSetAttr): string {
  const time = (value: FuseSetAttr['atime']): string => (value === 'now' ? 'NOW' : String(value?.sec));
  const members: readonly (readonly [number, boolean, string])[] = [
    [0x1, mode !== undefined, `mode=${modeText(mode, 0o7777)}`],
    [0x2, uid !== undefined, `uid=${uid}`],
    [0x4, gid !== undefined, `gid=${gid}`],
    [atime === 'now' ? 0x90 : 0x10, atime !== undefined, `atime=${time(atime)}`],
    [mtime === 'now' ? 0x120 : 0x20, mtime !== undefined, `mtime=${time(mtime)}`],
    [0x8, size !== undefined, `size=${size}`],
    [0x40, handle !== undefined, ''],
    [0x800, killSuidGid === true, ''],
  ];
  const set = members.filter(([, isSet]) => isSet);
  const bits = set.reduce((sum, [bit]) => sum | bit, 0);
  const values = set.map(([, , value]) => value).filter((value) => value !== '');
  return `[${handle ?? 0}],0x${hex(bits)},[${values.join(',')}]`;
}

function attributes(attr: FuseAttr): string {
  const { mode, nlink, uid, gid, atime, mtime, ctime, size } = attr;
  return `(${formatIno(attr.ino)},[${symbolic(mode)}:0${mode.toString(8).padStart(6, '0')},${nlink},${uid},${gid},${atime},${mtime},${ctime},${size}])`;
}

/** `-rw-r--r--` */
export function symbolic(mode: number): string {
  const kind =
    { 0o100000: '-', 0o040000: 'd', 0o120000: 'l', 0o010000: 'p', 0o060000: 'b', 0o020000: 'c', 0o140000: 's' }[
      mode & 0o170000
    ] ?? '?';
  const bits = Array.from('rwxrwxrwx', (letter, index) => (mode & (0o400 >> index) ? letter : '-'));
  if (mode & 0o4000) bits[2] = bits[2] === 'x' ? 's' : 'S';
  if (mode & 0o2000) bits[5] = bits[5] === 'x' ? 's' : 'S';
  if (mode & 0o1000) bits[8] = bits[8] === 'x' ? 't' : 'T';
  return kind + bits.join('');
}

/** Remembers what was answered, for the log line. */
function recording(
  reply: Reply,
  seen: (result: string, code: number) => void,
  printData: (data: Buffer) => string = (data) => String(data.length),
): Reply {
  let listed = 0;
  const counted = (taken: boolean): boolean => {
    if (taken) listed++;
    return taken;
  };
  const on = (result: string, send: () => void, code = 0): void => {
    send();
    seen(result, code);
  };
  return {
    sink: {
      add: (...entry) => counted(reply.sink.add(...entry)),
      addPlus: (...entry) => counted(reply.sink.addPlus(...entry)),
    },
    get answered() {
      return reply.answered;
    },
    get code() {
      return reply.code;
    },
    get bytes() {
      return reply.bytes;
    },
    error: (code) => on('', () => reply.error(code), code),
    ok: (forget) => on('', () => reply.ok(forget)),
    entry: (entry) => on(`: ${attributes(entry.attr)}`, () => reply.entry(entry)),
    negative: (timeout) => on('', () => reply.negative(timeout), errno.ENOENT),
    attr: (attr, timeout) => on(`: ${attributes(attr)}`, () => reply.attr(attr, timeout)),
    opened: (opened) => on(` [fh:${opened.handle}]`, () => reply.opened(opened)),
    created: (entry, opened) => on(`: ${attributes(entry.attr)} [fh:${opened.handle}]`, () => reply.created(entry, opened)),
    data: (data) => on(`: (${printData(data)})`, () => reply.data(data)),
    dataParts: (parts) => on(`: (${parts.reduce((sum, part) => sum + part.length, 0)})`, () => reply.dataParts(parts)),
    lock: (lock) => on('', () => reply.lock(lock)),
    written: (bytes) => on('', () => reply.written(bytes)),
    statfs: (value) =>
      on(
        `: (${(value.blocks - value.bavail) * value.bsize},${value.bavail * value.bsize},${value.files - value.ffree},${value.ffree})`,
        () => reply.statfs(value),
      ),
    xattrSize: (bytes) => on(`: (${bytes})`, () => reply.xattrSize(bytes)),
    lseek: (offset) => on(`: (${offset})`, () => reply.lseek(offset)),
    ioctl: (output) => on(`: (${output.length})`, () => reply.ioctl(output)),
    directory: () => on(`: (${listed})`, () => reply.directory()),
  };
}

/** What stands where a failed operation would have told its result. */
const noResult: Readonly<Partial<Record<Operation, string>>> = {
  lookup: ':',
  getattr: ':',
  setattr: ':',
  mknod: ':',
  mkdir: ':',
  symlink: ':',
  link: ':',
  create: ': [fh:0]',
  opendir: ' [fh:0]',
  readdir: ': (0)',
  read: ': (0)',
  readlink: ': ()',
  getxattr: ': (0)',
  listxattr: ': (0)',
};

/** What C's strerror says of the commonest errors; the official tools print it after the dash. */
const texts: Readonly<Record<number, string>> = {
  [errno.ENOENT]: 'no such file or directory',
  [errno.EEXIST]: 'file exists',
  [errno.EACCES]: 'permission denied',
  [errno.EPERM]: 'operation not permitted',
  [errno.ENOTEMPTY]: 'directory not empty',
  [errno.EIO]: 'input/output error',
  [errno.EINVAL]: 'invalid argument',
  [errno.ENODATA]: 'no data available',
  [errno.ENOSPC]: 'no space left on device',
  [errno.EROFS]: 'read-only file system',
  [errno.EBADF]: 'bad file descriptor',
  [errno.EINTR]: 'interrupted system call',
};

/** A log that told of its own readers would never let them wait, and a read of it takes as long as nothing happens. */
const isVirtualRead = (operation: Operation, [ino]: Arguments): boolean => operation === 'read' && (ino as Ino) < 0;

/** Wraps every operation of `inner` that exists. */
export function observed(inner: FileSystem, stats: OperationStats, log: AccessLog): FileSystem {
  const outer: Record<string, unknown> = {};
  for (const key of Object.keys(operations) as Operation[]) {
    const method = inner[key] as ((request: FuseRequest, reply: Reply, ...args: unknown[]) => void | Promise<void>) | undefined;
    if (!method) continue;
    const { name, print, data } = operations[key];
    const place = stats.placeOf(name);
    const sizes = key === 'read' ? stats.readSizes : key === 'write' ? stats.writtenSizes : undefined;
    const call = method.bind(inner);
    const done = (reply: Reply, begin: number): void => {
      const { code } = reply;
      stats.done(place, (performance.now() - begin) / 1000, code);
      if (sizes && code === 0) sizes.observe(reply.bytes);
    };
    outer[key] = (request: FuseRequest, reply: Reply, ...args: unknown[]): void | Promise<void> => {
      if (isVirtualRead(key, args)) return call(request, reply, ...args);
      const begin = performance.now();
      let answered = reply;
      if (log.active) {
        // The arguments may be views of a buffer that is reused: print them now.
        const operation = `${name} (${print(args)})`;
        const caller = { uid: request.uid, gid: request.gid, pid: request.pid };
        const seen = (result: string, code: number): void => {
          const outcome = code === 0 ? 'OK' : (texts[code] ?? errnoName(code));
          log.write(caller, operation, code === 0 ? result : (noResult[key] ?? ''), outcome, (performance.now() - begin) / 1000);
        };
        answered = recording(reply, seen, data);
      }
      try {
        const result = call(request, answered, ...args);
        if (!result) return done(reply, begin);
        return result.then(
          () => done(reply, begin),
          (error: unknown) => {
            answered.error(toErrno(error));
            done(reply, begin);
          },
        );
      } catch (error) {
        answered.error(toErrno(error));
        done(reply, begin);
      }
    };
  }
  outer['forget'] = inner.forget?.bind(inner);
  outer['destroy'] = inner.destroy?.bind(inner);
  return outer as unknown as FileSystem;
}
