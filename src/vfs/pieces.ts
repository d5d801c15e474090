/**
 * Buffers of blocks that are written, whose bytes outlive the client: pieces of a file in memory (a memfd) that the holder has open too.
 * What is copied into such a block is in the journal with that; a record of a few bytes says what it is (journal.ts). So written bytes are
 * copied once less, and reach no disk that they are not meant for.
 *
 * A piece is *used* while a block has it, and *held* while records name it that may have to be repeated; it goes to another block when it is
 * neither. Who has the bytes committed says so (`release`), after the mark that makes the records void. What is neither stays mapped for
 * the next block, since new pages cost as much as what is saved, and goes when it was not wanted for a second or two.
 *
 * All memory of a piece is there before it is mapped (fallocate), and the file is not cut while a client may have it mapped: so no
 * access fails. Bounded by `maxBytes`, which the pool of block buffers counts as its own (src/chunk/pool.ts). Linux only; a client
 * that follows puts its pieces behind those of the dead one, which it takes away when their bytes are stored.
 */
import { fstatSync, ftruncateSync, readSync } from 'node:fs';
import type { BlockMemory } from '../chunk/types.ts';
import type { HeldFile } from '../fuse/types.ts';
import { type Clock, systemClock } from '../lib/clock.ts';
import { UserError } from '../lib/errors.ts';
import type { Ino } from '../lib/int64.ts';
import { libc } from '../lib/libc.ts';

const PAGE = 4096;
/** Where pieces begin is a multiple of this, bytes: the largest page of any kernel. */
const ALIGNMENT = 64 * 1024;
const SPARE_MS = 1000;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const FALLOC_KEEP_SIZE = 1;
const FALLOC_PUNCH_HOLE = 2;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;

interface Calls {
  readonly map: (
    fd: number,
    offset: number,
    length: number,
  ) => { readonly address: bigint; readonly bytes: ArrayBuffer } | undefined;
  readonly unmap: (address: bigint, length: number) => void;
  readonly fallocate: (fd: number, mode: number, offset: number, length: number) => number;
}

let loaded: Calls | undefined | null = null;

/** Undefined where there are none. */
function system(): Calls | undefined {
  if (loaded === null) loaded = load();
  return loaded;
}

function load(): Calls | undefined {
  const library = libc();
  if (!library) return undefined;
  const { koffi, program } = library;
  const mmap = program.func('void *mmap(void *address, size_t length, int protection, int flags, int fd, int64_t offset)');
  const munmap = program.func('int munmap(void *address, size_t length)');
  return {
    map(fd, offset, length) {
      const address = mmap(null, length, PROT_READ_WRITE, MAP_SHARED, fd, offset) as unknown;
      const number = koffi.address(address);
      return number === MAP_FAILED ? undefined : { address: number, bytes: koffi.view(address, length) };
    },
    unmap: (address, length) => void munmap(address, length),
    fallocate: program.func('int fallocate(int fd, int mode, int64_t offset, int64_t length)') as Calls['fallocate'],
  };
}

/** A place in the journal: bytes from the start of a segment. */
export interface Place {
  readonly index: number;
  readonly position: number;
}

export function isBefore(a: Place, b: Place): boolean {
  return a.index < b.index || (a.index === b.index && a.position < b.position);
}

interface Piece {
  readonly buffer: Buffer;
  /** Where it is mapped. */
  readonly mapped: bigint;
  /** Where it lies in the file. */
  readonly address: number;
  used: boolean;
  /** Its block is in more hands than a cache's. */
  busy: boolean;
  /** Of the last record that names it. */
  ino: Ino | undefined;
  last: Place | undefined;
}

export interface PiecesOptions {
  /** Bytes of all pieces, at most. */
  readonly maxBytes: number;
  readonly clock?: Clock;
}

