/**
 * The data of files as metadata knows it: lengths, and the lists of slices of chunks. Source: the JuiceFS format, file data.
 *
 * A file's node is part of the checks of whatever changes its lists, and every such change writes it, so lists and length
 * always fit together. Compaction alone does not look at the node: it replaces a prefix of the list that means the same.
 */
import { errno, FsError, toErrno } from '../lib/errors.ts';
import type { Ino } from '../lib/int64.ts';
import type { Account } from './accounts.ts';
import { dropReference } from './deletion.ts';
import type { Write } from './engine.ts';
import { inTrash, MAY_WRITE, requireAccess } from './permissions.ts';
import { decodeSlices, encodeDelayed, encodeSlices, SLICE_RECORD, type SliceRecord } from './records.ts';
import {
  compactionAfterRead,
  compactionAfterWrite,
  isWorthIt,
  planListCompaction,
  viewOf,
  zeroRange,
  zeroRecord,
} from './slices.ts';
import { charged } from './stats.ts';
import type { Plan } from './transact.ts';
import {
  type Attr,
  CHUNK_SIZE,
  type CompactionPlan,
  type Context,
  NodeFlag,
  NodeType,
  type Piece,
  type Room,
  type SlicePart,
} from './types.ts';
import type { Volume } from './volume.ts';

/** What a number holds exactly, 8 PiB. (JuiceFS allows 2^57 bytes.) */
export const MAX_LENGTH = Number.MAX_SAFE_INTEGER;
/** Whole chunks to be zeroed are written one by one up to so many; beyond, those that have a list are searched for. */
const CHUNKS_TO_TRY = 10_000;

/** How often lists that are too long are compacted for one write. Others may be at it, and make one in vain. */
const COMPACTIONS_FOR_ROOM = 4;

const KEEP_SIZE = 1;
const PUNCH_HOLE = 2;
const COLLAPSE_RANGE = 8;
const ZERO_RANGE = 0x10;
const INSERT_RANGE = 0x20;

/** A change of a file's data. */
export interface Changed {
  readonly before: Attr;
  readonly after: Attr;
  /** Quotas of directories that the file counts for. */
  readonly places: readonly Account[];
}

/** Records that make a range zero. */
async function zeroWrites(volume: Volume, ino: Ino, from: number, to: number): Promise<Write[]> {
  const { edges, middle } = zeroRange(from, to);
  const writes: Write[] = edges.map(({ index, record }) => ({
    kind: 'appendSlices',
    ino,
    index,
    records: encodeSlices([record]),
    onlyExisting: false,
  }));
  if (!middle) return writes;
  const records = encodeSlices([zeroRecord(0, CHUNK_SIZE)]);
  const zero = (index: number): number => writes.push({ kind: 'appendSlices', ino, index, records, onlyExisting: true });
  if (middle.last - middle.first < CHUNKS_TO_TRY) for (let index = middle.first; index <= middle.last; index++) zero(index);
  else for await (const index of volume.engine.scanChunks(ino)) if (index >= middle.first && index <= middle.last) zero(index);
  return writes;
}

/** What every change of a file's data asks of it first; `grows`: nothing of what is there changes. */
function requireFile(ctx: Context, attr: Attr | undefined, grows = false): asserts attr is Attr {
  if (!attr) throw new FsError('ENOENT');
  const forbidden = NodeFlag.Immutable | (grows ? 0 : NodeFlag.Append);
  if (attr.type !== NodeType.File || attr.flags & forbidden || inTrash(attr)) throw new FsError('EPERM');
  requireAccess(ctx, attr, MAY_WRITE);
}

export const NOWHERE: readonly Account[] = [];

/** Plans a change of a file's charge by `space`, where there is room for it or that was set aside before. */
export function withRoom<T extends Changed>(
  volume: Volume,
  ino: Ino,
  attr: Attr,
  space: number,
  plan: (places: readonly Account[]) => Plan<T> | Promise<Plan<T>>,
  setAside = false,
): Plan<T> | Promise<Plan<T>> {
  if (space === 0) return plan(NOWHERE);
  const { limits } = volume;
  const decide = (places: readonly Account[]): Plan<T> | Promise<Plan<T>> => {
    const late = setAside ? undefined : limits.require({ space, inodes: 0, owner: attr, places });
    return late ? late.then(() => plan(places)) : plan(places);
  };
  const places = limits.around(ino, attr);
  return places instanceof Promise ? places.then(decide) : decide(places);
}

