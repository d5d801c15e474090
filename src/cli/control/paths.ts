/**
 * Paths as a person gave them, byte for byte: names of a volume need not be UTF-8, and what Node makes of such arguments is
 * something else. Where they lie is asked of the kernel.
 */
import { readFileSync, realpathSync, statSync, lstatSync, type BigIntStats } from 'node:fs';
import { messageOf, UserError } from '../../lib/errors.ts';

const SLASH = 0x2f;
/** What Node puts in the place of bytes that are not UTF-8. */
const LOST = '\u{fffd}';

/** The bytes of an argument of this process. */
export function argumentBytes(text: string): Buffer {
  if (!text.includes(LOST)) return Buffer.from(text);
  const all = readFileSync('/proc/self/cmdline');
  const given: Buffer[] = [];
  for (let from = 0; from < all.length;) {
    const end = all.indexOf(0, from);
    given.push(all.subarray(from, end));
    from = end + 1;
  }
  // Node's own options stand before; the end is the same in both.
  const at = process.argv.indexOf(text);
  return (at < 0 ? undefined : given[given.length - process.argv.length + at]) ?? Buffer.from(text);
}

/** A path as it is told: on one line. */
export function shown(path: Buffer): string {
  const text = path.toString();
  // oxlint-disable-next-line no-control-regex -- those are what must not reach a terminal
  return /[\0-\x1f\x7f]/.test(text) ? JSON.stringify(text) : text;
}

/** From the root on, without slashes at the end. */
export function absolute(path: Buffer): Buffer {
  const whole = path[0] === SLASH ? path : Buffer.concat([Buffer.from(`${process.cwd()}/`), path]);
  let end = whole.length;
  while (end > 1 && whole[end - 1] === SLASH) end--;
  return whole.subarray(0, end);
}

/** The directory that a path's last name lies in, and that name. Throws UserError where it has none of its own. */
export function split(path: Buffer): { readonly folder: Buffer; readonly name: Buffer } {
  const whole = absolute(path);
  const at = whole.lastIndexOf(SLASH);
  const name = whole.subarray(at + 1);
  if (name.length === 0 || name.equals(Buffer.from('.')) || name.equals(Buffer.from('..')))
    throw new UserError('InvalidPath', `${shown(path)}: wanted the path of a file or directory below a mount point, by its name`);
  return { folder: at === 0 ? whole.subarray(0, 1) : whole.subarray(0, at), name };
}

export interface Found {
  readonly path: Buffer;
  readonly stat: BigIntStats;
  /** A directory of the same mount: the path itself, or the one it lies in. */
  readonly folder: Buffer;
}

/** Looks at a path, through symbolic links; at a link by itself where it leads nowhere. Throws UserError `PathMissing`. */
export function find(path: Buffer): Found {
  const whole = absolute(path);
  try {
    const stat = statSync(whole, { bigint: true });
    return { path, stat, folder: stat.isDirectory() ? whole : split(realpathSync(whole, 'buffer')).folder };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const link = code === 'ENOENT' ? lstatSync(whole, { bigint: true, throwIfNoEntry: false }) : undefined;
    if (link) return { path, stat: link, folder: split(whole).folder };
    throw new UserError(
      'PathMissing',
      `${shown(path)}: ${code === 'ENOENT' ? 'there is no such file or directory' : messageOf(error)}`,
    );
  }
}
