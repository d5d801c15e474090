/**
 * Copies of files and trees that share the data: nodes, names, extended attributes, access control lists and the lists of slices
 * are copied, every slice gets a reference more, no block is read or written. As JuiceFS does it:
 * - a tree is made without a name (*detached*), noted so that it is found and removed should nobody finish it, and gets its name
 *   when it is whole; a file by itself is one transaction;
 * - names of one file in a tree become files of their own; attributes are the caller's unless they are to be preserved.
 *
 * Each file is copied as it was at one moment: the commit rests on its node and on each of its lists, and is repeated where
 * they changed. Of a tree, different files may be of different moments; what is removed meanwhile is left out. Link counts and
 * statistics of the copy are those of what was copied. Other than JuiceFS: pipes, devices and sockets in a tree are copied,
 * immutability and append-only are not, and set-id bits go only along with their owner, as in cp(1).
 *
 * Bounded: names are read in batches, `threads` directories or groups of files at once. Source: the JuiceFS format, clone.
 */
import { FsError } from '../lib/errors.ts';
import { type Ino, isTrash } from '../lib/int64.ts';
import { Branches } from './branches.ts';
import { type Copy, planCopies } from './clone-node.ts';
import { discard } from './detached.ts';
import type { Check, DirStat, EntryValue, NamedEntry, Write } from './engine.ts';
import { getattr, readdir } from './namespace.ts';
import { isTrashName, requireNewName } from './names.ts';
import { inTrash, requireAdd } from './permissions.ts';
import { statOf } from './stats.ts';
import { summarize } from './tree-summary.ts';
import { type As, type CloneOptions, type Context, type Entry, NodeType, SYSTEM } from './types.ts';
import type { Volume } from './volume.ts';

/** Files copied in one transaction. */
const GROUP = 32;
/** How often a copy is begun anew because its source changed. */
const ATTEMPTS = 100;
/** A tree that is being made is noted anew so often, seconds: others take one of a day ago for left behind. */
const RENEW = 3600;
const NEVER: DirStat = { length: 0, space: 0, inodes: 0 };

/** The source was changed between reading it and the commit. */
class Changed extends FsError {
  constructor() {
    super('EIO', 'the file was changed each time it was to be copied', { retryable: true });
  }
}

/** A directory of the copy. */
type Directory = Pick<Copy, 'ino' | 'attr'>;

interface Source extends EntryValue {
  readonly name: Buffer;
}

class Cloning {
  readonly #volume: Volume;
  readonly #as: As;
  readonly #options: CloneOptions;
  readonly #branches: Branches;
  #top: Ino | undefined;
  #renewed = 0;
  /** What was made so far. */
  #space = 0;
  #inodes = 0;

  constructor(volume: Volume, as: As, options: CloneOptions) {
    this.#volume = volume;
    this.#as = as;
    this.#options = options;
    this.#branches = new Branches((options.threads ?? 4) - 1, options.signal);
  }

  #plan(sources: readonly EntryValue[], parent: Ino): Promise<readonly (Copy | undefined)[]> {
    return planCopies(this.#volume, this.#as, sources, parent, this.#options);
  }

