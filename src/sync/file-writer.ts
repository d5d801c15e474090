/**
 * Makes batches of small files, and fills large ones, in a thread of its own: on a busy disk it is making a file that waits, and
 * meanwhile others can be fetched. (By the thread pool, each call is a hand-over: measured, they cost as much again as the calls.)
 *
 * Bytes lie in buffers that go to the thread and come back. A few small files are made in the caller's thread: another would
 * cost more than it saves. Bound: what the callers have under way.
 */
import { Worker } from 'node:worker_threads';
import type { Part, Sink } from './content.ts';
import { fillFile, type FileToWrite, type FileWritten, writeFiles } from './write-files.ts';

export interface Batch {
  readonly data: ArrayBuffer;
  readonly files: readonly FileToWrite[];
}

/** Parts of a buffer, for a file that is open (descriptors are the process's). */
export interface Fill {
  readonly data: ArrayBuffer;
  readonly fd: number;
  readonly parts: readonly Part[];
}

export interface Answer {
  readonly data: ArrayBuffer;
  readonly written?: readonly FileWritten[];
  readonly failure?: { readonly message: string; readonly code: string | undefined };
}

interface Waiting {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Error) => void;
}

export class FileWriter implements AsyncDisposable {
  readonly #threaded: boolean;
  #worker: Worker | undefined;
  /** First come, first answered. */
  readonly #waiting: Waiting[] = [];
  #broken: Error | undefined;

  /** `threaded` false: in the caller's thread. */
  constructor(threaded: boolean) {
    this.#threaded = threaded;
  }

  /** Makes the files; answers the buffer, to be used again, and what became of each. Fails as `node:fs` does; then some may be there. */
  async write(batch: Batch): Promise<{ readonly data: ArrayBuffer; readonly written: readonly FileWritten[] }> {
    if (!this.#threaded) return { data: batch.data, written: writeFiles(new Uint8Array(batch.data), batch.files) };
    const { data, written } = await this.#ask(batch);
    return { data, written: written ?? [] };
  }

  /** Where a file's regions go. */
  sink(fd: number): Sink {
    return async (buffer, parts) => {
      if (buffer.length !== buffer.buffer.byteLength) {
        // A little piece of memory that others use, too.
        fillFile(fd, buffer, parts);
        return buffer;
      }
      const { data } = await this.#ask({ data: buffer.buffer as ArrayBuffer, fd, parts });
      return Buffer.from(data);
    };
  }

  async #ask(what: Batch | Fill): Promise<Answer> {
    if (this.#broken) throw this.#broken;
    const worker = (this.#worker ??= this.#start());
    const answer = await new Promise<Answer>((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      worker.postMessage(what, [what.data]);
    });
    if (answer.failure) throw Object.assign(new Error(answer.failure.message), { code: answer.failure.code });
    return answer;
  }

  #start(): Worker {
    const worker = new Worker(new URL('./write-files-thread.ts', import.meta.url));
    worker.on('message', (answer: Answer) => this.#waiting.shift()?.resolve(answer));
    const fail = (error: Error): void => {
      this.#broken = error;
      for (const { reject } of this.#waiting.splice(0)) reject(error);
    };
    worker.on('error', fail);
    worker.on('exit', () => fail(new Error('the thread that makes files has ended')));
    return worker;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker?.terminate();
  }
}