/** What follows a committed change: usage. */
export async function afterChange(volume: Volume, ino: Ino, { before, after, places }: Changed, room?: Room): Promise<void> {
  const space = charged(after.length) - charged(before.length);
  if (space !== 0) {
    room?.settle(space);
    volume.stats.charge(space, 0);
    volume.limits.charge({ space, inodes: 0, owner: after, places });
  }
  await volume.addToParents(ino, after, after.length - before.length, space);
}

/** `opened`: by somebody who has the file open. */
export async function truncate(volume: Volume, ctx: Context, ino: Ino, length: number, opened = false): Promise<Attr> {
  if (!Number.isInteger(length) || length < 0) throw new FsError('EINVAL');
  if (length > MAX_LENGTH) throw new FsError('EFBIG');
  const { value } = await volume.change<Changed>(async (view) => {
    const before = view.node(ino, 'all');
    requireFile(ctx, before);
    if (before.length === length) return { writes: [], value: { before, after: before, places: NOWHERE } };
    const space = charged(length) - charged(before.length);
    const now = volume.now();
    const { sec, nsec } = now;
    const after: Attr = { ...before, length, mtime: sec, mtimensec: nsec, ctime: sec, ctimensec: nsec };
    const zeros = await zeroWrites(volume, ino, Math.min(length, before.length), Math.max(length, before.length));
    return withRoom(volume, ino, before, space, (places) => ({
      writes: [
        { kind: 'putNode', ino, attr: after },
        ...zeros,
        ...volume.stats.writes(space, 0),
        ...volume.log.truncate(ino, before.length, length, opened, now),
      ],
      value: { before, after, places },
    }));
  }, ctx.signal);
  if (value.before === value.after) return value.after;
  volume.files.changed(ino, value.before, value.after);
  volume.files.invalidateAll(ino);
  await afterChange(volume, ino, value);
  return value.after;
}

function checkFallocate(mode: number, offset: number, length: number): void {
  if (length <= 0 || offset < 0) throw new FsError('EINVAL');
  if (mode & (COLLAPSE_RANGE | INSERT_RANGE)) {
    if (mode !== COLLAPSE_RANGE && mode !== INSERT_RANGE) throw new FsError('EINVAL');
    throw new FsError('ENOTSUP', 'ranges cannot be collapsed or inserted');
  }
  if (mode & ~(KEEP_SIZE | PUNCH_HOLE | ZERO_RANGE)) throw new FsError('ENOTSUP');
  if (mode & PUNCH_HOLE && mode !== (PUNCH_HOLE | KEEP_SIZE)) throw new FsError('EINVAL');
  if (offset + length > MAX_LENGTH) throw new FsError('EFBIG');
}

/** `mode` is that of fallocate(2): 0, KEEP_SIZE, PUNCH_HOLE with KEEP_SIZE, ZERO_RANGE with or without it. */
export async function fallocate(
  volume: Volume,
  ctx: Context,
  ino: Ino,
  mode: number,
  offset: number,
  length: number,
): Promise<Attr> {
  checkFallocate(mode, offset, length);
  const { value } = await volume.change<Changed>(async (view) => {
    const before = view.node(ino, 'all');
    requireFile(ctx, before, (mode & ~KEEP_SIZE) === 0);
    const end = offset + length;
    const newLength = mode & KEEP_SIZE ? before.length : Math.max(before.length, end);
    const space = charged(newLength) - charged(before.length);
    const now = volume.now();
    const { sec, nsec } = now;
    const after: Attr = { ...before, length: newLength, mtime: sec, mtimensec: nsec, ctime: sec, ctimensec: nsec };
    // What lies beyond the old length is zeros already.
    const zeros = mode & (PUNCH_HOLE | ZERO_RANGE) ? await zeroWrites(volume, ino, offset, Math.min(end, before.length)) : [];
    return withRoom(volume, ino, before, space, (places) => ({
      writes: [
        { kind: 'putNode', ino, attr: after },
        ...zeros,
        ...volume.stats.writes(space, 0),
        ...volume.log.fallocate(ino, offset, length, mode, now),
      ],
      value: { before, after, places },
    }));
  }, ctx.signal);
  volume.files.changed(ino, value.before, value.after);
  volume.files.invalidateAll(ino);
  await afterChange(volume, ino, value);
  return value.after;
}

