/**
 * rename, with the flags of renameat2: NOREPLACE, EXCHANGE, WHITEOUT (a character device 0:0 takes the old name; the official client
 * refuses it).
 *
 * A directory never becomes its own descendant, whatever other clients do meanwhile: the way from its new place up to the
 * root is part of what the transaction checks. (The official client only looks at two levels and leaves the rest to the
 * kernel, which knows of one machine.)
 * Source: the JuiceFS format, rename.
 */
import { FsError } from '../lib/errors.ts';
import { type Ino, isTrash, ROOT_INO } from '../lib/int64.ts';
import type { Account } from './accounts.ts';
import type { EntryValue, Write } from './engine.ts';
import { newAttr, type NewNode } from './create.ts';
import { isTrashName, requireNewName } from './names.ts';
import { requireAdd, requireMovable, requireRemove, requireSticky, requireStickyMove } from './permissions.ts';
import { afterRemoval, planRemoval, type Removal } from './remove.ts';
import type { QuotaUsage } from './quota.ts';
import { charged, minus, statOf } from './stats.ts';
import type { View } from './transact.ts';
import { NO_TRASH } from './trash.ts';
import { type Attr, type Context, type Entry, NodeType, RenameFlag, type Moment } from './types.ts';
import { treeUsage } from './usage.ts';
import type { Volume } from './volume.ts';

/** Deeper trees than this cannot be renamed into (a path of that depth cannot be named by an application either). */
const MAX_DEPTH = 4096;

/** What takes the old name of what was moved. */
const WHITEOUT: NewNode = { type: NodeType.CharDevice, mode: 0, umask: 0, rdev: 0 };

interface Place {
  readonly parent: Ino;
  readonly name: Buffer;
}

interface Renamed {
  readonly moved: Entry;
  readonly exchanged?: Entry;
  readonly removal?: Removal;
  /** Nothing was to be done. */
  readonly same?: true;
}

/** Throws EINVAL where `ino` lies on the way from `from` up to `until` or the root. */
function requireOutside(view: View, ino: Ino, from: Ino, until: Ino): void {
  let directory = from;
  for (let depth = 0; directory !== until && directory !== ROOT_INO; depth++) {
    if (directory === ino) throw new FsError('EINVAL', 'a directory cannot be moved into itself');
    if (depth === MAX_DEPTH) throw new FsError('ELOOP');
    const attr = view.node(directory, 'access');
    if (!attr || isTrash(directory)) return;
    directory = attr.parent;
  }
}

/** The node as it is at its new place, and what its record of parents needs. */
function moveNode(attr: Attr, ino: Ino, from: Ino, to: Ino, now: Moment): { readonly attr: Attr; readonly writes: Write[] } {
  const linked = attr.parent === 0;
  const moved: Attr = {
    ...attr,
    ctime: now.sec,
    ctimensec: now.nsec,
    parent: linked ? attr.parent : to,
  };
  const writes: Write[] = [{ kind: 'putNode', ino, attr: moved }];
  if (linked && from !== to)
    writes.push({ kind: 'addParent', ino, parent: to, delta: 1 }, { kind: 'addParent', ino, parent: from, delta: -1 });
  return { attr: moved, writes };
}

function requireReplaceable(entry: EntryValue, target: EntryValue): void {
  const directory = entry.type === NodeType.Directory;
  if (directory === (target.type === NodeType.Directory)) return;
  throw new FsError(directory ? 'ENOTDIR' : 'EISDIR');
}

/** A directory of a rename: its links change by so many. */
interface Touched {
  readonly ino: Ino;
  readonly attr: Attr;
  readonly links: number;
}

function touch(volume: Volume, from: Touched, to: Touched, now: Moment): Write[] {
  if (from.ino === to.ino) return volume.touch(to.ino, to.attr, now, from.links + to.links);
  const writes = volume.touch(to.ino, to.attr, now, to.links);
  if (!isTrash(from.ino)) writes.push(...volume.touch(from.ino, from.attr, now, from.links));
  return writes;
}

/** Where a rename leads from one quota to another. */
interface Quotas {
  readonly source: readonly Account[];
  readonly destination: readonly Account[];
  /** What moves, by inode, once it was counted. */
  readonly usages: Map<Ino, QuotaUsage>;
}

