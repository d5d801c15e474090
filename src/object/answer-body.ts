/**
 * Where the body of one HTTP answer goes: a successful one into the caller's buffer or a new one, without the bytes before
 * a range that the server did not heed; any other into a small buffer for the error's text, cut where it is long.
 *
 * Invariant: never more than the caller's buffer, or `maxBody` bytes, are kept.
 */
import { ObjectError } from './store.ts';

export interface BodyTarget {
  readonly origin: string;
  readonly method: string;
  readonly into?: Buffer | undefined;
  readonly range?: { readonly offset: number; readonly length: number | undefined } | undefined;
  readonly maxBody: number;
}

/** Bytes of an error's text that are kept. */
const MAX_ERROR_BODY = 64 * 1024;

export class AnswerBody {
  readonly #to: BodyTarget;
  readonly #good: boolean;
  #target: Buffer;
  #length = 0;
  #skip = 0;
  #wanted = Infinity;

  /**
   * @param announced the length of the body where the server said it, else NaN.
   * @throws ObjectError `Invalid` where more is announced than may come.
   */
  constructor(to: BodyTarget, status: number, announced: number) {
    this.#to = to;
    this.#good = status === 200 || status === 206 || status === 207;
    if (this.#good && to.range && status === 200) {
      this.#skip = to.range.offset;
      this.#wanted = to.range.length ?? Infinity;
    }
    if (this.#good && to.into) {
      this.#target = to.into;
      return;
    }
    const most = this.#good ? to.maxBody : MAX_ERROR_BODY;
    // What a HEAD announces is the object's length, and does not come.
    if (to.method === 'HEAD') {
      this.#target = Buffer.alloc(0);
      return;
    }
    if (this.#good && announced - this.#skip > most && this.#wanted > most) throw this.#tooLong();
    const first = Number.isNaN(announced) ? 4096 : Math.max(0, announced - this.#skip);
    this.#target = Buffer.allocUnsafeSlow(Math.min(first, most, this.#wanted));
  }

  /** Where the next bytes of the body may be put as they come; undefined where they have to go through `push`. */
  get room(): Buffer | undefined {
    if (this.#skip > 0 || this.#wanted < Infinity || this.#length === this.#target.length) return undefined;
    return this.#target.subarray(this.#length);
  }

  /** So many bytes were put into `room`. */
  filled(bytes: number): void {
    this.#length += bytes;
  }

  /** Takes the next bytes of the body. @throws ObjectError `Invalid` where they are too many. */
  push(chunk: Buffer): void {
    let from = 0;
    if (this.#skip > 0) {
      from = Math.min(this.#skip, chunk.length);
      this.#skip -= from;
    }
    const bytes = Math.min(chunk.length - from, this.#wanted - this.#length);
    const needed = this.#length + bytes;
    if (needed > this.#target.length) {
      if (this.#good && (this.#to.into || needed > this.#to.maxBody)) throw this.#tooLong();
      if (!this.#good && needed > MAX_ERROR_BODY) return;
      const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.#target.length * 2));
      this.#target.copy(larger, 0, 0, this.#length);
      this.#target = larger;
    }
    chunk.copy(this.#target, this.#length, from, from + bytes);
    this.#length = needed;
  }

  /** What has come. */
  get bytes(): Buffer {
    return this.#target.subarray(0, this.#length);
  }

  #tooLong(): ObjectError {
    const { origin, into, maxBody } = this.#to;
    return new ObjectError(
      'Invalid',
      `${origin} answered with more than the ${into?.length ?? maxBody} bytes that were expected`,
    );
  }
}
