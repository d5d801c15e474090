/**
 * The binary records of JuiceFS metadata: node attributes, directory entries, slices, delayed slices. Everything is
 * big-endian. Lengths are exact: what we write is byte for byte what JuiceFS writes for the same values.
 *
 * A node is 72 bytes, 80 with ACL ids, one more with a storage tier: 71 bytes of fields, the optional ones, one spare zero.
 * Source: the JuiceFS format, binary records (`Attr.Marshal` and `Attr.Unmarshal` in pkg/meta/interface.go).
 */
import {
  formatIno,
  type Ino,
  inoOfWords,
  readI64BE,
  readInoBE,
  readU64BE,
  writeI64BE,
  writeInoBE,
  writeU64BE,
} from '../lib/int64.ts';
import type { EntryValue } from './engine.ts';
import type { QuotaLimits } from './quota.ts';
import type { Attr, NodeType } from './types.ts';

/** Where the times of a node lie: mtime and ctime are adjacent, so one write sets both. */
export const NODE_MTIME_OFFSET = 23;
const NODE_NLINK_OFFSET = 47;
/** What tells who may do what: the first bytes, and everything from the parent on. */
export const NODE_OWNER_END = 11;
export const NODE_PARENT_OFFSET = 63;

const FIELDS = 71;
const TWO_32 = 0x1_0000_0000;
/** Of a number of 64 bits below 2^53 the high word is below this. */
const MAX_HIGH = 0x20_0000;
/** Length of a directory entry's value. */
export const ENTRY = 9;
export const SLICE_RECORD = 24;
const DELAYED_RECORD = 12;
const QUOTA_RECORD = 16;

/** Encodes a node; 72, 73, 80 or 81 bytes. */
export function encodeAttr(attr: Attr): Buffer {
  const acl = attr.accessAcl !== 0 || attr.defaultAcl !== 0;
  const buffer = Buffer.alloc(FIELDS + (acl ? 8 : 0) + (attr.tier === 0 ? 0 : 1) + 1);
  buffer[0] = attr.flags;
  buffer.writeUInt16BE((attr.type << 12) | (attr.mode & 0o7777), 1);
  buffer.writeUInt32BE(attr.uid, 3);
  buffer.writeUInt32BE(attr.gid, 7);
  writeI64BE(buffer, attr.atime, 11);
  buffer.writeUInt32BE(attr.atimensec, 19);
  writeI64BE(buffer, attr.mtime, 23);
  buffer.writeUInt32BE(attr.mtimensec, 31);
  writeI64BE(buffer, attr.ctime, 35);
  buffer.writeUInt32BE(attr.ctimensec, 43);
  buffer.writeUInt32BE(attr.nlink, NODE_NLINK_OFFSET);
  writeU64BE(buffer, attr.length, 51);
  buffer.writeUInt32BE(attr.rdev, 59);
  writeInoBE(buffer, attr.parent, NODE_PARENT_OFFSET);
  let end = FIELDS;
  if (acl) {
    buffer.writeUInt32BE(attr.accessAcl, end);
    buffer.writeUInt32BE(attr.defaultAcl, end + 4);
    end += 8;
  }
  if (attr.tier !== 0) buffer[end] = attr.tier;
  return buffer;
}

/** Decodes a node of any length JuiceFS ever wrote. Throws RangeError where it is shorter than 63 bytes. */
export function decodeAttr(buffer: Buffer): Attr {
  return decodeAttrAt(new DataView(buffer.buffer, buffer.byteOffset, buffer.length), 0, buffer.length);
}

/** The same of `length` bytes from `at` on. (Views of data are fast from the first call on, methods of Buffer only once V8 has compiled them.) */
export function decodeAttrAt(view: DataView, at: number, length: number): Attr {
  if (length < NODE_PARENT_OFFSET)
    throw new RangeError(`a node record has at least ${NODE_PARENT_OFFSET} bytes, this one has ${length}`);
  const typeMode = view.getUint16(at + 1);
  const hasAcl = length >= FIELDS + 8;
  const tierAt = hasAcl ? FIELDS + 8 : FIELDS;
  const lengthHigh = view.getUint32(at + 51);
  if (lengthHigh >= MAX_HIGH) throw new RangeError(`the length in a node record is not below 2^53`);
  return {
    flags: view.getUint8(at),
    type: (typeMode >> 12) as NodeType,
    mode: typeMode & 0o7777,
    uid: view.getUint32(at + 3),
    gid: view.getUint32(at + 7),
    atime: view.getInt32(at + 11) * TWO_32 + view.getUint32(at + 15),
    atimensec: view.getUint32(at + 19),
    mtime: view.getInt32(at + 23) * TWO_32 + view.getUint32(at + 27),
    mtimensec: view.getUint32(at + 31),
    ctime: view.getInt32(at + 35) * TWO_32 + view.getUint32(at + 39),
    ctimensec: view.getUint32(at + 43),
    nlink: view.getUint32(at + NODE_NLINK_OFFSET),
    length: lengthHigh * TWO_32 + view.getUint32(at + 55),
    rdev: view.getUint32(at + 59),
    parent:
      length >= FIELDS
        ? inoOfWords(view.getUint32(at + NODE_PARENT_OFFSET), view.getUint32(at + NODE_PARENT_OFFSET + 4))
        : (0 as Ino),
    accessAcl: hasAcl ? view.getUint32(at + FIELDS) : 0,
    defaultAcl: hasAcl ? view.getUint32(at + FIELDS + 4) : 0,
    // The spare byte of a record without a tier reads as tier 0.
    tier: length > tierAt ? view.getUint8(at + tierAt) : 0,
  };
}

