/**
 * The trash: removed nodes move to a directory of the hour (UTC, `YYYY-MM-DD-HH`) under the trash root, named after where
 * they were. The hour's directory is made when it is first needed; nobody else makes anything in the trash root.
 *
 * Source: the JuiceFS format, identifiers, unlink, and creation of hour directories.
 */
import { FsError } from '../lib/errors.ts';
import { type Ino, ino, isTrash, TRASH_INO } from '../lib/int64.ts';
import type { Clock } from '../lib/clock.ts';
import { bareDirectory } from './bare-directory.ts';
import type { ChangeLog } from './changelog.ts';
import type { MetaEngine } from './engine.ts';
import type { Format } from './format.ts';
import { charged, type Stats } from './stats.ts';
import type { Committed, Decide, View } from './transact.ts';
import { NodeType, SYSTEM } from './types.ts';

/** No trash for this removal. */
export const NO_TRASH = 0 as Ino;

/** An hour's directory, as it is made. */
const HOUR = { type: NodeType.Directory, mode: 0o555, umask: 0 };

const pad = (value: number): string => String(value).padStart(2, '0');

/** The name of an hour's directory; `ms` since the epoch. */
export function hourName(ms: number): string {
  const date = new Date(ms);
  return `${date.getUTCFullYear()}-${pad(date.getUTCMonth() + 1)}-${pad(date.getUTCDate())}-${pad(date.getUTCHours())}`;
}

/** When an hour's directory begins, ms since the epoch; undefined where the name is something else. */
export function hourOf(name: string): number | undefined {
  const match = /^(\d{4})-(\d\d)-(\d\d)-(\d\d)$/.exec(name);
  if (!match) return undefined;
  const [year, month, day, hour] = match.slice(1).map(Number) as [number, number, number, number];
  return Date.UTC(year, month - 1, day, hour);
}

/** What is needed of the volume. */
interface Surroundings {
  readonly engine: MetaEngine;
  readonly clock: Clock;
  readonly format: Format;
  readonly stats: Stats;
  readonly log: Pick<ChangeLog, 'create'>;
  now(): { readonly sec: number; readonly nsec: number };
  change<T>(decide: Decide<T>): Promise<Committed<T>>;
}

export class Trash {
  readonly #volume: Surroundings;
  #hour = '';
  #directory: Ino = NO_TRASH;
  #making: Promise<Ino> | undefined;

  constructor(volume: Surroundings) {
    this.#volume = volume;
  }

  /**
   * Where something removed from `parent` goes: this hour's directory, or NO_TRASH where the trash is off or we are in it.
   * The view checks that the directory is still there.
   */
  for(view: View, parent: Ino): Ino | Promise<Ino> {
    if (this.#volume.format.trashDays === 0 || isTrash(parent)) return NO_TRASH;
    if (this.#hour === hourName(this.#volume.clock.now()) && view.node(this.#directory, 'exists')) return this.#directory;
    return this.#find();
  }

  #find(): Promise<Ino> {
    this.#making ??= this.#findOrMake().finally(() => (this.#making = undefined));
    return this.#making;
  }

  async #findOrMake(): Promise<Ino> {
    const volume = this.#volume;
    const hour = hourName(volume.clock.now());
    const name = Buffer.from(hour);
    const found = await volume.engine.lookup(TRASH_INO, name);
    const directory = found?.attr ? found.value.ino : await this.#make(name);
    this.#hour = hour;
    this.#directory = directory;
    return directory;
  }

  async #make(name: Buffer): Promise<Ino> {
    const volume = this.#volume;
    const counted = await volume.engine.commit({
      checks: [],
      writes: [{ kind: 'addCounter', name: 'nextTrash', delta: 1 }],
    });
    const ordinal = counted.ok ? (counted.results[0] ?? 0) : 0;
    if (ordinal <= 0) throw new FsError('EIO', 'the trash gave no number for a new directory');
    const directory = ino(TRASH_INO + ordinal);
    const { value, writes } = await volume.change((view) => {
      const entry = view.entry(TRASH_INO, name, 'absent');
      // Another client was quicker; a node that is missing was removed with the trash of an earlier life of the volume.
      if (entry && view.node(entry.ino, 'exists')) return { writes: [], value: entry.ino };
      const now = volume.now();
      const attr = bareDirectory(0o555, now, TRASH_INO);
      return {
        writes: [
          { kind: 'putNode', ino: directory, attr },
          { kind: 'putEntry', parent: TRASH_INO, name, value: { type: NodeType.Directory, ino: directory } },
          { kind: 'putDirStat', ino: directory, value: { length: 0, space: 0, inodes: 0 } },
          ...volume.stats.writes(charged(0), 1),
          ...volume.log.create({ parent: TRASH_INO, name }, SYSTEM, HOUR, false, directory, now),
        ],
        value: directory,
      };
    });
    if (writes.length > 0) volume.stats.charge(charged(0), 1);
    return value;
  }
}
