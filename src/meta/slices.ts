/**
 * The slices of a chunk, as pure functions: what a list of records looks like to a reader, which records make a range
 * zero, and which part of a list is worth merging into one slice.
 *
 * A chunk (64 MiB of a file) is a list of records, oldest first. Each says that `len` bytes of a slice, from `off` on, are
 * seen at `pos`; newer records hide older ones; id 0 is zeros, and so is what no record covers.
 *
 * Source: the JuiceFS format, §9 (pkg/meta/slice.go, base.go: compactChunk). A painter over a sorted array is used in the
 * place of its tree; the views are the same, but for neighbouring holes, which are one here.
 */
import type { SliceRecord } from './records.ts';
import { CHUNK_SIZE, type Piece } from './types.ts';

const hole = (pos: number, len: number): Piece => ({ pos, id: 0, size: 0, off: 0, len });

/** The part of a piece that begins at `from` and ends at `to`, both within it. */
function cut(piece: Piece, from: number, to: number): Piece {
  if (piece.id === 0) return hole(from, to - from);
  return { pos: from, id: piece.id, size: piece.size, off: piece.off + (from - piece.pos), len: to - from };
}

/** Index of the first piece that ends after `pos`. Pieces lie one behind the other without a gap. */
function pieceAt(pieces: readonly Piece[], pos: number): number {
  let low = 0;
  let high = pieces.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const piece = pieces[middle]!;
    if (piece.pos + piece.len <= pos) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Lays a record over what is there. `pieces` is changed; it covers from 0 without a gap before and after. */
function paint(pieces: Piece[], record: SliceRecord): void {
  if (record.len === 0) return;
  const { pos, len } = record;
  const end = pos + len;
  const last = pieces.at(-1);
  const covered = last ? last.pos + last.len : 0;
  if (pos > covered) pieces.push(hole(covered, pos - covered));
  const piece = cut(record, pos, end);
  if (pos >= covered) {
    pieces.push(piece);
    return;
  }
  const first = pieceAt(pieces, pos);
  const next = end >= covered ? pieces.length : pieceAt(pieces, end - 1) + 1;
  const before = pieces[first]!;
  const after = pieces[next - 1]!;
  const replacement = [piece];
  if (before.pos < pos) replacement.unshift(cut(before, before.pos, pos));
  if (after.pos + after.len > end) replacement.push(cut(after, end, after.pos + after.len));
  pieces.splice(first, next - first, ...replacement);
}

function joinHoles(pieces: readonly Piece[]): readonly Piece[] {
  if (!pieces.some((piece, index) => piece.id === 0 && pieces[index - 1]?.id === 0)) return pieces;
  const joined: Piece[] = [];
  for (const piece of pieces) {
    const previous = joined.at(-1);
    if (piece.id === 0 && previous?.id === 0) joined[joined.length - 1] = hole(previous.pos, previous.len + piece.len);
    else joined.push(piece);
  }
  return joined;
}

/**
 * What a reader of the chunk sees: pieces in order, from 0 without a gap to the end of the farthest record; holes (id 0)
 * have size and off 0. What lies behind is zeros. The length of the file is not known here.
 */
export function viewOf(records: readonly SliceRecord[]): readonly Piece[] {
  const pieces: Piece[] = [];
  for (const record of records) paint(pieces, record);
  return joinHoles(pieces);
}

/** The view of a list to whose end more records were added, by the view of what it was before. */
export function viewWith(before: readonly Piece[], records: readonly SliceRecord[]): readonly Piece[] {
  const pieces = [...before];
  for (const record of records) paint(pieces, record);
  return joinHoles(pieces);
}

/** A record of zeros at the end of a chunk's list. */
export const zeroRecord = (pos: number, len: number): SliceRecord => ({ pos, id: 0, size: 0, off: 0, len });

/** What makes a range of a file zero. */
export interface ZeroPlan {
  /** At most two: the first chunk of the range, and the last where only its beginning is meant. */
  readonly edges: readonly { readonly index: number; readonly record: SliceRecord }[];
  /** Whole chunks, first to last: a record of all zeros where there is a list, and nothing where there is none. */
  readonly middle: { readonly first: number; readonly last: number } | undefined;
}

/**
 * The records that make `[from, to)` of a file zero. Growing and shrinking a file take the same ones, from the smaller
 * length to the larger (§9.3): what a later growth uncovers must be zeros. Punching takes them up to the file's length.
 */
export function zeroRange(from: number, to: number): ZeroPlan {
  if (from >= to) return { edges: [], middle: undefined };
  const firstIndex = Math.floor(from / CHUNK_SIZE);
  const pos = from % CHUNK_SIZE;
  const head = { index: firstIndex, record: zeroRecord(pos, Math.min(to - from, CHUNK_SIZE - pos)) };
  const endIndex = Math.floor(to / CHUNK_SIZE);
  const rest = to % CHUNK_SIZE;
  const tail = endIndex > firstIndex && rest > 0 ? [{ index: endIndex, record: zeroRecord(0, rest) }] : [];
  const middle = endIndex - firstIndex > 1 ? { first: firstIndex + 1, last: endIndex - 1 } : undefined;
  return { edges: [head, ...tail], middle };
}

/** So many parts of a file one slice holds at most; with 4 KiB each it is one block of the usual size. Each is a record in the list of a chunk. */
export const MOST_PARTS = 1024;
/** No round of compaction takes more records than this. */
const MAX_COMPACTED = 5000;
/** A shorter list or view is never compacted when it is read. */
const READ_COMPACTION = 5;
/** Records of at least this length may stay as they are at the front of a list. */
const KEEP_LENGTH = 1024 * 1024;

/** Compacting without being asked to must take a record off a list for so many bytes that it writes, at least. */
const WORTH = 128 * 1024;

/**
 * After a write that made the list this long, by so many records: whether to see to it when there is time, or before the writer
 * goes on. Where a slice brings many records, lists may become longer first: what a compaction writes is the whole chunk, and it
 * should be worth as many of them. `most` records are what the engine can hold: one more slice of the kind must always fit.
 */
export function compactionAfterWrite(listLength: number, added = 1, most = Infinity): 'none' | 'soon' | 'now' {
  if (added === 1)
    return listLength >= 2500 ? 'now' : listLength % 100 === 99 || (listLength > 350 && listLength % 10 === 0) ? 'soon' : 'none';
  const now = Math.min(MAX_COMPACTED, most - MOST_PARTS);
  return listLength >= now ? 'now' : listLength >= now * 0.75 ? 'soon' : 'none';
}

export interface ListCompaction {
  /** Records at the front that stay. */
  readonly skipped: number;
  /** Records in all that were looked at: `skipped` and those that are merged. */
  readonly count: number;
  /** Where the merged slice begins in the chunk, and its bytes. */
  readonly pos: number;
  readonly size: number;
  /** What to copy, in order, from `pos` to `pos + size`; holes are to be written as zeros. */
  readonly pieces: readonly Piece[];
}

type Merged = Pick<ListCompaction, 'pos' | 'size' | 'pieces'>;

/** One slice in the place of all these records: their view without the zeros at either end. */
function merge(records: readonly SliceRecord[]): Merged {
  const view = viewOf(records);
  const data = view.filter((piece) => piece.id !== 0);
  const first = data[0];
  const last = data.at(-1);
  if (!first || !last) {
    // Only zeros: a slice has at least one byte. It lies where a record lay, so it hides nothing that stays.
    const pos = records.reduce((least, record) => (record.len > 0 ? Math.min(least, record.pos) : least), CHUNK_SIZE);
    return view.length === 0 ? { pos: 0, size: 0, pieces: [] } : { pos, size: 1, pieces: [hole(pos, 1)] };
  }
  const pieces = view.slice(view.indexOf(first), view.lastIndexOf(last) + 1);
  return { pos: first.pos, size: last.pos + last.len - first.pos, pieces };
}

/**
 * Whether the first record may stay where it is: it is large, a fifth of the result at least, and seen whole as the first
 * piece of data, so everything else lies behind it.
 */
function mayStay(records: readonly SliceRecord[], { size, pieces }: Merged): boolean {
  const [record, ...newer] = records;
  const [piece] = pieces;
  if (!record || !piece || record.len < KEEP_LENGTH || record.len * 5 < size) return false;
  const same = (a: Piece | SliceRecord, b: SliceRecord): boolean =>
    a.pos === b.pos && a.id === b.id && a.off === b.off && a.len === b.len;
  return record.id !== 0 && same(piece, record) && !newer.some((other) => other.size === record.size && same(other, record));
}

/** What a compaction of this list would do; undefined where it would not make it shorter. At most the first 5000 records. */
export function planListCompaction(list: readonly SliceRecord[]): ListCompaction | undefined {
  const records = list.slice(0, MAX_COMPACTED);
  let skipped = 0;
  let merged = merge(records);
  while (skipped < records.length && mayStay(records.slice(skipped), merged)) {
    skipped++;
    merged = merge(records.slice(skipped));
  }
  if (records.length - skipped < 2 || merged.size === 0) return undefined;
  return { skipped, count: records.length, ...merged };
}

/**
 * Whether a compaction that nobody asked for should be done: one that writes 64 MiB because of a few bytes costs more than all who read
 * the list save. So a chunk of 64 MiB that is written at random collects some 500 records first, and a small one is compacted at once.
 */
export function isWorthIt({ skipped, count, size }: Pick<ListCompaction, 'skipped' | 'count' | 'size'>): boolean {
  return (count - skipped - 1) * WORTH >= size;
}

/** Whether a list that is read should be compacted; `pieces` is its view. */
export function compactionAfterRead(list: readonly SliceRecord[], pieces: readonly Piece[]): boolean {
  if (list.length < READ_COMPACTION && pieces.length < READ_COMPACTION) return false;
  const plan = planListCompaction(list);
  return plan !== undefined && isWorthIt(plan);
}
