/**
 * How much lies in a tree: exactly, by looking at every node (`strict`), or by what is recorded of directories, which may lag behind
 * by a second and costs a directory with nothing but files one read. Directories are looked at several at once; names are read
 * in batches, and of each directory only the largest entries are kept. Source: the JuiceFS format, control protocol (info, summary).
 */
import { FsError } from '../lib/errors.ts';
import type { Ino } from '../lib/int64.ts';
import { Branches } from './branches.ts';
import type { DirStat } from './engine.ts';
import { getattr, readdir } from './namespace.ts';
import { statOf } from './stats.ts';
import { type Attr, type DirEntry, NodeType, type SummaryOptions, SYSTEM, type TreeSummary, type TreeUsage } from './types.ts';
import type { Volume } from './volume.ts';

/** Directories looked at at once. */
const PLACES = 50;

type Counting = { -readonly [K in keyof TreeUsage]: TreeUsage[K] };

const nothing = (): Counting => ({ length: 0, size: 0, files: 0, dirs: 0 });

const onlyGone = (error: unknown): void => {
  if (!(error instanceof FsError && error.code === 'ENOENT')) throw error;
};

class Counter {
  readonly #volume: Volume;
  readonly #branches: Branches;
  readonly #strict: boolean;
  readonly #onCounted: (files: number, bytes: number) => void;

  constructor(volume: Volume, { strict = false, onCounted, signal }: SummaryOptions) {
    this.#volume = volume;
    this.#branches = new Branches(PLACES - 1, signal);
    this.#strict = strict || !volume.format.dirStats;
    this.#onCounted = onCounted ?? ((): void => {});
  }

  node(attr: Attr, into: Counting): void {
    const { length, space } = statOf(attr);
    if (attr.type === NodeType.Directory) into.dirs++;
    else into.files++;
    into.length += length;
    into.size += space;
    this.#onCounted(1, space);
  }

  /** What lies in a directory: directly, or (`deep`) at any depth. One that is gone holds nothing. */
  async below(directory: Ino, into: Counting, deep: boolean): Promise<void> {
    const recorded = this.#strict ? undefined : await this.#recorded(directory);
    if (recorded) {
      into.length += recorded.stat.length;
      into.size += recorded.stat.space;
      this.#onCounted(recorded.stat.inodes, recorded.stat.space);
      if (recorded.links <= 2) {
        into.files += recorded.stat.inodes;
        return;
      }
    }
    await this.#each(directory, !recorded, async (entry) => {
      const isDirectory = entry.type === NodeType.Directory;
      if (recorded) into[isDirectory ? 'dirs' : 'files']++;
      else if (entry.attr) this.node(entry.attr, into);
      if (isDirectory && deep) await this.below(entry.ino, into, true);
    });
  }

  /** Of a directory that holds something there, the largest entries, to the depth given. */
  async tree(directory: Ino, path: string, depth: number, most: number, own: Counting): Promise<readonly TreeSummary[]> {
    const largest: TreeSummary[] = [];
    const rest = nothing();
    await this.#each(directory, true, async ({ name, ino, type, attr }) => {
      if (!attr) return;
      const usage = nothing();
      this.node(attr, usage);
      const childPath = path === '' ? name.toString() : `${path}/${name.toString()}`;
      let children: readonly TreeSummary[] | undefined;
      if (type === NodeType.Directory) {
        if (depth > 1) children = await this.tree(ino, childPath, depth - 1, most, usage);
        else await this.below(ino, usage, true);
      }
      own.files += usage.files;
      own.dirs += usage.dirs;
      own.size += usage.size;
      own.length += usage.length;
      const at = largest.findIndex(({ size }) => size < usage.size);
      largest.splice(at < 0 ? largest.length : at, 0, {
        ino,
        path: childPath,
        type,
        ...usage,
        ...(children ? { children } : {}),
      });
      const last = largest.length > most ? largest.pop() : undefined;
      if (!last) return;
      rest.files += last.files;
      rest.dirs += last.dirs;
      rest.size += last.size;
      rest.length += last.length;
    });
    if (rest.files + rest.dirs > 0)
      largest.push({ ino: 0 as Ino, path: path === '' ? '...' : `${path}/...`, type: NodeType.File, ...rest });
    return largest;
  }

  async #each(directory: Ino, withAttr: boolean, work: (entry: DirEntry) => Promise<void>): Promise<void> {
    try {
      for await (const batch of readdir(this.#volume, SYSTEM, directory, withAttr)) {
        const directories: DirEntry[] = [];
        for (const entry of batch)
          if (entry.type === NodeType.Directory) directories.push(entry);
          // Nothing is waited for: what a file adds is known.
          else await work(entry);
        await this.#branches.each(directories, work);
        this.#branches.throwIfStopped();
      }
    } catch (error) {
      onlyGone(error);
    }
  }

  async #recorded(directory: Ino): Promise<{ readonly stat: DirStat; readonly links: number } | undefined> {
    const [stat, attr] = await this.#volume.engine.read([
      { kind: 'dirStat', ino: directory },
      { kind: 'node', ino: directory },
    ]);
    if (!stat || !attr || stat.length < 0 || stat.space < 0 || stat.inodes < 0) return undefined;
    return { stat, links: attr.nlink };
  }
}

/** What a node takes, and with a directory what is in it: directly, or (`recursive`) at any depth. */
export async function summarize(
  volume: Volume,
  ino: Ino,
  options: SummaryOptions & { readonly recursive: boolean },
): Promise<TreeUsage> {
  const usage = nothing();
  const attr = await getattr(volume, SYSTEM, ino);
  if (!volume.readOnly && !options.strict) await volume.stats.flush();
  const counter = new Counter(volume, options);
  counter.node(attr, usage);
  if (attr.type === NodeType.Directory) await counter.below(ino, usage, options.recursive);
  return usage;
}

/** The same of a whole tree, with its `entries` largest parts to a depth, and what the others take together. */
export async function summarizeTree(
  volume: Volume,
  ino: Ino,
  options: SummaryOptions & { readonly depth: number; readonly entries: number },
): Promise<TreeSummary> {
  const { depth, entries } = options;
  const usage = nothing();
  const attr = await getattr(volume, SYSTEM, ino);
  if (!volume.readOnly && !options.strict) await volume.stats.flush();
  const counter = new Counter(volume, options);
  counter.node(attr, usage);
  const top = { ino, path: '', type: attr.type };
  if (attr.type !== NodeType.Directory) return { ...top, ...usage };
  if (depth > 0) return { ...top, children: await counter.tree(ino, '', depth, entries, usage), ...usage };
  await counter.below(ino, usage, true);
  return { ...top, ...usage };
}
