/**
 * Which names are brought into agreement: those that events named, or all of the tree. A directory is compared as three lists that
 * need not be in memory: the volume's (streamed), the pod's (streamed), the base's (by pages); a bit for each row of the base says that
 * it was met. So a round over a million files takes some hundred KiB.
 */
import { type Dir, opendirSync, readdirSync } from 'node:fs';
import { isErrno } from '../fuse/libc.ts';
import { SYSTEM } from '../meta/types.ts';
import { type Base, ROOT_ROW } from './base.ts';
import { Changes } from './changes.ts';
import { isGone } from './content.ts';
import { Crowd } from './crowd.ts';
import { below, isOwnName } from './names.ts';
import { Kind } from './print.ts';
import type { Reconciler, RoundOptions } from './reconcile.ts';
import type { Folder } from './transfer.ts';
import type { Tree } from './tree.ts';
import { entryOf, type VolumeSide } from './volume-side.ts';

const AT_ONCE = 16;
const PAGE = 256;
/** A round ends although its last steps made further ones necessary; the next one goes on. */
const MAX_STEPS = 20;

/** A set of row ids: one bit each. */
class Bits {
  #words = new Uint32Array(64);

  add(id: number): void {
    const word = id >>> 5;
    if (word >= this.#words.length) {
      const grown = new Uint32Array(Math.max(word + 1, this.#words.length * 2));
      grown.set(this.#words);
      this.#words = grown;
    }
    this.#words[word] = (this.#words[word] ?? 0) | (1 << (id & 31));
  }

  has(id: number): boolean {
    return ((this.#words[id >>> 5] ?? 0) & (1 << (id & 31))) !== 0;
  }
}

export interface RoundsParts {
  readonly base: Base;
  readonly tree: Tree;
  readonly volume: VolumeSide;
  readonly reconciler: Reconciler;
  /** Called before a directory is listed, so that what changes from then on is told by an event. */
  readonly entering: (path: Buffer) => void;
  /** Called between directories: urgent names may go first. */
  readonly between?: () => Promise<void>;
}

interface Round extends RoundOptions {
  /** Also what others changed in the volume; else only what changed in the pod. */
  readonly both: boolean;
}

export class Rounds {
  readonly #with: RoundsParts;
  #met = new Bits();
  #walked = new Bits();

  constructor(parts: RoundsParts) {
    this.#with = parts;
  }

  /** The whole tree. */
  async compare(round: Round): Promise<void> {
    this.#met = new Bits();
    this.#walked = new Bits();
    const root = this.#with.reconciler.folder(ROOT_ROW);
    if (root) await this.#folder(root, round);
    await this.#finish(round);
  }

  /** Some names. */
  async names(paths: Iterable<Buffer>, round: RoundOptions): Promise<void> {
    await this.only(paths, round);
    this.#met = new Bits();
    this.#walked = new Bits();
    await this.#finish({ ...round, both: false });
  }

  /** Some names, but not what follows from them: as part of another round. */
  async only(paths: Iterable<Buffer>, round: RoundOptions): Promise<void> {
    const crowd = new Crowd(AT_ONCE);
    for (const path of paths) await crowd.add(() => this.#path(path, round));
    await crowd.ended();
  }

  /** Tells what differs from the base in the pod, by figures alone and without waiting, until `tell` answers false. */
  differing(tell: (path: Buffer) => boolean): void {
    const { base, tree } = this.#with;
    const walk = (row: number, path: Buffer): boolean => {
      const names = new Set<string>();
      let list: Buffer[];
      try {
        list = readdirSync(tree.absolute(path), { encoding: 'buffer' });
      } catch {
        return true;
      }
      for (const name of list) {
        if (isOwnName(name)) continue;
        names.add(name.toString('latin1'));
        const child = below(path, name);
        const known = base.find(row, name);
        const seen = tree.look(child);
        if (!seen || seen.kind === Kind.Other) continue;
        if (!(known && Changes.sure(known, seen)) && !tell(child)) return false;
        if (seen.kind === Kind.Directory && !walk(known?.id ?? -1, child)) return false;
      }
      for (let after: Buffer | undefined; ;) {
        const page = base.children(row, after, PAGE);
        for (const known of page) if (!names.has(known.name.toString('latin1')) && !tell(below(path, known.name))) return false;
        after = page.at(-1)?.name;
        if (page.length < PAGE) return true;
      }
    };
    walk(ROOT_ROW, Buffer.alloc(0));
  }

  /** Down to the first directory that the volume does not have yet; that is then the name to look at. */
  async #path(path: Buffer, round: RoundOptions): Promise<void> {
    const { base, reconciler } = this.#with;
    let folder = reconciler.folder(ROOT_ROW);
    for (let at = 0; folder;) {
      const slash = path.indexOf(0x2f, at);
      const name = path.subarray(at, slash < 0 ? path.length : slash);
      const row = slash < 0 ? undefined : base.find(folder.row, name);
      if (slash < 0 || row?.kind !== Kind.Directory) return reconciler.name(folder, Buffer.from(name), round);
      folder = reconciler.folder(row.id);
      at = slash + 1;
    }
  }

  async #finish(round: Round): Promise<void> {
    const { reconciler } = this.#with;
    for (let step = 0; step < MAX_STEPS; step++) {
      const { entered } = reconciler;
      reconciler.entered = [];
      for (const id of entered) {
        const folder = this.#walked.has(id) ? undefined : reconciler.folder(id);
        if (folder) await this.#folder(folder, { ...round, both: true });
      }
      if (reconciler.entered.length > 0) continue;
      await reconciler.finishDeletions(round);
      if (reconciler.entered.length === 0 && reconciler.deletions.length === 0) return;
    }
  }

  async #folder(folder: Folder, round: Round): Promise<void> {
    const { base, tree, reconciler } = this.#with;
    round.signal?.throwIfAborted();
    await this.#with.between?.();
    this.#walked.add(folder.row);
    if (tree.look(folder.path)?.kind !== Kind.Directory) return;
    this.#with.entering(folder.path);
    const crowd = new Crowd(AT_ONCE);
    const look = async (name: Buffer, seen?: Parameters<Reconciler['name']>[3]): Promise<void> => {
      await crowd.add(async () => {
        await reconciler.name(folder, name, round, seen);
        const row = base.find(folder.row, name);
        if (row) this.#met.add(row.id);
      });
    };
    try {
      if (round.both) await this.#volumeSide(folder, look);
      await crowd.ended();
      await this.#podSide(folder, round, look);
      await crowd.ended();
      await this.#baseSide(folder, look);
    } finally {
      await crowd.ended();
    }
    for (let after: Buffer | undefined; ;) {
      const page = base.children(folder.row, after, PAGE);
      for (const row of page) {
        const child = row.kind === Kind.Directory && !this.#walked.has(row.id) ? reconciler.folder(row.id) : undefined;
        if (child) await this.#folder(child, round);
      }
      after = page.at(-1)?.name;
      if (page.length < PAGE) return;
    }
  }

  async #volumeSide(folder: Folder, look: (name: Buffer, seen: ReturnType<typeof entryOf>) => Promise<void>): Promise<void> {
    const { base, tree, volume } = this.#with;
    try {
      for await (const batch of volume.meta.readdir(SYSTEM, folder.ino, true))
        for (const { name, ino, attr } of batch) {
          if (!attr || isOwnName(name)) continue;
          const entry = entryOf(ino, attr);
          const row = base.find(folder.row, name);
          if (row && Changes.sureRemote(row, entry) && Changes.sure(row, tree.look(below(folder.path, name))))
            this.#met.add(row.id);
          else await look(name, entry);
        }
    } catch (error) {
      // Removed since: the directory above shows it in the next round.
      if (!isGone(error)) throw error;
    }
  }

  async #podSide(folder: Folder, round: Round, look: (name: Buffer) => Promise<void>): Promise<void> {
    const { base, tree } = this.#with;
    let directory: Dir;
    try {
      // The types know only strings; bytes come for this encoding.
      directory = opendirSync(tree.absolute(folder.path), { encoding: 'buffer' as BufferEncoding, bufferSize: PAGE });
    } catch (error) {
      if (isErrno(error, 'ENOENT', 'ENOTDIR')) return;
      throw error;
    }
    try {
      for (let count = 1, entry = directory.readSync(); entry; entry = directory.readSync(), count++) {
        const name = entry.name as unknown as Buffer;
        if (count % PAGE === 0) await new Promise(setImmediate);
        if (isOwnName(name)) continue;
        const row = base.find(folder.row, name);
        if (row && this.#met.has(row.id)) continue;
        if (row && !round.both && Changes.sure(row, tree.look(below(folder.path, name)))) this.#met.add(row.id);
        else await look(name);
      }
    } finally {
      directory.closeSync();
    }
  }

  async #baseSide(folder: Folder, look: (name: Buffer) => Promise<void>): Promise<void> {
    const { base } = this.#with;
    for (let after: Buffer | undefined; ;) {
      const page = base.children(folder.row, after, PAGE);
      for (const row of page) if (!this.#met.has(row.id)) await look(row.name);
      after = page.at(-1)?.name;
      if (page.length < PAGE) return;
    }
  }
}
