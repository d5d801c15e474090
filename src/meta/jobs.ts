/**
 * Work in the background: pieces of cleaning that any one client does for the volume, about once an hour. A counter holds
 * when a job was last begun; who moves it on does the job.
 *
 * Source: the JuiceFS format, hourly jobs.
 */
import { FsError } from '../lib/errors.ts';
import { TRASH_INO } from '../lib/int64.ts';
import { trimLog } from './changelog-read.ts';
import { dropReference } from './deletion.ts';
import { cleanDetached } from './detached.ts';
import { empty } from './empty.ts';
import { decodeDelayed } from './records.ts';
import { rmdir } from './remove.ts';
import { hourOf } from './trash.ts';
import { NodeType, SYSTEM } from './types.ts';
import type { Volume } from './volume.ts';

const HOUR = 3600;
const DAY = 24 * HOUR;
/** How long one job may take, ms: the rest is for the next hour. */
const LONGEST = 50 * 60_000;
/** Of an hour: the next client may begin a little early. */
const GUARD = 0.9 * HOUR;
/** What a scan takes into memory at once, and how often a job scans before it leaves the rest to the next hour. */
const PER_ROUND = 10_000;
const ROUNDS = 60;
/** Removed files whose data is deleted together. */
const FILES = 128;

/** A job cannot have been begun so far in the future, seconds: some client's clock is, or was, ahead. */
const AHEAD = 60;

/** True where nobody has begun this job within `seconds`; it is ours then. */
export async function claim(volume: Volume, counter: string, seconds: number): Promise<boolean> {
  const now = volume.seconds();
  const begin = async (atMost: number): Promise<boolean> => {
    const result = await volume.engine.commit({
      checks: [{ kind: 'counterAtMost', name: counter, value: atMost }],
      writes: [{ kind: 'setCounter', name: counter, value: now }, ...volume.log.setCounter(counter, now)],
    });
    return result.ok;
  };
  if (await begin(Math.floor(now - seconds))) return true;
  // Else nobody would clean until that time has come.
  const [begun] = await volume.engine.read([{ kind: 'counter', name: counter }]);
  return begun > now + AHEAD && (await begin(begun));
}

/** Works on what `scan` finds, round after round, until it finds less than a full round. */
async function rounds<T>(
  scan: () => Promise<readonly T[]>,
  signal: AbortSignal,
  work: (found: T) => Promise<void>,
): Promise<void> {
  for (let round = 0; round < ROUNDS; round++) {
    const found = await scan();
    for (const each of found) {
      signal.throwIfAborted();
      await work(each);
    }
    if (found.length < PER_ROUND) return;
  }
}

/** Removed files whose data is still there after an hour: the client that removed them has not finished. */
async function cleanFiles(volume: Volume, signal: AbortSignal): Promise<void> {
  const { engine, deletions } = volume;
  const before = volume.seconds() - HOUR;
  let failure: unknown;
  for await (const batch of engine.allDelfiles()) {
    const old = batch.filter(({ time }) => time < before);
    for (let from = 0; from < old.length; from += FILES) {
      signal.throwIfAborted();
      await deletions.deleteFiles(old.slice(from, from + FILES)).catch((error: unknown) => (failure ??= error));
    }
  }
  if (failure !== undefined) throw failure;
}

/** Slices that nothing refers to; nothing to do for a client that deletes no blocks. */
async function cleanSlices(volume: Volume, signal: AbortSignal): Promise<void> {
  if (!volume.callbacks.deleteSlice) return;
  const scan = () => volume.engine.scanUnreferenced(PER_ROUND);
  await rounds(scan, signal, (slice) => volume.deletions.deleteSlices([slice]));
}

/** Hours of the trash that are older than the trash's days (and two hours). */
export function cleanTrash(volume: Volume, signal: AbortSignal): Promise<void> {
  return cleanTrashBefore(volume, volume.seconds() - volume.format.trashDays * DAY - 2 * HOUR, signal);
}

