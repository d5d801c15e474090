/**
 * Files this session has open, and what is known of their chunks.
 *
 * A chunk's view may be used as long as the file's times and length are those it was read under: every open asks for fresh
 * attributes (close-to-open), and `note` drops the views when these differ. The change time is looked at as well, for the time
 * of modification can be set back over changed data (cp -p, rsync -t). Own writes are laid over the view of the chunk they change
 * where the list has become longer by just their records; else they drop it. (What others write shows in the attributes, and
 * their compactions make lists shorter.) After the last close the views stay for the next open.
 *
 * Bounded: 10 000 closed files, 200 000 pieces in all; beyond that the closed ones, then all views are dropped.
 */
import { type Clock, systemClock } from '../lib/clock.ts';
import type { Ino } from '../lib/int64.ts';
import type { SliceRecord } from './records.ts';
import { viewWith } from './slices.ts';
import type { Attr, Piece } from './types.ts';

const MAX_CLOSED = 10_000;
const MAX_PIECES = 200_000;

/** What is known of a chunk: what its list looks like, and how long that is. */
interface View {
  readonly pieces: readonly Piece[];
  readonly records: number;
}

interface OpenFile {
  opens: number;
  mtime: number;
  mtimensec: number;
  ctime: number;
  ctimensec: number;
  length: number;
  chunks: Map<number, View> | undefined;
  /** Counts what made views invalid, so that a view read before is not kept. */
  version: number;
  /** When its attributes were last seen in the engine, or changed from here; monotonic ms. */
  seen: number;
  /** Its last name is gone, and its data goes with the last close. */
  removed: boolean;
}

export class OpenFiles {
  readonly #open = new Map<Ino, OpenFile>();
  readonly #closed = new Map<Ino, OpenFile>();
  readonly #clock: Pick<Clock, 'monotonic'>;
  readonly #lifetime: number;
  readonly #maxClosed: number;
  #pieces = 0;

  /** Attributes are recent for `lifetime` ms; `maxClosed` files that were closed are remembered. */
  constructor(clock: Pick<Clock, 'monotonic'> = systemClock, lifetime = 0, maxClosed = MAX_CLOSED) {
    this.#clock = clock;
    this.#lifetime = lifetime;
    this.#maxClosed = maxClosed;
  }

  /** Counts an open. Call before asking for the attributes, so that an unlink meanwhile keeps the file. */
  open(ino: Ino): void {
    const file = this.#open.get(ino);
    if (file) {
      file.opens++;
      return;
    }
    const closed = this.#closed.get(ino);
    this.#closed.delete(ino);
    const fresh = {
      mtime: 0,
      mtimensec: 0,
      ctime: 0,
      ctimensec: 0,
      length: 0,
      chunks: undefined,
      version: 0,
      seen: -Infinity,
      removed: false,
    };
    this.#open.set(ino, closed ? { ...closed, opens: 1, removed: false } : { ...fresh, opens: 1 });
  }

