/** The files at and below a node, several at once, in bounded memory. */
import { FsError } from '../../lib/errors.ts';
import type { Ino } from '../../lib/int64.ts';
import type { Branches } from '../../meta/branches.ts';
import { type Attr, CHUNK_SIZE, type DirEntry, NodeType, type Piece } from '../../meta/types.ts';
import type { Call } from './call.ts';

/** Lists of slices read at once. */
const CHUNKS_PER_READ = 64;

/** Works on every file; what is removed meanwhile, and what the caller may not list, is left out. */
export async function eachFile(
  call: Call,
  branches: Branches,
  top: { readonly ino: Ino; readonly attr: Attr },
  work: (ino: Ino, attr: Attr) => Promise<void>,
): Promise<void> {
  const { host, ctx } = call;
  const visit = async ({ ino, attr }: { readonly ino: Ino; readonly attr?: Attr | undefined }): Promise<void> => {
    if (attr?.type === NodeType.File) return work(ino, attr);
    if (attr?.type !== NodeType.Directory) return;
    try {
      for await (const batch of host.meta.readdir(ctx, ino, true)) {
        await branches.each(
          batch.filter(({ type }) => type !== NodeType.Directory),
          visit,
        );
        const directories: readonly DirEntry[] = batch.filter(({ type }) => type === NodeType.Directory);
        await branches.each(directories, visit);
      }
    } catch (error) {
      if (!(error instanceof FsError) || (error.code !== 'ENOENT' && error.code !== 'EACCES')) throw error;
      if (error.code === 'EACCES') host.logger.warn('a directory is left out: its caller may not list it', { ino });
    }
  };
  await visit(top);
}

/** The chunks of a file that have a list of slices. */
export async function* chunksOf(
  { host, ctx }: Pick<Call, 'host' | 'ctx'>,
  ino: Ino,
  length: number,
): AsyncIterable<{ readonly index: number; readonly pieces: readonly Piece[] }> {
  const count = Math.ceil(length / CHUNK_SIZE);
  for (let from = 0; from < count; from += CHUNKS_PER_READ) {
    ctx.signal.throwIfAborted();
    const chunks = Array.from({ length: Math.min(CHUNKS_PER_READ, count - from) }, (_, at) => ({ ino, index: from + at }));
    const lists = await host.meta.readChunks(chunks);
    for (const [at, pieces] of lists.entries()) if (pieces) yield { index: from + at, pieces };
  }
}
