/**
 * A cache directory on a disk that may hang: every operation has a bounded time, after which the disk is taken not to answer. Then all
 * that wait for it fail at once (ETIMEDOUT), and all that come, until those that hang have come back from the kernel.
 *
 * A call that hangs keeps its thread of the pool, of which the process has a few for everything it does (UV_THREADPOOL_SIZE). So only
 * some are under way at a time: `lanes`, of which those that change something take their own part, for they may take longer. What
 * would keep the main thread waiting is done only on file systems that answer from memory (nowait.ts).
 *
 * What comes back after it was given up touches nothing: bytes are read into buffers of this class and copied (a hanging read would write
 * into memory that is somebody else's by then) unless the caller gives its memory up in that case, as for whole blocks; what was opened is
 * closed, what was made is taken away.
 *
 * JuiceFS 1.4.1 counts what takes longer than 30 s as a failure of the disk, but who waits for it waits on (pkg/chunk/disk_cache.go,
 * checkTimeout). Here a read waits 10 s and is then served by the store.
 *
 * Bounds: a buffer of 256 KiB for each read under way, kept for a second without work; what waits is bounded by the callers.
 */
import type { Clock } from '../lib/clock.ts';
import type { BlockFiles, Space } from './disk-files.ts';
import { answersFromMemory } from './nowait.ts';

/** How many operations may be under way at a time. */
export interface Lanes {
  readonly reads: number;
  readonly changes: number;
}

export interface BoundedFilesOptions {
  readonly files: BlockFiles;
  readonly lanes: Lanes;
  /** How long an operation that reads may take, milliseconds; one that changes something may take three times that. */
  readonly waitMs: number;
  /** The disk does not answer. */
  readonly onHang: (reason: string) => void;
  readonly clock: Clock;
}

/** Time is counted in so many steps, for a process that was stopped has not waited for its disk. */
const STEPS = 10;
const PATIENCE_FOR_CHANGES = 3;
const BUFFER_BYTES = 256 * 1024;
/** libuv's own number of threads. */
const THREADS = 4;

interface Operation {
  readonly begun: number;
  steps: number;
  readonly mostSteps: number;
  /** Nobody waits for it any more. */
  givenUp: boolean;
  readonly reject: (error: Error) => void;
}

interface Waiting {
  readonly start: () => void;
  readonly reject: (error: Error) => void;
}

interface Lane {
  readonly most: number;
  readonly running: Set<Operation>;
  waiting: Waiting[];
}

/** The lanes of each of so many directories: all of them together leave threads to the rest of the process. */
export function lanesOf(directories: number, threads = Number(process.env['UV_THREADPOOL_SIZE']) || THREADS): Lanes {
  const share = (part: number): number => Math.max(1, Math.floor(((threads - 1) * part) / directories));
  return { reads: share(2 / 3), changes: share(1 / 3) };
}

export class BoundedFiles implements BlockFiles {
  readonly #options: BoundedFilesOptions;
  readonly #files: BlockFiles;
  readonly #reads: Lane;
  readonly #changes: Lane;
  #buffers: Buffer[] = [];
  /** Open files that could not be closed while the disk did not answer. */
  #toClose: number[] = [];
  #fromMemory = false;
  #hangs = false;
  #watching = false;

  constructor(options: BoundedFilesOptions) {
    this.#options = options;
    this.#files = options.files;
    this.#reads = { most: options.lanes.reads, running: new Set(), waiting: [] };
    this.#changes = { most: options.lanes.changes, running: new Set(), waiting: [] };
  }

  /** The disk does not answer. */
  get hangs(): boolean {
    return this.#hangs;
  }

