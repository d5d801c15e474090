/**
 * The form of a journal (journal.ts), for a client may be followed by one of another version: a rollout, or its way back. The folder has a
 * file `version` of one line, `juicepod-journal FORM (juicepod VERSION)`, the newest form in it and who wrote that; each segment says its form
 * in its head (journal-file.ts). Forms that are known are read; where there is another one the client does not start: what lies there was
 * acknowledged to programs, and to serve without it would be to lose it in silence, while a client that knows it loses nothing.
 *
 * | form | what |
 * |---|---|
 * | 1 | records from the first byte on, without stamps; no file `version` |
 * | 2 | a head and stamps; without a file `version` up to Juicepod 0.1.0 |
 * | 3 | records may name bytes in the file that the holder keeps (pieces.ts) in place of having them |
 */
import { closeSync, openSync, readdirSync, readFileSync, readSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import packageJson from '../../package.json' with { type: 'json' };
import { UserError } from '../lib/errors.ts';

/** The form that this version writes. */
export const FORM = 3;
/** Bytes at the start of a segment that say its form. */
export const FORM_BYTES = 16;
export const MAGIC_1 = 0x4a504a31;
export const MAGIC_2 = 0x4a504a32;
export const MAGIC_3 = 0x4a504a33;

const LINE = /^juicepod-journal (\d+)(?: \(juicepod ([\w.+-]+)\))?/;

/** The form of a segment that begins so; undefined where it is not known. A file that is shorter has no record: give it as `empty`. */
export function formOf(head: Buffer, bytes: number): 1 | 2 | 3 | 'empty' | undefined {
  if (bytes < FORM_BYTES) return 'empty';
  if (head.readUInt32LE(4) === MAGIC_1) return 1;
  if (head.readUInt32LE(4) !== 0) return undefined;
  const magic = head.readUInt32LE(0);
  if (magic === MAGIC_2) return 2;
  return magic === MAGIC_3 ? 3 : undefined;
}

/** Says in the folder which form is written there. Where that cannot be, the heads of the segments say it. */
export function noteForm(folder: string): void {
  try {
    writeFileSync(join(folder, 'version'), `juicepod-journal ${FORM} (juicepod ${packageJson.version})\n`, { mode: 0o600 });
  } catch {
    // A full disk, say.
  }
}

/** Throws UserError where something of another form lies in the folder. What cannot be read is the reader's to complain of. */
export function checkForm(folder: string): void {
  const [, form, writer] = LINE.exec(textOf(join(folder, 'version'))) ?? [];
  if (form !== undefined && Number(form) > FORM) throw otherForm(folder, `form ${form}`, writer);
  const head = Buffer.alloc(FORM_BYTES);
  for (const name of namesIn(folder)) {
    if (!/^\d+\.segment$/.test(name)) continue;
    const file = openSync(join(folder, name), 'r');
    try {
      if (formOf(head, readSync(file, head, 0, FORM_BYTES, 0)) === undefined)
        throw otherForm(folder, `a form that ${name} does not name`, writer);
    } finally {
      closeSync(file);
    }
  }
}

export function otherForm(folder: string, what: string, writer: string | undefined): UserError {
  const wanted = writer === undefined ? 'the version of Juicepod that wrote it' : `Juicepod ${writer}`;
  return new UserError(
    'JournalOfAnotherVersion',
    `the client before this one left writes that are not stored yet, in a journal of ${what}; Juicepod ${packageJson.version} reads up to form ${FORM}: ${folder}`,
    {
      hint: `Nothing is lost as long as the folder stays. Start ${wanted} (or a later one) in the place of this client: it stores the writes, and the mount goes on. To give the writes up, move the folder away.`,
    },
  );
}

const textOf = (path: string): string => {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
};

/** Names in a folder that may be missing. */
export const namesIn = (folder: string): readonly string[] => {
  try {
    return readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
};
