/**
 * Files that are open, or still have data to commit: one state per inode, whatever the number of handles.
 */
import type { Clock } from '../lib/clock.ts';
import type { Ino } from '../lib/int64.ts';
import type { Attr, Meta } from '../meta/types.ts';
import { Changes } from './changes.ts';
import { FileWriter, type WriterDependencies } from './writer.ts';

/** Inodes whose last seen mtime is remembered after close, to tell whether the kernel's page cache still holds. */
const MAX_SEEN = 100_000;
/** How often open writers are asked for old or idle slices, milliseconds. */
const TICK_MS = 250;

export interface OpenFile {
  readonly ino: Ino;
  handles: number;
  /** The newest length known of the database. */
  length: number;
  writer: FileWriter | undefined;
}

type Seen = Pick<Attr, 'mtime' | 'mtimensec' | 'ctime' | 'ctimensec' | 'length'>;

/** Local files that the kernel reads in place of some (passthrough.ts). */
export interface LocalFiles {
  /** Before what is in the volume is cut, copied or moved; undefined where there is nothing to collect. */
  collected(ino: Ino): Promise<void> | undefined;
  /** After the volume's file was changed otherwise than by writing. */
  refreshed(ino: Ino): Promise<void> | undefined;
}

export class OpenFiles {
  /** What was changed here; whoever asks the database for attributes takes its moment first. */
  readonly changes = new Changes();
  local: LocalFiles | undefined;
  readonly #meta: Meta;
  readonly #with: WriterDependencies;
  readonly #clock: Clock;
  readonly #files = new Map<Ino, OpenFile>();
  readonly #seen = new Map<Ino, Seen>();
  readonly #background = new Set<Promise<void>>();
  #cancelTick: (() => void) | undefined;
  /** Slices that could not be stored so far. */
  failures = 0;

  /** `onCommit` hears of each commit. */
  constructor(
    dependencies: Omit<WriterDependencies, 'committed' | 'failed'> & { readonly onCommit?: (ino: Ino, attr: Attr) => void },
  ) {
    this.#meta = dependencies.meta;
    this.#clock = dependencies.clock;
    this.#with = {
      ...dependencies,
      committed: (ino, attr) => {
        this.changed(ino, attr);
        // What others wrote in between may lie under our own mtime: the next open starts with an empty page cache.
        this.#seen.delete(ino);
        dependencies.onCommit?.(ino, attr);
      },
      failed: () => void this.failures++,
    };
  }

  get(ino: Ino): OpenFile | undefined {
    return this.#files.get(ino);
  }

  /** Counts one more handle. `attr` was asked for at `moment`. */
  opened(ino: Ino, attr: Attr, moment: number): OpenFile {
    const file = this.#files.get(ino) ?? { ino, handles: 0, length: 0, writer: undefined };
    file.handles++;
    file.length = this.changes.current(ino, attr, moment).length;
    this.#files.set(ino, file);
    return file;
  }

  /** A file that nobody has open, for data to be committed; `forget` ends it. */
  adopted(ino: Ino, attr: Attr, moment: number): OpenFile {
    const file = this.opened(ino, attr, moment);
    file.handles--;
    return file;
  }

  /** Drops the state of a file that nobody has open and that has nothing to commit. */
  forget(ino: Ino): void {
    const file = this.#files.get(ino);
    if (file?.handles !== 0 || file.writer?.dirty) return;
    file.writer?.close();
    this.#files.delete(ino);
  }

  /**
   * True where the kernel's pages of an earlier open still hold; remembers this open's state. The change time is part of it: the
   * time of modification can be set back (cp -p, rsync -t).
   */
  unchanged(ino: Ino, { mtime, mtimensec, ctime, ctimensec, length }: Attr): boolean {
    const before = this.#seen.get(ino);
    if (before) this.#seen.delete(ino);
    else if (this.#seen.size >= MAX_SEEN) for (const oldest of this.#seen.keys()) if (this.#seen.delete(oldest)) break;
    this.#seen.set(ino, { mtime, mtimensec, ctime, ctimensec, length });
    return (
      before !== undefined &&
      before.mtime === mtime &&
      before.mtimensec === mtimensec &&
      before.ctime === ctime &&
      before.ctimensec === ctimensec &&
      before.length === length
    );
  }

  /** The kernel's pages of earlier opens do not hold any more. */
  forgetSeen(ino: Ino): void {
    this.#seen.delete(ino);
  }

  /** Takes attributes of the database that were asked for at `moment`; answers them with what was committed since. */
  refresh(ino: Ino, attr: Attr, moment: number): Attr {
    const current = this.changes.current(ino, attr, moment);
    const file = this.#files.get(ino);
    if (file) file.length = current.length;
    return current;
  }

  /** The file's data was changed from here, and these are its attributes now. */
  changed(ino: Ino, attr: Attr): void {
    this.changes.data(ino, attr);
    const file = this.#files.get(ino);
    if (file) file.length = attr.length;
  }

  /** The file's writer, made at the first write. */
  writer(file: OpenFile): FileWriter {
    file.writer ??= new FileWriter(file.ino, this.#with);
    this.#cancelTick ??= this.#clock.timer(TICK_MS, () => this.#tick());
    return file.writer;
  }

  /** The length that a reader sees: what is in the database and what was written here. */
  length(file: OpenFile): number {
    return Math.max(file.length, file.writer?.local?.length ?? 0);
  }

  /** One handle less; the last one commits what is left and tells the metadata. Answers at once. */
  released(ino: Ino): void {
    const file = this.#files.get(ino);
    if (!file) return;
    file.handles--;
    const work = this.#release(file).finally(() => this.#background.delete(work));
    this.#background.add(work);
  }

  async #release(file: OpenFile): Promise<void> {
    if (file.handles === 0 && file.writer?.dirty) await file.writer.flush();
    this.forget(file.ino);
    // The metadata counts opens itself; a failure here is mended when the session ends.
    await this.#meta.release(file.ino).catch(() => {});
  }

  /** The buffers are full: what lies in open slices is stored now, so that writers need not wait until it is idle. */
  relieve(): void {
    for (const file of this.#files.values()) file.writer?.freezeAll();
  }

  /** Commits all written data. Errors are kept for the handles, not thrown. */
  async commitAll(): Promise<void> {
    await Promise.all([...this.#files.values()].map((file) => file.writer?.flush() ?? Promise.resolve()));
  }

  /** Commits all written data and lets what goes on in the background end. */
  async flushAll(): Promise<void> {
    await this.commitAll();
    await Promise.all(this.#background);
  }

  close(): void {
    this.#cancelTick?.();
  }

  get dirty(): boolean {
    for (const file of this.#files.values()) if (file.writer?.dirty) return true;
    return false;
  }

  #tick(): void {
    const now = this.#clock.monotonic();
    let dirty = false;
    for (const file of this.#files.values()) {
      if (!file.writer?.dirty) continue;
      dirty = true;
      file.writer.tick(now);
    }
    this.#cancelTick = dirty ? this.#clock.timer(TICK_MS, () => this.#tick()) : undefined;
  }
}
