/**
 * Loads a binary dump, ours or the official client's, into an empty database of any engine: its records as they are.
 *
 * Removed files that clients had open come back as files of sessions that have expired, so the next client that mounts deletes them. Not
 * in a dump: slices of compacted files that waited to be deleted, locks, the change log.
 */
import { systemClock } from '../../lib/clock.ts';
import { messageOf, UserError } from '../../lib/errors.ts';
import { type Batch, type Bulk, DUMPED_COUNTERS, type RecordKind, type RecordOf } from '../bulk.ts';
import type { MetaEngine } from '../engine.ts';
import { parseFormat, serialiseFormat } from '../format.ts';
import { BinaryReader, type Footer } from './binary-read.ts';
import { type Loaded, loadInto, type LoadOptions } from './guard.ts';
import { recordOf, type Segment } from './messages.ts';
import type { Message } from './protobuf.ts';

/** Records, and bytes of them, that are written at once. */
const ROWS = 1000;
const BYTES = 1024 * 1024;

/** The volume of a binary dump. Throws UserError where the database is not empty, or the dump is damaged; nothing is left then. */
export function loadBinary(engine: MetaEngine, source: AsyncIterable<Uint8Array>, options: LoadOptions = {}): Promise<Loaded> {
  return loadInto(engine, options, (bulk) => load(engine, bulk, source, options));
}

async function load(engine: MetaEngine, bulk: Bulk, source: AsyncIterable<Uint8Array>, options: LoadOptions): Promise<string> {
  const now = Math.floor((options.clock ?? systemClock).now() / 1000);
  const counts = new Map<string, number>();
  let setting: string | undefined;
  let footer: Footer | undefined;
  let kind: RecordKind | undefined;
  let rows: RecordOf[RecordKind][] = [];
  let bytes = 0;
  const flush = async (): Promise<void> => {
    if (!kind || rows.length === 0) return;
    const batch = { kind, rows } as unknown as Batch;
    rows = [];
    bytes = 0;
    await bulk.put(kept(batch));
    if (batch.kind === 'sustained') for (const { sid } of batch.rows) await engine.putSession(sid, now, sessionInfo(now));
    options.onProgress?.(batch.rows.length);
  };
  for await (const part of new BinaryReader(source).parts()) {
    options.signal?.throwIfAborted();
    if (part.part === 'setting') {
      // Read here, so that what is no setting is found before everything is written.
      setting = serialiseFormat(parseFormat(part.text));
      counts.set('format', 1);
    } else if (part.part === 'footer') footer = part.footer;
    else if (part.part === 'record') {
      const { segment, message } = part;
      if (segment.kind !== kind) await flush();
      ({ kind } = segment);
      rows.push(readRecord(segment, message));
      for (const value of Object.values(message)) if (Buffer.isBuffer(value)) bytes += value.length;
      counts.set(segment.name, (counts.get(segment.name) ?? 0) + 1);
      if (rows.length >= ROWS || bytes >= BYTES) await flush();
    }
  }
  await flush();
  checkCounts(counts, footer);
  if (setting === undefined)
    throw new UserError('DumpDamaged', 'The dump holds no setting of a volume.', { hint: 'Take another dump.' });
  return setting;
}

function readRecord(segment: Segment, message: Message): RecordOf[RecordKind] {
  try {
    return recordOf(segment, message);
  } catch (cause) {
    throw new UserError('DumpDamaged', `The dump holds a record (${segment.name}) that cannot be read: ${messageOf(cause)}`, {
      cause,
      hint: 'Take another dump. Nothing is left of this one in the database.',
    });
  }
}

/** What is loaded of a batch: counters of jobs begin anew. */
function kept(batch: Batch): Batch {
  if (batch.kind !== 'counter') return batch;
  const known: readonly string[] = DUMPED_COUNTERS;
  return { kind: 'counter', rows: batch.rows.filter(({ name }) => known.includes(name)) };
}

function sessionInfo(now: number): string {
  const time = new Date(now * 1000).toISOString();
  return JSON.stringify({ Version: '', HostName: 'loaded from a dump', MountPoint: '', MountTime: time, ProcessID: 0 });
}

/** The footer says how many there are of each. */
function checkCounts(counts: ReadonlyMap<string, number>, footer: Footer | undefined): void {
  for (const [name, { count }] of footer?.infos ?? []) {
    const found = counts.get(name) ?? 0;
    if (name !== 'changeLog' && found !== count)
      throw new UserError('DumpDamaged', `The dump should hold ${count} of ${name}, it holds ${found}.`, {
        hint: 'Take another dump. Nothing is left of this one in the database.',
      });
  }
}