/** mtime, ctime as they lie in a node from NODE_MTIME_OFFSET on: 24 bytes. */
export function encodeTimes(sec: number, nsec: number): Buffer {
  const buffer = Buffer.allocUnsafe(24);
  writeI64BE(buffer, sec, 0);
  buffer.writeUInt32BE(nsec, 8);
  buffer.copy(buffer, 12, 0, 12);
  return buffer;
}

/** Encodes the value of a directory entry: type, inode; 9 bytes. */
export function encodeEntry(value: EntryValue): Buffer {
  const buffer = Buffer.allocUnsafe(ENTRY);
  buffer[0] = value.type;
  writeInoBE(buffer, value.ino, 1);
  return buffer;
}

/** Decodes the value of a directory entry. Throws RangeError where it is not 9 bytes. */
export function decodeEntry(buffer: Buffer): EntryValue {
  if (buffer.length !== ENTRY) throw new RangeError(`a directory entry has ${ENTRY} bytes, this one has ${buffer.length}`);
  return { type: (buffer[0] ?? 0) as NodeType, ino: readInoBE(buffer, 1) };
}

/** One record of a chunk's list: `len` bytes of slice `id` from `off` on are seen at `pos`; id 0 with size 0 is zeros. */
export interface SliceRecord {
  readonly pos: number;
  readonly id: number;
  readonly size: number;
  readonly off: number;
  readonly len: number;
}

/** Encodes slice records one after the other; 24 bytes each. */
export function encodeSlices(records: readonly SliceRecord[]): Buffer {
  const buffer = Buffer.allocUnsafe(records.length * SLICE_RECORD);
  let at = 0;
  for (const record of records) {
    buffer.writeUInt32BE(record.pos, at);
    writeU64BE(buffer, record.id, at + 4);
    buffer.writeUInt32BE(record.size, at + 12);
    buffer.writeUInt32BE(record.off, at + 16);
    buffer.writeUInt32BE(record.len, at + 20);
    at += SLICE_RECORD;
  }
  return buffer;
}

/** Decodes concatenated slice records. Throws RangeError where the length is not a multiple of 24. */
export function decodeSlices(buffer: Buffer): SliceRecord[] {
  if (buffer.length % SLICE_RECORD !== 0)
    throw new RangeError(`a chunk's list holds records of ${SLICE_RECORD} bytes, this one has ${buffer.length} bytes`);
  const records: SliceRecord[] = [];
  for (let at = 0; at < buffer.length; at += SLICE_RECORD)
    records.push({
      pos: buffer.readUInt32BE(at),
      id: readU64BE(buffer, at + 4),
      size: buffer.readUInt32BE(at + 12),
      off: buffer.readUInt32BE(at + 16),
      len: buffer.readUInt32BE(at + 20),
    });
  return records;
}

/** Encodes slices whose deletion is delayed: id, size; 12 bytes each. */
export function encodeDelayed(slices: readonly { readonly id: number; readonly size: number }[]): Buffer {
  const buffer = Buffer.allocUnsafe(slices.length * DELAYED_RECORD);
  slices.forEach(({ id, size }, index) => {
    writeU64BE(buffer, id, index * DELAYED_RECORD);
    buffer.writeUInt32BE(size, index * DELAYED_RECORD + 8);
  });
  return buffer;
}

/** Decodes delayed slices. Throws RangeError where the length is not a multiple of 12. */
export function decodeDelayed(buffer: Buffer): { readonly id: number; readonly size: number }[] {
  if (buffer.length % DELAYED_RECORD !== 0)
    throw new RangeError(`delayed slices are records of ${DELAYED_RECORD} bytes, these are ${buffer.length} bytes`);
  const slices: { readonly id: number; readonly size: number }[] = [];
  for (let at = 0; at < buffer.length; at += DELAYED_RECORD)
    slices.push({ id: readU64BE(buffer, at), size: buffer.readUInt32BE(at + 8) });
  return slices;
}

/** The name of an entry in the trash, `<parent>-<inode>-<name>`, cut at 255 bytes. */
export function trashName(parent: Ino, ino: Ino, name: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${formatIno(parent)}-${formatIno(ino)}-`), name]).subarray(0, 255);
}

/** The limits of a quota on Redis: 16 bytes. */
export function encodeQuotaLimits({ space, inodes }: QuotaLimits): Buffer {
  const buffer = Buffer.alloc(QUOTA_RECORD);
  writeI64BE(buffer, space, 0);
  writeI64BE(buffer, inodes, 8);
  return buffer;
}

/** Reads the limits of a quota. Throws RangeError where they are no 16 bytes. */
export function decodeQuotaLimits(buffer: Buffer): QuotaLimits {
  if (buffer.length !== QUOTA_RECORD)
    throw new RangeError(`the limits of a quota have ${QUOTA_RECORD} bytes, these have ${buffer.length}`);
  return { space: readI64BE(buffer, 0), inodes: readI64BE(buffer, 8) };
}
