/**
 * Gives back memory that a process holds and does not use, as one does that waits.
 *
 * - V8's heap: collected to the end, its young generation made small again. Nothing else brings that back while nothing is
 *   allocated: some 20 MiB after the start of a client.
 * - What lies free in glibc's heaps.
 * - Pages of programs and libraries (Node's own are a third of what is resident after a start): only our view of them goes, the
 *   kernel keeps them and shows them again when they are touched. Never pages with anything of our own in them, such as what the
 *   linker has written into a library: those would be lost.
 */
import { readFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { program } from './libc.ts';

/** A heap with more in use than this is left to V8, bytes: to collect it would take longer than a request should wait. */
const MOST_HEAP = 64 * 1024 * 1024;
const MADV_DONTNEED = 4;

/** Addresses, in bytes. */
export interface Mapping {
  readonly start: bigint;
  readonly length: number;
}

/** Mappings of files that cannot be written to and hold nothing but what is in the file. `smaps` as in proc_pid_smaps(5). */
export function unchangedFilePages(smaps: string): readonly Mapping[] {
  const found: Mapping[] = [];
  let mapping: Mapping | undefined;
  for (const line of smaps.split('\n')) {
    const [, start, end, writable, inode] = /^([0-9a-f]+)-([0-9a-f]+) .(.).. \S+ \S+ (\d+)/.exec(line) ?? [];
    if (start !== undefined && end !== undefined) {
      const from = BigInt(`0x${start}`);
      mapping = writable === '-' && inode !== '0' ? { start: from, length: Number(BigInt(`0x${end}`) - from) } : undefined;
    } else if (mapping && line.startsWith('Anonymous:')) {
      if (/^Anonymous: +0 kB$/.test(line)) found.push(mapping);
      mapping = undefined;
    }
  }
  return found;
}

/** Buffers from this size on are mapped each by itself, bytes. */
const MAPPED = 1024 * 1024;
const M_MMAP_THRESHOLD = -3;

interface Calls {
  readonly mallopt: (parameter: number, value: number) => number;
  readonly mallocTrim: (pad: number) => number;
  readonly madvise: (address: bigint, length: number, advice: number) => number;
}

let calls: Calls | undefined | 'none';

/** `none` where libc is not glibc. */
function callsOfLibc(): Calls | 'none' {
  try {
    return {
      mallopt: program.func('int mallopt(int parameter, int value)') as Calls['mallopt'],
      mallocTrim: program.func('int malloc_trim(size_t pad)') as Calls['mallocTrim'],
      madvise: program.func('int madvise(uintptr_t address, size_t length, int advice)') as Calls['madvise'],
    };
  } catch {
    return 'none';
  }
}

/** Nothing where the kernel does not tell. */
function ownMappings(): string {
  try {
    return readFileSync('/proc/self/smaps', 'latin1');
  } catch {
    return '';
  }
}

type Collect = (how: { readonly type: 'major'; readonly flavor: 'last-resort' }) => void;

/**
 * What is large shall go back to the system when it is freed. glibc would see the first free one and put the next ones into a heap, where
 * a small thing behind them keeps them all.
 */
export function mapLargeBuffers(): void {
  calls ??= callsOfLibc();
  if (calls !== 'none') calls.mallopt(M_MMAP_THRESHOLD, MAPPED);
}

/** Stops the process for some 0.1 s. */
export function giveBackMemory(): void {
  calls ??= callsOfLibc();
  // First, for what it leaves behind itself.
  const pages = calls === 'none' ? [] : unchangedFilePages(ownMappings());
  if (process.memoryUsage().heapUsed <= MOST_HEAP) {
    setFlagsFromString('--expose-gc');
    (runInNewContext('gc') as Collect)({ type: 'major', flavor: 'last-resort' });
  }
  if (calls === 'none') return;
  calls.mallocTrim(0);
  for (const { start, length } of pages) calls.madvise(start, length, MADV_DONTNEED);
}
