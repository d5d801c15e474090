/**
 * A local file that the kernel reads in place of one of ours and that is changed under its readers: by writes of this mount, by what is
 * stored through mappings, and by what others have committed. Invariants:
 * - a write lands here and in the file's writer in one turn of the event loop, so both have all writes in one order;
 * - what others have changed is copied in only where nothing was written here since the copy began, and no store was found;
 * - where programs may map the file for writing (`watch`), the sum of each page is known as it was last recorded, in memory and in a file beside
 *   it, for the next client: a page with another sum was stored to, and is to be written to the volume (`stores`). The sums say what was
 *   recorded or less than that; what is recorded twice is the same bytes.
 *
 * Bounds: one sum of four bytes per page of 4 KiB, two or three descriptors; the list of what was written during a copy is as long as
 * there were writes, merged where they follow each other.
 */
import {
  closeSync,
  existsSync,
  fdatasync,
  fstatSync,
  ftruncateSync,
  openSync,
  read,
  readFileSync,
  readSync,
  statfsSync,
  writeSync,
} from 'node:fs';
import { promisify } from 'node:util';
import { isOpenForWriting, isUsed } from '../chunk/users.ts';
import { crc32c } from '../lib/crc32c.ts';

const PAGE = 4096;
/** Bytes looked at together; whole pages. */
const STEP = 1 << 20;
/** f_type of tmpfs, which does not note the time of a store through a mapping. Source: linux/magic.h. */
const TMPFS = 0x0102_1994;
/** A time that is so recent may stay the same though something is stored, ms: the clock of files goes in ticks. */
const TICK_MS = 100;

const readAsync = promisify(read);
const fdatasyncAsync = promisify(fdatasync);

interface Span {
  readonly begin: number;
  end: number;
}

export class LiveFile {
  readonly #fd: number;
  readonly #sumsPath: string;
  #writing: number | undefined;
  #length: number;
  #sums: Uint32Array | undefined;
  #sumsFd: number | undefined;
  #watching: Promise<void> | undefined;
  /** Written here since a copy began. */
  #written: Span[] | undefined;
  /** Whether the file's time tells that nothing was stored, and which one it had when it was looked at; -1: that does not tell. */
  readonly #timed: boolean;
  #seen = -1n;

