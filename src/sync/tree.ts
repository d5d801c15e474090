/**
 * The pod's side of the tree. What the application wrote is never overwritten or unlinked in place: a file that gives way is moved
 * out of the tree in one step, looked at again there, and kept until no process has it open; what is written to it meanwhile
 * comes back beside its old name as a conflict.
 *
 * Layout of the volume of a mount (one file system, so that every move is a rename): `tree/` is what the application
 * sees; `state/` beside it holds the base, `new/` (files being made) and `old/` (files that gave way).
 */
import { closeSync, mkdirSync, openSync, readdirSync, rmSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { isErrno } from '../fuse/libc.ts';
import type { Base } from './base.ts';
import { inUse, look, RenameKind, renameWith } from './local.ts';
import { below, conflictName } from './names.ts';
import { Kind, sameContent, type Seen } from './print.ts';

/** A file that gave way is kept at least so long, and, where the kernel does not tell who has it open, so much longer, milliseconds. */
const HOLD_MS = 30_000;
const HOLD_BLINDLY_MS = 600_000;

export class Tree {
  /** Absolute. */
  readonly root: Buffer;
  readonly #new: string;
  readonly #old: string;
  readonly #base: Base;
  readonly #pod: string;
  #serial = 0;

  constructor(root: string, state: string, base: Base, pod: string) {
    this.root = Buffer.from(root);
    this.#new = join(state, 'new');
    this.#old = join(state, 'old');
    this.#base = base;
    this.#pod = pod;
    // What was being made when an earlier process died.
    rmSync(this.#new, { recursive: true, force: true });
    for (const folder of [this.#new, this.#old]) mkdirSync(folder, { recursive: true });
    for (const name of readdirSync(this.#old)) this.#serial = Math.max(this.#serial, Number.parseInt(name, 10) || 0);
  }

  absolute(path: Buffer): Buffer {
    return below(this.root, path);
  }

  look(path: Buffer): Seen | undefined {
    return look(this.absolute(path));
  }

  /** Where a file can be made out of the application's sight. */
  temporary(): Buffer {
    return Buffer.from(join(this.#new, String(++this.#serial)));
  }

  /**
   * Puts a finished file or link at `path`, where nothing is (`expected` undefined) or what is as expected. False: it was not, and the
   * tree is as it was; the temporary file is gone in any case.
   */
  place(temporary: Buffer, path: Buffer, expected: Seen | undefined): boolean {
    const target = this.absolute(path);
    if (!expected) {
      try {
        renameWith(temporary, target, RenameKind.NoReplace);
        return true;
      } catch (error) {
        unlinkSync(temporary);
        if (isErrno(error, 'EEXIST', 'ENOENT', 'ENOTDIR')) return false;
        throw error;
      }
    }
    const { name, file } = this.#hold(path, expected);
    renameWith(temporary, file, RenameKind.NoReplace);
    let placed = false;
    try {
      renameWith(file, target, RenameKind.Exchange);
      placed = unchanged(look(file), expected);
      if (!placed) renameWith(file, target, RenameKind.Exchange);
    } catch (error) {
      if (!isErrno(error, 'ENOENT', 'ENOTDIR')) throw error;
    }
    if (!placed || expected.kind !== Kind.File) this.#drop(name, file);
    return placed;
  }

  /** Takes a file or link that is as expected out of the tree. False: it was not, and is still there. */
  takeAway(path: Buffer, expected: Seen): boolean {
    const { name, file } = this.#hold(path, expected);
    try {
      renameWith(this.absolute(path), file, RenameKind.NoReplace);
    } catch (error) {
      this.#base.release(name);
      if (isErrno(error, 'ENOENT', 'ENOTDIR')) return true;
      throw error;
    }
    if (unchanged(look(file), expected)) {
      if (expected.kind !== Kind.File) this.#drop(name, file);
      return true;
    }
    try {
      renameWith(file, this.absolute(path), RenameKind.NoReplace);
    } catch (error) {
      if (!isErrno(error, 'EEXIST', 'ENOENT', 'ENOTDIR')) throw error;
      this.#bringBack(file, path);
    }
    this.#base.release(name);
    return false;
  }

  /** Moves whatever is at `path` to a name beside it that says so. Answers the new name. */
  moveAside(folder: Buffer, name: Buffer, mtimeNs: bigint): Buffer {
    const from = this.absolute(below(folder, name));
    for (let serial = 1; ; serial++) {
      const aside = conflictName(name, this.#pod, mtimeNs, serial);
      try {
        renameWith(from, this.absolute(below(folder, aside)), RenameKind.NoReplace);
        return aside;
      } catch (error) {
        if (!isErrno(error, 'EEXIST')) throw error;
      }
    }
  }

  /** Notes, before it happens, that a file gives way: an end of the process at any point after that forgets nothing. */
  #hold(path: Buffer, seen: Seen): { readonly name: string; readonly file: Buffer } {
    const name = `${++this.#serial}-${Date.now()}`;
    this.#base.hold(name, path, seen.print);
    return { name, file: Buffer.from(join(this.#old, name)) };
  }

  #drop(name: string, file: Buffer): void {
    unlinkSync(file);
    this.#base.release(name);
  }

  /** A file that was written to after it gave way goes back into the tree, beside its old name or, without its directory, at the top. */
  #bringBack(file: Buffer, path: Buffer): Buffer {
    const slash = path.lastIndexOf(0x2f);
    const folder = slash < 0 ? Buffer.alloc(0) : path.subarray(0, slash);
    const name = path.subarray(slash + 1);
    const { mtimeNs } = look(file)?.print ?? { mtimeNs: 0n };
    for (let serial = 1, at = folder; ; serial++) {
      const aside = below(at, conflictName(name, this.#pod, mtimeNs, serial));
      try {
        renameWith(file, this.absolute(aside), RenameKind.NoReplace);
        return aside;
      } catch (error) {
        if (!isErrno(error, 'EEXIST', 'ENOENT', 'ENOTDIR') || (at.length === 0 && !isErrno(error, 'EEXIST'))) throw error;
        if (!isErrno(error, 'EEXIST')) at = Buffer.alloc(0);
      }
    }
  }

  /**
   * Looks after the files that gave way: removes those that nobody can be writing to, brings back those that were written to. `last`:
   * the pod ends, nothing is kept. Answers the paths that came back.
   */
  tend(now: number, last = false): readonly Buffer[] {
    const back: Buffer[] = [];
    for (const { name, path, print } of this.#base.held()) {
      const file = Buffer.from(join(this.#old, name));
      const seen = look(file);
      // Another file: what was to take the name, when an earlier process died.
      const ours = seen !== undefined && seen.print.ino !== print.ino;
      if (seen && !ours && !sameContent(seen.print, print)) back.push(this.#bringBack(file, path));
      else if (seen) {
        const age = now - Number(name.split('-')[1]);
        if (!ours && !last && age < HOLD_MS) continue;
        const used = ours ? false : usedBy(file);
        if (!last && (used === true || (used === undefined && age < HOLD_BLINDLY_MS))) continue;
        unlinkSync(file);
      }
      this.#base.release(name);
    }
    return back;
  }
}

/** As expected, but for the ctime, which every move changes. */
function unchanged(found: Seen | undefined, expected: Seen): boolean {
  return found !== undefined && found.kind === expected.kind && sameContent(found.print, expected.print);
}

function usedBy(file: Buffer): boolean | undefined {
  try {
    const fd = openSync(file, 'r');
    try {
      return inUse(fd);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    if (isErrno(error, 'EACCES', 'EPERM')) return undefined;
    throw error;
  }
}
