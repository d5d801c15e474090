/**
 * A tree of directories as one list in key order, for sides that know single directories. Directories that cannot hold what is wanted
 * are not read. Memory: one directory at a time per level (see ordered.ts), and 64 entries that are being looked at.
 */
import { ordered } from './ordered.ts';
import type { Entry, ListOptions } from './side.ts';

/** A name in a directory; of a directory it ends with `/`. */
export interface Name {
  readonly key: string;
}

export interface Tree<N extends Name> {
  /** Names in a directory, in any order; none where it is not there. */
  names(directory: N, options: ListOptions): AsyncIterable<N>;
  /** Undefined where it is gone, or nothing that can be copied. */
  look(name: N, options: ListOptions): Promise<Entry | undefined>;
  /** Called before a directory is read. False where it is one that is being read already, by way of a link. */
  enter?(directory: N, above: readonly N[]): Promise<boolean>;
}

/** Looked at side by side. */
const LOOKED_AT = 64;

function wanted(key: string, prefix: string, { start, end }: ListOptions): boolean {
  if (end !== '' && key > end) return false;
  if (!key.endsWith('/')) return key.startsWith(prefix) && key >= start;
  return (key.startsWith(prefix) || prefix.startsWith(key)) && (key >= start || start.startsWith(key));
}

async function* children<N extends Name>(
  tree: Tree<N>,
  directory: N,
  prefix: string,
  options: ListOptions,
): AsyncGenerator<{ readonly name: N; readonly entry: Entry }> {
  async function* matching(): AsyncGenerator<N> {
    for await (const name of tree.names(directory, options)) if (wanted(name.key, prefix, options)) yield name;
  }
  for await (const batch of ordered(matching))
    for (let at = 0; at < batch.length; at += LOOKED_AT) {
      options.signal.throwIfAborted();
      const names = batch.slice(at, at + LOOKED_AT);
      const entries = await Promise.all(names.map((name) => tree.look(name, options)));
      for (const [index, entry] of entries.entries()) if (entry) yield { name: names[index]!, entry };
    }
}

/** Everything below `directory` whose key begins with `prefix`. */
export async function* walk<N extends Name>(
  tree: Tree<N>,
  directory: N,
  prefix: string,
  options: ListOptions,
): AsyncGenerator<Entry> {
  const above: N[] = [];
  const stack: AsyncGenerator<{ readonly name: N; readonly entry: Entry }>[] = [];
  const enter = async (name: N): Promise<void> => {
    if (tree.enter && !(await tree.enter(name, above))) return;
    above.push(name);
    stack.push(children(tree, name, prefix, options));
  };
  await enter(directory);
  try {
    for (let top = stack.at(-1); top; top = stack.at(-1)) {
      const step = await top.next();
      if (step.done) {
        stack.pop();
        above.pop();
        continue;
      }
      const { name, entry } = step.value;
      if (entry.key.startsWith(prefix) && entry.key >= options.start) yield entry;
      if (entry.isDirectory) await enter(name);
    }
  } finally {
    for (const each of stack) await each.return(undefined);
  }
}

/** What lies directly in `directory`. */
export async function* levelOf<N extends Name>(tree: Tree<N>, directory: N, options: ListOptions): AsyncGenerator<Entry> {
  if (tree.enter && !(await tree.enter(directory, []))) return;
  for await (const { entry } of children(tree, directory, directory.key, options)) yield entry;
}
