/**
 * Taking over what a dead client left: its open handles, which the metadata counts again, and the written data that it had not
 * committed. Nothing is asked of the kernel, and nothing is answered before it is done. What others have removed meanwhile is
 * left out, and answers EBADF; any other failure ends the take-over, for the next client to try again: the journal stays as
 * it is until everything in it is durable.
 */
import { FsError } from '../lib/errors.ts';
import type { Ino } from '../lib/int64.ts';
import { type Attr, type Meta, SYSTEM } from '../meta/types.ts';
import type { OpenFile, OpenFiles } from './files.ts';
import type { Handles } from './handles.ts';
import { readJournal } from './journal.ts';
import type { Pieces } from './pieces.ts';
import type { FileWriter } from './writer.ts';

/** How much was taken over: open files, and writes. */
export interface Recovered {
  readonly handles: number;
  readonly writes: number;
}

export interface RecoveryDependencies {
  readonly meta: Meta;
  readonly files: OpenFiles;
  readonly handles: Handles;
  /** What a write has to wait for; undefined where nothing. */
  readonly room: (writer: FileWriter) => Promise<void> | undefined;
}

/** Takes over. `journalFolder` is that of the dead client's journal; undefined: it had none. `pieces`: what the holder kept of it. */
export async function recover(
  dependencies: RecoveryDependencies,
  journalFolder: string | undefined,
  pieces?: Pieces,
): Promise<Recovered> {
  const { meta, files, handles } = dependencies;
  let count = 0;
  for (const handle of handles.all()) {
    if (handle.kind !== 'file') continue;
    count++;
    const { moment } = files.changes;
    // What was allowed when the handle was opened stays allowed: it is counted, not asked for.
    const attr = await unlessGone(meta.open(SYSTEM, handle.ino, 0));
    if (attr) files.opened(handle.ino, attr, moment);
  }
  const writes = journalFolder === undefined ? 0 : await repeatWrites(dependencies, journalFolder, pieces);
  await meta.resumed();
  return { handles: count, writes };
}

async function repeatWrites(
  { meta, files, room }: RecoveryDependencies,
  folder: string,
  pieces: Pieces | undefined,
): Promise<number> {
  const left = readJournal(folder, pieces);
  const touched = new Map<Ino, OpenFile | undefined>();
  let writes = 0;
  for (const { ino, offset, data, timeNs } of left.writes()) {
    if (!touched.has(ino)) {
      const { moment } = files.changes;
      const attr = files.get(ino) ? undefined : await unlessGone(meta.getattr(SYSTEM, ino));
      touched.set(ino, attr ? files.adopted(ino, attr, moment) : files.get(ino));
    }
    const file = touched.get(ino);
    if (!file) continue;
    const writer = files.writer(file);
    for (let wait = room(writer); wait; wait = room(writer)) await wait;
    writer.repeat(offset, data, timeNs);
    writes++;
  }
  for (const file of touched.values()) await file?.writer?.flush();
  for (const ino of touched.keys()) files.forget(ino);
  left.forget();
  return writes;
}

/** The attributes of a file, or undefined where others have removed it. */
async function unlessGone(asked: Promise<Attr>): Promise<Attr | undefined> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof FsError && error.code === 'ENOENT') return undefined;
    throw error;
  }
}
