/**
 * How each side of a name stands to the base. What cannot have changed is told from the figures alone; what may have is
 * looked into: a file whose times or links differ is read, for a rename or a `chmod` is no reason to send gigabytes.
 */
import { closeSync, constants, openSync, readlinkSync } from 'node:fs';
import type { Clock } from '../lib/clock.ts';
import { SYSTEM } from '../meta/types.ts';
import type { Row } from './base.ts';
import type { Contents } from './content.ts';
import type { Change } from './decide.ts';
import { Kind, same, sameOwner, type Seen } from './print.ts';
import type { Tree } from './tree.ts';
import type { VolumeEntry, VolumeSide } from './volume-side.ts';

/**
 * Times of the disk advance in steps of the kernel's tick, up to 10 ms. A file is read when its last change is older than this, so that
 * any later write shows.
 */
const TICK_MS = 20;

export async function settled(seen: Seen, clock: Clock, signal?: AbortSignal): Promise<void> {
  const age = clock.now() - Number(seen.print.ctimeNs / 1_000_000n);
  if (age >= 0 && age < TICK_MS) await clock.sleep(TICK_MS - age, signal);
}

/** Opens a file of the tree for reading, never through a link and never waiting for a pipe. */
export function openToRead(path: Buffer): number {
  return openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
}

export class Changes {
  readonly #tree: Tree;
  readonly #volume: VolumeSide;
  readonly #contents: Contents;
  readonly #clock: Clock;

  constructor(tree: Tree, volume: VolumeSide, contents: Contents, clock: Clock) {
    this.#tree = tree;
    this.#volume = volume;
    this.#contents = contents;
    this.#clock = clock;
  }

  /** True without any reading. */
  static sure(row: Row, local: Seen | undefined): boolean {
    if (!local || !row.local || local.kind !== row.kind) return false;
    return row.kind === Kind.Directory ? sameOwner(local.print, row.local) : same(local.print, row.local);
  }

  static sureRemote(row: Row, remote: Seen | undefined): boolean {
    if (!remote || remote.kind !== row.kind) return false;
    return row.kind === Kind.Directory
      ? sameOwner(remote.print, row.remote) && remote.print.ino === row.remote.ino
      : same(remote.print, row.remote);
  }

  async local(path: Buffer, row: Row | undefined, seen: Seen | undefined, signal?: AbortSignal): Promise<Change> {
    if (!seen) return 'none';
    if (!row?.local || seen.kind !== row.kind) return 'data';
    if (Changes.sure(row, seen)) return 'same';
    if (row.kind === Kind.Directory) return 'meta';
    if (row.kind === Kind.Symlink)
      return row.digest?.equals(readlinkSync(this.#tree.absolute(path), { encoding: 'buffer' })) ? 'meta' : 'data';
    if (seen.print.size !== row.local.size) return 'data';
    const digest = await this.localDigest(path, seen, signal);
    return row.digest?.equals(digest) ? 'meta' : 'data';
  }

  /** The digest of a file's content now. */
  async localDigest(path: Buffer, seen: Seen, signal?: AbortSignal): Promise<Buffer> {
    await settled(seen, this.#clock, signal);
    const fd = openToRead(this.#tree.absolute(path));
    try {
      return await this.#contents.digest(fd, seen.print.size, signal);
    } finally {
      closeSync(fd);
    }
  }

  async remote(row: Row | undefined, seen: VolumeEntry | undefined): Promise<Change> {
    if (!seen) return 'none';
    if (!row || seen.kind !== row.kind) return 'data';
    if (Changes.sureRemote(row, seen)) return 'same';
    // Another directory under the name: what was noted of the first one's content says nothing of this one's, but each name is looked at.
    if (row.kind === Kind.Directory) return 'meta';
    if (row.kind === Kind.Symlink)
      return row.digest?.equals(await this.#volume.meta.readlink(SYSTEM, seen.ino)) ? 'meta' : 'data';
    if (seen.print.size !== row.remote.size) return 'data';
    // A slice is never written to again: equal lists are equal contents, whatever the times say.
    return (await this.#contents.slices(seen.ino, seen.print.size)) === row.remote.slices ? 'meta' : 'data';
  }
}
