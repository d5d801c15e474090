/**
 * Open handles, by number. With a state file the table outlives the process: each handle is one fixed slot in it (written
 * when the handle is made and cleared when it is released, some 2 µs each), so the client that takes the session over knows
 * which files the kernel holds open, and how.
 *
 * Slot: `u64 inode | u32 flags | u32 kind` (0 free, 1 file, 2 directory), little-endian, at (handle - 1) × 16.
 */
import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { type Ino, readInoLE, writeInoLE } from '../lib/int64.ts';
import type { DirectoryListing } from './directory.ts';
import { newReadPosition, type ReadPosition } from './reader.ts';

const SLOT = 16;
const KIND = { free: 0, file: 1, directory: 2 } as const;

export interface FileHandle {
  readonly kind: 'file';
  readonly ino: Ino;
  /** open(2) flags. */
  readonly flags: number;
  readonly position: ReadPosition;
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
  readonly write?: (data: Buffer) => void;
  readonly close: () => void;
}

export type Handle = FileHandle | DirectoryHandle | VirtualHandle;

export class Handles {
  readonly #table: (Handle | undefined)[] = [];
  readonly #free: number[] = [];
  readonly #file: number | undefined;
  readonly #slot = Buffer.alloc(SLOT);

  /** With a path the table is kept there, and what it holds already is taken over. */
  constructor(path?: string) {
    if (path === undefined) return;
    this.#file = openSync(path, 'a+', 0o600);
    closeSync(this.#file);
    this.#file = openSync(path, 'r+');
    const count = Math.floor(fstatSync(this.#file).size / SLOT);
    const slot = Buffer.alloc(SLOT);
    for (let index = 0; index < count; index++) {
      readSync(this.#file, slot, 0, SLOT, index * SLOT);
      const kind = slot.readUInt32LE(12);
      const ino = readInoLE(slot, 0);
      if (kind === KIND.file) this.#table[index] = fileHandle(ino, slot.readUInt32LE(8));
      else if (kind === KIND.directory) this.#table[index] = directoryHandle(ino);
      else this.#free.push(index + 1);
    }
  }

  /** The number under which the kernel will name it; never 0. */
  add(handle: Handle): number {
    const number = this.#free.pop() ?? this.#table.length + 1;
    this.#table[number - 1] = handle;
    if (handle.kind !== 'virtual') this.#store(number, handle.ino, handle.kind === 'file' ? handle.flags : 0, KIND[handle.kind]);
    return number;
  }

  get(number: number): Handle | undefined {
    return this.#table[number - 1];
  }

  remove(number: number): Handle | undefined {
    const handle = this.#table[number - 1];
    if (!handle) return undefined;
    this.#table[number - 1] = undefined;
    this.#free.push(number);
    if (handle.kind !== 'virtual') this.#store(number, handle.ino, 0, KIND.free);
    return handle;
  }

  /** Every open handle. */
  *all(): Generator<Handle> {
    for (const handle of this.#table) if (handle) yield handle;
  }

  get count(): number {
    return this.#table.length - this.#free.length;
  }

  close(): void {
    if (this.#file !== undefined) closeSync(this.#file);
  }

  #store(number: number, ino: Ino, flags: number, kind: number): void {
    if (this.#file === undefined) return;
    writeInoLE(this.#slot, ino, 0);
    this.#slot.writeUInt32LE(flags >>> 0, 8);
    this.#slot.writeUInt32LE(kind, 12);
    writeSync(this.#file, this.#slot, 0, SLOT, (number - 1) * SLOT);
  }
}

export function fileHandle(ino: Ino, flags: number): FileHandle {
  return { kind: 'file', ino, flags, position: newReadPosition(), failuresSeen: 0 };
}

export function directoryHandle(ino: Ino): DirectoryHandle {
  return { kind: 'directory', ino, listing: undefined, turn: Promise.resolve() };
}
