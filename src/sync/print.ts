/**
 * What one side of a name looked like at a moment: its kind and the figures by which a change is told. The same record
 * describes a file in the pod (from lstat) and one of the volume (from its attributes), so that both are stored alike.
 *
 * Record in the base state, little-endian: ino u64, size u64, mtime i64 ns, ctime i64 ns, mode u32, uid u32, gid u32, slices u32.
 */
import type { BigIntStats } from 'node:fs';
import type { Attr } from '../meta/types.ts';
import { NodeType } from '../meta/types.ts';

/** What sync mode keeps; anything else (devices, pipes, sockets) is `Other` and left alone. */
export const Kind = { Other: 0, File: 1, Directory: 2, Symlink: 3 } as const;
export type Kind = (typeof Kind)[keyof typeof Kind];

export interface Print {
  readonly ino: number;
  readonly size: number;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  /** Permission bits, 07777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Checksum of a file's slice lists in the volume; 0 where it is not known. */
  readonly slices: number;
}

export interface Seen {
  readonly kind: Kind;
  readonly print: Print;
  readonly nlink: number;
}

const BYTES = 48;
const S_IFMT = 0o170000n;
const kinds = new Map<bigint, Kind>([
  [0o100000n, Kind.File],
  [0o040000n, Kind.Directory],
  [0o120000n, Kind.Symlink],
]);
const NS = 1_000_000_000n;

export function seenLocally(stat: BigIntStats): Seen {
  return {
    kind: kinds.get(stat.mode & S_IFMT) ?? Kind.Other,
    nlink: Number(stat.nlink),
    print: {
      ino: Number(stat.ino),
      size: Number(stat.size),
      mtimeNs: stat.mtimeNs,
      ctimeNs: stat.ctimeNs,
      mode: Number(stat.mode & 0o7777n),
      uid: Number(stat.uid),
      gid: Number(stat.gid),
      slices: 0,
    },
  };
}

/** The kind of a node of the volume. */
export function kindOf(type: NodeType): Kind {
  if (type === NodeType.File) return Kind.File;
  if (type === NodeType.Directory) return Kind.Directory;
  return type === NodeType.Symlink ? Kind.Symlink : Kind.Other;
}

export function seenInVolume(ino: number, attr: Attr, slices = 0): Seen {
  return {
    kind: kindOf(attr.type),
    nlink: attr.nlink,
    print: {
      ino,
      size: attr.length,
      mtimeNs: BigInt(attr.mtime) * NS + BigInt(attr.mtimensec),
      ctimeNs: BigInt(attr.ctime) * NS + BigInt(attr.ctimensec),
      mode: attr.mode & 0o7777,
      uid: attr.uid,
      gid: attr.gid,
      slices,
    },
  };
}

/** Nanoseconds since the epoch as metadata has them. */
export function timeOf(ns: bigint): { readonly sec: number; readonly nsec: number } {
  const nsec = ((ns % NS) + NS) % NS;
  return { sec: Number((ns - nsec) / NS), nsec: Number(nsec) };
}

export function encodePrint(print: Print): Buffer {
  const record = Buffer.allocUnsafe(BYTES);
  record.writeBigInt64LE(BigInt(print.ino), 0);
  record.writeBigInt64LE(BigInt(print.size), 8);
  record.writeBigInt64LE(print.mtimeNs, 16);
  record.writeBigInt64LE(print.ctimeNs, 24);
  record.writeUInt32LE(print.mode, 32);
  record.writeUInt32LE(print.uid, 36);
  record.writeUInt32LE(print.gid, 40);
  record.writeUInt32LE(print.slices, 44);
  return record;
}

export function decodePrint(bytes: Uint8Array): Print {
  const record = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return {
    ino: Number(record.readBigInt64LE(0)),
    size: Number(record.readBigInt64LE(8)),
    mtimeNs: record.readBigInt64LE(16),
    ctimeNs: record.readBigInt64LE(24),
    mode: record.readUInt32LE(32),
    uid: record.readUInt32LE(36),
    gid: record.readUInt32LE(40),
    slices: record.readUInt32LE(44),
  };
}

/** The same object, not written to: what is left of `same` when only names, links or modes may have changed. */
export function sameContent(a: Print, b: Print): boolean {
  return a.ino === b.ino && a.size === b.size && a.mtimeNs === b.mtimeNs;
}

/** Nothing has changed. */
export function same(a: Print, b: Print): boolean {
  return sameContent(a, b) && a.ctimeNs === b.ctimeNs && sameOwner(a, b);
}

/** Mode and owner are equal; all that counts of a directory itself. */
export function sameOwner(a: Print, b: Print): boolean {
  return a.mode === b.mode && a.uid === b.uid && a.gid === b.gid;
}
