/**
 * One name brought from one side to the other, with all that belongs to it: content, links, modes, owners, times. Each answers the
 * row that was noted, or `changed` where the other side was not (or no longer) as it was decided about; then nothing was done.
 */
import {
  chmodSync,
  closeSync,
  fstatSync,
  ftruncateSync,
  lchownSync,
  linkSync,
  mkdirSync,
  openSync,
  readlinkSync,
  symlinkSync,
  unlinkSync,
} from 'node:fs';
import { isErrno } from '../fuse/libc.ts';
import type { Clock } from '../lib/clock.ts';
import type { Ino } from '../lib/int64.ts';
import { NodeType, type SetAttr, SYSTEM } from '../meta/types.ts';
import type { SyncPlan } from '../api/plan.ts';
import type { Base, Row } from './base.ts';
import { openToRead, settled } from './changes.ts';
import { type Contents, type Progress, Torn } from './content.ts';
import { look, setMtime } from './local.ts';
import { below } from './names.ts';
import { Kind, type Print, same, sameContent, type Seen, seenInVolume, seenLocally, timeOf } from './print.ts';
import type { Tree } from './tree.ts';
import type { VolumeEntry, VolumeSide } from './volume-side.ts';

/** A directory that both sides have. */
export interface Folder {
  /** Its row in the base. */
  readonly row: number;
  /** Relative to the tree. */
  readonly path: Buffer;
  /** Its inode in the volume. */
  readonly ino: Ino;
}

/** What could not be kept of files, for the status. */
export interface Lost {
  owner(path: Buffer): void;
}

export interface TransferParts {
  readonly base: Base;
  readonly tree: Tree;
  readonly volume: VolumeSide;
  readonly contents: Contents;
  readonly clock: Clock;
  readonly share: NonNullable<SyncPlan['share']>;
  readonly lost: Lost;
  readonly progress: Progress;
}

/** The mode that a file of the volume gets in the pod: opened up to those who must write it. */
export function localMode(mode: number, share: NonNullable<SyncPlan['share']>): number {
  const user = (mode >> 6) & 7;
  if (share === 'group') return mode | (user << 3);
  return share === 'all' ? mode | (user << 3) | user : mode;
}

/** Gives a file, link or directory of the pod owner, mode and time, as far as the process may. */
export function dress(path: Buffer, kind: Kind, like: Print, mode: number, lost: () => void): void {
  const found = look(path);
  if (found && (found.print.uid !== like.uid || found.print.gid !== like.gid))
    try {
      lchownSync(path, like.uid, like.gid);
    } catch (error) {
      if (!isErrno(error, 'EPERM', 'EINVAL')) throw error;
      lost();
    }
  // After the owner, for a change of it clears the set-user-id bit.
  if (kind !== Kind.Symlink) chmodSync(path, mode);
  if (kind !== Kind.Directory) setMtime(path, like.mtimeNs);
}

export class Transfer {
  readonly #with: TransferParts;

  constructor(parts: TransferParts) {
    this.#with = parts;
  }

  // ------------------------------------------------------------------------------------------------- volume → pod

