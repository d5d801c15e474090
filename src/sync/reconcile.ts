/**
 * One name brought into agreement on both sides: looked at, decided about (decide.ts), done. Whatever calls this (an event, a
 * comparison of the trees, the last write-back) only says which names; it may say them again and in any order.
 *
 * Names are deleted in the volume only at the end of a round (`deletions`): until then a name that is gone in the pod may turn up
 * elsewhere, renamed. Directories whose content is to be looked at afterwards are in `entered`.
 */
import type { Clock } from '../lib/clock.ts';
import { messageOf } from '../lib/errors.ts';
import type { Ino } from '../lib/int64.ts';
import { RenameFlag, SYSTEM } from '../meta/types.ts';
import { type Base, ROOT_ROW, type Row } from './base.ts';
import type { Changes } from './changes.ts';
import { type Contents, isGone, Torn } from './content.ts';
import { type Action, decide } from './decide.ts';
import { RenameKind, renameWith } from './local.ts';
import { below, isOwnName } from './names.ts';
import { Kind, sameContent, type Seen } from './print.ts';
import { Removal } from './removal.ts';
import type { Selection } from './selection.ts';
import type { Folder, Transfer } from './transfer.ts';
import type { Tree } from './tree.ts';
import { entryOf, type VolumeEntry, type VolumeSide } from './volume-side.ts';

/** Attempts for a name that changes between look and act. */
const TRIES = 5;

/** What the reconciler tells of what it does. */
export interface Journal {
  done(action: Exclude<Action, 'nothing' | 'forget' | 'compare'> | 'rename', path: Buffer): void;
  conflict(path: Buffer, aside: Buffer): void;
  failed(path: Buffer, message: string): void;
  skipped(path: Buffer): void;
}

export interface ReconcilerParts {
  readonly base: Base;
  readonly tree: Tree;
  readonly volume: VolumeSide;
  readonly contents: Contents;
  readonly changes: Changes;
  readonly transfer: Transfer;
  readonly selection: Selection;
  readonly journal: Journal;
  readonly clock: Clock;
  /** True for a file that is being written right now and is better sent later. */
  readonly busy: (path: Buffer, local: Seen) => boolean;
}

export interface RoundOptions {
  /** Send also what is being written. */
  readonly force: boolean;
  readonly signal?: AbortSignal;
}

interface Look {
  readonly row: Row | undefined;
  readonly local: Seen | undefined;
  readonly remote: VolumeEntry | undefined;
}

export class Reconciler {
  readonly #with: ReconcilerParts;
  readonly #removal: Removal;
  /** Rows of names that are gone in the pod and unchanged in the volume. */
  deletions: number[] = [];
  /** Rows of directories to look into. */
  entered: number[] = [];
  /** Files that were being written, for a later round. */
  deferred: Buffer[] = [];
  /** Files with several names are handled one after the other, so that the second finds the first. */
  #linked: Promise<void> = Promise.resolve();

  constructor(parts: ReconcilerParts) {
    this.#with = parts;
    this.#removal = new Removal(parts);
  }

