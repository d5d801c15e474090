/**
 * A tree of directories as one list in key order, for sides that know single directories. Directories that cannot hold what is wanted
 * are not read. Memory: one directory at a time per level (see ordered.ts), and 64 entries that are being looked at.
 */
import { type Name, ordered } from './ordered.ts';
import type { Entry, ListOptions } from './side.ts';

/** A directory of which names are asked: its key, and where it is. */
export interface Directory {
  readonly key: string;
  /** With `/` at its end. */
  readonly path: string;
  readonly ref?: Name['ref'];
}

export interface Tree {
  /** Names in a directory, in any order; of a directory with `/` at the end. None where it is not there. */
  names(directory: Directory, options: ListOptions): AsyncIterable<Name>;
  /** Undefined for those that are gone, or nothing that can be copied. */
  look(names: readonly Name[], options: ListOptions): Promise<readonly (Entry | undefined)[]>;
  directoryOf(entry: Entry): Directory;
  /** What a directory is by whatever way it is reached; undefined where it is not there. */
  identityOf(directory: Directory): Promise<string | undefined>;
}

/** Looked at side by side. */
const LOOKED_AT = 64;

function wanted(key: string, prefix: string, { start, end }: ListOptions): boolean {
  if (end !== '' && key > end) return false;
  if (!key.endsWith('/')) return key.startsWith(prefix) && key >= start;
  return (key.startsWith(prefix) || prefix.startsWith(key)) && (key >= start || start.startsWith(key));
}

async function* children(tree: Tree, directory: Directory, prefix: string, options: ListOptions): AsyncGenerator<Entry> {
  async function* matching(): AsyncGenerator<Name> {
    for await (const name of tree.names(directory, options)) if (wanted(name.key, prefix, options)) yield name;
  }
  for await (const batch of ordered(matching()))
    for (let at = 0; at < batch.length; at += LOOKED_AT) {
      options.signal.throwIfAborted();
      for (const entry of await tree.look(batch.slice(at, at + LOOKED_AT), options)) if (entry) yield entry;
    }
}

/** Everything below `directory` whose key begins with `prefix`. A directory that is reached from within itself is passed over. */
export async function* walk(tree: Tree, directory: Directory, prefix: string, options: ListOptions): AsyncGenerator<Entry> {
  const stack: { readonly identity: string; readonly children: AsyncGenerator<Entry> }[] = [];
  const enter = async (next: Directory): Promise<void> => {
    const identity = await tree.identityOf(next);
    if (identity === undefined || stack.some((each) => each.identity === identity)) return;
    stack.push({ identity, children: children(tree, next, prefix, options) });
  };
  await enter(directory);
  try {
    for (let top = stack.at(-1); top; top = stack.at(-1)) {
      const step = await top.children.next();
      if (step.done) {
        stack.pop();
        continue;
      }
      const entry = step.value;
      if (entry.key.startsWith(prefix) && entry.key >= options.start) yield entry;
      if (entry.isDirectory) await enter(tree.directoryOf(entry));
    }
  } finally {
    for (const each of stack) await each.children.return(undefined);
  }
}

/** What lies directly in `directory`. */
export function levelOf(tree: Tree, directory: Directory, options: ListOptions): AsyncIterable<Entry> {
  return children(tree, directory, directory.key, options);
}