  async pull(
    folder: Folder,
    name: Buffer,
    remote: VolumeEntry,
    local: Seen | undefined,
    row: Row | undefined,
    signal?: AbortSignal,
  ): Promise<number | 'changed'> {
    const { base, tree, volume, contents, share, lost } = this.#with;
    const path = below(folder.path, name);
    const mode = localMode(remote.print.mode, share);
    const losing = (): void => lost.owner(path);
    if (remote.kind === Kind.Directory) return this.#pullDirectory(folder, name, remote);
    const temporary = tree.temporary();
    let digest: Buffer;
    let print = remote.print;
    if (remote.kind === Kind.Symlink) {
      digest = await volume.meta.readlink(SYSTEM, remote.ino);
      symlinkSync(digest, temporary);
    } else {
      const twin = remote.nlink > 1 ? this.#twinInPod(remote, path) : undefined;
      if (twin) {
        linkSync(tree.absolute(twin.path), temporary);
        if (!tree.place(temporary, path, local)) return 'changed';
        const found = tree.look(path);
        return base.put({
          parent: folder.row,
          name,
          kind: Kind.File,
          local: found?.print ?? twin.row.local,
          remote: twin.row.remote,
          digest: twin.row.digest,
        });
      }
      const fd = openSync(temporary, 'wx', 0o600);
      try {
        const content = await contents.download(remote.ino, print.size, fd, signal, this.#with.progress);
        if (fstatSync(fd).size < print.size) ftruncateSync(fd, print.size);
        digest = content.digest;
        print = { ...print, slices: content.slices };
      } catch (error) {
        unlinkSync(temporary);
        throw error;
      } finally {
        closeSync(fd);
      }
      if (local && row?.local && row.digest?.equals(digest) && same(local.print, row.local)) {
        // Only its times or its inode changed: the application's file stays.
        unlinkSync(temporary);
        dress(tree.absolute(path), remote.kind, print, mode, losing);
        // The ctime stays the old one: a write at this very moment, whose time was just set back, shows at the next look.
        const mtimeNs = tree.look(path)?.print.mtimeNs ?? print.mtimeNs;
        return base.put({
          parent: folder.row,
          name,
          kind: remote.kind,
          local: { ...local.print, mtimeNs },
          remote: print,
          digest,
        });
      }
    }
    dress(temporary, remote.kind, print, mode, losing);
    const made = look(temporary);
    if (!made || !tree.place(temporary, path, local)) return 'changed';
    return this.#note(folder, name, remote.kind, made.print, print, digest, path);
  }

  /** Notes what was placed; where the application has written to it since, the next look shows that. */
  #note(folder: Folder, name: Buffer, kind: Kind, made: Print, remote: Print, digest: Buffer, path: Buffer): number {
    const now = this.#with.tree.look(path)?.print;
    const local = now && sameContent(now, made) ? now : made;
    return this.#with.base.put({ parent: folder.row, name, kind, local, remote, digest });
  }