  /** Failures are told to the journal; only an abort is thrown. `seen`: what a listing has just told of the volume's side. */
  async name(folder: Folder, name: Buffer, options: RoundOptions, seen?: VolumeEntry): Promise<void> {
    if (isOwnName(name)) return;
    const path = below(folder.path, name);
    try {
      for (let attempt = 1, entry = seen; ; attempt++, entry = undefined) {
        options.signal?.throwIfAborted();
        if ((await this.#once(folder, name, path, options, entry)) !== 'changed') return;
        if (attempt === TRIES) return void this.deferred.push(path);
      }
    } catch (error) {
      if (options.signal?.aborted) throw error;
      if (error instanceof Torn) this.deferred.push(path);
      else this.#with.journal.failed(path, messageOf(error));
    }
  }

  async #look(folder: Folder, name: Buffer, path: Buffer, entry: VolumeEntry | undefined): Promise<Look> {
    const { base, tree, volume } = this.#with;
    return {
      row: base.find(folder.row, name),
      local: tree.look(path),
      remote: entry ?? (await volume.look(folder.ino, name)),
    };
  }

  async #once(
    folder: Folder,
    name: Buffer,
    path: Buffer,
    options: RoundOptions,
    entry: VolumeEntry | undefined,
  ): Promise<'changed' | void> {
    const { base, changes, journal, selection } = this.#with;
    const look = await this.#look(folder, name, path, entry);
    const { row, local, remote } = look;
    if (local?.kind === Kind.Other || remote?.kind === Kind.Other) return journal.skipped(path);
    if (!row && !local && remote && !this.#selected(selection, path, remote)) return;
    const [lc, rc] = [await changes.local(path, row, local, options.signal), await changes.remote(row, remote)];
    const own = rc === 'data' && remote ? base.sent(remote.print.ino) : undefined;
    if (own && remote && sameContent(own.remote, remote.print)) {
      // Sent by an earlier process of this sidecar, which died before it could note it.
      const print = { ...remote.print, slices: own.remote.slices };
      base.put({ parent: folder.row, name, kind: Kind.File, local: own.local, remote: print, digest: own.digest });
      base.forgetSent(remote.print.ino);
      return 'changed';
    }
    const action = decide(row !== undefined, lc, rc);
    if (action === 'nothing') return;
    if (local?.kind === Kind.File && local.nlink > 1 && (action === 'push' || action === 'compare'))
      return this.#oneByOne(() => this.#do(action, folder, name, path, options, look));
    if (remote && remote.kind === Kind.File && remote.nlink > 1 && action === 'pull')
      return this.#oneByOne(() => this.#do(action, folder, name, path, options, look));
    return this.#do(action, folder, name, path, options, look);
  }

  #selected(selection: Selection, path: Buffer, remote: Seen): boolean {
    return selection.all || selection.wants(path) || (remote.kind === Kind.Directory && selection.mayContain(path));
  }

