/**
 * Write-back at the end of a mount. On one machine what is staged stays in the cache directory, and the next mount over it uploads
 * it. In a pod the cache directory dies with the pod: a client that is told to end uploads what it can in the time it has, and
 * says what is left.
 */
import type { ChunkStore } from '../chunk/types.ts';
import type { Clock } from '../lib/clock.ts';
import type { Logger } from '../lib/log.ts';

export interface WritebackOptions {
  /** Bytes staged at most; more is uploaded directly. @default the size of the disk cache */
  readonly maxBytes?: number;
  /** How long a block stays before it is uploaded, milliseconds. */
  readonly delayMs: number;
  /** How long a client that ends uploads, milliseconds. Absent: what is staged is left to the next mount over the directory. */
  readonly drainMs?: number;
}

/** Time between two lines of progress, milliseconds. A client that is killed has said so what is left. */
const PROGRESS_MS = 5000;

/** Uploads what is staged. True where nothing is left after `drainMs`. Without write-back, or without a drain time, at once. */
export async function drainStaged(
  chunks: ChunkStore,
  writeback: WritebackOptions | undefined,
  { clock, logger, volume }: { readonly clock: Clock; readonly logger: Logger; readonly volume: string },
): Promise<boolean> {
  const drainMs = writeback?.drainMs;
  if (drainMs === undefined) return true;
  const late = new AbortController();
  const cancel = clock.timer(drainMs, () => late.abort());
  let cancelProgress = (): void => {};
  const progress = (): void => {
    cancelProgress = clock.timer(PROGRESS_MS, () => {
      const { staging_blocks: blocks, staging_block_bytes: bytes } = chunks.stats();
      logger.info('uploading what is staged', { volume, blocks, bytes });
      progress();
    });
  };
  progress();
  const left = await chunks.drain(late.signal);
  cancel();
  cancelProgress();
  if (left.blocks === 0) return true;
  logger.error(
    'blocks are staged and not uploaded: the next client over the cache directory uploads them; where there is none, as when a pod ends, they are lost',
    { volume, ...left, waitedMs: drainMs },
  );
  return false;
}