/** Undefined where a rename between these directories changes the usage of no quota. */
async function quotasBetween(volume: Volume, from: Ino, to: Ino): Promise<Quotas | undefined> {
  if (from === to) return undefined;
  const [source, destination] = await Promise.all([volume.limits.above(from), volume.limits.above(to)]);
  // Both ways lead to the root: where the nearest quota is the same, all are.
  return source[0] === destination[0] ? undefined : { source, destination, usages: new Map() };
}

/** What a node and everything below it is charged. */
async function usageOf(volume: Volume, { usages }: Quotas, { ino, attr }: Entry): Promise<QuotaUsage> {
  const stat = statOf(attr);
  if (attr.type !== NodeType.Directory) return stat;
  const known = usages.get(ino);
  if (known) return known;
  const account = volume.limits.accounts.directory(ino);
  let below: QuotaUsage;
  if (account) below = { space: account.used.space + account.space, inodes: account.used.inodes + account.inodes };
  else {
    // What this client has not written yet would be missing.
    await volume.stats.flushAll();
    below = await treeUsage(volume.engine, ino);
  }
  return { space: below.space + stat.space, inodes: below.inodes + stat.inodes };
}

/** Throws EDQUOT where what moves does not fit a quota that it was not under before. */
async function requireQuotas(
  volume: Volume,
  quotas: Quotas,
  moved: Entry,
  exchanged: { readonly ino: Ino; readonly attr: Attr | undefined } | undefined,
): Promise<void> {
  const { source, destination, usages } = quotas;
  const there = await usageOf(volume, quotas, moved);
  usages.set(moved.ino, there);
  const back = exchanged?.attr ? await usageOf(volume, quotas, { ino: exchanged.ino, attr: exchanged.attr }) : undefined;
  if (exchanged && back) usages.set(exchanged.ino, back);
  const [space, inodes] = [there.space - (back?.space ?? 0), there.inodes - (back?.inodes ?? 0)];
  const only = (ones: readonly Account[], others: readonly Account[]) => ones.filter((account) => !others.includes(account));
  await volume.limits.require({ space, inodes, volume: false, places: only(destination, source) });
  await volume.limits.require({ space: -space, inodes: -inodes, volume: false, places: only(source, destination) });
}

function chargeQuotas(volume: Volume, { source, destination, usages }: Quotas, moved: Ino, exchanged: Ino | undefined): void {
  const none = { space: 0, inodes: 0 };
  const there = usages.get(moved) ?? none;
  const back = (exchanged !== undefined && usages.get(exchanged)) || none;
  const [space, inodes] = [there.space - back.space, there.inodes - back.inodes];
  volume.limits.charge({ space, inodes, places: destination });
  volume.limits.charge({ space: -space, inodes: -inodes, places: source });
}

function checkArguments(ctx: Context, from: Place, to: Place, flags: number): void {
  if (isTrashName(from.parent, from.name) || isTrashName(to.parent, to.name)) throw new FsError('EPERM');
  if (isTrash(to.parent) || (isTrash(from.parent) && ctx.uid !== 0)) throw new FsError('EPERM');
  requireNewName(to.name);
  const known = RenameFlag.NoReplace | RenameFlag.Exchange | RenameFlag.Whiteout;
  if (flags & ~known || (flags & RenameFlag.Exchange && flags !== RenameFlag.Exchange)) throw new FsError('EINVAL');
}

