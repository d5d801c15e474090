/**
 * The journal of open handles: a file of fixed records in memory (memfd) that both the serving process and the holder have
 * open. A record is written by one pwrite of a few bytes, which a killed process has either done or not; the file lives as
 * long as any process has it open. What lies behind the records is not looked at (src/vfs/pieces.ts).
 *
 * Record, 24 bytes, little-endian: handle u64 (0: free), inode u64, flags u32, number of the backing file u32 (0: none). At most `LIMIT` records (6 MiB).
 */
import { fstatSync, readSync, writeSync } from 'node:fs';
import { readInoLE, readU64LE, writeInoLE, writeU64LE } from '../lib/int64.ts';
import type { HandleJournal, OpenHandle } from './types.ts';

const RECORD = 24;
const LIMIT = 262_144;

/** Opens the journal in a file that may be read and written, and takes in what it holds. The descriptor stays the caller's. */
export function openJournal(fd: number, limit = LIMIT): HandleJournal {
  const slots = new Map<number, number>();
  const found: OpenHandle[] = [];
  const free: number[] = [];
  const record = Buffer.alloc(RECORD);
  let used = 0;

  const bytes = Buffer.alloc(Math.floor(Math.min(fstatSync(fd).size, limit * RECORD) / RECORD) * RECORD);
  readSync(fd, bytes, 0, bytes.length, 0);
  for (let at = 0; at < bytes.length; at += RECORD, used++) {
    const handle = readU64LE(bytes, at);
    if (handle === 0) {
      free.push(used);
      continue;
    }
    slots.set(handle, used);
    const backing = bytes.readUInt32LE(at + 20);
    found.push({
      handle,
      ino: readInoLE(bytes, at + 8),
      flags: bytes.readUInt32LE(at + 16),
      ...(backing === 0 ? {} : { backing }),
    });
  }

  return {
    add({ handle, ino, flags, backing = 0 }) {
      const slot = slots.get(handle) ?? free.pop() ?? (used < limit ? used++ : undefined);
      if (slot === undefined) return false;
      writeU64LE(record, handle, 0);
      writeInoLE(record, ino, 8);
      record.writeUInt32LE(flags >>> 0, 16);
      record.writeUInt32LE(backing, 20);
      try {
        writeSync(fd, record, 0, RECORD, slot * RECORD);
      } catch {
        // No memory for the file to grow.
        free.push(slot);
        return false;
      }
      slots.set(handle, slot);
      return true;
    },
    remove(handle) {
      const slot = slots.get(handle);
      if (slot === undefined) return;
      slots.delete(handle);
      record.fill(0);
      writeSync(fd, record, 0, RECORD, slot * RECORD);
      free.push(slot);
    },
    entries: () => found,
    file: { fd, from: limit * RECORD },
  };
}
