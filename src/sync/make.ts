/** Making single files and links of a hydrated tree. Paths are bytes. */
import { constants, open as openCallback, unlinkSync } from 'node:fs';
import { promisify } from 'node:util';
import { isErrno } from '../fuse/libc.ts';
import { look } from './local.ts';
import type { Print } from './print.ts';

const open = promisify(openCallback);

/** What a file that was just made looks like. */
export function madeAt(path: Buffer): Print {
  const made = look(path);
  if (!made) throw new Error('a file that was just made is gone');
  return made.print;
}

/** Removes a name, if it is there. */
export function remove(path: Buffer): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
  }
}

/**
 * A new file; what a process that died left in its place goes. Made in another thread: on a busy disk it is the one call of a small file that
 * waits (measured: a quarter of a hydration), and meanwhile others can be fetched.
 */
export async function create(path: Buffer): Promise<number> {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  try {
    return await open(path, flags, 0o600);
  } catch (error) {
    if (!isErrno(error, 'EEXIST')) throw error;
    remove(path);
    return await open(path, flags, 0o600);
  }
}
