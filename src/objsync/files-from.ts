/**
 * A list of files and directories to copy (--files-from): one key a line, as the official client reads it. Blanks at the end of a line are cut off,
 * empty lines are passed over. The file is read as it is worked off, so it may be of any length.
 */
import { createReadStream } from 'node:fs';
import { messageOf, UserError } from '../lib/errors.ts';

/** What a path can be at most, four times. */
const MAX_LINE = 16 * 1024;
const NEWLINE = 0x0a;

/** The keys in the file, in its order; bytes as Latin-1, as all keys (side.ts). Throws UserError. */
export async function* keysIn(path: string): AsyncGenerator<string> {
  let rest: Buffer = Buffer.alloc(0);
  try {
    for await (const piece of createReadStream(path) as AsyncIterable<Buffer>) {
      const text = rest.length > 0 ? Buffer.concat([rest, piece]) : piece;
      let from = 0;
      for (let end = text.indexOf(NEWLINE); end >= 0; end = text.indexOf(NEWLINE, from)) {
        yield* keyIn(text.subarray(from, end), path);
        from = end + 1;
      }
      rest = text.subarray(from);
      if (rest.length > MAX_LINE) throw tooLong(path);
    }
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError('FilesFrom', `--files-from: ${path} cannot be read: ${messageOf(error)}`, { cause: error });
  }
  yield* keyIn(rest, path);
}

function* keyIn(line: Buffer, path: string): Generator<string> {
  if (line.length > MAX_LINE) throw tooLong(path);
  const key = line.toString('latin1').replace(/[ \t\r\v\f]+$/, '');
  if (key !== '') yield key;
}

const tooLong = (path: string): UserError =>
  new UserError('FilesFrom', `--files-from: wanted a path in each line of ${path}, found a line of more than ${MAX_LINE} bytes`);

/** Whether a key stays within a folder or a volume. */
export const staysInside = (key: string): boolean => !key.startsWith('/') && !key.split('/').includes('..');
