/**
 * Whether the disk of a folder answers, found out before a mount uses it: some of what is done there at the start is done on the main
 * thread, where a disk that hangs would stop the process for good. Making the folder and a file in it is tried in a thread of the pool,
 * for a bounded time; an error is an answer, too.
 *
 * Bounds: a thread for each folder whose disk hangs, for as long as it does, however often it is asked after.
 */
import { mkdir, open, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Clock, systemClock } from '../lib/clock.ts';
import { UserError } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import { gaveUp } from '../lib/stuck.ts';
import { type CacheOptions, cacheFolders } from './cache-options.ts';

/** How long a disk may take, milliseconds; as a read of the cache (src/chunk/bounded-files.ts). */
export const ANSWER_MS = 10_000;
/** Time is counted in so many steps, for a process that was stopped has not waited for a disk. */
const STEPS = 10;

/** Folders whose disks did not answer in time, until they do: nothing is begun there meanwhile. */
const silent = new Set<string>();

async function tryFolder(folder: string): Promise<void> {
  const path = join(folder, `.juicepod-probe-${process.pid}`);
  try {
    await mkdir(folder, { recursive: true });
    const file = await open(path, 'w', 0o600);
    await file.close();
    await unlink(path);
  } catch {
    // What is wrong is told by who uses the folder.
  }
}

/** Whether an action ends within so many milliseconds, whatever it comes to. */
export async function endsWithin(action: Promise<unknown>, waitMs = ANSWER_MS, clock: Clock = systemClock): Promise<boolean> {
  const waiting = new AbortController();
  const end = action.catch(() => undefined).finally(() => waiting.abort());
  const late = async (): Promise<void> => {
    for (let step = 0; step < STEPS && !waiting.signal.aborted; step++)
      await clock.sleep(waitMs / STEPS, waiting.signal).catch(() => undefined);
  };
  await Promise.race([end, late()]);
  if (waiting.signal.aborted) return true;
  void end.then(gaveUp());
  return false;
}

/** Whether the disk of a folder answers; of one that did not, no is the answer at once until it does. The folder is made where that can be. */
export async function answers(folder: string, waitMs = ANSWER_MS, clock: Clock = systemClock): Promise<boolean> {
  if (silent.has(folder)) return false;
  const trial = tryFolder(folder);
  if (await endsWithin(trial, waitMs, clock)) return true;
  silent.add(folder);
  void trial.then(() => silent.delete(folder));
  return false;
}

/** Of some folders those whose disks answer, and the others. */
export async function sortByAnswer(
  folders: readonly string[],
  waitMs = ANSWER_MS,
): Promise<{ readonly usable: readonly string[]; readonly hanging: readonly string[] }> {
  const answered = await Promise.all(folders.map((folder) => answers(folder, waitMs)));
  return {
    usable: folders.filter((_, at) => answered[at]),
    hanging: folders.filter((_, at) => !answered[at]),
  };
}

/** The cache without the directories that are named; undefined where none is left. */
export function without(cache: CacheOptions, folders: readonly string[]): CacheOptions | undefined {
  const left = cacheFolders(cache).filter((folder) => !folders.includes(folder));
  const [only] = left;
  if (only === undefined) return undefined;
  return { ...cache, folder: left.length === 1 ? only : left };
}

interface Folders {
  readonly cache?: CacheOptions;
  readonly journalFolder?: string;
  readonly readOnly: boolean;
  /** The session of the client that this one follows. */
  readonly resume?: number;
}

/**
 * The options of a mount without the folders whose disks do not answer, which the log names. Throws UserError `JournalSilent` (retryable)
 * where the journal of the client before lies on such a disk: without it, what programs were told is written would be lost.
 */
export async function onAnsweringDisks<T extends Folders>(options: T, logger: Logger, waitMs = ANSWER_MS): Promise<T> {
  const { cache, journalFolder, resume, readOnly } = options;
  const journalDisk = journalFolder === undefined || readOnly ? undefined : dirname(journalFolder);
  const folders = [...new Set([...(cache ? cacheFolders(cache) : []), ...(journalDisk === undefined ? [] : [journalDisk])])];
  const { hanging } = await sortByAnswer(folders, waitMs);
  if (hanging.length === 0) return options;
  const noJournal = journalDisk !== undefined && hanging.includes(journalDisk);
  if (noJournal && resume !== undefined)
    throw new UserError(
      'JournalSilent',
      `the disk of ${journalDisk} does not answer, and what was written and not stored lies there`,
      {
        retryable: true,
        hint: 'Programs wait until the disk answers.',
      },
    );
  for (const folder of hanging)
    logger.warn('the disk of a folder does not answer: the volume is mounted without it', { folder, seconds: waitMs / 1000 });
  const { cache: _cache, journalFolder: _journal, ...rest } = options;
  const left = cache && without(cache, hanging);
  return {
    ...rest,
    ...(left ? { cache: left } : {}),
    ...(journalFolder === undefined || noJournal ? {} : { journalFolder }),
  } as T;
}
