/**
 * What this mount writes to inodes that the kernel reads from a local file (passthrough.ts): each write goes to both, and what was stored to
 * the local file through mappings to the volume.
 */
import type { Clock } from '../lib/clock.ts';
import { FsError } from '../lib/errors.ts';
import type { Ino } from '../lib/int64.ts';
import { type Meta, SYSTEM } from '../meta/types.ts';
import type { Writers } from './bound.ts';
import type { OpenFiles } from './files.ts';
import type { FileHandle, Handle } from './handles.ts';
import type { Passthrough } from './passthrough.ts';
import type { FileWriter } from './writer.ts';

const O_ACCMODE = 3;
const O_RDWR = 2;

/** Puts a write into the local file of its inode, if there is one: in the turn of the event loop in which the writer takes it. Throws ENOSPC. */
export function writeLocal(passthrough: Passthrough | undefined, handle: FileHandle, offset: number, data: Buffer): void {
  const live = handle.backing === undefined ? undefined : passthrough?.live(handle.ino);
  if (!live) return;
  const { length } = live;
  try {
    live.write(offset, data);
  } catch (error) {
    passthrough?.spoilt(handle.ino);
    throw new FsError('ENOSPC', 'the local file that programs read cannot take a write', { cause: error });
  } finally {
    if (live.length !== length) passthrough?.grown(handle.ino, live.length);
  }
}

/** FLUSH and FSYNC: what was stored through mappings belongs to what is committed. Undefined where nothing can have been. */
export function storesOf(passthrough: Passthrough | undefined, open: Handle | undefined): Promise<void> | undefined {
  if (open?.kind !== 'file' || open.backing === undefined || (open.flags & O_ACCMODE) !== O_RDWR) return undefined;
  return passthrough?.collected(open.ino);
}

export interface VolumeWriters {
  readonly meta: Meta;
  readonly files: OpenFiles;
  readonly clock: Clock;
  /** What a write has to wait for; undefined where nothing. */
  readonly room: (writer: FileWriter) => Promise<void> | undefined;
}

export function volumeWriters({ meta, files, clock, room }: VolumeWriters): Writers {
  return {
    async commit(ino) {
      const writer = files.get(ino)?.writer;
      await writer?.flush();
      files.forget(ino);
      return writer?.failures ?? 0;
    },
    async record(ino: Ino, offset, end, take) {
      const { moment } = files.changes;
      const attr = files.get(ino) ? undefined : await meta.getattr(SYSTEM, ino);
      const file = files.get(ino) ?? (attr && files.adopted(ino, attr, moment));
      if (!file) return;
      const writer = files.writer(file);
      for (let wait = room(writer); wait; wait = room(writer)) await wait;
      await writer.admit(end, file.length);
      // Where the journal has no room it is to be committed, with everything else.
      if (!writer.write(offset, take(), clock.nowNs())) await files.commitAll();
    },
  };
}
