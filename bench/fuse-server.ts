/**
 * The process that serves for bench/fuse.ts: `node fuse-server.ts raw|native TARGET`. Handlers do nothing but answer: every
 * name exists as an empty file but those that begin with "new", `big` has 1 GiB of zeros, and what is made is forgotten.
 */
import { mount } from '../src/fuse/mount.ts';
import { RawTransport } from '../src/fuse/raw.ts';
import { loadNative } from '../src/fuse/native.ts';
import type { FileSystem, FuseAttr, FuseEntry, Reply } from '../src/fuse/types.ts';
import { type Ino, ino } from '../src/lib/int64.ts';

const [kind, target = ''] = process.argv.slice(2);
const BIG = 1 << 30;
const zeros = Buffer.alloc(1 << 20);
const S_IFDIR = 0o040755;
const S_IFREG = 0o100644;

function serveRaw(fd: number): Promise<unknown> {
  const attr = (number: Ino): FuseAttr => ({
    ino: number,
    size: number === 2 ? BIG : 0,
    blocks: 0,
    atime: 0,
    mtime: 0,
    ctime: 0,
    atimensec: 0,
    mtimensec: 0,
    ctimensec: 0,
    mode: number === 1 ? S_IFDIR : S_IFREG,
    nlink: 1,
    uid: 0,
    gid: 0,
    rdev: 0,
    blksize: 4096,
  });
  const entry = (number: Ino): FuseEntry => ({ attr: attr(number), generation: 0, entryTimeout: 1, attrTimeout: 1 });
  let next = 3;
  const ok = (_request: unknown, reply: Reply): void => reply.ok();
  const handlers: Partial<FileSystem> = {
    lookup(_request, reply, _parent, name) {
      const text = name.toString();
      if (text === 'big') reply.entry(entry(ino(2)));
      else if (text.startsWith('new')) reply.negative(0);
      else reply.entry(entry(ino(next++)));
    },
    getattr: (_request, reply, number) => reply.attr(attr(number), 1),
    open: (_request, reply) => reply.opened({ handle: 1 }),
    create: (_request, reply) => reply.created(entry(ino(next++)), { handle: 1 }),
    read: (_request, reply, _ino, _handle, _offset, size) => reply.data(zeros.subarray(0, size)),
    flush: ok,
    release: ok,
    statfs: (_request, reply) => reply.statfs({ blocks: 1, bfree: 1, bavail: 1, files: 1, ffree: 1, bsize: 4096, namelen: 255 }),
  };
  return new RawTransport({ fd }).serve(handlers as FileSystem);
}

type Done = (result: number, value?: unknown) => void;

async function serveNative(): Promise<void> {
  const Fuse = await loadNative();
  const epoch = new Date(0);
  const times = { atime: epoch, mtime: epoch, ctime: epoch };
  const stat = (path: string, done: Done): void => {
    if (path.startsWith('/new') && !made.has(path)) return done(-2);
    const size = path === '/big' ? BIG : 0;
    done(0, { ...times, size, mode: path === '/' ? S_IFDIR : S_IFREG, nlink: 1, uid: 0, gid: 0 });
  };
  const made = new Set<string>();
  const handlers = {
    getattr: stat,
    fgetattr: (path: string, _fd: number, done: Done) => stat(path, done),
    open: (_path: string, _flags: number, done: Done) => done(0, 1),
    create(path: string, _mode: number, done: Done) {
      made.add(path);
      done(0, 1);
    },
    read: (_path: string, _fd: number, _into: Buffer, length: number, _at: number, done: Done) => done(length),
    flush: (_path: string, _fd: number, done: Done) => done(0),
    release: (_path: string, _fd: number, done: Done) => done(0),
  };
  const fuse = new Fuse(target, handlers, { timeout: false, allowOther: true });
  await new Promise<void>((resolve, reject) => fuse.mount((error) => (error ? reject(error) : resolve())));
}

if (kind === 'native') await serveNative();
else void serveRaw(await mount({ target })).then(() => process.exit(0));
process.stdout.write('serving\n');
