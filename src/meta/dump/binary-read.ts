/**
 * Reads a binary dump, ours or the official client's, segment by segment and within a segment message by message: theirs may hold a hundred
 * thousand records. Also its footer by itself, for a look at what is in it.
 *
 * Bounds: one piece of the source and one message, MAX_MESSAGE bytes. Errors: UserError DumpDamaged.
 */
import { UserError } from '../../lib/errors.ts';
import { footerSchema, FORMAT_SEGMENT, formatSchema, MAGIC, type Segment, segmentNames, segments, VERSION } from './messages.ts';
import { decode, type Message, Reader } from './protobuf.ts';

/** A chunk's list, the setting, the footer of a very large volume. */
const MAX_MESSAGE = 256 * 1024 * 1024;
const HEADER = 12;

const damaged = (what: string, position: number, cause?: unknown): UserError =>
  new UserError('DumpDamaged', `This is no whole binary dump: ${what} at byte ${position}.`, {
    cause,
    hint: 'Check that the file was copied to its end; a JSON dump is loaded without --binary.',
  });

export interface FooterInfo {
  readonly offsets: readonly number[];
  readonly count: number;
}
export interface Footer {
  readonly version: number;
  /** By the name of segments. */
  readonly infos: ReadonlyMap<string, FooterInfo>;
}

/** Reads a footer. Throws UserError. */
export function parseFooter(bytes: Buffer, position: number): Footer {
  try {
    const { magic, version } = decode(footerSchema, bytes) as { readonly magic: number; readonly version: number };
    if (magic !== MAGIC) throw damaged('its footer is something else', position);
    if (version > VERSION)
      throw new UserError('DumpTooNew', `The dump has version ${version}; this client reads version ${VERSION}.`, {
        hint: 'Load it with a newer client.',
      });
    const infos = new Map<string, FooterInfo>();
    const reader = new Reader(bytes);
    while (!reader.ended) {
      const [field, wire] = reader.field();
      if (field !== 3 || wire !== 2) {
        reader.skip(wire);
        continue;
      }
      const { name, info } = decode(
        [
          ['name', 'string'],
          ['info', 'bytes'],
        ],
        reader.bytes(),
      ) as { readonly name: string; readonly info: Buffer };
      const { offsets, count } = decode(
        [
          ['offsets', 'inos'],
          ['count', 'u64'],
        ],
        info,
      ) as unknown as FooterInfo;
      infos.set(name, { offsets, count });
    }
    return { version, infos };
  } catch (error) {
    throw error instanceof RangeError ? damaged(`its footer cannot be read: ${error.message}`, position, error) : error;
  }
}

/** What is in a dump, piece after piece. */
export type Part =
  | { readonly part: 'segment'; readonly type: number; readonly name: string; readonly offset: number }
  | { readonly part: 'setting'; readonly text: string }
  | { readonly part: 'record'; readonly segment: Segment; readonly message: Message }
  | { readonly part: 'footer'; readonly footer: Footer };

export class BinaryReader {
  readonly #source: AsyncIterator<Uint8Array>;
  #buffer: Buffer = Buffer.alloc(0);
  #at = 0;
  #before: number;

  /** `offset`: where in the dump the source begins, for messages. */
  constructor(source: AsyncIterable<Uint8Array>, offset = 0) {
    this.#source = source[Symbol.asyncIterator]();
    this.#before = offset;
  }

  get position(): number {
    return this.#before + this.#at;
  }

  /** So many bytes, or undefined where the source ends before. */
  async #take(length: number): Promise<Buffer | undefined> {
    if (length > MAX_MESSAGE) throw damaged(`it holds a message of ${length} bytes`, this.position);
    if (this.#buffer.length - this.#at < length && !(await this.#fill(length))) return undefined;
    const bytes = this.#buffer.subarray(this.#at, this.#at + length);
    this.#at += length;
    return bytes;
  }

  async #fill(length: number): Promise<boolean> {
    const pieces: Uint8Array[] = [this.#buffer.subarray(this.#at)];
    let have = this.#buffer.length - this.#at;
    while (have < length) {
      const { value, done } = await this.#source.next();
      if (done) break;
      pieces.push(value);
      have += value.length;
    }
    this.#before += this.#at;
    this.#at = 0;
    this.#buffer = Buffer.concat(pieces);
    return have >= length;
  }

  async #bytes(length: number): Promise<Buffer> {
    const bytes = await this.#take(length);
    if (!bytes) throw damaged('it ends in the middle', this.position);
    return bytes;
  }

  /** A number of at most 64 bits, and how many bytes it has. */
  async #varint(): Promise<readonly [value: number, length: number]> {
    let value = 0;
    for (let length = 1; ; length++) {
      const byte = this.#at < this.#buffer.length ? (this.#buffer[this.#at++] as number) : ((await this.#bytes(1))[0] as number);
      value += (byte & 0x7f) * 2 ** (7 * (length - 1));
      if (byte < 0x80) return [value, length];
      if (length === 8) throw damaged('it holds a length that cannot be', this.position);
    }
  }

  /** Everything up to the end of the dump. `only` ends after the first segment. */
  async *parts(only = false): AsyncGenerator<Part> {
    for (;;) {
      const offset = this.position;
      const type = (await this.#bytes(4)).readUInt32BE();
      if (type === MAGIC) break;
      const length = Number((await this.#bytes(HEADER - 4)).readBigUInt64BE());
      const name = segmentNames.get(type);
      if (name === undefined) throw damaged(`it holds a segment of the unknown type ${type}`, offset);
      yield { part: 'segment', type, name, offset };
      if (type === FORMAT_SEGMENT) yield await this.#setting(length);
      else yield* this.#batch(length);
      if (only) return;
    }
    yield { part: 'footer', footer: await this.#footer() };
  }

  async #setting(length: number): Promise<Part> {
    const at = this.position;
    const { data } = this.#decode(formatSchema, await this.#bytes(length), at) as { readonly data: Buffer };
    return { part: 'setting', text: data.toString('utf8') };
  }

  #decode(schema: Parameters<typeof decode>[0], bytes: Buffer, at: number): Message {
    try {
      return decode(schema, bytes);
    } catch (error) {
      throw damaged(`a message cannot be read: ${(error as Error).message}`, at, error);
    }
  }

  async *#batch(length: number): AsyncGenerator<Part> {
    for (const end = this.position + length; this.position < end;) {
      const at = this.position;
      const [tag] = await this.#varint();
      const [field, wire] = [Math.floor(tag / 8), tag % 8];
      if (wire !== 2) throw damaged(`a batch holds a field of type ${wire}`, at);
      const [size] = await this.#varint();
      if (this.position + size > end) throw damaged('a message is longer than its segment', at);
      const bytes = await this.#bytes(size);
      const segment = segments.find((each) => each.field === field);
      // The change log, and what later versions add.
      if (segment) yield { part: 'record', segment, message: this.#decode(segment.schema, bytes, at) };
    }
  }

  /** What stands behind the end of the segments: everything but the last eight bytes, which are its length. */
  async #footer(): Promise<Footer> {
    const at = this.position;
    await this.#fill(MAX_MESSAGE);
    const rest = this.#buffer;
    if (rest.length < 8 || Number(rest.readBigUInt64BE(rest.length - 8)) !== rest.length - 8)
      throw damaged('its footer is not whole', at);
    return parseFooter(rest.subarray(0, -8), at);
  }
}