  /** Takes note of nodes that were made; directories above are charged when they get a name. */
  #made(copies: readonly Copy[]): void {
    const { stats, limits } = this.#volume;
    for (const { attr } of copies) {
      const { space } = statOf(attr);
      this.#space += space;
      this.#inodes++;
      stats.charge(space, 1);
      limits.charge({ space, inodes: 1, owner: attr });
    }
    this.#options.onCloned?.(copies.length);
  }

  #entry({ source, ino }: Copy, place: { readonly parent: Ino; readonly name: Buffer }, top = false): readonly Write[] {
    const { log } = this.#volume;
    return log.on ? log.clone(source, place, this.#options, top, ino, this.#volume.now()) : [];
  }

  #usage(copies: readonly Copy[]): readonly Write[] {
    const space = copies.reduce((sum, { attr }) => sum + statOf(attr).space, 0);
    return this.#volume.stats.writes(space, copies.length);
  }

  /** What every commit into the tree rests on and says: it is still there, and being made. */
  #alive({ ino, attr }: Directory): { readonly check: Check; readonly writes: readonly Write[] } {
    const now = this.#volume.seconds();
    const renew = this.#top !== undefined && now - this.#renewed >= RENEW;
    if (renew) this.#renewed = now;
    return {
      check: { kind: 'node', ino, expect: attr, scope: 'exists' },
      writes: renew ? [{ kind: 'addDetached', ino: this.#top as Ino, time: now }] : [],
    };
  }

  async #commit(copies: readonly (Copy & { readonly name: Buffer })[], directory: Directory): Promise<boolean> {
    const alive = this.#alive(directory);
    const result = await this.#volume.engine.commit(
      {
        checks: [alive.check, ...copies.flatMap(({ checks }) => checks)],
        writes: [
          ...copies.flatMap((copy): Write[] => [
            ...copy.writes,
            { kind: 'putEntry', parent: directory.ino, name: copy.name, value: { type: copy.attr.type, ino: copy.ino } },
            ...this.#entry(copy, { parent: directory.ino, name: copy.name }),
          ]),
          ...this.#usage(copies),
          ...alive.writes,
        ],
      },
      this.#options.signal,
    );
    if (!result.ok && result.failed.includes(0))
      throw new FsError('EIO', 'the copy was removed by somebody else while it was made', { retryable: true });
    if (result.ok) this.#made(copies);
    return result.ok;
  }

  /** Copies files into a directory of the tree; all in one transaction, or one by one where one of them is being changed. */
  async #files(sources: readonly Source[], directory: Directory, tally: (stat: DirStat) => void): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      const copies = (await this.#plan(sources, directory.ino)).flatMap((copy, at) =>
        copy ? [{ ...copy, name: (sources[at] as Source).name }] : [],
      );
      if (copies.length === 0) return;
      if (await this.#commit(copies, directory)) {
        for (const { attr } of copies) tally(statOf(attr));
        return;
      }
      if (sources.length > 1) {
        for (const source of sources) await this.#files([source], directory, tally);
        return;
      }
      await this.#pause(attempt);
    }
  }

  /** Waits before a copy is begun anew; gives up in the end. */
  async #pause(attempt: number): Promise<void> {
    if (attempt >= ATTEMPTS) throw new Changed();
    const { clock, random } = this.#volume;
    await clock.sleep(random.float() * Math.min(attempt * attempt, 200), this.#options.signal);
  }

  /** Fills the copy of a directory, and writes what link count and statistics it has by that. */
  async #fill(source: Ino, copy: Directory): Promise<void> {
    let directories = 0;
    let stat = NEVER;
    const tally = ({ length, space, inodes }: DirStat): void => {
      stat = { length: stat.length + length, space: stat.space + space, inodes: stat.inodes + inodes };
    };
    const subdirectory = async (entry: Source): Promise<void> => {
      const [below] = await this.#plan([entry], copy.ino);
      if (!below) return;
      if (!(await this.#commit([{ ...below, name: entry.name }], copy))) throw new Changed();
      directories++;
      tally(statOf(below.attr));
      await this.#fill(entry.ino, below);
    };
    for await (const batch of this.#entries(source)) {
      const files = batch.filter(({ type }) => type !== NodeType.Directory);
      const groups = Array.from({ length: Math.ceil(files.length / GROUP) }, (_, at) =>
        files.slice(at * GROUP, (at + 1) * GROUP),
      );
      await this.#branches.each(groups, (group) => this.#files(group, copy, tally));
      await this.#branches.each(
        batch.filter(({ type }) => type === NodeType.Directory),
        subdirectory,
      );
    }
    if (stat.inodes === 0) return;
    const alive = this.#alive(copy);
    const result = await this.#volume.engine.commit({
      checks: [alive.check],
      writes: [
        { kind: 'putNode', ino: copy.ino, attr: { ...copy.attr, nlink: 2 + directories } },
        { kind: 'putDirStat', ino: copy.ino, value: stat },
      ],
    });
    if (!result.ok) throw new FsError('EIO', 'the copy was removed by somebody else while it was made', { retryable: true });
  }

  async *#entries(directory: Ino): AsyncIterable<readonly NamedEntry[]> {
    try {
      yield* readdir(this.#volume, SYSTEM, directory, false);
    } catch (error) {
      // Removed since.
      if (!(error instanceof FsError && error.code === 'ENOENT')) throw error;
    }
  }

  /** A single node under a new name, in one transaction. */
  async file(source: EntryValue, parent: Ino, name: Buffer): Promise<Entry> {
    const volume = this.#volume;
    const { limits } = volume;
    const places = await limits.above(parent);
    for (let attempt = 1; ; attempt++) {
      const [copy] = await this.#plan([source], parent);
      if (!copy) throw new FsError('ENOENT');
      const stat = statOf(copy.attr);
      try {
        await this.#as((ctx) =>
          volume.change(async (view) => {
            requireAdd(ctx, view.node(parent, 'access'));
            if (view.entry(parent, name, 'absent')) throw new FsError('EEXIST');
            for (const check of copy.checks) view.require(check, () => new Changed());
            await limits.require({ space: stat.space, inodes: 1, owner: copy.attr, places });
            return {
              writes: [
                ...copy.writes,
                { kind: 'putEntry', parent, name, value: { type: copy.attr.type, ino: copy.ino } },
                { kind: 'touchNode', ino: parent, ...volume.now(), nlink: 0 },
                ...this.#usage([copy]),
                ...this.#entry(copy, { parent, name }, true),
              ],
              value: undefined,
            };
          }, this.#options.signal),
        );
      } catch (error) {
        if (!(error instanceof Changed)) throw error;
        await this.#pause(attempt);
        continue;
      }
      this.#made([copy]);
      limits.charge({ space: stat.space, inodes: 1, places });
      volume.stats.add(parent, stat);
      return { ino: copy.ino, attr: copy.attr };
    }
  }

  /** A tree: made without a name, then given it. Whatever goes wrong, nothing of it stays. */
  async tree(source: EntryValue, parent: Ino, name: Buffer): Promise<Entry> {
    const volume = this.#volume;
    // Its parent is none until it has a name: so it counts for the quotas of no directory.
    const [top] = await this.#plan([source], 0 as Ino);
    if (!top) throw new FsError('ENOENT');
    this.#renewed = volume.seconds();
    if (volume.readOnly) throw new FsError('EROFS');
    await volume.engine.commit({
      checks: [],
      writes: [
        ...top.writes,
        { kind: 'addDetached', ino: top.ino, time: this.#renewed },
        ...this.#usage([top]),
        ...this.#entry(top, { parent, name }, true),
      ],
    });
    this.#made([top]);
    this.#top = top.ino;
    try {
      await this.#fill(source.ino, top);
      return await this.#attach(top.ino, parent, name);
    } catch (error) {
      await discard(volume, top.ino).catch((failure: unknown) =>
        volume.logger.warn('a copy that was not finished could not be removed; it is tried again within a day', {
          ino: top.ino,
          error: failure,
        }),
      );
      throw error;
    }
  }

  async #attach(top: Ino, parent: Ino, name: Buffer): Promise<Entry> {
    const volume = this.#volume;
    const { limits } = volume;
    const places = await limits.above(parent);
    const all = { space: this.#space, inodes: this.#inodes, places };
    const { value } = await this.#as((ctx) =>
      volume.change<Entry>(async (view) => {
        requireAdd(ctx, view.node(parent, 'access'));
        if (view.entry(parent, name, 'absent')) throw new FsError('EEXIST');
        const node = view.node(top, 'all');
        if (!node) throw new FsError('EIO', 'the copy was removed by somebody else while it was made', { retryable: true });
        await limits.require({ ...all, volume: false });
        const attr = { ...node, parent };
        const now = volume.now();
        return {
          writes: [
            { kind: 'putNode', ino: top, attr },
            { kind: 'putEntry', parent, name, value: { type: NodeType.Directory, ino: top } },
            { kind: 'touchNode', ino: parent, ...now, nlink: 1 },
            { kind: 'removeDetached', ino: top },
            ...volume.log.attach(top, { parent, name }, now),
          ],
          value: { ino: top, attr },
        };
      }, this.#options.signal),
    );
    limits.charge(all);
    volume.stats.add(parent, statOf(value.attr));
    return value;
  }
}

