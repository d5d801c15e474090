/**
 * Files that are open, or still have data to commit: one state per inode, whatever the number of handles.
 */
import type { Clock } from '../lib/clock.ts';
import type { Ino } from '../lib/int64.ts';
import type { Attr, Meta } from '../meta/types.ts';
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

interface Seen {
  readonly mtime: number;
  readonly mtimensec: number;
  readonly length: number;
}

export class OpenFiles {
  readonly #meta: Meta;
  readonly #with: WriterDependencies;
  readonly #clock: Clock;
  readonly #files = new Map<Ino, OpenFile>();
  readonly #seen = new Map<Ino, Seen>();
  readonly #background = new Set<Promise<void>>();
  #cancelTick: (() => void) | undefined;
  /** Slices that could not be stored so far. */
  failures = 0;

  constructor(dependencies: Omit<WriterDependencies, 'committed' | 'failed'>) {
    this.#meta = dependencies.meta;
    this.#clock = dependencies.clock;
    this.#with = {
      ...dependencies,
      committed: (ino, attr) => {
        this.refresh(ino, attr);
        // What others wrote in between may lie under our own mtime: the next open starts with an empty page cache.
        this.#seen.delete(ino);
      },
      failed: () => void this.failures++,
    };
  }

  get(ino: Ino): OpenFile | undefined {
    return this.#files.get(ino);
  }

  /** Counts one more handle. `attr` is fresh from the database. */
  opened(ino: Ino, attr: Attr): OpenFile {
    const file = this.#files.get(ino) ?? { ino, handles: 0, length: attr.length, writer: undefined };
    file.handles++;
    file.length = attr.length;
    this.#files.set(ino, file);
    return file;
  }

  /** True where the kernel's pages of an earlier open still hold; remembers this open's state. */
  unchanged(ino: Ino, { mtime, mtimensec, length }: Attr): boolean {
    const before = this.#seen.get(ino);
    if (before) this.#seen.delete(ino);
    else if (this.#seen.size >= MAX_SEEN) for (const oldest of this.#seen.keys()) if (this.#seen.delete(oldest)) break;
    this.#seen.set(ino, { mtime, mtimensec, length });
    return before !== undefined && before.mtime === mtime && before.mtimensec === mtimensec && before.length === length;
  }

  /** Takes newer attributes of the database. */
  refresh(ino: Ino, attr: Attr): void {
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
    if (file.handles === 0 && !file.writer?.dirty && this.#files.get(file.ino) === file) this.#files.delete(file.ino);
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
