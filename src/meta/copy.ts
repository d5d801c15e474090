/**
 * copy_file_range within a volume: the target refers to the slices of the source, no byte is moved. Source: the JuiceFS format,
 * CopyFileRange of the official client (the records and the references that it makes; zeros where the source has holes).
 *
 * The lists that are copied are part of what the transaction checks: a compaction in between could have given up the last reference
 * to a slice. So is the source's node, and every write changes that: what is copied is the source at one moment.
 *
 * Bounded: one call copies from at most MAX_CHUNKS chunks and makes about MAX_RECORDS records; it answers how far it came.
 */
import { FsError } from '../lib/errors.ts';
import type { Ino } from '../lib/int64.ts';
import { afterChange, type Changed, compactAfterWrite, MAX_LENGTH, NOWHERE, withRoom } from './data.ts';
import type { Write } from './engine.ts';
import { inTrash, MAY_READ, MAY_WRITE, requireAccess } from './permissions.ts';
import { decodeSlices, encodeSlices, SLICE_RECORD, type SliceRecord } from './records.ts';
import { viewOf, zeroRecord } from './slices.ts';
import { charged } from './stats.ts';
import type { Plan } from './transact.ts';
import { type Attr, CHUNK_SIZE, type Context, NodeFlag, NodeType, type Piece } from './types.ts';
import type { Volume } from './volume.ts';

/** 4 GiB, less what an unaligned offset takes: what the kernel asks for at once at most. */
const MAX_CHUNKS = 64;
/** Redis takes some 8000 arguments in one command of a script. */
const MAX_RECORDS = 4000;

export interface CopyPlan {
  /** Bytes that these records copy. */
  readonly copied: number;
  /** Per chunk of the target, in order of position. */
  readonly records: ReadonlyMap<number, readonly SliceRecord[]>;
}

/** The pieces of a chunk's view that lie between two positions, and holes where it has nothing. */
function* window(view: readonly Piece[], from: number, to: number): Generator<Piece> {
  let at = from;
  for (const piece of view) {
    const begin = Math.max(piece.pos, at);
    const end = Math.min(piece.pos + piece.len, to);
    if (begin >= end) continue;
    yield { ...piece, pos: begin, off: piece.id === 0 ? 0 : piece.off + begin - piece.pos, len: end - begin };
    at = end;
  }
  if (at < to) yield { pos: at, id: 0, size: 0, off: 0, len: to - at };
}

/**
 * Which records show `[from, from + length)` of the source at `to` of the target. `views` are the source's chunks from the first one
 * of the range on; what they do not cover is not copied. A view with many pieces may end the copy at the end of its chunk.
 */
export function planCopy(views: readonly (readonly Piece[])[], from: number, to: number, length: number): CopyPlan {
  const records = new Map<number, SliceRecord[]>();
  const firstIndex = Math.floor(from / CHUNK_SIZE);
  const add = (offset: number, piece: Piece): void => {
    for (let done = 0; done < piece.len;) {
      const index = Math.floor((offset + done) / CHUNK_SIZE);
      const pos = (offset + done) % CHUNK_SIZE;
      const len = Math.min(piece.len - done, CHUNK_SIZE - pos);
      const list = records.get(index) ?? [];
      const { id, size, off } = piece;
      list.push(id === 0 ? zeroRecord(pos, len) : { pos, id, size, off: off + done, len });
      records.set(index, list);
      done += len;
    }
  };
  let copied = 0;
  let count = 0;
  for (const [at, view] of views.entries()) {
    const base = (firstIndex + at) * CHUNK_SIZE;
    const begin = Math.max(from, base);
    const end = Math.min(from + length, base + CHUNK_SIZE);
    if (begin >= end || (at > 0 && count + view.length > MAX_RECORDS)) break;
    for (const piece of window(view, begin - base, end - base)) {
      add(to + (base + piece.pos - from), piece);
      count++;
    }
    copied = end - from;
  }
  return { copied, records };
}

function requireSource(ctx: Context, attr: Attr | undefined): asserts attr is Attr {
  if (!attr) throw new FsError('ENOENT');
  if (attr.type !== NodeType.File) throw new FsError('EINVAL');
  requireAccess(ctx, attr, MAY_READ);
}

function requireTarget(ctx: Context, attr: Attr | undefined): asserts attr is Attr {
  if (!attr) throw new FsError('ENOENT');
  if (attr.type !== NodeType.File) throw new FsError('EINVAL');
  if (attr.flags & (NodeFlag.Immutable | NodeFlag.Append) || inTrash(attr)) throw new FsError('EPERM');
  requireAccess(ctx, attr, MAY_WRITE);
}

