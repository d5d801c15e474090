/**
 * Names under which what is being written lies beside its own, until it is whole: `.jfs.<name>.tmp.<number>`, as the official client
 * has them. Listings leave them out.
 */
import type { Random } from '../lib/random.ts';

const TEMPORARY = /^\.jfs\..*\.tmp\.\d+$/;
/** With what is added a name stays below the 255 bytes of file systems. */
const MAX_NAME = 200;

/** A temporary name for `name`, which is the last part of a path. */
export function temporaryName(name: string, random: Random): string {
  return `.jfs.${name.slice(0, MAX_NAME)}.tmp.${Math.floor(random.float() * 2 ** 31)}`;
}

export const isTemporaryName = (name: string): boolean => TEMPORARY.test(name);