/** The records of a slice's parts, by chunk. Throws FsError EINVAL, EFBIG. */
function recordsByChunk(
  slice: { readonly id: number; readonly size: number },
  parts: readonly SlicePart[],
): { readonly end: number; readonly byChunk: ReadonlyMap<number, SliceRecord[]> } {
  const byChunk = new Map<number, SliceRecord[]>();
  let end = 0;
  for (const { index, pos, off, len } of parts) {
    if (pos < 0 || off < 0 || len <= 0 || off + len > slice.size || pos + len > CHUNK_SIZE) throw new FsError('EINVAL');
    end = Math.max(end, index * CHUNK_SIZE + pos + len);
    const record = { pos, id: slice.id, size: slice.size, off, len };
    const records = byChunk.get(index);
    if (records) records.push(record);
    else byChunk.set(index, [record]);
  }
  if (byChunk.size === 0) throw new FsError('EINVAL');
  if (end > MAX_LENGTH) throw new FsError('EFBIG');
  return { end, byChunk };
}

/** After `added` records made the list of a chunk `listed` long (0: that is not known): has it compacted where that is due. */
export async function compactAfterWrite(volume: Volume, ino: Ino, index: number, listed: number, added: number): Promise<void> {
  const most = Math.floor(volume.engine.longestEntry / SLICE_RECORD);
  const when = listed > 0 ? compactionAfterWrite(listed, added, most) : 'none';
  const compacted = when === 'none' ? undefined : volume.callbacks.compactChunk?.(ino, index);
  // The writer waits for its turn: lists would grow faster than they are merged.
  if (when === 'now') await compacted;
}

/**
 * Commits what adds to the lists of these chunks. Where that is more than the engine can hold (MySQL: 65535 bytes; several clients may
 * have added at once), they are compacted first.
 */
async function withLists<T>(volume: Volume, ino: Ino, indexes: readonly number[], commit: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++)
    try {
      return await commit();
    } catch (error) {
      const { callbacks } = volume;
      if (!callbacks.compactChunk || toErrno(error) !== errno.EOVERFLOW || attempt > COMPACTIONS_FOR_ROOM) throw error;
      for (const index of indexes) await callbacks.compactChunk(ino, index);
    }
}

export async function writeParts(
  volume: Volume,
  ctx: Context,
  ino: Ino,
  slice: { readonly id: number; readonly size: number },
  parts: readonly SlicePart[],
  mtimeNs: bigint,
  room?: Room,
): Promise<Attr> {
  const { end, byChunk } = recordsByChunk(slice, parts);
  const appends = [...byChunk].map(([index, records], at): Write => ({
    kind: 'appendSlices',
    ino,
    index,
    records: encodeSlices(records),
    onlyExisting: false,
    ...(at === 0 ? { newSlice: slice } : {}),
  }));
  // Each record is a reference.
  const references: readonly Write[] =
    parts.length > 1 ? [{ kind: 'addSliceRef', id: slice.id, size: slice.size, delta: parts.length - 1 }] : [];
  const entries = (after: Attr): readonly Write[] =>
    volume.log.on ? parts.flatMap(({ index, pos, len }) => volume.log.write(ino, index, pos, slice.id, len, after)) : [];
  const mtime = Number(mtimeNs / 1_000_000_000n);
  const mtimensec = Number(mtimeNs % 1_000_000_000n);
  const { value, results } = await withLists(volume, ino, [...byChunk.keys()], () =>
    volume.change<Changed>((view) => {
      const before = view.node(ino, 'all');
      if (!before) throw new FsError('ENOENT');
      if (before.type !== NodeType.File) throw new FsError('EPERM');
      const length = Math.max(before.length, end);
      const space = charged(length) - charged(before.length);
      const now = volume.now();
      const after: Attr = { ...before, length, mtime, mtimensec, ctime: now.sec, ctimensec: now.nsec };
      const plan = (places: readonly Account[]): Plan<Changed> => ({
        writes: [
          ...appends,
          ...references,
          { kind: 'putNode', ino, attr: after },
          ...volume.stats.writes(space, 0),
          ...entries(after),
        ],
        value: { before, after, places },
      });
      return withRoom(volume, ino, before, space, plan, room !== undefined);
    }, ctx.signal),
  );
  volume.files.changed(ino, value.before, value.after, ...byChunk.keys());
  for (const [at, [index, { length }]] of [...byChunk].entries())
    await compactAfterWrite(volume, ino, index, results[at] ?? 0, length);
  await afterChange(volume, ino, value, room);
  return value.after;
}

