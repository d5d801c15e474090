/** Numbers of 64 bits in JSON, with all their digits. */
import { formatIno, type Ino } from '../../lib/int64.ts';

const raw = (digits: string): unknown => (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON(digits);

/** An inode as JSON prints it. */
export const exact = (ino: Ino): unknown => (ino < 0 ? raw(formatIno(ino)) : ino);

/** A number of 64 bits as JSON prints it. */
export const exactU64 = (value: bigint): unknown => raw(BigInt.asUintN(64, value).toString());
