/**
 * Ranges of files: fallocate, copy_file_range, and where data and holes are. What was written here is committed first, for the
 * metadata knows of nothing else.
 */
import type { FuseRequest, Reply } from '../fuse/types.ts';
import type { Clock } from '../lib/clock.ts';
import { FsError } from '../lib/errors.ts';
import type { Ino } from '../lib/int64.ts';
import type { Meta } from '../meta/types.ts';
import type { Handles } from './handles.ts';
import { interruptible } from './interruptible.ts';
import { context, type Nodes } from './nodes.ts';

const SEEK_DATA = 3;
const SEEK_HOLE = 4;
/** What the answer to COPY_FILE_RANGE has room for, less a part so that a copy of whole pages stays one. */
const MOST_COPIED = 0xffff_f000;

export class RangeOperations {
  readonly #meta: Meta;
  readonly #nodes: Nodes;
  readonly #handles: Handles;
  readonly #clock: Clock;

  constructor(meta: Meta, nodes: Nodes, handles: Handles, clock: Clock) {
    this.#meta = meta;
    this.#nodes = nodes;
    this.#handles = handles;
    this.#clock = clock;
  }

  async fallocate(
    request: FuseRequest,
    reply: Reply,
    ino: Ino,
    _handle: number,
    offset: number,
    length: number,
    mode: number,
  ): Promise<void> {
    this.#nodes.requireWritable(ino);
    await this.#flushed(request, ino);
    const attr = await this.#meta.fallocate(context(request), ino, mode, offset, length);
    this.#nodes.files.changed(ino, attr);
    await this.#nodes.files.local?.refreshed(ino);
    reply.ok();
  }

  async copyFileRange(
    request: FuseRequest,
    reply: Reply,
    inoIn: Ino,
    handleIn: number,
    offsetIn: number,
    inoOut: Ino,
    handleOut: number,
    offsetOut: number,
    length: number,
  ): Promise<void> {
    if (this.#nodes.virtual.get(inoIn)) throw new FsError('ENOTSUP');
    this.#nodes.requireWritable(inoOut);
    for (const [handle, ino] of [
      [handleIn, inoIn],
      [handleOut, inoOut],
    ] as const) {
      const open = this.#handles.get(handle);
      if (open?.kind !== 'file' || open.ino !== ino) throw new FsError('EBADF');
    }
    await Promise.all([this.#flushed(request, inoIn), this.#flushed(request, inoOut)]);
    const size = Math.min(length, MOST_COPIED);
    const { copied, attr } = await this.#meta.copyFileRange(context(request), inoIn, offsetIn, inoOut, offsetOut, size);
    this.#nodes.files.changed(inoOut, attr);
    await this.#nodes.files.local?.refreshed(inoOut);
    reply.written(copied);
  }

  async lseek(request: FuseRequest, reply: Reply, ino: Ino, _handle: number, offset: number, whence: number): Promise<void> {
    // Other kinds the kernel knows the answer to.
    if ((whence !== SEEK_DATA && whence !== SEEK_HOLE) || this.#nodes.virtual.get(ino)) throw new FsError('EINVAL');
    await this.#flushed(request, ino);
    reply.lseek(await this.#meta.seek(context(request), ino, offset, whence === SEEK_DATA ? 'data' : 'hole'));
  }

  async #flushed(request: FuseRequest, ino: Ino): Promise<void> {
    await this.#nodes.files.local?.collected(ino);
    const writer = this.#nodes.files.get(ino)?.writer;
    if (writer?.dirty) await interruptible(writer.flush(), () => request.signal, this.#clock);
  }
}