export async function readChunk(volume: Volume, ino: Ino, index: number): Promise<readonly Piece[]> {
  const known = volume.files.chunk(ino, index);
  if (known) return known;
  const begin = volume.clock.monotonic();
  try {
    return await readUnknown(volume, ino, index);
  } finally {
    volume.timings?.done('Read', begin, volume.clock.monotonic());
  }
}

async function readUnknown(volume: Volume, ino: Ino, index: number): Promise<readonly Piece[]> {
  const version = volume.files.version(ino);
  const [records] = await volume.engine.read([{ kind: 'chunk', ino, index }]);
  if (records.length === 0) {
    // A hole, or no file at all.
    const [attr] = await volume.engine.read([{ kind: 'node', ino }]);
    if (!attr) throw new FsError('ENOENT');
    if (attr.type !== NodeType.File) throw new FsError('EPERM');
  }
  const list = decodeSlices(records);
  const pieces = viewOf(list);
  volume.files.keep(ino, index, version, pieces);
  if (volume.callbacks.compactChunk && compactionAfterRead(list, pieces)) void volume.callbacks.compactChunk(ino, index);
  return pieces;
}

export async function readChunks(
  volume: Volume,
  chunks: readonly { readonly ino: Ino; readonly index: number }[],
): Promise<readonly (readonly Piece[] | undefined)[]> {
  const lists = await volume.engine.read(chunks.map(({ ino, index }) => ({ kind: 'chunk' as const, ino, index })));
  return lists.map((records, at) => {
    if (records.length === 0) return undefined;
    const chunk = chunks[at];
    const list = decodeSlices(records);
    const pieces = viewOf(list);
    if (chunk && compactionAfterRead(list, pieces)) void volume.callbacks.compactChunk?.(chunk.ino, chunk.index);
    return pieces;
  });
}

export async function planCompaction(
  volume: Volume,
  ino: Ino,
  index: number,
  worth = false,
): Promise<CompactionPlan | undefined> {
  const [records] = await volume.engine.read([{ kind: 'chunk', ino, index }]);
  const plan = planListCompaction(decodeSlices(records));
  if (!plan || (worth && !isWorthIt(plan))) return undefined;
  const { skipped, count, pos, size, pieces } = plan;
  return { ino, index, skipped, snapshot: Buffer.from(records.subarray(0, count * SLICE_RECORD)), pos, size, pieces };
}

export async function commitCompaction(
  volume: Volume,
  plan: CompactionPlan,
  slice: { readonly id: number; readonly size: number },
): Promise<boolean> {
  if (volume.readOnly) throw new FsError('EROFS');
  const { ino, index, skipped, snapshot, pos } = plan;
  const list = decodeSlices(snapshot);
  const replaced = list.slice(skipped).filter((record) => record.id > 0);
  const merged = { pos, id: slice.id, size: slice.size, off: 0, len: slice.size };
  const writes: Write[] = [
    {
      kind: 'replaceSlices',
      ino,
      index,
      count: list.length,
      records: encodeSlices([...list.slice(0, skipped), merged]),
      newSlice: slice,
    },
  ];
  // With the trash on, readers with an old list and removed files brought back may need the old slices for some days.
  const delay = volume.format.trashDays > 0;
  if (!delay) writes.push(...replaced.map(({ id, size }) => dropReference(id, size)));
  else if (replaced.length > 0)
    writes.push({ kind: 'delaySlices', id: slice.id, time: volume.seconds(), slices: encodeDelayed(replaced) });
  writes.push(...volume.log.compact(plan, list.length - skipped, slice));
  const result = await volume.engine.commit({
    checks: [{ kind: 'chunkPrefix', ino, index, records: snapshot, whole: false }],
    writes,
  });
  if (!result.ok) return false;
  volume.files.invalidate(ino, index);
  if (!delay) {
    const gone = replaced.filter((_record, at) => (result.results[at + 1] ?? 1) <= 0);
    await volume.deletions.deleteSlices(gone);
  }
  return true;
}
