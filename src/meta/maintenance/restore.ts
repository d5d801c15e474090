/**
 * Bringing back what lies in the trash. An hour of it is one flat directory of `<parent>-<inode>-<name>`: every node apart, also
 * those that were one tree. Restoring puts each below its parent again, by the parent's inode: first only those whose parent lies in
 * the trash itself, which rebuilds removed trees there, for somebody to look at and move; with `putBack` all of them, to where they
 * were. What is in the way stays, and so does what it is in the way of: it is told of and left in the trash.
 *
 * In any order, since parents are found by inode; so names are taken as they are listed, `threads` at a time, and memory does
 * not grow with the hour. Run again it goes on with what is left.
 * Source: `restore` of the official client 1.4.1.
 */
import { FsError, messageOf, UserError } from '../../lib/errors.ts';
import { type Ino, isTrash, parseIno, ROOT_INO, TRASH_INO } from '../../lib/int64.ts';
import { forEachParallel } from '../../lib/parallel.ts';
import type { NamedEntry } from '../engine.ts';
import { MAX_NAME } from '../names.ts';
import { rename } from '../rename.ts';
import { hourOf } from '../trash.ts';
import { RenameFlag, SYSTEM } from '../types.ts';
import type { Volume } from '../volume.ts';

const BATCH = 1000;
const MAX_DEPTH = 4096;
/** Directories remembered to lie in the hour, or not. */
const KNOWN = 100_000;
const MAX_LEFT = 10_000;

export type LeftReason = 'conflict' | 'no directory' | 'no trash name' | 'failed';

export interface Left {
  /** As it lies in the trash. */
  readonly name: Buffer;
  readonly reason: LeftReason;
  readonly detail: string;
}

export interface RestoreReport {
  restored: number;
  /** Their directory is not in the trash: `putBack` would restore them. */
  needPutBack: number;
  conflicts: number;
  failed: number;
  /** Restored under a name that the trash may have cut: names there have 255 bytes. */
  cut: number;
  /** The first that could not be restored. */
  readonly left: Left[];
}

export const newRestoreReport = (): RestoreReport => ({
  restored: 0,
  needPutBack: 0,
  conflicts: 0,
  failed: 0,
  cut: 0,
  left: [],
});

export interface RestoreOptions {
  readonly volume: Volume;
  /** Also what lies in no tree of the trash, to where it was. */
  readonly putBack: boolean;
  /** @default 10 */
  readonly threads?: number;
  readonly report?: RestoreReport;
  readonly signal: AbortSignal;
}

/** Hours that the trash has, at most so many, oldest first. */
export async function trashHours(volume: Volume, limit: number): Promise<readonly string[]> {
  const hours: string[] = [];
  for await (const batch of volume.engine.scanEntries(TRASH_INO, BATCH)) {
    for (const { name } of batch) if (hourOf(name.toString()) !== undefined && hours.length < limit) hours.push(name.toString());
    if (hours.length >= limit) break;
  }
  return hours.toSorted();
}

/** Restores what one hour of the trash holds; `hour` as YYYY-MM-DD-HH, UTC. Throws UserError `NoSuchHour`, FsError. */
export async function restoreHour(hour: string, options: RestoreOptions): Promise<RestoreReport> {
  const { volume, threads = 10, signal } = options;
  const report = options.report ?? newRestoreReport();
  const found = hourOf(hour) === undefined ? undefined : await volume.engine.lookup(TRASH_INO, Buffer.from(hour));
  if (!found) {
    const hours = await trashHours(volume, 5);
    throw new UserError('NoSuchHour', `the trash has no hour ${JSON.stringify(hour)}`, {
      hint:
        hours.length === 0
          ? 'It is empty.'
          : `It has ${hours.join(', ')}${hours.length < 5 ? '' : ', …'}: the hours (UTC) in which something was removed.`,
    });
  }
  const restore = new Restore(options, report, found.value.ino);
  try {
    for await (const batch of volume.engine.scanEntries(found.value.ino, BATCH))
      await forEachParallel(batch, threads, (entry) => {
        signal.throwIfAborted();
        return restore.one(entry);
      });
  } finally {
    await volume.stats.flushAll();
    await volume.limits.accounts.flush();
  }
  return report;
}

/** What a name in the trash says; undefined where it is none. */
export function parseTrashName(name: Buffer): { readonly parent: Ino; readonly ino: Ino; readonly name: Buffer } | undefined {
  const match = /^(\d{1,19})-(\d{1,19})-/.exec(name.toString('latin1'));
  if (!match || name.length === match[0].length) return undefined;
  return { parent: parseIno(match[1] ?? ''), ino: parseIno(match[2] ?? ''), name: name.subarray(match[0].length) };
}

class Restore {
  readonly #options: RestoreOptions;
  readonly #report: RestoreReport;
  readonly #hour: Ino;
  /** Whether a directory lies below the hour. It stays so: without `putBack` nothing leaves the hour. */
  readonly #inHour = new Map<Ino, boolean>();

  constructor(options: RestoreOptions, report: RestoreReport, hour: Ino) {
    this.#options = options;
    this.#report = report;
    this.#hour = hour;
  }

  async one({ name }: NamedEntry): Promise<void> {
    const { volume, putBack } = this.#options;
    const report = this.#report;
    const place = parseTrashName(name);
    if (!place) return this.#left(name, 'no trash name', 'it does not say where it was');
    if (!putBack && !(await this.#liesInHour(place.parent))) {
      report.needPutBack++;
      return;
    }
    const from = { parent: this.#hour, name };
    try {
      await rename(volume, SYSTEM, from, { parent: place.parent, name: place.name }, RenameFlag.NoReplace, true);
    } catch (error) {
      if (!(error instanceof FsError)) throw error;
      if (error.code === 'EIO' || error.retryable) throw error;
      const attrs = await volume.engine.nodes([place.parent]);
      if (!attrs[0]) return this.#left(name, 'no directory', 'the directory that it was in is gone');
      // Another restore, or somebody by hand, may have been quicker.
      if (error.code === 'ENOENT' && !(await volume.engine.lookup(this.#hour, name))) return;
      if (error.code === 'EEXIST') return this.#left(name, 'conflict', 'something else has its name there now');
      return this.#left(name, 'failed', messageOf(error));
    }
    report.restored++;
    if (name.length === MAX_NAME) report.cut++;
  }

  #left(name: Buffer, reason: LeftReason, detail: string): void {
    const report = this.#report;
    if (reason === 'conflict') report.conflicts++;
    else report.failed++;
    if (report.left.length < MAX_LEFT) report.left.push({ name, reason, detail });
  }

  async #liesInHour(directory: Ino): Promise<boolean> {
    const way: Ino[] = [];
    let answer: boolean | undefined;
    for (let at = directory; answer === undefined;) {
      const known = this.#inHour.get(at);
      if (known !== undefined) answer = known;
      else if (at === this.#hour) answer = true;
      else if (at === ROOT_INO || isTrash(at) || way.length > MAX_DEPTH) answer = false;
      else {
        way.push(at);
        const [attr] = await this.#options.volume.engine.nodes([at]);
        if (attr) at = attr.parent;
        else answer = false;
      }
    }
    for (const ino of way) if (this.#inHour.size < KNOWN) this.#inHour.set(ino, answer);
    return answer;
  }
}
