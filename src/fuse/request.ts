/**
 * One request of the kernel and the answer to it: the `FuseRequest`, `Reply` and `DirSink` that a file system is given are
 * one object, made for each request and never used again, so that an answer that comes twice or too late cannot reach
 * another request. (Making it costs some 50 ns, the system calls around it several µs.)
 *
 * Where the kernel refuses an answer because the caller was interrupted, what the answer would have given to the kernel
 * (a handle, a lookup reference) is taken back through `Session.undo`.
 */
import { errno as errnos, FsError, toErrno } from '../lib/errors.ts';
import { type Ino, readInoLE } from '../lib/int64.ts';
import { IOCTL_OUT, OUT_HEADER, Opcode } from './constants.ts';
import { INVALIDATE_INODE_BYTES, invalidateInodeMessage } from './notifier.ts';
import type { DirSink, FuseAttr, FuseEntry, FuseLock, FuseOpened, FuseRequest, FuseStatFs, Reply } from './types.ts';
import { putAttrOut, putEntry, putIno, putLock, putNegativeEntry, putNumber, putOpened, putStatFs, Words } from './wire.ts';

/** Where requests send their answers. */
export interface Session {
  /** A scratch buffer for small replies, used within one call. */
  readonly out: Buffer;
  readonly outWords: Uint32Array;
  /** Writes a whole reply. False where the kernel no longer wants it. */
  send(reply: Buffer, length: number): boolean;
  sendParts(parts: readonly Buffer[]): boolean;
  /** A request was parked. */
  parking(): void;
  /** The request has got its answer. */
  settled(request: Request): void;
  /** Takes back what an unwanted answer gave. */
  undoEntry(ino: Ino): void;
  undoOpen(request: Request, ino: Ino, handle: number): void;
  /** A defect: an answer that came twice, a handler that threw something unforeseen. */
  defect(message: string, request: Request, error?: unknown): void;
}

/** Bytes of a reply up to which data is copied behind its header, which is cheaper than a second vector. */
const COPY_UP_TO = 16 << 10;
export const OUT_BYTES = OUT_HEADER + COPY_UP_TO;
const BODY = OUT_HEADER / 4;
const RESENT = 0x8000_0000;
const TWO_32 = 0x1_0000_0000;

/** Takes the place of the errno where a RangeError came out of a number in the request. */
function errnoOf(error: unknown): number {
  if (error instanceof RangeError) return errnos.EINVAL;
  const value = toErrno(error);
  // The kernel drops an answer with an error outside this range and the caller would wait for ever.
  return value > 0 && value < 512 ? value : errnos.EIO;
}

function foreseen(error: unknown): boolean {
  if (error instanceof FsError || error instanceof RangeError) return true;
  return error instanceof Error && (error.name === 'AbortError' || typeof (error as NodeJS.ErrnoException).code === 'string');
}

export class Request implements FuseRequest, Reply, DirSink {
  readonly opcode: number;
  readonly nodeid: Ino;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  readonly #low: number;
  readonly #high: number;
  readonly #session: Session;
  #answered = false;
  #controller: AbortController | undefined;
  #interrupted = false;
  /** Most bytes that the kernel takes as data. */
  limit = 0;
  /** The request's own buffer, while a handler still uses parts of it. */
  held: Buffer | undefined;
  /** See `FuseRequest.park`. */
  parked = false;
  code = 0;
  bytes = 0;
  #listing: Uint32Array | undefined;
  #listingBytes: Buffer | undefined;
  #used = 0;

  constructor(session: Session, header: Buffer) {
    this.#session = session;
    this.opcode = header.readUInt32LE(4);
    this.#low = header.readUInt32LE(8);
    this.#high = header.readUInt32LE(12);
    this.nodeid = readInoLE(header, 16);
    this.uid = header.readUInt32LE(24);
    this.gid = header.readUInt32LE(28);
    this.pid = header.readUInt32LE(32);
  }

  /** The kernel's number of the request without the mark of a resent one. Exact below 2^53, which no kernel reaches. */
  get unique(): number {
    return (this.#high & 0x7fff_ffff) * TWO_32 + this.#low;
  }

  get resent(): boolean {
    return this.#high >= RESENT;
  }

  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#interrupted) this.#controller.abort(new FsError('EINTR', 'interrupted by a signal'));
    return this.#controller.signal;
  }

  /** The kernel asks to give up. */
  interrupt(): void {
    this.#interrupted = true;
    this.#controller?.abort(new FsError('EINTR', 'interrupted by a signal'));
  }

  get answered(): boolean {
    return this.#answered;
  }

  get sink(): DirSink {
    return this;
  }