  /** Ends an open. True where it was the last one of a file whose last name is gone. */
  close(ino: Ino): boolean {
    const file = this.#open.get(ino);
    if (!file || --file.opens > 0) return false;
    this.#open.delete(ino);
    if (file.removed) {
      this.#drop(file);
      return true;
    }
    if (file.chunks || this.#lifetime > 0) {
      this.#closed.set(ino, file);
      if (this.#closed.size > this.#maxClosed) this.#forgetOldest();
    }
    return false;
  }

  /** True where the file was opened before and what was seen of it is recent. */
  isRecent(ino: Ino): boolean {
    if (this.#lifetime === 0) return false;
    const file = this.#open.get(ino) ?? this.#closed.get(ino);
    return file !== undefined && !file.removed && this.#clock.monotonic() - file.seen < this.#lifetime;
  }

  isOpen(ino: Ino): boolean {
    return this.#open.has(ino);
  }

  /** The last name is gone. True where the file is open, so that its data stays until the last close. */
  removed(ino: Ino): boolean {
    const file = this.#open.get(ino);
    if (file) file.removed = true;
    return file !== undefined;
  }

  /** It has a name again. */
  named(ino: Ino): void {
    const file = this.#open.get(ino);
    if (file) file.removed = false;
  }

  /** Attributes as they are in the engine: drops the views that were read under others. */
  note(ino: Ino, attr: Attr): void {
    const file = this.#open.get(ino) ?? this.#closed.get(ino);
    if (!file) return;
    if (!isAsOf(file, attr)) this.#drop(file);
    stamp(file, attr);
    if (this.#lifetime > 0) file.seen = this.#clock.monotonic();
  }

  /**
   * Attributes before and after a change of our own, which touched the data of these chunks. What was read under
   * the attributes before still holds under those after; if others changed the file as well, nothing does.
   */
  changed(ino: Ino, before: Attr, after: Attr, ...chunks: readonly number[]): void {
    this.note(ino, before);
    for (const index of chunks) this.invalidate(ino, index);
    const file = this.#open.get(ino) ?? this.#closed.get(ino);
    if (file) stamp(file, after);
  }

  chunk(ino: Ino, index: number): readonly Piece[] | undefined {
    return this.#open.get(ino)?.chunks?.get(index)?.pieces;
  }

  /** Handed to `keep`, tells whether a view read since is still good. Undefined where the file is not open. */
  version(ino: Ino): number | undefined {
    return this.#open.get(ino)?.version;
  }

  /** Keeps the view of a list of so many records. */
  keep(ino: Ino, index: number, version: number | undefined, pieces: readonly Piece[], records: number): void {
    const file = this.#open.get(ino);
    if (!file || version === undefined || file.version !== version) return;
    const known = file.chunks?.get(index);
    this.#pieces += pieces.length + 1 - (known ? known.pieces.length + 1 : 0);
    (file.chunks ??= new Map()).set(index, { pieces, records });
    if (this.#pieces > MAX_PIECES) this.#forgetAll();
  }

  invalidate(ino: Ino, index: number): void {
    const file = this.#open.get(ino) ?? this.#closed.get(ino);
    if (!file) return;
    file.version++;
    const view = file.chunks?.get(index);
    if (!view) return;
    this.#pieces -= view.pieces.length + 1;
    file.chunks?.delete(index);
  }

  /** We added records to the end of a chunk's list, which made it `listed` long (0: that is not known). After `changed`. */
  appended(ino: Ino, index: number, records: readonly SliceRecord[], listed: number): void {
    const file = this.#open.get(ino);
    const known = file?.chunks?.get(index);
    this.invalidate(ino, index);
    if (file && known && listed === known.records + records.length)
      this.keep(ino, index, file.version, viewWith(known.pieces, records), listed);
  }

  invalidateAll(ino: Ino): void {
    const file = this.#open.get(ino) ?? this.#closed.get(ino);
    if (file) this.#drop(file);
  }

  #drop(file: OpenFile): void {
    file.version++;
    for (const { pieces } of file.chunks?.values() ?? []) this.#pieces -= pieces.length + 1;
    file.chunks = undefined;
  }

  #forgetOldest(): void {
    for (const [ino, file] of this.#closed) {
      this.#closed.delete(ino);
      this.#drop(file);
      return;
    }
  }

  #forgetAll(): void {
    for (const file of this.#closed.values()) this.#drop(file);
    this.#closed.clear();
    if (this.#pieces > MAX_PIECES / 2) for (const file of this.#open.values()) this.#drop(file);
  }
}

function isAsOf(file: OpenFile, attr: Attr): boolean {
  return (
    file.mtime === attr.mtime &&
    file.mtimensec === attr.mtimensec &&
    file.ctime === attr.ctime &&
    file.ctimensec === attr.ctimensec &&
    file.length === attr.length
  );
}

function stamp(file: OpenFile, { mtime, mtimensec, ctime, ctimensec, length }: Attr): void {
  file.mtime = mtime;
  file.mtimensec = mtimensec;
  file.ctime = ctime;
  file.ctimensec = ctimensec;
  file.length = length;
}