  #pullDirectory(folder: Folder, name: Buffer, remote: VolumeEntry): number | 'changed' {
    const { base, tree, share, lost } = this.#with;
    const path = below(folder.path, name);
    try {
      mkdirSync(tree.absolute(path), 0o700);
    } catch (error) {
      if (!isErrno(error, 'EEXIST')) throw error;
      if (tree.look(path)?.kind !== Kind.Directory) return 'changed';
    }
    dress(tree.absolute(path), Kind.Directory, remote.print, localMode(remote.print.mode, share), () => lost.owner(path));
    const found = tree.look(path);
    if (!found) return 'changed';
    return base.put({
      parent: folder.row,
      name,
      kind: Kind.Directory,
      local: found.print,
      remote: remote.print,
      digest: undefined,
    });
  }

  /** Another name in the pod of the same file, as it is in the volume now. */
  #twinInPod(remote: VolumeEntry, path: Buffer): { readonly row: Row; readonly path: Buffer } | undefined {
    const { base, tree } = this.#with;
    for (const row of base.byRemote(remote.ino)) {
      const folder = base.path(row.parent);
      if (!folder || !row.local || row.kind !== Kind.File) continue;
      const other = below(folder, row.name);
      const found = tree.look(other);
      if (!other.equals(path) && sameContent(row.remote, remote.print) && found && sameContent(found.print, row.local))
        return { row, path: other };
    }
    return undefined;
  }

  // ------------------------------------------------------------------------------------------------- pod → volume

  /**
   * `force`: what changes while it is read is sent all the same (a file that never rests); it is still to be sent again then. Throws
   * Torn otherwise.
   */
  async push(
    folder: Folder,
    name: Buffer,
    local: Seen,
    remote: VolumeEntry | undefined,
    row: Row | undefined,
    force: boolean,
    signal?: AbortSignal,
  ): Promise<number | 'changed'> {
    const { base, tree, volume, contents, clock } = this.#with;
    const path = below(folder.path, name);
    const dressing = attributesFor(local.print, row, remote);
    if (local.kind === Kind.Directory) {
      const { ino } = await volume.meta.mkdir(SYSTEM, folder.ino, name, dressing.mode ?? local.print.mode, 0);
      const attr = await volume.meta.setattr(SYSTEM, ino, {
        mode: dressing.mode,
        uid: dressing.uid,
        gid: dressing.gid,
      } as SetAttr);
      const noted = { ...local.print };
      return base.put({
        parent: folder.row,
        name,
        kind: Kind.Directory,
        local: noted,
        remote: { ...noted, ino, mode: attr.mode & 0o7777, uid: attr.uid, gid: attr.gid },
        digest: undefined,
      });
    }
    if (local.kind === Kind.Symlink) {
      const target = readlinkSync(tree.absolute(path), { encoding: 'buffer' });
      const placed = await volume.place(folder.ino, name, remote, async (parent, temporary) => {
        const { ino } = await volume.meta.symlink(SYSTEM, parent, temporary, target);
        await volume.meta.setattr(SYSTEM, ino, { uid: dressing.uid, gid: dressing.gid, mtime: dressing.mtime } as SetAttr);
      });
      if (placed === 'changed') return placed;
      return base.put({ parent: folder.row, name, kind: Kind.Symlink, local: local.print, remote: placed.print, digest: target });
    }
    const twin = local.nlink > 1 ? await this.#twinInVolume(local, path) : undefined;
    if (twin) {
      const placed = await volume.place(folder.ino, name, remote, async (parent, temporary) => {
        await volume.meta.link(SYSTEM, twin.remote.ino as Ino, parent, temporary);
      });
      if (placed === 'changed') return placed;
      return base.put({
        parent: folder.row,
        name,
        kind: Kind.File,
        local: local.print,
        remote: { ...placed.print, slices: twin.remote.slices },
        digest: twin.digest,
      });
    }
    await settled(local, clock, signal);
    const fd = openToRead(tree.absolute(path));
    try {
      const before = seenLocally(fstatSync(fd, { bigint: true }));
      if (before.kind !== Kind.File) throw new Torn('another file has taken the name');
      let digest = Buffer.alloc(0);
      let slices = 0;
      let made: Ino | undefined;
      const size = before.print.size;
      const placed = await volume.place(folder.ino, name, remote, async (parent, temporary) => {
        const { ino } = await volume.meta.mknod(SYSTEM, parent, temporary, NodeType.File, 0o600, 0, 0);
        digest = (await contents.upload(fd, size, ino, signal, this.#with.progress)) as Buffer<ArrayBuffer>;
        const after = look(tree.absolute(path));
        if (!force && !(after && same(after.print, before.print))) throw new Torn('the file changed while it was read');
        if (remote && remote.kind === Kind.File) await this.#copyAttributes(remote.ino, ino);
        slices = await contents.slices(ino, size);
        const attr = await volume.meta.setattr(SYSTEM, ino, { ...dressing, mtime: timeOf(before.print.mtimeNs) });
        made = ino;
        base.sending(ino, before.print, seenInVolume(ino, attr, slices).print, digest);
      });
      // Where it failed it stays noted: the answer may be lost, and the file in its place all the same.
      const id =
        placed === 'changed'
          ? placed
          : base.put({
              parent: folder.row,
              name,
              kind: Kind.File,
              local: before.print,
              remote: { ...placed.print, slices },
              digest,
            });
      if (made !== undefined) base.forgetSent(made);
      return id;
    } finally {
      closeSync(fd);
    }
  }

  /** Extended attributes of the file that is replaced. */
  async #copyAttributes(from: Ino, to: Ino): Promise<void> {
    const { meta } = this.#with.volume;
    for (const name of await meta.listxattr(SYSTEM, from))
      await meta.setxattr(SYSTEM, to, name, await meta.getxattr(SYSTEM, from, name), {});
  }

  /** Another name of the same file of the pod that is in the volume as it is in the pod now. */
  async #twinInVolume(local: Seen, path: Buffer): Promise<Row | undefined> {
    const { base, tree, volume } = this.#with;
    for (const row of base.byLocal(local.print.ino)) {
      const folder = base.path(row.parent);
      if (!folder || !row.local || row.kind !== Kind.File || !sameContent(row.local, local.print)) continue;
      const other = below(folder, row.name);
      if (other.equals(path) || tree.look(other)?.print.ino !== local.print.ino) continue;
      const parent = row.parent === 1 ? volume.root : base.row(row.parent)?.remote.ino;
      const found = parent === undefined ? undefined : await volume.look(parent as Ino, row.name);
      if (found && sameContent(found.print, row.remote)) return row;
    }
    return undefined;
  }

  // ------------------------------------------------------------------------------------- modes, owners and times alone

  async pushMeta(folder: Folder, name: Buffer, local: Seen, remote: VolumeEntry, row: Row): Promise<number> {
    const wanted = attributesFor(local.print, row, remote);
    const set: SetAttr = {
      ...(wanted.mode !== undefined && wanted.mode !== remote.print.mode && local.kind !== Kind.Symlink
        ? { mode: wanted.mode }
        : {}),
      ...(wanted.uid !== undefined && wanted.uid !== remote.print.uid ? { uid: wanted.uid } : {}),
      ...(wanted.gid !== undefined && wanted.gid !== remote.print.gid ? { gid: wanted.gid } : {}),
      ...(local.kind !== Kind.Directory && row.local && local.print.mtimeNs !== row.local.mtimeNs
        ? { mtime: timeOf(local.print.mtimeNs) }
        : {}),
    };
    const { base, volume } = this.#with;
    if (Object.keys(set).length > 0) await volume.meta.setattr(SYSTEM, remote.ino, set);
    const found = await volume.look(folder.ino, name);
    const after = found && found.ino === remote.ino && found.print.size === remote.print.size ? found.print : remote.print;
    return base.put({
      parent: folder.row,
      name,
      kind: row.kind,
      local: local.print,
      remote: { ...after, slices: row.remote.slices },
      digest: row.digest,
    });
  }

  async pullMeta(folder: Folder, name: Buffer, local: Seen, remote: VolumeEntry, row: Row): Promise<number> {
    const { base, tree, contents, share, lost } = this.#with;
    const path = below(folder.path, name);
    const differs =
      remote.print.mode !== row.remote.mode || remote.print.uid !== row.remote.uid || remote.print.gid !== row.remote.gid;
    if (differs || (row.kind !== Kind.Directory && remote.print.mtimeNs !== row.remote.mtimeNs))
      dress(tree.absolute(path), row.kind, remote.print, localMode(remote.print.mode, share), () => lost.owner(path));
    const now = tree.look(path)?.print ?? local.print;
    const slices = row.kind === Kind.File ? await contents.slices(remote.ino, remote.print.size) : 0;
    return base.put({
      parent: folder.row,
      name,
      kind: row.kind,
      // As above: with the old length and ctime a write at this very moment shows.
      local: row.kind === Kind.Directory ? now : { ...now, size: local.print.size, ctimeNs: local.print.ctimeNs },
      remote: { ...remote.print, slices },
      digest: row.digest,
    });
  }
}

/** What a node of the volume is to have: the pod's figures where the application changed them, else the volume's own. */
function attributesFor(local: Print, row: Row | undefined, remote: VolumeEntry | undefined): SetAttr {
  const kept = row?.local && remote ? { was: row.local, own: remote.print } : undefined;
  return {
    mode: kept && kept.was.mode === local.mode ? kept.own.mode : local.mode,
    uid: kept && kept.was.uid === local.uid ? kept.own.uid : local.uid,
    gid: kept && kept.was.gid === local.gid ? kept.own.gid : local.gid,
    mtime: timeOf(local.mtimeNs),
  };
}
