/** An answer as a value, for a transport that calls the file system itself instead of passing on what a kernel asks. */
import type { Ino } from '../lib/int64.ts';
import type { DirSink, FuseAttr, FuseEntry, FuseLock, FuseOpened, FuseStatFs, Reply } from './types.ts';

export interface Outcome {
  /** 0 for success. */
  readonly errno: number;
  readonly entry?: FuseEntry;
  readonly attr?: FuseAttr;
  readonly opened?: FuseOpened;
  readonly data?: Buffer;
  /** Bytes written, size of an attribute, offset. */
  readonly number?: number;
  readonly statfs?: FuseStatFs;
  readonly lock?: FuseLock;
  readonly listing?: readonly { readonly name: string; readonly offset: number }[];
}

const ENOENT = 2;

/** Settles once, with a copy of what was answered. `limit` bounds a listing, bytes as the kernel counts them. */
export class ValueReply implements Reply, DirSink {
  readonly #settle: (outcome: Outcome) => void;
  readonly #limit: number;
  readonly #listing: { name: string; offset: number }[] = [];
  #used = 0;
  #answered = false;
  code = 0;
  bytes = 0;

  constructor(limit: number, settle: (outcome: Outcome) => void) {
    this.#limit = limit;
    this.#settle = settle;
  }

  get answered(): boolean {
    return this.#answered;
  }

  get sink(): DirSink {
    return this;
  }

  #give(outcome: Omit<Outcome, 'errno'>, errno = 0): void {
    if (this.#answered) return;
    this.#answered = true;
    this.code = errno;
    this.bytes = outcome.data?.length ?? outcome.number ?? 0;
    this.#settle({ errno, ...outcome });
  }

  error(errno: number): void {
    this.#give({}, errno);
  }

  ok(): void {
    this.#give({});
  }

  entry(entry: FuseEntry): void {
    this.#give({ entry });
  }

  negative(): void {
    this.#give({}, ENOENT);
  }

  attr(attr: FuseAttr): void {
    this.#give({ attr });
  }

  opened(opened: FuseOpened): void {
    this.#give({ opened });
  }

  created(entry: FuseEntry, opened: FuseOpened): void {
    this.#give({ entry, opened });
  }

  data(data: Buffer): void {
    this.#give({ data: Buffer.from(data) });
  }

  dataParts(parts: readonly Buffer[]): void {
    this.#give({ data: Buffer.concat(parts) });
  }

  written(number: number): void {
    this.#give({ number });
  }

  statfs(statfs: FuseStatFs): void {
    this.#give({ statfs });
  }

  xattrSize(number: number): void {
    this.#give({ number });
  }

  lseek(number: number): void {
    this.#give({ number });
  }

  lock(lock: FuseLock): void {
    this.#give({ lock });
  }

  ioctl(data: Buffer): void {
    this.#give({ data: Buffer.from(data) });
  }

  add(name: Buffer, _ino: Ino, _type: number, offset: number): boolean {
    const size = (24 + name.length + 7) & ~7;
    if (this.#used + size > this.#limit) return false;
    this.#used += size;
    this.#listing.push({ name: name.toString(), offset });
    return true;
  }

  addPlus(name: Buffer, entry: FuseEntry, offset: number): boolean {
    return this.add(name, entry.attr.ino, entry.attr.mode, offset);
  }

  directory(): void {
    this.#give({ listing: this.#listing });
  }
}
