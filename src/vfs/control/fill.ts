/**
 * `fill cache` (1004): brings the blocks of files into the cache, drops them from it, or tells which are there. Paths are from the
 * root of the mount on, or `inode:N`. Progress: files and bytes done. Of a file only blocks that hold data of it count, each once;
 * what cannot be had (an object is missing, the disk is full) counts as missed. Source: JuiceFS format, control protocol.
 */
import { blockKey } from '../../chunk/key.ts';
import { FsError, messageOf } from '../../lib/errors.ts';
import { type Ino, parseIno } from '../../lib/int64.ts';
import { Branches } from '../../meta/branches.ts';
import { type Attr, type Entry, NodeType, type Piece } from '../../meta/types.ts';
import { type Call, inside } from './call.ts';
import { CacheAction, type CacheAnswer, dataItem } from './protocol.ts';
import { chunksOf, eachFile } from './walk.ts';

const MAX_THREADS = 1024;
const MAX_LINKS = 40;
const INODE = /^inode:(\d{1,19})$/;

type Counting = {
  -readonly [K in keyof Omit<CacheAnswer, 'Locations'>]: CacheAnswer[K];
} & { readonly Locations: Record<string, number> };

interface Block {
  readonly slice: { readonly id: number; readonly size: number };
  readonly index: number;
  readonly length: number;
}

/** The node that a path names, symbolic links followed as long as they stay within the mount. */
async function resolve(call: Call, path: string): Promise<Entry> {
  const { host, ctx } = call;
  const { meta } = host;
  const byInode = INODE.exec(path);
  if (byInode) {
    const ino = await inside(call, parseIno(byInode[1] ?? ''));
    return { ino, attr: await meta.getattr(ctx, ino) };
  }
  const way: Entry[] = [{ ino: host.root, attr: await meta.getattr(ctx, host.root) }];
  const left = path.split('/').filter((part) => part !== '' && part !== '.');
  let links = 0;
  for (let part = left.shift(); part !== undefined; part = left.shift()) {
    if (part === '..') {
      if (way.length > 1) way.pop();
      continue;
    }
    const entry = await meta.lookup(ctx, (way.at(-1) as Entry).ino, Buffer.from(part));
    if (entry.attr.type !== NodeType.Symlink) {
      way.push(entry);
      continue;
    }
    const target = (await meta.readlink(ctx, entry.ino)).toString();
    if (target.startsWith('/')) throw new FsError('ENOTSUP', 'an absolute link may lead out of the volume');
    if (++links > MAX_LINKS) throw new FsError('ELOOP');
    left.unshift(...target.split('/').filter((each) => each !== '' && each !== '.'));
  }
  return way.at(-1) as Entry;
}

/** The blocks that hold what is seen of the slices, each once. */
function blocksOf(pieces: readonly Piece[], blockSize: number): readonly Block[] {
  const blocks = new Map<string, Block>();
  for (const { id, size, off, len } of pieces) {
    if (id === 0 || len === 0) continue;
    for (let index = Math.floor(off / blockSize); index * blockSize < off + len; index++) {
      const length = Math.min(blockSize, size - index * blockSize);
      blocks.set(blockKey(id, index, length, false), { slice: { id, size }, index, length });
    }
  }
  return [...blocks.values()];
}

export async function fillCache(call: Call): Promise<Buffer> {
  const { host, payload } = call;
  const paths = payload.bytes(payload.u32()).toString().split('\n');
  const threads = Math.min(MAX_THREADS, Math.max(1, payload.u16()));
  const background = payload.u8() !== 0;
  const action = (payload.more ? payload.u8() : CacheAction.Warm) as CacheAction;
  if (action > CacheAction.Check) throw new FsError('EINVAL');
  const counting: Counting = { FileCount: 0, SliceCount: 0, TotalBytes: 0, MissBytes: 0, Locations: {} };
  if (background)
    host.inBackground((signal) => fill({ ...call, ctx: { ...call.ctx, signal } }, paths, threads, action, { ...counting }));
  else await fill(call, paths, threads, action, counting);
  return dataItem(counting);
}

async function fill(
  call: Call,
  paths: readonly string[],
  threads: number,
  action: CacheAction,
  counting: Counting,
): Promise<void> {
  const { host, ctx, progress } = call;
  const { chunks, logger } = host;
  const branches = new Branches(threads - 1, ctx.signal);
  const handle = async ({ slice, index, length }: Block): Promise<void> => {
    if (action === CacheAction.Evict) chunks.evict(slice, index);
    else if (action === CacheAction.Check) {
      const location = chunks.locate(slice, index);
      if (location === undefined) counting.MissBytes += length;
      else counting.Locations[location] = (counting.Locations[location] ?? 0) + length;
    } else if (!(await chunks.warm(slice, index, ctx.signal))) counting.MissBytes += length;
    counting.TotalBytes += length;
    progress.second += length;
  };
  const file = async (ino: Ino, { length }: Attr): Promise<void> => {
    for await (const { index, pieces } of chunksOf(call, ino, length)) {
      counting.SliceCount += new Set(pieces.map(({ id }) => id).filter((id) => id > 0)).size;
      await branches.each(blocksOf(pieces, chunks.blockSize), async (block) => {
        try {
          await handle(block);
        } catch (error) {
          ctx.signal.throwIfAborted();
          // Removed or merged since the list was read: what took its place is left to who reads it.
          host.meta.invalidateChunk(ino, index);
          counting.MissBytes += block.length;
          counting.TotalBytes += block.length;
          progress.second += block.length;
          logger.warn('a block could not be brought into the cache', { ino, chunk: index, error: messageOf(error) });
        }
      });
    }
    counting.FileCount++;
    progress.first++;
  };
  for (const path of paths) {
    if (path === '') continue;
    ctx.signal.throwIfAborted();
    let top: Entry;
    try {
      top = await resolve(call, path);
    } catch (error) {
      if (!(error instanceof FsError)) throw error;
      logger.warn('a path of a cache command is left out', { path, error: error.message });
      continue;
    }
    await eachFile(call, branches, top, file);
  }
}
