/**
 * The text of an entry of the change log, made and read:
 * `<seconds>.<nanoseconds, 9 digits>|OP(argument,…)[:result]|(<session>,<number>)`. The number counts what one client has written,
 * from 1 on; one that is missing was of a change that met another and was decided anew. All of it is printable ASCII: bytes of
 * names, values and rules below 32 or above 126, and `, % ( ) " \`, are `%XX`.
 *
 * Source: the JuiceFS format, §4.6 (logEncode and genLog in pkg/meta of 1.4.1).
 */
import { UserError } from '../lib/errors.ts';

const HEX = '0123456789ABCDEF';
/** `%XX` of bytes that are not themselves, else undefined. */
const escapes: readonly (string | undefined)[] = Array.from({ length: 256 }, (_, byte) =>
  byte < 32 || byte >= 127 || ',%()"\\'.includes(String.fromCharCode(byte))
    ? `%${HEX.charAt(byte >> 4)}${HEX.charAt(byte & 15)}`
    : undefined,
);

/** Bytes as they stand in an entry. */
export function escapeBytes(bytes: Buffer): string {
  let text = '';
  let begin = 0;
  for (let at = 0; at < bytes.length; at++) {
    const escape = escapes[bytes[at] as number];
    if (escape === undefined) continue;
    text += bytes.toString('latin1', begin, at) + escape;
    begin = at + 1;
  }
  return begin === 0 ? bytes.toString('latin1') : text + bytes.toString('latin1', begin);
}

/** The bytes that an argument stands for. Throws UserError `LogEntry`. */
export function unescapeBytes(text: string): Buffer {
  const parts = text.split('%');
  return Buffer.concat(
    parts.map((part, at) => {
      if (at === 0) return Buffer.from(part, 'latin1');
      const byte = Number.parseInt(part.slice(0, 2), 16);
      if (!/^[0-9A-Fa-f]{2}/.test(part))
        throw new UserError('LogEntry', `an entry of the change log has a broken escape: %${part.slice(0, 2)}`);
      return Buffer.concat([Buffer.of(byte), Buffer.from(part.slice(2), 'latin1')]);
    }),
  );
}

/** What precedes the operation: the time. */
export function timeText(sec: number, nsec: number): string {
  return `${sec}.${String(nsec).padStart(9, '0')}|`;
}

export interface LogEntry {
  /** When it was done, by the clock of who did it. */
  readonly sec: number;
  readonly nsec: number;
  readonly operation: string;
  /** As they stand in the text: `unescapeBytes` makes bytes of names. */
  readonly args: readonly string[];
  /** Undefined where the operation has none. */
  readonly result: string | undefined;
  /** The session, 0 for commands. */
  readonly session: number;
  /** Counts the entries of one client. */
  readonly number: number;
}

const form = /^(\d+)\.(\d{1,9})\|([A-Z_]+)\((.*)\)(?::([^|()]*))?\|\((\d+),(\d+)\)$/s;

/** Reads the text of an entry. Undefined where it has another form. */
export function parseEntry(text: string): LogEntry | undefined {
  const match = form.exec(text);
  if (!match) return undefined;
  const [, sec = '', nsec = '', operation = '', args = '', result, session = '', number = ''] = match;
  return {
    sec: Number(sec),
    nsec: Number(nsec),
    operation,
    args: args === '' ? [] : args.split(','),
    result,
    session: Number(session),
    number: Number(number),
  };
}

/** When an entry was written, in nanoseconds since the epoch; undefined where the text does not say. */
export function timeOfEntry(text: string): bigint | undefined {
  const match = /^(\d+)(?:\.(\d{1,9}))?\|/.exec(text);
  return match ? BigInt(match[1] ?? '') * 1_000_000_000n + BigInt(match[2] ?? 0) : undefined;
}
