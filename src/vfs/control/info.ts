/**
 * `info` (1005): what a node is made of: what it takes, its paths, the slices or objects of a file, its locks. Progress: files and
 * bytes counted. Source: JuiceFS format, control protocol.
 */
import { blockKey } from '../../chunk/key.ts';
import { errno, errnoName, FsError, toErrno } from '../../lib/errors.ts';
import { type Ino, ROOT_INO } from '../../lib/int64.ts';
import { LockType, type NodeLocks, type Piece, type TreeUsage } from '../../meta/types.ts';
import { type Call, type ControlHost, counting, inside } from './call.ts';
import { exact, exactU64 } from './exact.ts';
import { dataItem } from './protocol.ts';
import { chunksOf } from './walk.ts';

/** Slices or objects that an answer lists at most. */
const MAX_LISTED = 500_000;

const sentences: Readonly<Record<number, string>> = {
  [errno.ENOENT]: 'no such file or directory',
  [errno.EPERM]: 'operation not permitted',
  [errno.EACCES]: 'permission denied',
  [errno.EIO]: 'input/output error',
};

/** An errno as a sentence, in the words of the official client. */
export const sentenceOf = (code: number): string => sentences[code] ?? errnoName(code);

export interface SliceShown {
  readonly ChunkIndex: number;
  readonly Id: number;
  readonly Size: number;
  readonly Off: number;
  readonly Len: number;
}

export interface ObjectShown {
  readonly ChunkIndex: number;
  /** Empty: a hole. */
  readonly Key: string;
  readonly Size: number;
  readonly Off: number;
  readonly Len: number;
}

/** The objects that a piece touches, each with the window of it that is seen. */
function objectsOf(index: number, piece: Piece, { chunks: { blockSize }, volume, hashPrefix }: ControlHost): ObjectShown[] {
  if (piece.id === 0) return [{ ChunkIndex: index, Key: '', Size: piece.size, Off: piece.off, Len: piece.len }];
  const objects: ObjectShown[] = [];
  for (let at = piece.off; at < piece.off + piece.len;) {
    const block = Math.floor(at / blockSize);
    const length = Math.min(blockSize, piece.size - block * blockSize);
    const off = at - block * blockSize;
    const len = Math.min(length - off, piece.off + piece.len - at);
    objects.push({
      ChunkIndex: index,
      Key: `${volume}/${blockKey(piece.id, block, length, hashPrefix)}`,
      Size: length,
      Off: off,
      Len: len,
    });
    at += len;
  }
  return objects;
}

/** Where the data of a file lies: slices (`raw`), or objects. */
export async function dataOf(
  call: Call,
  ino: Ino,
  length: number,
  raw: boolean,
): Promise<{ readonly slices: readonly SliceShown[]; readonly objects: readonly ObjectShown[] }> {
  const slices: SliceShown[] = [];
  const objects: ObjectShown[] = [];
  for await (const { index, pieces } of chunksOf(call, ino, length)) {
    for (const piece of pieces) {
      if (raw) slices.push({ ChunkIndex: index, Id: piece.id, Size: piece.size, Off: piece.off, Len: piece.len });
      else objects.push(...objectsOf(index, piece, call.host));
    }
    if (slices.length + objects.length > MAX_LISTED)
      throw new FsError('EFBIG', `the file has more than ${MAX_LISTED} ${raw ? 'slices' : 'objects'}`);
  }
  return { slices, objects };
}

/** What a node takes, told as it is counted. */
export function usageOf(call: Call, ino: Ino, recursive: boolean, strict: boolean): Promise<TreeUsage> {
  const { host, ctx } = call;
  return host.meta.usageBelow(ino, { recursive, strict, onCounted: counting(call), signal: ctx.signal });
}

/** Paths of a node inside the mount; a node of which none lies there is shown as the official client shows it. */
export async function pathsOf({ host }: Call, ino: Ino): Promise<readonly string[]> {
  const paths = (await host.meta.paths(ino, host.root)).map(String);
  return paths.length > 0 || host.root === ROOT_INO ? paths : ["path not shown because it's outside of the mounted root"];
}

function locksShown({ whole, ranges }: NodeLocks): object {
  return {
    PLocks: ranges.map(({ sid, owner, lock }) => ({
      Sid: sid,
      Owner: exactU64(owner),
      // As it is stored (fcntl's numbers).
      Type: lock.type === LockType.Read ? 0 : 1,
      Pid: lock.pid,
      Start: exactU64(lock.start),
      End: exactU64(lock.end),
    })),
    FLocks: whole.map(({ sid, owner, type }) => ({ Sid: sid, Owner: exactU64(owner), Type: type })),
  };
}

const orNull = <T>(list: readonly T[]): readonly T[] | null => (list.length > 0 ? list : null);

export async function info(call: Call): Promise<Buffer> {
  const { host, payload, progress } = call;
  const asked = payload.ino();
  const recursive = payload.more ? payload.u8() !== 0 : true;
  const raw = payload.more && payload.u8() !== 0;
  const strict = payload.more && payload.u8() !== 0;
  const head = (usage: TreeUsage, reason: string): object => ({
    Ino: exact(asked),
    Failed: reason !== '',
    Reason: reason,
    Summary: { Length: usage.length, Size: usage.size, Files: usage.files, Dirs: usage.dirs },
  });
  const tail = { Tier: { ID: 0, StorageClass: '', Tag: '' }, RestoreStatus: '' };
  try {
    const ino = await inside(call, asked);
    const usage = await usageOf(call, ino, recursive, strict);
    progress.first = usage.files;
    progress.second = usage.size;
    const file = usage.files === 1 && usage.dirs === 0;
    const { slices, objects } = file ? await dataOf(call, ino, usage.length, raw) : { slices: [], objects: [] };
    const paths = await pathsOf(call, ino);
    return dataItem({
      ...head(usage, ''),
      Paths: orNull(paths),
      Chunks: orNull(slices),
      Objects: orNull(objects),
      ...locksShown(await host.meta.locks(ino)),
      ...tail,
    });
  } catch (error) {
    call.ctx.signal.throwIfAborted();
    const reason = error instanceof FsError && error.code === 'EFBIG' ? error.message : sentenceOf(toErrno(error));
    const nothing = { length: 0, size: 0, files: 0, dirs: 0 };
    return dataItem({
      ...head(nothing, reason),
      Paths: null,
      Chunks: null,
      Objects: null,
      PLocks: null,
      FLocks: null,
      ...tail,
    });
  }
}
