/**
 * Locks on ranges of bytes, as pure functions over what one owner holds in a file: a list ordered by start, without overlap,
 * in which neighbours of one type and process are one range.
 *
 * A record has 24 bytes, big-endian: type u32, pid u32, first byte u64, last byte u64 (inclusive; 2^63-1 is the end of any
 * file). Source: the JuiceFS format, POSIX locks (`loadLocks`, `updateLocks` in pkg/meta/utils.go). The official client does not
 * always join three ranges into one, and reads either.
 */
import type { LockRecord } from './engine.ts';
import { LockType, type RangeLock } from './types.ts';

const RECORD = 24;

/** The last byte of a lock without an end. */
export const END_OF_FILE = 0x7fff_ffff_ffff_ffffn;

/** Reads the ranges of one owner. Throws RangeError where the length is not a multiple of 24. */
export function decodeRanges(bytes: Buffer): readonly RangeLock[] {
  if (bytes.length % RECORD !== 0)
    throw new RangeError(`locks of ranges are records of ${RECORD} bytes, these are ${bytes.length} bytes`);
  return Array.from({ length: bytes.length / RECORD }, (_, index) => {
    const at = index * RECORD;
    return {
      type: bytes.readUInt32BE(at) as LockType,
      pid: bytes.readUInt32BE(at + 4),
      start: bytes.readBigUInt64BE(at + 8),
      end: bytes.readBigUInt64BE(at + 16),
    };
  });
}

/** The ranges of one owner as they are stored. */
export function encodeRanges(ranges: readonly RangeLock[]): Buffer {
  const bytes = Buffer.allocUnsafe(ranges.length * RECORD);
  ranges.forEach(({ type, pid, start, end }, index) => {
    const at = index * RECORD;
    bytes.writeUInt32BE(type, at);
    bytes.writeUInt32BE(pid >>> 0, at + 4);
    bytes.writeBigUInt64BE(start, at + 8);
    bytes.writeBigUInt64BE(end, at + 16);
  });
  return bytes;
}

/** What the owner holds after it has locked (or, by type None, unlocked) a range. */
export function withRange(ranges: readonly RangeLock[], lock: RangeLock): readonly RangeLock[] {
  const left: RangeLock[] = [];
  for (const range of ranges) {
    if (range.end < lock.start || range.start > lock.end) left.push(range);
    else {
      if (range.start < lock.start) left.push({ ...range, end: lock.start - 1n });
      if (range.end > lock.end) left.push({ ...range, start: lock.end + 1n });
    }
  }
  if (lock.type !== LockType.None) left.push(lock);
  left.sort((a, b) => (a.start < b.start ? -1 : 1));
  const joined: RangeLock[] = [];
  for (const range of left) {
    const before = joined.at(-1);
    if (before && before.type === range.type && before.pid === range.pid && before.end + 1n === range.start)
      joined[joined.length - 1] = { ...before, end: range.end };
    else joined.push(range);
  }
  return joined;
}

/** The first of these ranges (of others) that is in the way of a lock. */
export function rangeInTheWay(ranges: readonly RangeLock[], lock: RangeLock): RangeLock | undefined {
  return ranges.find(
    ({ type, start, end }) => (lock.type === LockType.Write || type === LockType.Write) && lock.end >= start && lock.start <= end,
  );
}

/** What is in the way of a lock in a file, and whose it is. */
export function lockInTheWay(
  others: readonly LockRecord[],
  lock: RangeLock,
): { readonly lock: RangeLock; readonly record: LockRecord } | undefined {
  for (const record of others) {
    const found = rangeInTheWay(decodeRanges(record.value), lock);
    if (found) return { lock: found, record };
  }
  return undefined;
}
