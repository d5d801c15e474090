/**
 * Whether the tree of names is sound: nodes behind entries, types, parents, link counts, statistics of directories, and the volume's
 * usage; and the repair of all that can be told from the rest.
 *
 * What clients change meanwhile is no damage: a directory that seems wrong is counted again, and spoken of only where it did not
 * change in between. Statistics of directories and usage are written by clients a second late, so they are best looked at while nobody
 * writes. A repair is a transaction that rests on what was seen.
 *
 * Memory: for each directory on the way down a batch of BATCH entries; of files with several names eight bytes each, where
 * the volume's usage is counted; MAX_PROBLEMS problems by name, more are counted only.
 * Source: fsck of the official client 1.4.1 (nlink, missing attributes, statistics); parents, types and links of files are ours.
 */
import { formatIno, type Ino, isTrash, ROOT_INO } from '../../lib/int64.ts';
import type { Check, DirStat, MetaEngine, NamedEntry, Write } from '../engine.ts';
import { Listed } from '../namespace.ts';
import { statOf } from '../stats.ts';
import { type Attr, NodeType } from '../types.ts';
import type { Volume } from '../volume.ts';
import { type ProblemKind, tell, type TreeReport, typeName } from './tree-report.ts';
import { addHidden, CountedUsage } from './volume-usage.ts';
import { below } from './where.ts';

const BATCH = 1000;
/** How often a directory that changes is counted again before nothing is said of it. */
const COUNTS = 5;

export interface TreeOptions {
  readonly volume: Volume;
  /** Where to begin: a node as an entry names it. */
  readonly start: TreeStart;
  readonly recursive: boolean;
  readonly repair: boolean;
  /** Statistics of directories are counted anew, and of the whole tree from the root also the volume's usage. */
  readonly syncDirStat: boolean;
  /** Permission bits of directories whose attributes are made anew. */
  readonly dirMode: number;
  /** Sessions that are not over, whose latest changes may not be written: then usage is not compared. */
  readonly activeSessions: boolean;
  readonly report: TreeReport;
  readonly signal: AbortSignal;
}

export interface TreeStart {
  readonly ino: Ino;
  readonly type: NodeType;
  readonly path: Buffer;
  /** The directory that holds it; of the root itself. */
  readonly parent: Ino;
  readonly name: Buffer | undefined;
}

export interface FoundFile {
  readonly ino: Ino;
  readonly length: number;
  readonly path: Buffer;
}

/** Looks through the tree; answers its regular files on the way, so that their blocks can be looked at. Throws FsError. */
export async function* checkTree(options: TreeOptions): AsyncGenerator<FoundFile> {
  const check = new TreeCheck(options);
  yield* check.run();
}

interface Count {
  readonly subdirectories: number;
  readonly stat: DirStat;
}

const sum = (a: DirStat, b: DirStat): DirStat => ({
  length: a.length + b.length,
  space: a.space + b.space,
  inodes: a.inodes + b.inodes,
});
const zero: DirStat = { length: 0, space: 0, inodes: 0 };

class TreeCheck {
  readonly #options: TreeOptions;
  readonly #engine: MetaEngine;
  /** The whole volume is counted. */
  readonly #countsVolume: boolean;
  readonly #usage = new CountedUsage();

  constructor(options: TreeOptions) {
    this.#options = options;
    this.#engine = options.volume.engine;
    this.#countsVolume = options.recursive && options.syncDirStat && options.start.ino === ROOT_INO;
  }

  #problem(kind: ProblemKind, ino: Ino | undefined, path: Buffer | undefined, detail: string, repaired: boolean): void {
    tell(this.#options.report, { kind, ino, path, detail, repaired });
  }