/** `restore`: the new place may be a directory that sits in the trash itself. */
export async function rename(
  volume: Volume,
  ctx: Context,
  from: Place,
  to: Place,
  flags: number,
  restore = false,
): Promise<{ moved: Entry; replaced?: Entry }> {
  checkArguments(ctx, from, to, flags);
  const exchange = flags === RenameFlag.Exchange;
  const across = from.parent !== to.parent;
  const quotas = await quotasBetween(volume, from.parent, to.parent);
  const whiteout =
    flags & RenameFlag.Whiteout ? { ino: await volume.newInode(), places: await volume.limits.above(from.parent) } : undefined;
  const { value } = await volume.change<Renamed>(async (view) => {
    const entry = view.entry(from.parent, from.name);
    if (!entry) throw new FsError('ENOENT');
    const { ino } = entry;
    const directory = entry.type === NodeType.Directory;
    const target = view.entry(to.parent, to.name, 'absent');
    const source = view.node(from.parent, 'access');
    const destination = view.node(to.parent, 'access');
    requireRemove(ctx, source);
    requireAdd(ctx, destination, restore);
    const attr = view.node(ino, 'all');
    if (!attr) throw new FsError('ENOENT');
    if (!target && exchange) throw new FsError('ENOENT');
    if (target && flags & RenameFlag.NoReplace) throw new FsError('EEXIST');
    if (target?.ino === ino) return { writes: [], value: { moved: { ino, attr }, same: true } };
    if (target) requireRemove(ctx, destination);
    if (target && !exchange) requireReplaceable(entry, target);
    if (directory && across) requireOutside(view, ino, to.parent, from.parent);
    requireMovable(attr);
    if (across) requireStickyMove(ctx, source, attr);
    requireSticky(ctx, source, attr);

    const now = volume.now();
    const left = whiteout && newAttr(ctx, from.parent, source, WHITEOUT, now);
    if (left) await volume.limits.require({ space: charged(0), inodes: 1, owner: left, places: whiteout.places });
    if (quotas)
      await requireQuotas(
        volume,
        quotas,
        { ino, attr },
        exchange && target ? { ino: target.ino, attr: view.node(target.ino, 'all') } : undefined,
      );
    const moved = moveNode(attr, ino, from.parent, to.parent, now);
    const writes: Write[] = [];
    const result: { moved: Entry; exchanged?: Entry; removal?: Removal } = { moved: { ino, attr: moved.attr } };
    let fromLinks = across && directory ? -1 : 0;
    let toLinks = across && directory ? 1 : 0;
    const targetAttr = target ? view.node(target.ino, 'all') : undefined;
    if (target && targetAttr) {
      requireMovable(targetAttr);
      requireSticky(ctx, destination, targetAttr);
    }
    if (target && exchange) {
      if (!targetAttr) throw new FsError('ENOENT');
      const targetDirectory = target.type === NodeType.Directory;
      if (targetDirectory && across) {
        requireOutside(view, target.ino, from.parent, to.parent);
        fromLinks++;
        toLinks--;
      }
      const other = moveNode(targetAttr, target.ino, to.parent, from.parent, now);
      writes.push({ kind: 'putEntry', ...from, value: target }, ...other.writes);
      result.exchanged = { ino: target.ino, attr: other.attr };
    } else {
      if (left)
        writes.push(
          { kind: 'putNode', ino: whiteout.ino, attr: left },
          { kind: 'putEntry', ...from, value: { type: left.type, ino: whiteout.ino } },
          ...volume.stats.writes(charged(0), 1),
        );
      else writes.push({ kind: 'removeEntry', ...from });
      if (target && targetAttr) {
        const trash = await volume.trash.for(view, to.parent);
        result.removal = planRemoval(volume, view, { ...to, entry: target }, targetAttr, trash, now);
        writes.push(...result.removal.writes);
        if (target.type === NodeType.Directory) toLinks--;
      }
    }
    writes.push(
      { kind: 'putEntry', ...to, value: entry },
      ...moved.writes,
      ...touch(
        volume,
        { ino: from.parent, attr: source, links: fromLinks },
        { ino: to.parent, attr: destination, links: toLinks },
        now,
      ),
      ...volume.log.move(
        from,
        to,
        flags & ~RenameFlag.Whiteout,
        restore,
        target?.ino ?? (0 as Ino),
        result.removal?.trash ?? NO_TRASH,
        ino,
        now,
      ),
    );
    if (left) writes.push(...volume.log.create(from, ctx, WHITEOUT, false, whiteout.ino, now));
    return { writes, value: result };
  }, ctx.signal);

  if (value.same) return { moved: value.moved };
  if (whiteout) {
    const usage = { space: charged(0), inodes: 1 };
    volume.stats.charge(usage.space, 1);
    volume.limits.charge({ ...usage, owner: ctx, places: whiteout.places });
    volume.stats.add(from.parent, { length: 0, ...usage });
  }
  const { moved, exchanged, removal } = value;
  if (across) {
    volume.stats.add(from.parent, minus(statOf(moved.attr)));
    volume.stats.add(to.parent, statOf(moved.attr));
    if (exchanged) {
      volume.stats.add(to.parent, minus(statOf(exchanged.attr)));
      volume.stats.add(from.parent, statOf(exchanged.attr));
    }
  }
  if (quotas) chargeQuotas(volume, quotas, moved.ino, exchanged?.ino);
  if (!removal) return exchanged ? { moved, replaced: exchanged } : { moved };
  await afterRemoval(volume, to.parent, removal);
  return { moved, replaced: { ino: removal.ino, attr: removal.after ?? { ...removal.before, nlink: 0 } } };
}
