/**
 * `.control`: commands to a mounted client through a file. A request is `u32 command | u32 length | payload`, big-endian; its
 * answer is read from the offset behind the request: items `0xfe u64 u64` (progress) and `0xff u32 length JSON`, or one
 * errno byte. A read before the answer is there gets nothing: the caller asks again. Of the commands, `info` (1005) is
 * here; the others answer EINVAL, as an old client does. Source: JuiceFS format, control protocol.
 */
import type { ChunkStore } from '../chunk/types.ts';
import { blockKey } from '../chunk/key.ts';
import { errno, FsError, toErrno } from '../lib/errors.ts';
import { type Ino, readInoBE, ROOT_INO } from '../lib/int64.ts';
import { type Attr, CHUNK_SIZE, type Meta, NodeType, type Piece, SYSTEM } from '../meta/types.ts';
import type { VirtualHandle } from './handles.ts';

const INFO = 1005;
const PROGRESS = 0xfe;
const DATA = 0xff;
const HEADER = 8;
/** No request of the protocol is longer: a name and some numbers, or a list of paths. */
const MAX_REQUEST = 1 << 20;

export interface ControlDependencies {
  readonly meta: Meta;
  readonly chunks: Pick<ChunkStore, 'blockSize'>;
  /** Name of the volume, which its objects' keys begin with. */
  readonly volume: string;
  readonly hashPrefix: boolean;
}

interface Summary {
  length: number;
  size: number;
  files: number;
  dirs: number;
}

/** One opened `.control`. */
export function openControl(ino: Ino, dependencies: ControlDependencies): VirtualHandle {
  let request = Buffer.alloc(0);
  let answer = Buffer.alloc(0);
  let answerAt = 0;
  const finish = (bytes: Buffer): void => void (answer = Buffer.concat([answer, bytes]));
  return {
    kind: 'virtual',
    ino,
    read: (offset, size) => answer.subarray(Math.max(0, offset - answerAt), Math.max(0, offset - answerAt) + size),
    write(data) {
      if (request.length + data.length > MAX_REQUEST) throw new FsError('EINVAL', 'a request to .control is at most 1 MiB');
      request = Buffer.concat([request, data]);
      if (request.length < HEADER || request.length < HEADER + request.readUInt32BE(4)) return;
      answerAt += request.length;
      const whole = request;
      request = Buffer.alloc(0);
      answer = Buffer.alloc(0);
      run(whole, dependencies).then(finish, (error: unknown) => finish(Buffer.from([toErrno(error)])));
    },
    close: () => {},
  };
}

async function run(request: Buffer, dependencies: ControlDependencies): Promise<Buffer> {
  const payload = request.subarray(HEADER, HEADER + request.readUInt32BE(4));
  if (request.readUInt32BE(0) !== INFO || payload.length < 8) return Buffer.from([errno.EINVAL]);
  const ino = readInoBE(payload, 0);
  return info(ino, payload[8] !== 0, (payload[9] ?? 0) !== 0, dependencies);
}

async function info(ino: Ino, recursive: boolean, raw: boolean, dependencies: ControlDependencies): Promise<Buffer> {
  const { meta } = dependencies;
  const tier = { ID: 0, StorageClass: '', Tag: '' };
  const head = (summary: Summary, failed: string): object => ({
    Ino: Number(ino),
    Failed: failed !== '',
    Reason: failed,
    Summary: { Length: summary.length, Size: summary.size, Files: summary.files, Dirs: summary.dirs },
  });
  const summary: Summary = { length: 0, size: 0, files: 0, dirs: 0 };
  let attr: Attr;
  try {
    attr = await meta.getattr(SYSTEM, ino);
    await add(meta, ino, attr, recursive, summary);
  } catch (error) {
    const reason = toErrno(error) === errno.ENOENT ? 'no such file or directory' : 'input/output error';
    return json({
      ...head({ length: 0, size: 0, files: 0, dirs: 0 }, reason),
      Paths: null,
      Chunks: null,
      Objects: null,
      PLocks: null,
      FLocks: null,
      Tier: tier,
      RestoreStatus: '',
    });
  }
  const chunks: object[] = [];
  const objects: object[] = [];
  if (attr.type === NodeType.File) {
    for (let index = 0; index * CHUNK_SIZE < attr.length; index++) {
      for (const piece of await meta.readChunk(ino, index)) {
        if (raw) chunks.push({ ChunkIndex: index, Id: piece.id, Size: piece.size, Off: piece.off, Len: piece.len });
        else objects.push(...objectsOf(index, piece, dependencies));
      }
    }
  }
  const progress = Buffer.alloc(17);
  progress[0] = PROGRESS;
  progress.writeBigUInt64BE(BigInt(summary.files), 1);
  progress.writeBigUInt64BE(BigInt(summary.size), 9);
  const body = json({
    ...head(summary, ''),
    Paths: await pathsOf(meta, ino, attr),
    Chunks: chunks.length > 0 ? chunks : null,
    Objects: objects.length > 0 ? objects : null,
    PLocks: [],
    FLocks: [],
    Tier: tier,
    RestoreStatus: '',
  });
  return summary.files > 0 || summary.size > 0 ? Buffer.concat([progress, body]) : body;
}

