/**
 * The bytes of `.control`. A request is `u32 command | u32 length | payload`, big-endian, and its answer follows it in the file:
 * items `0xfe u64 u64` (how far it is, what the two count depends on the command), then `0xff u32 length JSON` or one byte, the
 * errno (0: done). Optional fields at the end of a payload may be left out. Source: JuiceFS format, control protocol.
 */
import { FsError } from '../../lib/errors.ts';
import { type Ino, readInoBE } from '../../lib/int64.ts';

export const Command = {
  Rmr: 1002,
  LegacyInfo: 1003,
  FillCache: 1004,
  Info: 1005,
  Clone: 1006,
  Summary: 1007,
  Compact: 1008,
} as const;

/** What FillCache does with the blocks of files. */
export const CacheAction = { Warm: 0, Evict: 1, Check: 2 } as const;
export type CacheAction = (typeof CacheAction)[keyof typeof CacheAction];

/** Mode bit of Clone: owner, mode and times are kept. */
export const CLONE_PRESERVE = 2;

export const HEADER = 8;
const PROGRESS = 0xfe;
const DATA = 0xff;
const PROGRESS_BYTES = 17;
const DATA_HEADER = 5;

/** What a FillCache answers; bytes as blocks have them. `Locations`: of a check, bytes by where they lie. */
export interface CacheAnswer {
  readonly FileCount: number;
  readonly SliceCount: number;
  readonly TotalBytes: number;
  /** Not there (check), or not brought there (warm). */
  readonly MissBytes: number;
  readonly Locations: Readonly<Record<string, number>>;
}

/** Reads a payload from its beginning. Throws FsError EINVAL where it is too short. */
export class Payload {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get more(): boolean {
    return this.#at < this.#bytes.length;
  }

  bytes(length: number): Buffer {
    if (this.#at + length > this.#bytes.length) throw new FsError('EINVAL', 'the request is shorter than its fields');
    return this.#bytes.subarray(this.#at, (this.#at += length));
  }

  u8(): number {
    return this.bytes(1).readUInt8();
  }

  u16(): number {
    return this.bytes(2).readUInt16BE();
  }

  u32(): number {
    return this.bytes(4).readUInt32BE();
  }

  /** ENOENT where it is beyond what inodes can be. */
  ino(): Ino {
    const bytes = this.bytes(8);
    try {
      return readInoBE(bytes, 0);
    } catch {
      throw new FsError('ENOENT');
    }
  }
}

/** How far it is. */
export function progressItem(first: number, second: number): Buffer {
  const item = Buffer.alloc(PROGRESS_BYTES);
  item[0] = PROGRESS;
  item.writeBigUInt64BE(BigInt(first), 1);
  item.writeBigUInt64BE(BigInt(second), 9);
  return item;
}

/** The end of an answer, JSON. */
export function dataItem(value: unknown): Buffer {
  const text = Buffer.from(JSON.stringify(value));
  const head = Buffer.alloc(DATA_HEADER);
  head[0] = DATA;
  head.writeUInt32BE(text.length, 1);
  return Buffer.concat([head, text]);
}

/** The end of an answer: an errno, or 0. */
export const errnoItem = (errno: number): Buffer => Buffer.from([errno & 0xff]);

function request(command: number, ...fields: readonly Buffer[]): Buffer {
  const payload = Buffer.concat(fields);
  const head = Buffer.alloc(HEADER);
  head.writeUInt32BE(command, 0);
  head.writeUInt32BE(payload.length, 4);
  return Buffer.concat([head, payload]);
}

const u8 = (value: number): Buffer => Buffer.from([value]);
const u16 = (value: number): Buffer => Buffer.from([value >> 8, value & 0xff]);
const u64 = (value: bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return bytes;
};
const bit = (value: boolean): Buffer => u8(value ? 1 : 0);
const threadsOf = (threads: number): Buffer => u8(Math.min(255, Math.max(1, threads)));
const manyThreadsOf = (threads: number): Buffer => u16(Math.min(65_535, Math.max(1, threads)));

/** The bytes of requests; inodes as the mount has them, names of at most 255 bytes. */
export const requests = {
  rmr: (parent: bigint, name: Buffer, skipTrash: boolean, threads: number): Buffer =>
    request(Command.Rmr, u64(parent), u8(name.length), name, bit(skipTrash), threadsOf(threads)),
  info: (inode: bigint, recursive: boolean, raw: boolean, strict: boolean): Buffer =>
    request(Command.Info, u64(inode), bit(recursive), bit(raw), bit(strict)),
  fillCache: (paths: readonly string[], threads: number, background: boolean, action: CacheAction): Buffer => {
    const text = Buffer.from(paths.join('\n'));
    const length = Buffer.alloc(4);
    length.writeUInt32BE(text.length);
    return request(Command.FillCache, length, text, manyThreadsOf(threads), bit(background), u8(action));
  },
  clone: (
    source: { readonly inode: bigint; readonly parent: bigint },
    parent: bigint,
    name: Buffer,
    options: { readonly umask: number; readonly preserve: boolean; readonly threads: number },
  ): Buffer =>
    request(
      Command.Clone,
      u64(source.inode),
      u64(source.parent),
      u64(parent),
      u8(name.length),
      name,
      u16(options.umask),
      u8(options.preserve ? CLONE_PRESERVE : 0),
      threadsOf(options.threads),
    ),
  summary: (inode: bigint, depth: number, entries: number, strict: boolean): Buffer =>
    request(Command.Summary, u64(inode), u8(depth), u8(entries), bit(strict)),
  compact: (inode: bigint, threads: number): Buffer => request(Command.Compact, u64(inode), manyThreadsOf(threads)),
};

/** The end of an answer. */
export type Answer = { readonly errno: number } | { readonly data: unknown };

/** Takes an answer apart as it comes. */
export class AnswerReader {
  readonly #onProgress: (first: number, second: number) => void;
  #bytes = Buffer.alloc(0);

  constructor(onProgress: (first: number, second: number) => void = () => {}) {
    this.#onProgress = onProgress;
  }

  /** Takes more bytes; the end of the answer, or undefined while it is not whole. */
  push(bytes: Buffer): Answer | undefined {
    this.#bytes = Buffer.concat([this.#bytes, bytes]);
    while (this.#bytes[0] === PROGRESS && this.#bytes.length >= PROGRESS_BYTES) {
      this.#onProgress(Number(this.#bytes.readBigUInt64BE(1)), Number(this.#bytes.readBigUInt64BE(9)));
      this.#bytes = this.#bytes.subarray(PROGRESS_BYTES);
    }
    const [kind] = this.#bytes;
    if (kind === undefined || kind === PROGRESS) return undefined;
    if (kind !== DATA) return { errno: kind };
    if (this.#bytes.length < DATA_HEADER) return undefined;
    const end = DATA_HEADER + this.#bytes.readUInt32BE(1);
    if (this.#bytes.length < end) return undefined;
    return { data: JSON.parse(this.#bytes.toString('utf8', DATA_HEADER, end)) as unknown };
  }
}
