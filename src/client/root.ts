/**
 * The directory of a volume that a mount shows as its root. One that is missing is made, as JuiceFS and Kubernetes do, by one
 * client among those that look for it at the same time; nobody sees it with another owner or mode than it shall have (below a
 * directory with the set-group-ID bit, which gives its group to what is made in it, these two follow a moment later). One that
 * exists is left as it is, whatever it is like.
 */
import { errno, messageOf, toErrno, UserError } from '../lib/errors.ts';
import { type Ino, ROOT_INO } from '../lib/int64.ts';
import { type Entry, type Meta, NodeType, SYSTEM } from '../meta/types.ts';

export interface RootOptions {
  /** Relative, without `.` and `..`; empty for the root of the volume. */
  readonly subPath: string;
  readonly directory?: { readonly uid: number; readonly gid: number; readonly mode: number };
  readonly readOnly: boolean;
}

/** Whoever may use it decides its owner and mode from then on. */
const OPEN = { uid: 0, gid: 0, mode: 0o777 };
/** What leads to a directory that belongs to somebody is not for others to rename. */
const ABOVE = { uid: 0, gid: 0, mode: 0o755 };

async function make(meta: Meta, parent: Ino, name: Buffer, { uid, gid, mode }: typeof OPEN): Promise<Entry> {
  let entry: Entry;
  try {
    entry = await meta.mkdir({ ...SYSTEM, uid, gid }, parent, name, mode, 0);
  } catch (error) {
    if (toErrno(error) !== errno.EEXIST) throw error;
    // Another client was faster, and made it as it should be.
    return meta.lookup(SYSTEM, parent, name);
  }
  // Below a directory with the set-group-ID bit the group and that bit are the parent's.
  if (entry.attr.gid === gid && entry.attr.mode === mode) return entry;
  // One after the other: a change of the group has a say in the mode.
  await meta.setattr(SYSTEM, entry.ino, { gid });
  return { ...entry, attr: await meta.setattr(SYSTEM, entry.ino, { mode }) };
}

/** The inode of the root. Throws UserError where it is not there and cannot be made, or is no directory. */
export async function findRoot(meta: Meta, { subPath, directory, readOnly }: RootOptions): Promise<Ino> {
  let ino: Ino = ROOT_INO;
  const names = subPath.split('/').filter((part) => part !== '');
  for (const [index, text] of names.entries()) {
    const walked = `/${names.slice(0, index + 1).join('/')}`;
    const name = Buffer.from(text);
    const kind = directory === undefined ? OPEN : index === names.length - 1 ? directory : ABOVE;
    const entry = await meta
      .lookup(SYSTEM, ino, name)
      .catch((error: unknown) => {
        if (toErrno(error) !== errno.ENOENT) throw error;
        if (!readOnly) return make(meta, ino, name, kind);
        throw new UserError('SubPathMissing', `the directory ${walked} is not in the volume ${meta.format.name}`, {
          cause: error,
          hint: 'The mount is read-only, so it cannot be made. Make it by a mount that writes, or correct subPath.',
        });
      })
      .catch((error: unknown) => {
        if (error instanceof UserError) throw error;
        throw new UserError(
          'SubPathFailed',
          `the directory ${walked} of the volume ${meta.format.name} cannot be had: ${messageOf(error)}`,
          {
            cause: error,
            retryable: true,
          },
        );
      });
    if (entry.attr.type !== NodeType.Directory)
      throw new UserError('SubPathInvalid', `${walked} in the volume ${meta.format.name} is not a directory`);
    ino = entry.ino;
  }
  return ino;
}