  /** Answers what was thrown. */
  fail(error: unknown): void {
    if (!foreseen(error)) this.#session.defect('a file-system call failed in an unforeseen way', this, error);
    if (!this.#answered) this.error(errnoOf(error));
  }

  #begin(): boolean {
    if (!this.#answered) {
      this.#answered = true;
      return true;
    }
    this.#session.defect('a request was answered twice', this);
    return false;
  }

  #header(words: Uint32Array, length: number, error: number): void {
    words[0] = length;
    words[1] = -error;
    words[2] = this.#low;
    words[3] = this.#high;
  }

  /** Sends the scratch buffer with so many words of body. */
  #sendWords(body: number): boolean {
    const session = this.#session;
    const length = OUT_HEADER + body * 4;
    this.#header(session.outWords, length, 0);
    const wanted = session.send(session.out, length);
    session.settled(this);
    return wanted;
  }

  error(errno: number): void {
    if (!this.#begin()) return;
    const session = this.#session;
    this.code = errno;
    this.#header(session.outWords, OUT_HEADER, errno > 0 && errno < 512 ? errno : errnos.EIO);
    session.send(session.out, OUT_HEADER);
    session.settled(this);
  }

  ok(forgetAttributes = false): void {
    if (!this.#begin()) return;
    if (forgetAttributes) this.#forgetAttributes();
    this.#sendWords(0);
  }

  /** Of attributes alone the kernel takes note without a lock that somebody could hold who waits for us. */
  #forgetAttributes(): void {
    this.#session.send(invalidateInodeMessage(this.nodeid, -1, 0), INVALIDATE_INODE_BYTES);
  }

  park(): void {
    this.parked = true;
    this.#session.parking();
  }

  entry(entry: FuseEntry): void {
    if (!this.#begin()) return;
    putEntry(this.#session.outWords, BODY, entry);
    if (!this.#sendWords(Words.entry)) this.#session.undoEntry(entry.attr.ino);
  }

  negative(entryTimeout: number): void {
    if (entryTimeout <= 0) return this.error(errnos.ENOENT);
    if (!this.#begin()) return;
    this.code = errnos.ENOENT;
    putNegativeEntry(this.#session.outWords, BODY, entryTimeout);
    this.#sendWords(Words.entry);
  }

  attr(attr: FuseAttr, attrTimeout: number): void {
    if (!this.#begin()) return;
    putAttrOut(this.#session.outWords, BODY, attr, attrTimeout);
    this.#sendWords(Words.attrOut);
  }

  opened(opened: FuseOpened): void {
    if (!this.#begin()) return;
    if (opened.forgetAttributes) this.#forgetAttributes();
    putOpened(this.#session.outWords, BODY, opened);
    if (!this.#sendWords(Words.open)) this.#session.undoOpen(this, this.nodeid, opened.handle);
  }

  created(entry: FuseEntry, opened: FuseOpened): void {
    if (!this.#begin()) return;
    putEntry(this.#session.outWords, BODY, entry);
    putOpened(this.#session.outWords, BODY + Words.entry, opened);
    if (this.#sendWords(Words.entry + Words.open)) return;
    this.#session.undoOpen(this, entry.attr.ino, opened.handle);
    this.#session.undoEntry(entry.attr.ino);
  }

  data(data: Buffer): void {
    if (data.length > COPY_UP_TO) return this.dataParts([data]);
    if (!this.#fits(data.length) || !this.#begin()) return;
    this.bytes = data.length;
    const session = this.#session;
    data.copy(session.out, OUT_HEADER);
    this.#header(session.outWords, OUT_HEADER + data.length, 0);
    session.send(session.out, OUT_HEADER + data.length);
    session.settled(this);
  }

  dataParts(parts: readonly Buffer[]): void {
    let length = 0;
    for (const part of parts) length += part.length;
    if (!this.#fits(length) || !this.#begin()) return;
    this.bytes = length;
    const session = this.#session;
    this.#header(session.outWords, OUT_HEADER + length, 0);
    session.sendParts([session.out.subarray(0, OUT_HEADER), ...parts]);
    session.settled(this);
  }

  /** False where the answer is longer than asked for; the kernel would drop it without a word to us. */
  #fits(length: number): boolean {
    if (length <= this.limit) return true;
    if (this.opcode === Opcode.GETXATTR || this.opcode === Opcode.LISTXATTR) {
      this.error(errnos.ERANGE);
      return false;
    }
    this.#session.defect(`${length} bytes were given where ${this.limit} were asked for`, this);
    if (!this.#answered) this.error(errnos.EIO);
    return false;
  }

  written(bytes: number): void {
    if (!this.#begin()) return;
    this.bytes = bytes;
    this.#session.outWords[BODY] = bytes;
    this.#session.outWords[BODY + 1] = 0;
    this.#sendWords(2);
  }

  statfs(value: FuseStatFs): void {
    if (!this.#begin()) return;
    putStatFs(this.#session.outWords, BODY, value);
    this.#sendWords(Words.statfs);
  }

  xattrSize(bytes: number): void {
    this.written(bytes);
  }

  lseek(offset: number): void {
    if (!this.#begin()) return;
    putNumber(this.#session.outWords, BODY, offset);
    this.#sendWords(2);
  }

  lock(lock: FuseLock): void {
    if (!this.#begin()) return;
    putLock(this.#session.outWords, BODY, lock);
    this.#sendWords(Words.lock);
  }

  ioctl(data: Buffer): void {
    // struct fuse_ioctl_out: result, flags, two counts of vectors; all 0.
    this.dataParts([Buffer.alloc(IOCTL_OUT), data]);
  }

  add(name: Buffer, ino: Ino, type: number, offset: number): boolean {
    return this.#entry(name, undefined, ino, type, offset);
  }

  addPlus(name: Buffer, entry: FuseEntry, offset: number): boolean {
    return this.#entry(name, entry, entry.attr.ino, entry.attr.mode, offset);
  }

  /** struct fuse_dirent, in a READDIRPLUS with a struct fuse_entry_out before it; both padded to 8 bytes. */
  #entry(name: Buffer, entry: FuseEntry | undefined, ino: Ino, mode: number, offset: number): boolean {
    const plus = this.opcode === Opcode.READDIRPLUS ? Words.entry : 0;
    const size = plus * 4 + ((Words.dirent * 4 + name.length + 7) & ~7);
    if (this.#answered || this.#used + size > this.limit) return false;
    const words = (this.#listing ??= new Uint32Array((OUT_HEADER + this.limit + 7) >> 2));
    const bytes = (this.#listingBytes ??= Buffer.from(words.buffer));
    let at = BODY + this.#used / 4;
    if (plus > 0) {
      // Without attributes, and for `.` and `..` (which the kernel does not take), node 0 says "only the name".
      const dots = name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e));
      if (entry && !dots) putEntry(words, at, entry);
      at += Words.entry;
    }
    putIno(words, at, ino);
    putNumber(words, at + 2, offset);
    words[at + 4] = name.length;
    // A caller may give the whole mode or the type alone, either as S_IFMT bits or as DT_* number.
    words[at + 5] = mode >= 0x1000 ? (mode >> 12) & 15 : mode & 15;
    name.copy(bytes, (at + Words.dirent) * 4);
    this.#used += size;
    return true;
  }

  directory(): void {
    if (!this.#begin()) return;
    const session = this.#session;
    const length = OUT_HEADER + this.#used;
    const bytes = this.#listingBytes;
    if (!bytes || !this.#listing) {
      this.#header(session.outWords, OUT_HEADER, 0);
      session.send(session.out, OUT_HEADER);
    } else {
      this.#header(this.#listing, length, 0);
      if (!session.send(bytes, length) && this.opcode === Opcode.READDIRPLUS) this.#undoListing(bytes, length);
    }
    session.settled(this);
  }

  #undoListing(bytes: Buffer, length: number): void {
    for (let at = OUT_HEADER; at < length;) {
      const ino = readInoLE(bytes, at);
      if (ino !== 0) this.#session.undoEntry(ino);
      const dirent = at + Words.entry * 4;
      at = dirent + ((Words.dirent * 4 + bytes.readUInt32LE(dirent + 16) + 7) & ~7);
    }
  }
}

/** A request that nobody waits for: it carries the calls that undo an unwanted answer. */
export function silentRequest(of: Request): { readonly request: FuseRequest; readonly reply: Reply } {
  const nothing = (): void => {};
  const reply: Reply = {
    answered: false,
    code: 0,
    bytes: 0,
    error: nothing,
    ok: nothing,
    entry: nothing,
    negative: nothing,
    attr: nothing,
    opened: nothing,
    created: nothing,
    data: nothing,
    dataParts: nothing,
    written: nothing,
    statfs: nothing,
    xattrSize: nothing,
    lseek: nothing,
    lock: nothing,
    ioctl: nothing,
    directory: nothing,
    sink: { add: () => false, addPlus: () => false },
  };
  const request: FuseRequest = {
    unique: of.unique,
    uid: of.uid,
    gid: of.gid,
    pid: 0,
    resent: false,
    signal: new AbortController().signal,
    park: nothing,
  };
  return { request, reply };
}
