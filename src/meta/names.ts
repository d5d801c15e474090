/** Names of entries: raw bytes, 1 to 255 of them, without `/` and NUL. */
import { FsError } from '../lib/errors.ts';
import { type Ino, ROOT_INO } from '../lib/int64.ts';

export const MAX_NAME = 255;
export const MAX_SYMLINK = 4096;
const TRASH_NAME = Buffer.from('.trash');

/** `.` and `..`, which are never stored. */
export function isDots(name: Buffer): boolean {
  return name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e));
}

/** The trash, which lies in the root under this name without an entry. */
export function isTrashName(parent: Ino, name: Buffer): boolean {
  return parent === ROOT_INO && name.equals(TRASH_NAME);
}

/** Throws ENAMETOOLONG or EINVAL for what cannot be a name, EEXIST for `.` and `..`. */
export function requireNewName(name: Buffer): void {
  if (name.length > MAX_NAME) throw new FsError('ENAMETOOLONG');
  if (name.length === 0 || name.includes(0) || name.includes(0x2f)) throw new FsError('EINVAL');
  if (isDots(name)) throw new FsError('EEXIST');
}
