/**
 * 64-bit numbers as JavaScript numbers.
 *
 * Inode numbers are a branded `number`. Ordinary inodes are below 2^53 and stand for themselves. JuiceFS also uses a
 * window just below 2^63 (virtual files at 0x7FFFFFFF00000000, the trash at 0x7FFFFFFF10000000); those are held as
 * `value - 2^63`, so they are negative: a sign test tells "special", a Map keyed by a number stays fast, and no BigInt
 * is made per request. Slice ids, lengths and counters are plain numbers and must stay below 2^53; a larger one found
 * in storage is an error (`RangeError`), never rounded.
 *
 * Source of the ranges: the JuiceFS format, constants of inode numbers.
 */
declare const inoBrand: unique symbol;
/** An inode number; see the head of this file. */
export type Ino = number & { readonly [inoBrand]: true };

const HIGH_WORD = 0x7fffffff;
const TWO_32 = 0x1_0000_0000;
const MAX_HIGH = 0x20_0000;

/** The root directory of every volume. */
export const ROOT_INO = 1 as Ino;
/** First virtual inode (0x7FFFFFFF00000000): `.accesslog` is this plus 1, and so on. */
export const VIRTUAL_INO = -TWO_32 as Ino;
/** The trash root (0x7FFFFFFF10000000). Hour directory n is TRASH_INO + n. */
export const TRASH_INO = (-TWO_32 + 0x1000_0000) as Ino;

/** Takes a number that is known to be an inode below 2^53, or already in the special window. */
export function ino(value: number): Ino {
  return value as Ino;
}

/** True for the trash root and the hour directories. */
export function isTrash(value: Ino): boolean {
  return value < 0 && value >= TRASH_INO;
}

/** The inode of these two words. Throws RangeError where it is neither below 2^53 nor in the special window. */
export function inoOfWords(high: number, low: number): Ino {
  if (high === HIGH_WORD) return (low - TWO_32) as Ino;
  if (high >= MAX_HIGH)
    throw new RangeError(
      `64-bit number out of range: 0x${high.toString(16)}${low.toString(16).padStart(8, '0')} is not below 2^53`,
    );
  return (high * TWO_32 + low) as Ino;
}

/** Reads an inode, big-endian (metadata records). */
export function readInoBE(buffer: Buffer, offset: number): Ino {
  return inoOfWords(buffer.readUInt32BE(offset), buffer.readUInt32BE(offset + 4));
}

/** Reads an inode, little-endian (FUSE requests). */
export function readInoLE(buffer: Buffer, offset: number): Ino {
  return inoOfWords(buffer.readUInt32LE(offset + 4), buffer.readUInt32LE(offset));
}

/** Writes an inode, big-endian. */
export function writeInoBE(buffer: Buffer, value: Ino, offset: number): void {
  buffer.writeUInt32BE(value < 0 ? HIGH_WORD : Math.floor(value / TWO_32), offset);
  buffer.writeUInt32BE(value < 0 ? value + TWO_32 : value % TWO_32, offset + 4);
}

/** Writes an inode, little-endian. */
export function writeInoLE(buffer: Buffer, value: Ino, offset: number): void {
  buffer.writeUInt32LE(value < 0 ? value + TWO_32 : value % TWO_32, offset);
  buffer.writeUInt32LE(value < 0 ? HIGH_WORD : Math.floor(value / TWO_32), offset + 4);
}

/** The decimal form that keys, names and people use. */
export function formatIno(value: Ino): string {
  return value < 0 ? (BigInt(value) + (1n << 63n)).toString() : String(value);
}

/** Reads the decimal form. Throws RangeError where the text is not an inode number. */
export function parseIno(text: string): Ino {
  if (!/^\d{1,19}$/.test(text)) throw new RangeError(`not an inode number: ${JSON.stringify(text)}`);
  if (text.length < 16) return Number(text) as Ino;
  return inoFromBigInt(BigInt(text));
}

/** Takes an inode from a driver that yields BigInt (SQL). */
export function inoFromBigInt(value: bigint): Ino {
  return inoOfWords(Number(value >> 32n), Number(value & 0xffffffffn));
}

/** The BigInt that a SQL driver binds. */
export function inoToBigInt(value: Ino): bigint {
  return value < 0 ? BigInt(value) + (1n << 63n) : BigInt(value);
}

/** Reads an unsigned 64-bit number below 2^53, big-endian. Throws RangeError above. */
export function readU64BE(buffer: Buffer, offset: number): number {
  const high = buffer.readUInt32BE(offset);
  if (high >= MAX_HIGH) throw new RangeError(`64-bit number at offset ${offset} is not below 2^53`);
  return high * TWO_32 + buffer.readUInt32BE(offset + 4);
}

/** Writes an unsigned 64-bit number below 2^53, big-endian. */
export function writeU64BE(buffer: Buffer, value: number, offset: number): void {
  buffer.writeUInt32BE(Math.floor(value / TWO_32), offset);
  buffer.writeUInt32BE(value % TWO_32, offset + 4);
}

/** Reads an unsigned 64-bit number below 2^53, little-endian. Throws RangeError above. */
export function readU64LE(buffer: Buffer, offset: number): number {
  const high = buffer.readUInt32LE(offset + 4);
  if (high >= MAX_HIGH) throw new RangeError(`64-bit number at offset ${offset} is not below 2^53`);
  return high * TWO_32 + buffer.readUInt32LE(offset);
}

/** Writes an unsigned 64-bit number below 2^53, little-endian. */
export function writeU64LE(buffer: Buffer, value: number, offset: number): void {
  buffer.writeUInt32LE(value % TWO_32, offset);
  buffer.writeUInt32LE(Math.floor(value / TWO_32), offset + 4);
}

/** Reads a signed 64-bit number within ±2^53 (times), big-endian. */
export function readI64BE(buffer: Buffer, offset: number): number {
  return buffer.readInt32BE(offset) * TWO_32 + buffer.readUInt32BE(offset + 4);
}

/** Writes a signed 64-bit number within ±2^53 (times), big-endian. */
export function writeI64BE(buffer: Buffer, value: number, offset: number): void {
  const high = Math.floor(value / TWO_32);
  buffer.writeInt32BE(high, offset);
  buffer.writeUInt32BE(value - high * TWO_32, offset + 4);
}
