/**
 * What metadata says of slices, told to a census: those of files, those that wait to be deleted, those that compaction replaced.
 *
 * In this order, for a slice only ever moves from a file's list to one of the others: whatever clients do meanwhile, one that is
 * referred to from beginning to end is told of. (One that only a copy refers to in the end, made while the lists were read, may
 * be missed; whoever deletes looks twice, see gc.ts.)
 *
 * Lists of files that do not exist are told of, too: their slices are in nobody's way until somebody removes the lists.
 */
import type { Ino } from '../lib/int64.ts';
import type { MetaEngine } from '../meta/engine.ts';
import { decodeDelayed, decodeSlices } from '../meta/records.ts';
import { type Census, SliceUse } from './census.ts';

/** Chunk lists whose files are looked for at once. */
const LOOK_UP = 1000;

export interface SliceFigures {
  /** Records of chunk lists. */
  listed: number;
  /** Slices that compaction replaced, and their bytes. */
  replaced: number;
  replacedBytes: number;
  /** Slices without a reference. */
  pending: number;
}

interface ChunkList {
  readonly ino: Ino;
  readonly index: number;
  readonly records: Buffer;
}

/** Lists whose length is no multiple of a record are not looked into; `damaged` is told of them. */
export async function tellUsed(
  engine: MetaEngine,
  census: Census,
  options: {
    readonly figures: SliceFigures;
    readonly damaged: (ino: Ino, index: number) => void;
    /** Told of lists whose file does not exist. */
    readonly stray?: (lists: readonly ChunkList[]) => void;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  const { figures, damaged, stray, signal } = options;
  let batch: ChunkList[] = [];
  const lookUp = async (): Promise<void> => {
    const lists = batch;
    batch = [];
    if (!stray || lists.length === 0) return;
    const inos = [...new Set(lists.map(({ ino }) => ino))];
    const attrs = await engine.nodes(inos);
    const missing = new Set(inos.filter((_ino, at) => !attrs[at]));
    if (missing.size > 0) stray(lists.filter(({ ino }) => missing.has(ino)));
  };
  for await (const { ino, index, records } of engine.scanAllChunks()) {
    signal.throwIfAborted();
    if (records.length % 24 !== 0) {
      damaged(ino, index);
      continue;
    }
    for (const { id, size } of decodeSlices(records)) {
      if (id === 0 || size === 0) continue;
      figures.listed++;
      const full = census.add(id, size, SliceUse.Used);
      if (full) await full;
    }
    // The records themselves are of no more use.
    if (stray && batch.push({ ino, index, records: Buffer.alloc(0) }) >= LOOK_UP) await lookUp();
  }
  await lookUp();
}

export async function tellPending(engine: MetaEngine, census: Census, figures: SliceFigures, signal: AbortSignal): Promise<void> {
  for await (const batch of engine.allUnreferenced()) {
    signal.throwIfAborted();
    for (const { id, size } of batch) {
      figures.pending++;
      const full = census.add(id, size, SliceUse.Pending);
      if (full) await full;
    }
  }
}

export async function tellReplaced(
  engine: MetaEngine,
  census: Census,
  figures: SliceFigures,
  signal: AbortSignal,
): Promise<void> {
  for await (const batch of engine.allDelayed()) {
    signal.throwIfAborted();
    for (const { slices } of batch)
      for (const { id, size } of decodeDelayed(slices)) {
        figures.replaced++;
        figures.replacedBytes += size;
        const full = census.add(id, size, SliceUse.Replaced);
        if (full) await full;
      }
  }
}
