/** Compaction in the background: merges the slices of a chunk that has collected many. One run per chunk, few at a time. */
import type { ChunkStore } from '../chunk/types.ts';
import { type Logger, nullLogger } from '../lib/log.ts';
import { type Ino, formatIno } from '../lib/int64.ts';
import { exponential, Histogram } from '../lib/metrics.ts';
import type { CompactionPlan, Meta } from '../meta/types.ts';

/** Chunks compacted at once; more wait, up to the bound of the queue, beyond which they are left for the next reader. */
const PARALLEL = 2;
const MAX_QUEUE = 1000;
/** Bytes read at a time while merging. */
const STEP = 4 * 1024 * 1024;

export class Compactor {
  readonly #meta: Meta;
  readonly #chunks: ChunkStore;
  readonly #log: Logger;
  readonly #queue = new Map<string, { readonly ino: Ino; readonly index: number; readonly over: PromiseWithResolvers<void> }>();
  readonly #running = new Map<string, Promise<void>>();
  /** Bytes of the slices that were made of several. */
  readonly sizes = new Histogram(exponential(1024, 2, 16));
  #closed = false;

  constructor(meta: Meta, chunks: ChunkStore, log: Logger = nullLogger) {
    this.#meta = meta;
    this.#chunks = chunks;
    this.#log = log;
  }

  /** Puts a chunk into the queue, unless that is full; the promise resolves when the chunk's turn is over, however it ended. */
  add(ino: Ino, index: number): Promise<void> {
    const key = `${formatIno(ino)}_${index}`;
    const known = this.#running.get(key) ?? this.#queue.get(key)?.over.promise;
    if (known) return known;
    if (this.#closed || this.#queue.size >= MAX_QUEUE) return Promise.resolve();
    const over = Promise.withResolvers<void>();
    this.#queue.set(key, { ino, index, over });
    this.#pump();
    return over.promise;
  }

  /** Lets the runs under way end and starts no more. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const { over } of this.#queue.values()) over.resolve();
    this.#queue.clear();
    await Promise.allSettled(this.#running.values());
  }

  #pump(): void {
    for (const [key, { ino, index, over }] of this.#queue) {
      if (this.#running.size >= PARALLEL) return;
      this.#queue.delete(key);
      const run = compactChunk(this.#meta, this.#chunks, ino, index, { worth: true, sizes: this.sizes })
        .then(() => {})
        .catch((error: unknown) =>
          this.#log.warn('a chunk could not be compacted', { inode: formatIno(ino), chunk: index, error }),
        )
        .finally(() => {
          this.#running.delete(key);
          over.resolve();
          this.#pump();
        });
      this.#running.set(key, run);
    }
  }
}

/** What compaction needs of the metadata. */
export type Compactable = Pick<Meta, 'planCompaction' | 'newSliceId' | 'commitCompaction'>;

/**
 * Compacts one chunk once; with `worth` only if it is worth what it costs. False where nothing was to be gained or another client
 * changed the chunk meanwhile.
 */
export async function compactChunk(
  meta: Compactable,
  chunks: ChunkStore,
  ino: Ino,
  index: number,
  { worth = false, sizes }: { readonly worth?: boolean; readonly sizes?: Histogram } = {},
): Promise<boolean> {
  const plan = await meta.planCompaction(ino, index, worth);
  if (!plan) return false;
  const slice = { id: await meta.newSliceId(), size: plan.size };
  await merge(plan, chunks, slice.id);
  sizes?.observe(plan.size);
  if (await meta.commitCompaction(plan, slice)) return true;
  await chunks.remove(slice);
  return false;
}

async function merge(plan: CompactionPlan, chunks: ChunkStore, id: number): Promise<void> {
  // Other clients will read it in place of what they can read now.
  const writer = chunks.newSlice({ direct: true });
  try {
    writer.setId(id);
    const buffer = Buffer.allocUnsafe(Math.min(STEP, plan.size));
    let end = 0;
    for (const piece of plan.pieces) {
      for (let done = 0; done < piece.len;) {
        const part = buffer.subarray(0, Math.min(buffer.length, piece.len - done));
        if (piece.id === 0) part.fill(0);
        else if (!chunks.readCached(piece, piece.off + done, part)) await chunks.read(piece, piece.off + done, part);
        writer.write(part, end);
        writer.flushFull();
        await chunks.throttle();
        done += part.length;
        end += part.length;
      }
    }
    await writer.finish();
  } catch (error) {
    writer.abort();
    throw error;
  }
}
