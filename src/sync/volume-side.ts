/**
 * The volume's side of the tree: looking at names, and the two changes that must not lose what others wrote at that very moment:
 * putting a file in a name's place, and removing a name. Both go through a directory of our own (`.juicepod-sync/<session>` in the
 * synchronised directory), where a file is made whole before it gets its name, and where a file that is to be
 * replaced or removed is looked at after it was taken out of everybody's reach. So others never see half a file, and what is removed is
 * exactly what was decided about.
 */
import { FsError } from '../lib/errors.ts';
import type { Ino } from '../lib/int64.ts';
import { type Attr, type Meta, NodeType, RenameFlag, SYSTEM } from '../meta/types.ts';
import { conflictName, OWN_NAME } from './names.ts';
import { kindOf, Kind, type Print, sameContent, type Seen, seenInVolume } from './print.ts';

const OWN = Buffer.from(OWN_NAME);
/** What a sidecar that is gone for good left behind is removed after so long, seconds. */
const ABANDONED = 7 * 86_400;

const isCode = (error: unknown, ...codes: readonly string[]): boolean => error instanceof FsError && codes.includes(error.code);

export interface VolumeEntry extends Seen {
  readonly ino: Ino;
  readonly attr: Attr;
}

export const entryOf = (ino: Ino, attr: Attr): VolumeEntry => ({ ...seenInVolume(ino, attr), ino, attr });

export class VolumeSide {
  readonly meta: Meta;
  readonly root: Ino;
  readonly #session: Buffer;
  readonly #pod: string;
  #folder: Promise<Ino> | undefined;
  #serial = 0;

  constructor(meta: Meta, root: Ino, session: string, pod: string) {
    this.meta = meta;
    this.root = root;
    this.#session = Buffer.from(session);
    this.#pod = pod;
  }

  async look(parent: Ino, name: Buffer): Promise<VolumeEntry | undefined> {
    try {
      const { ino, attr } = await this.meta.lookup(SYSTEM, parent, name);
      return entryOf(ino, attr);
    } catch (error) {
      if (isCode(error, 'ENOENT', 'ENOTDIR')) return undefined;
      throw error;
    }
  }

