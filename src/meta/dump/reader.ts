/**
 * Reads JSON of any size piece by piece: containers are entered and left, and only values that are asked for are taken whole. Used for
 * loading a dump, whose tree may be larger than memory.
 *
 * Bounds: what is read and not taken yet, one piece of the source; a value that is taken whole, MAX_VALUE bytes.
 * Errors: UserError DumpDamaged, with the place (bytes from the beginning).
 */
import { UserError } from '../../lib/errors.ts';

/** The longest value taken whole: all extended attributes of a file, for one. */
const MAX_VALUE = 64 * 1024 * 1024;

const QUOTE = 34;
const COMMA = 44;
const COLON = 58;
const BACKSLASH = 92;
const OPEN = [123, 91];
const CLOSE = [125, 93];

const isSpace = (byte: number): boolean => byte === 32 || byte === 10 || byte === 13 || byte === 9;

export class JsonReader {
  readonly #source: AsyncIterator<Uint8Array>;
  #buffer: Buffer = Buffer.alloc(0);
  #at = 0;
  /** Bytes before the buffer. */
  #before = 0;
  #ended = false;
  /** For each container that is open: whether a member was taken from it. */
  readonly #open: boolean[] = [];

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** Bytes read so far. */
  get position(): number {
    return this.#before + this.#at;
  }

  #damaged(what: string): UserError {
    return new UserError('DumpDamaged', `This is no whole JSON dump: ${what} at byte ${this.position}.`, {
      hint: 'Check that the file was copied to its end; a dump made with --binary is loaded with --binary.',
    });
  }

  /** Puts more bytes behind those that are there. False where there are none. */
  async #fill(): Promise<boolean> {
    if (this.#ended) return false;
    const { value, done } = await this.#source.next();
    if (done) {
      this.#ended = true;
      return false;
    }
    const rest = this.#buffer.subarray(this.#at);
    this.#before += this.#at;
    this.#at = 0;
    this.#buffer =
      rest.length === 0 ? Buffer.from(value.buffer, value.byteOffset, value.byteLength) : Buffer.concat([rest, value]);
    return true;
  }

  /** The next byte that is no space, which stays; undefined at the end. */
  async #peek(): Promise<number | undefined> {
    for (;;) {
      while (this.#at < this.#buffer.length) {
        const byte = this.#buffer[this.#at] ?? 0;
        if (!isSpace(byte)) return byte;
        this.#at++;
      }
      if (!(await this.#fill())) return undefined;
    }
  }

  async #expect(bytes: readonly number[]): Promise<number> {
    const byte = await this.#peek();
    if (byte === undefined) throw this.#damaged('it ends in the middle');
    if (!bytes.includes(byte)) {
      const wanted = bytes.map((each) => JSON.stringify(String.fromCharCode(each))).join(' or ');
      throw this.#damaged(`wanted ${wanted}, found ${JSON.stringify(String.fromCharCode(byte))}`);
    }
    this.#at++;
    return byte;
  }

  /** Enters the object or list that comes next. */
  async enter(kind: 'object' | 'list'): Promise<void> {
    await this.#expect([OPEN[kind === 'object' ? 0 : 1] as number]);
    this.#open.push(false);
  }

  /** True where the container has another member, which comes next; else it is left. */
  async #more(): Promise<boolean> {
    const byte = await this.#peek();
    if (byte === undefined) throw this.#damaged('it ends in the middle');
    const depth = this.#open.length - 1;
    if (CLOSE.includes(byte)) {
      this.#at++;
      this.#open.pop();
      return false;
    }
    if (this.#open[depth]) await this.#expect([COMMA]);
    this.#open[depth] = true;
    return true;
  }

  /** The name of the next member of an object, whose value comes next; undefined where there is none, and the object is left. */
  async key(): Promise<string | undefined> {
    if (!(await this.#more())) return undefined;
    if ((await this.#peek()) !== QUOTE) await this.#expect([QUOTE]);
    const name = JSON.parse(await this.value()) as string;
    await this.#expect([COLON]);
    return name;
  }

  /** True where a list has another item, which comes next; else the list is left. */
  item(): Promise<boolean> {
    return this.#more();
  }

  /** True where the next value is `null`, which is taken. */
  async isNull(): Promise<boolean> {
    if ((await this.#peek()) !== 110) return false;
    await this.value();
    return true;
  }

  /** The text of the next value, whole. */
  async value(): Promise<string> {
    const pieces: Buffer[] = [];
    let length = 0;
    await this.#walk((piece) => {
      length += piece.length;
      if (length > MAX_VALUE) throw this.#damaged(`a value of more than ${MAX_VALUE} bytes`);
      pieces.push(piece);
    });
    const text = (pieces.length === 1 ? (pieces[0] as Buffer) : Buffer.concat(pieces)).toString('utf8');
    return text;
  }

  /** Passes over the next value. */
  async skip(): Promise<void> {
    await this.#walk(() => {});
  }

  /** Goes over the next value, and gives its bytes. */
  async #walk(take: (piece: Buffer) => void): Promise<void> {
    if ((await this.#peek()) === undefined) throw this.#damaged('it ends in the middle');
    let depth = 0;
    let inString = false;
    let escaped = false;
    for (let begun = false; ;) {
      const from = this.#at;
      const buffer = this.#buffer;
      let at = from;
      let complete = false;
      for (; at < buffer.length && !complete; at++) {
        const byte = buffer[at] as number;
        if (inString) {
          if (escaped) escaped = false;
          else if (byte === BACKSLASH) escaped = true;
          else if (byte === QUOTE) {
            inString = false;
            complete = depth === 0;
          }
        } else if (byte === QUOTE) inString = true;
        else if (byte === 123 || byte === 91) depth++;
        else if (byte === 125 || byte === 93) {
          // A number or a word ends before what closes its container.
          if (depth === 0) break;
          complete = --depth === 0;
        } else if (depth === 0 && begun && (byte === COMMA || isSpace(byte))) break;
        begun = true;
      }
      const over = complete || (at < buffer.length && !inString);
      this.#at = at;
      if (at > from) take(buffer.subarray(from, at));
      if (over) return;
      if (!(await this.#fill())) throw this.#damaged('it ends in the middle');
    }
  }

  /** Throws where there is more. */
  async end(): Promise<void> {
    if ((await this.#peek()) !== undefined) throw this.#damaged('something follows the dump');
  }
}