/**
 * Copies a file, or a directory with all below it, to a new name. EEXIST where the name is taken, EPERM from or into the trash,
 * EDQUOT or ENOSPC where there is no room for it (as far as is recorded, before anything is done).
 */
export async function clone(
  volume: Volume,
  ctx: Context,
  as: As,
  source: Ino,
  parent: Ino,
  name: Buffer,
  options: CloneOptions,
): Promise<Entry> {
  if (isTrash(source) || isTrash(parent) || isTrashName(parent, name)) throw new FsError('EPERM');
  requireNewName(name);
  const attr = await getattr(volume, SYSTEM, source);
  if (inTrash(attr)) throw new FsError('EPERM', 'what lies in the trash cannot be copied; restore it first');
  const { signal } = options;
  const usage = await summarize(volume, source, { recursive: true, ...(signal ? { signal } : {}) });
  const inodes = usage.files + usage.dirs;
  options.onTotal?.(inodes);
  const { uid, gid } = ctx;
  const places = await volume.limits.above(parent);
  await volume.limits.require({ space: usage.size, inodes, owner: { uid, gid }, places });
  // Found out before a tree is made for nothing.
  await as((caller) =>
    volume.change((view) => {
      requireAdd(caller, view.node(parent, 'access'));
      if (view.entry(parent, name)) throw new FsError('EEXIST');
      return { writes: [], value: undefined };
    }, signal),
  );
  const cloning = new Cloning(volume, as, options);
  const value = { type: attr.type, ino: source };
  return attr.type === NodeType.Directory ? cloning.tree(value, parent, name) : cloning.file(value, parent, name);
}