  write(path: string, parts: readonly Uint8Array[], mode: number): Promise<void> {
    return this.#change(
      () => this.#files.write(path, parts, mode),
      () => void this.#files.unlink(path).catch(() => undefined),
    );
  }

  rename(from: string, to: string): Promise<void> {
    return this.#change(
      () => this.#files.rename(from, to),
      () => void this.#files.unlink(to).catch(() => undefined),
    );
  }

  link(from: string, to: string): Promise<void> {
    return this.#change(
      () => this.#files.link(from, to),
      () => void this.#files.unlink(to).catch(() => undefined),
    );
  }

  unlink(path: string): Promise<void> {
    return this.#change(() => this.#files.unlink(path));
  }

  rmdir(path: string): Promise<void> {
    return this.#change(() => this.#files.rmdir(path));
  }

  mkdir(path: string, mode: number): Promise<void> {
    return this.#change(() => this.#files.mkdir(path, mode));
  }

  create(path: string, text: string, mode: number): Promise<void> {
    return this.#change(() => this.#files.create(path, text, mode));
  }

  open(path: string): Promise<number> {
    return this.#read(
      () => this.#files.open(path),
      (late) => void this.#files.close(late),
    );
  }

  openNow(path: string): number | undefined {
    return this.#fromMemory && !this.#hangs ? this.#files.openNow(path) : undefined;
  }

  size(descriptor: number): Promise<number> {
    return this.#read(() => this.#files.size(descriptor));
  }

  sizeNow(descriptor: number): number {
    return this.#files.sizeNow(descriptor);
  }

  read(descriptor: number, target: Buffer, at: number, length: number, position: number, own = false): Promise<number> {
    if (own) return this.#read(() => this.#files.read(descriptor, target, at, length, position, own));
    return this.#read(async (operation) => {
      const buffer = (length <= BUFFER_BYTES ? this.#buffers.pop() : undefined) ?? bufferFor(length);
      const bytes = await this.#files.read(descriptor, buffer, 0, length, position);
      if (!operation.givenUp) {
        buffer.copy(target, at, 0, bytes);
        if (buffer.length === BUFFER_BYTES) this.#buffers.push(buffer);
      }
      return bytes;
    });
  }

  readNow(descriptor: number, target: Buffer, position: number, likely: boolean): boolean {
    return this.#fromMemory && !this.#hangs && this.#files.readNow(descriptor, target, position, likely);
  }

  /** While the disk does not answer, files stay open. One that answers from memory gets no request for a file that was only read. */
  async close(descriptor: number): Promise<void> {
    if (this.#fromMemory && !this.#hangs) return this.#files.close(descriptor);
    let begun = false;
    try {
      await this.#read(() => {
        begun = true;
        return this.#files.close(descriptor);
      });
    } catch {
      if (!begun) this.#toClose.push(descriptor);
    }
  }

  text(path: string): Promise<string> {
    return this.#read(() => this.#files.text(path));
  }

  stat(path: string): ReturnType<BlockFiles['stat']> {
    return this.#read(() => this.#files.stat(path));
  }

  async list(path: string): ReturnType<BlockFiles['list']> {
    const leave = (entries: Awaited<ReturnType<BlockFiles['list']>>): void => void entries[Symbol.asyncIterator]().return?.();
    return this.#entries(await this.#read(() => this.#files.list(path), leave));
  }

  async space(path: string): Promise<Space> {
    const space = await this.#read(() => this.#files.space(path));
    this.#fromMemory = answersFromMemory(space.type);
    return space;
  }

  async *#entries<T>(entries: AsyncIterable<T>): AsyncGenerator<T> {
    const iterator = entries[Symbol.asyncIterator]();
    const leave = (): void => void iterator.return?.();
    let ended = false;
    try {
      for (;;) {
        const next = await this.#read(() => iterator.next(), leave);
        if ((ended = next.done === true)) return;
        yield next.value;
      }
    } catch (error) {
      ended = true;
      throw error;
    } finally {
      if (!ended) await iterator.return?.();
    }
  }

  #read<T>(action: (operation: Operation) => Promise<T>, late?: (result: T) => void): Promise<T> {
    return this.#run(this.#reads, STEPS, action, late);
  }

  #change<T>(action: () => Promise<T>, late?: (result: T) => void): Promise<T> {
    return this.#run(this.#changes, STEPS * PATIENCE_FOR_CHANGES, action, late);
  }

  #run<T>(
    lane: Lane,
    mostSteps: number,
    action: (operation: Operation) => Promise<T>,
    late: (result: T) => void = () => undefined,
  ): Promise<T> {
    if (this.#hangs) return Promise.reject(noAnswer());
    return new Promise((resolve, reject) => {
      const start = (): void => {
        const begun = this.#options.clock.monotonic();
        const operation: Operation = { begun, steps: 0, mostSteps, givenUp: false, reject };
        lane.running.add(operation);
        this.#watch();
        action(operation)
          .then((result) => (operation.givenUp ? late(result) : resolve(result)), reject)
          .finally(() => this.#ended(lane, operation));
      };
      if (lane.running.size < lane.most) start();
      else lane.waiting.push({ start, reject });
    });
  }

  #ended(lane: Lane, operation: Operation): void {
    lane.running.delete(operation);
    if (!this.#hangs) return lane.waiting.shift()?.start();
    if (this.#reads.running.size + this.#changes.running.size > 0) return;
    this.#hangs = false;
    for (const descriptor of this.#toClose.splice(0)) void this.close(descriptor);
  }

  /** Counts the steps of what is under way, until nothing is. */
  #watch(): void {
    if (this.#watching) return;
    this.#watching = true;
    this.#options.clock.timer(this.#options.waitMs / STEPS, () => {
      this.#watching = false;
      const running = [...this.#reads.running, ...this.#changes.running];
      if (running.length === 0) return void (this.#buffers = []);
      this.#watch();
      if (this.#hangs) return;
      for (const operation of running) operation.steps++;
      const hanging = running.find(({ steps, mostSteps }) => steps > mostSteps);
      if (hanging) this.#giveUp(running, hanging);
    });
  }

  #giveUp(running: readonly Operation[], { begun }: Operation): void {
    this.#hangs = true;
    const waiting = [...this.#reads.waiting.splice(0), ...this.#changes.waiting.splice(0)];
    const seconds = ((this.#options.clock.monotonic() - begun) / 1000).toFixed(1);
    // First: who is turned away now shall find the directory given up.
    this.#options.onHang(`the disk has not answered for ${seconds} s`);
    for (const operation of running) {
      operation.givenUp = true;
      operation.reject(noAnswer());
    }
    for (const { reject } of waiting) reject(noAnswer());
  }
}

const bufferFor = (length: number): Buffer => Buffer.allocUnsafeSlow(Math.max(BUFFER_BYTES, length));

function noAnswer(): Error {
  return Object.assign(new Error('the disk of the cache directory does not answer'), { code: 'ETIMEDOUT' });
}
