/**
 * The objects of a volume beside its slices: which block of which slice an object is, and whether it is one at all.
 *
 * An object is *valid* where metadata names its slice and the slice has a block of that number and length. It is *leaked* where
 * that is not so, and *foreign* where its key is none that a client of the volume writes: such objects are left alone.
 * Source: the JuiceFS format, keys; gc and fsck of the official client 1.4.1.
 */
import { blockKey, type BlockGeometry, parseBlockName } from '../chunk/key.ts';
import type { ObjectInfo } from '../object/store.ts';
import { type Range, SliceUse } from './census.ts';

export const BLOCKS = 'chunks/';

/** A key as it names a block, or undefined for a foreign one. */
export interface BlockName {
  readonly id: number;
  readonly index: number;
  /** Plain bytes. */
  readonly length: number;
}

/** Which block a key names. Only the very key that a client would read counts. */
export function blockOf(key: string, hashPrefix: boolean): BlockName | undefined {
  const name = parseBlockName(key.slice(key.lastIndexOf('/') + 1));
  return name && blockKey(name.id, name.index, name.length, hashPrefix) === key ? name : undefined;
}

/** What an object is there for; None where its slice is not known, or has no such block. */
export function useOf(name: BlockName, range: Range, slot: number, geometry: BlockGeometry): SliceUse {
  const size = range.sizes[slot] ?? 0;
  const use = (range.uses[slot] ?? SliceUse.None) as SliceUse;
  if (use === SliceUse.None || name.index >= geometry.count(size)) return SliceUse.None;
  return name.length === geometry.length(size, name.index) ? use : SliceUse.None;
}

/**
 * Whether an object has the size that its block has when it is stored: the same where blocks are stored as they are; at least
 * one byte, or what encryption adds, where they are compressed or encrypted.
 */
export function sizeFits(info: Pick<ObjectInfo, 'size'>, length: number, stored: StoredAs): boolean {
  if (stored.compressed) return info.size > stored.minOverhead;
  if (stored.minOverhead > 0) return info.size > length;
  return info.size === length;
}

export interface StoredAs {
  readonly compressed: boolean;
  /** What encryption adds at least, bytes; 0 for a volume that is not encrypted. */
  readonly minOverhead: number;
}

/** How the blocks of a volume are stored. */
export function storedAs(format: { readonly compression: string; readonly encryptKey: string }): StoredAs {
  return {
    compressed: format.compression !== '' && format.compression !== 'none',
    // The smallest envelope: a nonce of 12 bytes, a tag of 16, and 3 that tell of lengths, without the wrapped key.
    minOverhead: format.encryptKey === '' ? 0 : 31,
  };
}
