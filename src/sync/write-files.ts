/**
 * Small files made whole, many in one go, by plain calls one after the other: this runs in a thread of its own (file-writer.ts), or
 * where there are few files in the caller's.
 */
import {
  type BigIntStats,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  openSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { isErrno } from '../fuse/libc.ts';
import type { Part } from './content.ts';
import { setMtimeOf } from './local.ts';
import { type Print, seenLocally } from './print.ts';

/** A file to be made. A plain object that can be sent to another thread. */
export interface FileToWrite {
  /** Absolute; bytes as Latin-1. */
  readonly path: string;
  /** Where its content lies in the data of all. */
  readonly from: number;
  readonly size: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeNs: bigint;
}

export interface FileWritten {
  readonly print: Print;
  /** The owner is another than was wanted: the process may not give files away. */
  readonly ownerLost: boolean;
}

/** Makes files in directories that are there; what has a name already goes. Throws the first failure, as `node:fs` does. */
export function writeFiles(data: Uint8Array, files: readonly FileToWrite[]): readonly FileWritten[] {
  return files.map((file) => writeOne(data, file));
}

function writeOne(data: Uint8Array, { path, from, size, mode, uid, gid, mtimeNs }: FileToWrite): FileWritten {
  const fd = create(Buffer.from(path, 'latin1'), mode & 0o777);
  try {
    for (let done = 0; done < size;) done += writeSync(fd, data, from + done, size - done, done);
    const made = fstatSync(fd);
    let ownerLost = false;
    let dressed = (made.mode & 0o7777) === mode;
    if (made.uid !== uid || made.gid !== gid)
      try {
        fchownSync(fd, uid, gid);
        dressed = false;
      } catch (error) {
        if (!isErrno(error, 'EPERM', 'EINVAL')) throw error;
        ownerLost = true;
      }
    // After the owner, for a change of it clears the set-user-id bit; and whatever the process's mask has taken.
    if (!dressed) fchmodSync(fd, mode);
    setMtimeOf(fd, mtimeNs);
    const stat: BigIntStats = fstatSync(fd, { bigint: true });
    return { print: seenLocally(stat).print, ownerLost };
  } finally {
    closeSync(fd);
  }
}

/**
 * What is written in one call. For longer ones the kernel takes larger pages, which a virtual machine may have to get from its host
 * first (measured on Linux 6.18: 4 MiB a call takes four times as long as 512 KiB).
 */
const ONE_WRITE = 512 * 1024;

/** Writes parts of a buffer to their places in a file. */
export function fillFile(fd: number, data: Uint8Array, parts: readonly Part[]): void {
  for (const { at, bytes, position } of parts)
    for (let done = 0; done < bytes;) done += writeSync(fd, data, at + done, Math.min(bytes - done, ONE_WRITE), position + done);
}

/** A new file; what a process that died left in its place goes. */
function create(path: Buffer, mode: number): number {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  try {
    return openSync(path, flags, mode);
  } catch (error) {
    if (!isErrno(error, 'EEXIST')) throw error;
    unlinkSync(path);
    return openSync(path, flags, mode);
  }
}
