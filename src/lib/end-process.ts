/**
 * The end of a process, at once. An end in order waits for threads: for one of the pool whose call into a disk does not come back, as
 * long as that hangs; and for one of V8's compiler, which at times waits for the main thread in turn, and then both wait for ever
 * (nodejs/node#54918; once in some ten thousand ends on a machine with much to do). Neither shall hold up a pod, or a script.
 */
import { flushCompileCache } from 'node:module';
import { libc } from './libc.ts';

/** What is written only when a process ends in order. */
const PROFILES = /--(cpu|heap)-prof|--prof\b/;

/** Ends the process. Nothing that listens to its exit is called. Standard output and error have what was written to them, if those who read them keep up. */
export function endProcess(code: number): never {
  const profiled = PROFILES.test(`${process.execArgv.join(' ')} ${process.env['NODE_OPTIONS'] ?? ''}`);
  const { program } = (profiled || process.env['NODE_V8_COVERAGE'] ? undefined : libc()) ?? {};
  if (program) {
    flushCompileCache();
    (program.func('void _exit(int status)') as (status: number) => void)(code);
  }
  process.exit(code);
}

/** Ends the process when everything that was written to standard output and error is with whoever reads it; with the code that was set. */
export async function endCommand(): Promise<never> {
  for (const stream of [process.stdout, process.stderr])
    if (stream.writableLength > 0) await new Promise<void>((done) => stream.write('', () => done()));
  return endProcess(Number(process.exitCode ?? 0));
}
