/** Removing a name on one side, directories with what is below them, where all of it is as the base knows it. */
import { rmdirSync } from 'node:fs';
import { isErrno } from '../fuse/libc.ts';
import type { Ino } from '../lib/int64.ts';
import { SYSTEM } from '../meta/types.ts';
import type { Base, Row } from './base.ts';
import type { Changes } from './changes.ts';
import { below, isOwnName } from './names.ts';
import { Kind, type Seen } from './print.ts';
import type { Tree } from './tree.ts';
import { entryOf, type VolumeEntry, type VolumeSide } from './volume-side.ts';

interface RemovalOptions {
  readonly signal?: AbortSignal;
}

export class Removal {
  readonly #with: { readonly base: Base; readonly tree: Tree; readonly volume: VolumeSide; readonly changes: Changes };

  constructor(parts: { readonly base: Base; readonly tree: Tree; readonly volume: VolumeSide; readonly changes: Changes }) {
    this.#with = parts;
  }

  /** Removes a directory of the volume with all in it that is as the base knows it. False: something else was there and stays. */
  async fromVolume(parent: Ino, name: Buffer, remote: VolumeEntry, row: Row, options: RemovalOptions): Promise<boolean> {
    const { base, volume, changes } = this.#with;
    for await (const batch of volume.meta.readdir(SYSTEM, remote.ino, true))
      for (const child of batch) {
        options.signal?.throwIfAborted();
        if (!child.attr || isOwnName(child.name)) continue;
        const entry = entryOf(child.ino, child.attr);
        const known = base.find(row.id, child.name);
        if (!known || (await changes.remote(known, entry)) !== 'same') continue;
        const gone =
          entry.kind === Kind.Directory
            ? await this.fromVolume(remote.ino, child.name, entry, known, options)
            : (await volume.remove(remote.ino, child.name, { ...entry, print: known.remote })) === 'removed';
        if (gone) base.remove(known.id);
      }
    return volume.removeDirectory(parent, name);
  }

  /** The same for the pod. */
  async fromPod(path: Buffer, row: Row, local: Seen, options: RemovalOptions): Promise<boolean> {
    const { base, tree, changes } = this.#with;
    if (local.kind !== Kind.Directory) return tree.takeAway(path, local);
    for (let after: Buffer | undefined; ;) {
      const page = base.children(row.id, after, 256);
      for (const known of page) {
        options.signal?.throwIfAborted();
        const child = below(path, known.name);
        const seen = tree.look(child);
        if (!seen) base.remove(known.id);
        else if (
          (await changes.local(child, known, seen, options.signal)) === 'same' &&
          (await this.fromPod(child, known, seen, options))
        )
          base.remove(known.id);
      }
      after = page.at(-1)?.name;
      if (page.length < 256) break;
    }
    try {
      rmdirSync(tree.absolute(path));
    } catch (error) {
      if (isErrno(error, 'ENOTEMPTY', 'EEXIST')) return false;
      if (!isErrno(error, 'ENOENT')) throw error;
    }
    return true;
  }
}
