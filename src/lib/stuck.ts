/**
 * Calls into the kernel that nobody waits for any more, because a disk does not answer. Each keeps a thread of the pool, and the C library
 * waits for these threads when a process ends in order: such a process would not end before the disk answers.
 */
import { libc } from './libc.ts';

let stuck = 0;

/** One call more was given up; the answer is to be called when it came back after all. */
export function gaveUp(): () => void {
  stuck++;
  return () => void stuck--;
}

/** Calls that were given up and have not come back. */
export const stuckCalls = (): number => stuck;

/** Ends the process at once where a call is stuck; else as usual, with what others want to do at the end. */
export function endProcess(code: number): never {
  const { program } = (stuck > 0 ? libc() : undefined) ?? {};
  // Standard output and error are written when `write` returns, on Linux.
  if (program) (program.func('void _exit(int status)') as (status: number) => void)(code);
  process.exit(code);
}