export class Pieces implements BlockMemory {
  readonly #file: HeldFile;
  readonly #maxBytes: number;
  readonly #clock: Clock;
  readonly #pieces = new Map<Buffer, Piece>();
  readonly #held = new Map<Ino, Set<Piece>>();
  readonly #free: Piece[] = [];
  /** Addresses of pieces that were taken away. */
  readonly #gaps: number[] = [];
  #size = 0;
  #base: number | undefined;
  #end = 0;
  #usedPieces = 0;
  #heldPieces = 0;
  /** Held, and not busy. */
  #lingering = 0;
  #leastFree = 0;
  #cancelTimer: (() => void) | undefined;
  freed: () => void = () => {};

  constructor(file: HeldFile, { maxBytes, clock = systemClock }: PiecesOptions) {
    this.#file = file;
    this.#maxBytes = maxBytes;
    this.#clock = clock;
  }

  get idleBytes(): number {
    return (this.#pieces.size - this.#usedPieces) * this.#size;
  }

  get lingeringBytes(): number {
    return this.#lingering * this.#size;
  }

  /** Bytes of pieces that records name. */
  get heldBytes(): number {
    return this.#heldPieces * this.#size;
  }

  take(bytes: number, fresh: boolean): Buffer | undefined {
    if (this.#pieces.size > 0 && bytes !== this.#size) return undefined;
    const piece = this.#free.pop() ?? (fresh ? this.#make(bytes) : undefined);
    if (!piece) return undefined;
    this.#leastFree = Math.min(this.#leastFree, this.#free.length);
    piece.used = true;
    piece.busy = true;
    this.#usedPieces++;
    return piece.buffer;
  }

  give(buffer: Buffer): void {
    const piece = this.#pieces.get(buffer);
    if (!piece?.used) throw new Error('a buffer was given back that was not taken');
    this.#setBusy(piece, false);
    piece.used = false;
    this.#usedPieces--;
    if (!piece.last) this.#put(piece);
  }

  idle(buffer: Buffer, idle: boolean): void {
    const piece = this.#pieces.get(buffer);
    if (piece) this.#setBusy(piece, !idle);
  }

  isHeld(buffer: Buffer): boolean {
    return this.#pieces.get(buffer)?.last !== undefined;
  }

  #setBusy(piece: Piece, busy: boolean): void {
    if (piece.busy === busy) return;
    piece.busy = busy;
    if (piece.last) this.#lingering += busy ? -1 : 1;
  }

  shrink(bytes: number): void {
    for (let left = bytes; left > 0; left -= this.#size) {
      const piece = this.#free.pop();
      if (!piece) break;
      this.#remove(piece);
    }
    this.#leastFree = Math.min(this.#leastFree, this.#free.length);
  }

  /** Where a byte of this buffer lies in the file; undefined where it is no piece. */
  addressOf(buffer: Buffer, within: number): number | undefined {
    const piece = this.#pieces.get(buffer);
    return piece && piece.address + within;
  }

  /** A record at `place` names bytes of the piece. */
  hold(buffer: Buffer, ino: Ino, place: Place): void {
    const piece = this.#pieces.get(buffer);
    if (!piece) return;
    if (!piece.last) {
      this.#heldPieces++;
      if (!piece.busy) this.#lingering++;
      piece.ino = ino;
      const others = this.#held.get(ino);
      if (others) others.add(piece);
      else this.#held.set(ino, new Set([piece]));
    } else if (piece.ino !== ino) throw new Error('a block has bytes of one file');
    piece.last = place;
  }

  /** Whether any piece with bytes of this file has no record behind `before`. */
  isDue(ino: Ino, before: Place): boolean {
    for (const { last } of this.#held.get(ino) ?? []) if (last && isBefore(last, before)) return true;
    return false;
  }

  /** Nothing of this file that stands before a place is ever repeated. @param before absent: nothing at all */
  release(ino: Ino, before?: Place): void {
    const held = this.#held.get(ino);
    if (!held) return;
    let some = false;
    for (const piece of held) {
      if (before && piece.last && !isBefore(piece.last, before)) continue;
      held.delete(piece);
      this.#heldPieces--;
      piece.last = undefined;
      piece.ino = undefined;
      if (piece.busy) continue;
      this.#lingering--;
      some = true;
      if (!piece.used) this.#put(piece);
    }
    if (held.size === 0) this.#held.delete(ino);
    if (some) this.freed();
  }

  /** Bytes that a record names, of this client or of a dead one. Throws UserError where they cannot be there. */
  read(address: number, length: number): Buffer {
    const bytes = Buffer.allocUnsafe(length);
    if (address < this.#file.from || readSync(this.#file.fd, bytes, 0, length, address) !== length)
      throw new UserError(
        'JournalWithoutBytes',
        `the journal of written data names ${length} bytes at ${address} of the memory that the holder keeps, which has none there`,
        { hint: 'What was written and not stored is lost. To go on without it, move the folder of the journal away.' },
      );
    return bytes;
  }

  /** Takes away what a dead client has left. */
  forget(): void {
    const { fd, from } = this.#file;
    const end = this.#base ?? fstatSync(fd).size;
    if (end > from) system()?.fallocate(fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, from, end - from);
  }

  /** Ends; nothing is to be repeated. What a block still has stays. */
  close(): void {
    for (const ino of this.#held.keys()) this.release(ino);
    this.shrink(Infinity);
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    // Only where nobody has a part of it mapped: an access behind the end would be the end of the process.
    if (this.#pieces.size === 0 && fstatSync(this.#file.fd).size > this.#file.from) ftruncateSync(this.#file.fd, this.#file.from);
  }

  #put(piece: Piece): void {
    this.#free.push(piece);
    this.#watch();
  }

  #make(bytes: number): Piece | undefined {
    const calls = system();
    if (!calls || bytes % PAGE !== 0 || (this.#pieces.size + 1) * bytes > this.#maxBytes) return undefined;
    if (bytes !== this.#size) {
      // The first one, or the first of another size: behind all others.
      this.#size = bytes;
      this.#gaps.length = 0;
      this.#end = Math.max(this.#file.from, fstatSync(this.#file.fd).size);
      this.#end = Math.ceil(this.#end / ALIGNMENT) * ALIGNMENT;
      this.#base ??= this.#end;
    }
    const { fd } = this.#file;
    const address = this.#gaps.pop() ?? this.#end;
    if (calls.fallocate(fd, 0, address, bytes) !== 0) {
      this.#gaps.push(address);
      return undefined;
    }
    const mapping = calls.map(fd, address, bytes);
    if (!mapping) {
      this.#gaps.push(address);
      calls.fallocate(fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, address, bytes);
      return undefined;
    }
    if (address === this.#end) this.#end += bytes;
    const buffer = Buffer.from(mapping.bytes);
    const piece = { buffer, mapped: mapping.address, address, used: false, busy: false, ino: undefined, last: undefined };
    this.#pieces.set(buffer, piece);
    return piece;
  }

  #remove({ buffer, mapped, address }: Piece): void {
    this.#pieces.delete(buffer);
    // First: nobody gets at its bytes any more.
    const whole = buffer.buffer;
    if (whole instanceof ArrayBuffer) whole.transfer(0);
    system()?.unmap(mapped, this.#size);
    system()?.fallocate(this.#file.fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, address, this.#size);
    this.#gaps.push(address);
  }

  /** Drops what was free all the time from look to look. */
  #watch(): void {
    if (this.#cancelTimer || this.#free.length === 0) return;
    this.#leastFree = this.#free.length;
    this.#cancelTimer = this.#clock.timer(SPARE_MS, () => {
      this.#cancelTimer = undefined;
      this.shrink(this.#leastFree * this.#size);
      this.#watch();
    });
  }
}
