/**
 * Taking many names of a directory away, a batch in one transaction: a directory of millions of files would take hours otherwise.
 *
 * A batch is files with this one name, as they were just listed; what is anything else (a directory, one of several names, something that
 * must not be removed) is left to `unlink`, which says why. The transaction rests on each entry and node as they were read; where one of
 * them has changed, it is decided anew. What is gone already is left out.
 *
 * Bounded: BATCH names in a transaction, so that nobody waits long for the directory's own record; BATCHES of one directory at a time.
 */
import { FsError } from '../lib/errors.ts';
import { type Ino, isTrash } from '../lib/int64.ts';
import { forEachParallel } from '../lib/parallel.ts';
import type { NamedEntry, Write } from './engine.ts';
import { requireMovable, requireRemove, requireSticky } from './permissions.ts';
import { afterRemoval, planRemoval, type Removal } from './remove.ts';
import { NO_TRASH } from './trash.ts';
import { type As, type Attr, type Context, NodeType } from './types.ts';
import type { Volume } from './volume.ts';

const BATCH = 128;
const BATCHES = 4;

/** Names of the volume's usage, which a transaction changes once and not for each file. */
const usage: ReadonlySet<string> = new Set(['usedSpace', 'totalInodes']);

/** What became of a batch. */
interface Outcome {
  readonly removals: readonly Removal[];
  /** To be removed one by one. */
  readonly left: readonly NamedEntry[];
}

/** Writes of the same kind one behind the other, each kind where its first one was. The nodes are different ones. */
function byKind(writes: readonly Write[]): Write[] {
  const kinds = new Map<Write['kind'], Write[]>();
  for (const write of writes) {
    const kind = kinds.get(write.kind);
    if (kind) kind.push(write);
    else kinds.set(write.kind, [write]);
  }
  return [...kinds.values()].flat();
}

async function unlinkBatch(
  volume: Volume,
  ctx: Context,
  parent: Ino,
  batch: readonly NamedEntry[],
  toTrash: boolean,
): Promise<Outcome> {
  // Only root removes from the trash.
  if (isTrash(parent) && ctx.uid !== 0) return { removals: [], left: batch };
  const attrs = await volume.engine.nodes(batch.map(({ ino }) => ino));
  const apart: NamedEntry[] = [];
  const together: NamedEntry[] = [];
  const known = new Set<Ino>();
  for (const [at, entry] of batch.entries()) {
    const attr = attrs[at];
    // A name that was listed twice is not there any more when it is looked for by itself.
    if (!attr || attr.nlink !== 1 || attr.parent !== parent || known.has(entry.ino)) {
      apart.push(entry);
      continue;
    }
    known.add(entry.ino);
    together.push(entry);
    volume.guesses.setNode(entry.ino, attr);
    volume.guesses.setEntry(parent, entry.name, entry);
  }
  if (together.length === 0) return { removals: [], left: apart };
  const { value } = await volume.change<Outcome>(async (view) => {
    const above = view.node(parent, 'access');
    requireRemove(ctx, above);
    const now = volume.now();
    const left: NamedEntry[] = [];
    const removals: Removal[] = [];
    const writes: Write[] = [];
    for (const listed of together) {
      const { name } = listed;
      const entry = view.entry(parent, name);
      if (!entry) continue;
      const attr = entry.ino === listed.ino ? view.node(entry.ino, 'all') : undefined;
      if (attr?.type === NodeType.Directory || attr?.nlink !== 1 || attr.parent !== parent || !mayRemove(ctx, above, attr)) {
        left.push(listed);
        continue;
      }
      const trash = toTrash ? await volume.trash.for(view, parent) : NO_TRASH;
      const removal = planRemoval(volume, view, { parent, name, entry }, attr, trash, now);
      removals.push(removal);
      writes.push({ kind: 'removeEntry', parent, name }, ...removal.writes);
    }
    if (removals.length === 0) return { writes: [], value: { removals, left } };
    let [space, inodes] = [0, 0];
    const rest = writes.filter((write) => {
      if (write.kind !== 'addCounter' || !usage.has(write.name)) return true;
      if (write.name === 'usedSpace') space += write.delta;
      else inodes += write.delta;
      return false;
    });
    const touched = isTrash(parent) ? [] : volume.touch(parent, above, now);
    return { writes: [...byKind(rest), ...volume.stats.writes(space, inodes), ...touched], value: { removals, left } };
  }, ctx.signal);
  return { removals: value.removals, left: [...apart, ...value.left] };
}

function mayRemove(ctx: Context, above: Attr, attr: Attr): boolean {
  try {
    requireSticky(ctx, above, attr);
    requireMovable(attr);
    return true;
  } catch (error) {
    if (error instanceof FsError) return false;
    throw error;
  }
}

/**
 * Removes names of files that were just listed in a directory, several batches at once; `removed` is told how many are gone. Answers
 * those that are left, to be removed one by one. Fails with what stopped it, as `unlink` does.
 */
export async function unlinkListed(
  volume: Volume,
  as: As,
  parent: Ino,
  entries: readonly NamedEntry[],
  options: { readonly toTrash: boolean; readonly signal?: AbortSignal | undefined; readonly removed: (count: number) => void },
): Promise<readonly NamedEntry[]> {
  const { toTrash, signal, removed } = options;
  // The change log has an entry for each transaction; and few are not worth it.
  if (volume.log.on || entries.length < 2) return entries;
  const left: NamedEntry[] = [];
  const batches: (readonly NamedEntry[])[] = [];
  for (let from = 0; from < entries.length; from += BATCH) batches.push(entries.slice(from, from + BATCH));
  await forEachParallel(batches, BATCHES, async (batch) => {
    signal?.throwIfAborted();
    const outcome = await as((ctx) => unlinkBatch(volume, ctx, parent, batch, toTrash));
    for (const removal of outcome.removals) await afterRemoval(volume, parent, removal);
    left.push(...outcome.left);
    removed(outcome.removals.length);
    await volume.deletions.room(signal);
  });
  return left;
}
