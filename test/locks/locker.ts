/** A process of its own that takes locks as it is told (locker.py says how). */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { onPath } from '../tools.ts';

/** Why these tests cannot run, or false. */
export const noPython: string | false = onPath('python3') ? false : 'python3 is not installed';

export class Locker implements AsyncDisposable {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #answers: ((answer: string) => void)[] = [];

  constructor() {
    this.#child = spawn('python3', [join(import.meta.dirname, 'locker.py')]);
    this.#child.stderr.pipe(process.stderr);
    createInterface({ input: this.#child.stdout }).on('line', (line) => this.#answers.shift()?.(line));
    this.#child.on('exit', () => {
      for (const answer of this.#answers.splice(0)) answer('ended');
    });
  }

  /** Gives one command; answers what the process answers, or `ended` where it ends before that. */
  do(command: string): Promise<string> {
    const { promise, resolve } = Promise.withResolvers<string>();
    this.#answers.push(resolve);
    this.#child.stdin.write(`${command}\n`);
    return promise;
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  /** Ends it at once, as a crash would. */
  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await ended;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.kill();
  }
}

/** Whether it has not been answered after so many milliseconds. */
export async function pending(answer: Promise<string>, ms = 300): Promise<boolean> {
  const nothing = Symbol('nothing');
  const timer = Promise.withResolvers<typeof nothing>();
  const timeout = setTimeout(() => timer.resolve(nothing), ms);
  const first = await Promise.race([answer, timer.promise]);
  clearTimeout(timeout);
  return first === nothing;
}
