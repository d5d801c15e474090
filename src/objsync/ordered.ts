/**
 * The entries of one directory in key order, whatever order they come in, without having all of them in memory: of a directory with
 * more than `window` entries the smallest are kept, given out, and the directory is read again for those behind.
 *
 * Bound: twice `window` entries. Cost: one reading for each `window` entries of the directory.
 */
import { byKey } from './side.ts';

const WINDOW = 50_000;

export async function* ordered<T extends { readonly key: string }>(
  read: () => AsyncIterable<T>,
  window: number = WINDOW,
): AsyncGenerator<readonly T[]> {
  let last: string | undefined;
  for (;;) {
    let kept: T[] = [];
    /** Nothing at or behind it is wanted in this reading. */
    let bound: string | undefined;
    for await (const entry of read()) {
      if ((last !== undefined && entry.key <= last) || (bound !== undefined && entry.key >= bound)) continue;
      kept.push(entry);
      if (kept.length < 2 * window) continue;
      kept.sort(byKey);
      bound = kept[window]!.key;
      kept = kept.slice(0, window);
    }
    kept.sort(byKey);
    const more = bound !== undefined;
    if (kept.length > 0) yield kept;
    if (!more) return;
    last = kept.at(-1)!.key;
  }
}