/** Hours of the trash that begin before a moment, Unix seconds, with all they hold; `removed` is told how many names are gone. */
export async function cleanTrashBefore(
  volume: Volume,
  seconds: number,
  signal: AbortSignal,
  removed: (count: number) => void = () => {},
): Promise<void> {
  const before = seconds * 1000;
  for await (const batch of volume.engine.scanEntries(TRASH_INO, 1000)) {
    for (const { name, ino, type } of batch) {
      const hour = hourOf(name.toString());
      if (hour === undefined || hour >= before || type !== NodeType.Directory) continue;
      try {
        await empty(volume, SYSTEM, ino, signal, removed);
        await rmdir(volume, SYSTEM, TRASH_INO, name, false);
      } catch (error) {
        if (!(error instanceof FsError) || error.code === 'EIO') throw error;
        // Another client was quicker; or something stays, which must not keep what lies in other hours.
        if (error.code === 'ENOTEMPTY' || error.code === 'ENOENT') continue;
        volume.logger.warn('something in the trash cannot be removed', { hour: name.toString(), error: error.message });
      }
    }
  }
}

/** Slices that compaction replaced, kept for readers and for what comes back from the trash. */
function cleanDelayed(volume: Volume, signal: AbortSignal): Promise<void> {
  const before = volume.seconds() - volume.format.trashDays * DAY;
  const scan = () => volume.engine.scanDelayed(before, PER_ROUND);
  return rounds(scan, signal, (found) => dropDelayed(volume, found));
}

/** Lets go of the slices that one compaction replaced. */
export async function dropDelayed(
  volume: Volume,
  { id, time, slices }: { readonly id: number; readonly time: number; readonly slices: Buffer },
  by: 'age' | 'gc' = 'age',
): Promise<void> {
  const list = decodeDelayed(slices);
  const result = await volume.engine.commit({
    checks: [{ kind: 'delayed', id, time }],
    writes: [
      { kind: 'removeDelayed', id, time },
      ...list.map((slice) => dropReference(slice.id, slice.size)),
      ...volume.log.dropDelayed(id, time, by),
    ],
  });
  if (!result.ok) return;
  await volume.deletions.deleteSlices(list.filter((_slice, at) => (result.results[at + 1] ?? 1) <= 0));
}

/** How often the change log is trimmed, ms. */
export const TRIM_PAUSE = 300_000;

/** Removes entries of the change log that are beyond what the volume keeps, where no other client has just done so. */
export async function trimChangeLog(volume: Volume, signal: AbortSignal): Promise<void> {
  const { changeLog, changeLogMaxAge: maxAge, changeLogMaxLines: maxLines } = volume.format;
  if (!changeLog || (maxAge === 0 && maxLines === 0)) return;
  if (await claim(volume, 'lastCleanupChangelog', (0.9 * TRIM_PAUSE) / 1000))
    await trimLog(volume.engine, { maxAge, maxLines }, volume.clock, signal);
}

type Job = (volume: Volume, signal: AbortSignal) => Promise<void>;

/**
 * Kinds of cleaning that a client can leave to others. `sessions` is that after clients that died, with each heartbeat (sessions.ts);
 * `changelog` removes old entries of the change log every few minutes, where there is one.
 */
export const jobNames = ['sessions', 'files', 'slices', 'trash', 'changelog'] as const;
export type JobName = (typeof jobNames)[number];

const jobs: readonly { readonly name: JobName; readonly guard: string; readonly work: readonly Job[] }[] = [
  { name: 'files', guard: 'lastCleanupFiles', work: [cleanFiles] },
  { name: 'slices', guard: 'nextCleanupSlices', work: [cleanSlices] },
  { name: 'trash', guard: 'lastCleanupTrash', work: [cleanTrash, cleanDelayed, cleanDetached] },
];

/** Does those hourly jobs, of the named ones, that are due and that no other client does. */
export async function hourly(volume: Volume, signal: AbortSignal, names: readonly JobName[] = jobNames): Promise<void> {
  for (const { name, guard, work } of jobs) {
    if (!names.includes(name)) continue;
    if (signal.aborted || !(await claim(volume, guard, GUARD))) continue;
    for (const job of work) {
      const late = new AbortController();
      const cancel = volume.clock.timer(LONGEST, () => late.abort());
      try {
        await job(volume, AbortSignal.any([signal, late.signal]));
      } catch (error) {
        if (signal.aborted) return;
        volume.logger.warn('a cleaning job stopped early; it goes on in an hour', { job: job.name, error });
      } finally {
        cancel();
      }
    }
  }
}
