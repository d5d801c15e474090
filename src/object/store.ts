/**
 * The object-store seam: what blocks and their neighbours need of a store, and no more.
 *
 * Keys are ASCII, relative to the store (a prefix decorator adds the volume's name). Objects are written once and never
 * changed; writing the same key again with the same bytes is allowed (retries). Every call may be repeated.
 * A call fails with `ObjectError`; decorators (prefix, retry, limit, …) implement the same interface.
 */

export interface ObjectInfo {
  readonly key: string;
  /** Bytes. */
  readonly size: number;
  /** Milliseconds since the epoch; 0 where the store does not tell. */
  readonly modified: number;
}

export interface GetOptions {
  /** First byte wanted. @default 0 */
  readonly offset?: number;
  /** Number of bytes wanted; fewer come back only at the end of the object. @default all */
  readonly length?: number;
  /** Where the bytes shall go; must be long enough. The answer is then a view of it. @default a new buffer */
  readonly into?: Buffer;
  /**
   * Called before the answer with the CRC-32C of every 32 KiB of the body (CHECKSUM_PIECE), where the store had to sum it up
   * anyway to verify it: who needs these sums is spared a second pass over the bytes.
   */
  readonly onSums?: (sums: Uint32Array) => void;
  readonly signal?: AbortSignal;
}

/** Bytes that one of the sums of `onSums` covers. */
export const CHECKSUM_PIECE = 32 * 1024;

/** An object that is written in parts, for what is too long for one request. Nothing of it is seen before `complete`. */
export interface Upload {
  /** Writes a part; numbers count from 0. Parts may come in any order and side by side, and again after a failure. */
  part(number: number, body: Buffer, signal?: AbortSignal): Promise<void>;
  /** Makes the object of the parts, in the order of their numbers. */
  complete(signal?: AbortSignal): Promise<void>;
  /** Drops the parts. Never fails: what cannot be dropped now is the store's to expire. */
  abort(): Promise<void>;
}

export interface PartLimits {
  /** Bytes of a part that is not the last, at least and at most. */
  readonly minBytes: number;
  readonly maxBytes: number;
  readonly maxCount: number;
}

export interface ObjectStore {
  /** Where this is, for people: `s3://bucket at https://host`, `file:///var/jfs/`. Never a secret. */
  readonly description: string;
  /** True where a range costs as much as the whole object. @default false */
  readonly wholeReads?: boolean;
  /** Makes the bucket or directory where it is missing. */
  create(signal?: AbortSignal): Promise<void>;
  put(key: string, body: Buffer, signal?: AbortSignal): Promise<void>;
  /** Fails with code `NotFound` where there is no such object. */
  get(key: string, options?: GetOptions): Promise<Buffer>;
  /** Undefined where there is no such object. */
  head(key: string, signal?: AbortSignal): Promise<ObjectInfo | undefined>;
  /** Success also where there was no such object. */
  delete(key: string, signal?: AbortSignal): Promise<void>;
  /** Objects whose key starts with `prefix`, in key order, streamed. */
  list(prefix: string, options?: { readonly after?: string; readonly signal?: AbortSignal }): AsyncIterable<ObjectInfo>;
  /**
   * The same, but of all keys that have a `/` behind the prefix only what leads up to it (size 0, no time), once. Absent where
   * that is not to be had from the store.
   */
  level?(prefix: string, options?: { readonly after?: string; readonly signal?: AbortSignal }): AsyncIterable<ObjectInfo>;
  /** What parts are like, where objects can be written in parts: then there is `upload`. */
  readonly partLimits?: PartLimits | undefined;
  readonly upload?: ((key: string, signal?: AbortSignal) => Promise<Upload>) | undefined;
  close(): Promise<void>;
}

export type ObjectErrorCode =
  'NotFound' | 'AccessDenied' | 'NoSuchBucket' | 'Throttled' | 'Unavailable' | 'Timeout' | 'Corrupt' | 'NoSpace' | 'Invalid';

/** A store refused or failed. `retryable` says whether the same call may succeed later unchanged. */
export class ObjectError extends Error {
  override readonly name = 'ObjectError';
  readonly code: ObjectErrorCode;
  readonly retryable: boolean;
  /** HTTP status, where there was one. */
  readonly status: number | undefined;
  /** Milliseconds the store asked to wait (Retry-After). */
  readonly retryAfterMs: number | undefined;
  /** The keys themselves were refused (unknown, expired, wrong), whatever they were used for: others may be accepted. */
  readonly keysRefused: boolean;

  constructor(
    code: ObjectErrorCode,
    message: string,
    options: ErrorOptions & {
      readonly retryable?: boolean;
      readonly status?: number;
      readonly retryAfterMs?: number;
      readonly keysRefused?: boolean;
    } = {},
  ) {
    super(message, options);
    this.code = code;
    this.retryable = options.retryable ?? (code === 'Throttled' || code === 'Unavailable' || code === 'Timeout');
    this.status = options.status;
    this.retryAfterMs = options.retryAfterMs;
    this.keysRefused = options.keysRefused ?? false;
  }
}