  /** Our directory; made when it is first wanted. */
  #own(): Promise<Ino> {
    this.#folder ??= (async () => {
      const top = await this.#directory(this.root, OWN, 0o1777);
      return this.#directory(top, this.#session, 0o700);
    })();
    this.#folder.catch(() => (this.#folder = undefined));
    return this.#folder;
  }

  async #directory(parent: Ino, name: Buffer, mode: number): Promise<Ino> {
    for (;;) {
      const found = await this.look(parent, name);
      if (found) return found.ino;
      try {
        return (await this.meta.mkdir(SYSTEM, parent, name, mode, 0)).ino;
      } catch (error) {
        if (!isCode(error, 'EEXIST')) throw error;
      }
    }
  }

  /** A new name in our directory; the end of it is `name`, by which people find it in the trash. */
  #temporary(name: Buffer): Buffer {
    const prefix = Buffer.from(`${++this.#serial}-${Date.now().toString(36)}-`);
    return Buffer.concat([prefix, name.subarray(0, 255 - prefix.length)]);
  }

  /**
   * Makes a file or symbolic link out of sight with `make`, then puts it at `name`: where nothing is (`expected` undefined), or in the
   * place of what is as expected. `changed`: it was not, and everything is as it was.
   */
  async place(
    parent: Ino,
    name: Buffer,
    expected: Seen | undefined,
    make: (folder: Ino, temporary: Buffer) => Promise<void>,
  ): Promise<VolumeEntry | 'changed'> {
    const folder = await this.#own();
    const temporary = this.#temporary(name);
    let placed = false;
    try {
      await make(folder, temporary);
      if (!expected) {
        const { moved } = await this.meta.rename(SYSTEM, folder, temporary, parent, name, RenameFlag.NoReplace);
        placed = true;
        return entryOf(moved.ino, moved.attr);
      }
      const { moved, replaced } = await this.meta.rename(SYSTEM, folder, temporary, parent, name, RenameFlag.Exchange);
      if (replaced && !this.#isExpected(expected, replaced.attr, replaced.ino)) {
        placed = true;
        await this.#putBack(folder, temporary, parent, name, moved.ino);
        return 'changed';
      }
      return entryOf(moved.ino, moved.attr);
    } catch (error) {
      // Our directory may be gone: somebody took it for abandoned.
      this.#folder = undefined;
      if (isCode(error, expected ? 'ENOENT' : 'EEXIST')) return 'changed';
      throw error;
    } finally {
      // Ours, where it was not placed; else what it replaced.
      if (!placed) await this.#discard(folder, temporary);
    }
  }

  #isExpected(expected: Seen, attr: Attr, ino: Ino): boolean {
    if (kindOf(attr.type) !== expected.kind) return false;
    return expected.kind === Kind.File ? sameContent(seenInVolume(ino, attr).print, expected.print) : ino === expected.print.ino;
  }

  /** Gives a name back to what had it. Where others were faster still, what they made keeps the name and this gets one beside it. */
  async #putBack(folder: Ino, temporary: Buffer, parent: Ino, name: Buffer, ours: Ino): Promise<void> {
    const { replaced } = await this.meta.rename(SYSTEM, folder, temporary, parent, name, RenameFlag.Exchange);
    if (!replaced || replaced.ino === ours) return this.#discard(folder, temporary);
    await this.#keep(folder, temporary, parent, name, seenInVolume(replaced.ino, replaced.attr).print);
  }

  /** Moves what others wrote beside the name that it had. */
  async #keep(folder: Ino, temporary: Buffer, parent: Ino, name: Buffer, print: Print): Promise<void> {
    for (let serial = 1; ; serial++) {
      const beside = conflictName(name, this.#pod, print.mtimeNs, serial);
      try {
        await this.meta.rename(SYSTEM, folder, temporary, parent, beside, RenameFlag.NoReplace);
        return;
      } catch (error) {
        if (!isCode(error, 'EEXIST')) throw error;
      }
    }
  }

  async #discard(folder: Ino, temporary: Buffer): Promise<void> {
    await this.meta.unlink(SYSTEM, folder, temporary).catch((error: unknown) => {
      if (!isCode(error, 'ENOENT')) throw error;
    });
  }

  /** Removes a file or symbolic link that is as expected. `changed`: it was not, and is still there. */
  async remove(parent: Ino, name: Buffer, expected: Seen): Promise<'removed' | 'changed'> {
    if (this.meta.format.trashDays > 0) {
      // The trash keeps it, under the directory that it was in: nothing is lost even if others write between look and removal.
      const found = await this.look(parent, name);
      if (!found) return 'removed';
      if (!this.#isExpected(expected, found.attr, found.ino)) return 'changed';
      await this.meta.unlink(SYSTEM, parent, name);
      return 'removed';
    }
    const folder = await this.#own();
    const temporary = this.#temporary(name);
    let moved: { readonly ino: Ino; readonly attr: Attr };
    try {
      ({ moved } = await this.meta.rename(SYSTEM, parent, name, folder, temporary, RenameFlag.NoReplace));
    } catch (error) {
      this.#folder = undefined;
      if (isCode(error, 'ENOENT')) return (await this.look(parent, name)) ? 'changed' : 'removed';
      throw error;
    }
    if (this.#isExpected(expected, moved.attr, moved.ino)) {
      await this.#discard(folder, temporary);
      return 'removed';
    }
    try {
      await this.meta.rename(SYSTEM, folder, temporary, parent, name, RenameFlag.NoReplace);
    } catch (error) {
      if (!isCode(error, 'EEXIST')) throw error;
      await this.#keep(folder, temporary, parent, name, seenInVolume(moved.ino, moved.attr).print);
    }
    return 'changed';
  }

  /** Removes an empty directory. False where it is not empty. */
  async removeDirectory(parent: Ino, name: Buffer): Promise<boolean> {
    try {
      await this.meta.rmdir(SYSTEM, parent, name);
    } catch (error) {
      if (isCode(error, 'ENOTEMPTY', 'ENOTDIR')) return false;
      if (!isCode(error, 'ENOENT')) throw error;
    }
    return true;
  }

  /** Removes what an earlier life of this sidecar left under way, and what others left long ago. At the end: our directory, where it is empty. */
  async sweep(nowSeconds: number): Promise<void> {
    const top = await this.look(this.root, OWN);
    if (top?.kind !== Kind.Directory) return;
    for await (const batch of this.meta.readdir(SYSTEM, top.ino, true))
      for (const { name, ino, type, attr } of batch) {
        if (type !== NodeType.Directory || !attr) continue;
        if (!name.equals(this.#session) && attr.mtime > nowSeconds - ABANDONED) continue;
        for await (const files of this.meta.readdir(SYSTEM, ino, false))
          for (const file of files) await this.#discard(ino, file.name);
        await this.removeDirectory(top.ino, name);
      }
    this.#folder = undefined;
    await this.removeDirectory(this.root, OWN);
  }
}
