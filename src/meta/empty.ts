/** Removing what a directory holds, for ever and all of it: the contents of the trash, and trees that never got a name. */
import { FsError } from '../lib/errors.ts';
import { type Ino, TRASH_INO } from '../lib/int64.ts';
import type { NamedEntry } from './engine.ts';
import { rmdir, unlink } from './remove.ts';
import { unlinkListed } from './remove-many.ts';
import { type Context, NodeType } from './types.ts';
import type { Volume } from './volume.ts';

/** Names read at once. */
const BATCH = 1024;

/**
 * Removes everything in a directory, for ever. `signal` ends it between two names, `removed` is told how many are gone. What cannot be
 * removed (an immutable file) stays, and fails it when all others are gone.
 */
export async function empty(
  volume: Volume,
  ctx: Context,
  directory: Ino,
  signal?: AbortSignal,
  removed: (count: number) => void = () => {},
): Promise<void> {
  let failure: FsError | undefined;
  const attempt = async (work: () => Promise<void>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      if (!(error instanceof FsError) || error.code === 'EIO') throw error;
      if (error.code !== 'ENOENT') failure ??= error;
    }
  };
  for await (const batch of volume.engine.scanEntries(directory, BATCH)) {
    let files: readonly NamedEntry[] = batch.filter(({ type }) => type !== NodeType.Directory);
    await attempt(async () => {
      files = await unlinkListed(volume, (work) => work(ctx), directory, files, { toTrash: false, signal, removed });
    });
    for (const { name, ino, type } of [...files, ...batch.filter((entry) => entry.type === NodeType.Directory)]) {
      signal?.throwIfAborted();
      await attempt(async () => {
        if (type === NodeType.Directory) {
          if (ino !== TRASH_INO) await empty(volume, ctx, ino, signal, removed);
          await rmdir(volume, ctx, directory, name, false);
        } else await unlink(volume, ctx, directory, name, false);
        removed(1);
      });
    }
  }
  if (failure) throw failure;
}
