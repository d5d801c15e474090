/**
 * Removing a name with all that lies below it, several directories at once and files in batches (remove-many.ts). Names are read in
 * batches and removed as they are read, so memory is bounded by places times depth. What others add meanwhile is removed, too; what they remove is left out.
 * Stopped half-way, what is left is a tree like any other. Source: the JuiceFS format, control protocol (rmr).
 */
import { FsError } from '../lib/errors.ts';
import type { Ino } from '../lib/int64.ts';
import { Branches } from './branches.ts';
import { lookup } from './namespace.ts';
import { rmdir, unlink } from './remove.ts';
import { unlinkListed } from './remove-many.ts';
import { type As, NodeType, type RemoveTreeOptions } from './types.ts';
import type { Volume } from './volume.ts';

/** Names read at once. */
const BATCH = 1024;
/** How often a directory is emptied that others fill meanwhile. */
const ATTEMPTS = 100;

const gone = (error: unknown): boolean => error instanceof FsError && error.code === 'ENOENT';
const filled = (error: unknown): boolean => error instanceof FsError && error.code === 'ENOTEMPTY';

/** Removes the name and all below it. ENOENT where there is no such name; fails with what stopped it. */
export async function removeTree(
  volume: Volume,
  as: As,
  parent: Ino,
  name: Buffer,
  options: RemoveTreeOptions = {},
): Promise<void> {
  const { skipTrash = false, threads = 50, onRemoved, signal } = options;
  const branches = new Branches(threads - 1, signal);
  const removeFile = async (parent: Ino, name: Buffer): Promise<void> => {
    await as((ctx) => unlink(volume, ctx, parent, name, !skipTrash));
    onRemoved?.();
  };
  const empty = async (directory: Ino): Promise<void> => {
    for await (const batch of volume.engine.scanEntries(directory, BATCH)) {
      branches.throwIfStopped();
      const files = batch.filter(({ type }) => type !== NodeType.Directory);
      const left = await unlinkListed(volume, as, directory, files, {
        toTrash: !skipTrash,
        signal,
        removed(count) {
          for (let each = 0; each < count; each++) onRemoved?.();
        },
      });
      const directories = batch.filter(({ type }) => type === NodeType.Directory);
      await branches.each([...left, ...directories], async (entry) => {
        try {
          if (entry.type === NodeType.Directory) await removeDirectory(directory, entry.name, entry.ino);
          else await removeFile(directory, entry.name);
        } catch (error) {
          if (!gone(error)) throw error;
        }
      });
    }
  };
  const removeDirectory = async (parent: Ino, name: Buffer, ino: Ino): Promise<void> => {
    for (let attempt = 1; ; attempt++) {
      branches.throwIfStopped();
      await empty(ino);
      try {
        await as((ctx) => rmdir(volume, ctx, parent, name, !skipTrash));
        onRemoved?.();
        return;
      } catch (error) {
        if (!filled(error) || attempt >= ATTEMPTS) throw error;
      }
    }
  };
  const { ino, attr } = await as((ctx) => lookup(volume, ctx, parent, name));
  if (attr.type === NodeType.Directory) await removeDirectory(parent, name, ino);
  else await removeFile(parent, name);
}
