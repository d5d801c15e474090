/**
 * What is to be done, decided while two lists in key order go by: nothing of them is kept but the entry at hand.
 *
 * Source: JuiceFS pkg/sync/sync.go (produce). As there, objects count as equal where their sizes are; with `update` where the source is
 * not newer by whole seconds.
 */
import type { Entry, Permissions } from './side.ts';

export interface Policy {
  /** Copy what the source has newer, whatever the sizes. */
  readonly update: boolean;
  /** Copy all; the destination is not even listed. */
  readonly forceUpdate: boolean;
  /** Copy only over what is there. */
  readonly existing: boolean;
  /** Copy only what is not there. */
  readonly ignoreExisting: boolean;
  /** Directories are objects, too. */
  readonly dirs: boolean;
  readonly links: boolean;
  readonly perms: boolean;
  /** Remove from the source what the destination has. */
  readonly deleteSrc: boolean;
  /** Remove from the destination what the source has not. */
  readonly deleteDst: boolean;
  /** Compare the bytes of what seems equal. */
  readonly checkAll: boolean;
}

export type Action =
  | { readonly kind: 'copy' | 'compare' | 'permissions' | 'skip' | 'removeSource'; readonly entry: Entry; readonly there?: Entry }
  /** Of the destination, and not of the source: to be removed, or only counted. */
  | { readonly kind: 'removeExtra' | 'extra'; readonly entry: Entry };

/** Objects that may still be decided about; shared by all that decide at the same time. Infinity is no limit. */
export interface Allowance {
  left: number;
}

const seconds = ({ mtimeMs }: Entry): number => Math.floor(mtimeMs / 1000);

const differ = (a: Permissions | undefined, b: Permissions | undefined): boolean =>
  a !== undefined && b !== undefined && (a.mode !== b.mode || a.uid !== b.uid || a.gid !== b.gid);

function decide(entry: Entry, there: Entry | undefined, policy: Policy): Action['kind'] {
  if (!there) return policy.existing ? 'skip' : 'copy';
  if (policy.ignoreExisting) return 'skip';
  const newer = policy.update ? seconds(entry) > seconds(there) : entry.size !== there.size;
  if (policy.forceUpdate || newer || entry.isLink !== there.isLink) return 'copy';
  if (policy.update && seconds(entry) < seconds(there)) return 'skip';
  if (policy.checkAll && !entry.isDirectory) return 'compare';
  if (policy.deleteSrc) return 'removeSource';
  if (policy.perms && differ(entry.permissions, there.permissions)) return 'permissions';
  return 'skip';
}

/** Both lists are in key order, and what is not wanted is left out of both. */
export async function* plan(
  source: AsyncIterator<Entry>,
  destination: AsyncIterator<Entry>,
  policy: Policy,
  allowance: Allowance,
): AsyncGenerator<Action> {
  const next = async (list: AsyncIterator<Entry>): Promise<Entry | undefined> => {
    const step = await list.next();
    return step.done ? undefined : step.value;
  };
  const extra = function* (entry: Entry): Generator<Action> {
    if (!policy.deleteDst || (entry.isDirectory && !policy.dirs)) return yield { kind: 'extra', entry };
    allowance.left--;
    yield { kind: 'removeExtra', entry };
  };
  let [entry, there] = await Promise.all([next(source), next(destination)]);
  while ((entry || (there && policy.deleteDst)) && allowance.left > 0) {
    if (entry?.isDirectory && !policy.dirs) {
      entry = await next(source);
      continue;
    }
    if (there && (!entry || there.key < entry.key)) {
      yield* extra(there);
      there = await next(destination);
      continue;
    }
    if (!entry) return;
    const same = there?.key === entry.key ? there : undefined;
    allowance.left--;
    const kind = decide(entry, same, policy) as 'copy' | 'compare' | 'permissions' | 'skip' | 'removeSource';
    yield { kind, entry, ...(same ? { there: same } : {}) };
    if (same) [entry, there] = await Promise.all([next(source), next(destination)]);
    else entry = await next(source);
  }
}
