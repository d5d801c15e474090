/**
 * Usage counted by looking: what lies below a directory, and what each user and group owns. For quotas that are new, moved or
 * to be checked; what others change meanwhile may be in it or not.
 *
 * Memory: eight bytes per directory that waits to be visited, and per file with several names (owners only).
 */
import { type Ino, ROOT_INO, TRASH_INO } from '../lib/int64.ts';
import type { MetaEngine } from './engine.ts';
import { Listed } from './namespace.ts';
import type { QuotaUsage } from './quota.ts';
import { statOf } from './stats.ts';
import { type Attr, NodeType } from './types.ts';

const DIRECTORIES_PER_READ = 256;
const ENTRIES_PER_READ = 4096;

/** Entries of a directory that have a node, with its attributes. */
async function* entriesOf(
  engine: MetaEngine,
  directory: Ino,
  signal: AbortSignal | undefined,
): AsyncIterable<{ readonly ino: Ino; readonly attr: Attr }> {
  const listed = new Listed();
  for await (const batch of engine.scanEntries(directory, ENTRIES_PER_READ)) {
    signal?.throwIfAborted();
    const fresh = listed.fresh(batch);
    const attrs = await engine.nodes(fresh.map((entry) => entry.ino));
    for (const [at, attr] of attrs.entries()) if (attr) yield { ino: fresh[at]?.ino as Ino, attr };
  }
}

/**
 * What lies below a directory, without itself. From the statistics of directories, which may lag behind by a second; with
 * `strict` from the files themselves. Answers 0 for what is no directory.
 */
export async function treeUsage(
  engine: MetaEngine,
  root: Ino,
  strict = false,
  signal?: AbortSignal,
): Promise<{ readonly space: number; readonly inodes: number }> {
  let space = 0;
  let inodes = 0;
  const waiting: Ino[] = [root];
  const count = async (directory: Ino): Promise<void> => {
    for await (const { ino, attr } of entriesOf(engine, directory, signal)) {
      space += statOf(attr).space;
      inodes++;
      if (attr.type === NodeType.Directory) waiting.push(ino);
    }
  };
  while (waiting.length > 0) {
    const directories = waiting.splice(-DIRECTORIES_PER_READ);
    if (strict) {
      for (const directory of directories) await count(directory);
      continue;
    }
    signal?.throwIfAborted();
    const [attrs, stats] = await Promise.all([
      engine.nodes(directories),
      engine.read(directories.map((ino) => ({ kind: 'dirStat', ino }) as const)),
    ]);
    for (const [at, directory] of directories.entries()) {
      const stat = stats[at];
      const links = attrs[at]?.nlink ?? 0;
      if (!stat || stat.space < 0 || stat.inodes < 0) {
        await count(directory);
        continue;
      }
      space += stat.space;
      inodes += stat.inodes;
      // Only a directory with subdirectories has more than two links.
      if (links <= 2) continue;
      const listed = new Listed();
      for await (const batch of engine.scanEntries(directory, ENTRIES_PER_READ))
        for (const { ino, type } of listed.fresh(batch)) if (type === NodeType.Directory) waiting.push(ino);
    }
  }
  return { space, inodes };
}

export interface OwnerUsage {
  readonly users: ReadonlyMap<number, QuotaUsage>;
  readonly groups: ReadonlyMap<number, QuotaUsage>;
}

/**
 * What each user and group owns: everything with a name, trash included (without the directories of its hours), and files
 * that are only open any more.
 */
export async function ownerUsage(engine: MetaEngine, signal?: AbortSignal): Promise<OwnerUsage> {
  const users = new Map<number, QuotaUsage>();
  const groups = new Map<number, QuotaUsage>();
  const add = (owners: Map<number, QuotaUsage>, id: number, space: number): void => {
    const before = owners.get(id) ?? { space: 0, inodes: 0 };
    owners.set(id, { space: before.space + space, inodes: before.inodes + 1 });
  };
  const own = (attr: Attr): void => {
    const { space } = statOf(attr);
    add(users, attr.uid, space);
    add(groups, attr.gid, space);
  };
  const linked = new Set<Ino>();
  const waiting: Ino[] = [ROOT_INO, TRASH_INO];
  for (let directory = waiting.pop(); directory !== undefined; directory = waiting.pop()) {
    for await (const { ino, attr } of entriesOf(engine, directory, signal)) {
      if (attr.type === NodeType.Directory) waiting.push(ino);
      else if (attr.nlink > 1) {
        if (linked.has(ino)) continue;
        linked.add(ino);
      }
      if (directory !== TRASH_INO) own(attr);
    }
  }
  for await (const inos of engine.scanSustained()) for (const attr of await engine.nodes(inos)) if (attr?.nlink === 0) own(attr);
  return { users, groups };
}