  /** `fd` is open for reading, and stays its owner's. With sums that an earlier client left, the file is watched on. */
  constructor(fd: number, sumsPath: string) {
    this.#fd = fd;
    this.#sumsPath = sumsPath;
    this.#length = fstatSync(fd).size;
    this.#timed = statfsSync(`/proc/self/fd/${fd}`).type >>> 0 !== TMPFS;
    if (!existsSync(sumsPath)) return;
    const bytes = readFileSync(sumsPath);
    this.#sumsFd = openSync(sumsPath, 'r+');
    this.#sums = new Uint32Array(Math.ceil(this.#length / PAGE));
    for (let page = 0; page < this.#sums.length && page * 4 + 4 <= bytes.length; page++)
      this.#sums[page] = bytes.readUInt32LE(page * 4);
    this.#watching = Promise.resolve();
  }

  get length(): number {
    return this.#length;
  }

  /** Something may have been stored through a mapping that nobody told us of. */
  get watched(): boolean {
    return this.#watching !== undefined;
  }

  /** Whether anybody else has it open, or mapped, for writing. */
  get writable(): boolean {
    this.stopWriting();
    return isOpenForWriting(this.#fd);
  }

  /** Whether anybody else has it open, or mapped. */
  get used(): boolean {
    this.stopWriting();
    return isUsed(this.#fd);
  }

  /** From when this resolves on, every store is found. Before, nobody may have the file mapped for writing. */
  watch(): Promise<void> {
    return (this.#watching ??= this.#sum().catch((error: unknown) => {
      this.#watching = undefined;
      this.#sums = undefined;
      throw error;
    }));
  }

  /** Reads up to `target.length` bytes at `at`; answers how many there are. */
  async read(target: Buffer, at: number): Promise<number> {
    let done = 0;
    while (done < target.length) {
      const { bytesRead } = await readAsync(this.#fd, target, done, target.length - done, at + done);
      if (bytesRead === 0) break;
      done += bytesRead;
    }
    return done;
  }

  /** Takes a write of this mount. Throws the disk's error; then a part may have been written. */
  write(at: number, data: Buffer): void {
    this.#note(at, at + data.length);
    this.#put(data, at);
  }

  /** What follows is noted, until `apply` ends: it is newer than what is copied. */
  begin(): void {
    this.#written ??= [];
  }

  end(): void {
    this.#written = undefined;
  }

  /** Cuts it, or lets it grow by zeros; not below what was written since `begin`. */
  resize(length: number): void {
    const wanted = (this.#written ?? []).reduce((most, { end }) => Math.max(most, end), length);
    const before = this.#length;
    if (wanted === before) return;
    const from = Math.min(before, wanted);
    this.#seen = -1n;
    this.#recorded(from, Math.max(before, wanted), Infinity, () => {
      ftruncateSync(this.#writer(), wanted);
      this.#length = wanted;
    });
  }

  /** Copies in what the volume has at `at`: others have changed it, perhaps. Bytes that are the same already are not written. */
  apply(bytes: Buffer, at: number): void {
    if (!this.#sums) return this.#applyPart(bytes, at);
    for (let done = 0; done < bytes.length;) {
      const page = Math.floor((at + done) / PAGE);
      const part = Math.min(bytes.length - done, (page + 1) * PAGE - at - done);
      if (this.#sumOf(page) === this.#sums[page]) this.#applyPart(bytes.subarray(done, done + part), at + done);
      done += part;
    }
  }

  /**
   * Finds what was stored through mappings since the last time and hands it to `record`, which is to call `take`, and write to the volume what
   * that answers, in one turn of the event loop; it may wait before.
   */
  async stores(record: (offset: number, end: number, take: () => Buffer) => Promise<void>, signal: AbortSignal): Promise<void> {
    await this.#watching;
    if (!this.#sums || (this.#timed && (await this.#untouched()))) return;
    const buffer = Buffer.allocUnsafeSlow(Math.min(STEP, Math.ceil(this.#length / PAGE) * PAGE));
    for (let at = 0; at < this.#length; at += STEP) {
      signal.throwIfAborted();
      const length = await this.read(buffer.subarray(0, Math.min(STEP, this.#length - at)), at);
      for (let from = 0; from < length;) {
        if (this.#matches(at + from, buffer.subarray(from, Math.min(from + PAGE, length)))) {
          from += PAGE;
          continue;
        }
        let end = from + PAGE;
        while (end < length && !this.#matches(at + end, buffer.subarray(end, Math.min(end + PAGE, length)))) end += PAGE;
        const begin = at + from;
        await record(begin, Math.min(at + end, this.#length), () => this.#take(begin, Math.min(at + end, this.#length)));
        from = end;
      }
    }
  }

  /** Lets go of everything but the owner's descriptor. */
  close(): void {
    this.stopWriting();
    if (this.#sumsFd !== undefined) closeSync(this.#sumsFd);
    this.#sumsFd = undefined;
  }

  stopWriting(): void {
    if (this.#writing !== undefined) closeSync(this.#writing);
    this.#writing = undefined;
  }

  // Inside

  /** By way of the descriptor, for the name may be gone. */
  #writer(): number {
    return (this.#writing ??= openSync(`/proc/self/fd/${this.#fd}`, 'r+'));
  }

  #note(begin: number, end: number): void {
    const last = this.#written?.at(-1);
    if (last?.end === begin) last.end = end;
    else this.#written?.push({ begin, end });
  }

  #put(data: Buffer, at: number): void {
    this.#seen = -1n;
    const fd = this.#writer();
    const end = at + data.length;
    this.#recorded(Math.min(this.#length, at), end, at, () => {
      try {
        for (let done = 0; done < data.length;) done += writeSync(fd, data, done, data.length - done, at + done);
      } finally {
        this.#length = Math.max(this.#length, fstatSync(fd).size);
      }
    });
  }

  #applyPart(bytes: Buffer, at: number): void {
    let from = at;
    const end = at + bytes.length;
    // What was written here meanwhile is left out: it is newer.
    const newer = (this.#written ?? []).filter((span) => span.begin < end && span.end > at).toSorted((a, b) => a.begin - b.begin);
    for (const span of newer) {
      if (span.begin > from) this.#replace(bytes.subarray(from - at, span.begin - at), from);
      from = Math.max(from, span.end);
    }
    if (from < end) this.#replace(bytes.subarray(from - at), from);
  }

  #replace(bytes: Buffer, at: number): void {
    const now = Buffer.allocUnsafe(bytes.length);
    if (readSync(this.#fd, now, 0, now.length, at) !== now.length || !now.equals(bytes)) this.#put(bytes, at);
  }

  /**
   * Changes bytes from `begin` to `end`, all of them from `whole` on, and sums the pages that this touches. One of which a part stays, and to
   * which something was stored that is not recorded, keeps the sum that tells so.
   */
  #recorded(begin: number, end: number, whole: number, change: () => void): void {
    if (!this.#sums) return change();
    const first = Math.floor(begin / PAGE);
    const before = Math.ceil(this.#length / PAGE);
    const kept = new Set<number>();
    for (const page of [first, Math.floor(whole / PAGE), Math.ceil(end / PAGE) - 1]) {
      const replaced = page * PAGE >= whole && Math.min((page + 1) * PAGE, this.#length) <= end;
      if (page >= first && page < before && !replaced && this.#sumOf(page) !== this.#sums[page]) kept.add(page);
    }
    try {
      change();
    } finally {
      const pages = Math.ceil(this.#length / PAGE);
      if (pages > this.#sums.length) {
        const grown = new Uint32Array(Math.max(pages, this.#sums.length * 2));
        grown.set(this.#sums);
        this.#sums = grown;
      }
      const last = Math.min(pages, Math.ceil(end / PAGE));
      for (let page = first; page < last; page++) if (!kept.has(page)) this.#sums[page] = this.#sumOf(page);
      this.#save(first, last);
    }
  }

  #save(first: number, last: number): void {
    if (!this.#sums || this.#sumsFd === undefined || last <= first) return;
    const bytes = Buffer.allocUnsafe((last - first) * 4);
    for (let page = first; page < last; page++) bytes.writeUInt32LE(this.#sums[page] ?? 0, (page - first) * 4);
    writeSync(this.#sumsFd, bytes, 0, bytes.length, first * 4);
  }

  #sumOf(page: number): number {
    const length = Math.min(PAGE, this.#length - page * PAGE);
    const bytes = pageBuffer.subarray(0, Math.max(0, length));
    return crc32c(bytes.subarray(0, readSync(this.#fd, bytes, 0, bytes.length, page * PAGE))) >>> 0;
  }

  #matches(at: number, bytes: Buffer): boolean {
    return this.#sums?.[at / PAGE] === crc32c(bytes) >>> 0;
  }

  /** The bytes of whole pages as they are now, which count as recorded. */
  #take(begin: number, end: number): Buffer {
    const bytes = Buffer.allocUnsafe(end - begin);
    const length = readSync(this.#fd, bytes, 0, bytes.length, begin);
    this.#note(begin, begin + length);
    if (this.#sums)
      for (let from = 0; from < length; from += PAGE)
        this.#sums[(begin + from) / PAGE] = crc32c(bytes.subarray(from, Math.min(from + PAGE, length))) >>> 0;
    this.#save(begin / PAGE, Math.ceil((begin + length) / PAGE));
    return bytes.subarray(0, length);
  }

  async #sum(): Promise<void> {
    this.#sums = new Uint32Array(Math.ceil(this.#length / PAGE));
    const buffer = Buffer.allocUnsafeSlow(Math.min(STEP, Math.max(PAGE, this.#length)));
    for (let at = 0; at < this.#length; at += STEP) {
      const length = await this.read(buffer.subarray(0, Math.min(STEP, this.#length - at)), at);
      for (let from = 0; from < length; from += PAGE)
        this.#sums[(at + from) / PAGE] = crc32c(buffer.subarray(from, Math.min(from + PAGE, length))) >>> 0;
    }
    // What was written meanwhile may have another sum by now than its page was given: then it is recorded twice.
    this.#sumsFd = openSync(this.#sumsPath, 'w+', 0o600);
    this.#save(0, Math.ceil(this.#length / PAGE));
  }

  /** Whether the time of the file tells that nothing was stored. A page that was written to the disk is noted when it is stored to again. */
  async #untouched(): Promise<boolean> {
    await fdatasyncAsync(this.#fd);
    const { mtimeNs } = fstatSync(this.#fd, { bigint: true });
    if (mtimeNs === this.#seen) return true;
    this.#seen = Date.now() - Number(mtimeNs / 1_000_000n) > TICK_MS ? mtimeNs : -1n;
    return false;
  }
}

/** For one page, within one turn of the event loop. */
const pageBuffer = Buffer.allocUnsafeSlow(PAGE);