  #oneByOne<T>(run: () => Promise<T>): Promise<T> {
    const result = this.#linked.then(run);
    this.#linked = result.then(
      () => {},
      () => {},
    );
    return result;
  }

  async #do(
    action: Action,
    folder: Folder,
    name: Buffer,
    path: Buffer,
    options: RoundOptions,
    look: Look,
  ): Promise<'changed' | void> {
    const { base, journal, transfer } = this.#with;
    const { row, local, remote } = look;
    if (action === 'forget') return void (row && base.remove(row.id));
    if (action === 'delete-remote') return void (row && this.deletions.push(row.id));
    if (action === 'delete-local' && row && local) {
      if (await this.#removal.fromPod(path, row, local, options)) {
        base.remove(row.id);
        journal.done(action, path);
        return;
      }
      return local.kind === Kind.Directory ? this.#push(folder, name, path, options, { ...look, row: undefined }) : 'changed';
    }
    if (action === 'push-meta' && row && local && remote) {
      await transfer.pushMeta(folder, name, local, remote, row);
      return journal.done(action, path);
    }
    if (action === 'pull-meta' && row && local && remote) {
      const id = await transfer.pullMeta(folder, name, local, remote, row);
      if (row.kind === Kind.Directory && row.remote.ino !== remote.ino) this.entered.push(id);
      return journal.done(action, path);
    }
    if (action === 'push' && local) return this.#push(folder, name, path, options, look);
    if (action === 'pull' && remote) return this.#pull(folder, name, path, options, look, remote);
    if (action === 'compare' && local && remote) {
      if (await this.#adopt(folder, name, path, local, remote, options)) return;
      if (local.kind === Kind.File && !options.force && this.#with.busy(path, local)) return void this.deferred.push(path);
      return this.#conflict(folder, name, path, options, look);
    }
  }

  // ------------------------------------------------------------------------------------------------- pod → volume

  async #push(folder: Folder, name: Buffer, path: Buffer, options: RoundOptions, look: Look): Promise<'changed' | void> {
    const { base, journal, transfer, volume } = this.#with;
    let { row, remote } = look;
    const { local } = look;
    if (!local) return 'changed';
    if (local.kind === Kind.File && !options.force && this.#with.busy(path, local)) return void this.deferred.push(path);
    if (!row && !remote && (await this.#renamedInPod(folder, name, path, local))) return;
    if (remote && (remote.kind === Kind.Directory) !== (local.kind === Kind.Directory)) {
      const gone =
        remote.kind === Kind.Directory
          ? row !== undefined && (await this.#removal.fromVolume(folder.ino, name, remote, row, options))
          : (await volume.remove(folder.ino, name, remote)) === 'removed';
      if (!gone) return remote.kind === Kind.Directory ? this.#conflict(folder, name, path, options, look) : 'changed';
      if (row) base.remove(row.id);
      row = undefined;
      remote = undefined;
    } else if (remote && local.kind === Kind.Directory) return this.#merge(folder, name, local, remote);
    const id = await transfer.push(folder, name, local, remote, row, options.force, options.signal);
    if (id === 'changed') return id;
    if (local.kind === Kind.Directory) this.entered.push(id);
    journal.done('push', path);
  }

  /** Both sides have a directory of this name: each keeps what it has in it, name by name. The pod's gets the volume's mode. */
  async #merge(folder: Folder, name: Buffer, local: Seen, remote: VolumeEntry): Promise<void> {
    const id = await this.#with.transfer.pull(folder, name, remote, local, undefined);
    if (id !== 'changed') this.entered.push(id);
  }

  /**
   * The name is new in the pod but not what it names: the base knows the same inode under a name that is gone. Then the volume's
   * is renamed, with all that is below it, and nothing is sent.
   */
  async #renamedInPod(folder: Folder, name: Buffer, path: Buffer, local: Seen): Promise<boolean> {
    const { base, tree, volume, changes, journal } = this.#with;
    for (const row of base.byLocal(local.print.ino)) {
      if (row.kind !== local.kind || !row.local || (row.kind !== Kind.Directory && !sameContent(row.local, local.print)))
        continue;
      const place = this.folderOf(row);
      if (!place || row.id === ROOT_ROW) continue;
      const was = below(place.path, row.name);
      if (tree.look(was)) continue;
      const remote = await volume.look(place.ino, row.name);
      if (!remote || (await changes.remote(row, remote)) !== 'same') continue;
      try {
        const { moved } = await volume.meta.rename(SYSTEM, place.ino, row.name, folder.ino, name, RenameFlag.NoReplace);
        base.move(row.id, folder.row, name);
        const after = { ...entryOf(moved.ino, moved.attr).print, slices: row.remote.slices };
        // With the old ctime the file is read once more: its times could have been set back.
        base.hydrated(row.id, { ...local.print, ctimeNs: row.local.ctimeNs }, after, row.digest);
      } catch {
        return false;
      }
      journal.done('rename', path);
      if (row.kind === Kind.Directory) this.entered.push(row.id);
      return true;
    }
    return false;
  }

  // ------------------------------------------------------------------------------------------------- volume → pod

  async #pull(
    folder: Folder,
    name: Buffer,
    path: Buffer,
    options: RoundOptions,
    look: Look,
    remote: VolumeEntry,
  ): Promise<'changed' | void> {
    const { base, journal, transfer } = this.#with;
    let { row, local } = look;
    if (!row && !local && (await this.#renamedInVolume(folder, name, path, remote))) return;
    if (local && (local.kind === Kind.Directory) !== (remote.kind === Kind.Directory)) {
      const gone = row ? await this.#removal.fromPod(path, row, local, options) : false;
      if (!gone) return local.kind === Kind.Directory ? this.#conflict(folder, name, path, options, look) : 'changed';
      if (row) base.remove(row.id);
      row = undefined;
      local = undefined;
    }
    let id: number | 'changed';
    try {
      id = await transfer.pull(folder, name, remote, local, row, options.signal);
    } catch (error) {
      if (isGone(error)) return 'changed';
      throw error;
    }
    if (id === 'changed') return id;
    if (remote.kind === Kind.Directory) this.entered.push(id);
    journal.done('pull', path);
  }

  /** As `renamedInPod`, the other way round. */
  async #renamedInVolume(folder: Folder, name: Buffer, path: Buffer, remote: VolumeEntry): Promise<boolean> {
    const { base, tree, volume, changes, journal } = this.#with;
    for (const row of base.byRemote(remote.ino)) {
      if (row.kind !== remote.kind || !row.local || (row.kind !== Kind.Directory && !sameContent(row.remote, remote.print)))
        continue;
      const place = this.folderOf(row);
      if (!place || row.id === ROOT_ROW) continue;
      const was = below(place.path, row.name);
      if ((await volume.look(place.ino, row.name)) !== undefined) continue;
      const local = tree.look(was);
      if (!local || (await changes.local(was, row, local)) !== 'same') continue;
      try {
        renameWith(tree.absolute(was), tree.absolute(path), RenameKind.NoReplace);
      } catch {
        return false;
      }
      base.move(row.id, folder.row, name);
      base.hydrated(row.id, row.local, { ...remote.print, slices: row.remote.slices }, row.digest);
      journal.done('rename', path);
      if (row.kind === Kind.Directory) this.entered.push(row.id);
      return true;
    }
    return false;
  }

  // ------------------------------------------------------------------------------------------------- both changed

  /** Takes both sides as they are where they are equal. False: they differ. */
  async #adopt(
    folder: Folder,
    name: Buffer,
    path: Buffer,
    local: Seen,
    remote: VolumeEntry,
    options: RoundOptions,
  ): Promise<boolean> {
    const { base, changes, contents, transfer, volume, tree } = this.#with;
    if (local.kind !== remote.kind) return false;
    if (local.kind === Kind.Directory) {
      await this.#merge(folder, name, local, remote);
      return true;
    }
    let digest: Buffer;
    let slices = 0;
    if (local.kind === Kind.Symlink) {
      digest = await volume.meta.readlink(SYSTEM, remote.ino);
      const fresh: Row = {
        id: 0,
        parent: folder.row,
        name,
        kind: local.kind,
        local: { ...local.print, ctimeNs: 0n },
        remote: remote.print,
        digest,
      };
      if ((await changes.local(path, fresh, local)) === 'data') return false;
    } else {
      if (local.print.size !== remote.print.size) return false;
      const content = await contents.download(remote.ino, remote.print.size, undefined, options.signal);
      if (!content.digest.equals(await changes.localDigest(path, local, options.signal))) return false;
      ({ digest, slices } = content);
    }
    base.put({ parent: folder.row, name, kind: local.kind, local: local.print, remote: { ...remote.print, slices }, digest });
    const row = base.find(folder.row, name);
    // Contents are equal; of modes and times the volume's are taken.
    if (row) {
      const other = { ...row, remote: { ...row.remote, mode: -1, mtimeNs: -1n } };
      const now = tree.look(path);
      if (now) await transfer.pullMeta(folder, name, now.print.ctimeNs === local.print.ctimeNs ? now : local, remote, other);
    }
    return true;
  }

  /** The volume's keeps the name; the pod's gets one that says what happened, and goes to the volume, too. */
  async #conflict(folder: Folder, name: Buffer, path: Buffer, options: RoundOptions, look: Look): Promise<void> {
    const { base, journal, tree, selection } = this.#with;
    const { row, local, remote } = look;
    if (!local) return;
    const aside = tree.moveAside(folder.path, name, local.print.mtimeNs);
    if (row) base.remove(row.id);
    journal.conflict(path, below(folder.path, aside));
    if (remote && this.#selected(selection, path, remote)) await this.name(folder, name, options);
    await this.name(folder, aside, options);
  }

  // ------------------------------------------------------------------------------------------------- deletions

  /** Deletes in the volume what is gone in the pod, where it still is and still may. */
  async finishDeletions(options: RoundOptions): Promise<void> {
    const { base, tree, volume, changes, journal } = this.#with;
    const rows = this.deletions;
    this.deletions = [];
    for (const id of rows) {
      options.signal?.throwIfAborted();
      const row = base.row(id);
      const folder = row && this.folderOf(row);
      if (!row || !folder) continue;
      const path = below(folder.path, row.name);
      try {
        const remote = await volume.look(folder.ino, row.name);
        if (tree.look(path) || !remote || (await changes.remote(row, remote)) !== 'same') {
          await this.name(folder, row.name, options);
          continue;
        }
        const gone =
          remote.kind === Kind.Directory
            ? await this.#removal.fromVolume(folder.ino, row.name, remote, row, options)
            : (await volume.remove(folder.ino, row.name, { ...remote, print: row.remote })) === 'removed';
        if (gone) {
          base.remove(row.id);
          journal.done('delete-remote', path);
        } else if (remote.kind === Kind.Directory) {
          // Others put something into it: it stays, and comes back to the pod.
          const back = await this.#with.transfer.pull(folder, row.name, remote, undefined, row);
          if (back !== 'changed') this.entered.push(back);
        } else await this.name(folder, row.name, options);
      } catch (error) {
        if (options.signal?.aborted) throw error;
        journal.failed(path, messageOf(error));
      }
    }
  }

  /** The directory that holds a row's name; undefined where it is no longer known. */
  folderOf(row: Row): Folder | undefined {
    return this.folder(row.parent);
  }

  folder(id: number): Folder | undefined {
    const { base, volume } = this.#with;
    if (id === ROOT_ROW) return { row: ROOT_ROW, path: Buffer.alloc(0), ino: volume.root };
    const row = base.row(id);
    const path = row?.kind === Kind.Directory ? base.path(id) : undefined;
    return row && path && { row: id, path, ino: row.remote.ino as Ino };
  }
}
