/**
 * Open handles, by number. With a journal the table outlives the process, so the client that takes the session over knows which
 * files the kernel holds open, and how. A directory is told from a file by a flag that open(2) does not use.
 */
import type { HandleJournal } from '../fuse/types.ts';
import type { Ino } from '../lib/int64.ts';
import type { DirectoryListing } from './directory.ts';
import { newReadPosition, type ReadPosition } from './reader.ts';

const DIRECTORY = 0x8000_0000;

export interface FileHandle {
  readonly kind: 'file';
  readonly ino: Ino;
  /** open(2) flags. */
  readonly flags: number;
  readonly position: ReadPosition;
  /** The number of the local file that the kernel reads in its place (passthrough.ts). */
  readonly backing: number | undefined;
  /** Failures of the file's writer that this handle has been told of. */
  failuresSeen: number;
}

export interface DirectoryHandle {
  readonly kind: 'directory';
  readonly ino: Ino;
  listing: DirectoryListing | undefined;
  /** READDIR and READDIRPLUS of one handle take turns. */
  turn: Promise<unknown>;
}

export interface VirtualHandle {
  readonly kind: 'virtual';
  readonly ino: Ino;
  readonly read: (offset: number, size: number, signal: AbortSignal) => Buffer | Promise<Buffer>;
  /** Absent: the file cannot be written. */
  readonly write?: (
    data: Buffer,
    offset: number,
    caller: { readonly uid: number; readonly gid: number; readonly pid: number; readonly checkPermission?: boolean },
  ) => void;
  readonly close: () => void;
}

export type Handle = FileHandle | DirectoryHandle | VirtualHandle;

export class Handles {
  readonly #table: (Handle | undefined)[] = [];
  readonly #free: number[] = [];
  readonly #journal: HandleJournal | undefined;

  /** What the journal holds already is taken over. */
  constructor(journal?: HandleJournal) {
    this.#journal = journal;
    for (const { handle, ino, flags, backing } of journal?.entries() ?? []) {
      while (this.#table.length < handle) this.#free.push(this.#table.push(undefined));
      this.#free.splice(this.#free.indexOf(handle), 1);
      this.#table[handle - 1] = flags >= DIRECTORY ? directoryHandle(ino) : fileHandle(ino, flags, backing);
    }
  }

  /** The number under which the kernel will name it; never 0. */
  add(handle: Handle): number {
    const number = this.#free.pop() ?? this.#table.length + 1;
    this.#table[number - 1] = handle;
    if (handle.kind === 'file') {
      const { ino, flags, backing } = handle;
      this.#journal?.add({ handle: number, ino, flags: flags & ~DIRECTORY, ...(backing === undefined ? {} : { backing }) });
    } else if (handle.kind === 'directory') this.#journal?.add({ handle: number, ino: handle.ino, flags: DIRECTORY });
    return number;
  }

  get(number: number): Handle | undefined {
    return this.#table[number - 1];
  }

  /**
   * Ends a handle of this inode. A number of a client that died may be of a handle that was not noted (a virtual file) and be
   * in use again for another one, which must stay.
   */
  remove(number: number, ino: Ino): Handle | undefined {
    const handle = this.#table[number - 1];
    if (handle?.ino !== ino) return undefined;
    this.#table[number - 1] = undefined;
    this.#free.push(number);
    if (handle.kind !== 'virtual') this.#journal?.remove(number);
    return handle;
  }

  /** Every open handle. */
  *all(): Generator<Handle> {
    for (const handle of this.#table) if (handle) yield handle;
  }

  get count(): number {
    return this.#table.length - this.#free.length;
  }
}

export function fileHandle(ino: Ino, flags: number, backing?: number): FileHandle {
  return { kind: 'file', ino, flags, position: newReadPosition(), backing, failuresSeen: 0 };
}

export function directoryHandle(ino: Ino): DirectoryHandle {
  return { kind: 'directory', ino, listing: undefined, turn: Promise.resolve() };
}
