/** `compact` (1008): merges the slices of every chunk in a tree. Progress: chunks found, chunks done. Source: JuiceFS format, control protocol. */
import { FsError } from '../../lib/errors.ts';
import type { Ino } from '../../lib/int64.ts';
import { Branches } from '../../meta/branches.ts';
import { SYSTEM } from '../../meta/types.ts';
import { compactChunk } from '../compactor.ts';
import { type Call, inside, requireWritable } from './call.ts';
import { errnoItem } from './protocol.ts';
import { chunksOf, eachFile } from './walk.ts';

const MAX_THREADS = 64;
/** A list of 1000 slices is merged at once; a longer one takes several rounds. */
const ROUNDS = 100;

export async function compactTree(call: Call): Promise<Buffer> {
  const { host, ctx, payload, progress } = call;
  requireWritable(call);
  const ino = await inside(call, payload.ino());
  const threads = Math.min(MAX_THREADS, Math.max(1, payload.u16()));
  const attr = await host.meta.getattr(SYSTEM, ino);
  const branches = new Branches(threads - 1, ctx.signal);
  const compact = async (file: Ino, index: number): Promise<void> => {
    for (let round = 0; round < ROUNDS; round++) {
      ctx.signal.throwIfAborted();
      if (!(await compactChunk(host.meta, host.chunks, file, index))) return;
    }
  };
  await eachFile(call, branches, { ino, attr }, async (file, { length }) => {
    const batch: number[] = [];
    const work = async (): Promise<void> => {
      progress.first += batch.length;
      await branches.each(batch.splice(0), async (index) => {
        try {
          await compact(file, index);
        } catch (error) {
          // The file is gone.
          if (!(error instanceof FsError && error.code === 'ENOENT')) throw error;
        }
        progress.second++;
      });
    };
    for await (const { index } of chunksOf(call, file, length)) if (batch.push(index) >= threads) await work();
    await work();
  });
  return errnoItem(0);
}
