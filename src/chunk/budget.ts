/**
 * How the one bound of memory for blocks (`--buffer-size`) is shared, so that each part can go on whatever the others do, and all
 * together stay below it:
 *
 *   written data <= writes     writers wait (ChunkStore.throttle), also where all that is busy reaches `gated`
 *   downloads    <= reads      or more, as long as all that is busy stays below `gated`
 *   writes + reads = gated;    gated + pending + staging <= the bound
 *
 * Clean blocks lie in what nobody needs, and are dropped when somebody does. A part is at least a block: with a bound of a few
 * blocks the sum may be exceeded by some.
 */
const MIB = 1024 * 1024;

export interface Shares {
  /** Busy bytes at which nobody begins anything new but what its own share allows. */
  readonly gated: number;
  /** Buffers of written data. */
  readonly writes: number;
  /** Downloads that need nobody's leave. */
  readonly reads: number;
  /** Blocks that wait to be written to the disk cache. */
  readonly pending: number;
  /** Staged blocks that are in memory for their upload. */
  readonly staging: number;
}

/** @param maxBytes the bound; @param staged whether blocks are uploaded from a staging folder. */
export function sharesOf(maxBytes: number, blockSize: number, staged: boolean): Shares {
  const pending = Math.min(64 * MIB, Math.max(blockSize, Math.floor(maxBytes / 8)));
  const staging = staged ? Math.max(blockSize, Math.floor(maxBytes / 4)) : 0;
  const gated = Math.max(Math.floor(maxBytes / 2), maxBytes - pending - staging);
  const reads = Math.min(64 * MIB, Math.floor(gated / 4));
  return { gated, writes: gated - reads, reads, pending, staging };
}