  async *run(): AsyncGenerator<FoundFile> {
    const { start, recursive } = this.#options;
    const [attr] = await this.#engine.nodes([start.ino]);
    const checked = await this.#checkNode(start, attr);
    if (start.type !== NodeType.Directory) {
      if (checked?.type === NodeType.File) {
        this.#options.report.files++;
        yield { ino: start.ino, length: checked.length, path: start.path };
      }
      return;
    }
    yield* this.#walk(start.ino, start.path, checked, [start.ino], recursive);
    if (this.#countsVolume) await this.#checkUsage();
  }

  /** Looks through a directory, and with `descend` through everything below it. */
  async *#walk(
    ino: Ino,
    path: Buffer,
    attr: Attr | undefined,
    ancestors: readonly Ino[],
    descend: boolean,
  ): AsyncGenerator<FoundFile> {
    const { report, signal } = this.#options;
    report.directories++;
    const listed = new Listed();
    let count: Count = { subdirectories: 0, stat: zero };
    for await (const batch of this.#engine.scanEntries(ino, BATCH)) {
      signal.throwIfAborted();
      const entries = listed.fresh(batch);
      const attrs = await this.#engine.nodes(entries.map((entry) => entry.ino));
      for (const [at, entry] of entries.entries()) {
        const found = attrs[at];
        count = counted(count, entry, found);
        const child = { ...entry, path: below(path, entry.name), parent: ino };
        const checked = await this.#checkNode(child, found);
        if (this.#countsVolume && checked) this.#usage.add(entry.ino, checked);
        if (!descend) continue;
        if (entry.type === NodeType.Directory) {
          if (ancestors.includes(entry.ino))
            this.#problem('loop', entry.ino, child.path, 'the directory lies in itself; remove this entry', false);
          else yield* this.#walk(entry.ino, child.path, checked, [...ancestors, entry.ino], true);
        } else if (checked?.type === NodeType.File) {
          report.files++;
          yield { ino: entry.ino, length: checked.length, path: child.path };
        }
      }
    }
    if (attr?.type === NodeType.Directory) await this.#checkDirectory(ino, path, attr, count);
  }

  /** Looks at what an entry names. Answers the node as it is (or is now); undefined where there is none. */
  async #checkNode(entry: TreeStart, found: Attr | undefined): Promise<Attr | undefined> {
    if (!found) return this.#missing(entry);
    let attr = found;
    if (entry.name && attr.type !== entry.type) {
      const detail = `its directory says it is a ${typeName(entry.type)}, its node a ${typeName(attr.type)}`;
      const value = { type: attr.type, ino: entry.ino };
      const name = entry.name;
      await this.#repair('wrong type', entry, detail, () => ({
        checks: [{ kind: 'entry', parent: entry.parent, name, expect: { type: entry.type, ino: entry.ino } }],
        writes: [{ kind: 'putEntry', parent: entry.parent, name, value }],
      }));
    }
    if (entry.name && attr.parent !== 0 && attr.parent !== entry.parent && (attr.nlink === 1 || attr.type === NodeType.Directory))
      attr = await this.#wrongParent(entry, attr);
    if (attr.type !== NodeType.Directory && attr.parent === 0) await this.#checkLinks(entry, attr);
    return attr;
  }

  async #missing(entry: TreeStart): Promise<Attr | undefined> {
    const { volume, dirMode } = this.#options;
    // It may have been removed since the entry was read.
    const [attrs, current] = await Promise.all([
      this.#engine.nodes([entry.ino]),
      entry.name ? this.#engine.lookup(entry.parent, entry.name) : undefined,
    ]);
    if (attrs[0]) return attrs[0];
    if (entry.name && current?.value.ino !== entry.ino) return undefined;
    if (entry.type !== NodeType.Directory) {
      const detail = `a ${typeName(entry.type)} without attributes, which nothing tells any more: remove it`;
      this.#problem('missing attributes', entry.ino, entry.path, detail, false);
      return undefined;
    }
    const { subdirectories } = await this.#count(entry.ino);
    const { sec, nsec } = volume.now();
    const never = { flags: 0, rdev: 0, accessAcl: 0, defaultAcl: 0, tier: 0, uid: 0, gid: 0 };
    const times = { atime: sec, atimensec: nsec, mtime: sec, mtimensec: nsec, ctime: sec, ctimensec: nsec };
    const made: Attr = {
      ...never,
      ...times,
      type: NodeType.Directory,
      mode: dirMode,
      nlink: 2 + subdirectories,
      length: 4096,
      parent: entry.parent,
    };
    const repaired = await this.#repair('missing attributes', entry, 'a directory without attributes', () => ({
      checks: [{ kind: 'node', ino: entry.ino, expect: undefined, scope: 'all' }],
      writes: [{ kind: 'putNode', ino: entry.ino, attr: made }, ...volume.log.repairDirectory(entry.ino)],
    }));
    return repaired ? made : undefined;
  }

  async #wrongParent(entry: TreeStart, attr: Attr): Promise<Attr> {
    // It may have been moved since the entry was read.
    const [current, fresh] = await Promise.all([
      entry.name ? this.#engine.lookup(entry.parent, entry.name) : undefined,
      this.#engine.nodes([entry.ino]),
    ]);
    const now = fresh[0];
    if (!now || current?.value.ino !== entry.ino || now.parent === entry.parent || now.parent === 0) return now ?? attr;
    if (await this.#names(now.parent, entry.ino)) {
      const detail = `a second name of what lies in directory ${formatIno(now.parent)} already: remove one of the two`;
      this.#problem('second name', entry.ino, entry.path, detail, false);
      return now;
    }
    const right: Attr = { ...now, parent: entry.parent };
    const detail = `its node says it lies in directory ${formatIno(now.parent)}, and it lies in ${formatIno(entry.parent)}`;
    const repaired = await this.#repair('wrong parent', entry, detail, () => ({
      checks: [{ kind: 'node', ino: entry.ino, expect: now, scope: 'all' }],
      writes: [{ kind: 'putNode', ino: entry.ino, attr: right }],
    }));
    return repaired ? right : now;
  }

  /** True where a directory has an entry that names a node. */
  async #names(directory: Ino, ino: Ino): Promise<boolean> {
    for await (const batch of this.#engine.scanEntries(directory, BATCH)) {
      this.#options.signal.throwIfAborted();
      if (batch.some((entry) => entry.ino === ino)) return true;
    }
    return false;
  }

  /** A file with several names: this directory is among its parents, and there are as many names as it has links. */
  async #checkLinks(entry: TreeStart, seen: Attr): Promise<void> {
    const read = () =>
      this.#engine.read([
        { kind: 'parents', ino: entry.ino },
        { kind: 'node', ino: entry.ino },
      ]);
    const names = (parents: ReadonlyMap<Ino, number>): number => [...parents.values()].reduce((all, each) => all + each, 0);
    let [parents, attr] = await read();
    if (parents.has(entry.parent) && names(parents) === seen.nlink) return;
    // Once more, for links may come and go.
    const before = attr;
    [parents, attr] = await read();
    if (!attr || !before || attr.nlink !== before.nlink || attr.ctime !== before.ctime || attr.ctimensec !== before.ctimensec)
      return;
    const now = attr;
    if (!parents.has(entry.parent)) {
      await this.#repair('wrong parent', entry, 'its node does not know that it has a name here', () => ({
        checks: [{ kind: 'node', ino: entry.ino, expect: now, scope: 'all' }],
        writes: [{ kind: 'addParent', ino: entry.ino, parent: entry.parent, delta: 1 }],
      }));
      [parents] = await read();
    }
    const links = names(parents);
    if (links === now.nlink || links === 0) return;
    const detail = `its link count should be ${links}, and is ${now.nlink}`;
    await this.#repair('wrong link count', entry, detail, () => ({
      checks: [{ kind: 'node', ino: entry.ino, expect: now, scope: 'all' }],
      writes: [{ kind: 'putNode', ino: entry.ino, attr: { ...now, nlink: links } }],
    }));
  }

  /** Tells of a problem and, where that is asked for, mends it. True where it did. */
  async #repair(
    kind: ProblemKind,
    { ino, path }: Pick<TreeStart, 'ino' | 'path'>,
    detail: string,
    transaction: () => { readonly checks: readonly Check[]; readonly writes: readonly Write[] },
  ): Promise<boolean> {
    const repaired = this.#options.repair && (await this.#engine.commit(transaction())).ok;
    this.#problem(kind, ino, path, detail, repaired);
    return repaired;
  }

  async #count(ino: Ino): Promise<Count> {
    const listed = new Listed();
    let count: Count = { subdirectories: 0, stat: zero };
    for await (const batch of this.#engine.scanEntries(ino, BATCH)) {
      this.#options.signal.throwIfAborted();
      const entries = listed.fresh(batch);
      const attrs = await this.#engine.nodes(entries.map((entry) => entry.ino));
      for (const [at, entry] of entries.entries()) count = counted(count, entry, attrs[at]);
    }
    return count;
  }

  async #checkDirectory(ino: Ino, path: Buffer, attr: Attr, first: Count): Promise<void> {
    const { volume, syncDirStat, repair } = this.#options;
    const { dirStats } = volume.format;
    const [statNow] = await this.#engine.read([{ kind: 'dirStat', ino }]);
    const sound = (node: Attr, stat: DirStat | undefined, count: Count): boolean =>
      node.nlink === 2 + count.subdirectories && (!dirStats || statSound(stat, count, syncDirStat));
    const rewrites = repair && syncDirStat && dirStats;
    if (sound(attr, statNow, first) && !(rewrites && statNow && statNow.length !== first.stat.length)) return;
    let last: Count | undefined;
    for (let attempt = 0; attempt < COUNTS; attempt++) {
      const before = await this.#read(ino);
      if (!before.node || isTrash(before.node.parent)) return;
      const count = await this.#count(ino);
      const after = await this.#read(ino);
      if (!after.node) return;
      // Twice the same: the official client does not write the time of every change.
      const same = last && unchanged(before.node, after.node) && last.subdirectories === count.subdirectories;
      last = count;
      if (same) return this.#mendDirectory(ino, path, after.node, after.stat, count);
    }
  }

  async #read(ino: Ino): Promise<{ readonly node: Attr | undefined; readonly stat: DirStat | undefined }> {
    const [node, stat] = await this.#engine.read([
      { kind: 'node', ino },
      { kind: 'dirStat', ino },
    ]);
    return { node, stat };
  }

  async #mendDirectory(ino: Ino, path: Buffer, node: Attr, stat: DirStat | undefined, count: Count): Promise<void> {
    const { volume, syncDirStat } = this.#options;
    const links = 2 + count.subdirectories;
    if (node.nlink !== links) {
      const detail = `its link count should be ${links}, and is ${node.nlink}`;
      await this.#repair('wrong link count', { ino, path }, detail, () => ({
        checks: [{ kind: 'node', ino, expect: node, scope: 'all' }],
        writes: [{ kind: 'putNode', ino, attr: { ...node, nlink: links } }, ...volume.log.repairDirectory(ino)],
      }));
    }
    if (!volume.format.dirStats) return;
    const put = (): { readonly checks: readonly Check[]; readonly writes: readonly Write[] } => ({
      checks: [{ kind: 'node', ino, expect: node, scope: 'exists' }],
      writes: [{ kind: 'putDirStat', ino, value: count.stat }, ...volume.log.dirStat(ino, count.stat)],
    });
    const wanted = `${count.stat.inodes} names and ${count.stat.space} bytes`;
    if (!stat || stat.space < 0 || stat.inodes < 0) {
      const found = stat ? `${stat.inodes} names and ${stat.space} bytes` : 'nothing';
      const detail = `its statistics should say ${wanted}, and say ${found}`;
      await this.#repair('missing statistics', { ino, path }, detail, put);
    } else if (syncDirStat && !statSound(stat, count, true)) {
      const detail = `its statistics should say ${wanted}, and say ${stat.inodes} names and ${stat.space} bytes`;
      await this.#repair('wrong statistics', { ino, path }, detail, put);
    } else if (syncDirStat && this.#options.repair && stat.length !== count.stat.length) {
      // The official client lets the length of cloned directories drift; nobody reads it but for display.
      await this.#engine.commit(put());
    }
  }

  /** Compares the volume's counters with what was counted, the trash and files that are only open included. */
  async #checkUsage(): Promise<void> {
    const { signal, repair, activeSessions } = this.#options;
    await addHidden(this.#engine, this.#usage, signal);
    const [space, inodes] = await this.#engine.read([
      { kind: 'counter', name: 'usedSpace' },
      { kind: 'counter', name: 'totalInodes' },
    ]);
    const usage = this.#usage;
    if (space === usage.space && inodes === usage.inodes) return;
    if (activeSessions && !repair) return;
    const detail = `${usage.inodes} inodes and ${usage.space} bytes are used, and ${inodes} inodes and ${space} bytes are recorded`;
    if (repair)
      await this.#engine.commit({
        checks: [],
        // As changes, so that what others add meanwhile is kept.
        writes: [
          { kind: 'addCounter', name: 'usedSpace', delta: usage.space - space },
          { kind: 'addCounter', name: 'totalInodes', delta: usage.inodes - inodes },
        ],
      });
    this.#problem('wrong usage', undefined, undefined, detail, repair);
  }
}

function counted(count: Count, entry: NamedEntry, attr: Attr | undefined): Count {
  return {
    subdirectories: count.subdirectories + (entry.type === NodeType.Directory ? 1 : 0),
    stat: attr ? sum(count.stat, statOf(attr)) : count.stat,
  };
}

/** A directory's record is there, no number of it below nought; with `exact` it says what was counted. */
function statSound(stat: DirStat | undefined, { stat: wanted }: Count, exact: boolean): boolean {
  if (!stat || stat.space < 0 || stat.inodes < 0) return false;
  return !exact || (stat.space === wanted.space && stat.inodes === wanted.inodes);
}

function unchanged(a: Attr, b: Attr): boolean {
  return (
    a.nlink === b.nlink &&
    a.mtime === b.mtime &&
    a.mtimensec === b.mtimensec &&
    a.ctime === b.ctime &&
    a.ctimensec === b.ctimensec
  );
}