function json(value: object): Buffer {
  const text = Buffer.from(JSON.stringify(value));
  const head = Buffer.alloc(5);
  head[0] = DATA;
  head.writeUInt32BE(text.length, 1);
  return Buffer.concat([head, text]);
}

/** Counts a node and, in a directory, its entries; all of a tree where `deep`. */
async function add(meta: Meta, ino: Ino, attr: Attr, deep: boolean, summary: Summary): Promise<void> {
  count(attr, summary);
  if (attr.type !== NodeType.Directory) return;
  const below: { ino: Ino; attr: Attr }[] = [];
  for await (const batch of meta.readdir(SYSTEM, ino, true)) {
    for (const entry of batch) {
      if (!entry.attr) continue;
      if (deep && entry.type === NodeType.Directory) below.push({ ino: entry.ino, attr: entry.attr });
      else count(entry.attr, summary);
    }
  }
  for (const each of below) await add(meta, each.ino, each.attr, deep, summary);
}

function count(attr: Attr, summary: Summary): void {
  if (attr.type === NodeType.Directory) {
    summary.dirs++;
    summary.size += 4096;
    return;
  }
  summary.files++;
  const file = attr.type === NodeType.File;
  if (file) summary.length += attr.length;
  summary.size += file ? Math.max(1, Math.ceil(attr.length / 4096)) * 4096 : 4096;
}

/** The objects that a piece touches, each with the window of it that is seen. */
function objectsOf(index: number, piece: Piece, { chunks: { blockSize }, volume, hashPrefix }: ControlDependencies): object[] {
  if (piece.id === 0) return [{ ChunkIndex: index, Key: '', Size: piece.size, Off: piece.off, Len: piece.len }];
  const objects: object[] = [];
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

/** The paths of a node inside the volume; none where its names cannot be told from its attributes (hard links). */
async function pathsOf(meta: Meta, ino: Ino, attr: Attr): Promise<string[]> {
  const parts: string[] = [];
  let node = ino;
  let parent = attr.parent;
  while (node !== ROOT_INO) {
    if (parent <= 0) return [];
    const name = await nameIn(meta, parent, node);
    if (name === undefined) return [];
    parts.unshift(name);
    node = parent;
    parent = (await meta.getattr(SYSTEM, node)).parent;
  }
  return [`/${parts.join('/')}`];
}

async function nameIn(meta: Meta, parent: Ino, ino: Ino): Promise<string | undefined> {
  for await (const batch of meta.readdir(SYSTEM, parent, false)) {
    for (const entry of batch) if (entry.ino === ino) return entry.name.toString();
  }
  return undefined;
}

/** The bytes of an `info` request. What is below a directory is counted, not taken from its statistics, which lag behind. */
export function infoRequest(inode: bigint, recursive: boolean, raw: boolean): Buffer {
  const request = Buffer.alloc(HEADER + 11);
  request.writeUInt32BE(INFO, 0);
  request.writeUInt32BE(11, 4);
  request.writeBigUInt64BE(inode, HEADER);
  request[HEADER + 8] = recursive ? 1 : 0;
  request[HEADER + 9] = raw ? 1 : 0;
  request[HEADER + 10] = recursive ? 1 : 0;
  return request;
}

/** The JSON of an answer, or undefined while it is not whole. Throws FsError EINVAL where the client knows no such command. */
export function readAnswer(answer: Buffer): unknown {
  let at = 0;
  while (answer[at] === PROGRESS) at += 17;
  if (at >= answer.length) return undefined;
  if (answer[at] !== DATA) throw new FsError('EINVAL', `the client that serves this mount answered with error ${answer[at]}`);
  if (answer.length < at + 5 || answer.length < at + 5 + answer.readUInt32BE(at + 1)) return undefined;
  return JSON.parse(answer.subarray(at + 5, at + 5 + answer.readUInt32BE(at + 1)).toString());
}
