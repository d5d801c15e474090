/**
 * Lists a directory with names that streaming-fill.ts made, as `ls` would, in little memory of its own, and counts which came:
 *
 *   node bench/streaming-list.ts FOLDER NAMES
 *
 * Prints JSON: when the first names came (milliseconds), how long all took, and what was missing, twice, or of another kind.
 */
import { opendirSync } from 'node:fs';
import { PREFIX } from './streaming-fill.ts';

/** Entries in one call, fewer than the kernel gives at once (32 KiB). */
const AT_ONCE = 128;
/** Numbers of missing names that are told. */
const MOST_TOLD = 5000;

export interface Listing {
  readonly firstMs: number;
  readonly seconds: number;
  readonly names: number;
  readonly twice: number;
  readonly others: number;
  readonly missingCount: number;
  /** The first of them, by number. */
  readonly missing: readonly number[];
}

function list(folder: string, count: number): Listing {
  const seen = new Uint8Array(count);
  let [names, twice, others] = [0, 0, 0];
  const begin = performance.now();
  const directory = opendirSync(folder, { bufferSize: AT_ONCE });
  let firstMs = 0;
  for (let entry = directory.readSync(); entry; entry = directory.readSync()) {
    firstMs ||= performance.now() - begin;
    const { name } = entry;
    const number = name.startsWith(PREFIX) ? Number(name.slice(PREFIX.length)) : -1;
    if (!(number >= 0 && number < count)) others++;
    else if (seen[number] === 1) twice++;
    else {
      seen[number] = 1;
      names++;
    }
  }
  directory.closeSync();
  const seconds = (performance.now() - begin) / 1000;
  const missing: number[] = [];
  let missingCount = 0;
  for (const [number, times] of seen.entries()) if (times === 0 && missingCount++ < MOST_TOLD) missing.push(number);
  return { firstMs, seconds, names, twice, others, missingCount, missing };
}

if (import.meta.main) {
  const [folder = '', count = ''] = process.argv.slice(2);
  process.stdout.write(`${JSON.stringify(list(folder, Number(count)))}\n`);
}