/** The writes that put a plan into effect on a target of `length` bytes: beyond its end there are zeros already. */
function writesOf(ino: Ino, { records }: CopyPlan, length: number): Write[] {
  const writes: Write[] = [];
  const references = new Map<string, { readonly id: number; readonly size: number; delta: number }>();
  for (const [index, all] of records) {
    const list = all.filter(({ id, pos }) => id !== 0 || index * CHUNK_SIZE + pos < length);
    if (list.length === 0) continue;
    const onlyExisting = list.every(({ id }) => id === 0);
    writes.push({ kind: 'appendSlices', ino, index, records: encodeSlices(list), onlyExisting });
    for (const { id, size } of list) {
      if (id === 0) continue;
      const key = `${id}_${size}`;
      const reference = references.get(key) ?? { id, size, delta: 0 };
      reference.delta++;
      references.set(key, reference);
    }
  }
  for (const reference of references.values()) writes.push({ kind: 'addSliceRef', ...reference });
  return writes;
}

interface Copied extends Changed {
  readonly copied: number;
}

function checkRanges(from: Ino, offset: number, to: Ino, toOffset: number, length: number): void {
  if (![offset, toOffset, length].every((number) => Number.isInteger(number) && number >= 0)) throw new FsError('EINVAL');
  if (offset + length > MAX_LENGTH || toOffset + length > MAX_LENGTH) throw new FsError('EFBIG');
  const distance = Math.abs(offset - toOffset);
  if (from === to && distance < length) throw new FsError('EINVAL', 'a range cannot be copied onto itself');
}

/**
 * Copies up to `length` bytes; answers how many (0 at the source's end, and fewer than asked for where that is more than is done at
 * once), and the target's attributes.
 */
export async function copyFileRange(
  volume: Volume,
  ctx: Context,
  from: Ino,
  offset: number,
  to: Ino,
  toOffset: number,
  length: number,
): Promise<{ readonly copied: number; readonly attr: Attr }> {
  checkRanges(from, offset, to, toOffset, length);
  const first = Math.floor(offset / CHUNK_SIZE);
  const { value, writes, results } = await volume.change<Copied>(async (view) => {
    const source = view.node(from, 'all');
    requireSource(ctx, source);
    const before = view.node(to, 'all');
    requireTarget(ctx, before);
    const end = Math.min(offset + length, source.length, (first + MAX_CHUNKS) * CHUNK_SIZE);
    if (end <= offset) return { writes: [], value: { before, after: before, places: NOWHERE, copied: 0 } };
    const count = Math.ceil(end / CHUNK_SIZE) - first;
    const reads = Array.from({ length: count }, (_, at) => ({ kind: 'chunk', ino: from, index: first + at }) as const);
    const lists = await volume.engine.read(reads, ctx.signal);
    const plan = planCopy(
      lists.map((list) => viewOf(decodeSlices(list))),
      offset,
      toOffset,
      end - offset,
    );
    for (const [at, records] of lists.entries())
      view.require({ kind: 'chunkPrefix', ino: from, index: first + at, records, whole: true });
    const newLength = Math.max(before.length, toOffset + plan.copied);
    const space = charged(newLength) - charged(before.length);
    const now = volume.now();
    const { sec, nsec } = now;
    const after: Attr = { ...before, length: newLength, mtime: sec, mtimensec: nsec, ctime: sec, ctimensec: nsec };
    return withRoom(volume, to, before, space, (places): Plan<Copied> => ({
      writes: [
        ...writesOf(to, plan, before.length),
        { kind: 'putNode', ino: to, attr: after },
        ...volume.stats.writes(space, 0),
        ...volume.log.copyFileRange(from, offset, to, toOffset, plan.copied, newLength, now),
      ],
      value: { before, after, places, copied: plan.copied },
    }));
  }, ctx.signal);
  const { before, after, copied } = value;
  if (copied === 0) return { copied, attr: after };
  volume.files.changed(to, before, after);
  volume.files.invalidateAll(to);
  for (const [at, write] of writes.entries())
    if (write.kind === 'appendSlices')
      await compactAfterWrite(volume, to, write.index, results[at] ?? 0, write.records.length / SLICE_RECORD);
  await afterChange(volume, to, value);
  return { copied, attr: after };
}
