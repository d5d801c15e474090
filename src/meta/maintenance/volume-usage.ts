/**
 * What a volume uses, counted node by node: everything with a name but the root, the trash with the directories of its hours, and
 * files that are only open any more.
 *
 * Memory: eight bytes for each file with several names, and for each directory that lies in the trash.
 */
import { type Ino, TRASH_INO } from '../../lib/int64.ts';
import type { MetaEngine } from '../engine.ts';
import { Listed } from '../namespace.ts';
import { statOf } from '../stats.ts';
import { type Attr, NodeType } from '../types.ts';

const BATCH = 1000;

export class CountedUsage {
  readonly #linked = new Set<Ino>();
  space = 0;
  inodes = 0;

  /** Counts a node; of several names of a file one counts. */
  add(ino: Ino, attr: Attr): void {
    if (attr.type !== NodeType.Directory && attr.nlink > 1) {
      if (this.#linked.has(ino)) return;
      this.#linked.add(ino);
    }
    this.space += statOf(attr).space;
    this.inodes++;
  }
}

/** Counts what does not lie below the root: the trash, and files without a name. */
export async function addHidden(engine: MetaEngine, usage: CountedUsage, signal: AbortSignal): Promise<void> {
  const waiting: Ino[] = [TRASH_INO];
  for (let directory = waiting.pop(); directory !== undefined; directory = waiting.pop()) {
    const listed = new Listed();
    for await (const batch of engine.scanEntries(directory, BATCH)) {
      signal.throwIfAborted();
      const entries = listed.fresh(batch);
      const attrs = await engine.nodes(entries.map((entry) => entry.ino));
      for (const [at, { ino }] of entries.entries()) {
        const attr = attrs[at];
        if (!attr) continue;
        usage.add(ino, attr);
        if (attr.type === NodeType.Directory) waiting.push(ino);
      }
    }
  }
  for await (const inos of engine.scanSustained()) {
    const attrs = await engine.nodes(inos);
    for (const [at, attr] of attrs.entries()) if (attr?.nlink === 0) usage.add(inos[at] as Ino, attr);
  }
}
