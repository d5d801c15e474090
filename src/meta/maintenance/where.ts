/**
 * Where nodes lie: paths of many nodes at once, for reports. Each directory that holds one of them is listed once.
 *
 * Memory: the nodes asked for, and KNOWN paths of directories.
 */
import { type Ino, formatIno, isTrash, ROOT_INO, TRASH_INO } from '../../lib/int64.ts';
import type { MetaEngine } from '../engine.ts';

/** Deeper than any path an application can name. */
const MAX_DEPTH = 4096;
const KNOWN = 10_000;
const ENTRIES_PER_READ = 4096;
const NODES_PER_READ = 1000;

/**
 * A path in bytes, for each node that has one; of several names one. What lies in the trash begins with `/.trash`. A node whose name
 * is gone is left out.
 */
export async function pathsOf(engine: MetaEngine, inos: Iterable<Ino>, signal?: AbortSignal): Promise<ReadonlyMap<Ino, Buffer>> {
  const paths = new Map<Ino, Buffer>();
  const directories = new Directories(engine);
  const all = [...inos];
  const wanted = new Map<Ino, Set<Ino>>();
  const want = (parent: Ino, ino: Ino): void => {
    const set = wanted.get(parent) ?? new Set();
    wanted.set(parent, set.add(ino));
  };
  for (let from = 0; from < all.length; from += NODES_PER_READ) {
    signal?.throwIfAborted();
    const part = all.slice(from, from + NODES_PER_READ);
    const attrs = await engine.nodes(part);
    const linked: Ino[] = [];
    for (const [at, ino] of part.entries()) {
      const attr = attrs[at];
      if (ino === ROOT_INO) paths.set(ino, Buffer.from('/'));
      else if (attr && attr.parent !== 0) want(attr.parent, ino);
      else if (attr) linked.push(ino);
    }
    if (linked.length === 0) continue;
    const parents = await engine.read(linked.map((ino) => ({ kind: 'parents', ino }) as const));
    for (const [at, ino] of linked.entries()) {
      const [parent] = parents[at]?.keys() ?? [];
      if (parent !== undefined) want(parent, ino);
    }
  }
  for (const [parent, children] of wanted) {
    const above = await directories.path(parent);
    if (!above) continue;
    for await (const batch of engine.scanEntries(parent, ENTRIES_PER_READ)) {
      signal?.throwIfAborted();
      for (const { name, ino } of batch) if (children.delete(ino)) paths.set(ino, below(above, name));
      if (children.size === 0) break;
    }
  }
  return paths;
}

/** The path of a name in a directory. */
export function below(directory: Buffer, name: Buffer): Buffer {
  const slash = Buffer.from('/');
  return directory.length === 1 ? Buffer.concat([slash, name]) : Buffer.concat([directory, slash, name]);
}

class Directories {
  readonly #engine: MetaEngine;
  readonly #known = new Map<Ino, Buffer | undefined>();

  constructor(engine: MetaEngine) {
    this.#engine = engine;
    this.#known.set(ROOT_INO, Buffer.from('/'));
    this.#known.set(TRASH_INO, Buffer.from('/.trash'));
  }

  async path(ino: Ino, depth = 0): Promise<Buffer | undefined> {
    if (this.#known.has(ino)) return this.#known.get(ino);
    if (depth > MAX_DEPTH) return undefined;
    const path = await this.#find(ino, depth);
    if (this.#known.size < KNOWN) this.#known.set(ino, path);
    return path;
  }

  async #find(ino: Ino, depth: number): Promise<Buffer | undefined> {
    const [attr] = await this.#engine.nodes([ino]);
    const parent = isTrash(ino) ? TRASH_INO : attr?.parent;
    if (!attr || parent === undefined) return undefined;
    const above = await this.path(parent, depth + 1);
    if (!above) return undefined;
    for await (const batch of this.#engine.scanEntries(parent, ENTRIES_PER_READ))
      for (const { name, ino: child } of batch) if (child === ino) return below(above, name);
    return undefined;
  }
}

/** What people are shown where a node has no path. */
export function inodeText(ino: Ino): string {
  return `inode ${formatIno(ino)}`;
}
