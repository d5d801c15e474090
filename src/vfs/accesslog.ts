/**
 * The access log that `.accesslog` streams, in the format the official tools parse:
 * `2026.11.21 10:18:13.327766 [uid:0,gid:0,pid:657] op (args): result - OK <0.000620>`. Nothing is formatted while nobody
 * reads. Each reader has a bounded queue; what does not fit is dropped for that reader. Source: JuiceFS format, virtual files.
 */
import type { Clock } from '../lib/clock.ts';

/** Lines kept for one reader. */
const MAX_LINES = 10_240;
/** A reader gets `#` when nothing happened for so long, milliseconds. */
const IDLE_MS = 1000;

export interface LogReader {
  /** The next lines, at most `size` bytes; waits up to a second for some, then answers a line `#`. */
  read(size: number, signal: AbortSignal): Promise<Buffer>;
  close(): void;
}

export class AccessLog {
  readonly #clock: Clock;
  readonly #readers = new Set<{ lines: string[]; wake: (() => void) | undefined }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** True while somebody reads. */
  get active(): boolean {
    return this.#readers.size > 0;
  }

  /** Writes one line to every reader. `seconds` is how long the operation took; `outcome` is `OK` or the error's text. */
  write(
    caller: { readonly uid: number; readonly gid: number; readonly pid: number },
    operation: string,
    result: string,
    outcome: string,
    seconds: number,
  ): void {
    const line = `${timestamp(this.#clock.nowNs())} [uid:${caller.uid},gid:${caller.gid},pid:${caller.pid}] ${operation}${result} - ${outcome} <${seconds.toFixed(6)}>\n`;
    for (const reader of this.#readers) {
      if (reader.lines.length < MAX_LINES) reader.lines.push(line);
      reader.wake?.();
    }
  }

  open(): LogReader {
    const reader: { lines: string[]; wake: (() => void) | undefined } = { lines: [], wake: undefined };
    let rest = Buffer.alloc(0);
    this.#readers.add(reader);
    return {
      read: async (size, signal) => {
        if (rest.length === 0) {
          if (reader.lines.length === 0) await this.#wait(reader, signal);
          rest = Buffer.from(reader.lines.splice(0).join('') || '#\n');
        }
        const data = rest.subarray(0, size);
        rest = rest.subarray(data.length);
        return data;
      },
      close: () => {
        this.#readers.delete(reader);
        reader.wake?.();
      },
    };
  }

  async #wait(reader: { wake: (() => void) | undefined }, signal: AbortSignal): Promise<void> {
    const woken = Promise.withResolvers<void>();
    reader.wake = woken.resolve;
    const cancel = this.#clock.timer(IDLE_MS, woken.resolve);
    const interrupted = (): void => woken.reject(signal.reason as Error);
    signal.addEventListener('abort', interrupted, { once: true });
    try {
      await woken.promise;
    } finally {
      cancel();
      reader.wake = undefined;
      signal.removeEventListener('abort', interrupted);
    }
  }
}

/** `2026.11.21 10:18:13.327766`, UTC. */
export function timestamp(ns: bigint): string {
  const date = new Date(Number(ns / 1_000_000n));
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = `${date.getUTCFullYear()}.${two(date.getUTCMonth() + 1)}.${two(date.getUTCDate())}`;
  const time = `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}:${two(date.getUTCSeconds())}`;
  return `${day} ${time}.${String(Number((ns / 1000n) % 1_000_000n)).padStart(6, '0')}`;
}

const PRINTED = /^[\p{L}\p{M}\p{N}\p{P}\p{S} ]$/u;
const LETTERS: Readonly<Record<string, string>> = {
  '\u0007': '\\a',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\v': '\\v',
  '\\': '\\\\',
  '"': '\\"',
};
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Where the character that begins at `at` ends, and the character; undefined where there is none. */
function character(name: Buffer, at: number): string | undefined {
  const lead = name[at] ?? 0;
  const length = lead < 0x80 ? 1 : lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  try {
    return utf8.decode(name.subarray(at, at + length));
  } catch {
    return undefined;
  }
}

/**
 * A name as the official client logs it: as it is, where Go could write it between backquotes; else as Go quotes it, without the
 * quotation marks around it. So a name never makes a line of its own.
 */
export function loggedName(name: Buffer): string {
  let plain: string | undefined;
  try {
    plain = utf8.decode(name);
  } catch {
    // Not UTF-8: quoted.
  }
  // oxlint-disable-next-line no-control-regex -- these are what is looked for
  if (plain !== undefined && !/[\u0000-\u0008\u000a-\u001f`\u007f\ufeff]/.test(plain)) return plain;
  let quoted = '';
  for (let at = 0; at < name.length;) {
    const text = character(name, at);
    if (text === undefined || text.length === 0) {
      quoted += `\\x${(name[at] ?? 0).toString(16).padStart(2, '0')}`;
      at++;
      continue;
    }
    at += Buffer.byteLength(text);
    const code = text.codePointAt(0) ?? 0;
    if (LETTERS[text] !== undefined) quoted += LETTERS[text];
    else if (PRINTED.test(text)) quoted += text;
    else if (code < 0x80) quoted += `\\x${code.toString(16).padStart(2, '0')}`;
    else quoted += code < 0x1_0000 ? `\\u${code.toString(16).padStart(4, '0')}` : `\\U${code.toString(16).padStart(8, '0')}`;
  }
  return quoted.replace(/^"+|"+$/g, '');
}
