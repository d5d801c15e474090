/** The mount point: a folder that is made where it is missing, and taken away again where nothing came to be mounted there. */
import { mkdirSync, rmdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { messageOf, UserError } from '../../lib/errors.ts';

/** Makes a folder that is missing, parents too; answers those that it made, the deepest first. Throws UserError naming the argument. */
export function makeFolder(path: string, argument: string): readonly string[] {
  try {
    const first = mkdirSync(path, { recursive: true });
    const made: string[] = [];
    if (first !== undefined) for (let folder = path; folder.length >= first.length; folder = dirname(folder)) made.push(folder);
    return made;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const reason = code === 'EEXIST' || code === 'ENOTDIR' ? 'there is a file in its place' : messageOf(error);
    throw new UserError('InvalidFolder', `${argument}: ${path} is no folder and cannot be made one: ${reason}`, {
      hint: 'Name a folder, or a path where one can be made.',
    });
  }
}

/** Removes folders that were made, as far as they are empty still. */
export function removeMade(folders: readonly string[]): void {
  try {
    for (const folder of folders) rmdirSync(folder);
  } catch {
    // Somebody uses it, or has removed it.
  }
}
