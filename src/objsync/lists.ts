/** Small things about lists of entries. */
import type { Filters } from './options.ts';
import type { Entry } from './side.ts';

/** Whether an entry is to be looked at at all. */
export function isWanted(entry: Entry, { rules, minSize, maxSize, modifiedAfter, modifiedBefore }: Filters): boolean {
  if (!entry.isDirectory && !entry.isLink) {
    if (entry.size < minSize || entry.size > maxSize) return false;
    if (entry.mtimeMs <= modifiedAfter || entry.mtimeMs >= modifiedBefore) return false;
  }
  return rules.includes(entry.key);
}

export async function* oneByOne<T>(list: Iterable<T>): AsyncGenerator<T> {
  yield* list;
}

export const nothing: AsyncIterable<Entry> = { async *[Symbol.asyncIterator]() {} };

export const listOf = (entry: Entry | undefined): AsyncIterable<Entry> => (entry ? oneByOne([entry]) : nothing);

/** A list without one key. */
export function without(key: string | undefined, list: AsyncIterable<Entry>): AsyncIterable<Entry> {
  if (key === undefined) return list;
  return {
    async *[Symbol.asyncIterator]() {
      for await (const entry of list) if (entry.key !== key) yield entry;
    },
  };
}
