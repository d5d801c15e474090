/**
 * The head of an HTTP/1.1 answer and the framing of its body, as far as an object store uses them (RFC 9112, sections 4 to 7):
 * a length, chunks, or the end of the connection. Anything else is refused; the connection is of no use then.
 */

export interface AnswerHead {
  readonly status: number;
  /** Names in lower case; of a repeated one the last counts. */
  readonly headers: Readonly<Record<string, string>>;
  /** Bytes of the body; NaN where the head does not say. */
  readonly length: number;
  readonly chunked: boolean;
  /** How long the server keeps the connection: 0 for "close", undefined where it says nothing, milliseconds. */
  readonly keepAliveMs: number | undefined;
}

/** Reads a head: everything before the empty line. Throws Error where it is none. */
export function parseHead(text: string): AnswerHead {
  const lines = text.split('\r\n');
  const status = /^HTTP\/1\.([01]) (\d{3})(?: |$)/.exec(lines[0] ?? '');
  if (!status) throw new Error('the answer is not HTTP/1.1');
  const headers: Record<string, string> = Object.create(null) as Record<string, string>;
  for (let index = 1; index < lines.length; index++) {
    const line = lines[index]!;
    const colon = line.indexOf(':');
    if (colon <= 0) throw new Error('the answer has a header line without a name');
    const name = line.slice(0, colon).toLowerCase();
    const value = line.slice(colon + 1).trim();
    if (name === 'content-length' && headers[name] !== undefined && headers[name] !== value)
      throw new Error('the answer has two lengths');
    headers[name] = value;
  }
  const coding = headers['transfer-encoding'];
  if (coding !== undefined && coding.toLowerCase() !== 'chunked')
    throw new Error('the answer has a transfer coding other than chunked');
  const length = headers['content-length'];
  if (length !== undefined && !/^\d{1,15}$/.test(length)) throw new Error('the answer has a length that is no number');
  const code = Number(status[2]);
  const empty = code < 200 || code === 204 || code === 304;
  return {
    status: code,
    headers,
    length: empty ? 0 : coding !== undefined || length === undefined ? Number.NaN : Number(length),
    chunked: !empty && coding !== undefined,
    keepAliveMs: keepAlive(headers, status[1] === '1'),
  };
}

function keepAlive(headers: Readonly<Record<string, string>>, persistent: boolean): number | undefined {
  const connection = headers['connection']?.toLowerCase() ?? '';
  if (connection.includes('close') || (!persistent && !connection.includes('keep-alive'))) return 0;
  const hint = /timeout=(\d{1,6})/.exec(headers['keep-alive'] ?? '');
  return hint ? Number(hint[1]) * 1000 : undefined;
}

/** The longest line of a chunk's size or a trailer. */
const MAX_LINE = 4096;

/** Takes a chunked body apart. */
export class Chunks {
  #left = 0;
  #line = '';
  #state: 'size' | 'data' | 'end' | 'trailer' | 'done' = 'size';

  /** True when the last chunk and the trailers have come. */
  get done(): boolean {
    return this.#state === 'done';
  }

  /** Hands the data in `bytes` to `take`. Returns how many of the bytes were part of the body. */
  feed(bytes: Buffer, take: (data: Buffer) => void): number {
    let at = 0;
    while (at < bytes.length && this.#state !== 'done') {
      if (this.#state === 'data') {
        const part = Math.min(this.#left, bytes.length - at);
        take(bytes.subarray(at, at + part));
        at += part;
        this.#left -= part;
        if (this.#left === 0) this.#state = 'end';
        continue;
      }
      const newline = bytes.indexOf(10, at);
      const end = newline < 0 ? bytes.length : newline + 1;
      if (this.#line.length + end - at > MAX_LINE) throw new Error('the answer has a chunk without a size');
      this.#line += bytes.toString('latin1', at, end);
      at = end;
      if (newline >= 0) this.#lineEnded();
    }
    return at;
  }

  #lineEnded(): void {
    const line = this.#line.replace(/\r?\n$/, '');
    this.#line = '';
    if (this.#state === 'end') {
      if (line !== '') throw new Error('the answer has a chunk that is longer than it says');
      this.#state = 'size';
    } else if (this.#state === 'trailer') {
      if (line === '') this.#state = 'done';
    } else {
      const size = /^([0-9a-f]{1,8})[ \t]*(?:;.*)?$/i.exec(line);
      if (!size) throw new Error('the answer has a chunk without a size');
      this.#left = Number.parseInt(size[1]!, 16);
      this.#state = this.#left === 0 ? 'trailer' : 'data';
    }
  }
}
